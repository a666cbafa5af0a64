"""Run what a page shows, as a reader would: in a folder of their own, with what is installed."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from docs.pages import Block

__all__ = ["Failed", "console_commands", "environ_of_reader", "run_command", "run_console", "run_python"]

# Less than a test may take, so that what was printed until then is shown.
_SECONDS = 100

# The blocks of a page are one program. Line numbers are those of the page. A warning is an error, also where
# no exception can reach us: in a thread, or when an object that was never closed is thrown away.
_DRIVER = """
import gc, json, linecache, sys, threading, types
driver = sys.modules["__main__"]
missed = []
def tell(hook):
    def told(args):
        missed.append(args)
        hook(args)
    return told
sys.unraisablehook = tell(sys.unraisablehook)
threading.excepthook = tell(threading.excepthook)
page = sys.modules["__main__"] = types.ModuleType("__main__")
with open(sys.argv.pop(), encoding="utf-8") as file:
    blocks = json.load(file)
for name, line, text in blocks:
    exec(compile("\\n" * (line - 1) + text, name, "exec", dont_inherit=True), page.__dict__)
page.__dict__.clear()
gc.collect()
sys.exit(1 if missed else 0)
"""


class Failed(Exception):
    """What a page shows does not work; the message is what the reader would have seen."""


@frozen
class Command:
    """A command line of a console block and what the page shows below it."""

    line: str
    shown: str


def run_python(blocks: Sequence[Block], folder: Path) -> int:
    """Run the blocks in order, in one namespace; how many there were. Raises Failed."""
    program = folder.with_name(f"{folder.name}.json")
    program.write_text(json.dumps([(str(block.page), block.line, block.text) for block in blocks]))
    _run([sys.executable, "-P", "-W", "error", "-c", _DRIVER, str(program)], folder)
    return len(blocks)


def run_console(block: Block, folder: Path) -> int:
    """Run the block's `duramen` commands; how many there were. Raises Failed."""
    commands = [command for command in console_commands(block) if command.line.split()[0] == "duramen"]
    for command in commands:
        run_command(command, block, folder)
    return len(commands)


def run_command(command: Command, block: Block, folder: Path) -> None:
    """Run one command of a block, and compare what it prints where the block says `check`. Raises Failed."""
    printed = _run(["bash", "-c", command.line], folder)
    if "check" in block.options and not _same(command.shown, printed):
        raise Failed(f"{block.place}: {command.line}\nshown:\n{command.shown}\nprinted:\n{printed}")


def console_commands(block: Block) -> list[Command]:
    """What stands behind the prompts of a console block; a backslash at the end continues a command."""
    found: list[Command] = []
    joined = block.text.replace("\\\n", "")
    for part in ("\n" + joined).split("\n$ ")[1:]:
        line, _, shown = part.partition("\n")
        found.append(Command(line.strip(), shown))
    return found


def _same(shown: str, printed: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(shown.replace("…", "..."), printed.replace("…", "..."), flags)


def environ_of_reader() -> dict[str, str]:
    """The environment of somebody who has activated the virtual environment that these tests run in."""
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }


def _run(line: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            line,
            cwd=folder,
            env=environ_of_reader(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as late:
        raise Failed(f"did not end within {_SECONDS} s: {line[-1]}\n{late.stdout!r}\n{late.stderr!r}") from None
    if done.returncode != 0:
        raise Failed(f"exit status {done.returncode}: {line[-1]}\n{done.stdout}\n{done.stderr}")
    return done.stdout
