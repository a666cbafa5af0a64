"""What all peers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from ..figures import Kind, Sample
from ..rounds import Wrong, timed
from ..work import Step, Work

__all__ = ["Peer"]


class Peer(ABC):
    """A library at the common work. Its module is imported only when it is measured: it may not be installed."""

    kind: Kind = "peer"
    name: str
    note: str

    def __init__(self, folder: Path, work: Work, mutations: int) -> None:
        self.folder = folder
        self.work = work
        self.mutations = mutations

    @abstractmethod
    def prepare(self) -> None:
        """Open the store and make the agents."""

    @abstractmethod
    def change(self, steps: list[Step]) -> None:
        """Make the mutations; each is as durable as it gets here when this returns."""

    @abstractmethod
    def stored(self, agent: int) -> tuple[dict[str, str], int]:
        """Of one agent, read anew from the store: its memory, and how many mutations are kept."""

    @abstractmethod
    def close(self) -> None: ...

    def run(self) -> Sample:
        steps = self.work.steps(self.mutations)

        def work() -> int:
            self.change(steps)
            return len(steps)

        return timed(work)

    def verify(self) -> None:
        for agent in range(self.work.agents):
            memory, count = self.stored(agent)
            if (memory, count) != (self.work.expected[agent], self.work.counts[agent]):
                raise Wrong(f"{self.name}: agent {agent} has another memory, or {count} mutations")
