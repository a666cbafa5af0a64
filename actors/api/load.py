"""How much a system has to do in this process, and has done: counts for metrics."""

from __future__ import annotations

from attrs import frozen

from duramen.events.measures import Distribution

from ..dispatch import Journal
from ..handlers import Services


@frozen(kw_only=True)
class SystemLoad:
    """Counts of one system, at about one moment. The totals begin when the system is opened."""

    agents_in_memory: int
    """Agents in memory here, with those that are being brought into it."""
    messages_waiting: int
    """Messages in all mailboxes that are not handled yet."""
    longest_mailbox: int
    appends_in_flight: int
    """Batches sent to the log and not answered yet."""
    appends_total: int
    """Appends sent to the log: one for each agent and turn that has something to write."""
    append_batches_total: int
    append_failures_total: int
    """Appends of batches that the log could not take or did not answer in time."""
    recoveries_total: int
    """Agents that came into memory from their logs."""
    fences_total: int
    """Turns that were refused because another host had taken the agent over."""
    work_parked_total: int
    """Pieces of work that were parked here."""
    forwards_total: int
    """Messages sent to other hosts, those too that were sent again."""
    forwards_taken_total: int
    """Messages of other hosts that were taken here."""
    forwards_waiting: int
    """Messages to other hosts that are not answered yet."""
    frames_refused_total: int
    """Messages on this host's channel that were no frames of other hosts, or came again, or too early."""
    late_beats_total: int
    """Beats of this host that came more than 5 seconds after the one before."""
    append_batch_size: Distribution
    """Appends in a batch."""
    commit_seconds: Distribution
    """From sending a batch of appends to the log's answer."""


def measure_load(services: Services, journal: Journal) -> SystemLoad:
    """Count. Looks at every mailbox; callable from any thread."""
    actors, router, membership = services.actors, services.hosting.router, services.hosting.membership
    waiting = longest = 0
    for page in actors.pages():
        for mailbox in page:
            depth = len(mailbox.waiting)
            waiting += depth
            longest = max(longest, depth)
    sizes = journal.batch_sizes.read()
    return SystemLoad(
        agents_in_memory=len(actors),
        messages_waiting=waiting,
        longest_mailbox=longest,
        appends_in_flight=journal.in_flight,
        appends_total=int(sizes.total),
        append_batches_total=sum(sizes.counts),
        append_failures_total=journal.appends_failed,
        recoveries_total=services.counts.recoveries,
        fences_total=services.counts.fences,
        work_parked_total=services.counts.parked,
        forwards_total=router.sent,
        forwards_taken_total=router.taken,
        forwards_waiting=router.waiting,
        frames_refused_total=router.frames_refused(),
        late_beats_total=membership.late_beats,
        append_batch_size=sizes,
        commit_seconds=journal.commit_seconds.read(),
    )
