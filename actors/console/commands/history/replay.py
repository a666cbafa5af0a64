"""`duramen replay`: what each event of an agent has changed; on a terminal, an arrow key goes one event on or back."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from duramen.events import AgentPath, Event
from duramen.projections import PastState, Replay

from ...arguments import Options, add_path, parse_count
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import (
    Output,
    StepView,
    changes_data,
    event_data,
    event_line,
    find_changes,
    show_changes,
    terminal,
)
from .log import first_seq

_TICK: Final = 0.5
"""Seconds until a window whose size has changed is drawn again."""
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
_WHOLE: Final = "w"
_QUITS: Final = frozenset(("q", "escape", "\x03", "\x04"))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("--step", action="store_true", help="one event a screen; the arrow keys go forward and back")
    parser.add_argument("--from", type=parse_count, dest="start", metavar="SEQ", help="begin with this event")
    parser.add_argument("--to", type=parse_count, dest="end", metavar="SEQ", help="end with this event")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    path = AgentPath.parse(arguments.path).text
    with opened(options) as system:
        first = arguments.start or first_seq(system, path)
        with output.waiting("reading the log"):
            past = system.replay(path, from_seq=first, to_seq=arguments.end)
            before = past.state
        if arguments.step and not output.as_json and sys.stdin.isatty() and sys.stdout.isatty():
            _step_through(past)
            return ExitCode.OK
        for event, after in past:
            _show(event, before, after, output)
            before = after
    return ExitCode.OK


def _show(event: Event, before: PastState, after: PastState, output: Output) -> None:
    changed = find_changes(event, before, after)
    if output.as_json:
        output.data_line({"event": event_data(event), "status": after.status, "changes": changes_data(changed)})
    else:
        output.line(event_line(event))
        show_changes(changed.items(), output)


def _step_through(replay: Replay) -> None:
    """Show one event a screen until `q`, Esc or Ctrl-C. Raises what `Replay` does, with the terminal restored."""
    if replay.from_seq > replay.to_seq:
        return
    with terminal() as screen:
        view, size = _step_at(replay, replay.from_seq), screen.size
        screen.draw(view.lines(*size))
        while True:
            drawn = view, view.scrolled, view.whole, size
            for key in screen.keys(_TICK):
                if key in _QUITS:
                    return
                view = _press(key, replay, view)
            size = screen.size
            if (view, view.scrolled, view.whole, size) != drawn:
                screen.draw(view.lines(*size))


def _press(key: str, replay: Replay, view: StepView) -> StepView:
    """The view after a key: scrolled, with whole values, or of another step."""
    if key in _SCROLLS:
        view.scroll(_SCROLLS[key])
        return view
    if key == _WHOLE:
        view.toggle_whole()
        return view
    wanted = {"home": replay.from_seq, "g": replay.from_seq, "end": replay.to_seq, "G": replay.to_seq}.get(key)
    if wanted is None:
        wanted = view.event.seq + _STEPS.get(key, 0)
    wanted = min(max(wanted, replay.from_seq), replay.to_seq)
    return view if wanted == view.event.seq else _step_at(replay, wanted, whole=view.whole)


def _step_at(replay: Replay, seq: int, *, whole: bool = False) -> StepView:
    """The step at `seq`, with the states before and after its event."""
    before = replay.seek(seq - 1)
    event, after = next(replay)
    return StepView(event, before, after, replay.from_seq, replay.to_seq, whole=whole)


REPLAY: Final = Command("replay", "show what each event of an agent has changed; step through it", _run, _add_arguments)
