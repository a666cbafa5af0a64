"""Projections for the tests of runners, and the fold that says what is right."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from duramen.actors import AgentSystem
from duramen.events import Event
from duramen.projections import KeyedProjection, Projection, Runner
from waiting import eventually

__all__ = ["Count", "LastSeqs", "OpenSystem", "PerAgent", "expected_seqs", "parked", "seqs_of"]

OpenSystem = Callable[..., AgentSystem]
"""Opens one more system on the same log, as another process would; all are closed after the test."""


class LastSeqs(Projection[Mapping[str, list[int]]]):
    """All seqs of each agent, in the order in which they came: what is left out, doubled or swapped is seen."""

    def initial(self) -> Mapping[str, list[int]]:
        return {}

    def apply(self, state: Mapping[str, list[int]], event: Event) -> Mapping[str, list[int]]:
        return {**state, event.agent: [*state.get(event.agent, []), event.seq]}


class Count(Projection[int]):
    """How many events there were. `poison` are places at which it raises, `holding` one at which it waits."""

    def __init__(self, *poison: tuple[str, int], hold: threading.Event | None = None, at: int = 0) -> None:
        self.poison = set(poison)
        self.hold = hold
        self.at = at
        self.calls = 0
        self.reached = threading.Event()

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        self.calls += 1
        if (event.agent, event.seq) in self.poison:
            raise ZeroDivisionError("the payload was 42")
        if self.hold is not None and state + 1 == self.at:
            self.reached.set()
            self.hold.wait(60)
        return state + 1


class PerAgent(KeyedProjection[list[int]]):
    """As `LastSeqs`, an entry an agent. An agent that is terminated goes."""

    def __init__(self, *poison: tuple[str, int]) -> None:
        self.poison = set(poison)

    def key(self, event: Event) -> str | None:
        return None if event.type == "granularity_set" else event.agent

    def apply(self, entry: list[int] | None, event: Event) -> list[int] | None:
        if (event.agent, event.seq) in self.poison:
            raise ZeroDivisionError("the payload was 42")
        return None if event.type == "terminated" else [*(entry or []), event.seq]


def seqs_of(view: Any) -> dict[str, list[int]]:
    return dict(view)


def expected_seqs(system: AgentSystem) -> dict[str, list[int]]:
    """From the logs, one by one."""
    return {entry.agent: [event.seq for event in system.events(entry.agent)] for entry in system.agents()}


def parked(runner: Runner[Any]) -> None:
    eventually(lambda: runner.status == "parked", what="parked")
