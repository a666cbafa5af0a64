"""Values as JSON for the page: types that JSON would lose are named, long texts and large containers are cut.

Null, booleans, texts, whole numbers up to 2^53 and fractions stand for themselves. All else is an object whose key `$`
says what it is: `int`, `float`, `bytes`, `time` with the value as text `v`; `text` with its beginning `v` and its
length `n`; `content`, a `text` or `bytes` (`v`) of `n` bytes that stands beside the log; `dict` and `list` with their
number of children `n` and, as far as there was room, the children `c`: rows of key, value and seq of the setter; of a
list without the key.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final, cast

from attrs import define

from duramen.events import Content

JSON_BYTES: Final = 256 * 1024
"""About the most bytes of one answer."""
MOST_ITEMS: Final = 100
MOST_TEXT: Final = 300
_SAFE: Final = 2**53
_BYTES_SHOWN: Final = 64
_ROW: Final = 24
"""Bytes that a row takes besides its key and value."""


@define
class Room:
    """How many bytes an answer may still grow by. Spent to below zero, it is full."""

    left: int = JSON_BYTES

    @property
    def is_full(self) -> bool:
        return self.left <= 0


def to_bytes(answer: Any) -> bytes:
    """An answer of JSON types as UTF-8."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def encode_scalar(value: Any, most: int = MOST_TEXT) -> Any:
    """A scalar; a text is cut after `most` characters. What is no plain data is shown by the name of its type."""
    if value is None or type(value) is bool:
        return value
    if type(value) is str:
        return value if len(value) <= most else {"$": "text", "v": value[:most], "n": len(value)}
    if type(value) is int:
        return value if -_SAFE <= value <= _SAFE else {"$": "int", "v": str(value)}
    if type(value) is float:
        if math.isfinite(value) and not value.is_integer():
            return value
        return {"$": "float", "v": repr(value)}
    if type(value) is bytes:
        return {"$": "bytes", "v": value[:_BYTES_SHOWN].hex(), "n": len(value)}
    if isinstance(value, datetime):
        return {"$": "time", "v": value.isoformat()}
    if isinstance(value, Content):
        return {"$": "content", "v": "text" if value.is_text else "bytes", "n": value.size}
    shown = f"({type(value).__name__})"
    return {"$": "text", "v": shown, "n": len(shown)}


def encode_tree(
    value: Any, setters: Any, room: Room, *, first: int = 0, items: int = MOST_ITEMS, text: int = MOST_TEXT
) -> Any:
    """A value with the seqs that set its parts, level by level until the room is full.

    `first` and `items` choose the children of the value itself; of each container below, the first ones are taken.
    `setters` has the value's form, or is one seq for all of it.
    """
    if type(value) not in (dict, list):
        return _spend(encode_scalar(value, text), room)
    root = _shell(value)
    waiting: deque[tuple[dict[str, Any], Any, Any, int, int]] = deque([(root, value, setters, first, items)])
    while waiting and not room.is_full:
        shell, held, marks, start, count = waiting.popleft()
        rows: list[list[Any]] = []
        for key, child, mark in islice(_children(held, marks), start, start + count):
            if type(child) in (dict, list):
                node: Any = _shell(child)
                waiting.append((node, child, mark, 0, MOST_ITEMS))
            else:
                node = _spend(encode_scalar(child, text), room)
            row = [node, latest(mark)]
            rows.append(row if key is None else [key, *row])
            room.left -= _ROW + len(key or "")
            if room.is_full:
                break
        shell["c"] = rows
    return root


def encode_plain(value: Any, room: Room) -> Any:
    """A value without seqs; containers have room for many children. For one value that is looked at."""
    return encode_tree(value, 0, room, items=4 * MOST_ITEMS, text=8_192)


def latest(setters: Any) -> int:
    """The last of the seqs in a tree of them; 0 for one that has none."""
    if type(setters) is int:
        return setters
    found, waiting = 0, [setters]
    while waiting:
        node = waiting.pop()
        held = as_dict(node)
        for each in node if held is None else held.values():
            if type(each) is not int:
                waiting.append(each)
            elif each > found:
                found = each
    return found


def as_dict(value: object) -> dict[str, Any] | None:
    """The value if it is a dict, else None."""
    return cast("dict[str, Any]", value) if type(value) is dict else None


def as_list(value: object) -> list[Any] | None:
    """The value if it is a list, else None."""
    return cast("list[Any]", value) if type(value) is list else None


def _children(value: Any, setters: Any) -> Iterable[tuple[str | None, Any, Any]]:
    is_one = type(setters) is int
    if type(value) is dict:
        held = cast("Mapping[str, Any]", value)
        return ((key, child, setters if is_one else setters[key]) for key, child in held.items())
    listed = cast("list[Any]", value)
    return ((None, child, setters if is_one else setters[at]) for at, child in enumerate(listed))


def _shell(value: Any) -> dict[str, Any]:
    held = as_dict(value)
    return {"$": "list", "n": len(value)} if held is None else {"$": "dict", "n": len(held)}


def _spend(node: Any, room: Room) -> Any:
    tagged = as_dict(node)
    shown: object = node if tagged is None else tagged["v"]
    room.left -= _ROW + (3 * len(shown) if type(shown) is str else 8)
    return node
