"""One command of the console."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from attrs import frozen

from .arguments import Options
from .exit_codes import ExitCode
from .output import Output


@frozen
class Command:
    """A command: its name, its line in the help, its arguments, and the function that runs it."""

    name: str
    summary: str
    """Without a capital letter and without a full stop."""
    run: Callable[[argparse.Namespace, Options, Output], ExitCode]
    """Prints the result and returns the exit code. A DuramenError ends the command with the error's own code."""
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    """Adds the arguments of this command; every command also has the common options."""
    logs: bool = False
    """Whether the library's warnings go to stderr without `--verbose` too: for a command that runs for long."""
