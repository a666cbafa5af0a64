"""Long-term memory for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from itertools import islice
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from duramen.events import Event

from ..episode_store import EpisodeStore

__all__ = ["AsyncEpisodes"]

P = ParamSpec("P")
R = TypeVar("R")

_PAGE: Final = 256


def _twin(
    call: Callable[Concatenate[EpisodeStore, P], R],
) -> Callable[Concatenate[AsyncEpisodes, P], Coroutine[Any, Any, R]]:
    """The awaitable twin of a call of `EpisodeStore`, with its arguments, result and documentation."""

    @wraps(call)
    async def twin(self: AsyncEpisodes, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(call, self.store, *args, **kwargs)

    return twin


class AsyncEpisodes:
    """`EpisodeStore` for asyncio: each call runs in a thread, and none blocks the loop.

    Cancelling a call does not stop what it has begun.
    """

    __slots__ = ("store",)

    def __init__(self, store: EpisodeStore) -> None:
        self.store = store

    get = _twin(EpisodeStore.get)
    list = _twin(EpisodeStore.list)
    search = _twin(EpisodeStore.search)

    async def events(self, episode_id: str) -> AsyncIterator[Event]:
        """As `EpisodeStore.events`: `async for event in system.aio.episodes.events(…)`."""
        events = await asyncio.to_thread(self.store.events, episode_id)
        while page := await asyncio.to_thread(tuple, islice(events, _PAGE)):
            for event in page:
                yield event
