"""Replay for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from threading import Lock
from typing import Self, TypeVar

from duramen.events import Event
from duramen.projections import PastState, Replay

R = TypeVar("R")


class AsyncReplay:
    """`Replay` for asyncio: `await replay.step()`, or `async for event, state in replay`.

    Moves run in threads, one after another, also when tasks share the replay or one was cancelled. Read its position
    between moves, not during one.
    """

    __slots__ = ("_moving", "_replay")

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._moving = Lock()

    @property
    def agent(self) -> str:
        """As `Replay.agent`."""
        return self._replay.agent

    @property
    def from_seq(self) -> int:
        """As `Replay.from_seq`."""
        return self._replay.from_seq

    @property
    def to_seq(self) -> int:
        """As `Replay.to_seq`."""
        return self._replay.to_seq

    @property
    def seq(self) -> int:
        """As `Replay.seq`."""
        return self._replay.seq

    @property
    def event(self) -> Event | None:
        """As `Replay.event`."""
        return self._replay.event

    @property
    def state(self) -> PastState:
        """As `Replay.state`."""
        return self._replay.state

    async def step(self) -> tuple[Event, PastState] | None:
        """As `Replay.step`."""
        return await self._move(self._replay.step)

    async def back(self) -> tuple[Event, PastState] | None:
        """As `Replay.back`."""
        return await self._move(self._replay.back)

    async def seek(self, seq: int | None = None, *, time: datetime | None = None) -> PastState:
        """As `Replay.seek`."""
        return await self._move(lambda: self._replay.seek(seq, time=time))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Event, PastState]:
        found = await self.step()
        if found is None:
            raise StopAsyncIteration
        return found

    async def _move(self, move: Callable[[], R]) -> R:
        def move_alone() -> R:
            with self._moving:
                return move()

        return await asyncio.to_thread(move_alone)
