"""Notices of a server's channels, boiled down to which partitions have moved."""

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

__all__ = ["RedisNotices", "Refused", "notice_of", "position_of"]

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5
_REFUSED_PAUSE: Final = 5.0
_SILENCE: Final = 1.0
"""Seconds without a byte after which the server is asked whether it is still there."""
_STRANGE_PAUSE: Final = 1.0
_MOST_PORTIONS: Final = 16
"""Of 64 KiB each: what one `receive` takes at most, so that a flood does not keep it from returning."""
_PARTS: Final = 3
"""Of a message: kind, channel, payload; of a confirmation: kind, channel, number of channels."""
_PING: Final = encode_command((b"PING",))
_NO_PING: Final = b"'ping' command"
_JOIN: Final = b"SUBSCRIBE"
_LEAVE: Final = b"UNSUBSCRIBE"
_ARRAY_OF_FIVE: Final = 0x95
_KEEP: Final = 256
"""Bytes of a message that are kept in any case: what an answer and the positions take."""
_UINT8: Final = 0xCC
_UINT64: Final = 0xCF


_Place = tuple[int, Granularity]
_NOWHERE: Final[_Place] = (-1, Granularity.TRACE)


class Refused(Exception):
    """The server has answered with an error; its code is all there is to say."""


def position_of(payload: bytes) -> int | None:
    """The position in a notice, of which the first bytes are enough; None if it is none."""
    if not payload or payload[0] != _ARRAY_OF_FIVE:
        return None
    previous, at = _unsigned(payload, 1)
    position, _ = _unsigned(payload, at)
    return position if 0 <= previous < position else None


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    """Unsigned integers of msgpack, and where the next value begins; -1 for anything else."""
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
    """A whole message; None if it is none."""
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
    """A `NoticeStream` with a connection of its own, opened when something is followed, and anew when it is lost.

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
        """Bytes of a message that are looked at for its events; 0: its positions are enough."""
        self._wanted: Mapping[bytes, _Place] = {}
        self._asked: dict[bytes, _Place] = {}
        self._ends: dict[bytes, int] = {}
        self._wire: Wire | None = None
        self._pushes = PushParser()
        self._hints: dict[int, int] = {}
        self._told: list[Notice] = []
        self._strange = 0
        self.received = 0
        self._strange_at: dict[int, float] = {}

    @property
    def unexpected(self) -> int:
        return self._strange

    def follow(self, partitions: Collection[int], level: int) -> None:
        levels = [one for one in Granularity if one <= level]
        self._wanted = {self._keys.channel(p, one).encode(): (p, one) for p in partitions for one in levels}
        self._waker.set()

    def receive(self, timeout: float | None) -> dict[int, int]:
        try:
            with self._using:
                self._told = []
                self._receive(inf if timeout is None else monotonic() + timeout)
                hints, self._hints = self._hints, {}
                return hints
        finally:
            if self._closed:
                self._let_go()

    def take_notices(self) -> list[Notice]:
        told, self._told = self._told, []
        return told

    def wake(self) -> None:
        self._woken = True
        self._waker.set()

    def close(self) -> None:
        self._closed = True
        self._waker.set()
        self._let_go()

    def _let_go(self) -> None:
        if self._using.acquire(blocking=False):  # else whoever is in `receive` does it on the way out
            try:
                self._drop()
                self._waker.close()
            finally:
                self._using.release()

    # -- receiving -------------------------------------------------------------------------------------------------

    def _receive(self, until: float) -> None:
        """Return when there are hints, or it is time, or somebody has called `wake`."""
        while not self._closed:
            try:
                self._step(until)
            except (redis.RedisError, OSError, DuramenError, ProtocolError, Refused) as error:
                self._lost(error)
            if self._woken:
                self._woken = False
                return
            if self._hints or monotonic() >= until:
                return

    def _step(self, until: float) -> None:
        """Wait for one thing to happen, and see to it."""
        now = monotonic()
        if self._wire is None:
            if not self._wanted or now < self._try_at:
                self._waker.wait(_seconds(min(until, self._try_at if self._wanted else inf)))
                self._waker.clear()
                return
            self._connect()
        wire = self._wire
        assert wire is not None
        self._ask(wire)
        if wire.wait(_seconds(min(until, self._silent_at())), self._waker):
            self._drain(wire)
            return
        self._waker.clear()
        if monotonic() >= self._silent_at():
            self._break_silence(wire)

    def _drain(self, wire: Wire) -> None:
        """Take what has arrived, and so answer many messages about a partition with one hint."""
        for _ in range(_MOST_PORTIONS):
            data = wire.receive()
            for message in self._pushes.feed(data):
                self._take(message)
            if len(data) < RECEIVE_BYTES:  # else there may be more
                break
        self._heard_at = monotonic()
        self._pinged = False

    def _take(self, message: list[bytes]) -> None:
        kind = message[0]
        if kind == b"message" and len(message) == _PARTS:
            self._take_notice(message[1], message[2])
        elif kind == b"subscribe" and len(message) == _PARTS:
            # What was published before this is not coming: even the first time somebody may have read up to there.
            self._hint(self._asked.get(message[1], _NOWHERE)[0], 0)
            self._losses = 0
        elif kind == b"unsubscribe" and len(message) == _PARTS:
            self._hint(self._asked.pop(message[1], _NOWHERE)[0], 0)  # unasked, or it were not there: so ask again
        elif kind.startswith(b"-") and not kind.endswith(_NO_PING):  # a server that refuses to answer is there
            raise Refused(kind[1:].split(b" ", 1)[0].decode("ascii", "replace"))

    def _take_notice(self, channel: bytes, payload: bytes) -> None:
        partition, level = self._asked.get(channel, _NOWHERE)
        if partition < 0:
            return
        self.received += 1
        notice = notice_of(partition, level, payload) if len(payload) < self._keep else None
        position = position_of(payload) if notice is None else notice.position
        if position is None:
            self._strange += 1
            # It says nothing, so there is nothing to look for. One look a second is for who may have meant well.
            if monotonic() >= self._strange_at.get(partition, 0.0) + _STRANGE_PAUSE:
                self._strange_at[partition] = monotonic()
                self._hint(partition, 0)
            return
        self._hint(partition, position)
        # A channel never goes back: what does is told by another, or somebody else has told of the future before.
        self._strange += position <= self._ends.get(channel, 0)
        self._ends[channel] = position
        if notice is None:
            self._strange += len(payload) < self._keep
        elif notice.events is not None:
            self._told.append(notice)

    def _hint(self, partition: int, position: int) -> None:
        if partition >= 0:
            known = self._hints.get(partition, position)
            self._hints[partition] = max(known, position) if known and position else 0

    # -- the connection ----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._wire = self._server.connect()
        self._pushes = PushParser(max(_KEEP, self._keep))
        self._asked, self._ends = {}, {}
        self._heard_at = monotonic()
        self._pinged = False

    def _ask(self, wire: Wire) -> None:
        """Bring what this connection has subscribed to in line with what is wanted."""
        wanted = self._wanted
        if wanted.keys() == self._asked.keys():
            return
        removed = self._asked.keys() - wanted.keys()
        added = wanted.keys() - self._asked.keys()
        self._asked = dict(wanted)
        commands = [
            encode_command((name, *sorted(names))) for name, names in ((_LEAVE, removed), (_JOIN, added)) if names
        ]
        wire.send(b"".join(commands))

    def _silent_at(self) -> float:
        """When the silence will have lasted too long."""
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
        self._log.warning(
            "notices_interrupted",
            error=str(error) if refused else type(error).__name__,
            advice="see `duramen doctor`" if refused else "connecting again",
        )

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.discard()
            self._wire = None

    _losses: int = 0
    """Of connections, since something was last subscribed to."""
    _try_at: float = 0.0
    _heard_at: float = 0.0
    _pinged: bool = False


def _seconds(until: float) -> float | None:
    return None if until == inf else max(0.0, until - monotonic())
