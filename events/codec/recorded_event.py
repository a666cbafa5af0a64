"""Decodes stored items into raw events and `Event` objects, for every reader of logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from ..errors import CorruptEvent, DuramenError
from ..model import OWN_TYPES, Event, EventRegistry, Granularity, MutableEvent, construct_event
from .digest_chain import DigestChain
from .event_codec import DIGEST_SIZE, Codec, RawEvent, to_datetime, to_microseconds


def build_event(agent: str, seq: int, raw: RawEvent, digest: bytes, registry: EventRegistry) -> Event:
    """Build an `Event` from raw fields, with its data in today's version.

    Raises UnknownEventType if an upcaster is missing or fails, CorruptEvent for a field of a wrong type.
    """
    if not _is_well_formed(raw):
        raise malformed_event_error(agent, seq)
    return build_valid_event(agent, seq, raw, digest, registry)


def build_valid_event(agent: str, seq: int, raw: RawEvent, digest: bytes, registry: EventRegistry) -> Event:
    """As `build_event`, without the check: for fields that were checked when they were read."""
    level: int
    kind, version, level, time, data, session_id, command, causation_id, correlation_id, metadata = raw
    if kind not in OWN_TYPES and registry.has_type(kind):
        version, data = registry.current_version(kind), registry.upcast(kind, version, data)
    return construct_event(
        (
            agent,
            seq,
            to_datetime(time),
            kind,
            version,
            data,
            session_id,
            None if command is None else command[0],
            causation_id,
            correlation_id,
            _GRANULARITIES[level],
            metadata,
            digest,
        )
    )


def build_valid_events(
    agents: Sequence[str],
    seqs: Sequence[int],
    raws: Sequence[RawEvent],
    digests: Sequence[bytes],
    registry: EventRegistry,
) -> tuple[list[Event], DuramenError | None]:
    """As `build_valid_event` of each, in two thirds of the time, with its calls inlined.

    Returns the events before the first failure, and that error or None.
    """
    events: list[Event] = []
    add = events.append
    try:
        _add_events(add, zip(agents, seqs, raws, digests, strict=True), registry)
    except DuramenError as error:
        return events, error
    return events, None


def _add_events(
    add: Callable[[Event], None], columns: Iterable[tuple[str, int, RawEvent, bytes]], registry: EventRegistry
) -> None:
    made: Any
    before = second = when = None
    year = month = day = hour = minute = seconds = 0
    for agent, seq, raw, digest in columns:
        kind, version, level, time, data, session_id, command, causation_id, correlation_id, metadata = raw
        if kind not in OWN_TYPES and registry.has_type(kind):
            version, data = registry.current_version(kind), registry.upcast(kind, version, data)
        if time != before:  # events of one command have the same time
            before = time
            whole_second, fraction = divmod(time, 1_000_000)
            if whole_second != second:  # the calendar is slow: ask it once a second
                second = whole_second
                year, month, day, hour, minute, seconds = to_datetime(time).timetuple()[:6]
            when = datetime(year, month, day, hour, minute, seconds, fraction, UTC)
        made = MutableEvent()  # as in `construct_event`
        made.agent = agent
        made.seq = seq
        made.time = when
        made.type = kind
        made.version = version
        made.data = data
        made.session_id = session_id
        made.command_id = None if command is None else command[0]
        made.causation_id = causation_id
        made.correlation_id = correlation_id
        made.granularity = _GRANULARITIES[level]
        made.metadata = metadata
        made.digest = digest
        made.__class__ = Event
        add(made)


def broken_chain_error(agent: str, seq: int, expected: bytes, actual: bytes) -> CorruptEvent:
    """Return the error for an event whose digest does not match its bytes and its predecessor."""
    return CorruptEvent(
        f"event {seq} of {agent} does not continue the chain of digests: it, or one before it, was changed",
        agent=agent,
        seq=seq,
        expected=expected.hex(),
        actual=actual.hex(),
    )


def decode_body(agent: str, seq: int, body: bytes, codec: Codec) -> RawEvent:
    """Return the raw fields of a stored body. Raises CorruptEvent, which names the event."""
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
    if not _is_well_formed(event):
        raise malformed_event_error(agent, seq)
    return event


def decode_bodies(bodies: Sequence[bytes], codec: Codec) -> list[RawEvent] | None:
    """As `decode_body` of each, and cheaper; None if they have to be decoded one by one."""
    events = codec.decode_all(bodies)
    return events if events is not None and _is_well_formed(*events) else None


def malformed_event_error(agent: str, seq: int) -> CorruptEvent:
    """Return the error for a body that decodes to fields of wrong types."""
    return CorruptEvent(f"event {seq} of {agent} has fields of another form", agent=agent, seq=seq)


def _is_well_formed(*events: RawEvent) -> bool:
    """Whether every field of each event has its type. One inlined loop, since every event read passes it."""
    for kind, version, level, time, data, session_id, command, causation_id, correlation_id, metadata in events:
        if not (
            type(kind) is str
            and type(version) is int
            and type(level) is int
            and _MIN_LEVEL <= level <= _MAX_LEVEL
            and type(time) is int
            and _FIRST_TIME <= time <= _LAST_TIME
            and type(data) is dict
            and (session_id is None or type(session_id) is str)
            and (command is None or _is_command(command))
            and (causation_id is None or type(causation_id) is str)
            and (correlation_id is None or type(correlation_id) is str)
            and (metadata is None or type(metadata) is dict)
        ):
            return False
    return True


def _is_command(value: Any) -> bool:
    return type(value) is list and [type(part) for part in cast("list[Any]", value)] == [str, bytes]


_TOGETHER: Final = 64
"""Events decoded together: fewer than a page, to bound memory and the wait for its first event."""
_GRANULARITIES: Final[Sequence[Granularity]] = (Granularity.LIFECYCLE, *Granularity)
"""By level (there is no level 0); the enum's own look-up takes three times as long."""
_MIN_LEVEL: Final = int(min(Granularity))
_MAX_LEVEL: Final = int(max(Granularity))
_FIRST_TIME: Final = to_microseconds(datetime.min.replace(tzinfo=UTC))
_LAST_TIME: Final = to_microseconds(datetime.max.replace(tzinfo=UTC))


