"""`duramen inspect`: a page in the browser that shows agents and their past."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from typing import Final

from ..arguments import Options, parse_port
from ..command import Command
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import Output
from ..serving import INSPECTOR_PORT, interruption


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=parse_port,
        default=INSPECTOR_PORT,
        metavar="N",
        help=f"on 127.0.0.1; 0: a free one (default: {INSPECTOR_PORT})",
    )
    parser.add_argument("--no-open", action="store_true", help="print the address, and open no browser")
    parser.add_argument(
        "--allow-actions",
        action="store_true",
        help="let the page pause, resume and fork agents, and answer and cancel work; else it only reads",
    )


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    from ...inspector import InspectorServer

    with (
        interruption() as ending,
        opened(options) as system,
        InspectorServer(
            system, port=arguments.port, namespace=options.namespace, allow_actions=arguments.allow_actions
        ) as server,
    ):
        if output.as_json:
            output.data_line({"url": server.url, "actions": arguments.allow_actions})
        else:
            # Nothing before it and nothing around it: programs read the first line.
            sys.stdout.write(f"{server.url}\n")
            what = "it may act on agents" if arguments.allow_actions else "it only reads"
            sys.stderr.write(f"duramen: inspecting {options.namespace}; {what}; Ctrl-C ends it\n")
        sys.stdout.flush()
        if not arguments.no_open:
            webbrowser.open(server.url)
        ending.wait()
    return ExitCode.OK


INSPECT: Final = Command("inspect", "look at agents and their past in the browser", _run, _add_arguments, logs=True)
