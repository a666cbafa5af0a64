"""Durable consumers for asyncio."""

from __future__ import annotations

from duramen.projections.consumers import Consumers

from .twins import AsyncTwin, twin_of


class AsyncConsumers(AsyncTwin[Consumers]):
    """`Consumers` for asyncio: each call runs in a thread and does not block the loop."""

    __slots__ = ()

    list = twin_of(Consumers.list)
    get = twin_of(Consumers.get)
    retry = twin_of(Consumers.retry)
    skip = twin_of(Consumers.skip)
    rebuild = twin_of(Consumers.rebuild)
    remove = twin_of(Consumers.remove)
