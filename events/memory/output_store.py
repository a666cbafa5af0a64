"""Live output in this process's memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from threading import Lock

from attrs import define

from ..log import Output, OutputStream, OutputWrite, notice_of_output
from .stream import MemoryStream


@define
class _Stored:
    elements: list[bytes]
    expires_at: float


class MemoryOutputStore:
    """An `OutputStore` in this process. `clock` (seconds) decides when outputs expire."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._outputs: dict[Output, _Stored] = {}
        self._streams: list[_MemoryOutputStream] = []

    def write(self, writes: Sequence[OutputWrite]) -> list[bool]:
        return [self._write(write) for write in writes]

    def _write(self, write: OutputWrite) -> bool:
        with self._lock:
            stored = self._find(write.output)
            if stored is None or stored.elements[0] != write.header:
                if write.index != 1:
                    return False
                stored = self._outputs[write.output] = _Stored([write.header], 0.0)
            if len(stored.elements) < write.index:
                return False
            if len(stored.elements) > write.index:
                return True
            stored.elements.append(write.entry)
            stored.expires_at = self._clock() + write.ttl_ms / 1000
            streams = list(self._streams)
        for stream in streams:
            stream.note(write.output, notice_of_output(write.header, write.index, write.entry))
        return True

    def read(self, output: Output, index: int) -> list[bytes]:
        with self._lock:
            stored = self._find(output)
            return [] if stored is None else [stored.elements[0], *stored.elements[index:]]

    def listen(self) -> OutputStream:
        stream = _MemoryOutputStream(self._forget)
        with self._lock:
            self._streams.append(stream)
        return stream

    def erase(self, agent: str) -> None:
        """Remove the outputs of an agent."""
        with self._lock:
            for output in [output for output in self._outputs if output[0] == agent]:
                del self._outputs[output]

    def _find(self, output: Output) -> _Stored | None:
        stored = self._outputs.get(output)
        if stored is not None and stored.expires_at <= self._clock():
            del self._outputs[output]
            return None
        return stored

    def _forget(self, stream: _MemoryOutputStream) -> None:
        with self._lock:
            if stream in self._streams:
                self._streams.remove(stream)


class _MemoryOutputStream(MemoryStream):
    """An `OutputStream`."""

    def __init__(self, on_close: Callable[[_MemoryOutputStream], None]) -> None:
        super().__init__()
        self._on_close = on_close
        self._followed: frozenset[Output] = frozenset()
        self._arrived: list[tuple[Output, bytes | None]] = []

    def follow(self, outputs: Collection[Output]) -> None:
        with self._changed:
            new = frozenset(outputs) - self._followed
            self._followed = frozenset(outputs)
            self._arrived += ((output, None) for output in new)
            self._changed.notify_all()

    def note(self, output: Output, notice: bytes) -> None:
        """Take in what was published."""
        with self._changed:
            if output in self._followed:
                self._arrived.append((output, notice))
                self._changed.notify_all()

    def receive(self, timeout: float | None) -> list[tuple[Output, bytes | None]]:
        with self._changed:
            self._wait(lambda: self._arrived, timeout)
            arrived, self._arrived = self._arrived, []
            return arrived

    def _stop(self) -> None:
        self._on_close(self)
