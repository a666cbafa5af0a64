"""Consistent cuts of a tree: the seq of each agent at one moment, in the order in which the partition committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from attrs import frozen

from duramen.events import InvalidMessage, Trimmed
from duramen.events.codec import to_microseconds
from duramen.events.log import EventLog, FeedEntry

from ..recovery import AgentLog, last_before, within

_PAGE: Final = 5_000


@frozen(eq=False, repr=False)
class _Feed:
    """The part of a partition's feed that is not trimmed."""

    log: EventLog
    partition: int
    base: int
    end: int

    def of_tree(self, root: str, start: int, end: int) -> Iterator[tuple[int, FeedEntry]]:
        """Positions and appends of a tree's agents, after `start` and up to `end`."""
        for before in range(start, end, _PAGE):
            page = self.log.feed_page(self.partition, before, min(_PAGE, end - before)).entries
            for position, entry in enumerate(page, before + 1):
                if _is_of(entry.agent, root):
                    yield position, entry


def cut_now(root: AgentLog, agents: Sequence[str]) -> dict[str, int]:
    """The seq of these agents of a tree, all of one moment. Raises AgentNotFound where the root is not among them."""
    root.head()
    heads = root.log.archive.heads(agents)
    return {agent: head.seq for agent, head in zip(agents, heads, strict=True) if head is not None}


def cut_at_seq(root: AgentLog, seq: int) -> dict[str, int]:
    """The seq of every agent of a tree when its root was at `seq`: what was committed before that append, no more.

    Agents that were not there yet are left out. Reads the partition's feed. Raises AgentNotFound, InvalidMessage (no
    such seq), Trimmed (the log, or the feed there).
    """
    seq = within(root.agent, root.head(), seq)
    if seq == 0:
        return {}
    feed = _feed_of(root.log, root.agent)
    for position, entry in feed.of_tree(root.agent, feed.base, feed.end):
        if entry.agent == root.agent and seq < entry.first_seq + entry.count:
            if seq < entry.first_seq:
                break
            return {**_seqs_at(feed, root.agent, position - 1), root.agent: seq}
    raise _trimmed(root.agent, feed)


def cut_at_time(root: AgentLog, time: datetime) -> dict[str, int]:
    """The seq of every agent of a tree after the last append at `time` or before, as `seq_of_time` has it."""
    if time.utcoffset() is None:
        raise InvalidMessage("a time needs a time zone, for example datetime.now(UTC)", agent=root.agent)
    root.head()
    feed, wanted = _feed_of(root.log, root.agent), to_microseconds(time)

    def is_before(position: int) -> bool:
        entry = root.log.feed_page(feed.partition, position - 1, 1).entries[0]
        return int(root.of(entry.agent).raw_event(entry.first_seq + entry.count - 1)[3]) <= wanted

    end = last_before(feed.base, feed.end, is_before)
    if end == feed.base > 0:
        raise _trimmed(root.agent, feed)
    return _seqs_at(feed, root.agent, end)


def _seqs_at(feed: _Feed, root: str, end: int) -> dict[str, int]:
    """The seqs of the agents of a tree after the first `end` appends of the partition."""
    seqs: dict[str, int] = {}
    # A trimmed feed has no append of some agents before `end`: their next append shows where they were.
    last = feed.end if feed.base else end
    for position, entry in feed.of_tree(root, feed.base, last):
        if position <= end:
            seqs[entry.agent] = entry.first_seq + entry.count - 1
        else:
            seqs.setdefault(entry.agent, entry.first_seq - 1)
    if feed.base:
        for known in feed.log.directory():
            if _is_of(known.agent, root):
                seqs.setdefault(known.agent, known.head.seq)
    return {agent: seq for agent, seq in seqs.items() if seq > 0}


def _is_of(agent: str, root: str) -> bool:
    return agent == root or agent.startswith(f"{root}/")


def _feed_of(log: EventLog, root: str) -> _Feed:
    partition = log.partition_of(root)
    end = log.positions()[partition]
    try:
        log.feed_page(partition, 0, 1)
    except Trimmed as error:
        return _Feed(log, partition, int(error.actual), end)
    return _Feed(log, partition, 0, end)


def _trimmed(root: str, feed: _Feed) -> Trimmed:
    return Trimmed(
        f"the feed that {root} is in was trimmed up to {feed.base}: the seqs of its tree at that moment are not known",
        agent=root,
        actual=feed.base + 1,
    )
