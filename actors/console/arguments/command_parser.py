"""A parser that accepts options anywhere, also between positional arguments."""

from __future__ import annotations

import argparse
from typing import Any


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that accepts `show PATH --json PROPERTY`, with an option between positional arguments.

    It cannot have sub-commands of its own.
    """

    _inside = False

    def arguments(self) -> tuple[argparse.Action, ...]:
        """What it takes, in the order of the help."""
        return tuple(self._actions)

    def parse_known_args(self, *args: Any, **named: Any) -> Any:
        """Parse the arguments of a sub-command; `ArgumentParser` calls this."""
        if (
            self._inside
        ):  # called back by the intermixed parsing, which parses options and positional arguments in two passes
            return super().parse_known_args(*args, **named)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(*args, **named)
        finally:
            self._inside = False
