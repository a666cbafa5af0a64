"""The form of a thread in the working memory of its agent. Pure.

`{"live": {namespace: {"checkpoints": {id: …}, "blobs": {channel: {version: …}}, "writes": {id: {task: {index:
…}}}}}, "pages": {namespace: {seq: …}}}`, where the ids are those of checkpoints. A leaf is bytes, or a dict of numbered
parts if they are many. It never gets another meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from attrs import frozen
from langgraph.checkpoint.serde.base import SerializerProtocol

import msgpack
from duramen.events import CheckpointNotFound

from ..common import join_parts

Typed = tuple[str, bytes]
"""What LangGraph's serializer makes of a value: the name of the form, and the bytes."""

LIVE: Final = "live"
PAGES: Final = "pages"

_FEWEST_LINKS: Final = 8
"""Parts of a list that are worth merging into one."""
_WHOLE: Final = 0
_ITEMS: Final = 1


def _pack(value: Any) -> bytes:
    return msgpack.packb(value)


def _unpack(leaf: Any) -> Any:
    return msgpack.unpackb(join_parts(leaf), strict_map_key=False)


@frozen
class Checkpoint:
    """A checkpoint without the values of its channels."""

    parent: str | None
    checkpoint: Typed
    metadata: Typed

    @classmethod
    def read(cls, leaf: Any) -> Checkpoint:
        parent, *typed = _unpack(leaf)
        return cls(parent, (typed[0], typed[1]), (typed[2], typed[3]))

    def pack(self) -> bytes:
        return _pack([self.parent, *self.checkpoint, *self.metadata])


@frozen
class Write:
    """A pending write of a task: one value for one channel."""

    channel: str
    value: Typed
    task_path: str

    @classmethod
    def read(cls, leaf: Any) -> Write:
        channel, kind, data, task_path = _unpack(leaf)
        return cls(channel, (kind, data), task_path)

    def pack(self) -> bytes:
        return _pack([self.channel, *self.value, self.task_path])


@frozen
class Items:
    """A list at one version of its channel: each item as the serializer has made it."""

    version: Any
    form: str
    items: list[bytes]


@frozen
class Channel:
    """The stored versions of one channel: whole values, and lists as what was added to an earlier version."""

    name: str
    versions: Mapping[str, Any]

    def load(self, version: Any, serde: SerializerProtocol) -> tuple[Any, Items | None]:
        """The value at a version, and its items if it is stored as such. Raises KeyError for a version without one."""
        kind, *entry = _unpack(self.versions[str(version)])
        if kind == _WHOLE:
            return serde.loads_typed((entry[0], entry[1])), None
        items = self._items(version)
        return [serde.loads_typed((items.form, item)) for item in items.items], items

    def _items(self, version: Any) -> Items:
        _, form, items, _ = self._walk(str(version), lambda links, is_merged: False)
        return Items(version, form, items)

    def merge_links(self, version: Any) -> tuple[str, bytes] | None:
        """The version that this one adds to, and its leaf with all that was added since the last such merge.

        None where there is nothing to merge.
        """
        kind, *entry = _unpack(self.versions[str(version)]) if str(version) in self.versions else (None, None)
        key = entry[0] if kind == _ITEMS else None
        if key is None:
            return None
        links = 0

        def is_end(walked: int, is_merged: bool) -> bool:
            nonlocal links
            links = walked
            return is_merged and walked > 0

        base, form, items, taken = self._walk(key, is_end)
        return None if links < _FEWEST_LINKS else (key, _pack([_ITEMS, base, taken, form, items, True]))

    def _walk(self, key: str, is_end: Callable[[int, bool], bool]) -> tuple[str | None, str, list[bytes], int]:
        """Gather what was added up to a version, back to its beginning or to a link at which `is_end`.

        Returns that link, the form, what comes after its items, and how many of them are taken.
        """
        first, added = key, list[list[bytes]]()
        link: str | None = key
        most, form = None, ""
        while link is not None:
            kind, *entry = _unpack(self.versions[link]) if link in self.versions else (None,)
            if kind != _ITEMS:
                raise CheckpointNotFound(
                    f"a part of channel {self.name[:80]!r} is gone: version {link!r}, which version {first!r} adds to"
                )
            base, taken, form_of_link, new, *is_merged = entry
            if is_end(len(added), bool(is_merged)):
                break
            form = form_of_link
            added.append(new if most is None else new[: max(0, most - taken)])
            most = taken if most is None else min(most, taken)
            link = base
        return link, form, [item for new in reversed(added) for item in new], most or 0

    def bases(self, version: Any) -> Iterator[str]:
        """The keys of a version and of all that it adds to, as far as they are there."""
        key: str | None = str(version)
        while key is not None and key in self.versions:
            yield key
            kind, *entry = _unpack(self.versions[key])
            key = entry[0] if kind == _ITEMS else None

    @staticmethod
    def pack(version: Any, value: Any, serde: SerializerProtocol, known: Items | None) -> tuple[bytes, Items | None]:
        """The leaf of a value, and its items if it is stored as such: those that `known` has not are added to it."""
        items = _items_of(version, value, serde)
        if items is None:
            return _pack([_WHOLE, *serde.dumps_typed(value)]), None
        taken, base = 0, None
        if known is not None and known.form == items.form and _comes_after(version, known.version):
            taken = _count_equal(known.items, items.items)
            base = str(known.version) if taken else None
        return _pack([_ITEMS, base, taken, items.form, items.items[taken:]]), items


def _items_of(version: Any, value: Any, serde: SerializerProtocol) -> Items | None:
    """The items of a list of texts or objects; None for other values."""
    if type(value) is not list or not value or isinstance(value[0], int | float):
        return None
    typed = [serde.dumps_typed(item) for item in cast("list[Any]", value)]
    form = typed[0][0]
    return Items(version, form, [data for _, data in typed]) if all(kind == form for kind, _ in typed) else None


def _comes_after(version: Any, other: Any) -> bool:
    """Whether a version is a later one, so that no version adds to itself."""
    return type(version) is type(other) and version > other


def _count_equal(one: list[bytes], two: list[bytes]) -> int:
    for position, (left, right) in enumerate(zip(one, two, strict=False)):
        if left != right:
            return position
    return min(len(one), len(two))
