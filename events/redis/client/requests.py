"""A client that sends idempotent commands until they are answered or time is up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Event
from time import monotonic
from typing import Any, Final

import redis
from redis.exceptions import NoScriptError

from ...errors import Unavailable
from .errors import Retry, classify_error, retry_pause, translate_error
from .script import Script, encode_command
from .tls import check_tls_mismatch, require_protocol
from .wire import CONNECTION_ERRORS, Wire

_SCAN: Final = b"512"


class RedisClient:
    """Sends idempotent commands and scripts, again if need be. Thread-safe; connections are opened as needed.

    `ensure_server` is called when the server cannot be reached, before the next try: it starts or finds the embedded
    server. Every call raises typed errors only: `Unavailable` after `retry_seconds` of trying, `NotPermitted`, and
    what else `translate_error` makes of the server's answers.
    """

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
    def reply_timeout(self) -> float:
        """Seconds a reply may take before its connection counts as lost."""
        settings: dict[str, Any] = self.pool.connection_kwargs
        return float(settings.get("socket_timeout") or 5.0)

    def connect(self) -> Wire:
        """Open a connection for the caller to drive. Raises CONNECTION_ERRORS, or what `ensure_server` raises."""
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
        """Return the replies to commands sent together, on one connection, in order, but not atomically."""
        if not commands:
            return []
        return self.execute_encoded(doing, b"".join(map(encode_command, commands)), len(commands))

    def execute_encoded(self, doing: str, commands: bytes, count: int) -> list[Any]:
        """As `execute_all`, for `count` commands that are encoded already."""
        return self._exchange(doing, commands, None, count)

    def run_script(self, script: Script, keys: Sequence[str], arguments: Sequence[bytes], doing: str) -> Any:
        """Return the reply of a script, which is loaded first if need be."""
        return self._exchange(doing, script.call(keys, arguments), script, 1)[0]

    def run_scripts(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[bytes]]],
        doing: str,
        *,
        then: Sequence[bytes] | None = None,
    ) -> list[Any]:
        """Return the replies to calls of one script, each with keys and arguments, sent together.

        `then` is a command that is sent behind them on the same connection; its reply is the last. The script is then
        loaded each time, since a command that waits would do so twice where the server has to be told the script.
        """
        if not calls:
            return []
        sent = b"".join([script.call(*call) for call in calls])
        if then is None:
            return self._exchange(doing, sent, script, len(calls))
        return self._exchange(doing, script.load + sent + encode_command(then), None, len(calls) + 2)[1:]

    def read_hash(self, key: str, doing: str) -> dict[bytes, bytes]:
        """Return all fields of a hash, read in steps; a field that changes meanwhile has its old or new value."""
        return {name: value for page in self.scan_hash(key, doing) for name, value in page.items()}

    def scan_hash(self, key: str, doing: str) -> Iterator[dict[bytes, bytes]]:
        """Iterate over a hash in pages; a field may be in two of them, if the server rebuilds the hash meanwhile."""
        cursor = b"0"
        while True:
            cursor, fields = self.execute(doing, b"HSCAN", key.encode(), cursor, b"COUNT", _SCAN)
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
        wire = self.connect()
        try:
            wire.send(call)
            try:
                found = _read(wire, replies)
            except NoScriptError:
                assert script is not None
                wire.send(script.load + call)
                found = _read(wire, 1 + replies)[1:]
        except redis.ResponseError:
            wire.release()
            raise
        except BaseException:
            wire.discard()  # a reply may still come, so the connection cannot be used again
            raise
        wire.release()
        return found


def _read(wire: Wire, count: int) -> list[Any]:
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
