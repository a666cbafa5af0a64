"""A client that sends idempotent commands until they are answered or time is up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Event
from time import monotonic
from typing import Any, Final

import redis
from redis.exceptions import NoScriptError

from ...errors import DuramenError, Unavailable
from .cluster_nodes import Address, ClusterNodes
from .errors import Retry, classify_error, retry_pause, translate_error
from .script import Script, encode_command
from .tls import check_tls_mismatch, require_protocol
from .wire import CONNECTION_ERRORS, Wire

RunCommand = Callable[..., Any]
"""`run(doing, *command)` returns the server's reply to one command, all in bytes. Raises typed errors."""
SCAN_COUNT: Final = b"512"
FAILURES = (redis.RedisError, OSError, DuramenError)
"""Errors of a request that is sent ahead. The reader sends it again in its turn, and raises the error then."""


class RedisClient:
    """Sends idempotent commands and scripts, again if need be. Thread-safe; connections are opened as needed.

    `ensure_server` is called when the server cannot be reached, before the next try: it starts or finds the embedded
    server. Every call raises typed errors only: `Unavailable` after `retry_seconds` of trying, `NotPermitted`, and
    what else `translate_error` makes of the server's answers.

    Several commands that are sent together are answered in order, but not atomically; in a cluster, where
    `ClusterClient` sends them, in order for each slot.
    """

    publish_command: bytes = b"PUBLISH"

    def __init__(
        self,
        pool: redis.ConnectionPool,
        *,
        retry_seconds: float = 10.0,
        ensure_server: Callable[[], None] | None = None,
    ) -> None:
        self.pool = pool
        self._ensure_server = ensure_server
        self._closing = Event()
        self._has_answered = False
        self.retry_seconds = retry_seconds
        """Seconds for which a command is tried."""

    @property
    def nodes(self) -> ClusterNodes | None:
        """The nodes of a cluster; None for a single server."""
        return None

    @property
    def reply_timeout(self) -> float:
        """Seconds a reply may take before its connection counts as lost."""
        settings: dict[str, Any] = self.pool.connection_kwargs
        return float(settings.get("socket_timeout") or 5.0)

    def connect(self, key: bytes) -> Wire:
        """Open a connection for the caller to drive; in a cluster to the node that has a key or channel.

        Raises CONNECTION_ERRORS, or what `ensure_server` raises.
        """
        return self._connect()

    def connect_to(self, node: Address | None) -> Wire:
        """As `connect`, to a node of the cluster; None for a single server."""
        return self._connect()

    def node_of(self, key: str) -> Address | None:
        """Return the node of the cluster that has a key, as far as is known; None for a single server."""
        return None

    def _connect(self) -> Wire:
        try:
            return Wire(self.pool)
        except CONNECTION_ERRORS as error:
            if self._ensure_server is None or classify_error(error) is not Retry.AMBIGUOUS:
                raise
            self._ensure_server()
            return Wire(self.pool)

    def execute(self, doing: str, *command: bytes) -> Any:
        """Return the reply to one command; `doing` names its purpose in errors."""
        return self._exchange(doing, encode_command(command), None, 1)[0]

    def execute_all(self, doing: str, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        """Return the replies to commands sent together, in order."""
        if not commands:
            return []
        return self._exchange(doing, b"".join(map(encode_command, commands)), None, len(commands))

    def execute_encoded(self, doing: str, key: str, commands: Sequence[bytes]) -> list[Any]:
        """As `execute_all`, for commands that are encoded already, on keys of the slot of this one."""
        return self._exchange(doing, b"".join(commands), None, len(commands))

    def run_script(self, script: Script, keys: Sequence[str], arguments: Sequence[bytes], doing: str) -> Any:
        """Return the reply of a script, which is loaded first if need be."""
        return self._exchange(doing, script.call(keys, arguments), script, 1)[0]

    def run_scripts(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[bytes]]],
        doing: str,
    ) -> list[Any]:
        """Return the replies to calls of one script, each with keys and arguments, sent together."""
        if not calls:
            return []
        return self._exchange(doing, b"".join([script.call(*call) for call in calls]), script, len(calls))

    def run_scripts_then(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[bytes]]],
        then: Sequence[bytes],
        doing: str,
    ) -> list[tuple[Any, Any]]:
        """As `run_scripts`, with a command behind the calls on the same connection: each reply with that command's.

        The script is loaded each time, since a command that waits would do so twice where the server lacks the script.
        """
        if not calls:
            return []
        sent = b"".join([script.call(*call) for call in calls])
        command = encode_command(then)
        _, *replies, last = self._exchange(doing, script.load + sent + command, None, len(calls) + 2)
        return [(reply, last) for reply in replies]

    def runners(self) -> list[RunCommand]:
        """Return functions that run a command without a key on each server that takes writes. Raises typed errors."""
        return [self.execute]

    def run_script_on_each(self, script: Script, arguments: Sequence[bytes], doing: str) -> list[Any]:
        """Return the reply of a script without keys from each server that takes writes."""
        return [self.run_script(script, [], arguments, doing)]

    def read_hash(self, key: str, doing: str) -> dict[bytes, bytes]:
        """Return all fields of a hash, read in steps; a field that changes meanwhile has its old or new value."""
        return {name: value for page in self.scan_hash(key, doing) for name, value in page.items()}

    def scan_hash(self, key: str, doing: str) -> Iterator[dict[bytes, bytes]]:
        """Iterate over a hash in pages; a field may be in two of them, if the server rebuilds the hash meanwhile."""
        cursor = b"0"
        while True:
            cursor, fields = self.execute(doing, b"HSCAN", key.encode(), cursor, b"COUNT", SCAN_COUNT)
            yield dict(zip(fields[::2], fields[1::2], strict=True))
            if cursor == b"0":
                return

    def close(self) -> None:
        """Stop trying commands, and close all connections."""
        self._closing.set()
        self.pool.disconnect()

    def _exchange(self, doing: str, call: bytes, script: Script | None, replies: int) -> list[Any]:
        give_up_at = monotonic() + self.retry_seconds
        failures = 0
        if not self._has_answered:
            require_protocol(self.pool)
        while True:
            failures += 1
            try:
                found = self._try_once(call, script, replies)
            except Unavailable:  # the embedded server could not be started
                if monotonic() >= give_up_at or self._closing.wait(retry_pause(failures)):
                    raise
            except (redis.RedisError, OSError) as error:
                if not self._has_answered:
                    check_tls_mismatch(self.pool, error)
                hopeless = classify_error(error) is Retry.FATAL or monotonic() >= give_up_at
                if hopeless or self._closing.wait(retry_pause(failures)):
                    raise translate_error(error, doing) from None
            else:
                self._has_answered = True
                return found

    def _try_once(self, call: bytes, script: Script | None, replies: int) -> list[Any]:
        wire = self._connect()
        try:
            wire.send(call)
            try:
                found = read_replies(wire, replies)
            except NoScriptError:
                assert script is not None
                wire.send(script.load + call)
                found = read_replies(wire, 1 + replies)[1:]
        except redis.ResponseError:
            wire.release()
            raise
        except BaseException:
            wire.discard()  # a reply may still come, so the connection cannot be used again
            raise
        wire.release()
        return found


