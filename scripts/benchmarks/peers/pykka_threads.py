"""Pykka as it comes: a thread an agent, its memory in a dict; nothing is durable."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pykka

from ..work import Step, Work
from .peer import Peer

__all__ = ["PykkaThreads"]


class _Memory(pykka.ThreadingActor):
    use_daemon_thread = True

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[str, str] = {}
        self.count = 0

    def on_receive(self, message: Any) -> Any:
        if message is None:
            return dict(self.items), self.count
        key, text = message
        self.items[key] = text
        self.count += 1
        return self.count


class PykkaThreads(Peer):
    note = "NOT durable: memory only; as many calls in flight as duramen"

    def __init__(self, folder: Path, work: Work, mutations: int, in_flight: int = 4_000) -> None:
        super().__init__(folder, work, mutations)
        self._in_flight = in_flight

    def prepare(self) -> None:
        self._actors: list[Any] = [_Memory.start() for _ in range(self.work.agents)]

    def change(self, steps: list[Step]) -> None:
        waiting: deque[Any] = deque()
        for agent, key, text in steps:
            waiting.append(self._actors[agent].ask((key, text), block=False))
            if len(waiting) >= self._in_flight:
                waiting.popleft().get(timeout=60)
        for reply in waiting:
            reply.get(timeout=60)

    def stored(self, agent: int) -> tuple[dict[str, str], int]:
        memory, count = self._actors[agent].ask(None, timeout=60)
        return memory, count

    def close(self) -> None:
        for actor in self._actors:
            actor.stop(timeout=60)
