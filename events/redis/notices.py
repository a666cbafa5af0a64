"""Notices from a server's channels, summed up as the partitions that have moved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf
from threading import Lock
from time import monotonic
from typing import Any, Final, cast

import redis

import msgpack

from ..errors import DuramenError
from ..log import Keys, Notice
from ..logging import get_logger
from ..model import Granularity
from .client import RECEIVE_BYTES, ProtocolError, PushParser, RedisClient, Waker, Wire, encode_command

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5
_REFUSED_PAUSE: Final = 5.0
_SILENCE: Final = 1.0
"""Seconds without a byte, after which the server is sent a PING."""
_MALFORMED_PAUSE: Final = 1.0
_MOST_PORTIONS: Final = 16
"""Portions of 64 KiB that one `receive` reads at most, so that it returns in a flood."""
_PARTS: Final = 3
"""Parts of a message: kind, channel, payload; of a confirmation: kind, channel, number of channels."""
_PING: Final = encode_command((b"PING",))
_NO_PING: Final = b"'ping' command"
_JOIN: Final = b"SUBSCRIBE"
_LEAVE: Final = b"UNSUBSCRIBE"
_ARRAY_OF_FIVE: Final = 0x95
_KEEP: Final = 256
"""Bytes of a message that are always kept: an answer or the positions need so many."""
_UINT8: Final = 0xCC
_UINT64: Final = 0xCF


_Place = tuple[int, Granularity]
_NOWHERE: Final[_Place] = (-1, Granularity.TRACE)


class Refused(Exception):
    """The server has answered with an error, whose code is the text."""


def position_of(payload: bytes) -> int | None:
    """The position in a notice, of which the first bytes are enough; None if it is malformed."""
    if not payload or payload[0] != _ARRAY_OF_FIVE:
        return None
    previous, at = _unsigned(payload, 1)
    position, _ = _unsigned(payload, at)
    return position if 0 <= previous < position else None


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned integer of msgpack, and where the next value begins; -1 for anything else."""
    if at >= len(data):
        return -1, at
    first = data[at]
    if first < 0x80:
        return first, at + 1
    if not _UINT8 <= first <= _UINT64:
        return -1, len(data)
    end = at + 1 + (1 << (first - _UINT8))
    return (int.from_bytes(data[at + 1 : end]) if end <= len(data) else -1), end


def notice_of(partition: int, level: Granularity, payload: bytes) -> Notice | None:
    """A whole notice; None if it is malformed."""
    try:
        previous, position, rows, before, levels = msgpack.unpackb(payload, raw=True)
        events = None if rows is False else [(agent.decode(), first, items) for agent, first, items in rows]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    sound = {type(previous), type(position), type(before), type(levels)} == {int} and 0 <= previous < position
    sound = sound and all(_are_items(first, items) for _, first, items in events or ())
    return Notice(partition, level, previous, position, events, before, levels) if sound else None


def _are_items(first: Any, items: Any) -> bool:
    return type(first) is int and type(items) is list and {*map(type, cast("list[Any]", items))} == {bytes}


