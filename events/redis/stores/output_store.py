"""Live output on a server: a list for each output, and a channel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import inf
from time import monotonic
from typing import Final

from ...log import MOST_TTL_MS, Keys, Output, OutputStream, OutputWrite, notice_of_output
from ..client import RedisClient, Script, Subscriber

_LARGEST: Final = 512 * 1024
"""Bytes of a notice that is kept whole; of a larger one it is only known that it came."""
_READ: Final = "read live output"


class RedisOutputStore:
    """An `OutputStore` on a server."""

    def __init__(self, server: RedisClient, keys: Keys, partition_of: Callable[[str], int]) -> None:
        self._server = server
        self._keys = keys
        self._partition_of = partition_of
        self._script = Script("agents/output")

    def write(self, writes: Sequence[OutputWrite]) -> list[bool]:
        calls = [self._call(write) for write in writes]
        return [reply == 1 for reply in self._server.run_scripts(self._script, calls, "write live output")]

    def _call(self, write: OutputWrite) -> tuple[list[str], list[bytes]]:
        agent, name = write.output
        partition = self._partition_of(agent)
        key = self._keys.output(partition, agent, name)
        return [key, self._keys.outputs(partition, agent)], [
            write.header,
            b"%d" % write.index,
            write.entry,
            b"%d" % write.ttl_ms,
            key.rpartition(":")[2].encode(),
            name.encode(),
            b"%d" % MOST_TTL_MS,
            self._server.publish_command,
            key.encode(),
            notice_of_output(write.header, write.index, write.entry),
        ]

    def read(self, output: Output, index: int) -> list[bytes]:
        agent, name = output
        key = self._keys.output(self._partition_of(agent), agent, name).encode()
        header, elements = self._server.execute_all(
            _READ, [(b"LRANGE", key, b"0", b"0"), (b"LRANGE", key, b"%d" % index, b"-1")]
        )
        return [*header, *elements] if header else []

    def listen(self) -> OutputStream:
        return _RedisOutputStream(self._server, self._channel_of)

    def _channel_of(self, output: Output) -> bytes:
        agent, name = output
        return self._keys.output(self._partition_of(agent), agent, name).encode()


class _RedisOutputStream(Subscriber[Output]):
    """An `OutputStream` with a connection of its own, opened when something is followed, and again when it is lost."""

    _lost_event = "output_interrupted"

    def __init__(self, server: RedisClient, channel_of: Callable[[Output], bytes]) -> None:
        super().__init__(server, "output", _LARGEST)
        self._channel_of = channel_of
        self._arrived: list[tuple[Output, bytes | None]] = []

    def follow(self, outputs: Collection[Output]) -> None:
        self._want({self._channel_of(output): output for output in outputs})

    def receive(self, timeout: float | None) -> list[tuple[Output, bytes | None]]:
        try:
            with self._using:
                self._run(inf if timeout is None else monotonic() + timeout)
                arrived, self._arrived = self._arrived, []
                return arrived
        finally:
            if self._closed:
                self._release()

    def _has_result(self) -> bool:
        return bool(self._arrived)

    def _handle_message(self, channel: bytes, place: Output | None, payload: bytes) -> None:
        if place is not None:
            self._arrived.append((place, payload if len(payload) < _LARGEST else None))

    def _handle_change(self, place: Output | None) -> None:
        if place is not None:
            self._arrived.append((place, None))
