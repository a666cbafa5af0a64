"""A stream of notices hints at every partition that has moved, and at nothing that it does not follow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic

import pytest

from contracts.feeds import agents_of, body
from contracts.places import Place
from duramen.events.log.event_log import EventLog
from duramen.events.log.notices import NoticeStream
from duramen.events.model.event import Granularity

LONG = 20.0
"""More than anything here takes; nothing waits for it to pass."""


@pytest.fixture
def log(place: Place) -> EventLog:
    return place.open(partitions=3)


@pytest.fixture
def open_stream(log: EventLog) -> Iterator[Callable[[], NoticeStream]]:
    with ExitStack() as cleanup:

        def open_one() -> NoticeStream:
            stream = log.notices()
            cleanup.callback(stream.close)
            return stream

        yield open_one


@pytest.fixture
def stream(open_stream: Callable[[], NoticeStream]) -> NoticeStream:
    return open_stream()


def hints(stream: NoticeStream, partitions: set[int]) -> dict[int, int]:
    """What is received until something was heard of all these partitions: the last word on each."""
    found: dict[int, int] = {}
    deadline = monotonic() + LONG
    while not partitions <= found.keys():
        assert monotonic() < deadline, f"only {found} was heard of {partitions}"
        found |= stream.receive(LONG)
    return found


def quiet(stream: NoticeStream, log: EventLog, partition: int) -> dict[int, int]:
    """What is received before an event that is written now, in a partition that is followed."""
    end = log.positions()[partition] + 1
    write(log, partition, "last-word")
    found: dict[int, int] = {}
    while True:
        heard = stream.receive(LONG)
        assert heard, "the last word was not heard"
        if heard.get(partition) == end:
            return found | {one: position for one, position in heard.items() if one != partition}
        found |= heard


def settled(stream: NoticeStream, log: EventLog, partitions: set[int], level: int = 4) -> None:
    """Follow, and hear all that comes of it."""
    stream.follow(partitions, level)
    hints(stream, partitions)
    for partition in partitions:
        quiet(stream, log, partition)


def write(log: EventLog, partition: int, name: str, *, level: int = Granularity.LIFECYCLE) -> None:
    author = next(a for a in agents_of(log, 50, partition) if log.head(a.agent) is None)
    author.write(body(1, level=level), level=level)


def test_following_begins_with_the_hint_to_go_and_look(stream: NoticeStream) -> None:
    stream.follow({0, 2}, 4)
    assert hints(stream, {0, 2}) == {0: 0, 2: 0}


def test_every_append_is_hinted_at_with_its_position(stream: NoticeStream, log: EventLog) -> None:
    settled(stream, log, {0, 1})
    for partition, position in [(0, 2), (1, 2), (0, 3), (0, 4)]:
        write(log, partition, "x")
        assert hints(stream, {partition})[partition] == position


def test_what_came_together_is_one_hint_at_the_highest_position(stream: NoticeStream, log: EventLog) -> None:
    settled(stream, log, {0, 1})
    author = agents_of(log, 40, 0)[-1]
    for number in range(30):
        author.write(body(number))
    end, found = log.positions()[0], [0]
    while found[-1] < end:
        heard = stream.receive(LONG)
        assert set(heard) == {0}, "nothing was heard, or of another partition"
        found.append(heard[0])
    assert end == 31
    assert found == sorted(found)


def test_only_the_partitions_and_levels_that_are_followed_are_hinted_at(stream: NoticeStream, log: EventLog) -> None:
    settled(stream, log, {1}, Granularity.STATE)
    for level in (Granularity.ACTIVITY, Granularity.TRACE):
        write(log, 1, "detail", level=level)
    write(log, 0, "elsewhere")
    assert quiet(stream, log, 1) == {}
    write(log, 1, "state", level=Granularity.STATE)
    assert hints(stream, {1}) == {1: 5}


def test_what_is_followed_can_be_changed(stream: NoticeStream, log: EventLog) -> None:
    settled(stream, log, {0, 1}, Granularity.STATE)
    stream.follow({1, 2}, Granularity.STATE)
    assert hints(stream, {2})[2] == 0
    write(log, 0, "no longer")
    assert 0 not in quiet(stream, log, 1)
    stream.follow({1}, Granularity.TRACE)
    assert hints(stream, {1})[1] == 0
    write(log, 1, "trace", level=Granularity.TRACE)
    while hints(stream, {1})[1] != 3:
        pass
    stream.follow(set(), Granularity.TRACE)
    stream.follow({2}, Granularity.LIFECYCLE)
    assert hints(stream, {2})[2] == 0
    write(log, 2, "x")
    assert hints(stream, {2})[2] == 1


def test_what_was_committed_before_following_is_not_hinted_at(stream: NoticeStream, log: EventLog) -> None:
    write(log, 0, "x")
    assert stream.receive(0) == {}
    stream.follow({0}, 4)
    assert hints(stream, {0}) == {0: 0}


def test_each_stream_hears_for_itself(open_stream: Callable[[], NoticeStream], log: EventLog) -> None:
    one, other = open_stream(), open_stream()
    settled(one, log, {0})
    settled(other, log, {1})
    write(log, 0, "x")
    write(log, 1, "x")
    assert hints(one, {0}) == {0: 2}
    assert hints(other, {1}) == {1: 2}


def test_a_receive_ends_after_its_time(stream: NoticeStream) -> None:
    assert stream.receive(0) == {}
    assert stream.receive(0.05) == {}
    stream.follow({0}, 4)
    hints(stream, {0})
    while stream.receive(0.05):
        pass


def in_a_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    return thread, found


@pytest.mark.parametrize("followed", [set[int](), {0, 1, 2}], ids=["nothing", "all"])
def test_waking_ends_a_receive_that_waits_and_the_next_one_waits_again(
    stream: NoticeStream, log: EventLog, followed: set[int]
) -> None:
    if followed:
        settled(stream, log, followed)
    thread, found = in_a_thread(lambda: stream.receive(None))
    stream.wake()
    thread.join(LONG)
    assert found == [{}]
    stream.wake()
    assert stream.receive(None) == {}
    if followed:
        write(log, 0, "x")
        assert 0 in stream.receive(LONG)


@pytest.mark.parametrize("followed", [set[int](), {0, 1, 2}], ids=["nothing", "all"])
def test_closing_ends_a_receive_that_waits_in_another_thread(
    stream: NoticeStream, log: EventLog, followed: set[int]
) -> None:
    if followed:
        settled(stream, log, followed)
    thread, found = in_a_thread(lambda: stream.receive(None))
    stream.close()
    thread.join(LONG)
    assert found == [{}]
    assert stream.receive(None) == {}
    stream.close()
    stream.wake()
    stream.follow({0}, 4)
    assert stream.receive(None) == {}


def test_a_stream_can_be_told_what_to_follow_while_it_waits(stream: NoticeStream) -> None:
    thread, found = in_a_thread(lambda: stream.receive(LONG))
    stream.follow({1}, 1)
    thread.join(LONG)
    assert found == [{1: 0}]


def test_events_too_many_for_a_message_are_hinted_at_all_the_same(stream: NoticeStream, log: EventLog) -> None:
    settled(stream, log, {0})
    author = agents_of(log, 9, 0)[-1]
    author.write(body(1, size=60_000), body(2, size=60_000))
    assert hints(stream, {0}) == {0: 2}
    assert stream.unexpected == 0
