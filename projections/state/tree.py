"""Edits of a tree of plain data in place, by path, that can be undone.

A path is a sequence of segments. In a dict a segment is a key; in a list it is the position of an element
that is there, in decimal: "0", "1", "2" … Every edit succeeds whole or raises before it changes anything.
It returns by how much the number of nodes changed, and notes in the list `undo`, if one is given, what
`roll_back` needs.

Values are not checked here: callers have checked that they are plain data of limited depth. A value that is set or
appended becomes part of the tree and is edited with it, so pass a copy of a value that is used elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final, TypeAlias

from duramen.events import InvalidPath, PathNotFound, PlainData
from duramen.events.model import count_of, join_text, printable

from .missing import MISSING, Missing
from .undo import CONTAINERS, Undo, drop_index, drop_key, lengthen, put_index, put_key

_MOST_SHOWN: Final = 5
_MOST_LOOKED_AT: Final = 500
_MOST_COMPARED: Final = 200
"""Characters of a key: comparing two takes time that grows with the product of their lengths."""

_Dict: TypeAlias = dict[str, PlainData]
_List: TypeAlias = list[PlainData]


def lookup(root: _Dict, segments: Sequence[str]) -> PlainData:
    """Return the value at a path (the root for no segments), not a copy of it. Raises PathNotFound."""
    found = find(root, segments)
    if found is MISSING:
        raise _not_found(root, segments)
    return found


def find(root: _Dict, segments: Sequence[str]) -> PlainData | Missing:
    """As `lookup`, but return MISSING where nothing is."""
    node: PlainData = root
    for segment in segments:
        child = _child(node, segment)
        if child is MISSING:
            return MISSING
        node = child
    return node


def assign(root: _Dict, segments: Sequence[str], value: PlainData, undo: list[Undo] | None = None) -> int:
    """Set the value at a path; dicts that are missing on the way are made.

    Raises InvalidPath for no segments and below a scalar, PathNotFound for a list element that is not there.
    """
    if not segments:
        raise InvalidPath("the root cannot be set; use merge to change several of its items at once")
    if len(segments) == 1:  # most are: nothing is on the way
        return put_key(root, segments[0], value, undo)
    container, depth = _reach(root, segments)
    return _store(container, segments, depth, value, undo)


def remove(root: _Dict, segments: Sequence[str], undo: list[Undo] | None = None) -> int:
    """Delete the value at a path; in a list, those after it move up.

    Raises InvalidPath for no segments, PathNotFound if nothing is there.
    """
    if not segments:
        raise InvalidPath("the root cannot be deleted; delete its items")
    parent = lookup(root, segments[:-1])
    last = segments[-1]
    if type(parent) is dict:
        if last in parent:
            return drop_key(parent, last, undo)
    elif type(parent) is list:
        index = _index(last, len(parent))
        if index >= 0:
            return drop_index(parent, index, undo)
    raise _not_found(root, segments)


def extend(root: _Dict, segments: Sequence[str], values: _List, undo: list[Undo] | None = None) -> int:
    """Append values to the list at a path; where nothing is, a list is made as `assign` would.

    Raises InvalidPath if something else than a list is there, and what `assign` raises.
    """
    if not segments:
        raise InvalidPath("the root is a dict, nothing can be appended to it; append to one of its items")
    container, depth = _reach(root, segments)
    target = _value_at(container, segments, depth)
    if target is MISSING:
        return _store(container, segments, depth, values.copy(), undo)
    if type(target) is not list:
        raise InvalidPath(
            f"{_kind(target)} is at {_text(segments)}, not a list; set a list there before you append to it",
            expected="list",
            actual=_kind(target),
        )
    return lengthen(target, values, undo)


def merge(root: _Dict, segments: Sequence[str], patch: PlainData, undo: list[Undo] | None = None) -> int:
    """Apply a JSON merge patch (RFC 7386) to the value at a path: a None in its dicts deletes.

    A patch that is no dict replaces the value, even if it is None. The tree shares no container with the
    patch, and the patch must not be a part of the tree. Raises InvalidPath for a patch of the root that
    is no dict, and what `assign` raises.
    """
    if not segments:
        if type(patch) is not dict:
            raise InvalidPath("the root is a dict and stays one; only a dict can be merged into it")
        return _merge_into(root, patch, undo)
    container, depth = _reach(root, segments)
    target = _value_at(container, segments, depth)
    if type(target) is dict and type(patch) is dict:
        return _merge_into(target, patch, undo)
    return _store(container, segments, depth, _without_nones(patch), undo)


def copy_tree(value: PlainData) -> PlainData:
    """Return a copy that shares no container with the value. Scalars do not change and are shared."""
    if type(value) is dict:
        copied = value.copy()
        for key, child in value.items():
            if type(child) in CONTAINERS:
                copied[key] = copy_tree(child)
        return copied
    if type(value) is list:
        return [copy_tree(child) if type(child) in CONTAINERS else child for child in value]
    return value


def copy_path(root: _Dict, segments: Sequence[str]) -> _Dict:
    """Return a new root in which `assign`, `remove` and `extend` at this path leave the old tree untouched.

    The containers along the path, the one at its end included, are copied as far as they are there. All
    others are shared with the old tree.
    """
    return _copy_along(root, segments)[0]


def copy_for_merge(root: _Dict, segments: Sequence[str], patch: PlainData) -> _Dict:
    """Return a new root in which `merge` of this patch at this path leaves the old tree untouched."""
    new_root, target = _copy_along(root, segments)
    if type(target) is dict and type(patch) is dict:
        _copy_under(target, patch)
    return new_root


def _reach(root: _Dict, segments: Sequence[str]) -> tuple[PlainData, int]:
    """Find the container that an edit at this path changes, and the depth of the segment that is the place in it.

    This is the last segment, or the first one whose key is missing in a dict.
    """
    node: PlainData = root
    depth = 0
    for segment in segments[:-1]:
        child = _child(node, segment)
        if child is MISSING:
            if type(node) is dict:
                break
            raise _unreachable(node, segments, depth)
        node = child
        depth += 1
    return node, depth


def _value_at(container: PlainData, segments: Sequence[str], depth: int) -> PlainData | Missing:
    """Return the value at the place that `_reach` found; MISSING if it can be created there."""
    found = _child(container, segments[depth])
    if found is MISSING and type(container) is not dict:
        raise _unreachable(container, segments, depth)
    return found


def _store(container: PlainData, segments: Sequence[str], depth: int, value: PlainData, undo: list[Undo] | None) -> int:
    """Put the value, inside the dicts that were missing, at the place that `_reach` found."""
    for missing in reversed(segments[depth + 1 :]):
        value = {missing: value}
    if type(container) is dict:
        return put_key(container, segments[depth], value, undo)
    if type(container) is list:
        index = _index(segments[depth], len(container))
        if index >= 0:
            return put_index(container, index, value, undo)
    raise _unreachable(container, segments, depth)


def _merge_into(target: _Dict, patch: _Dict, undo: list[Undo] | None) -> int:
    change = 0
    for key, value in patch.items():
        current = target.get(key, MISSING)
        if value is None:
            if current is not MISSING:
                change += drop_key(target, key, undo)
        elif type(value) is dict and type(current) is dict:
            change += _merge_into(current, value, undo)
        else:
            change += put_key(target, key, _without_nones(value), undo)
    return change


def _without_nones(patch: PlainData) -> PlainData:
    """Return the result of a patch where nothing was: a copy without the Nones of its dicts. In lists they stay."""
    if type(patch) is dict:
        return {key: _without_nones(value) for key, value in patch.items() if value is not None}
    return copy_tree(patch)


def _copy_along(root: _Dict, segments: Sequence[str]) -> tuple[_Dict, PlainData | Missing]:
    """Copy a path; return the new root and the copy of the container at its end, MISSING if none is."""
    new_root = root.copy()
    node: PlainData = new_root
    for segment in segments:
        child = _child(node, segment)
        if type(child) is not dict and type(child) is not list:
            return new_root, MISSING
        copied = child.copy()
        if type(node) is dict:
            node[segment] = copied
        elif type(node) is list:
            node[int(segment)] = copied
        node = copied
    return new_root, node


def _copy_under(target: _Dict, patch: _Dict) -> None:
    for key, value in patch.items():
        current = target.get(key)
        if type(value) is dict and type(current) is dict:
            target[key] = copied = current.copy()
            _copy_under(copied, value)


def _child(node: PlainData, segment: str) -> PlainData | Missing:
    """Return the value one segment below; MISSING if there is none."""
    if type(node) is dict:
        return node.get(segment, MISSING)
    if type(node) is list:
        index = _index(segment, len(node))
        if index >= 0:
            return node[index]
    return MISSING


def _index(segment: str, length: int) -> int:
    """Return the position that a segment names in a list of this length, -1 if it names none."""
    if segment.isdecimal() and len(segment) < 20:
        index = int(segment)
        if index < length and str(index) == segment:
            return index
    return -1


def _kind(value: PlainData) -> str:
    return "None" if value is None else type(value).__name__


def _text(segments: Sequence[str]) -> str:
    return f"'{printable(join_text(tuple(segments)))}'" if segments else "the root"


def _not_found(root: _Dict, segments: Sequence[str]) -> PathNotFound:
    """Return the error for a path at which nothing is, with what is nearest to it."""
    node: PlainData = root
    for depth, segment in enumerate(segments):
        child = _child(node, segment)
        if child is MISSING:
            return PathNotFound(f"nothing is at {_text(segments)}; {_nearest(node, segments, depth)}")
        node = child
    return PathNotFound(f"nothing is at {_text(segments)}")


def _nearest(node: PlainData, segments: Sequence[str], depth: int) -> str:
    where, wanted = _text(segments[:depth]), segments[depth]
    if type(node) is list:
        places = "its only position is 0" if len(node) == 1 else "positions are 0, 1, 2 …"
        return f"{where} is a list of {count_of(len(node), 'element')}" + (f": {places}" if node else "")
    if type(node) is not dict:
        return f"{where} is of type {_kind(node)} and has no keys"
    parts = wanted.split(".")
    if len(parts) > 1 and find(node, parts) is not MISSING:
        return f"write {_text([*segments[:depth], *parts])}: '/' separates the parts of a path"
    from difflib import get_close_matches  # slow to load, and needed only for the error

    known = list(islice(node, _MOST_LOOKED_AT))
    short = [name for name in known if len(name) <= _MOST_COMPARED] if len(wanted) <= _MOST_COMPARED else []
    near = get_close_matches(wanted, short, _MOST_SHOWN) or known[:_MOST_SHOWN]
    names = ", ".join(_text((name,)) for name in near)
    more = "" if len(near) == len(node) else f" (of {len(node)})"
    return f"the keys of {where} are {names}{more}" if names else f"{where} has no keys"


def _unreachable(node: PlainData, segments: Sequence[str], depth: int) -> InvalidPath:
    """The error for a segment, at `depth`, that leads nowhere from a list or a scalar."""
    where = _text(segments[:depth])
    if type(node) is list:
        return PathNotFound(
            f"the list at {where} has {count_of(len(node), 'element')}, none at '{printable(segments[depth])}'; "
            "positions are 0, 1, 2 …, and append adds an element",
            expected=len(node),
            actual=segments[depth],
        )
    return InvalidPath(
        f"{_kind(node)} is at {where}, and nothing can be below it; set or delete that first",
        expected="dict or list",
        actual=_kind(node),
    )
