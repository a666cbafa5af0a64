"""Operations: plain data that says how one tree becomes another, small enough to be written in events.

An operation is a list: `["set", path, value]`, `["delete", path]`, `["extend", path, values]` or
`["truncate", path, length]`. Its path is a list of segments: a str is the key of a dict (any key, also
one that no property path can have), an int the position of an element in a list. On the way, but not as
the last segment of what is set or deleted, -1 is the last element; only `split_ops` writes it, where it
cannot know the position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from attrs import Factory, define

from duramen.events import InvalidPath, PlainData

from .missing import MISSING, Missing
from .tree import copy_tree
from .undo import CONTAINERS, Undo, drop_index, drop_key, lengthen, put_index, put_key, roll_back, shorten

Op: TypeAlias = list[PlainData]
"""One operation, as it is stored."""

_HEADER: Final = 5  # bytes that msgpack takes at most for a list or dict, besides its items


def apply_ops(root: dict[str, PlainData], ops: Iterable[Op], undo: list[Undo] | None = None) -> int:
    """Carry out operations in order, all or none; return by how much the number of nodes changed.

    The tree shares no container with the operations. Raises InvalidPath for one that has not the form of an
    operation, or whose path leads nowhere in this tree; the tree is then as it was.
    """
    notes: list[Undo] = [] if undo is None else undo
    mark = len(notes)
    total = 0
    try:
        for number, op in enumerate(ops, 1):
            total += _apply(root, op, number, notes)
    except BaseException:
        roll_back(notes, mark)
        raise
    return total


def split_ops(ops: Iterable[Op], size_of: Callable[[PlainData], int], limit: int) -> list[list[Op]]:
    """Divide operations into lists of at most `limit` encoded bytes that do the same, applied in order.

    An operation that is too large by itself becomes several: one sets or appends an empty container, the
    others fill it. A value that cannot be divided, such as one long text, stands alone in a list over the limit.

    `size_of` returns the encoded size of a value. It may give a list or dict no more than 5 bytes besides its
    items, as msgpack does. The lists share the values of `ops`.
    """
    splitter = _Splitter(size_of, limit - _HEADER)
    for op in ops:
        splitter.add(op)
    return splitter.groups


def _apply(root: dict[str, PlainData], op: Op, number: int, undo: list[Undo]) -> int:
    match op:
        case ["set", [*above, last], value]:
            container = _find(root, above)
            if type(container) is dict and type(last) is str:
                return put_key(container, last, copy_tree(value), undo)
            if type(container) is list and type(last) is int and 0 <= last < len(container):
                return put_index(container, last, copy_tree(value), undo)
        case ["delete", [*above, last]]:
            container = _find(root, above)
            if type(container) is dict and type(last) is str and last in container:
                return drop_key(container, last, undo)
            if type(container) is list and type(last) is int and 0 <= last < len(container):
                return drop_index(container, last, undo)
        case ["extend", list() as path, list() as values]:
            target = _find(root, path)
            if type(target) is list:
                return lengthen(target, [copy_tree(value) for value in values], undo)
        case ["truncate", list() as path, length]:
            target = _find(root, path)
            if type(target) is list and type(length) is int and 0 <= length <= len(target):
                return shorten(target, length, undo)
        case _:
            pass
    raise InvalidPath(
        f"operation {number} is malformed or does not fit the state; apply operations to the state they were "
        "made for, in order"
    )


def _find(root: dict[str, PlainData], path: list[PlainData]) -> PlainData:
    node: PlainData = root
    for segment in path:
        child = _below(node, segment)
        if child is MISSING:
            return None
        node = child
    return node


def _below(node: PlainData, segment: PlainData) -> PlainData | Missing:
    if type(node) is dict and type(segment) is str:
        return node.get(segment, MISSING)
    if type(node) is list and type(segment) is int and node and -1 <= segment < len(node):
        return node[segment]
    return MISSING


@define(eq=False, repr=False)
class _Splitter:
    size_of: Callable[[PlainData], int]
    room: int
    groups: list[list[Op]] = Factory(list[list[Op]])
    used: int = 0

    def add(self, op: Op) -> None:
        size = self.size_of(op)
        match op:
            case ["set", list() as path, (dict() | list()) as value] if value and size > self.room:
                self._put(["set", path, _emptied(value)])
                self._fill(path, value)
            case ["extend", list() as path, list() as values] if values and size > self.room:
                self._extend(path, values)
            case _:
                self._put(op, size)

    def _put(self, op: Op, size: int | None = None) -> None:
        if size is None:
            size = self.size_of(op)
        if not self.groups or self.used + size > self.room:
            self.groups.append([])
            self.used = 0
        self.groups[-1].append(op)
        self.used += size

    def _fill(self, path: list[PlainData], value: PlainData) -> None:
        if type(value) is dict:
            for key, child in value.items():
                self.add(["set", [*path, key], child])
        elif type(value) is list:
            self._extend(path, value)

    def _extend(self, path: list[PlainData], values: list[PlainData]) -> None:
        empty = self.size_of(["extend", path, []]) + _HEADER
        chunk: list[PlainData] = []
        used = empty
        for value in values:
            size = self.size_of(value)
            divided = empty + size > self.room and type(value) in CONTAINERS and value
            if chunk and used + size > self.room:
                self._put(["extend", path, chunk], used)
                chunk, used = [], empty
            if divided:
                self._put(["extend", path, [_emptied(value)]])
                self._fill([*path, -1], value)
            else:
                chunk.append(value)
                used += size
        if chunk:
            self._put(["extend", path, chunk], used)


def _emptied(value: PlainData) -> PlainData:
    return {} if type(value) is dict else []
