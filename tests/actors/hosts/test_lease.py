"""A host is declared dead only after a whole lease in which its judge was awake and its own beats went through."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors.hosts import BEAT_SECONDS, LEASE_SECONDS, LeaseJudge
from duramen.events.log.host_store import HostRecord, HostState

PEER = "b" * 32


def row(beat: int, host: str = PEER, state: HostState = "up") -> HostRecord:
    return HostRecord(host, beat, state)


def looks(judge: LeaseJudge, start: float, end: float, beat: int) -> list[float]:
    """Look every beat from `start` to `end` at a peer whose beat stays as it is; returns when its lease had ended."""
    ended: list[float] = []
    now = start
    while now <= end:
        if judge.look([row(beat)], now):
            ended.append(now)
        now += BEAT_SECONDS
    return ended


def test_a_host_whose_beat_stays_is_dead_after_a_whole_lease_and_not_before() -> None:
    assert looks(LeaseJudge(), 100.0, 115.0, beat=7)[0] == 100.0 + LEASE_SECONDS


def test_a_host_that_beats_once_in_a_lease_lives() -> None:
    judge = LeaseJudge()
    for number in range(400):
        assert judge.look([row(number // 4)], number * BEAT_SECONDS) == []


def test_a_beat_that_goes_back_is_a_sign_of_life() -> None:
    """After a failover the new primary may have an older row of a host that beats."""
    judge = LeaseJudge()
    looks(judge, 0.0, 7.5, beat=9)
    assert judge.look([row(4)], 10.0) == []
    assert looks(judge, 12.5, 25.0, beat=4)[0] == 10.0 + LEASE_SECONDS


@pytest.mark.parametrize("state", ["closed", "buried"])
def test_a_host_that_has_ended_is_not_judged(state: HostState) -> None:
    judge = LeaseJudge()
    assert [judge.look([row(1, state=state)], now * 2.5) for now in range(10)] == [[]] * 10


def test_hosts_are_judged_each_for_itself() -> None:
    judge = LeaseJudge()
    other = "c" * 32
    for number in range(4):
        assert judge.look([row(1), row(number, other)], number * 2.5) == []
    assert [ended.host for ended in judge.look([row(1), row(4, other)], 10.0)] == [PEER]


def suspend(judge: LeaseJudge) -> float:
    """The judge's own process stops for a minute."""
    return 7.5 + 60.0


def jump_forward(judge: LeaseJudge) -> float:
    """Somebody sets the clock, or the machine was suspended for days."""
    return 7.5 + 8 * 86_400


def jump_back(judge: LeaseJudge) -> float:
    return -3600.0


def lose_the_server(judge: LeaseJudge) -> float:
    """A look or an own beat fails, and the connection is opened again, to the same server or to another."""
    judge.interrupt()
    return 7.5 + BEAT_SECONDS


@pytest.mark.parametrize("event", [suspend, jump_forward, jump_back, lose_the_server])
def test_everybody_has_a_full_lease_after(event: Callable[[LeaseJudge], float]) -> None:
    judge = LeaseJudge()
    assert looks(judge, 0.0, 7.5, beat=3) == [], "the lease has nearly ended"
    again = event(judge)
    assert looks(judge, again, again + 12.5, beat=3)[0] == again + LEASE_SECONDS


@given(
    steps=st.lists(
        st.tuples(st.floats(-20, 30, allow_nan=False), st.booleans(), st.booleans()), min_size=1, max_size=60
    )
)
def test_a_burial_has_a_lease_of_looks_that_followed_each_other_at_one_beat(
    steps: list[tuple[float, bool, bool]],
) -> None:
    """Each step: seconds since the last look, whether it fails, whether the peer has beaten meanwhile."""
    judge, now, beat, began = LeaseJudge(), 0.0, 0, None
    for seconds, fails, beats in steps:
        now += seconds
        beat += beats
        if fails:
            judge.interrupt()
            began = None
            continue
        if began is None or beats or not 0 <= seconds <= 2 * BEAT_SECONDS:
            began = now
        assert bool(judge.look([row(beat)], now)) == (now - began >= LEASE_SECONDS)


# -- the control: a lease as a key with a time to live -----------------------------------------------------------------


class Judge(Protocol):
    def look(self, records: Iterable[HostRecord], now: float) -> list[HostRecord]: ...


class TimeToLive:
    """Each beat sets when the lease ends, by the server's clock; who is past it is dead."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[int, float]] = {}

    def look(self, records: Iterable[HostRecord], now: float) -> list[HostRecord]:
        ended: list[HostRecord] = []
        for record in records:
            beat, ends = self._ends.get(record.host, (-1, 0.0))
            if beat != record.beat:
                ends = now + LEASE_SECONDS
                self._ends[record.host] = record.beat, ends
            if now >= ends:
                ended.append(record)
        return ended


def buried_alive(judge: Judge) -> bool:
    """A peer beats every 2.5 s and dies never; in between the clock jumps by an hour."""
    now, dead = 0.0, False
    for number in range(40):
        now += BEAT_SECONDS + (3600.0 if number == 20 else 0.0)
        # The peer's beat of this moment is a little later than the look at which the clock has jumped.
        dead = dead or bool(judge.look([row(number if number != 20 else 19)], now))
    return dead


def test_a_lease_by_time_to_live_buries_a_live_host_after_a_clock_jump() -> None:
    assert buried_alive(TimeToLive())


def test_the_judge_does_not() -> None:
    assert not buried_alive(LeaseJudge())
