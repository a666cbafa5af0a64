"""Stored items as events: what every reader of the log goes through."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, cast

from .codec import DIGEST_SIZE, NO_DIGEST, Codec, RawEvent, chain, instant, microseconds
from .errors import AgentNotFound, CorruptEvent
from .log import EventLog
from .model import Event, Granularity
from .registry import EventRegistry

__all__ = ["event_of", "raw_events", "read_events"]


def event_of(agent: str, seq: int, raw: RawEvent, digest: bytes, registry: EventRegistry) -> Event:
    """An `Event` from raw fields, its data brought to today's version.

    Raises UnknownEventType when an upcaster is missing or fails, CorruptEvent when a field is not what it should be.
    """
    if not _well_formed(raw):
        raise _misshapen(agent, seq)
    kind, version, level, time, data, session_id, command, causation_id, correlation_id, metadata = raw
    return Event(
        agent,
        seq,
        instant(time),
        kind,
        registry.version_of(kind) if registry.knows(kind) else version,
        registry.upcast(kind, version, data),
        session_id,
        None if command is None else command[0],
        causation_id,
        correlation_id,
        Granularity(level),
        metadata,
        digest,
    )


def _misshapen(agent: str, seq: int) -> CorruptEvent:
    return CorruptEvent(f"event {seq} of {agent} has fields of another form", agent=agent, seq=seq)


def _well_formed(raw: RawEvent) -> bool:
    """Whether each field has its own type. Written out: it is asked of every event that is read."""
    kind, version, level, time, data, session_id, command, causation_id, correlation_id, metadata = raw
    return (
        type(kind) is str
        and type(version) is int
        and type(level) is int
        and _LEAST_LEVEL <= level <= _MOST_LEVEL
        and type(time) is int
        and _FIRST_TIME <= time <= _LAST_TIME
        and type(data) is dict
        and (session_id is None or type(session_id) is str)
        and (command is None or _is_command(command))
        and (causation_id is None or type(causation_id) is str)
        and (correlation_id is None or type(correlation_id) is str)
        and (metadata is None or type(metadata) is dict)
    )


def _is_command(value: Any) -> bool:
    return type(value) is list and [type(part) for part in cast("list[Any]", value)] == [str, bytes]


_LEAST_LEVEL: Final = int(min(Granularity))
_MOST_LEVEL: Final = int(max(Granularity))
_FIRST_TIME: Final = microseconds(datetime.min.replace(tzinfo=UTC))
_LAST_TIME: Final = microseconds(datetime.max.replace(tzinfo=UTC))


def raw_events(
    log: EventLog,
    agent: str,
    codec: Codec,
    *,
    after: int = 0,
    digest: bytes = NO_DIGEST,
    to_seq: int | None = None,
) -> Iterator[tuple[int, RawEvent, bytes]]:
    """Seq, raw fields and digest of each event after seq `after`, whose digest is given, up to the head or `to_seq`.

    Reads in pages, so memory stays bounded. Raises AgentNotFound, Trimmed, and CorruptEvent at the first event
    whose bytes do not continue the chain of digests, do not decode, or have fields of another form.
    """
    seq = after
    while to_seq is None or seq < to_seq:
        page = log.read(agent, seq + 1, 500 if to_seq is None else to_seq - seq)
        if page is None:
            raise AgentNotFound(f"there is no agent {agent}; spawn it first", agent=agent)
        if not page.items:
            return
        for item in page.items:
            seq += 1
            body = item[DIGEST_SIZE:]
            expected = chain(digest, body)
            digest = item[:DIGEST_SIZE]
            if digest != expected:
                raise CorruptEvent(
                    f"event {seq} of {agent} does not continue the chain of digests: it, or one before it, was changed",
                    agent=agent,
                    seq=seq,
                    expected=expected.hex(),
                    actual=digest.hex(),
                )
            try:
                event = codec.decode(body)
            except CorruptEvent as error:
                raise CorruptEvent(
                    f"event {seq} of {agent}: {error}",
                    agent=agent,
                    seq=seq,
                    expected=error.expected,
                    actual=error.actual,
                ) from None
            if not _well_formed(event):
                raise _misshapen(agent, seq)
            yield seq, event, digest
        if to_seq is None:
            to_seq = page.head.seq  # what is appended while reading belongs to the next reading


def read_events(
    log: EventLog,
    agent: str,
    codec: Codec,
    registry: EventRegistry,
    *,
    from_seq: int = 1,
    to_seq: int | None = None,
) -> Iterator[Event]:
    """Events of one agent's log, oldest first, in pages. Raises what `raw_events` and `event_of` raise."""
    after, digest = from_seq - 1, NO_DIGEST
    if after > 0:
        page = log.read(agent, after, 1)
        if page is None:
            raise AgentNotFound(f"there is no agent {agent}; spawn it first", agent=agent)
        if not page.items:
            return
        digest = page.items[0][:DIGEST_SIZE]
    for seq, raw, own in raw_events(log, agent, codec, after=after, digest=digest, to_seq=to_seq):
        yield event_of(agent, seq, raw, own, registry)
