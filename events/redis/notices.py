"""Notices from a server's channels, summed up as the partitions that have moved."""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from time import monotonic
from typing import Any, Final, cast

import msgpack

from ..log import Keys, Notice
from ..model import Granularity
from .client import RedisClient, Subscriber

_MALFORMED_PAUSE: Final = 1.0
_ARRAY_OF_FIVE: Final = 0x95
_UINT8: Final = 0xCC
_UINT64: Final = 0xCF


_Place = tuple[int, Granularity]


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


class RedisNotices(Subscriber[_Place]):
    """A `NoticeStream` with a connection of its own, opened when something is followed, and again when it is lost.

    `follow`, `wake` and `close` may be called from any thread.
    """

    _lost_event = "notices_interrupted"

    def __init__(self, server: RedisClient, keys: Keys, *, keep: int = 0) -> None:
        """`keep` is the largest message, in bytes, whose events are decoded; 0: only positions are."""
        super().__init__(server, "notices", keep)
        self._keys = keys
        self._ends: dict[bytes, int] = {}
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
        self._want({self._keys.channel(p, one).encode(): (p, one) for p in partitions for one in levels})

    def receive(self, timeout: float | None) -> dict[int, int]:
        try:
            with self._using:
                self._notices = []
                self._run(inf if timeout is None else monotonic() + timeout)
                positions, self._positions = self._positions, {}
                return positions
        finally:
            if self._closed:
                self._release()

    def take_notices(self) -> list[Notice]:
        notices, self._notices = self._notices, []
        return notices

    def _has_result(self) -> bool:
        return bool(self._positions)

    def _handle_change(self, place: _Place | None) -> None:
        # Notices are lost also before the first subscription: a reader may have read the feed before.
        if place is not None:
            self._note_position(place[0], 0)

    def _forget_connection(self) -> None:
        self._ends = {}

    def _handle_message(self, channel: bytes, place: _Place | None, payload: bytes) -> None:
        if place is None:
            return
        partition, level = place
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
        known = self._positions.get(partition, position)
        self._positions[partition] = max(known, position) if known and position else 0
