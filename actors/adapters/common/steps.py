"""Work that asks agents, written once and run both blocking and on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

from attrs import frozen

from duramen.actors import AgentSystem

R = TypeVar("R")


@frozen
class Ask:
    """A message to an agent; its reply is sent back into the generator."""

    path: str
    message: Any


@frozen
class Either:
    """A call that is there in two forms."""

    blocking: Callable[[], Any]
    awaited: Callable[[], Awaitable[Any]]


Steps = Generator[Ask | Either | Callable[[], Any], Any, R]
"""Yields messages to agents, and functions that block; is resumed with what they return or raise."""


def run(system: AgentSystem, steps: Steps[R]) -> R:
    """Run the steps in this thread, which blocks. Raises what they raise."""
    try:
        step = next(steps)
        while True:
            try:
                if isinstance(step, Ask):
                    result: Any = system.agent(step.path).ask(step.message)
                else:
                    result = step.blocking() if isinstance(step, Either) else step()
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        return cast("R", end.value)


async def run_async(system: AgentSystem, steps: Steps[R]) -> R:
    """Run the steps on the running loop, functions that block in threads. Raises what they raise.

    Cancelling it does not cancel the message that was sent last.
    """
    try:
        step = next(steps)
        while True:
            try:
                if isinstance(step, Ask):
                    result: Any = await system.aio.agent(step.path).ask(step.message)
                else:
                    result = await (step.awaited() if isinstance(step, Either) else asyncio.to_thread(step))
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        return cast("R", end.value)


async def settle(mutation: Coroutine[Any, Any, R]) -> R:
    """Await a mutation to its end, however often this is cancelled meanwhile; then raise the cancellation."""
    task = asyncio.ensure_future(mutation)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    if cancelled is not None:
        task.exception()  # seen, though the cancellation is what the caller gets
        raise cancelled
    return task.result()
