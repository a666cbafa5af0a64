"""A window of a feed as bytes, from the process that read it to the one that returns its events."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, Final, cast

from attrs import astuple, frozen

import msgpack

from ..feed import Places, Window
from ..model import Mark

_COUNT: Final = "I"
_SEQ: Final = "Q"


@frozen(eq=False, repr=False)
class Fetched:
    """A window, the mark that its reader had before it, and where the feed ended then."""

    before: Mark
    window: Window
    feed_end: int


def pack_window(before: Mark, window: Window, feed_end: int) -> bytes:
    """Pack a window that has no problem. Numbers are as in memory: no other machine reads them."""
    places = window.places
    numbers: dict[str, int] = {}
    for agent in window.agents:
        numbers.setdefault(agent, len(numbers))
    return msgpack.packb(
        [
            astuple(before),
            feed_end,
            window.count,
            window.end,
            [places.position, places.offset, _packed(_COUNT, places.ends), _packed(_COUNT, places.entries)],
            list(numbers),
            _packed(_COUNT, map(numbers.__getitem__, window.agents)),
            _packed(_SEQ, window.seqs),
            window.bodies,
            window.digests,
            window.last,
            window.size,
            window.erased_before,
        ]
    )


def unpack_window(packed: bytes) -> Fetched:
    """Raises ValueError or TypeError for bytes that `pack_window` has not made."""
    found = cast("list[Any]", msgpack.unpackb(packed))
    before, feed_end, count, end, places, names, agents, seqs, bodies, digests, last, size, gone = found
    position, offset, ends, entries = places
    window = Window(
        count,
        end,
        Places(position, offset, _unpacked(_COUNT, ends), _unpacked(_COUNT, entries)),
        list(map(names.__getitem__, memoryview(agents).cast(_COUNT))),
        _unpacked(_SEQ, seqs) or [],
        bodies,
        digests,
        last=None if last is None else (last[0], last[1], last[2]),
        size=size,
        erased_before=gone,
    )
    return Fetched(Mark(*before), window, feed_end)


def _packed(kind: str, numbers: Iterable[int] | None) -> bytes | None:
    return None if numbers is None else array(kind, numbers).tobytes()


def _unpacked(kind: str, packed: bytes | None) -> list[int] | None:
    if packed is None:
        return None
    numbers: array[int] = array(kind)
    numbers.frombytes(packed)
    return numbers.tolist()
