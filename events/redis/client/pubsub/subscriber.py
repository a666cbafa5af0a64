"""Connections that are subscribed to channels, and again after each loss, driven by the thread that receives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from math import inf
from threading import Lock
from time import monotonic
from typing import Final, Generic, TypeVar

import redis
from attrs import Factory, define
from redis.exceptions import MovedError

from ....errors import DuramenError
from ....logging import get_logger
from ..cluster_nodes import Address, slot_of
from ..errors import retry_pause
from ..requests import RedisClient
from ..script import encode_command
from ..wire import RECEIVE_BYTES, Waker, Wire, wait_for_any
from .push_parser import ProtocolError, PushParser

_REFUSED_PAUSE: Final = 5.0
_SILENCE: Final = 1.0
"""Seconds without a byte, after which the server is sent a PING."""
_MOST_PORTIONS: Final = 16
"""Portions of 64 KiB that one `receive` reads at most, so that it returns in a flood."""
_PARTS: Final = 3
"""Parts of a message: kind, channel, payload; of a confirmation: kind, channel, number of channels."""
_PING: Final = encode_command((b"PING",))
_NO_PING: Final = b"'ping' command"
_MESSAGES: Final = frozenset((b"message", b"smessage"))
_SUBSCRIBED: Final = frozenset((b"subscribe", b"ssubscribe"))
_UNSUBSCRIBED: Final = frozenset((b"unsubscribe", b"sunsubscribe"))
_MOVED: Final = b"-MOVED "
_PASSING: Final = frozenset((b"CLUSTERDOWN", b"LOADING", b"MASTERDOWN", b"TRYAGAIN"))
_KEEP: Final = 256
"""Bytes of a message that are always kept: an answer or the positions need so many."""

Place = TypeVar("Place")
_FAILURES: Final = (redis.RedisError, OSError, DuramenError, ProtocolError)


class Refused(Exception):
    """The server has answered with an error, whose code is the text."""


@define(eq=False)
class _Connection(Generic[Place]):
    """The connection to one server, and what it is subscribed to."""

    node: Address | None
    """None for a single server."""
    wanted: Mapping[bytes, Place] = Factory(dict[bytes, Place])
    subscribed: dict[bytes, Place] = Factory(dict[bytes, Place])
    wire: Wire | None = None
    pushes: PushParser = Factory(PushParser)
    losses: int = 0
    """Connections lost since a channel was last subscribed to."""
    try_at: float = 0.0
    heard_at: float = 0.0
    is_pinged: bool = False

    def drop(self) -> None:
        if self.wire is not None:
            self.wire.discard()
            self.wire = None


class Subscriber(ABC, Generic[Place]):
    """Base of streams: connections that are subscribed to the channels that are wanted, each with its meaning.

    There is one connection, or in a cluster one to each node that has some of the channels. They are opened when a
    channel is wanted, and again when they are lost; a channel whose slot moves is subscribed to at its new node.
    `_want`, `wake` and `close` may be called from any thread; everything else is done by the one that is in `_run`.
    """

    _lost_event = "subscription_interrupted"
    """What the log calls the loss of a connection."""

    def __init__(self, server: RedisClient, logger: str, keep: int) -> None:
        self._server = server
        self._nodes = server.nodes
        sharded = b"" if self._nodes is None else b"S"
        self._join, self._leave = sharded + b"SUBSCRIBE", sharded + b"UNSUBSCRIBE"
        self._log = get_logger(logger)
        self._waker = Waker()
        self._using = Lock()
        self._closed = False
        self._woken = False
        self._keep = keep
        """The largest message, in bytes, that is kept whole."""
        self._wanted: Mapping[bytes, Place] = {}
        self._routed: tuple[Mapping[bytes, Place], int] = ({}, 0)
        """The channels that the connections share, and by which version of the cluster's nodes."""
        self._connections: dict[Address | None, _Connection[Place]] = {}

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
    def _handle_message(self, channel: bytes, place: Place | None, payload: bytes) -> None:
        """A message has arrived. `place` is None where the channel is not wanted any more."""

    @abstractmethod
    def _handle_change(self, place: Place | None) -> None:
        """A channel was subscribed to, or unsubscribed from: messages may have been lost before. None: no such one."""

    def _forget_connection(self) -> None:
        """Forget what was known of the last connection: a new one has been opened."""

    def _due_at(self) -> float:
        """When `_check` has to be called, by `monotonic`."""
        return inf

    def _check(self) -> None:
        """Called at `_due_at` and now and then. May raise what makes the connections be opened again."""

    @property
    def _has_channels(self) -> bool:
        """Whether a connection is subscribed to a channel, or has asked to be."""
        return any(connection.subscribed for connection in self._connections.values())

    # -- receiving -------------------------------------------------------------------------------------------------

    def _want(self, channels: Mapping[bytes, Place]) -> None:
        self._wanted = channels
        self._waker.set()

    def _release(self) -> None:
        if self._using.acquire(blocking=False):  # otherwise the thread in `_run` does it on its way out
            try:
                for connection in self._connections.values():
                    connection.drop()
                self._waker.close()
            finally:
                self._using.release()

    def _run(self, until: float) -> None:
        """Return when there is a result, at `until`, or after a `wake`. Called with `_using` held."""
        while not self._closed:
            self._step(until)
            if self._woken:
                self._woken = False
                return
            if self._has_result() or monotonic() >= until:
                return

    def _step(self, until: float) -> None:
        """Wait for bytes, a wake, a silence or the time to connect, and handle it."""
        self._route()
        due = min(until, self._due_at(), self._route_at if self._is_outdated() else inf)
        open_ones: dict[Wire, _Connection[Place]] = {}
        for connection in list(self._connections.values()):
            due = min(due, self._prepare(connection))
            if connection.wire is not None:
                open_ones[connection.wire] = connection
        if not open_ones:
            self._waker.wait(_seconds(due))
            self._waker.clear()
            return
        ready = wait_for_any(open_ones, _seconds(due), self._waker)
        for wire in ready:
            self._guarded(open_ones[wire], self._drain)
        if not ready:
            self._waker.clear()
            for connection in open_ones.values():
                self._guarded(connection, self._check_connection)

    def _guarded(self, connection: _Connection[Place], call: Callable[[_Connection[Place], Wire], None]) -> None:
        wire = connection.wire
        try:
            if wire is not None:
                call(connection, wire)
        except (*_FAILURES, Refused) as error:
            self._lost(connection, error)

    def _prepare(self, connection: _Connection[Place]) -> float:
        """Connect and subscribe as far as it is time for that; return when there is something to do again."""
        if connection.wire is None:
            if not connection.wanted:
                return inf
            if monotonic() < connection.try_at:
                return connection.try_at
            self._connect(connection)
        self._guarded(connection, self._subscribe)
        if connection.wire is not None and connection.wire.is_closed:
            self._lost(connection, redis.ConnectionError("closed"))
        if connection.wire is None:
            return connection.try_at
        is_looking = connection.is_pinged and self._nodes is not None
        return min(self._silent_at(connection), self._look_at) if is_looking else self._silent_at(connection)

    def _drain(self, connection: _Connection[Place], wire: Wire) -> None:
        """Handle what has arrived, up to a limit."""
        for _ in range(_MOST_PORTIONS):
            data = wire.receive()
            for message in connection.pushes.feed(data):
                self._handle(connection, message)
            if len(data) < RECEIVE_BYTES:  # otherwise there may be more
                break
        connection.heard_at = monotonic()
        connection.is_pinged = False

    def _handle(self, connection: _Connection[Place], message: list[bytes]) -> None:
        kind = message[0]
        if kind in _MESSAGES and len(message) == _PARTS:
            self._handle_message(message[1], connection.subscribed.get(message[1]), message[2])
        elif kind in _SUBSCRIBED and len(message) == _PARTS:
            # Messages published before this are lost, also the first time.
            self._handle_change(connection.subscribed.get(message[1]))
            connection.losses = self._moves = 0
        elif kind in _UNSUBSCRIBED and len(message) == _PARTS:
            # One that was never requested, as when a slot moves away: so the next step subscribes again.
            self._handle_change(connection.subscribed.pop(message[1], None))
        elif kind.startswith(_MOVED):
            self._note_moved(connection, kind)
        elif kind.startswith(b"-") and not kind.endswith(_NO_PING):  # a server that refuses PING is there
            code = kind[1:].split(b" ", 1)[0]
            text = code.decode("ascii", "replace")
            raise redis.ConnectionError(text) if code in _PASSING else Refused(text)

    def _check_connection(self, connection: _Connection[Place], wire: Wire) -> None:
        self._check()
        if connection.is_pinged and self._nodes is not None and monotonic() >= self._look_at:
            self._look_for_nodes()  # a node can hang while another one takes its slots
        if monotonic() < self._silent_at(connection):
            return
        if connection.is_pinged:
            raise redis.TimeoutError("no answer to PING")
        connection.is_pinged = True
        self._look_at = monotonic() + _SILENCE
        wire.send(_PING)

    # -- the nodes of a cluster ----------------------------------------------------------------------------------------

    def _is_outdated(self) -> bool:
        """Whether other channels are wanted, or other nodes are known, than the connections share."""
        wanted, version = self._routed
        return wanted is not self._wanted or (self._nodes is not None and version != self._nodes.version)

    def _route(self) -> None:
        """Share the wanted channels among the connections."""
        if not self._is_outdated() or monotonic() < self._route_at:
            return
        wanted, version = self._wanted, 0 if self._nodes is None else self._nodes.version
        try:
            shares = self._shares(wanted)
        except (redis.RedisError, OSError) as error:
            self._moves += 1
            self._route_at = monotonic() + retry_pause(self._moves)
            self._log.warning(self._lost_event, error=type(error).__name__, advice="looking for the cluster's nodes")
            return
        for node in self._connections.keys() - shares.keys():
            self._connections.pop(node).drop()
        for node, share in shares.items():
            self._connections.setdefault(node, _Connection(node)).wanted = share
        self._routed = wanted, version

    def _shares(self, wanted: Mapping[bytes, Place]) -> Mapping[Address | None, Mapping[bytes, Place]]:
        if self._nodes is None:
            return {None: wanted}
        shares: dict[Address | None, dict[bytes, Place]] = {}
        for channel, place in wanted.items():
            shares.setdefault(self._nodes.owner_of(slot_of(channel)), {})[channel] = place
        return shares

    def _note_moved(self, connection: _Connection[Place], refusal: bytes) -> None:
        """Look for channels of a slot at the node that is said to have it."""
        if self._nodes is None or connection.node is None:
            raise Refused("MOVED")
        try:
            error = MovedError(refusal[len(_MOVED) :].decode("ascii", "replace"))
        except ValueError:
            raise ProtocolError("not a node") from None
        self._nodes.note_moved(error, connection.node)
        for channel in [channel for channel in connection.subscribed if slot_of(channel) == error.slot_id]:
            del connection.subscribed[channel]
        # While a slot is handed over, two nodes may name each other.
        self._moves += 1
        self._route_at = monotonic() + (retry_pause(self._moves) if self._moves > 1 else 0.0)

    # -- a connection ------------------------------------------------------------------------------------------------

    def _connect(self, connection: _Connection[Place]) -> None:
        try:
            connection.wire = self._server.connect_to(connection.node)
        except _FAILURES as error:
            self._lost(connection, error)
            return
        connection.pushes = PushParser(max(_KEEP, self._keep))
        connection.subscribed = {}
        self._forget_connection()
        connection.heard_at = monotonic()
        connection.is_pinged = False

    def _subscribe(self, connection: _Connection[Place], wire: Wire) -> None:
        """Subscribe and unsubscribe, so that this connection has the channels that are wanted of it."""
        wanted = connection.wanted
        if wanted.keys() == connection.subscribed.keys():
            return
        removed = connection.subscribed.keys() - wanted.keys()
        added = wanted.keys() - connection.subscribed.keys()
        connection.subscribed = dict(wanted)
        wire.send(b"".join([*self._commands(self._leave, removed), *self._commands(self._join, added)]))

    def _commands(self, name: bytes, channels: Collection[bytes]) -> Iterable[bytes]:
        """Encode one command for all channels, or in a cluster one for those of each slot."""
        together: dict[int, list[bytes]] = {}
        for channel in sorted(channels):
            together.setdefault(0 if self._nodes is None else slot_of(channel), []).append(channel)
        return [encode_command((name, *members)) for members in together.values()]

    def _silent_at(self, connection: _Connection[Place]) -> float:
        """When a connection will have been silent for too long."""
        return connection.heard_at + _SILENCE + (self._server.reply_timeout if connection.is_pinged else 0.0)

    def _lost(self, connection: _Connection[Place], error: Exception) -> None:
        connection.drop()
        if self._closed:
            return
        refused = isinstance(error, Refused)
        pause = retry_pause(connection.losses) if connection.losses else 0.0
        connection.try_at = monotonic() + (_REFUSED_PAUSE if refused else pause)
        connection.losses += 1
        # A single loss is ordinary, as when the process that owned an embedded server has ended.
        log = self._log.warning if refused or connection.losses > 1 else self._log.info
        log(
            self._lost_event,
            error=str(error) if refused else type(error).__name__,
            advice="see `duramen doctor`" if refused else "connecting again",
        )
        if not refused:
            self._look_for_nodes()  # another one may have the slots by now

    def _look_for_nodes(self) -> None:
        self._look_at = monotonic() + _SILENCE
        if self._nodes is not None:
            with suppress(redis.RedisError, OSError, DuramenError):
                self._nodes.refresh()

    _moves: int = 0
    """Times that channels were looked for at another node since one was last subscribed to."""
    _route_at: float = 0.0
    _look_at: float = 0.0
    """When the nodes are looked for again while one is silent."""


def _seconds(until: float) -> float | None:
    return None if until == inf else max(0.0, until - monotonic())
