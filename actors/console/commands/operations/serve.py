"""`duramen serve`: run agents until a signal asks to end."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

from duramen.events import SystemClosed
from duramen.events.redis.client import redact_url

from ....api import AgentSystem
from ...arguments import Options, parse_port, parse_seconds
from ...command import Command
from ...exit_codes import ExitCode
from ...output import Output, text
from ...serving import INSPECTOR_PORT, StatusServer, interruption, load_application, parse_address

if TYPE_CHECKING:
    from ....inspector import InspectorServer

_CLOSE_SECONDS: Final = 30.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "application",
        metavar="MODULE:NAME",
        help="a mapping of agent types to classes; or a function that returns one, takes the open system to prepare "
        "it, or opens it itself",
    )
    parser.add_argument(
        "--http",
        type=parse_address,
        metavar="HOST:PORT",
        help="answer /healthz, /readyz and /metrics there; a PORT alone is on 127.0.0.1",
    )
    parser.add_argument(
        "--inspect", action="store_true", help="show the agents in the browser, as `duramen inspect` does"
    )
    parser.add_argument(
        "--inspect-port",
        type=parse_port,
        default=INSPECTOR_PORT,
        metavar="N",
        help=f"where, on 127.0.0.1; 0: a free one (default: {INSPECTOR_PORT})",
    )
    parser.add_argument(
        "--close-timeout",
        type=parse_seconds,
        default=_CLOSE_SECONDS,
        metavar="SECONDS",
        help=f"how long to wait at the end for what runs (default: {_CLOSE_SECONDS:g})",
    )


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    with interruption() as ending, ExitStack() as stack:
        status: StatusServer | None = None
        if arguments.http is not None:
            status = StatusServer(arguments.http)
            stack.callback(status.close)
        system = load_application(arguments.application).open(options)
        try:
            with ExitStack() as shown:
                inspector = shown.enter_context(_inspect(system, arguments, options)) if arguments.inspect else None
                if status is not None:
                    status.system = system
                _announce(system, status, inspector, options, output)
                ending.wait()
        finally:
            _close(system, arguments.close_timeout)
    return ExitCode.OK


def _inspect(system: AgentSystem, arguments: argparse.Namespace, options: Options) -> InspectorServer:
    from ....inspector import InspectorServer

    return InspectorServer(system, port=arguments.inspect_port, namespace=options.namespace)


def _announce(
    system: AgentSystem,
    status: StatusServer | None,
    inspector: InspectorServer | None,
    options: Options,
    output: Output,
) -> None:
    types = sorted(system.agent_types())
    url = None if status is None else status.url
    if output.as_json:
        ready = {"ready": True, "agent_types": types, "namespace": options.namespace, "http": url}
        output.data_line(ready if inspector is None else {**ready, "inspect": inspector.url})
    else:
        where = f"in {options.folder}" if options.url is None else f"on {redact_url(options.url)}"
        shown = f"duramen: serving {', '.join(types) or 'no agent types'} {where}"
        shown += f"; status at {url}" if url else ""
        output.line(text(shown if inspector is None else f"{shown}; inspector at {inspector.url}"), wrap=False)
    sys.stdout.flush()


def _close(system: AgentSystem, seconds: float) -> None:
    """Hand on or handle what waits, and release everything; a second signal ends it at once, by KeyboardInterrupt."""
    deadline = monotonic() + seconds
    try:
        with suppress(SystemClosed):  # by the application itself
            system.drain(seconds)
        system.close(max(0.0, deadline - monotonic()))
    except KeyboardInterrupt:
        system.close(0.0)
        raise


SERVE: Final = Command("serve", "run agents until Ctrl-C or SIGTERM", _run, _add_arguments, logs=True)