def decode_items(
    agent: str, items: Sequence[bytes], codec: Codec, chain: DigestChain, *, after: int, digest: bytes
) -> Iterator[tuple[int, RawEvent, bytes]]:
    """Yield seq, raw fields and digest of each stored item after seq `after`, which has digest `digest`.

    Raises CorruptEvent at the first damaged item, as `raw_events` does.
    """
    for at in range(0, len(items), _TOGETHER):
        part = items[at : at + _TOGETHER]
        seq = after + at
        decoded = _decode_together(part, digest, codec, chain)
        if decoded is None:
            yield from _decode_one_by_one(agent, seq, part, digest, codec, chain=chain)
        else:
            yield from zip(range(seq + 1, seq + 1 + len(part)), *decoded, strict=True)
        digest = part[-1][:DIGEST_SIZE]


def _decode_together(
    items: Sequence[bytes], digest: bytes, codec: Codec, chain: DigestChain
) -> tuple[list[RawEvent], list[bytes]] | None:
    """Return events and digests, decoded together since that is cheaper; None if an item is damaged."""
    followed = chain.verify_items(digest, items)
    if followed is None:
        return None
    digests, bodies = followed
    events = decode_bodies(bodies, codec)
    return None if events is None else (events, digests)


def _decode_one_by_one(
    agent: str, seq: int, items: Sequence[bytes], digest: bytes, codec: Codec, *, chain: DigestChain
) -> Iterator[tuple[int, RawEvent, bytes]]:
    """Yield the events before the first damaged one, and raise its error."""
    for item in items:
        seq += 1
        body = item[DIGEST_SIZE:]
        expected = chain.digest(digest, body)
        digest = item[:DIGEST_SIZE]
        if digest != expected:
            raise broken_chain_error(agent, seq, expected, digest)
        yield seq, decode_body(agent, seq, body, codec), digest
