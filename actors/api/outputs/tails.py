"""The outputs that are followed here: one copy of each, however many follow it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Literal, cast

import msgpack
from duramen.events import DuramenError
from duramen.events.log import Output, OutputStore, OutputStream, read_output_notice
from duramen.events.logging import get_logger

Status = Literal["absent", "open", "complete", "failed", "dead", "replaced"]

_SILENCE: Final = 2.0
"""Seconds without news of an output after which it is read, and its writer's host is looked at."""
_TICK: Final = 0.5


class OutputTail:
    """One output as far as it is known here. Written by the thread of `OutputTails`, read by any."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.id: str | None = None
        """The opening that this is a copy of; None: none was found yet."""
        self.tokens: list[str] = []
        self.status: Status = "absent"
        self.seq = 0
        """The seq of the record of a complete output; 0: it was not recorded, or within a handler."""
        self.host = ""
        self._header = b""
        self._elements = 1
        self.users = 0
        self.looked_at = 0.0
        self._lock = threading.Lock()
        self._wakers: dict[object, Callable[[], object]] = {}

    @property
    def has_ended(self) -> bool:
        return self.status not in ("absent", "open")

    @property
    def next_index(self) -> int:
        """The element to read next."""
        return self._elements

    def call_on_change(self, key: object, waker: Callable[[], object] | None) -> None:
        """Call a function after each change, until another one, or None, is given for the key."""
        with self._lock:
            if waker is None:
                self._wakers.pop(key, None)
            else:
                self._wakers[key] = waker

    def apply(self, header: bytes, index: int, entries: Sequence[bytes]) -> bool:
        """Take in entries from `index` on. False: entries before them are missing, or they are of another opening."""
        if self.id is None:
            if index != 1:
                return False
            self._header = header
            _, self.id, self.host = cast("list[Any]", msgpack.unpackb(header))
            self.status = "open"
        elif header != self._header:
            return False
        if index > self._elements:
            return False
        for entry in entries[self._elements - index :]:
            _, tokens, end = cast("list[Any]", msgpack.unpackb(entry))
            self._elements += 1
            self.tokens += tokens
            if end is not None:
                self.status, self.seq = end
        self.wake()
        return True

    def end(self, status: Status) -> None:
        """End the output: no more of it will come."""
        self.status = status
        self.wake()

    def wake(self) -> None:
        with self._lock:
            wakers = list(self._wakers.values())
        for waker in wakers:
            with suppress(RuntimeError):  # the event loop of a follower was closed
                waker()


class OutputTails:
    """Follows outputs in a thread, which is started by the first follower. Thread-safe."""

    def __init__(self, store: OutputStore, is_alive: Callable[[str], bool]) -> None:
        """`is_alive` says whether the host of a writer lives; it may block, and raise DuramenErrors."""
        self._store = store
        self._is_alive = is_alive
        self._lock = threading.Lock()
        self._tails: dict[Output, OutputTail] = {}
        self._stream: OutputStream | None = None
        self._thread: threading.Thread | None = None
        self.closed = False

    def open(self, output: Output) -> OutputTail:
        """The tail of an output, to be given back by `release`."""
        with self._lock:
            tail = self._tails.get(output)
            if tail is None or tail.has_ended:  # an ended one may have been opened again since
                tail = self._tails[output] = OutputTail(output)
            tail.users += 1
            if self._thread is None:
                self._stream = self._store.listen()
                self._thread = threading.Thread(target=self._run, name="duramen-follow", daemon=True)
                self._thread.start()
            self._follow()
            return tail

    def release(self, tail: OutputTail) -> None:
        with self._lock:
            tail.users -= 1
            if tail.users == 0 and self._tails.get(tail.output) is tail:
                del self._tails[tail.output]
                self._follow()

    def close(self, timeout: float) -> bool:
        """End the thread, and wake all followers. Returns whether it has ended within `timeout` seconds."""
        with self._lock:
            self.closed = True
            tails = list(self._tails.values())
            if self._stream is not None:
                self._stream.close()
        for tail in tails:
            tail.wake()
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _follow(self) -> None:
        if self._stream is not None:
            self._stream.follow(list(self._tails))
            self._stream.wake()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        stream = self._stream
        assert stream is not None
        while not self.closed:
            for output, notice in stream.receive(_TICK):
                tail = self._tails.get(output)
                if tail is not None and not tail.has_ended:
                    self._take(tail, notice)
            now = monotonic()
            with self._lock:
                silent = [
                    tail
                    for tail in self._tails.values()
                    if not tail.has_ended and (tail.looked_at == 0.0 or now - tail.looked_at >= _SILENCE)
                ]
            for tail in silent:
                self._guarded(tail, self._look)

    def _take(self, tail: OutputTail, notice: bytes | None) -> None:
        read = None if notice is None else read_output_notice(notice)
        try:
            if read is not None and tail.apply(read[0], read[1], [read[2]]):
                tail.looked_at = monotonic()
                return
        except (ValueError, TypeError):  # not of duramen's making
            get_logger("output").warning("notice_malformed", agent=tail.output[0])
        self._guarded(tail, self._read if tail.looked_at else self._look)

    def _guarded(self, tail: OutputTail, look: Callable[[OutputTail], None]) -> None:
        tail.looked_at = monotonic()
        try:
            look(tail)
        except (DuramenError, ValueError, TypeError) as error:
            get_logger("output").info("output_not_read", agent=tail.output[0], error=type(error).__name__)

    def _look(self, tail: OutputTail) -> None:
        """Read what no notice has told, and find out whether the writer lives."""
        self._read(tail)
        if tail.status == "open" and not self._is_alive(tail.host):
            self._read(tail)  # what it wrote last
            if not tail.has_ended:
                tail.end("dead")

    def _read(self, tail: OutputTail) -> None:
        index = tail.next_index
        elements = self._store.read(tail.output, index)
        if elements:
            if not tail.apply(elements[0], index, elements[1:]):
                tail.end("replaced")
        elif tail.id is not None:
            tail.end("replaced")
