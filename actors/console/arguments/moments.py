"""A moment of an agent's past, as a person writes it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from duramen.projections import PastState
from duramen.projections.recovery import Point

from ...api import AgentSystem

__all__ = ["EXPLAINED", "moment", "state_at"]

EXPLAINED: Final = "a seq (412), a time (2025-01-31T12:00, or with an offset), a checkpoint's id, or now"

_SEQ: Final = re.compile(r"[0-9]{1,15}")
_CHECKPOINT: Final = "checkpoint:"


def moment(text: str) -> Point | None:
    """A seq, a time (of this machine's zone if it names none), or a checkpoint's id; None for `now`.

    An id that looks like one of the others is written with `checkpoint:` before it.
    """
    if text.startswith(_CHECKPOINT):
        return text.removeprefix(_CHECKPOINT)
    if text == "now":
        return None
    if _SEQ.fullmatch(text):
        return int(text)
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return text


def state_at(system: AgentSystem, path: str, point: Point | None) -> PastState:
    """An agent as it was at a moment. Raises what `AgentSystem.state_at` does."""
    if isinstance(point, datetime):
        return system.state_at(path, time=point)
    if isinstance(point, str):
        return system.state_at(path, checkpoint=point)
    return system.state_at(path, seq=point)
