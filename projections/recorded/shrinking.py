"""A log made as short as it can be while something is still true of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, cast

from duramen.events import property_segments
from duramen.events.codec import DIGEST_SIZE, RawEvent
from duramen.events.model import (
    ACTIVITY_RECORDED,
    MEMORY_APPENDED,
    MEMORY_DELETED,
    MEMORY_MERGED,
    MEMORY_SET,
    OWN_TYPES,
)

from .sealing import bodies_of, sealed_bodies

__all__ = ["MOST_TRIES", "items_about", "shrink_items"]

MOST_TRIES: Final = 2_000
"""How many shorter logs are looked at."""


def shrink_items(
    items: Sequence[bytes], differs: Callable[[list[bytes]], bool], *, most_tries: int = MOST_TRIES
) -> list[bytes]:
    """Leave out events for as long as `differs` stays true; what is left is a valid log again, with digests of its own.

    First half of them at once, then ever smaller parts, from the end on, at last one by one: of what remains no single
    event can be left out, unless `most_tries` logs did not suffice. `differs` is only asked, and must not raise; it is
    true of `items`, or these come back as they are. A log is at least one event.
    """
    tries = _Tries(differs, most_tries)
    kept = bodies_of(items)
    size = max(1, len(kept) // 2)
    while not tries.used_up:
        shorter = _without_parts(kept, size, tries)
        if len(shorter) < len(kept):
            kept, size = shorter, max(1, min(size, len(shorter) // 2))
        elif size > 1:
            size //= 2
        else:
            break
    return sealed_bodies(kept)


def _without_parts(bodies: list[bytes], size: int, tries: _Tries) -> list[bytes]:
    """Without each part of so many events that can be left out."""
    end = len(bodies)
    while end > 0 and not tries.used_up:
        begin = max(0, end - size)
        shorter = bodies[:begin] + bodies[end:]
        if shorter and tries.still(shorter):
            bodies = shorter
        end = begin
    return bodies


class _Tries:
    """Counts how often was asked."""

    def __init__(self, differs: Callable[[list[bytes]], bool], most: int) -> None:
        self._differs = differs
        self._left = most

    @property
    def used_up(self) -> bool:
        return self._left <= 0

    def still(self, bodies: list[bytes]) -> bool:
        self._left -= 1
        return self._differs(sealed_bodies(bodies))


_BY_PATH = frozenset((MEMORY_SET, MEMORY_APPENDED, MEMORY_DELETED, MEMORY_MERGED))


def items_about(items: Sequence[bytes], raws: Sequence[RawEvent], names: Collection[str]) -> list[bytes]:
    """A shorter log that leads to the same for the items of these names; of others it says nothing.

    Mutations by path touch one item (a merge at the root those in its patch), so that those of others can be left
    out, as can activity and events of the user's own. Whatever touches all of working memory stays.
    """
    kept = [item[DIGEST_SIZE:] for item, raw in zip(items, raws, strict=True) if _touches(raw, names)]
    return sealed_bodies(kept)


def _touches(raw: RawEvent, names: Collection[str]) -> bool:
    kind, data = raw[0], raw[4]
    if kind not in OWN_TYPES or kind == ACTIVITY_RECORDED:
        return False
    if kind not in _BY_PATH:
        return True
    segments = property_segments(data["path"])
    if segments:
        return segments[0] in names
    patch: Any = data.get("patch")
    return any(name in names for name in cast("dict[str, Any]", patch)) if type(patch) is dict else True
