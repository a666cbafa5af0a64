"""From stored items to events: in pages, along the chain of digests, each field of its own type."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import frozen
from hypothesis import example, given
from hypothesis import strategies as st

from duramen.events.codec.event_codec import DIGEST_SIZE, NO_DIGEST, Codec, RawEvent, chain
from duramen.events.codec.recorded_event import build_event, build_valid_event, build_valid_events
from duramen.events.errors import AgentNotFound, CorruptEvent, Trimmed, UnknownEventType
from duramen.events.log.reading import raw_events, read_events
from duramen.events.log.records import Append, Status
from duramen.events.memory.log import MemoryLog
from duramen.events.model.event import Event, Granularity
from duramen.events.model.limits import Limits
from duramen.events.model.registry import EventRegistry

AGENT = "acme/alice"
CODEC = Codec(Limits())
TIME = 1_700_000_000_123_456


def raw_event(number: int = 1, **changes: Any) -> RawEvent:
    fields: dict[str, Any] = {
        "type": "counted",
        "version": 1,
        "level": 2,
        "time": TIME + number,
        "data": {"number": number},
        "session_id": "s-1",
        "command": ["c-1", b"print"],
        "causation_id": "cause",
        "correlation_id": "order",
        "metadata": {"by": "test"},
    }
    return list({**fields, **changes}.values())


def items_of(bodies: list[bytes]) -> list[bytes]:
    digest, items = NO_DIGEST, []
    for body in bodies:
        digest = chain(digest, body)
        items.append(digest + body)
    return items


def log_of(bodies: list[bytes], limits: Limits | None = None) -> MemoryLog:
    log = MemoryLog(limits=limits)
    if bodies:
        items = items_of(bodies)
        append = Append(AGENT, log.log_key(AGENT), 0, NO_DIGEST, "1:a", items, b"\x02" * len(items), create=True)
        assert log.commit(log.partition_of(AGENT), [append])[0].status is Status.COMMITTED
    return log


def log_with(count: int, limits: Limits | None = None) -> MemoryLog:
    return log_of([CODEC.encode(raw_event(number))[0] for number in range(1, count + 1)], limits)


def numbers(log: MemoryLog, **options: Any) -> list[int]:
    return [event.data["number"] for event in read_events(log, AGENT, CODEC, EventRegistry(), **options)]


# -- one event ---------------------------------------------------------------------------------------------------------


def test_an_event_has_every_field_of_what_was_stored() -> None:
    assert build_event(AGENT, 7, raw_event(), b"d" * 16, EventRegistry()) == Event(
        AGENT,
        7,
        datetime(2023, 11, 14, 22, 13, 20, 123_457, tzinfo=UTC),
        "counted",
        1,
        {"number": 1},
        "s-1",
        "c-1",
        "cause",
        "order",
        Granularity.STATE,
        {"by": "test"},
        b"d" * 16,
    )


times = st.lists(
    st.builds(
        lambda near, apart: near + apart,
        st.sampled_from([0, TIME, -2_000_000, 1 << 52, 253_402_300_000_000_000, -62_135_596_700_000_000]),
        st.integers(-3_000_000, 3_000_000),
    )
)


@given(times)
@example([TIME, TIME, TIME + 1, 1_700_000_000_000_000, 1_699_999_999_999_999, -1, 0, 999_999, 1_000_000])
def test_many_events_are_made_like_each_of_them(times: list[int]) -> None:
    raws, registry = [raw_event(time=time) for time in times], EventRegistry()
    columns = [AGENT] * len(times), list(range(len(times))), raws, [b"d" * 16] * len(times)
    one_by_one = [build_valid_event(*row, registry) for row in zip(*columns, strict=True)]
    assert build_valid_events(*columns, registry) == (one_by_one, None)


def test_what_an_event_does_not_have_is_none() -> None:
    raw = raw_event(session_id=None, command=None, causation_id=None, correlation_id=None, metadata=None)
    event = build_event(AGENT, 7, raw, b"d" * 16, EventRegistry())
    assert (event.session_id, event.command_id, event.causation_id, event.correlation_id, event.metadata) == (
        (None,) * 5
    )


WRONG: list[tuple[str, Any]] = [
    ("type", None),
    ("type", 5),
    ("type", ["counted"]),
    ("type", {}),
    ("version", "1"),
    ("version", None),
    ("version", True),
    ("level", 0),
    ("level", 5),
    ("level", "2"),
    ("level", None),
    ("level", [2]),
    ("time", None),
    ("time", "now"),
    ("time", 1.5),
    ("time", 2**63),
    ("time", -(2**63)),
    ("time", {}),
    ("data", None),
    ("data", []),
    ("data", "number"),
    ("session_id", 5),
    ("session_id", ["s-1"]),
    ("command", "c-1"),
    ("command", 5),
    ("command", []),
    ("command", ["c-1"]),
    ("command", [5, b"x"]),
    ("command", ["c-1", "x"]),
    ("command", ["c-1", b"x", 1]),
    ("causation_id", 5),
    ("correlation_id", b"x"),
    ("metadata", []),
    ("metadata", "x"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_field_of_another_type_is_corrupt_and_says_where(name: str, value: Any) -> None:
    with pytest.raises(CorruptEvent) as caught:
        build_event(AGENT, 7, raw_event(**{name: value}), b"d" * 16, EventRegistry())
    assert (caught.value.agent, caught.value.seq) == (AGENT, 7)


@frozen
class Counted:
    number: int


def test_data_of_an_old_version_comes_as_todays() -> None:
    registry = EventRegistry()
    registry.register(Counted, "counted", 2)
    registry.add_upcaster("counted", 1, lambda data: {"number": data["number"] * 10})
    event = build_event(AGENT, 7, raw_event(4), b"d" * 16, registry)
    assert (event.version, event.data) == (2, {"number": 40})


def test_an_unknown_type_comes_as_it_was_stored() -> None:
    event = build_event(AGENT, 7, raw_event(4, version=9), b"d" * 16, EventRegistry())
    assert (event.type, event.version, event.data) == ("counted", 9, {"number": 4})


def test_an_upcaster_that_fails_is_not_called_corruption() -> None:
    registry = EventRegistry()
    registry.register(Counted, "counted", 2)
    with pytest.raises(UnknownEventType):
        build_event(AGENT, 7, raw_event(), b"d" * 16, registry)

    def broken(data: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("broken")

    registry.add_upcaster("counted", 1, broken)
    with pytest.raises(UnknownEventType):
        build_event(AGENT, 7, raw_event(), b"d" * 16, registry)


# -- many events -------------------------------------------------------------------------------------------------------


@given(
    count=st.integers(1, 30),
    page=st.integers(1, 7),
    bounds=st.tuples(st.integers(1, 35), st.none() | st.integers(0, 35)),
)
def test_every_range_is_read_whole_once_and_in_order(count: int, page: int, bounds: tuple[int, int | None]) -> None:
    log = log_with(count, Limits(page_events=page))
    first, last = bounds
    expected = list(range(first, min(count, count if last is None else last) + 1))
    assert numbers(log, from_seq=first, to_seq=last) == expected


def test_events_know_their_place() -> None:
    log = log_with(5, Limits(page_events=2))
    events = list(read_events(log, AGENT, CODEC, EventRegistry(), from_seq=3))
    page = log.read(AGENT, 3, 2)
    assert page is not None
    assert [event.seq for event in events] == [3, 4, 5]
    assert events[0].digest == page.items[0][:DIGEST_SIZE]


def test_what_is_appended_while_one_reads_belongs_to_the_next_reading() -> None:
    log = log_with(3, Limits(page_events=1))
    reading = read_events(log, AGENT, CODEC, EventRegistry())
    first = next(reading)
    head = log.head(AGENT)
    assert head is not None
    body = CODEC.encode(raw_event(4))[0]
    item = chain(head.digest, body) + body
    log.commit(log.partition_of(AGENT), [Append(AGENT, log.log_key(AGENT), 3, head.digest, "1:a", [item], b"\x02")])
    assert [first.seq, *(event.seq for event in reading)] == [1, 2, 3]
    assert numbers(log) == [1, 2, 3, 4]


@pytest.mark.parametrize("from_seq", [1, 5])
def test_an_agent_that_is_not_there_is_a_typed_error(from_seq: int) -> None:
    with pytest.raises(AgentNotFound) as caught:
        list(read_events(log_of([]), AGENT, CODEC, EventRegistry(), from_seq=from_seq))
    assert caught.value.agent == AGENT


@pytest.mark.parametrize("from_seq", [0, -3])
def test_a_range_that_begins_before_the_first_event_is_a_typed_error(from_seq: int) -> None:
    with pytest.raises(Trimmed):
        list(read_events(log_with(3), AGENT, CODEC, EventRegistry(), from_seq=from_seq))


def damaged(log: MemoryLog, seq: int, item: bytes) -> MemoryLog:
    log._storage.logs[log.log_key(AGENT)][seq - 1] = item
    return log


@pytest.mark.parametrize("seq", [1, 2, 5])
def test_a_changed_event_is_corrupt_at_its_seq_and_those_before_it_are_read(seq: int) -> None:
    log = log_with(5)
    item = bytearray(log._storage.logs[log.log_key(AGENT)][seq - 1])
    item[-1] ^= 1
    read: list[int] = []
    with pytest.raises(CorruptEvent) as caught:
        for number, _, _ in raw_events(damaged(log, seq, bytes(item)), AGENT, CODEC):
            read.append(number)
    assert (caught.value.agent, caught.value.seq) == (AGENT, seq)
    assert read == list(range(1, seq))


def test_an_event_that_was_exchanged_with_its_own_digest_right_is_found_at_the_next() -> None:
    """Whoever recomputes one digest would have to recompute all that follow."""
    log = log_with(5)
    items = log._storage.logs[log.log_key(AGENT)]
    body = CODEC.encode(raw_event(99))[0]
    damaged(log, 3, chain(items[1][:DIGEST_SIZE], body) + body)
    with pytest.raises(CorruptEvent) as caught:
        list(raw_events(log, AGENT, CODEC))
    assert caught.value.seq == 4


def test_events_that_changed_places_are_found() -> None:
    log = log_with(5)
    items = log._storage.logs[log.log_key(AGENT)]
    items[1], items[2] = items[2], items[1]
    with pytest.raises(CorruptEvent) as caught:
        list(raw_events(log, AGENT, CODEC))
    assert caught.value.seq == 2


@pytest.mark.parametrize("item", [b"", b"short", b"x" * 15, bytes(16)])
def test_an_item_too_short_for_a_digest_is_corrupt(item: bytes) -> None:
    with pytest.raises(CorruptEvent) as caught:
        list(raw_events(damaged(log_with(3), 2, item), AGENT, CODEC))
    assert caught.value.seq == 2


@pytest.mark.parametrize("body", [b"\xc1", b"", b"\x90", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000])
def test_poison_behind_a_right_digest_is_corrupt_at_its_seq(body: bytes) -> None:
    good = [CODEC.encode(raw_event(number))[0] for number in (1, 2)]
    log = log_of([*good, body, good[0]])
    with pytest.raises(CorruptEvent) as caught:
        list(raw_events(log, AGENT, CODEC))
    assert (caught.value.agent, caught.value.seq) == (AGENT, 3)


def test_a_reader_that_saw_another_history_is_told() -> None:
    log = log_with(5)
    with pytest.raises(CorruptEvent) as caught:
        list(raw_events(log, AGENT, CODEC, after=2, digest=b"another  history"))
    assert caught.value.seq == 3
