"""Modules of the user's that a command imports: `--import MODULE`, and `MODULE:NAME`."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from duramen.events.logging import raised_at

from ..errors import UnusableCode


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add `--import MODULE[:NAME]`, which may be repeated."""
    parser.add_argument(
        "--import",
        action="append",
        default=[],
        dest="imports",
        metavar="MODULE",
        help="import this module, which declares message types; may be repeated",
    )


def import_named(name: str) -> ModuleType:
    """Import a module by its name; modules in the working directory are found first. Raises UnusableCode."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except BaseException as error:  # the user's own code
        if isinstance(error, KeyboardInterrupt):
            raise
        why = str(error) if isinstance(error, ImportError) else f"{type(error).__name__} at {raised_at(error)}"
        raise UnusableCode(f"cannot import {name!r}: {why}") from error


def load_named(text: str) -> Any:
    """What `MODULE:NAME` names; NAME may have dots. Raises UnusableCode."""
    module, colon, name = text.partition(":")
    if not module or not colon or not name:
        raise UnusableCode(f"{text!r} is not MODULE:NAME, such as app.agents:AGENTS")
    found: Any = import_named(module)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UnusableCode(f"module {module!r} has no {name!r}") from None
    return found
