"""A TCP proxy in front of a server: it loses requests, loses replies, holds replies or goes silent, as told.

It reads the protocol, so a fault strikes one command and not a number of bytes. What it did is counted, so
that a test can show that the fault it is about has happened.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import BinaryIO, Literal

import attrs
from attrs import define, field, frozen

__all__ = ["Counts", "FaultProxy"]

_JOIN_SECONDS = 10.0
_SUBSCRIBING = (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"MONITOR")


@frozen
class Counts:
    """What the proxy has done so far."""

    connections: int = 0
    requests: int = 0
    """Requests that went on to the server."""
    replies: int = 0
    """Replies that went back to the client; pushed messages count too."""
    requests_dropped: int = 0
    replies_dropped: int = 0
    replies_held: int = 0
    """Replies that waited, or still wait, for `release`."""
    requests_swallowed: int = 0
    """Requests that came in the dark (`black_hole`) and wait, or have waited, for `release`."""


@define
class _Fault:
    kind: Literal["request", "reply"]
    containing: bytes
    skip: int
    times: int


@define(eq=False)
class _Connection:
    client: socket.socket
    server: socket.socket
    over: bool = False
    asked: int = 0
    answered: int = 0
    subscribed: bool = False
    drop: set[int] = field(factory=set)
    hold: set[int] = field(factory=set)


class FaultProxy:
    """Listens on 127.0.0.1, a free port; `target` is the path of a Unix socket, or host and port.

    Faults look at requests that hold the bytes of `containing`, upper and lower case alike, since a client
    says hello and names itself before it sends what the test is about. `n` counts such requests from the call
    on, over all connections; `times` is how many of them in a row are struck.
    """

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target
        self._changed = threading.Condition()
        self._counts = Counts()
        self._faults: list[_Fault] = []
        self._holding: bytes | None = None
        self._dark = False
        self._closed = False
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._spawn(self._accept)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    @property
    def url(self) -> str:
        host, port = self.address
        return f"redis://{host}:{port}"

    @property
    def counts(self) -> Counts:
        return self._counts

    def drop_request(self, n: int = 1, *, containing: bytes = b"", times: int = 1) -> None:
        """Close the connection instead of passing the n-th request on: the server never sees it."""
        self._add(_Fault("request", containing, n - 1, times))

    def drop_reply(self, n: int = 1, *, containing: bytes = b"", times: int = 1) -> None:
        """Let the server carry out the n-th request, then close the connection and not pass its reply."""
        self._add(_Fault("reply", containing, n - 1, times))

    def hold_replies(self, *, containing: bytes = b"") -> None:
        """Keep back the replies to such requests, and what comes behind them, until `release`."""
        with self._changed:
            self._holding = containing.upper()

    def black_hole(self) -> None:
        """Pass nothing in either direction, and close nothing, until `release`. New connections are taken."""
        with self._changed:
            self._dark = True

    def release(self) -> None:
        """End `hold_replies` and `black_hole`: what was kept back goes on.

        A request does so even when its client has gone, as it does on a real network.
        """
        with self._changed:
            self._holding, self._dark = None, False
            for connection in self._connections:
                connection.hold.clear()
            self._changed.notify_all()

    def sever(self) -> None:
        """Close all connections now; new ones are taken."""
        with self._changed:
            for connection in self._connections:
                self._end(connection)

    def wait_until(self, reached: Callable[[Counts], bool], timeout: float = 10.0) -> Counts:
        """Wait until the counts are so; `AssertionError` if they are not within `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: reached(self._counts), timeout):
                raise AssertionError(f"the proxy has done {self._counts} after {timeout} s")
            return self._counts

    def close(self) -> None:
        """Close all connections and wait for all threads. Idempotent."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
        with suppress(OSError), socket.create_connection(self.address, _JOIN_SECONDS):
            pass  # wakes the thread in accept(), which closing the listener does not
        self._threads[0].join(_JOIN_SECONDS)
        self._listener.close()
        self.sever()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        alive = [thread.name for thread in self._threads if thread.is_alive()]
        assert not alive, f"threads of the proxy are left: {alive}"

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, fault: _Fault) -> None:
        assert fault.skip >= 0
        assert fault.times > 0
        with self._changed:
            self._faults.append(attrs.evolve(fault, containing=fault.containing.upper()))

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="duramen-fault-proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closed:
                client.close()
                return
            try:
                connection = _Connection(client, self._connect())
            except OSError:  # no server: the client finds its connection closed
                client.close()
                continue
            with self._changed:
                self._connections.add(connection)
                self._count("connections")
            self._spawn(self._serve, connection)

    def _connect(self) -> socket.socket:
        if isinstance(self._target, tuple):
            return socket.create_connection(self._target, _JOIN_SECONDS)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(self._target)
        except OSError:
            server.close()
            raise
        return server

    def _serve(self, connection: _Connection) -> None:
        connection.server.settimeout(None)
        back = threading.Thread(target=self._pass_replies, args=(connection,), name="duramen-fault-proxy", daemon=True)
        back.start()
        self._pass_requests(connection)
        back.join()
        with self._changed:
            self._connections.discard(connection)
        connection.client.close()
        connection.server.close()

    def _pass_requests(self, connection: _Connection) -> None:
        with self._until_over(connection), connection.client.makefile("rb") as requests:
            while request := _message(requests):
                if not self._may_ask(connection, request):
                    return
                connection.server.sendall(request)

    def _may_ask(self, connection: _Connection, request: bytes) -> bool:
        text = request.upper()
        with self._changed:
            if self._dark:
                self._count("requests_swallowed")
                self._wait(connection, lambda: not self._dark)
            if connection.over:
                return False
            fault = self._struck(text)
            if fault == "request":
                self._count("requests_dropped")
                return False
            connection.asked += 1
            if fault == "reply":
                connection.drop.add(connection.asked)
            if self._holding is not None and self._holding in text:
                connection.hold.add(connection.asked)
            if any(b"\r\n" + word + b"\r\n" in text for word in _SUBSCRIBING):
                connection.subscribed = True
            self._count("requests")
        return True

    def _struck(self, text: bytes) -> Literal["request", "reply"] | None:
        """Find the fault that strikes: the first that is due. Every fault that fits counts the request."""
        due: _Fault | None = None
        for fault in self._faults:
            if fault.containing not in text:
                continue
            if fault.skip:
                fault.skip -= 1
            elif due is None:
                due = fault
        if due is None:
            return None
        due.times -= 1
        if not due.times:
            self._faults.remove(due)
        return due.kind

    def _pass_replies(self, connection: _Connection) -> None:
        with self._until_over(connection), connection.server.makefile("rb") as replies:
            while reply := _message(replies):
                if not self._may_answer(connection, reply):
                    return
                connection.client.sendall(reply)

    def _may_answer(self, connection: _Connection, reply: bytes) -> bool:
        with self._changed:
            # What is pushed answers nothing. Once subscribed, RESP2 does not tell the two apart.
            if not reply.startswith(b">") and not connection.subscribed:
                connection.answered += 1
                number = connection.answered
                if number in connection.drop:
                    self._count("replies_dropped")
                    return False
                if number in connection.hold:
                    self._count("replies_held")
                    self._wait(connection, lambda: number not in connection.hold)
            self._wait(connection, lambda: not self._dark)
            if connection.over:
                return False
            self._count("replies")
        return True

    def _wait(self, connection: _Connection, ready: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: connection.over or ready())

    def _count(self, name: str) -> None:
        self._counts = attrs.evolve(self._counts, **{name: getattr(self._counts, name) + 1})
        self._changed.notify_all()

    @contextmanager
    def _until_over(self, connection: _Connection) -> Iterator[None]:
        """One direction of a connection: when it ends, for whatever reason, so does the other."""
        try:
            with suppress(OSError):  # the other side closed; that is what proxies are for
                yield
        finally:
            with self._changed:
                self._end(connection)

    def _end(self, connection: _Connection) -> None:
        connection.over = True
        for side in (connection.client, connection.server):
            with suppress(OSError):  # closed by the other side already
                side.shutdown(socket.SHUT_RDWR)
        self._changed.notify_all()


def _message(stream: BinaryIO) -> bytes:
    """One whole request or reply of RESP2 or RESP3, byte for byte; empty at the end of the stream."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        return b""
    kind, size = line[:1], line[1:-2]
    if kind in b"$!=" and size != b"-1":
        return _whole(line, stream.read(int(size) + 2), int(size) + 2)
    if kind in b"*~>%|" and size != b"-1":
        parts = [line]
        count = int(size) * (2 if kind in b"%|" else 1) + (kind == b"|")
        for _ in range(count):
            part = _message(stream)
            if not part:
                return b""
            parts.append(part)
        return b"".join(parts)
    return line


def _whole(line: bytes, content: bytes, size: int) -> bytes:
    return line + content if len(content) == size else b""
