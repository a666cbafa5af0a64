"""A check of a codec: a value is read back equal in value and type, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from duramen.events import DuramenError, Limits
from duramen.events.codec import Codec, RawEvent
from duramen.events.model import MEMORY_SET, check_value

from ...recorded import portrait
from ..law_broken import LawBroken
from ..search import find_smallest
from ..strategies import near_values

VALUES_COME_BACK: Final = "what is written comes back equal, or is refused"


def written_and_read(value: Any) -> Any:
    """Encode and decode a value as if an agent set it. Raises what setting it raises."""
    limits = Limits()
    check_value(value, limits)
    codec = Codec(limits)
    raw: RawEvent = [MEMORY_SET, 1, 2, 0, {"path": "a", "value": value}, None, None, None, None, None]
    return codec.decode(codec.encode(raw)[0])[4]["value"]


def check_values(
    store: Callable[[Any], Any] = written_and_read, *, examples: int | None = None, seed: int | None = None
) -> None:
    """Check that values are read back equal: plain data in odd shapes, and values that only look like plain data.

    `store` writes a value and returns what is read back, or refuses it with a DuramenError. Raises LawBroken.
    """
    seen: dict[str, str] = {}

    def lost(value: Any) -> bool:
        before = portrait(value)
        try:
            seen[before] = portrait(store(value))
        except DuramenError:
            return False
        return seen[before] != before

    found = find_smallest(near_values().map(_Shown), lambda shown: lost(shown.value), examples, seed)
    if found is not None:
        before = portrait(found.value)
        raise LawBroken(
            VALUES_COME_BACK,
            "a value was taken, and another one came back",
            subject=getattr(store, "__qualname__", type(store).__name__),
            example=f"value = {before}",
            expected=before,
            actual=seen[before],
        )


class _Shown:
    """Wraps a value, so that hypothesis does not print it."""

    def __init__(self, value: Any) -> None:
        self.value = value
