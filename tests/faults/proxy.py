"""A TCP proxy in front of a server: it loses requests, loses replies, holds replies or goes silent, as told.

It reads the protocol, so a fault strikes one command and not a number of bytes. What it did is counted, so
that a test can show that the fault it is about has happened.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Literal

import attrs
from attrs import define, field, frozen

__all__ = ["Counts", "FaultProxy"]

_JOIN_SECONDS = 30.0
_PORTION = 64 * 1024
_SUBSCRIBING = (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"MONITOR")


@frozen
class Counts:
    """What the proxy has done so far."""

    connections: int = 0
    requests: int = 0
    """Requests that went on to the server."""
    replies: int = 0
    """Replies that went back to the client; of what is pushed to a subscriber each portion is one."""
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
    silent: bool = False
    """Whether what comes to a subscriber is held."""
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
        self._done: Counter[str] = Counter()
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
        return Counts(**self._done)

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
                connection.silent = False
            self._changed.notify_all()

    def sever(self) -> None:
        """Close all connections now; new ones are taken."""
        with self._changed:
            for connection in self._connections:
                self._end(connection)

    def wait_until(self, reached: Callable[[Counts], bool], timeout: float = 30.0) -> Counts:
        """Wait until the counts are so; `AssertionError` if they are not within `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: reached(self.counts), timeout):
                raise AssertionError(f"the proxy has done {self.counts} after {timeout} s")
            return self.counts

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
            # As a server does: of several small replies the later ones would wait until the first is acknowledged.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
            near = socket.create_connection(self._target, _JOIN_SECONDS)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return near
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
        requests = _Messages(connection.client)
        with self._until_over(connection):
            while request := requests.next():
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
            held = self._holding is not None and self._holding in text
            if any(b"\r\n" + word + b"\r\n" in text for word in _SUBSCRIBING):
                connection.subscribed = True
                connection.silent = connection.silent or held
            elif held:
                connection.hold.add(connection.asked)
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
        replies = _Messages(connection.server)
        with self._until_over(connection):
            # What is pushed is not taken apart: of a stream that would take most of a processor.
            while reply := replies.portion() if connection.subscribed else replies.next():
                if not self._may_answer(connection, reply):
                    return
                connection.client.sendall(reply)

    def _may_answer(self, connection: _Connection, reply: bytes) -> bool:
        with self._changed:
            # What is pushed answers nothing. Once subscribed, RESP2 does not tell the two apart.
            if connection.silent:
                self._count("replies_held")
                self._wait(connection, lambda: not connection.silent)
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
        self._done[name] += 1
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


class _Messages:
    """Takes what a socket brings apart into whole requests or replies of RESP2 or RESP3, byte for byte."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = bytearray()
        self._at = 0
        self._left = 1
        """Of the message that is being looked through: parts that are not."""

    def next(self) -> bytes:
        """The next whole message; empty at the end of the stream."""
        while True:
            if self._scan():
                message, self._at, self._left = bytes(self._data[: self._at]), 0, 1
                del self._data[: len(message)]
                return message
            if not self._fill():
                return b""

    def portion(self) -> bytes:
        """What is there, whole messages or not; waits for some; empty at the end of the stream."""
        if not self._data and not self._fill():
            return b""
        portion = bytes(self._data)
        self._data.clear()
        self._at, self._left = 0, 1
        return portion

    def _fill(self) -> bool:
        data = self._sock.recv(_PORTION)
        self._data += data
        return bool(data)

    def _scan(self) -> bool:
        """Go on as far as there is something; whether that is the end of a message."""
        data, at, left = self._data, self._at, self._left
        while left:
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            kind, size = data[at], data[at + 1 : end]
            if kind in b"$!=" and size != b"-1":
                behind = end + 4 + int(size)
                if behind > len(data):
                    break
                at = behind
            else:
                at = end + 2
                if kind in b"*~>%|" and size != b"-1":
                    left += int(size) * (2 if kind in b"%|" else 1) + (kind == ord("|"))
            left -= 1
        self._at, self._left = at, left
        return not left
