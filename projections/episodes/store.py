"""Episodes kept apart from the logs of their agents, so that they outlast these.

As long as nothing is trimmed, every episode is in a log, and nothing is kept here. Before an agent is trimmed, the
episodes of its partition are brought into a durable view; readers begin with that, and go on with the feed behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from uuid import uuid4

from attrs import evolve

from duramen.events import Cursor, EventRegistry, Fenced, Granularity, Limits, Trimmed, VersionConflict
from duramen.events.codec import Codec, build_valid_event
from duramen.events.feed import FeedReader
from duramen.events.log import LIVE, ConsumerRecord, EventLog
from duramen.events.model import EPISODE_RECORDED, START, Mark

from .episode import Episode, EpisodeView, parse_episode

__all__ = ["EPISODES", "EpisodeWriter", "read_episodes", "stored_episodes"]

EPISODES: Final = "~episodes"
"""The name of the view, among those of the consumers. No user can attach or remove one of such a name."""

_SCOPE: Final = f"** {int(Granularity.LIFECYCLE)} {EPISODE_RECORDED}"
_TRIES: Final = 5
_AT_ONCE: Final = 1_000


def stored_episodes(log: EventLog, codec: Codec) -> tuple[Iterator[Episode], dict[int, Mark]]:
    """The episodes that are kept, and from where on the feed of each partition has those that are not."""
    record = log.consumer_store().find(EPISODES).live
    if record is None or record.cursor.log != log.identity:
        return iter(()), {}
    load = EpisodeView().load
    # The cursor was read first: what is kept meanwhile comes twice, and not never.
    entries = log.consumer_store().entries(EPISODES, LIVE)
    return (load(codec.unpack(stored)) for _, stored in entries), dict(record.cursor.marks)


def read_episodes(reader: FeedReader, registry: EventRegistry) -> list[Episode] | None:
    """The episodes among the next events; None at the end of the feed. Raises what `FeedReader.read` raises."""
    facts = reader.read(_AT_ONCE)
    if not facts:
        return None
    events = (
        build_valid_event(f.agent, f.seq, f.raw, f.digest, registry) for f in facts if f.raw[0] == EPISODE_RECORDED
    )
    return [episode for episode in map(parse_episode, events) if episode is not None]


class EpisodeWriter:
    """Brings what was recorded into the durable view. Thread-safe; any number of processes may do it at once."""

    def __init__(self, log: EventLog, registry: EventRegistry, limits: Limits) -> None:
        self._log = log
        self._registry = registry
        self._limits = limits
        self._owner = uuid4().hex

    def keep(self, partition: int) -> None:
        """Return when every episode that a partition had at the call is kept.

        Raises what reading raises, and Fenced or VersionConflict where other processes came between again and again.
        """
        for _ in range(_TRIES - 1):
            try:
                return self._keep(partition)
            except (Fenced, VersionConflict, Trimmed):
                continue  # trimmed: then another process has kept them since, and may trim
        return self._keep(partition)

    def _keep(self, partition: int) -> None:
        end = self._log.positions()[partition]
        if self._kept_up_to(partition) >= end:
            return
        record = self._claim()
        codec = Codec(self._limits)
        mark = record.cursor.marks.get(partition, START)
        reader = FeedReader(self._log, codec, partition, mark, level=Granularity.LIFECYCLE)
        while reader.mark.position < end:
            episodes = read_episodes(reader, self._registry)
            marks = {**record.cursor.marks, partition: reader.mark}
            record = evolve(
                record, cursor=Cursor(self._log.identity, marks), applied=record.applied + len(episodes or ())
            )
            changes: dict[str, bytes | None] = {one.id: codec.pack(one.as_data()) for one in episodes or ()}
            saved = self._log.consumer_store().save(record, changes=changes)
            if not saved.current:
                raise VersionConflict("another process keeps episodes at the same time; try again")
            record = evolve(record, revision=saved.revision)
            if episodes is None:
                return

    def _kept_up_to(self, partition: int) -> int:
        record = self._log.consumer_store().find(EPISODES).live
        if record is None or record.cursor.log != self._log.identity:
            return -1
        return record.cursor.marks.get(partition, START).position

    def _claim(self) -> ConsumerRecord:
        identity = self._log.identity
        fresh = ConsumerRecord(
            name=EPISODES,
            slot=LIVE,
            kind="keyed",
            version=EpisodeView.version,
            scope=_SCOPE,
            cursor=Cursor(identity),
        )
        record = self._log.consumer_store().claim(fresh, self._owner)
        if record is None:
            raise VersionConflict(f"the view {EPISODES} was made by another version of duramen; update this one")
        return record if record.cursor.log == identity else evolve(record, cursor=Cursor(identity))
