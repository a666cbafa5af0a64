"""An event loop of the system's own, for handlers and hooks that are coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

__all__ = ["EventLoop", "ProgramExit"]


class ProgramExit(Exception):
    """Carries, as its cause, an exception that is meant to end a program: asyncio would end the loop with it."""


async def _contained(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise ProgramExit from error


class EventLoop:
    """Runs coroutines in one thread, which starts with the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start a coroutine; its result, from any thread."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="duramen-loop", daemon=True)
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(_contained(work), loop)

    def close(self, timeout: float) -> None:
        """Cancel what runs and end the thread, in at most `timeout` seconds."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return

        async def cancel_all() -> None:
            others = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        ended = asyncio.run_coroutine_threadsafe(cancel_all(), loop)
        ended.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
        thread.join(timeout)
        if not thread.is_alive():
            loop.close()
