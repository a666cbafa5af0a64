"""`duramen mcp`: agents' memory and past as tools of the Model Context Protocol."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Final

from duramen.events import NotInstalled

from ...arguments import Options
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allow-writes", action="store_true", help="let the tools change memory; else they only read")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    try:
        adapter = import_module("duramen.adapters.mcp")  # by name: the adapters stand above the console
    except ImportError:
        raise NotInstalled("duramen mcp needs the package mcp: pip install 'duramen[mcp]'") from None
    with opened(options) as system:
        adapter.make_server(system, allow_writes=arguments.allow_writes).run("stdio")
    return ExitCode.OK


MCP: Final = Command("mcp", "offer memory and past to models, as tools", _run, _add_arguments, logs=True)
