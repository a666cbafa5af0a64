"""The command line: parses the arguments, runs the command, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import version
from typing import Final

from duramen.events import AskTimeout, DuramenError, Unconfirmed

from .arguments import CommandParser, Options, add_common, with_options
from .commands import COMMANDS
from .exit_codes import EXPLAINED, ExitCode, exit_code_of
from .output import Output, clean, write_note

# What other tools call these commands; by its letters alone, `get` would be taken for `set`.
_OTHER_WORDS: Final = {
    "delete": "erase",
    "events": "log",
    "get": "show",
    "history": "log",
    "list": "agents",
    "ls": "agents",
    "ps": "hosts",
    "rm": "erase",
    "send": "ask",
    "status": "show",
    "tail": "watch",
    "work": "unfinished",
}


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands. It puts the command into `command`, None if there was none."""
    parser = argparse.ArgumentParser(
        prog="duramen",
        usage="duramen [-h] [--version] COMMAND ...",
        description="Long-running agents: their memory and lifecycle, durable in a log.\nBegin with `duramen run`.",
        epilog=f"`duramen COMMAND --help` tells what a command takes.\n\n{EXPLAINED}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=None)
    parser.add_argument("--version", action="version", version=f"duramen {version('duramen')}")
    # argparse measures the names without their indentation: the spaces make room for the longest.
    parsers = parser.add_subparsers(
        prog="duramen", metavar=f"{'COMMAND':13}", title="commands", parser_class=CommandParser
    )
    for command in COMMANDS:
        summary = command.summary
        own = parsers.add_parser(
            command.name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.set_defaults(command=command, parser=own)
        if command.add_arguments is not None:
            command.add_arguments(own)
        add_common(own)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, of `sys.argv` unless arguments are given, and return the exit code. Raises no error."""
    parser = make_parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and not words[0].startswith("-") and words[0] not in {command.name for command in COMMANDS}:
            parser.error(_no_command(words[0]))
        parsed, unknown = parser.parse_known_args(words)
        if unknown:
            (parser if parsed.command is None else parsed.parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    except SystemExit as ended:  # argparse has printed the error, the help or the version
        return ended.code if isinstance(ended.code, int) else ExitCode.USAGE
    if parsed.command is None:
        parser.print_help(sys.stderr)
        return ExitCode.USAGE
    options = Options.of(parsed)
    try:
        with _logging(logging.DEBUG if options.verbose else logging.WARNING if parsed.command.logs else None):
            code: ExitCode = parsed.command.run(parsed, options, Output(as_json=options.json))
            sys.stdout.flush()
            return code
    except DuramenError as error:
        # One line, unless the error quotes a server's log.
        _explain(clean(with_options(str(error)), lines=True) + _how_to_repeat(error, parsed), debug=options.debug)
        return exit_code_of(error)
    except KeyboardInterrupt:
        sys.stderr.write("duramen: interrupted\n")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone. Flushing the buffer at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {clean(str(error))}; --debug shows where it comes from"
        _explain(what, debug=options.debug)
        return ExitCode.FAILED


def _no_command(word: str) -> str:
    near = _OTHER_WORDS.get(word) or next(iter(get_close_matches(word, [command.name for command in COMMANDS])), None)
    meant = f"; did you mean `{near}`?" if near else ""
    return f"there is no command {clean(word[:40])!r}{meant or '; `duramen --help` lists them'}"


def _how_to_repeat(error: DuramenError, parsed: argparse.Namespace) -> str:
    """For a message that may have been carried out: the option that makes it safe to send it again."""
    command_id: str | None = getattr(parsed, "command_id", None)
    if command_id is None or not isinstance(error, (AskTimeout, Unconfirmed)):
        return ""
    return f"; the same command with --command-id {clean(command_id)} does it once"


def _explain(sentence: str, *, debug: bool) -> None:
    """Say what ended the command; below `except` only."""
    if debug:
        traceback.print_exc()
    write_note(sentence)


@contextmanager
def _logging(least: int | None) -> Generator[None]:
    """Write the library's log to stderr from this level on; None: nowhere, since errors end commands with a line."""
    logger = logging.getLogger("duramen")
    handler = logging.NullHandler() if least is None else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    level, logger.propagate = logger.level, False
    logger.addHandler(handler)
    if least is not None:
        logger.setLevel(least)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True
