"""One connection of redis-py, driven by hand: what is sent, what is sent again, and when, is ours to decide."""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from typing import Any, cast

import redis

__all__ = ["CONNECTION_ERRORS", "RECEIVE_BYTES", "Waker", "Wire"]

RECEIVE_BYTES = 64 * 1024
"""What `Wire.receive` takes at most."""

CONNECTION_ERRORS = (redis.ConnectionError, redis.TimeoutError, OSError)
"""What tells that a connection is of no more use. LOADING is among them, though the server answered."""


class Waker:
    """Ends a wait on a socket from another thread."""

    __slots__ = ("_receiver", "_sender", "_set")

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._set = False

    def fileno(self) -> int:
        return self._receiver.fileno()

    def set(self) -> None:
        """Wake the waiter, now or when it next waits. Callable from any thread."""
        if not self._set:
            self._set = True
            with suppress(BlockingIOError, OSError):  # full: it is awake anyway; closed: nobody waits
                self._sender.send(b"\0")

    def clear(self) -> None:
        if self._set:
            # A `set` in between is lost, and may be: who clears looks for work before waiting again. In the other
            # order its byte could be eaten while the flag stays, and no later `set` would wake anybody.
            with suppress(BlockingIOError):
                self._receiver.recv(4096)
            self._set = False

    def wait(self, timeout: float | None) -> bool:
        """Wait to be woken, at most `timeout` seconds; whether it was."""
        poll = select.poll()
        poll.register(self._receiver, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()


class Wire:
    """A connection that was taken from a pool. Used by one thread at a time."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        # redis-py leaves parts of its connections untyped; this is the one place that touches them.
        self._connection: Any = cast("Any", pool).get_connection()
        self._poll = select.poll()
        self._polled: tuple[int, Waker] | None = None
        self._patience: float | None = None
        self._hasty = False
        """Its socket does not wait, for `receive`."""

    def make_room(self, size: int) -> None:
        """Let `send` hand over so many bytes before it waits for the server, as far as the system allows."""
        sock = self._connection._sock
        if sock is not None and sock.family == socket.AF_UNIX:  # of TCP the kernel finds the size by itself
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def send(self, data: bytes) -> None:
        """Send bytes. Raises one of CONNECTION_ERRORS."""
        if self._hasty and self._connection._sock is not None:
            self._connection._sock.settimeout(self._patience)
            self._hasty = False
        self._connection.send_packed_command([data], check_health=False)

    def read(self, *, timeout: float | None = None) -> Any:
        """Return the next reply, in bytes. Raises an error reply, or CONNECTION_ERRORS when the connection is lost."""
        if timeout is None:
            return self._connection.read_response(disable_decoding=True)
        return self._connection.read_response(disable_decoding=True, timeout=timeout)

    def receive(self) -> bytes:
        """Bytes that have arrived, up to 64 KiB, for who takes the protocol apart; empty if none are there.

        Never waits. Raises one of CONNECTION_ERRORS. A connection is used with this or with `read`, never with both.
        """
        sock = self._connection._sock
        if sock is None:
            raise redis.ConnectionError("closed")
        if not self._hasty:
            # Until something is sent: to change it for each portion took two calls of the kernel more.
            self._patience, self._hasty = sock.gettimeout(), True
            sock.settimeout(0)
        try:
            data: bytes = sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        if not data:
            raise redis.ConnectionError("closed by the server")
        return data

    def buffered(self) -> bool:
        """Whether bytes of another reply were read along with the last one."""
        reader = getattr(self._connection._parser, "_reader", None)  # hiredis'; asking the socket costs two calls
        return bool(reader.has_data()) if reader is not None else bool(self._connection.can_read(0))

    def ready(self) -> bool:
        """Whether a part of a reply is there. Never waits. Raises one of CONNECTION_ERRORS."""
        if self.closed:
            raise redis.ConnectionError("closed")  # redis-py would open it anew
        return bool(self._connection.can_read(0))

    @property
    def closed(self) -> bool:
        """Whether redis-py has closed it, which it does after some replies too, LOADING for one.

        It must not be used then: redis-py would open it anew, and what was under way on it would be forgotten.
        """
        return self._connection._sock is None

    @property
    def descriptor(self) -> int | None:
        """Of its socket, for a process that goes on with it; None where it is encrypted, or closed."""
        sock = self._connection._sock
        return None if sock is None or isinstance(sock, ssl.SSLSocket) else int(sock.fileno())

    def wait(self, timeout: float | None, waker: Waker) -> bool:
        """Wait for bytes of a reply, at most `timeout` seconds or until the waker; whether some came."""
        sock = self._connection._sock
        if sock is None:
            raise redis.ConnectionError("closed")
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        mine = sock.fileno()
        if self._polled != (mine, waker):
            # Made once a connection: making it anew at each wait cost 4 µs of a lone call.
            self._poll = select.poll()
            self._poll.register(mine, select.POLLIN)
            self._poll.register(waker, select.POLLIN)
            self._polled = (mine, waker)
        found = self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        return any(ready == mine for ready, _ in found)

    def release(self) -> None:
        """Give the connection back for others to use; only when every reply was read."""
        self._pool.release(self._connection)

    def discard(self) -> None:
        """Close the connection and give its place back."""
        self._connection.disconnect()
        self._pool.release(self._connection)
