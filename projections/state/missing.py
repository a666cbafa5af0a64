"""The values that stand for no value and for no default."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING
"""Stands for no value, where None is one. Compare with `is`; it counts as false."""

REQUIRED: Final[Any] = object()
"""Stands for no default, where `MISSING` is one: a value that is not there is an error."""
