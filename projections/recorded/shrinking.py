"""Shrinking of a log to the shortest for which a predicate still holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from duramen.events.codec import DIGEST_SIZE, RawEvent
from duramen.events.model import ACTIVITY_RECORDED

from ..state import OWN_EVENT_TYPES
from .sealing import chain_bodies, strip_digests

MOST_TRIES: Final = 2_000
"""Shorter logs that are tried, at most."""


def shrink_items(
    items: Sequence[bytes], differs: Callable[[list[bytes]], bool], *, most_tries: int = MOST_TRIES
) -> list[bytes]:
    """Leave out events as long as `differs` stays true; the result is a valid log with digests of its own.

    Halves are tried first, then smaller and smaller parts, from the end, at last single events: no single event of the
    result can be left out, unless `most_tries` logs did not suffice. `differs` must be pure and not raise; if it is
    false for `items`, they are returned. A log has at least one event.
    """
    tries = _Tries(differs, most_tries)
    kept = strip_digests(items)
    size = max(1, len(kept) // 2)
    while not tries.used_up:
        shorter = _without_parts(kept, size, tries)
        if len(shorter) < len(kept):
            kept, size = shorter, max(1, min(size, len(shorter) // 2))
        elif size > 1:
            size //= 2
        else:
            break
    return chain_bodies(kept)


def _without_parts(bodies: list[bytes], size: int, tries: _Tries) -> list[bytes]:
    """Leave out each part of `size` events that can be left out."""
    end = len(bodies)
    while end > 0 and not tries.used_up:
        begin = max(0, end - size)
        shorter = bodies[:begin] + bodies[end:]
        if shorter and tries.differ(shorter):
            bodies = shorter
        end = begin
    return bodies


class _Tries:
    """The predicate, with a limit on how often it is called."""

    def __init__(self, differs: Callable[[list[bytes]], bool], most: int) -> None:
        self._differs = differs
        self._left = most

    @property
    def used_up(self) -> bool:
        return self._left <= 0

    def differ(self, bodies: list[bytes]) -> bool:
        self._left -= 1
        return self._differs(chain_bodies(bodies))


def keep_events_about(items: Sequence[bytes], raws: Sequence[RawEvent], names: Collection[str]) -> list[bytes]:
    """A shorter log that leads to the same values of the named items; other items may differ.

    A mutation changes one item, a merge at the root the items in its patch; mutations of other items are left out, as
    are activity and the user's own events. Events that change all of working memory stay.
    """
    kept = [item[DIGEST_SIZE:] for item, raw in zip(items, raws, strict=True) if _touches(raw, names)]
    return chain_bodies(kept)


def _touches(raw: RawEvent, names: Collection[str]) -> bool:
    own = OWN_EVENT_TYPES.get(raw[0])
    if own is None or raw[0] == ACTIVITY_RECORDED:
        return False
    if not own.is_edit or own.changed_paths is None:
        return True
    return any(not path.segments or path.segments[0] in names for path in own.changed_paths(raw[4]))
