"""Live output: the writer that a handler or a caller holds, and the thread that sends for all writers of a system."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from inspect import isawaitable
from secrets import token_hex
from time import monotonic, time_ns
from types import TracebackType
from typing import Any, Final, Self, cast

import msgpack
from duramen.events import (
    DuramenError,
    InvalidMessage,
    Limits,
    OutputBroken,
    Receipt,
    SystemClosed,
    TooLarge,
    Unavailable,
    ValueRefused,
)
from duramen.events.log import MOST_TTL_MS, OutputStore, OutputWrite
from duramen.events.model import Seconds, parse_seconds

from ..dispatch import check_may_block

OUTPUT: Final = "output"
"""The kind of the record of a whole output."""

_ROOM: Final = 4_096
"""Bytes of an event that are reserved for all but the text."""
_FLUSH_SECONDS: Final = 30.0
_NAME: Final = 200

Record = Callable[[str, dict[str, Any]], Any]
"""Records kind and data in the agent's log; returns a receipt, an awaitable of one, or None within a handler."""


class OutputWriter:
    """Writes one live output of an agent. Use it in a `with` block, or `async with` where a loop runs.

    `write` never waits for the server: a thread of the system sends what has gathered. At the end of the block the
    whole text is recorded as one event, of kind `output`, and the output is complete. After an exception nothing is
    recorded, and readers are told that the output is broken. Thread-safe.
    """

    def __init__(self, sender: OutputSender, agent: str, name: str, record: Record, ttl_ms: int) -> None:
        self._sender = sender
        self._output = (agent, name)
        self._record = record
        self._ttl_ms = ttl_ms
        self.id: Final = token_hex(8)
        """Tells this opening of the output from others; readers have it in their positions."""
        self._header = msgpack.packb([time_ns() // 1000, self.id, sender.host()])
        self._lock = threading.Lock()
        self._texts: list[str] = []
        self._size = 0
        self._sent = 0
        """Tokens that were handed to the sender's thread."""
        self._index = 1
        self._end: list[Any] | None = None
        self._error: DuramenError | None = None
        self._flushed = threading.Event()
        self._receipt: Receipt | None = None

    @property
    def receipt(self) -> Receipt:
        """The receipt of the record. Raises InvalidMessage before the end, and within a handler."""
        if self._receipt is None:
            raise InvalidMessage("the output has no receipt: it has not ended, or is part of a handler's batch")
        return self._receipt

    @property
    def text(self) -> str:
        """All that was written so far."""
        return "".join(self._texts)

    def write(self, text: str) -> None:
        """Add a token. Raises InvalidMessage after the end, TooLarge, and what went wrong with an earlier one.

        `OutputBroken`: the output has expired, or its name was opened again. `Unavailable`: the server is lost.
        """
        if type(cast("object", text)) is not str:
            raise InvalidMessage("write takes text", agent=self._output[0], actual=type(text).__name__)
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise ValueRefused("text with a lone surrogate has no encoding", agent=self._output[0]) from None
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._end is not None:
                raise InvalidMessage("this output has ended; open another one", agent=self._output[0])
            if self._size + size > self._sender.most_bytes:
                raise TooLarge(
                    f"an output has at most {self._sender.most_bytes} bytes, since it becomes one event; "
                    "end it, and go on in another one",
                    agent=self._output[0],
                    expected=self._sender.most_bytes,
                    actual=self._size + size,
                )
            self._texts.append(text)
            self._size += size
        self._sender.send(self)

    # -- the block ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        check_may_block()
        self._sender.send(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._keep_receipt(self._record(OUTPUT, self._data()))
            except BaseException:
                self._finish("failed")
                raise
        self._finish("failed" if kind is not None else "complete")
        self._check(self._flushed.wait(_FLUSH_SECONDS), quiet=kind is not None)

    async def __aenter__(self) -> Self:
        self._sender.send(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                recorded = self._record(OUTPUT, self._data())
                self._keep_receipt(await recorded if isawaitable(recorded) else recorded)
            except BaseException:
                self._finish("failed")
                raise
        self._finish("failed" if kind is not None else "complete")
        self._check(await asyncio.to_thread(self._flushed.wait, _FLUSH_SECONDS), quiet=kind is not None)

    def _data(self) -> dict[str, Any]:
        if self._error is not None:
            raise self._error
        return {"output": self._output[1], "text": self.text}

    def _keep_receipt(self, recorded: Any) -> None:
        self._receipt = recorded if isinstance(recorded, Receipt) else None

    def _finish(self, status: str) -> None:
        with self._lock:
            self._end = [status, 0 if self._receipt is None else self._receipt.seq]
        with suppress(SystemClosed):
            self._sender.send(self)
            return
        self.fail(SystemClosed("the system was closed before this output had ended", agent=self._output[0]))

    def _check(self, flushed: bool, *, quiet: bool) -> None:
        """Raise the error for which readers did not get the end, unless the block itself has raised."""
        if quiet:
            return
        if self._error is not None:
            raise self._error
        if not flushed:
            raise Unavailable(f"the end of an output was not written within {_FLUSH_SECONDS} s", agent=self._output[0])

    # -- for the sender's thread -------------------------------------------------------------------------------------

    def take(self) -> tuple[OutputWrite, bool] | None:
        """What is to be sent, and whether it has the end; None if all has been sent."""
        with self._lock:
            if self._error is not None or self._flushed.is_set():
                return None
            has_end = self._end is not None
            if self._index > 1 and self._sent == len(self._texts) and not has_end:
                return None
            entry = msgpack.packb([self._sent + 1, self._texts[self._sent :], self._end])
            self._sent = len(self._texts)
            return OutputWrite(self._output, self._header, self._index, entry, self._ttl_ms), has_end

    def sent(self, *, is_end: bool) -> None:
        """Note that what was taken is written."""
        self._index += 1
        if is_end:
            self._flushed.set()

    def fail(self, error: DuramenError | None = None) -> None:
        """Note that nothing more can be written."""
        self._error = error or OutputBroken(
            "this output is gone from the server: it has expired, or its name was opened again", agent=self._output[0]
        )
        self._flushed.set()


class OutputSender:
    """Sends what the writers of one system have gathered, in a thread that is started by the first. Thread-safe."""

    def __init__(self, store: OutputStore, limits: Limits, host: Callable[[], str]) -> None:
        self._store = store
        self.host = host
        """The present id of this host, by whose life readers tell that of a writer."""
        self.most_bytes = max(1, limits.event_bytes - _ROOM)
        """Bytes of text that one output may have."""
        self._changed = threading.Condition()
        self._waiting: dict[OutputWriter, None] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def open(self, agent: str, name: str, record: Record, ttl: Seconds) -> OutputWriter:
        """A writer of a new output. Raises InvalidMessage for a name or a time to live that cannot be."""
        if type(cast("object", name)) is not str or not 0 < len(name) <= _NAME:
            raise InvalidMessage(f"the name of an output is text of 1 to {_NAME} characters", agent=agent)
        ttl_ms = int(parse_seconds("ttl", ttl) * 1000)
        if not 1_000 <= ttl_ms <= MOST_TTL_MS:
            raise InvalidMessage("the ttl of an output is 1 second to 7 days", agent=agent, actual=ttl_ms / 1000)
        return OutputWriter(self, agent, name, record, ttl_ms)

    def send(self, writer: OutputWriter) -> None:
        """Send what a writer has, soon. Raises SystemClosed."""
        with self._changed:
            if self._closed:
                raise SystemClosed("the system is closed; open a new one")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="duramen-output", daemon=True)
                self._thread.start()
            self._waiting[writer] = None
            self._changed.notify()

    def close(self, timeout: float) -> bool:
        """Send what is left and end the thread, within `timeout` seconds. Returns whether it has ended."""
        deadline = monotonic() + timeout
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - monotonic()))
        return self._thread is None or not self._thread.is_alive()

    def disable(self) -> None:
        """Refuse all writers, in a forked child, which has no thread to send."""
        self._changed = threading.Condition()
        self._closed = True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                writers, self._waiting = list(self._waiting), {}
                if not writers:
                    return
            self._send([(writer, *taken) for writer in writers if (taken := writer.take())])

    def _send(self, taken: list[tuple[OutputWriter, OutputWrite, bool]]) -> None:
        if not taken:
            return
        try:
            written = self._store.write([write for _, write, _ in taken])
        except DuramenError as error:
            for writer, _, _ in taken:
                writer.fail(error)
            return
        for (writer, _, is_end), there in zip(taken, written, strict=True):
            if there:
                writer.sent(is_end=is_end)
            else:
                writer.fail()
