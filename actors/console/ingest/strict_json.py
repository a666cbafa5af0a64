"""Parsing JSON without loss; a value that would change is refused with its position."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn, cast

from attrs import frozen

from duramen.events import Limits, TooLarge, ValueRefused
from duramen.events.model import check_value

from ..errors import InvalidRecording

_DIGITS: Final = 20
"""Digits of the longest integer that fits 64 bits. Python refuses to parse more than 4,300."""


@frozen
class _Unstorable:
    """Replaces a value that JSON allows and an agent cannot store, until its position is known."""

    why: str


def _integer(text: str) -> int | _Unstorable:
    return int(text) if len(text) <= _DIGITS + 1 else _Unstorable("a number that does not fit 64 bits")


def _fraction(text: str) -> float | _Unstorable:
    number = float(text)
    return number if math.isfinite(number) else _Unstorable("a number beyond the range of floating point")


def _constant(text: str) -> _Unstorable:
    return _Unstorable(f"{text}, which is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Unstorable:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Unstorable("an object that has a key twice")


_DECODER: Final = json.JSONDecoder(
    parse_int=cast("Any", _integer),
    parse_float=cast("Any", _fraction),
    parse_constant=_constant,
    object_pairs_hook=_object,
)


def parse(data: bytes, place: str, *, first_line: int = 1) -> Any:
    """The value of a whole JSON text. Raises InvalidRecording with the line and column of the error.

    Values that cannot be stored are still in it: `require_plain` finds them.
    """
    try:
        return _DECODER.decode(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + first_line
        _refuse(place, line, f"not UTF-8 (byte {error.start} of what was read); save it as UTF-8")
    except json.JSONDecodeError as error:
        _refuse(place, error.lineno + first_line - 1, f"not JSON: {error.msg} (column {error.colno})")
    except RecursionError:
        raise InvalidRecording(f"{place}: nested too deeply") from None


def _refuse(place: str, line: int, what: str) -> NoReturn:
    raise InvalidRecording(f"{place}:{line}: {what}") from None


def require_plain(value: Any, limits: Limits, place: str, where: str) -> int:
    """The number of nodes of the value. Raises InvalidRecording if a part of it could not be read back equal."""
    try:
        return check_value(value, limits, where)
    except (ValueRefused, TooLarge) as error:
        found = _find_unstorable(value, where)
        raise InvalidRecording(f"{place}: {found or error}") from None


def _find_unstorable(value: Any, where: str) -> str | None:
    pending: list[tuple[str, Any]] = [(where, value)]
    while pending:
        at, found = pending.pop()
        if isinstance(found, _Unstorable):
            return f"{at} is {found.why}"
        if isinstance(found, dict):
            pending.extend((f"{at}/{key}"[:200], item) for key, item in cast("dict[str, Any]", found).items())
        elif isinstance(found, list):
            pending.extend((f"{at}/{index}", item) for index, item in enumerate(cast("list[Any]", found)))
    return None
