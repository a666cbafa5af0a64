"""Stored items as events: what every reader of the log goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from ..errors import CorruptEvent, DuramenError
from ..model import OWN_TYPES, Event, EventRegistry, Granularity, MutableEvent, construct_event
from .digest_chain import DigestChain
from .event_codec import DIGEST_SIZE, Codec, RawEvent, to_datetime, to_microseconds

__all__ = [
    "broken_chain_error",
    "build_event",
    "build_valid_event",
    "build_valid_events",
    "decode_bodies",
    "decode_body",
    "decode_items",
    "malformed_event_error",
]


def build_event(agent: str, seq: int, raw: RawEvent, digest: bytes, registry: EventRegistry) -> Event:
    """An `Event` from raw fields, its data brought to today's version.

    Raises UnknownEventType when an upcaster is missing or fails, CorruptEvent when a field is not what it should be.
    """
    if not _well_formed(raw):
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
    """As `build_valid_event` of each, in two thirds of the time: what it calls is written out here.

    Up to the first of which it raises, and that error.
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
        if time != before:  # events of one command have one time
            before = time
            its_second, fraction = divmod(time, 1_000_000)
            if its_second != second:  # the calendar is dear: those of one second ask it once
                second = its_second
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
    """For an event whose digest is not the one that its bytes and its predecessor make."""
    return CorruptEvent(
        f"event {seq} of {agent} does not continue the chain of digests: it, or one before it, was changed",
        agent=agent,
        seq=seq,
        expected=expected.hex(),
        actual=actual.hex(),
    )


def decode_body(agent: str, seq: int, body: bytes, codec: Codec) -> RawEvent:
    """The raw fields of a stored body. Raises CorruptEvent, which names the event."""
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
        raise malformed_event_error(agent, seq)
    return event


def decode_bodies(bodies: Sequence[bytes], codec: Codec) -> list[RawEvent] | None:
    """As `decoded` of each, and cheaper; None where one of them has to be looked at by itself."""
    events = codec.decode_all(bodies)
    return events if events is not None and _well_formed(*events) else None


def malformed_event_error(agent: str, seq: int) -> CorruptEvent:
    """For an event that decodes, to something else than one has."""
    return CorruptEvent(f"event {seq} of {agent} has fields of another form", agent=agent, seq=seq)


def _well_formed(*events: RawEvent) -> bool:
    """Whether each field of each event has its own type. Written out, in one loop: it is asked of all that is read."""
    for kind, version, level, time, data, session_id, command, causation_id, correlation_id, metadata in events:
        if not (
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
        ):
            return False
    return True


def _is_command(value: Any) -> bool:
    return type(value) is list and [type(part) for part in cast("list[Any]", value)] == [str, bytes]


_TOGETHER: Final = 64
"""Events decoded at once. A page has more, but is not to be in memory decoded, nor its first event to wait so long."""
_GRANULARITIES: Final[Sequence[Granularity]] = (Granularity.LIFECYCLE, *Granularity)
"""By level; the enum's own look-up takes three times as long. There is no level 0."""
_LEAST_LEVEL: Final = int(min(Granularity))
_MOST_LEVEL: Final = int(max(Granularity))
_FIRST_TIME: Final = to_microseconds(datetime.min.replace(tzinfo=UTC))
_LAST_TIME: Final = to_microseconds(datetime.max.replace(tzinfo=UTC))


def decode_items(
    agent: str, items: Sequence[bytes], codec: Codec, chain: DigestChain, *, after: int, digest: bytes
) -> Iterator[tuple[int, RawEvent, bytes]]:
    """Seq, raw fields and digest of each stored item behind seq `after`, whose digest is given.

    Some are decoded at a time. Raises CorruptEvent at the first that is wrong, as `raw_events` does.
    """
    for at in range(0, len(items), _TOGETHER):
        part = items[at : at + _TOGETHER]
        seq = after + at
        plain = _plain(part, digest, codec, chain)
        if plain is None:
            yield from _one_by_one(agent, seq, part, digest, codec, chain=chain)
        else:
            yield from zip(range(seq + 1, seq + 1 + len(part)), *plain, strict=True)
        digest = part[-1][:DIGEST_SIZE]


def _plain(
    items: Sequence[bytes], digest: bytes, codec: Codec, chain: DigestChain
) -> tuple[list[RawEvent], list[bytes]] | None:
    """Events and digests, if nothing is wrong with any of them: many at once are cheaper than each by itself."""
    followed = chain.verify_items(digest, items)
    if followed is None:
        return None
    digests, bodies = followed
    events = decode_bodies(bodies, codec)
    return None if events is None else (events, digests)


def _one_by_one(
    agent: str, seq: int, items: Sequence[bytes], digest: bytes, codec: Codec, *, chain: DigestChain
) -> Iterator[tuple[int, RawEvent, bytes]]:
    """The events up to the first with which something is wrong, and what that is."""
    for item in items:
        seq += 1
        body = item[DIGEST_SIZE:]
        expected = chain.digest(digest, body)
        digest = item[:DIGEST_SIZE]
        if digest != expected:
            raise broken_chain_error(agent, seq, expected, digest)
        yield seq, decode_body(agent, seq, body, codec), digest