def read_replies(wire: Wire, count: int) -> list[Any]:
    """Read `count` replies. All are read before the first error reply is raised, to leave the connection usable."""
    found: list[Any] = []
    refused: redis.ResponseError | None = None
    for _ in range(count):
        try:
            found.append(wire.read())
        except redis.ResponseError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return found


class HeldConnection:
    """A connection that a reader keeps from one request to the next. Used by one thread at a time.

    It is opened when needed. Others may have it after `close`, unless replies are still `under_way`: then it is closed
    for good.
    """

    def __init__(self, server: RedisClient, key: str) -> None:
        """`key` is one of those that are read: in a cluster it says which node to connect to."""
        self._server = server
        self._key = key.encode()
        self._wire: Wire | None = None
        self.under_way = False

    @property
    def busy_wire(self) -> Wire | None:
        """The connection that has replies under way, if there is one."""
        return self._wire if self.under_way else None

    def open(self) -> Wire:
        """Raises one of `FAILURES`."""
        if self._wire is None:
            self._wire = self._server.connect(self._key)
        return self._wire

    def close(self) -> None:
        """Release the connection; one with replies under way is closed."""
        if self._wire is not None and not self.under_way:
            self._wire.release()
            self._wire = None
        self.discard()

    def discard(self) -> None:
        """Close the connection, with what is under way."""
        if self._wire is not None:
            self._wire.discard()
        self._wire, self.under_way = None, False
