"""One call of a user's handler: its writes belong to the turn of its message, and to no other."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Final

from duramen.events import HandlerEnded
from duramen.events.model import Cause

from ..dispatch import with_cause
from .turn import Turn

_CURRENT: Final[ContextVar[HandlerCall | None]] = ContextVar("duramen_handler_call", default=None)
"""The handler's call that code belongs to. Coroutines, tasks and `to_thread` inherit it, plain threads do not."""


def current_call() -> HandlerCall | None:
    """The call of the handler that runs here, or that has started this task or thread; None outside of handlers."""
    return _CURRENT.get()


class HandlerCall:
    """Lets code of one handler write into its turn, one thread at a time, until the handler has ended.

    `with call as turn` gives the turn. It raises HandlerEnded for a task or thread that outlived the handler.
    """

    __slots__ = ("_ended_at", "_handling", "_lock", "command_id", "runtime", "turn")

    def __init__(self, turn: Turn, cause: Cause, command_id: str | None) -> None:
        self.runtime = turn.runtime
        """The agent whose handler it is."""
        self.command_id = command_id
        self._lock = RLock()
        self.begin(turn, cause)

    def begin(self, turn: Turn, cause: Cause) -> None:
        """Write into this turn from now on, with the cause of the message that is handled."""
        self.turn = turn
        self._handling = turn.set_cause(cause)
        self._ended_at: int | None = None

    def __enter__(self) -> Turn:
        self._lock.acquire()
        if self._ended_at is not None:
            self._lock.release()
            raise HandlerEnded(
                f"the handler of {self.turn.agent} that has started this has ended; send the agent a message instead, "
                "or let the handler wait for its tasks and threads",
                agent=self.turn.agent,
                seq=self._ended_at,
            )
        self.turn.update_time()
        return self.turn

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def end(self) -> None:
        """Refuse all that comes from now on. Waits for a write that another thread has begun."""
        with self._lock:
            self._ended_at = self.turn.position

    def message_cause(self) -> Cause:
        """The cause of a message that is sent now."""
        ended_at = self._ended_at
        return self._handling.message_cause(self.turn.position if ended_at is None else ended_at)

    @contextmanager
    def running(self) -> Generator[None]:
        """Run the handler's code in this block."""
        token = _CURRENT.set(self)
        try:
            with with_cause(self.message_cause):
                yield
        finally:
            _CURRENT.reset(token)
