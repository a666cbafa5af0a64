"""The server's clock as a host knows it, from questions that take their time."""

from __future__ import annotations

from attrs import define

from duramen.actors.hosts.server_clock import ServerClock

HOUR = 3_600_000_000
TRIP = 400


@define
class World:
    """A server and a machine with clocks in µs, between which each way takes half a round trip."""

    elapsed: int = 5_000_000
    server: int = 1_700_000_000_000_000
    machine: int = 1_700_000_000_000_000
    out: int = TRIP // 2
    back: int = TRIP // 2
    is_permitted: bool = True

    def pass_time(self, by: int) -> None:
        self.elapsed += by
        self.server += by
        self.machine += by

    def ask(self) -> int | None:
        self.pass_time(self.out)
        found = self.server
        self.pass_time(self.back)
        return found if self.is_permitted else None

    def clock(self) -> ServerClock:
        return ServerClock(self.ask, elapsed=lambda: self.elapsed, machine_time=lambda: self.machine)


def test_before_it_has_asked_it_tells_the_time_of_the_machine() -> None:
    world = World(machine=1_700_000_000_000_000 + HOUR)
    clock = world.clock()
    assert clock.now() == world.machine


def test_after_one_question_it_is_off_by_the_time_of_that_at_most() -> None:
    for ahead in (-HOUR, -TRIP, TRIP, HOUR):
        for out in (0, 100, TRIP // 2, TRIP):
            world = World(out=out, back=TRIP - out)
            world.machine += ahead
            clock = world.clock()
            clock.measure()
            assert abs(clock.now() - world.server) <= TRIP, (ahead, out)


def test_a_measurement_that_agrees_moves_nothing_however_long_it_took() -> None:
    world = World()
    clock = world.clock()
    world.out, world.back = 3_000_000, 10
    clock.measure()
    assert clock.now() == world.server


def test_a_machine_whose_clock_is_set_tells_the_same_time() -> None:
    world = World()
    clock = world.clock()
    world.machine -= HOUR
    world.pass_time(1_000_000)
    assert clock.now() == world.server


def test_a_server_whose_clock_is_set_is_followed_with_the_next_measurement() -> None:
    world = World()
    clock = world.clock()
    world.server += HOUR
    assert clock.now() == world.server - HOUR
    clock.measure()
    assert abs(clock.now() - world.server) <= TRIP // 2


def test_a_server_that_does_not_tell_is_taken_to_have_the_machines_time() -> None:
    world = World(is_permitted=False)
    clock = world.clock()
    world.machine += HOUR
    clock.measure()
    assert abs(clock.now() - world.machine) <= TRIP // 2
