"""Streams between hosts deliver each row once and in order, whatever their channels do."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from random import Random
from typing import Any

import pytest

from duramen.actors.hosts.links import FRAME_BYTES, Row, Window
from simulated_network import Faults, SimulatedHost, SimulatedNetwork

SCHEDULES = 1_200
SMALL = Window(frames=8, bytes=2 * FRAME_BYTES, queued_rows=10_000, least_frames=2, least_bytes=FRAME_BYTES + 1024)


class Checker:
    """What was sent and what arrived, for each ordered pair of hosts."""

    def __init__(self) -> None:
        self.sent: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self.arrived: dict[tuple[str, str], list[Row]] = defaultdict(list)

    def deliver_to(self, host: str) -> Any:
        return lambda peer, row: self.arrived[peer, host].append(row)

    def problems(self) -> list[str]:
        found = []
        for pair, sent in self.sent.items():
            arrived = self.arrived[pair]
            if arrived != sent[: len(arrived)]:
                first = next(i for i, row in enumerate(arrived) if i >= len(sent) or row != sent[i])
                found.append(f"{pair}: another row arrived in place {first}")
            elif len(arrived) < len(sent):
                found.append(f"{pair}: {len(sent) - len(arrived)} rows never arrived")
        return found


def faults_of(random: Random) -> Faults:
    return Faults(
        loss=random.choice((0, 0.02, 0.2, 0.5)),
        repeat=random.choice((0, 0.05, 0.3)),
        reorder=random.choice((0, 0.05, 0.3)),
        longest_delay=random.choice((0.001, 0.03)),
        content_loss=random.choice((0, 0.3)),
    )


def run_schedule(seed: int) -> tuple[Checker, list[SimulatedHost]]:
    """A schedule of sends, breaks and pauses between three hosts under faults; then the network heals."""
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
        network.at(when, partial(send_burst, checker, host, peer, number, size, burst))
    for _ in range(random.choice((0, 3))):
        host, when, seconds = random.choice(hosts), network.now + random.uniform(0, 2), random.uniform(0, 1.5)
        network.at(when, partial(random.choice((host.pause, host.break_subscription)), seconds))
    network.run(network.now + 4)
    network.heal()
    network.run(network.now + 60, while_=lambda: bool(checker.problems()))
    return checker, hosts


def send_burst(checker: Checker, host: SimulatedHost, peer: SimulatedHost, number: int, size: int, burst: int) -> None:
    for one in range(burst):
        row = ["ask", number, one, "x" * size]
        checker.sent[host.name, peer.name].append(row)
        host.send(peer.name, row)


@pytest.mark.parametrize("part", range(4))
def test_each_row_arrives_once_and_in_order_whatever_the_network_does(part: int) -> None:
    for seed in range(part, SCHEDULES, 4):
        checker, hosts = run_schedule(seed)
        assert not checker.problems(), f"schedule {seed}: {checker.problems()}"
        for host in hosts:
            assert host.most_unheard[0] <= 256 and host.most_unheard[1] <= 1024 * 1024, f"schedule {seed}"
