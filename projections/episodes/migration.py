"""Filling the lists of episodes of a namespace that was made before appends kept them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from attrs import evolve

from duramen.events import CorruptEvent, Granularity, Limits, Trimmed
from duramen.events.codec import Codec, RawEvent
from duramen.events.feed import FeedReader
from duramen.events.log import LIVE, EventLog
from duramen.events.logging import get_logger
from duramen.events.model import EPISODE_RECORDED, START, Mark

from .episode import Episode, episode_id
from .record import EpisodeRecord, episode_put, unpack_record

OLD_VIEW: Final = "~episodes"
"""The durable view in which older code kept episodes of trimmed events, among those of the consumers."""

_AT_ONCE: Final = 1_000
_TRIES: Final = 5


def fill_lists(log: EventLog, limits: Limits) -> None:
    """Add every episode of the log that the lists lack, unless they are complete already.

    Several processes may do so at once: an episode that is listed twice counts once. The episodes of an agent whose
    log is damaged are left out until it can be read again. Raises what reading raises.
    """
    archive = log.archive
    if archive.has_all_episodes():
        return
    if _retry_fill(log, limits):
        archive.mark_all_episodes()
        log.consumer_store().remove(OLD_VIEW)  # its cursor would keep the feeds from being trimmed


def _retry_fill(log: EventLog, limits: Limits) -> bool:
    for _ in range(_TRIES - 1):
        with suppress(Trimmed):  # by older code, which has kept the episodes in its view since
            return _fill(log, limits)
    return _fill(log, limits)


def _fill(log: EventLog, limits: Limits) -> bool:
    """Add what the lists lack; False if episodes of damaged agents are left out."""
    codec = Codec(limits)
    record = log.consumer_store().find(OLD_VIEW).live
    marks: dict[int, Mark] = {}
    found: dict[str, EpisodeRecord] = {}
    if record is not None and record.cursor.log == log.identity:
        marks = dict(record.cursor.marks)  # read first: what is kept meanwhile comes twice
        for _, stored in log.consumer_store().entries(OLD_VIEW, LIVE):
            episode = Episode(**codec.unpack(stored))
            found[episode.id] = EpisodeRecord(episode.agent, episode.last_seq - 1, episode)
    damaged: set[str] = set()
    for partition in range(log.partitions):
        for one in _recorded(log, codec, partition, marks.get(partition, START), damaged):
            found[one.episode.id] = one
    listed = _listed_ids(log, codec)
    missing = defaultdict[str, list[EpisodeRecord]](list)
    for id_, one in found.items():
        if id_ not in listed:
            missing[log.episodes_key(one.agent)].append(one)
    for records in missing.values():
        log.archive.put([episode_put(log, one.agent, one.seq, one.episode.as_data(), codec) for one in records])
    return not damaged


def _recorded(log: EventLog, codec: Codec, partition: int, mark: Mark, damaged: set[str]) -> list[EpisodeRecord]:
    """The episodes in the events of a partition, without those of damaged agents, which are added to `damaged`."""
    while True:
        reader = FeedReader(
            log, codec, partition, mark, level=Granularity.LIFECYCLE, wants=lambda agent: agent not in damaged
        )
        try:
            return list(_read_records(reader))
        except CorruptEvent as error:
            if error.agent is None or error.agent in damaged:
                raise
            get_logger("episodes").warning("episodes_unreadable", agent=error.agent, seq=error.seq)
            damaged.add(error.agent)


def _read_records(reader: FeedReader) -> Iterator[EpisodeRecord]:
    while events := reader.read(_AT_ONCE):
        yield from (_record_of(e.agent, e.seq, e.raw) for e in events if e.raw[0] == EPISODE_RECORDED)


def _record_of(agent: str, seq: int, raw: RawEvent) -> EpisodeRecord:
    """The episode of an event; a copy of a session that older code imported gets an id and a path of its own."""
    try:
        episode = Episode(**raw[4]["episode"])
    except (KeyError, TypeError):
        raise CorruptEvent(
            f"event {seq} of {agent} records an episode of another form; update duramen", agent=agent, seq=seq
        ) from None
    if episode.agent != agent:
        project, instance = agent.split("/", 1)
        own = episode_id(agent, episode.first_seq, episode.session_id)
        episode = evolve(episode, id=own, project_id=project, agent_instance_id=instance)
    return EpisodeRecord(agent, seq, episode)


def _listed_ids(log: EventLog, codec: Codec) -> set[str]:
    found: set[str] = set()
    counts = [0] * log.partitions
    while any(pages := log.archive.episodes(counts)[0]):
        for partition, page in enumerate(pages):
            counts[partition] += len(page)
            for stored in page:
                with suppress(CorruptEvent):
                    record = unpack_record(stored, codec, log.chain)
                    if record is not None:
                        found.add(record.episode.id)
    return found
