"""Messages published without waiting for the server: over one connection, or over one to each node of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Final

import redis
from redis.exceptions import MovedError

from ...errors import DuramenError
from ...log import Keys
from ...logging import get_logger
from ..client import Address, ClusterNodes, RedisClient, encode_argument, encode_command, slot_of
from .pipe import Pipe

_MOST_CHANNELS: Final = 1_000
_MOVED: Final = b"MOVED "
_MOVED_PAUSE: Final = 0.05
"""Seconds after which messages to a slot that has moved are missed again: two nodes may name each other for a while."""

_Row = tuple[int, bytes]
"""A slot, and a command for the node that has it."""


class _Commands:
    """Encodes the commands that publish messages."""

    def __init__(self, keys: Keys, publish: bytes) -> None:
        self._keys = keys
        self._publish = b"*3\r\n" + encode_argument(publish)
        self._heads: dict[str, bytes] = {}

    def store(self, content_id: str, content: bytes, ttl_ms: int) -> bytes:
        return encode_command((b"SET", self._keys.content(content_id).encode(), content, b"PX", b"%d" % ttl_ms))

    def message(self, host: str, message: bytes) -> bytes:
        head = self._heads.get(host)
        if head is None:
            if len(self._heads) >= _MOST_CHANNELS:
                self._heads.clear()
            head = self._heads[host] = self._publish + encode_argument(self._keys.host_channel(host).encode())
        return head + encode_argument(message)


class RedisPublisher:
    """A `MessagePublisher` with a connection of its own. Not thread-safe.

    A message whose connection breaks before the reply may or may not have been published; it is not sent again.
    """

    def __init__(self, server: RedisClient, keys: Keys) -> None:
        self._commands = _Commands(keys, server.publish_command)
        self._pipe = Pipe(partial(server.connect_to, None), server.reply_timeout, _warn)

    @property
    def is_ready(self) -> bool:
        return self._pipe.is_ready

    @property
    def is_waiting(self) -> bool:
        return self._pipe.is_waiting

    @property
    def losses(self) -> int:
        return self._pipe.losses

    def publish(
        self, messages: Sequence[tuple[str, bytes]], contents: Sequence[tuple[str, bytes]], ttl_ms: int
    ) -> None:
        if not self._pipe.is_open:
            return
        parts = [self._commands.store(content_id, content, ttl_ms) for content_id, content in contents]
        parts += [self._commands.message(host, message) for host, message in messages]
        self._pipe.send(b"".join(parts), len(parts))

    def collect(self, timeout: float) -> None:
        until = monotonic() + timeout
        if self._pipe.open():
            self._pipe.collect(until)

    def close(self) -> None:
        self._pipe.close()


class ClusterPublisher:
    """As `RedisPublisher`, for a cluster: with a connection to each node on whose channels it has published.

    What is meant for a node that cannot be reached is dropped, and counts as lost once a node that has its slot can
    be. What reaches a node that has the slot no more is lost, too.
    """

    def __init__(self, server: RedisClient, nodes: ClusterNodes, keys: Keys) -> None:
        self._server = server
        self._nodes = nodes
        self._keys = keys
        self._commands = _Commands(keys, server.publish_command)
        self._content_slot = slot_of(keys.content("").encode())
        self._pipes: dict[Address, Pipe] = {}
        self._contents: list[_Row] = []
        self._messages: list[_Row] = []
        """Messages to nodes to which no connection is open, and those behind contents."""
        self._storing: Pipe | None = None
        """The connection on which contents were sent."""
        self._has_dropped = False
        """Whether a message was dropped since a loss was last counted."""
        self._losses = 0
        self._moved_at = 0.0

    @property
    def is_ready(self) -> bool:
        pipes = [pipe for pipe in self._pipes.values() if pipe.is_open]
        waits = [pipe for pipe in pipes if not pipe.is_ready and pipe.is_open]
        # One node that hangs must not keep messages from the others.
        return all(pipe.is_late() for pipe in waits) and not self._contents and not self._messages

    @property
    def is_waiting(self) -> bool:
        return bool(self._contents or self._messages) or any(pipe.is_waiting for pipe in list(self._pipes.values()))

    @property
    def losses(self) -> int:
        return self._losses + sum(pipe.losses for pipe in self._pipes.values())

    def publish(
        self, messages: Sequence[tuple[str, bytes]], contents: Sequence[tuple[str, bytes]], ttl_ms: int
    ) -> None:
        rows = [
            (slot_of(self._keys.host_channel(host).encode()), self._commands.message(host, message))
            for host, message in messages
        ]
        self._contents += [(self._content_slot, self._commands.store(*content, ttl_ms)) for content in contents]
        if self._contents or self._messages or not self._is_stored():
            self._messages += rows  # in this order, and behind their contents, which lie on a node of their own
        else:
            self._messages = self._send(rows)

    def collect(self, timeout: float) -> None:
        until = monotonic() + timeout
        contents, self._contents = self._contents, []
        self._drop(self._send(contents, opening=True))
        if contents:
            self._storing = self._pipe_of(self._content_slot)
        if self._storing is not None:
            self._storing.collect(until)
        if not self._is_stored():
            return
        messages, self._messages = self._messages, []
        self._drop(self._send(messages, opening=True))
        for pipe in list(self._pipes.values()):
            pipe.collect(until)

    def close(self) -> None:
        for pipe in self._pipes.values():
            pipe.close()
        self._contents, self._messages = [], []

    def _is_stored(self) -> bool:
        """Whether no content is under way."""
        if self._storing is not None and self._storing.is_open and not self._storing.is_ready:
            return False
        self._storing = None
        return True

    def _send(self, rows: Sequence[_Row], *, opening: bool = False) -> list[_Row]:
        """Send rows over the connections that are open, or can be opened. Returns the other rows."""
        left: list[_Row] = []
        together: dict[int, list[bytes]] = {}
        pipes: dict[int, Pipe] = {}
        for slot, command in rows:
            pipe = self._pipe_of(slot)
            if pipe is None or not (pipe.is_open or (opening and self._open(pipe))):
                left.append((slot, command))
                continue
            pipes[id(pipe)] = pipe
            together.setdefault(id(pipe), []).append(command)
        for key, commands in together.items():
            pipes[key].send(b"".join(commands), len(commands))
        return left

    def _open(self, pipe: Pipe) -> bool:
        if not pipe.open():
            return False
        if self._has_dropped:
            self._has_dropped = False
            self._losses += 1
        return True

    def _drop(self, rows: Sequence[_Row]) -> None:
        if rows:
            self._has_dropped = True
            with suppress(redis.RedisError, OSError, DuramenError):
                self._nodes.refresh()  # another node may have the slots by now

    def _pipe_of(self, slot: int) -> Pipe | None:
        address = self._nodes.known_owner(slot)
        if address is None:
            return None
        pipe = self._pipes.get(address)
        if pipe is None:
            connect = partial(self._server.connect_to, address)
            refused = partial(self._note_refused, address)
            pipe = self._pipes[address] = Pipe(connect, self._server.reply_timeout, refused)
        return pipe

    def _note_refused(self, address: Address, replies: list[bytes]) -> None:
        moved = [reply for reply in replies if reply.startswith(_MOVED)]
        others = [reply for reply in replies if not reply.startswith(_MOVED)]
        if others:
            _warn(others)
        for reply in moved:
            with suppress(ValueError):
                self._nodes.note_moved(MovedError(reply[len(_MOVED) :].decode("ascii", "replace")), address)
        if moved and monotonic() >= self._moved_at + _MOVED_PAUSE:
            self._moved_at = monotonic()
            self._losses += 1


def _warn(replies: list[bytes]) -> None:
    codes = {reply.split(b" ", 1)[0] for reply in replies}
    get_logger("publisher").warning("messages_refused", error=b" ".join(sorted(codes)).decode("ascii", "replace"))
