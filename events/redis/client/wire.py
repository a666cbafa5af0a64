"""One raw connection of redis-py. Its user decides what is sent, and what is sent again."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Collection
from contextlib import suppress
from typing import Any, cast

import redis

RECEIVE_BYTES = 64 * 1024
"""The most bytes that `Wire.receive` returns."""

CONNECTION_ERRORS = (redis.ConnectionError, redis.TimeoutError, OSError)
"""The errors after which a connection is unusable. LOADING is one of them, though the server answered."""


class Waker:
    """Ends another thread's wait on a socket."""

    __slots__ = ("_receiver", "_sender", "_set")

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._set = False

    def fileno(self) -> int:
        return self._receiver.fileno()

    def set(self) -> None:
        """Wake the waiting thread, now or when it next waits. Thread-safe."""
        if not self._set:
            self._set = True
            try:
                self._sender.send(b"\0")
            except OSError:
                pass  # full: it will wake anyway; closed: nothing waits
            except BaseException:  # a signal's handler has raised, maybe before the byte was sent
                self._set = False
                raise

    def clear(self) -> None:
        if self._set:
            # A `set` between the two lines is lost, which is harmless: the thread looks for work before it waits
            # again. In the other order its byte could be read while the flag stays, and no later `set` would wake.
            with suppress(BlockingIOError):
                self._receiver.recv(4096)
            self._set = False

    def wait(self, timeout: float | None) -> bool:
        """Wait for `set`, at most `timeout` seconds; False if it did not come."""
        poll = select.poll()
        poll.register(self._receiver, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()


class Wire:
    """A connection from a pool. Used by one thread at a time."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        # redis-py leaves parts of its connections untyped; only this class uses them.
        self._connection: Any = cast("Any", pool).get_connection()
        self._poll = select.poll()
        self._polled: tuple[int, Waker | None] | None = None
        self._blocking_timeout: float | None = None
        self._is_nonblocking = False
        """Whether `receive` or `try_send` has made the socket non-blocking."""

    def make_room(self, size: int) -> None:
        """Let `send` buffer `size` bytes before it waits for the server, as far as the system allows."""
        sock = self._connection._sock
        if sock is not None and sock.family == socket.AF_UNIX:  # the kernel sizes TCP buffers by itself
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def send(self, data: bytes) -> None:
        """Send bytes. Raises CONNECTION_ERRORS."""
        if self._is_nonblocking and self._connection._sock is not None:
            self._connection._sock.settimeout(self._blocking_timeout)
            self._is_nonblocking = False
        self._connection.send_packed_command([data], check_health=False)

    def try_send(self, data: bytes) -> int:
        """Send as many of these bytes as fit without waiting; returns how many. Raises CONNECTION_ERRORS.

        An encrypted connection takes the rest of them next, before any others.
        """
        try:
            return int(self._nonblocking_socket().send(data))
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0

    def read(self, *, timeout: float | None = None) -> Any:
        """Return the next reply, in bytes, in the form that RESP2 has: a map is a list of keys and values.

        Raises an error reply, or CONNECTION_ERRORS when the connection is lost.
        """
        reply: Any
        if timeout is None:
            reply = self._connection.read_response(disable_decoding=True)
        else:
            reply = self._connection.read_response(disable_decoding=True, timeout=timeout)
        return _flat(cast("dict[Any, Any]", reply)) if type(reply) is dict else reply

    def receive(self) -> bytes:
        """Return bytes that have arrived, up to 64 KiB; empty if there are none.

        For callers that parse the protocol themselves. Never waits. Raises CONNECTION_ERRORS. A connection is used
        with this method or with `read`, never with both.
        """
        try:
            data: bytes = self._nonblocking_socket().recv(RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        if not data:
            raise redis.ConnectionError("closed by the server")
        return data

    def _nonblocking_socket(self) -> Any:
        sock = self._connection._sock
        if sock is None:
            raise redis.ConnectionError("closed")
        if not self._is_nonblocking:
            # Until something is sent: changing it for each call took two system calls more.
            self._blocking_timeout, self._is_nonblocking = sock.gettimeout(), True
            sock.settimeout(0)
        return sock

    def has_buffered(self) -> bool:
        """Whether bytes of another reply were read with the last one."""
        reader = getattr(self._connection._parser, "_reader", None)  # hiredis has one; the socket takes two calls
        return bool(reader.has_data()) if reader is not None else bool(self._connection.can_read(0))

    def has_reply(self) -> bool:
        """Whether part of a reply has arrived. Never waits. Raises CONNECTION_ERRORS."""
        if self.is_closed:
            raise redis.ConnectionError("closed")  # redis-py would reopen it
        return bool(self._connection.can_read(0))

    @property
    def is_closed(self) -> bool:
        """Whether redis-py has closed the connection, as it does after some replies, such as LOADING.

        It must not be used then: redis-py would reopen it, without the requests under way.
        """
        return self._connection._sock is None

    @property
    def descriptor(self) -> int | None:
        """The descriptor of its socket, to pass to another process; None if it is encrypted or closed."""
        sock = self._connection._sock
        return None if sock is None or isinstance(sock, ssl.SSLSocket) else int(sock.fileno())

    def fileno(self) -> int:
        """The descriptor of its socket, for a poll. Raises ConnectionError if it is closed."""
        sock = self._connection._sock
        if sock is None:
            raise redis.ConnectionError("closed")
        return int(sock.fileno())

    @property
    def has_pending(self) -> bool:
        """Whether bytes of an encrypted connection have arrived that a poll does not see."""
        sock = self._connection._sock
        return isinstance(sock, ssl.SSLSocket) and bool(sock.pending())

    def wait(self, timeout: float | None, waker: Waker | None = None) -> bool:
        """Wait for bytes of a reply, at most `timeout` seconds or until the waker is set; whether some came."""
        sock = self._connection._sock
        if sock is None:
            raise redis.ConnectionError("closed")
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        mine = sock.fileno()
        if self._polled != (mine, waker):
            # Made once a connection: making it at each wait cost 4 µs of a lone call.
            self._poll = select.poll()
            self._poll.register(mine, select.POLLIN)
            if waker is not None:
                self._poll.register(waker, select.POLLIN)
            self._polled = (mine, waker)
        found = self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        return mine in dict(found)

    def release(self) -> None:
        """Return the connection to the pool. Call it only when every reply was read."""
        self._pool.release(self._connection)

    def discard(self) -> None:
        """Close the connection and return its place to the pool."""
        self._connection.disconnect()
        self._pool.release(self._connection)


def wait_for_any(wires: Collection[Wire], timeout: float | None, waker: Waker) -> list[Wire]:
    """Wait for bytes on one of several connections; return those that have some. See `Wire.wait`."""
    if len(wires) == 1:
        return [wire for wire in wires if wire.wait(timeout, waker)]
    ready = [wire for wire in wires if wire.has_pending]
    if ready:
        return ready
    poll = select.poll()
    poll.register(waker, select.POLLIN)
    by_descriptor = {wire.fileno(): wire for wire in wires}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    found = poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
    return [by_descriptor[descriptor] for descriptor, _ in found if descriptor in by_descriptor]


def _flat(reply: dict[Any, Any]) -> list[Any]:
    return [side for pair in reply.items() for side in pair]
