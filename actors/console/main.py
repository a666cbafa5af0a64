"""The command line: what it takes, and which function answers."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from duramen.events import DuramenError

from .arguments import Options
from .commands import (
    agents,
    blame,
    checkpoints,
    diff,
    doctor,
    episodes,
    export,
    fork,
    import_,
    log,
    pause,
    projections,
    replay,
    resume,
    run,
    show,
    spawn,
    terminate,
    verify,
    watch,
)
from .exit_codes import ExitCode, exit_code_of
from .output import Output, clean
from .parser import make_parser

__all__ = ["COMMANDS", "main"]

Command = Callable[[argparse.Namespace, Options, Output], ExitCode]

COMMANDS: Final[dict[str, Command]] = {
    "agents": agents,
    "blame": blame,
    "checkpoints": checkpoints,
    "diff": diff,
    "doctor": doctor,
    "episodes": episodes,
    "export": export,
    "import": import_,
    "fork": fork,
    "log": log,
    "pause": pause,
    "projections": projections,
    "replay": replay,
    "resume": resume,
    "run": run,
    "show": show,
    "spawn": spawn,
    "terminate": terminate,
    "verify": verify,
    "watch": watch,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, of `sys.argv` unless arguments are given; the exit code. Never raises a DuramenError."""
    parser = make_parser(version("duramen"))
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as ended:  # argparse has said what is wrong, or shown what was asked for
        return ended.code if isinstance(ended.code, int) else ExitCode.USAGE
    if parsed.command is None:
        parser.print_help(sys.stderr)
        return ExitCode.USAGE
    options = Options.of(parsed)
    try:
        with _logging(verbose=options.verbose):
            code = COMMANDS[parsed.command](parsed, options, Output(as_json=options.json))
            sys.stdout.flush()
            return code
    except DuramenError as error:
        # In a line, unless the error quotes a server's log.
        sys.stderr.write(f"duramen: {clean(str(error), lines=True)}\n")
        return exit_code_of(error)
    except KeyboardInterrupt:
        sys.stderr.write("duramen: interrupted\n")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. What is left in the buffer must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK


@contextmanager
def _logging(*, verbose: bool) -> Generator[None]:
    """Show the library's log on stderr if asked to; else keep it quiet, since errors are told in a line anyway."""
    logger = logging.getLogger("duramen")
    handler = logging.StreamHandler() if verbose else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    level, logger.propagate = logger.level, False
    logger.addHandler(handler)
    if verbose:
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True
