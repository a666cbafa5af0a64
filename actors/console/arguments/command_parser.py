"""A parser that takes options anywhere, also between the words that stand without one."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["CommandParser"]


class CommandParser(argparse.ArgumentParser):
    """As `ArgumentParser`, which takes no more words without an option after the first option that follows one.

    So `show PATH --json PROPERTY` is understood. None of its own words may be those of a sub-command.
    """

    _inside = False

    def parse_known_args(self, *args: Any, **named: Any) -> Any:
        """What `ArgumentParser` calls for a sub-command."""
        if self._inside:  # called back by the intermixed parsing, which tells options and words apart in two rounds
            return super().parse_known_args(*args, **named)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(*args, **named)
        finally:
            self._inside = False
