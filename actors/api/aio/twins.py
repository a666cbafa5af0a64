"""Asyncio twins: each runs a blocking call of another object in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from itertools import islice
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S_co = TypeVar("S_co", covariant=True)


class AsyncTwin(Generic[S_co]):
    """Runs the calls of `original` in threads, so that none blocks the loop.

    Cancelling a call does not stop the work it has started.
    """

    __slots__ = ("original",)

    def __init__(self, original: S_co) -> None:
        self.original = original


def twin_of(
    call: Callable[Concatenate[S_co, P], R],
) -> Callable[Concatenate[AsyncTwin[S_co], P], Coroutine[Any, Any, R]]:
    """Make the awaitable twin of a method, with its arguments, result and documentation."""

    @wraps(call)
    async def twin(self: AsyncTwin[S_co], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(call, self.original, *args, **kwargs)

    return twin


async def in_pages(items: Iterator[T], size: int) -> AsyncIterator[T]:
    """Iterate in threads, `size` items at a time."""
    while page := await asyncio.to_thread(tuple, islice(items, size)):
        for item in page:
            yield item
