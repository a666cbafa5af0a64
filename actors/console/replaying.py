"""`duramen replay`: an agent's past, event by event, with what each has changed."""

from __future__ import annotations

import argparse
import sys

from duramen.events import AgentPath, Event
from duramen.projections.past import PastState

from .changed_values import changed_by, changes_data, show_changes
from .event_text import event_data, event_line
from .exit_codes import ExitCode
from .opening import opened
from .options import Options
from .output import Output
from .reading_log import first_seq

__all__ = ["replay"]


def replay(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """A line an event and a line a change; with `step`, on a terminal, one event a screen."""
    path = AgentPath.parse(arguments.path).text
    with opened(options) as system:
        first = arguments.start or first_seq(system, path)
        past = system.replay(path, from_seq=first, to_seq=arguments.end)
        if arguments.step and not output.as_json and sys.stdin.isatty() and sys.stdout.isatty():
            from .stepping import step_through

            step_through(past)
            return ExitCode.OK
        before = past.state
        for event, after in past:
            _show(event, before, after, output)
            before = after
    return ExitCode.OK


def _show(event: Event, before: PastState, after: PastState, output: Output) -> None:
    changed = changed_by(event, before, after)
    if output.as_json:
        output.data_line({"event": event_data(event), "status": after.status, "changes": changes_data(changed)})
    else:
        output.line(event_line(event))
        show_changes(changed.items(), output)
