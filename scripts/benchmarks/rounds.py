"""Contenders take turns, round after round, so that what the machine does meanwhile touches all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

from .figures import Kind, Sample, Series
from .servers import Server

__all__ = ["Contender", "Wrong", "alternate", "timed", "timed_calls"]


class Wrong(AssertionError):
    """A contender did not do the work that was measured."""


class Contender(Protocol):
    """Does the work of one row. Prepared before the first round, verified after the last one."""

    @property
    def kind(self) -> Kind: ...

    @property
    def name(self) -> str: ...

    @property
    def note(self) -> str:
        """How it does the work."""
        ...

    def prepare(self) -> None: ...

    def run(self) -> Sample:
        """One round."""
        ...

    def verify(self) -> None:
        """Look at what is stored. Raises Wrong unless it is all the work of all rounds."""
        ...

    def close(self) -> None: ...


def alternate(contenders: Sequence[Contender], rounds: int, *, warm_up: bool = True) -> list[Series]:
    """Prepare all, let them take turns, verify all. The warm-up round is not counted."""
    samples: list[list[Sample]] = [[] for _ in contenders]
    with ExitStack() as stack:
        for contender in contenders:
            stack.callback(contender.close)
            contender.prepare()
        for number in range(-1 if warm_up else 0, rounds):
            for contender, own in zip(contenders, samples, strict=True):
                gc.collect()  # what the one before left behind is not this one's cost
                sample = contender.run()
                if number >= 0:
                    own.append(sample)
        for contender in contenders:
            contender.verify()
    return [
        Series(contender.kind, contender.name, tuple(own), contender.note)
        for contender, own in zip(contenders, samples, strict=True)
    ]


def timed(work: Callable[[], int], server: Server | None = None) -> Sample:
    """Run `work`, which returns how many operations it did, and time it."""
    server_before = server.cpu_seconds() if server else 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    operations = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Sample(operations, wall, cpu, server.cpu_seconds() - server_before if server else 0.0)


def timed_calls(calls: Sequence[Callable[[], object]], server: Server | None = None) -> Sample:
    """Make the calls one after the other, and time each."""
    latencies: list[float] = []

    def work() -> int:
        for call in calls:
            started = time.perf_counter()
            call()
            latencies.append(time.perf_counter() - started)
        return len(calls)

    sample = timed(work, server)
    return Sample(sample.operations, sample.wall, sample.cpu, sample.server, tuple(latencies))
