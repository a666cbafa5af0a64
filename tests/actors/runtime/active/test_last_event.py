"""An agent in memory has the log compare its last event before anything is appended to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from duramen.actors import AgentHandle, AgentSystem
from duramen.events import CorruptEvent, MemoryLog

PATH = "acme/alice"
SECOND = 1_000_000
SMALL, LARGE, TOO_LARGE = "v", "v" * 3_000, "v" * 5_000


class Clock:
    """The clock of the host, in µs."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def system(clock: Clock) -> Iterator[AgentSystem]:
    with AgentSystem.open(log=MemoryLog()) as system:
        system._services.now = clock
        yield system


def stored(system: AgentSystem) -> list[bytes]:
    log: Any = system.log
    items: list[bytes] = log._storage.logs[log.log_key(PATH)]
    return items


def change_bit(system: AgentSystem) -> None:
    items = stored(system)
    items[-1] = items[-1][:-5] + bytes((items[-1][-5] ^ 1,)) + items[-1][-4:]


def filled(system: AgentSystem, value: str) -> AgentHandle:
    alice = system.spawn(PATH)
    alice.set("a", value)
    return alice


@pytest.mark.parametrize("value", [SMALL, LARGE])
@pytest.mark.parametrize("touch", ["set", "get"])
def test_a_last_event_that_stood_for_a_second_is_compared_whole(
    system: AgentSystem, clock: Clock, value: str, touch: str
) -> None:
    alice = filled(system, value)
    change_bit(system)
    clock.now += SECOND
    damaged = list(stored(system))
    for _ in range(2):
        with pytest.raises(CorruptEvent) as caught:
            alice.set("b", 1) if touch == "set" else alice.get()
        assert caught.value.agent == PATH
    assert stored(system) == damaged, "nothing is appended upon it"


def test_a_small_one_is_compared_whole_at_once(system: AgentSystem) -> None:
    alice = filled(system, SMALL)
    change_bit(system)
    with pytest.raises(CorruptEvent):
        alice.set("b", 1)


@pytest.mark.parametrize(("value", "passed"), [(LARGE, 0), (LARGE, SECOND - 1), (TOO_LARGE, SECOND)])
def test_a_large_one_that_was_just_written_or_is_not_kept_is_compared_by_its_digest(
    system: AgentSystem, clock: Clock, value: str, passed: int
) -> None:
    alice = filled(system, value)
    change_bit(system)
    clock.now += passed
    alice.set("b", 1)
    assert not system.verify(PATH).ok


def test_a_large_one_is_compared_whole_by_a_clock_that_was_set_back(system: AgentSystem, clock: Clock) -> None:
    alice = filled(system, LARGE)
    change_bit(system)
    clock.now -= 60 * SECOND
    with pytest.raises(CorruptEvent):
        alice.set("b", 1)


@pytest.mark.parametrize("value", [SMALL, LARGE, TOO_LARGE])
def test_sound_events_are_appended_to_however_long_they_stood(system: AgentSystem, clock: Clock, value: str) -> None:
    alice = filled(system, value)
    for passed in (0, SECOND, -SECOND, 3_600 * SECOND):
        clock.now += passed
        alice.set("a", value)
        assert alice.get("a") == value
    assert system.verify(PATH).ok
