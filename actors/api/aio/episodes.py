"""Long-term memory for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from duramen.events import Event

from ..episode_store import EpisodeStore
from .twins import AsyncTwin, in_pages, twin_of

_PAGE: Final = 256
"""Events read ahead in one thread call."""


class AsyncEpisodes(AsyncTwin[EpisodeStore]):
    """`EpisodeStore` for asyncio: each call runs in a thread and does not block the loop.

    Cancelling a call does not stop the work it has started.
    """

    __slots__ = ()

    get = twin_of(EpisodeStore.get)
    list = twin_of(EpisodeStore.list)
    search = twin_of(EpisodeStore.search)

    async def events(self, episode_id: str) -> AsyncIterator[Event]:
        """As `EpisodeStore.events`: `async for event in system.aio.episodes.events(…)`."""
        events = await asyncio.to_thread(self.original.events, episode_id)
        async for event in in_pages(events, _PAGE):
            yield event
