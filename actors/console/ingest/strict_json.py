"""JSON that is kept exactly as it came, or refused with the place where it cannot be."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn, cast

from attrs import frozen

from duramen.events import Limits, TooLarge, ValueRefused
from duramen.events.model import check_value

from ..errors import InvalidRecording

__all__ = ["parse", "require_plain"]

_DIGITS: Final = 20
"""Of the longest integer that fits 64 bits. Python itself refuses to read those of more than 4,300."""


@frozen
class _Unkeepable:
    """Stands where something was that JSON allows and we cannot keep, until its place in the whole is known."""

    why: str


def _integer(text: str) -> int | _Unkeepable:
    return int(text) if len(text) <= _DIGITS + 1 else _Unkeepable("a number that does not fit 64 bits")


def _fraction(text: str) -> float | _Unkeepable:
    number = float(text)
    return number if math.isfinite(number) else _Unkeepable("a number beyond the range of floating point")


def _constant(text: str) -> _Unkeepable:
    return _Unkeepable(f"{text}, which is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Unkeepable:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Unkeepable("an object that has a key twice")


_DECODER: Final = json.JSONDecoder(
    parse_int=cast("Any", _integer),
    parse_float=cast("Any", _fraction),
    parse_constant=_constant,
    object_pairs_hook=_object,
)


def parse(data: bytes, place: str, *, first_line: int = 1) -> Any:
    """The value of a whole JSON text. Raises InvalidRecording with the line and column of what is wrong.

    What cannot be kept is still in it: let `require_plain` find it.
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
    """Raise InvalidRecording if something in the value could not be read back as it is; else its number of nodes."""
    try:
        return check_value(value, limits, where)
    except (ValueRefused, TooLarge) as error:
        found = _unkeepable(value, where)
        raise InvalidRecording(f"{place}: {found or error}") from None


def _unkeepable(value: Any, where: str) -> str | None:
    waiting: list[tuple[str, Any]] = [(where, value)]
    while waiting:
        at, held = waiting.pop()
        if isinstance(held, _Unkeepable):
            return f"{at} is {held.why}"
        if isinstance(held, dict):
            waiting.extend((f"{at}/{key}"[:200], item) for key, item in cast("dict[str, Any]", held).items())
        elif isinstance(held, list):
            waiting.extend((f"{at}/{index}", item) for index, item in enumerate(cast("list[Any]", held)))
    return None
