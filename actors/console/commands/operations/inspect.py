"""`duramen inspect`: a page in the browser that shows agents and their past."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from duramen.events import InvalidMessage

from ....api import AgentSystem
from ...arguments import Options, parse_port
from ...command import Command
from ...errors import UnusableFile
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output
from ...serving import INSPECTOR_PORT, interruption


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="look into what `export` has written, in place of a store"
    )
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
    from ....inspector import InspectorServer

    with (
        interruption() as ending,
        _opened(arguments.file, options) as system,
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
            shown = options.namespace if arguments.file is None else arguments.file
            sys.stderr.write(f"duramen: inspecting {shown}; {what}; Ctrl-C ends it\n")
        sys.stdout.flush()
        if not arguments.no_open:
            webbrowser.open(server.url)
        ending.wait()
    return ExitCode.OK


@contextmanager
def _opened(file: str | None, options: Options) -> Generator[AgentSystem]:
    """The store that the options name, or the agents of a file in a log in memory, of which nothing stays."""
    if file is None:
        with opened(options) as system:
            yield system
        return
    if options.given:
        raise InvalidMessage(f"a file is looked into without a store: leave {' '.join(options.given[::2])} out")
    with AgentSystem.open("memory://") as system:
        try:
            system.import_session(file)
        except OSError as error:
            raise UnusableFile(f"{file}: {error.strerror or error}") from error
        yield system


INSPECT: Final = Command("inspect", "look at agents and their past in the browser", _run, _add_arguments, logs=True)
