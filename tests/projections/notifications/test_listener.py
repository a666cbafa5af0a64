"""Who hears too much looks instead, now and then; nothing is missed by that, and it listens again afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from math import inf
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest

from contracts.authors import Author
from contracts.feeds import body
from duramen.actors import AgentSystem, Set
from duramen.events import MemoryLog, Unavailable
from duramen.projections.notifications.channels import Channels
from duramen.projections.notifications.listener import Listener
from duramen.projections.notifications.overload import Overload
from duramen.projections.subscriptions.change import Change
from following import Count
from servers import valkey_server
from waiting import eventually


class Told:
    """Who hears: how far each partition has come."""

    def __init__(self, *partitions: int) -> None:
        self.partitions = frozenset(partitions)
        self.hints: dict[int, int] = {}

    def tell(self, hints: Mapping[int, int]) -> None:
        self.hints = self.hints | dict(hints)


class Hasty(MemoryLog):
    """Counts how often somebody looks where its feeds end."""

    def __init__(self) -> None:
        super().__init__(partitions=2)
        self.looks = 0
        self.away = False

    def positions(self) -> list[int]:
        self.looks += 1
        if self.away:
            raise Unavailable("it is away")
        return super().positions()


@pytest.fixture
def log() -> Hasty:
    return Hasty()


@pytest.fixture
def listener(log: Hasty) -> Iterator[Listener]:
    listener = Listener(log, 4)
    listener.start()
    yield listener
    listener.stop()
    assert listener.wait(10)


def stream(log: MemoryLog, author: Author, until: threading.Event) -> threading.Thread:
    """Somebody who writes without a pause."""

    def write() -> None:
        while not until.is_set():
            author.write(body(1))

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_under_a_stream_it_looks_and_when_that_ends_it_listens_again(log: Hasty, listener: Listener) -> None:
    author, told, enough = Author(log, "acme/alice"), Told(0, 1), threading.Event()
    partition = log.partition_of(author.agent)
    listener.add(told)
    author.write(body(1))
    eventually(lambda: told.hints.get(partition) in (0, 1))
    assert log.looks == 0, "control: one event is heard of"
    thread = stream(log, author, enough)
    try:
        eventually(lambda: log.looks > 2)
        assert listener._looks
    finally:
        enough.set()
        thread.join(10)
    eventually(lambda: not listener._looks)
    eventually(lambda: told.hints.get(partition) in (0, author.seq))
    looks = log.looks
    author.write(body(2))
    eventually(lambda: told.hints.get(partition) == author.seq)
    assert log.looks == looks, "and hears again"


def test_it_listens_where_it_cannot_look(log: Hasty, listener: Listener) -> None:
    author, told, enough = Author(log, "acme/alice"), Told(0, 1), threading.Event()
    listener.add(told)
    log.away = True
    thread = stream(log, author, enough)
    try:
        eventually(lambda: log.looks > 1)
    finally:
        enough.set()
        thread.join(10)
    eventually(lambda: told.hints.get(log.partition_of(author.agent)) in (0, author.seq))


def test_a_feed_that_has_become_shorter_is_to_be_looked_at() -> None:
    log = Hasty()
    listener = Listener(log, 4)
    listener._ends = {0: 7, 1: 0}
    assert listener._look(frozenset((0, 1))) == {0: 0}
    assert listener._look(frozenset((0, 1))) == {}
    listener._stream.close()


def test_a_consumer_leaves_the_channels_under_a_stream_and_has_seen_everything() -> None:
    with valkey_server() as server, AgentSystem.open(server.url, namespace=f"n{uuid4().hex}") as system:
        alice = system.spawn("acme/alice", initial_state={"n": 0})
        client: Any = server.client()
        with system.attach(Count(), "count") as runner:
            eventually(lambda: bool(client.pubsub_channels()))
            written, left = 0, False
            until = monotonic() + 60
            while not left and monotonic() < until:
                for reply in [alice.ask(Set("n", number), block=False) for number in range(200)]:
                    receipt = reply.get(timeout=30)
                written += 200
                left = not client.pubsub_channels()
            assert left
            runner.wait_for(receipt)
            assert runner.state == written + 1
            eventually(lambda: bool(client.pubsub_channels()), what="back on the channels")
            runner.wait_for(alice.set("n", -1))
            assert runner.state == written + 2
        client.close()


def test_a_subscription_that_sleeps_leaves_the_channels_and_misses_nothing() -> None:
    with valkey_server() as server, AgentSystem.open(server.url, namespace=f"n{uuid4().hex}") as system:
        alice = system.spawn("acme/alice", initial_state={"n": 0})
        client: Any = server.client()
        morning, seen = threading.Event(), list[int]()

        def sleep(change: Change) -> None:
            morning.wait(60)
            seen.append(change.seq)

        with system.subscribe("acme/alice/**", sleep, buffer=10) as subscription:
            eventually(lambda: bool(client.pubsub_channels()))
            for number in range(8):
                alice.set("n", number)
            eventually(lambda: subscription.lag == 8)
            assert client.pubsub_channels(), "control: as long as there is room, it listens"
            for number in range(20):
                alice.set("n", number)
            eventually(lambda: not client.pubsub_channels())
            for number in range(20):
                alice.set("n", number)
            morning.set()
            eventually(lambda: len(seen) == 48)
            eventually(lambda: bool(client.pubsub_channels()), what="back on the channels")
            alice.set("n", -1)
            eventually(lambda: len(seen) == 49)
            assert seen == list(range(seen[0], seen[0] + 49))
        client.close()


def test_what_somebody_waits_for_is_read_though_nobody_tells_of_it() -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log) as system:
        alice = system.spawn("acme/alice", initial_state={"n": 0})
        with system.attach(Count(), "count") as runner:
            runner.wait_for()
            runner._consumer._beat_at = inf  # it never looks by itself
            system._consumers._ears._listeners[4]._hearers = ()  # and hears nothing
            receipt = alice.set("n", 1)
            assert runner.state == 1, "control"
            runner.wait_for(receipt)
            assert runner.state == 2


def test_one_crowded_turn_is_no_overload_and_many_in_a_row_are() -> None:
    overload = Overload()
    overload.heard(10_000)
    assert not overload.looks
    for _ in range(100):
        overload.heard(1)
    assert not overload.looks
    for _ in range(50):
        overload.heard(1_000)
    assert overload.looks


def test_an_overload_that_comes_back_at_once_lasts_longer() -> None:
    overload = Overload()
    lasted: list[float] = []
    for _ in range(6):
        while not overload.looks:
            overload.heard(1_000)
        lasted.append(round(overload.until - monotonic()))
        overload.until = monotonic()  # it is over
    assert lasted == [2, 4, 8, 16, 16, 16]
    overload.until = monotonic() - 60.0
    while not overload.looks:
        overload.heard(1_000)
    assert round(overload.until - monotonic()) == 2


def test_channels_are_left_while_there_is_too_much_and_then_looked_at_anew() -> None:
    log = MemoryLog(partitions=2)
    author = Author(log, "acme/alice")
    partition = log.partition_of(author.agent)
    channels = Channels(log.notices(events=True))
    channels.follow((0, 1), 4)
    assert channels.receive(0.0)[0] == {0: 0, 1: 0}
    author.write(body(1))
    hints, told = channels.receive(0.0)
    assert (hints, len(told)) == ({partition: 1}, 1)
    channels._overload.until = inf
    assert channels.deaf
    channels.receive(0.0)
    author.write(body(2))
    assert channels.receive(0.0) == ({}, [])
    channels.follow((0,), 4)
    assert channels.receive(0.0) == ({}, []), "what is wanted now waits, too"
    channels._overload.until = 0.0
    channels.receive(0.0)
    assert channels.receive(0.0)[0] == {0: 0}
    channels.close()