class RedisNotices:
    """A `NoticeStream` with a connection of its own, opened when something is followed, and again when it is lost.

    `follow`, `wake` and `close` may be called from any thread.
    """

    def __init__(self, server: RedisClient, keys: Keys, *, keep: int = 0) -> None:
        self._server = server
        self._keys = keys
        self._log = get_logger("notices")
        self._waker = Waker()
        self._using = Lock()
        self._closed = False
        self._woken = False
        self._keep = keep
        """The largest message, in bytes, whose events are decoded; 0: only positions are."""
        self._wanted: Mapping[bytes, _Place] = {}
        self._subscribed: dict[bytes, _Place] = {}
        self._ends: dict[bytes, int] = {}
        self._wire: Wire | None = None
        self._pushes = PushParser()
        self._positions: dict[int, int] = {}
        self._notices: list[Notice] = []
        self._unexpected = 0
        self.received = 0
        self._malformed_at: dict[int, float] = {}

    @property
    def unexpected(self) -> int:
        return self._unexpected

    def follow(self, partitions: Collection[int], level: int) -> None:
        levels = [one for one in Granularity if one <= level]
        self._wanted = {self._keys.channel(p, one).encode(): (p, one) for p in partitions for one in levels}
        self._waker.set()

    def receive(self, timeout: float | None) -> dict[int, int]:
        try:
            with self._using:
                self._notices = []
                self._receive(inf if timeout is None else monotonic() + timeout)
                positions, self._positions = self._positions, {}
                return positions
        finally:
            if self._closed:
                self._release()

    def take_notices(self) -> list[Notice]:
        notices, self._notices = self._notices, []
        return notices

    def wake(self) -> None:
        self._woken = True
        self._waker.set()

    def close(self) -> None:
        self._closed = True
        self._waker.set()
        self._release()

    def _release(self) -> None:
        if self._using.acquire(blocking=False):  # otherwise the thread in `receive` does it on its way out
            try:
                self._drop()
                self._waker.close()
            finally:
                self._using.release()

    # -- receiving -------------------------------------------------------------------------------------------------

    def _receive(self, until: float) -> None:
        """Return when there are positions, at `until`, or after a `wake`."""
        while not self._closed:
            try:
                self._step(until)
            except (redis.RedisError, OSError, DuramenError, ProtocolError, Refused) as error:
                self._lost(error)
            if self._woken:
                self._woken = False
                return
            if self._positions or monotonic() >= until:
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
        if wire.wait(_seconds(min(until, self._silent_at())), self._waker):
            self._drain(wire)
            return
        self._waker.clear()
        if monotonic() >= self._silent_at():
            self._break_silence(wire)

    def _drain(self, wire: Wire) -> None:
        """Handle what has arrived: many messages about a partition become one position."""
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
            self._handle_notice(message[1], message[2])
        elif kind == b"subscribe" and len(message) == _PARTS:
            # Notices published before this are lost, also the first time: a reader may have read the feed before.
            self._note_position(self._subscribed.get(message[1], _NOWHERE)[0], 0)
            self._losses = 0
        elif kind == b"unsubscribe" and len(message) == _PARTS:
            self._note_position(
                self._subscribed.pop(message[1], _NOWHERE)[0], 0
            )  # never requested: so the next step subscribes again
        elif kind.startswith(b"-") and not kind.endswith(_NO_PING):  # a server that refuses PING is there
            raise Refused(kind[1:].split(b" ", 1)[0].decode("ascii", "replace"))

    def _handle_notice(self, channel: bytes, payload: bytes) -> None:
        partition, level = self._subscribed.get(channel, _NOWHERE)
        if partition < 0:
            return
        self.received += 1
        notice = notice_of(partition, level, payload) if len(payload) < self._keep else None
        position = position_of(payload) if notice is None else notice.position
        if position is None:
            self._unexpected += 1
            # It names no position. Once a second the feed is read all the same: a newer format may have sent it.
            if monotonic() >= self._malformed_at.get(partition, 0.0) + _MALFORMED_PAUSE:
                self._malformed_at[partition] = monotonic()
                self._note_position(partition, 0)
            return
        self._note_position(partition, position)
        # Positions on a channel only grow: another one was sent by somebody else, or the one before it was.
        self._unexpected += position <= self._ends.get(channel, 0)
        self._ends[channel] = position
        if notice is None:
            self._unexpected += len(payload) < self._keep
        elif notice.events is not None:
            self._notices.append(notice)

    def _note_position(self, partition: int, position: int) -> None:
        if partition >= 0:
            known = self._positions.get(partition, position)
            self._positions[partition] = max(known, position) if known and position else 0

    # -- the connection ----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._wire = self._server.connect()
        self._pushes = PushParser(max(_KEEP, self._keep))
        self._subscribed, self._ends = {}, {}
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
        pause = _FIRST_PAUSE * 2 ** min(self._losses - 1, 8) if self._losses else 0.0
        self._try_at = monotonic() + (_REFUSED_PAUSE if refused else min(_LONGEST_PAUSE, pause))
        self._losses += 1
        # A single loss is ordinary, as when the process that owned an embedded server has ended.
        log = self._log.warning if refused or self._losses > 1 else self._log.info
        log(
            "notices_interrupted",
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
