"""Moments of an agent's past, as a person writes them."""

from __future__ import annotations

import argparse
import re
from datetime import datetime
from typing import Final

from duramen.projections import PastState
from duramen.projections.recovery import Point

from ...api import AgentSystem

MOMENTS: Final = "a seq (412), a time (2025-01-31T12:00, or with an offset), a checkpoint's id, or now"

_SEQ: Final = re.compile(r"[0-9]{1,15}")
_CHECKPOINT: Final = "checkpoint:"


def add_at(parser: argparse.ArgumentParser) -> None:
    """Add `--at MOMENT`."""
    parser.add_argument("--at", metavar="MOMENT", help=f"as it was then: {MOMENTS}")


def parse_moment(text: str) -> Point | None:
    """A seq, a time (in this machine's zone if the text names none), or a checkpoint's id; None for `now`.

    The prefix `checkpoint:` marks an id that looks like a seq or a time.
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
    """The state of an agent at a moment. Raises what `AgentSystem.state_at` raises."""
    if isinstance(point, datetime):
        return system.state_at(path, time=point)
    if isinstance(point, str):
        return system.state_at(path, checkpoint=point)
    return system.state_at(path, seq=point)
