"""A follower of one live output."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from types import TracebackType
from typing import Final, Self

from duramen.events import AskTimeout, InvalidMessage, OutputBroken, OutputNotFound, SystemClosed

from .tails import OutputTail, OutputTails

_WHY: Final = {
    "failed": "its writer has failed",
    "dead": "the process of its writer has ended",
    "replaced": "it has expired, or its name was opened again",
}


class OutputFollower:
    """Iterates over the tokens of one live output, each once and in order, until it is complete.

    `for token in follower`, or `async for`. `position` is where it stands, to go on from in another follower: as text
    that names the opening of the output as well. Not thread-safe. Close it, or use it in a `with` block, if it may be
    left before the end.

    Raises OutputNotFound if there is no such output within `wait` seconds, or not the one that `after` names;
    OutputBroken after the last token of one that will not be completed; AskTimeout after `timeout` seconds without a
    token; SystemClosed.
    """

    def __init__(
        self, tails: OutputTails, tail: OutputTail, after: tuple[str | None, int], wait: float, timeout: float | None
    ) -> None:
        self._tails = tails
        self._tail = tail
        self._opening, self._at = after
        self._wait = wait
        self._timeout = timeout
        self._since = monotonic()
        self._closed = False

    @property
    def position(self) -> str:
        """The opening of the output, and how many of its tokens were taken: `ID-NUMBER`."""
        opening = self._opening or self._tail.id
        return str(self._at) if opening is None else f"{opening}-{self._at}"

    @property
    def seq(self) -> int:
        """The seq of the record of the whole output, once it is complete; 0 if it was recorded within a handler."""
        return self._tail.seq

    def close(self) -> None:
        """Stop following. Idempotent."""
        if not self._closed:
            self._closed = True
            self._tail.call_on_change(self, None)
            self._tails.release(self._tail)

    # -- iterating ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        changed = threading.Event()
        while True:
            self._tail.call_on_change(self, changed.set)
            token = self._take()
            if token is not None:
                return token
            if self._is_complete():
                raise StopIteration
            changed.wait(self._left())
            changed.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        token = self._take()
        if token is not None:
            return token
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        while True:
            self._tail.call_on_change(self, lambda: loop.call_soon_threadsafe(changed.set))
            token = self._take()
            if token is not None:
                return token
            if self._is_complete():
                raise StopAsyncIteration
            try:
                await asyncio.wait_for(changed.wait(), self._left())
            except TimeoutError:
                continue
            finally:
                self._tail.call_on_change(self, None)
            changed.clear()

    def _take(self) -> str | None:
        """The next token, if it is there."""
        tail = self._tail
        if tail.id is None or self._closed:
            return None
        if self._opening is None:
            self._opening = tail.id
        elif self._opening != tail.id:
            self._stop(
                OutputNotFound("this output was opened again since; follow it without `after`", agent=tail.output[0])
            )
        if self._at >= len(tail.tokens):
            return None
        self._at += 1
        self._since = monotonic()
        return tail.tokens[self._at - 1]

    def _is_complete(self) -> bool:
        """Whether this is the end. Raises what ends it otherwise."""
        tail, agent = self._tail, self._tail.output[0]
        if self._closed:
            return True
        if tail.status == "complete" and self._at >= len(tail.tokens):
            self.close()
            return True
        if tail.has_ended and self._at >= len(tail.tokens):
            self._stop(OutputBroken(f"this output is not complete: {_WHY[tail.status]}", agent=agent))
        if self._tails.closed:
            self._stop(SystemClosed("the system is closed; open a new one", agent=agent))
        left = self._left()
        if left is not None and left <= 0:
            if tail.id is None:
                self._stop(OutputNotFound(f"no such output within {self._wait} s", agent=agent, expected=self._wait))
            self._stop(AskTimeout(f"no token within {self._timeout} s", agent=agent, expected=self._timeout))
        return False

    def _left(self) -> float | None:
        limit = self._wait if self._tail.id is None else self._timeout
        return None if limit is None else max(0.0, self._since + limit - monotonic())

    def _stop(self, error: Exception) -> None:
        self.close()
        raise error

    # -- the block ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def parse_after(after: int | str | None, agent: str) -> tuple[str | None, int]:
    """Opening and number of a position. Raises InvalidMessage."""
    opening, number = None, after if after is not None else 0
    if isinstance(number, str):
        opening, _, digits = number.rpartition("-")
        number = int(digits) if digits.isdecimal() and digits.isascii() and len(digits) < 16 else -1
    if type(number) is not int or number < 0:
        raise InvalidMessage("after is a number of tokens, or the position of a follower", agent=agent)
    return opening or None, number
