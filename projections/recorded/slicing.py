"""The events that some items of working memory come from, out of a whole log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

from duramen.events import property_segments
from duramen.events.codec import DIGEST_SIZE, RawEvent
from duramen.events.vocabulary import (
    ACTIVITY_RECORDED,
    MEMORY_APPENDED,
    MEMORY_DELETED,
    MEMORY_MERGED,
    MEMORY_SET,
    OWN_TYPES,
)

from .sealing import sealed_bodies

__all__ = ["items_about"]

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
