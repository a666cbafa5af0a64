"""Stepping through the past on a terminal: an arrow key goes one event forward or back."""

from __future__ import annotations

from typing import Final

from duramen.projections.replay import Replay

from .step_view import StepView
from .terminal import Terminal, terminal

__all__ = ["step_through"]

_TICK: Final = 0.5
"""Seconds until a window that has changed its size is drawn again."""
_PAGE: Final = 10
_STEPS: Final = {
    "right": 1,
    "n": 1,
    " ": 1,
    "l": 1,
    "left": -1,
    "p": -1,
    "h": -1,
    "\x7f": -1,
    "page down": _PAGE,
    "page up": -_PAGE,
}
_SCROLLS: Final = {"down": 1, "j": 1, "up": -1, "k": -1}
_QUITS: Final = frozenset(("q", "escape", "\x03", "\x04"))


def step_through(replay: Replay) -> None:
    """Until `q`, Esc or Ctrl-C. Raises what walking through a replay does; the terminal is as it was by then."""
    if replay.from_seq > replay.to_seq:
        return
    with terminal() as screen:
        _walk(replay, screen)


def _walk(replay: Replay, screen: Terminal) -> None:
    view, size = _stand(replay, replay.from_seq), screen.size
    screen.draw(view.lines(*size))
    while True:
        drawn = view, view.scrolled, size
        for key in screen.keys(_TICK):
            if key in _QUITS:
                return
            view = _after(key, replay, view)
        size = screen.size
        if (view, view.scrolled, size) != drawn:
            screen.draw(view.lines(*size))


def _after(key: str, replay: Replay, view: StepView) -> StepView:
    if key in _SCROLLS:
        view.scroll(_SCROLLS[key])
        return view
    wanted = {"home": replay.from_seq, "g": replay.from_seq, "end": replay.to_seq, "G": replay.to_seq}.get(key)
    if wanted is None:
        wanted = view.event.seq + _STEPS.get(key, 0)
    wanted = min(max(wanted, replay.from_seq), replay.to_seq)
    return view if wanted == view.event.seq else _stand(replay, wanted)


def _stand(replay: Replay, seq: int) -> StepView:
    """After the event at `seq`, with the states before and after it."""
    before = replay.seek(seq - 1)
    event, after = next(replay)
    return StepView(event, before, after, replay.from_seq, replay.to_seq)
