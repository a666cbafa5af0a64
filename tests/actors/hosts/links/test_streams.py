"""Streams between hosts deliver each row once and in order, whatever their channels do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest

import msgpack
from duramen.actors.hosts.links import FRAME_BYTES, LinkState, Row, Window
from simulated_network import Faults, SimulatedHost, SimulatedNetwork

SMALL = Window(frames=8, bytes=2 * FRAME_BYTES, queued_rows=10_000, least_frames=2, least_bytes=FRAME_BYTES + 1024)


class Checker:
    """What was sent and what arrived, for each ordered pair of hosts."""

    def __init__(self) -> None:
        self.sent: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self.arrived: dict[tuple[str, str], list[Row]] = defaultdict(list)

    def deliver_to(self, host: str) -> Callable[[str, Row], None]:
        return lambda peer, row: self.arrived[peer, host].append(row)

    @property
    def misplaced(self) -> list[str]:
        """Pairs in which a row arrived twice, out of order, or without having been sent."""
        return [f"{pair}" for pair, arrived in self.arrived.items() if arrived != self.sent[pair][: len(arrived)]]

    @property
    def missing(self) -> list[str]:
        """Pairs in which not all rows have arrived."""
        return [f"{pair}" for pair, sent in self.sent.items() if len(self.arrived[pair]) < len(sent)]

    def send_burst(self, host: Any, peer: str, number: int, size: int, burst: int) -> None:
        for one in range(burst):
            row = ["ask", number, one, "x" * size]
            self.sent[host.name, peer].append(row)
            host.send(peer, row)


def faults_of(random: Random) -> Faults:
    return Faults(
        loss=random.choice((0, 0.02, 0.2, 0.5)),
        repeat=random.choice((0, 0.05, 0.3)),
        reorder=random.choice((0, 0.05, 0.3)),
        longest_delay=random.choice((0.001, 0.03)),
        content_loss=random.choice((0, 0.3)),
    )


def run_schedule(seed: int) -> tuple[Checker, list[SimulatedHost], Window]:
    """Run sends, breaks and pauses between three hosts under faults for four seconds; then the network heals."""
    random = Random(seed)
    network = SimulatedNetwork(seed, faults_of(random))
    checker = Checker()
    window = random.choice((SMALL, Window()))
    hosts = [network.add_host(name, checker.deliver_to(name), window=window) for name in ("a", "b", "c")]
    for number in range(random.choice((5, 40))):
        host, peer = random.sample(hosts, 2)
        when = network.now + random.uniform(0, 2)
        size = random.choice((0, 0, 10, 1000, FRAME_BYTES + 1 if number % 5 == 0 else 0))
        burst = random.choice((1, 1, 20))
        network.at(when, partial(checker.send_burst, host, peer.name, number, size, burst))
    for _ in range(random.choice((0, 3))):
        host, when, seconds = random.choice(hosts), network.now + random.uniform(0, 2), random.uniform(0, 1.5)
        network.at(when, partial(random.choice((host.pause, host.break_subscription)), seconds))
    network.run(network.now + 4)
    network.heal()
    network.run(network.now + 60, while_=lambda: bool(checker.missing))
    network.run(network.now + 25)  # what was heard is told, at the latest when it is asked for
    return checker, hosts, window


def check_schedules(seeds: range) -> None:
    for seed in seeds:
        checker, hosts, window = run_schedule(seed)
        assert not checker.misplaced, f"schedule {seed}"
        assert not checker.missing, f"schedule {seed}"
        for host in hosts:
            frames, size = host.most_unheard
            assert frames <= window.frames, f"schedule {seed}"
            assert size <= window.bytes, f"schedule {seed}"
            for peer in hosts:
                stream = host.links.stream(peer.name)
                assert stream is None or stream.is_settled, f"schedule {seed}: {host.name} still sends to {peer.name}"


@pytest.mark.slow
def test_each_row_arrives_once_and_in_order_whatever_the_network_does() -> None:
    check_schedules(range(60))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_each_row_arrives_once_and_in_order_in_a_thousand_schedules(part: int) -> None:
    check_schedules(range(60 + part * 250, 310 + part * 250))


def test_without_timers_rows_are_missing_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the tests above: the end of a stream, lost, is found by its timer alone."""
    monkeypatch.setattr(LinkState, "due", 1e12)
    assert any(run_schedule(seed)[0].missing for seed in range(20))


class MessageByMessage:
    """The control: each row is sent again by itself until it is acknowledged; `remembers` those that have arrived."""

    def __init__(
        self, network: SimulatedNetwork, name: str, deliver: Callable[[str, Row], None], remembers: bool
    ) -> None:
        self.name = name
        self._network = network
        self._deliver = deliver
        self._remembers = remembers
        self._unheard: dict[int, tuple[str, bytes]] = {}
        self._seen: set[tuple[str, int]] = set()
        self._numbers = count()

    def send(self, peer: str, row: Row) -> None:
        number = next(self._numbers)
        self._unheard[number] = peer, msgpack.packb([self.name, number, row])
        self._send_again(number)

    def _send_again(self, number: int) -> None:
        if number in self._unheard:
            self._network.publish(*self._unheard[number])
            self._network.at(self._network.now + 0.1, lambda: self._send_again(number))

    def receive(self, data: bytes) -> None:
        sender, number, row = msgpack.unpackb(data)
        if row is None:
            self._unheard.pop(number, None)
            return
        self._network.publish(sender, msgpack.packb([self.name, number, None]))
        if (sender, number) not in self._seen:
            self._deliver(sender, row)
        if self._remembers:
            self._seen.add((sender, number))


@pytest.mark.slow
@pytest.mark.parametrize("remembers", [True, False], ids=["ids-remembered", "ids-forgotten"])
def test_resending_message_by_message_breaks_the_order_and_the_checker_sees_it(remembers: bool) -> None:
    wrong = 0
    for seed in range(100):
        network, checker = SimulatedNetwork(seed, Faults(loss=0.02)), Checker()
        sender = MessageByMessage(network, "a", checker.deliver_to("a"), remembers)
        network.hosts = {"a": sender, "b": MessageByMessage(network, "b", checker.deliver_to("b"), remembers)}
        for number in range(100):
            network.at(network.now + number * 0.002, partial(checker.send_burst, sender, "b", number, 0, 1))
        network.run(network.now + 30)
        assert not checker.missing
        wrong += bool(checker.misplaced)
    assert wrong > 50


@pytest.mark.slow
def test_the_same_loss_disturbs_no_stream() -> None:
    for seed in range(100):
        network, checker = SimulatedNetwork(seed, Faults(loss=0.02)), Checker()
        sender = network.add_host("a", checker.deliver_to("a"))
        network.add_host("b", checker.deliver_to("b"))
        for number in range(100):
            network.at(network.now + number * 0.002, partial(checker.send_burst, sender, "b", number, 0, 1))
        network.run(network.now + 30)
        assert not checker.missing and not checker.misplaced
