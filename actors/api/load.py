"""How much a system has to do in this process: counts for metrics."""

from __future__ import annotations

from attrs import frozen

from ..dispatch import ActorRegistry, Journal


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


def measure_load(actors: ActorRegistry, journal: Journal) -> SystemLoad:
    """Count. Looks at every mailbox; callable from any thread."""
    waiting = longest = 0
    for page in actors.pages():
        for mailbox in page:
            depth = len(mailbox.waiting)
            waiting += depth
            longest = max(longest, depth)
    return SystemLoad(
        agents_in_memory=len(actors),
        messages_waiting=waiting,
        longest_mailbox=longest,
        appends_in_flight=journal.in_flight,
        appends_total=journal.appends_sent,
        append_batches_total=journal.batches_sent,
        append_failures_total=journal.appends_failed,
    )
