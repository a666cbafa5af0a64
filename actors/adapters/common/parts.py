"""Bytes of any length in working memory: one leaf, or a dict of numbered parts where they are many. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from duramen.actors import Merge

Leaf = tuple[tuple[str, ...], bytes]
"""A path in working memory, and the bytes that stand there."""

_PART: Final = 160 * 1024
"""Bytes of a part: an event holds 256 KiB."""
_MERGE: Final = 192 * 1024
_BATCH: Final = 800 * 1024
_LEAF: Final = 256
"""Bytes that a leaf may take beside its content."""


def join_parts(leaf: Any) -> bytes:
    """The content of a leaf, in parts or not."""
    if isinstance(leaf, bytes):
        return leaf
    return b"".join(leaf[number] for number in sorted(leaf, key=int))


def merges_of(leaves: Sequence[Leaf]) -> list[list[Merge]]:
    """The merges that store leaves, in batches; one merge in one batch, unless they are large."""
    batches: list[list[Merge]] = []
    batch: list[Merge] = []
    patch: dict[str, Any] = {}
    size = total = 0
    for path, part in _parts_of(leaves):
        if size and size + len(part) + _LEAF > _MERGE:
            batch.append(Merge("", patch))
            total += size
            patch, size = {}, 0
            if total + _MERGE > _BATCH:
                batches.append(batch)
                batch, total = [], 0
        _put(patch, path, part)
        size += len(part) + _LEAF
    batch.append(Merge("", patch))
    return [*batches, batch]


def _parts_of(leaves: Sequence[Leaf]) -> Iterator[Leaf]:
    for path, content in leaves:
        if len(content) <= _PART:
            yield path, content
        else:
            for number, start in enumerate(range(0, len(content), _PART)):
                yield (*path, str(number)), content[start : start + _PART]


def _put(tree: dict[str, Any], path: Sequence[str], value: object) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
