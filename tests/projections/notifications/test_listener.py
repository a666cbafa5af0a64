"""A listener that hears too much polls instead; nothing is missed by that, and it listens again afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from math import inf
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest

from contracts.authors import Author
from contracts.feeds import body
from duramen.actors import AgentHandle, AgentSystem, Set
from duramen.events import MemoryLog, Receipt, Unavailable
from duramen.projections.notifications import overload as overload_module
from duramen.projections.notifications.listener import Listener
from duramen.projections.notifications.overload import Overload
from duramen.projections.subscriptions.change import Change
from following import Count
from servers import valkey_server
from waiting import eventually


def notice_channels(client: Any) -> list[bytes]:
    """The channels of notices that somebody listens to; each system listens to its own channel besides."""
    return [name for name in client.pubsub_channels() if not name.endswith(b":in")]


class PolledLog(MemoryLog):
    """Counts how often its ends are asked for."""

    def __init__(self) -> None:
        super().__init__(partitions=2)
        self.polls = 0
        self.away = False

    def positions(self) -> list[int]:
        self.polls += 1
        if self.away:
            raise Unavailable("it is away")
        return super().positions()


@pytest.fixture
def log() -> PolledLog:
    return PolledLog()


@pytest.fixture
def author(log: PolledLog) -> Author:
    return Author(log, "acme/alice")


@pytest.fixture
def listener(log: PolledLog) -> Iterator[Listener]:
    listener = Listener(log, events=True)
    listener.follow((0, 1), 4)
    assert listener.receive(0.0)[0] == {0: 0, 1: 0}
    yield listener
    listener.close()


def crowd(listener: Listener, author: Author) -> None:
    """Let more gather at each turn than the listener keeps up with."""
    for _ in range(100):
        for _ in range(40):
            author.write(body(1))
        listener.receive(0.0)
        if listener.is_polling:
            return
    raise AssertionError("it never polls")


def test_it_polls_under_a_stream_and_listens_again_when_few_events_come(
    log: PolledLog, listener: Listener, author: Author
) -> None:
    partition = log.partition_of(author.agent)
    author.write(body(1))
    hints, batches = listener.receive(0.0)
    assert (hints, len(batches), log.polls) == ({partition: 1}, 1, 0), "control: one event is heard of"
    crowd(listener, author)
    author.write(body(1))
    assert listener.receive(inf) == ({partition: author.seq}, []), "the first poll finds all"
    assert listener.is_polling
    for _ in range(20):
        author.write(body(1))
    assert listener.receive(inf) == ({partition: author.seq}, [])
    assert listener.is_polling, "control: twenty are not few"
    author.write(body(1))
    assert listener.receive(inf) == ({partition: author.seq}, [])
    assert not listener.is_polling
    assert listener.receive(0.0)[0] == {0: 0, 1: 0}, "events between poll and subscription are read"
    polls = log.polls
    author.write(body(2))
    hints, batches = listener.receive(0.0)
    assert (hints, len(batches), log.polls) == ({partition: author.seq}, 1, polls), "it hears again"


def test_a_poll_waits_until_it_is_due_or_woken(log: PolledLog, listener: Listener, author: Author) -> None:
    crowd(listener, author)
    listener.receive(inf)
    listener._poll_at = inf
    author.write(body(1))
    assert listener.receive(0.0) == ({}, [])
    listener.wake()
    assert listener.receive(60.0) == ({}, [])
    assert log.polls == 1


def test_it_listens_where_it_cannot_poll(log: PolledLog, listener: Listener, author: Author) -> None:
    crowd(listener, author)
    log.away = True
    assert listener.receive(inf) == ({}, [])
    assert log.polls == 1
    assert not listener.is_polling
    assert listener.receive(0.0)[0] == {0: 0, 1: 0}


def test_a_feed_that_has_become_shorter_is_to_be_read(log: PolledLog, listener: Listener, author: Author) -> None:
    crowd(listener, author)
    listener.receive(inf)
    partition = log.partition_of(author.agent)
    listener._ends[partition] += 100
    assert listener.receive(inf)[0] == {partition: 0}


def test_channels_wanted_while_it_polls_are_followed_afterwards(
    log: PolledLog, listener: Listener, author: Author
) -> None:
    crowd(listener, author)
    listener._poll_at = inf
    listener.follow((0,), 4)
    assert listener.receive(0.0) == ({}, [])
    listener._overload.end()
    assert listener.receive(0.0)[0] == {0: 0}


@pytest.mark.slow
def test_a_consumer_leaves_the_channels_under_a_stream_and_has_seen_everything() -> None:
    with valkey_server() as server, AgentSystem.open(server.url, namespace=f"n{uuid4().hex}") as system:
        agents = [system.spawn(f"project-{number}/alice", initial_state={"n": 0}) for number in range(32)]
        client: Any = server.client()
        with system.attach(Count(), "count") as runner:
            eventually(lambda: bool(notice_channels(client)))
            written, until = len(agents), monotonic() + 60
            while notice_channels(client) and monotonic() < until:
                receipts = write_to_all(agents)
                written += len(receipts)
            assert not notice_channels(client)
            runner.wait_for(receipts)
            assert runner.state == written
            eventually(lambda: bool(notice_channels(client)), what="back on the channels")
            runner.wait_for(agents[0].set("n", -1))
            assert runner.state == written + 1
        client.close()


def write_to_all(agents: list[AgentHandle]) -> list[Receipt]:
    return [reply.get(timeout=30) for reply in [agent.ask(Set("n", 1), block=False) for agent in agents * 10]]


@pytest.mark.slow
def test_a_subscription_that_sleeps_leaves_the_channels_and_misses_nothing() -> None:
    with valkey_server() as server, AgentSystem.open(server.url, namespace=f"n{uuid4().hex}") as system:
        alice = system.spawn("acme/alice", initial_state={"n": 0})
        client: Any = server.client()
        morning, seen = threading.Event(), list[int]()

        def sleep(change: Change) -> None:
            morning.wait(60)
            seen.append(change.seq)

        with system.subscribe("acme/alice/**", sleep, buffer=10) as subscription:
            eventually(lambda: bool(notice_channels(client)))
            for number in range(8):
                alice.set("n", number)
            eventually(lambda: subscription.lag == 8)
            assert notice_channels(client), "control: as long as there is room, it listens"
            for number in range(20):
                alice.set("n", number)
            eventually(lambda: not notice_channels(client))
            for number in range(20):
                alice.set("n", number)
            morning.set()
            eventually(lambda: len(seen) == 48)
            eventually(lambda: bool(notice_channels(client)), what="back on the channels")
            alice.set("n", -1)
            eventually(lambda: len(seen) == 49)
            assert seen == list(range(seen[0], seen[0] + 49))
        client.close()


def test_events_that_a_caller_waits_for_are_read_without_a_notice() -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log) as system:
        alice = system.spawn("acme/alice", initial_state={"n": 0})
        with system.attach(Count(), "count") as runner:
            runner.wait_for()
            runner._consumer._beat_at = monotonic() + 3_600.0  # it does not ask the log by itself
            system._consumers._listeners._threads[4]._inlets = ()  # and hears nothing
            receipt = alice.set("n", 1)
            assert runner.state == 1, "control"
            runner.wait_for(receipt)
            assert runner.state == 2


def test_one_crowded_turn_is_no_overload_and_many_in_a_row_are() -> None:
    overload = Overload()
    assert not overload.note(10_000)
    for _ in range(100):
        overload.note(1)
    assert not overload.lasts
    assert any(overload.note(1_000) for _ in range(50))
    assert overload.lasts


def test_an_overload_that_comes_back_at_once_lasts_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(overload_module, "monotonic", lambda: now)
    overload = Overload()
    lasted: list[float] = []
    for _ in range(6):
        while not overload.lasts:
            overload.note(1_000)
        lasted.append(overload.until - now)
        overload.end()
    assert lasted == [2, 4, 8, 16, 16, 16]
    now += 60.0
    while not overload.lasts:
        overload.note(1_000)
    assert overload.until - now == 2
