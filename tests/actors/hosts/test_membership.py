"""Hosts that beat, see each other, bury the dead and find out that they were buried."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from attrs import define, evolve, field

from duramen.actors.hosts import HostEvents, Membership, this_process
from duramen.events import NotPermitted, Unavailable
from duramen.events.log.host_store import HostRecord
from duramen.events.memory.log import MemoryLog
from waiting import eventually

ROUND = 2.5
ELSEWHERE = ("another boot", 1, 1, 1)


@define(eq=False)
class World:
    """One log, and hosts on it that beat when a test says so, by a clock of the test's."""

    now: float = 1_000_000.0
    log: MemoryLog = field()
    died: list[tuple[str, str, bool]] = field(factory=list)
    buried: list[tuple[str, str]] = field(factory=list)
    made: list[Membership] = field(factory=list)

    @log.default
    def _make_log(self) -> MemoryLog:
        return MemoryLog(clock=lambda: self.now)

    def host(self, name: str = "", **options: Any) -> Membership:
        """A host whose thread never comes to beat; it runs on a machine of its own, as far as others can tell."""
        events = HostEvents(
            lambda dead, closed: self.died.append((name, dead, closed)), lambda *ids: self.buried.append(ids)
        )
        membership = Membership(
            self.log.hosts, events, clock=lambda: self.now, wall_clock=lambda: self.now, period=86_400, **options
        )
        membership.start()
        self.made.append(membership)
        return membership

    def pass_time(self, *hosts: Membership, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.now += ROUND
            for host in hosts:
                host.beat()

    def join(self, host: str = "f" * 32, **fields: Any) -> HostRecord:
        """A host that is only a row: of a process on another machine, unless told otherwise."""
        record = evolve(HostRecord(host, 0, "up", ELSEWHERE), **fields)
        self.log.hosts.join(record)
        return record


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    for membership in world.made:
        membership.close()


@pytest.mark.parametrize("is_buried", [False, True])
def test_after_a_sleep_nothing_begins_before_it_is_known_who_is_dead(world: World, is_buried: bool) -> None:
    begun: list[bool] = []
    host, other = world.host("a"), world.join()
    host._events = HostEvents(lambda dead, closed: begun.append(host.may_begin()), lambda *ids: None)
    world.now += 60
    assert world.log.hosts.bury(other.host, 0)
    assert not host.was_buried(other.host), "it is not known here yet"
    if is_buried:
        assert world.log.hosts.bury(host.host, 0)
    assert not host.may_begin()
    host.beat()
    assert begun == [False]
    assert host.was_buried(other.host) and host.may_begin()


def test_a_host_that_has_closed_was_not_buried(world: World) -> None:
    host, other = world.host("a"), world.host("b")
    other.close()
    world.pass_time(host)
    assert host.state_of(other.host) == "dead" and not host.was_buried(other.host)


def test_a_host_is_listed_with_what_it_runs(world: World) -> None:
    host = world.host(agent_types=lambda: ["writer", "planner"], message_types=lambda: ["find"], load=lambda: 3)
    (found,) = world.log.hosts.hosts()
    assert found == HostRecord(host.host, 0, "up", this_process(), 1, ("planner", "writer"), ("find",), 3)
    assert [one.host for one in host.hosts()] == [host.host]
    assert host.state_of(host.host) == "up"


def test_what_is_registered_later_is_announced(world: World) -> None:
    types: list[str] = []
    host, other = world.host(agent_types=lambda: types), world.host()
    types.append("planner")
    host.announce()
    other.refresh()
    assert {one.host: one.agent_types for one in other.hosts()}[host.host] == ("planner",)


def test_hosts_that_beat_are_never_buried(world: World) -> None:
    one, two = world.host("one"), world.host("two")
    world.pass_time(one, two, rounds=100)
    assert (world.died, world.buried) == ([], [])
    assert one.state_of(two.host) == two.state_of(one.host) == "up"


def test_a_host_that_beats_no_more_is_buried_after_a_lease(world: World) -> None:
    one = world.host("one")
    dead = world.join()
    world.pass_time(one, rounds=4)
    assert one.state_of(dead.host) == "up"
    world.pass_time(one)
    assert one.state_of(dead.host) == "dead"
    assert world.died == [("one", dead.host, False)]
    found = world.log.hosts.find(dead.host)
    assert found is not None and found.state == "buried"


def seconds_until_dead(world: World, host: Membership, dead: HostRecord) -> float:
    """How long it takes until others find a host dead whose last beat is now; `host` has beaten at a whole round."""
    died_at = world.now
    rounds = cycle((host.look_between, host.beat))
    at = died_at - died_at % ROUND
    while all(found[1] != dead.host for found in world.died):
        at, look = at + ROUND / 2, next(rounds)
        if at >= died_at:
            world.now = at
            look()
    return world.now - died_at


@pytest.mark.parametrize("age", [0.0, 0.25, 1.0, 1.25, 1.5, 2.25])
def test_a_host_that_dies_is_dead_for_another_within_its_lease_and_two_seconds(world: World, age: float) -> None:
    one = world.host("one")
    world.pass_time(one)
    world.now += age
    assert 10.0 <= seconds_until_dead(world, one, world.join()) <= 11.5


def test_a_host_among_very_many_looks_at_them_once_a_beat(world: World) -> None:
    """Control: then a dead one is found later, at worst after the time between two beats and a lease."""
    one = world.host("one")
    world.pass_time(one)
    many = [world.join(f"{number:032x}") for number in range(64)]
    one.refresh()
    world.now += 0.25
    assert seconds_until_dead(world, one, world.join()) == 12.25
    assert {found[1] for found in world.died} >= {record.host for record in many}


def test_a_host_whose_own_beats_fail_buries_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = world.host("one")
    dead = world.join()
    world.pass_time(one, rounds=4)

    def refuse(*_: object) -> None:
        raise Unavailable("the server is lost")

    with monkeypatch.context() as patch:
        patch.setattr(world.log.hosts, "beat", refuse)
        for _ in range(3):
            with pytest.raises(Unavailable):
                world.pass_time(one)
            one.look_between()  # which begins no lease: this host's beats do not go through
    world.pass_time(one, rounds=4)
    assert world.died == []
    world.pass_time(one)
    assert world.died == [("one", dead.host, False)]


def test_a_host_that_slept_gives_the_others_a_full_lease(world: World) -> None:
    one, two = world.host("one"), world.host("two")
    world.pass_time(one, two)
    world.now += 3600
    one.beat()
    assert world.died == []
    two.beat()
    world.pass_time(one, two, rounds=10)
    assert (world.died, world.buried) == ([], [])


def test_a_host_that_was_buried_joins_again_as_another(world: World) -> None:
    one, two = world.host("one"), world.host("two", load=lambda: 5)
    old = two.host
    world.pass_time(one, two)
    world.pass_time(one, rounds=5)  # the other one is stopped
    assert world.died == [("one", old, False)]
    assert not two.may_begin()
    two.beat()
    assert world.buried == [(old, two.host)]
    assert two.host != old
    assert two.may_begin()
    assert two.state_of(old) == "dead"
    one.refresh()
    assert one.state_of(two.host) == "up"
    assert one.state_of(old) == "dead"


def test_nothing_may_begin_six_seconds_after_the_last_beat_that_went_through(world: World) -> None:
    one = world.host()
    world.now += 5.9
    assert one.may_begin()
    world.now += 0.1
    assert not one.may_begin()
    one.beat()
    assert one.may_begin()


def test_a_beat_counts_from_when_it_was_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = world.host()
    beat = world.log.hosts.beat

    def slow(host: str, load: int) -> int | None:
        world.now += 5.0
        return beat(host, load)

    monkeypatch.setattr(world.log.hosts, "beat", slow)
    one.beat()
    world.now += 1.0
    assert not one.may_begin(), "others may have seen this beat for six seconds"


def test_a_host_that_closes_is_dead_at_once_and_said_to_have_closed(world: World) -> None:
    one, two = world.host("one"), world.host("two")
    two.drain()
    one.refresh()
    assert one.state_of(two.host) == "draining"
    assert two.is_draining
    two.close()
    two.close()
    one.refresh()
    assert one.state_of(two.host) == "dead"
    assert world.died == [("one", two.host, True)]


def test_a_host_that_could_not_answer_all_buries_itself(world: World) -> None:
    one, two = world.host("one"), world.host("two")
    one.refresh()
    two.close(is_clean=False)
    assert one.state_of(two.host) == "up", "as last read"
    one.beat()
    assert one.state_of(two.host) == "dead"
    assert world.died == [("one", two.host, False)]


def test_a_host_without_a_row_is_dead(world: World) -> None:
    one = world.host("one")
    assert one.state_of("e" * 32) == "dead"
    assert one.state_of("e" * 32) == "dead"
    assert world.died == [("one", "e" * 32, False)]


def test_a_host_that_joined_since_the_last_look_is_known_when_it_is_asked_for(world: World) -> None:
    one = world.host()
    assert one.state_of(world.join().host) == "up"


def test_rows_of_hosts_that_ended_are_removed_after_an_hour(world: World) -> None:
    one = world.host()
    closed, living = world.join("d" * 32), world.join("c" * 32)
    world.log.hosts.set_state(closed.host, "closed")
    for _ in range(3600 // 2):
        world.log.hosts.beat(living.host, 0)
        world.pass_time(one)
        if world.now - 1_000_000 <= 3600:
            assert world.log.hosts.find(closed.host) is not None
    assert [found.host for found in world.log.hosts.hosts()] == sorted([living.host, one.host])
    assert one.state_of(closed.host) == "dead"


def test_a_server_that_refuses_to_list_a_host_lets_it_read_and_begin_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Unavailable("the server refuses writes")

    with monkeypatch.context() as patch:
        patch.setattr(world.log.hosts, "join", refuse)
        one = world.host()
        assert not one.may_begin()
        assert one.hosts() == []
    one.beat()
    assert one.may_begin()
    assert [found.host for found in world.log.hosts.hosts()] == [one.host]


def test_a_user_who_may_not_list_hosts_knows_those_it_asks_for_and_buries_none_of_other_machines(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise NotPermitted("this user may not run HSCAN")

    there = world.join()
    monkeypatch.setattr(world.log.hosts, "hosts", refuse)
    one = world.host()
    world.pass_time(one, rounds=20)
    assert one.may_begin()
    assert one.state_of(there.host) == "up"
    world.log.hosts.set_state(world.join("e" * 32).host, "closed")
    assert one.state_of("e" * 32) == "dead"


@pytest.mark.slow
def test_the_thread_beats_by_itself_and_survives_what_the_callbacks_raise(world: World) -> None:
    told = threading.Event()

    def fail(*_: object) -> None:
        told.set()
        raise RuntimeError("a defect")

    host = Membership(world.log.hosts, HostEvents(fail, fail), period=0.01)
    host.start()
    try:
        world.log.hosts.set_state(world.join().host, "closed")
        assert told.wait(30)
        seen = world.log.hosts.find(host.host)
        assert seen is not None
        eventually(lambda: world.log.hosts.find(host.host) != seen, 30)
    finally:
        host.close()


# -- processes ---------------------------------------------------------------------------------------------------------

PROCESS = """
import sys
from duramen.actors.hosts import this_process
print(*this_process(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[str], tuple[str, int, int, int]]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        boot, *numbers = process.stdout.readline().split()
        namespace, pid, started = map(int, numbers)
        yield process, (boot, namespace, pid, started)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_host_whose_process_was_killed_here_is_dead_at_once(world: World, process: Any) -> None:
    one = world.host("one")
    killed, machine = process
    host = world.join(machine=machine).host
    assert one.state_of(host) == "up"
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    assert one.state_of(host) == "dead"
    found = world.log.hosts.find(host)
    assert found is not None and found.state == "buried"


@pytest.mark.slow
def test_a_host_whose_process_was_killed_here_is_buried_at_the_next_look(world: World, process: Any) -> None:
    killed, machine = process
    one, host = world.host("one"), world.join(machine=machine).host
    killed.kill()
    killed.wait(30)
    world.pass_time(one)
    assert world.died == [("one", host, False)]


@pytest.mark.slow
def test_a_host_whose_process_is_stopped_here_has_its_lease(world: World, process: Any) -> None:
    one = world.host("one")
    stopped, machine = process
    stopped.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
    host = world.join(machine=machine).host
    world.pass_time(one, rounds=4)
    assert one.state_of(host) == "up"
    world.pass_time(one)
    assert one.state_of(host) == "dead"
