"""Time spans as callers give them: a number of seconds, or a timedelta."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Final

from ..errors import InvalidMessage

Seconds = float | timedelta
"""A number of seconds, or a timedelta."""

_MOST: Final = threading.TIMEOUT_MAX
"""The longest time that a thread can wait: 292 years."""


def parse_seconds(name: str, value: object, *, least: float = 0.0) -> float:
    """Return a time span in seconds, at least `least`. Raises InvalidMessage, also for infinity and NaN."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, float | int) and type(value) is not bool and least <= value <= _MOST:
        return float(value)
    bound = "from 0 on" if least == 0 else f"from {least:g} on"
    raise InvalidMessage(f"{name} takes a number of seconds {bound}, or a timedelta", actual=value)


def parse_timeout(value: object, name: str = "timeout") -> float | None:
    """Return a time-out in seconds; None: no time-out. Raises InvalidMessage."""
    if value is None:
        return None
    if (type(value) is float or type(value) is int) and 0.0 <= value <= _MOST:  # mostly it is, and this is quick
        return float(value)
    try:
        return parse_seconds(name, value)
    except InvalidMessage as error:
        raise InvalidMessage(f"{error}; None waits without an end", actual=value) from None
