"""A connection that subscribes to channels, and again after each loss, driven by the thread that receives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import inf
from threading import Lock
from time import monotonic
from typing import Final, Generic, TypeVar

import redis

from ...errors import DuramenError
from ...logging import get_logger
from .errors import retry_pause
from .requests import RedisClient
from .resp import ProtocolError, PushParser
from .script import encode_command
from .wire import RECEIVE_BYTES, Waker, Wire

_REFUSED_PAUSE: Final = 5.0
_SILENCE: Final = 1.0
"""Seconds without a byte, after which the server is sent a PING."""
_MOST_PORTIONS: Final = 16
"""Portions of 64 KiB that one `receive` reads at most, so that it returns in a flood."""
_PARTS: Final = 3
"""Parts of a message: kind, channel, payload; of a confirmation: kind, channel, number of channels."""
_PING: Final = encode_command((b"PING",))
_NO_PING: Final = b"'ping' command"
_JOIN: Final = b"SUBSCRIBE"
_LEAVE: Final = b"UNSUBSCRIBE"
_KEEP: Final = 256
"""Bytes of a message that are always kept: an answer or the positions need so many."""

Place = TypeVar("Place")


class Refused(Exception):
    """The server has answered with an error, whose code is the text."""


class Subscriber(ABC, Generic[Place]):
    """Base of streams: a connection that is subscribed to the channels that are wanted, each with its meaning.

    The connection is opened when a channel is wanted, and again when it is lost. `_want`, `wake` and `close` may be
    called from any thread; everything else is done by the one that is in `_run`.
    """

    _lost_event = "subscription_interrupted"
    """What the log calls the loss of a connection."""

    def __init__(self, server: RedisClient, logger: str, keep: int) -> None:
        self._server = server
        self._log = get_logger(logger)
        self._waker = Waker()
        self._using = Lock()
        self._closed = False
        self._woken = False
        self._keep = keep
        """The largest message, in bytes, that is kept whole."""
        self._wanted: Mapping[bytes, Place] = {}
        self._subscribed: dict[bytes, Place] = {}
        self._wire: Wire | None = None
        self._pushes = PushParser()

    def wake(self) -> None:
        self._woken = True
        self._waker.set()

    def close(self) -> None:
        self._closed = True
        self._waker.set()
        self._release()

    # -- what a stream makes of it -----------------------------------------------------------------------------------

    @abstractmethod
    def _has_result(self) -> bool:
        """Whether there is something for which `_run` ends."""

    @abstractmethod
    def _handle_message(self, channel: bytes, payload: bytes) -> None: ...

    @abstractmethod
    def _handle_change(self, place: Place | None) -> None:
        """A channel was subscribed to, or unsubscribed from: messages may have been lost before. None: no such one."""

    def _forget_connection(self) -> None:
        """Forget what was known of the last connection: a new one has been opened."""

    def _due_at(self) -> float:
        """When `_check` has to be called, by `monotonic`."""
        return inf

    def _check(self) -> None:
        """Called at `_due_at` and now and then. May raise what makes the connection be opened again."""

    # -- receiving -------------------------------------------------------------------------------------------------

    def _want(self, channels: Mapping[bytes, Place]) -> None:
        self._wanted = channels
        self._waker.set()

    def _release(self) -> None:
        if self._using.acquire(blocking=False):  # otherwise the thread in `_run` does it on its way out
            try:
                self._drop()
                self._waker.close()
            finally:
                self._using.release()

    def _run(self, until: float) -> None:
        """Return when there is a result, at `until`, or after a `wake`. Called with `_using` held."""
        while not self._closed:
            try:
                self._step(until)
            except (redis.RedisError, OSError, DuramenError, ProtocolError, Refused) as error:
                self._lost(error)
            if self._woken:
                self._woken = False
                return
            if self._has_result() or monotonic() >= until:
                return

    def _step(self, until: float) -> None:
        """Wait for bytes, a wake, a silence or the time to connect, and handle it."""
        now = monotonic()
        if self._wire is None:
            if not self._wanted or now < self._try_at:
                self._waker.wait(_seconds(min(until, self._try_at if self._wanted else inf)))
                self._waker.clear()
                return
            self._connect()
        wire = self._wire
        assert wire is not None
        self._subscribe(wire)
        if wire.wait(_seconds(min(until, self._silent_at(), self._due_at())), self._waker):
            self._drain(wire)
            return
        self._waker.clear()
        self._check()
        if monotonic() >= self._silent_at():
            self._break_silence(wire)

    def _drain(self, wire: Wire) -> None:
        """Handle what has arrived, up to a limit."""
        for _ in range(_MOST_PORTIONS):
            data = wire.receive()
            for message in self._pushes.feed(data):
                self._handle(message)
            if len(data) < RECEIVE_BYTES:  # otherwise there may be more
                break
        self._heard_at = monotonic()
        self._pinged = False

    def _handle(self, message: list[bytes]) -> None:
        kind = message[0]
        if kind == b"message" and len(message) == _PARTS:
            self._handle_message(message[1], message[2])
        elif kind == b"subscribe" and len(message) == _PARTS:
            # Messages published before this are lost, also the first time.
            self._handle_change(self._subscribed.get(message[1]))
            self._losses = 0
        elif kind == b"unsubscribe" and len(message) == _PARTS:
            # One that was never requested: so the next step subscribes again.
            self._handle_change(self._subscribed.pop(message[1], None))
        elif kind.startswith(b"-") and not kind.endswith(_NO_PING):  # a server that refuses PING is there
            raise Refused(kind[1:].split(b" ", 1)[0].decode("ascii", "replace"))

    # -- the connection ----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._wire = self._server.connect()
        self._pushes = PushParser(max(_KEEP, self._keep))
        self._subscribed = {}
        self._forget_connection()
        self._heard_at = monotonic()
        self._pinged = False

    def _subscribe(self, wire: Wire) -> None:
        """Subscribe and unsubscribe, so that this connection has the wanted channels."""
        wanted = self._wanted
        if wanted.keys() == self._subscribed.keys():
            return
        removed = self._subscribed.keys() - wanted.keys()
        added = wanted.keys() - self._subscribed.keys()
        self._subscribed = dict(wanted)
        commands = [
            encode_command((name, *sorted(names))) for name, names in ((_LEAVE, removed), (_JOIN, added)) if names
        ]
        wire.send(b"".join(commands))

    def _silent_at(self) -> float:
        """When the connection will have been silent for too long."""
        return self._heard_at + _SILENCE + (self._server.reply_timeout if self._pinged else 0.0)

    def _break_silence(self, wire: Wire) -> None:
        if self._pinged:
            raise redis.TimeoutError("no answer to PING")
        self._pinged = True
        wire.send(_PING)

    def _lost(self, error: Exception) -> None:
        self._drop()
        if self._closed:
            return
        refused = isinstance(error, Refused)
        pause = retry_pause(self._losses) if self._losses else 0.0
        self._try_at = monotonic() + (_REFUSED_PAUSE if refused else pause)
        self._losses += 1
        # A single loss is ordinary, as when the process that owned an embedded server has ended.
        log = self._log.warning if refused or self._losses > 1 else self._log.info
        log(
            self._lost_event,
            error=str(error) if refused else type(error).__name__,
            advice="see `duramen doctor`" if refused else "connecting again",
        )

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.discard()
            self._wire = None

    _losses: int = 0
    """Connections lost since a channel was last subscribed to."""
    _try_at: float = 0.0
    _heard_at: float = 0.0
    _pinged: bool = False


def _seconds(until: float) -> float | None:
    return None if until == inf else max(0.0, until - monotonic())
