"""The past of agents for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import datetime
from functools import wraps
from itertools import islice
from threading import Lock
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from duramen.events import AgentPath, Event, PropertyPath
from duramen.projections import PastState, PropertyChange, Replay

from ..history import History

__all__ = ["AsyncHistory", "AsyncReplay"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_EVENTS: Final = 256
"""Events that are read ahead in one thread call."""
_CHANGES: Final = 16
"""Changes of a property that are looked up ahead: each holds two copies of the value."""


def _twin(
    call: Callable[Concatenate[History, P], R],
) -> Callable[Concatenate[AsyncHistory, P], Coroutine[Any, Any, R]]:
    """The awaitable twin of a call of `History`, with its arguments, result and documentation."""

    @wraps(call)
    async def twin(self: AsyncHistory, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(call, self.past, *args, **kwargs)

    return twin


class AsyncHistory:
    """The calls of a system that look back, for asyncio: each runs in a thread, and none blocks the loop.

    A `progress` function is called in that thread. Cancelling a call does not stop what it has begun.
    """

    def __init__(self, past: History) -> None:
        self.past = past

    agents = _twin(History.agents)
    peek = _twin(History.peek)
    state_at = _twin(History.state_at)
    keep_keyframes = _twin(History.keep_keyframes)
    tree_at = _twin(History.tree_at)
    diff = _twin(History.diff)
    blame = _twin(History.blame)
    verify = _twin(History.verify)
    fork = _twin(History.fork)
    origin = _twin(History.origin)
    export_session = _twin(History.export_session)
    import_session = _twin(History.import_session)
    export_jsonl = _twin(History.export_jsonl)

    async def events(
        self, path: str | AgentPath, *, from_seq: int = 1, to_seq: int | None = None
    ) -> AsyncIterator[Event]:
        """As `AgentSystem.events`: `async for event in system.aio.events(…)`."""
        async for event in _in_pages(self.past.events(path, from_seq=from_seq, to_seq=to_seq), _EVENTS):
            yield event

    async def history(self, path: str | AgentPath, property: str | PropertyPath) -> AsyncIterator[PropertyChange]:
        """As `AgentSystem.history`: `async for event, old, new in system.aio.history(…)`."""
        changes = await asyncio.to_thread(self.past.history, path, property)
        async for change in _in_pages(changes, _CHANGES):
            yield change

    async def replay(
        self, path: str | AgentPath, from_seq: int | None = None, to_seq: int | None = None
    ) -> AsyncReplay:
        """As `AgentSystem.replay`; every move of it is awaited."""
        return AsyncReplay(await asyncio.to_thread(self.past.replay, path, from_seq, to_seq))


class AsyncReplay:
    """`Replay` for asyncio: `await replay.step()`, or `async for event, state in replay`.

    Moves are made in threads, one after another, also if tasks share it or one was cancelled meanwhile. Where it stands
    is to be looked at between moves.
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
        def moved() -> R:
            with self._moving:
                return move()

        return await asyncio.to_thread(moved)


async def _in_pages(found: Iterator[T], size: int) -> AsyncIterator[T]:
    while page := await asyncio.to_thread(tuple, islice(found, size)):
        for item in page:
            yield item
