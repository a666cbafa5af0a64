"""A log that lost its last events and got as many others: readers of the lost ones find out while all is quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest

from duramen.actors import AgentHandle, AgentSystem
from duramen.events import ConsumerParked, DataLoss, Diverged, Receipt
from duramen.events.model.cursor import Cursor
from duramen.projections.projection import Attachable
from faults.backups import copied, restored
from following import Count, LastSeqs, PerAgent, parked
from servers import Server, redis_server, valkey_server
from sinks import SqliteSeen
from waiting import eventually

AGENT = "acme/alice"
LOST = (DataLoss, Diverged)


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    start = valkey_server if request.param == "valkey" else redis_server
    with start() as running:
        yield running


class World:
    """A namespace, and another history of it that takes its place in one step."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.namespace = f"t{uuid4().hex}"
        with AgentSystem.open(server.url, namespace=self.namespace) as system:
            system.spawn(AGENT)
            before = copied(server, self.namespace)
            self.new = self.write(system.agent(AGENT), "new")
            self._other = copied(server, self.namespace, logs_only=True)
        restored(server, self.namespace, before)

    def open(self) -> AgentSystem:
        return AgentSystem.open(self.server.url, namespace=self.namespace)

    def write(self, agent: AgentHandle, value: str) -> Receipt:
        for number in range(3):
            receipt = agent.set("n", [value, number])
        return receipt

    def replace(self) -> None:
        """Lose the events that were written, and get as many others."""
        restored(self.server, self.namespace, self._other, logs_only=True)


@pytest.fixture
def world(server: Server) -> World:
    return World(server)


KINDS: dict[str, Callable[[Path], Attachable[Any]]] = {
    "whole": lambda _: LastSeqs(),
    "keyed": lambda _: PerAgent(),
    "sqlite": lambda folder: SqliteSeen(str(folder / "seqs.db")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_quiet_consumer_is_parked_when_its_log_was_replaced(world: World, kind: str, tmp_path: Path) -> None:
    with world.open() as system, system.attach(KINDS[kind](tmp_path), "seqs") as runner:
        runner.wait_for(world.write(system.agent(AGENT), "lost"), saved=True)
        beat = runner._consumer._beat_at
        eventually(lambda: runner._consumer._beat_at > beat and runner.status == "live", what="control: it is live")
        world.replace()
        parked(runner)
        assert isinstance(runner.error, LOST)
        eventually(lambda: system.consumers.get("seqs").status == "parked")


@pytest.mark.parametrize("kind", KINDS)
def test_no_wait_returns_for_a_view_of_a_replaced_log(world: World, kind: str, tmp_path: Path) -> None:
    with world.open() as system, system.attach(KINDS[kind](tmp_path), "seqs") as runner:
        last = world.write(system.agent(AGENT), "lost")
        runner.wait_for(last, saved=True)
        runner._consumer._beat_at = monotonic() + 1e6  # it never compares by itself
        runner.wait_for(last)
        world.replace()
        assert runner.status == "live", "control"
        for _ in range(2):
            with pytest.raises(LOST):
                runner.wait_for(world.new)
            with pytest.raises(LOST):
                runner.wait_for(saved=True)
        assert runner.status == "parked"
        runner._consumer._beat_at = 0.0
        runner.rebuild()
        runner.wait_for(world.new)
        assert runner.status == "live"


def test_a_consumer_that_is_parked_at_an_event_finds_out_too(world: World) -> None:
    with world.open() as system, system.attach(Count((AGENT, 3)), "count") as runner:
        world.write(system.agent(AGENT), "lost")
        parked(runner)
        assert isinstance(runner.error, ConsumerParked), "control"
        world.replace()
        eventually(lambda: isinstance(runner.error, LOST))
        with pytest.raises(LOST):
            runner.wait_for(world.new)


@pytest.mark.parametrize("values", [False, True])
def test_a_quiet_subscription_ends_when_its_log_was_replaced(world: World, values: bool) -> None:
    with world.open() as system, system.subscribe("acme/**", values=values) as subscription:
        last = world.write(system.agent(AGENT), "lost")
        assert [next(subscription).seq for _ in range(3)][-1] == last.seq
        follower: Any = system._hub._follower
        beat = follower._beat_at
        eventually(lambda: follower._beat_at > beat)
        assert not subscription.closed, "control"
        world.replace()
        eventually(lambda: subscription.closed)
        assert isinstance(subscription.error, LOST)


@pytest.mark.parametrize("values", [False, True])
def test_a_subscription_that_has_heard_nothing_ends_when_its_log_was_replaced(world: World, values: bool) -> None:
    with world.open() as system:
        world.write(system.agent(AGENT), "lost")
        with system.subscribe("acme/**", values=values) as subscription:
            follower: Any = system._hub._follower
            eventually(lambda: follower._beat_at > 0)
            beat = follower._beat_at
            eventually(lambda: follower._beat_at > beat)
            assert not subscription.closed, "control"
            world.replace()
            eventually(lambda: subscription.closed)
            assert isinstance(subscription.error, LOST)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_cursor_for_now_does_not_fit_another_log_of_the_same_length(world: World, replaced: bool) -> None:
    with world.open() as system:
        last = world.write(system.agent(AGENT), "lost")
        cursor = Cursor.from_text(system.cursor().to_text())
    if replaced:
        world.replace()
    with world.open() as system, system.subscribe("acme/**", after=cursor) as subscription:
        if replaced:
            eventually(lambda: subscription.closed)
            assert isinstance(subscription.error, LOST)
        else:
            assert system.agent(AGENT).set("n", "control").seq == last.seq + 1
            assert next(subscription).seq == last.seq + 1
    with world.open() as system, system.attach(LastSeqs(), "seqs", after=cursor) as runner:
        if replaced:
            parked(runner)
            assert isinstance(runner.error, LOST)
        else:
            runner.wait_for()


def test_an_episode_that_was_lost_is_not_listed(world: World) -> None:
    with world.open() as system:
        system.agent(AGENT).set("n", "lost")
        system.agent(AGENT).set("n", "lost")
        system.agent(AGENT).terminate("success")
        assert len(system.episodes.list()) == 1, "control"
        world.replace()
        with pytest.raises(LOST):
            system.episodes.list()
        assert system.episodes.list() == []
