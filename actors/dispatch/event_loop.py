"""The system's own event loop, which runs handlers and hooks that are coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

__all__ = ["EventLoop", "ProgramExit"]


class ProgramExit(Exception):
    """Carries SystemExit, KeyboardInterrupt or GeneratorExit as its cause: raised bare, they would end the loop."""


async def _contain_exit(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise ProgramExit from error


class EventLoop:
    """Runs coroutines in one thread, which starts with the first coroutine. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start a coroutine and return the future of its result."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="duramen-loop", daemon=True)
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(_contain_exit(work), loop)

    def close(self, timeout: float) -> None:
        """Cancel all tasks and end the thread, within `timeout` seconds."""
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
