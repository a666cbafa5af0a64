"""A small HTTP server that says how a served system is: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import argparse
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from time import monotonic
from typing import Any, Final

from attrs import frozen

from duramen.events import DuramenError

from ...api import AgentSystem
from ..errors import UnusableCode
from .metrics_page import CONTENT_TYPE, metrics_page

_LOOPBACK: Final = "127.0.0.1"
_ADDRESS: Final = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):)?(?P<port>[0-9]{1,5})", re.ASCII)
_TEXT: Final = "text/plain; charset=utf-8"
_REQUEST_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 1.0
"""How long the answer about the log counts: however many ask, the log is asked once in this time."""
_DRAINING: Final = "draining"
_NOBODY: Final = "0" * 32


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `[HOST]:PORT` or `PORT`, on the loopback interface. Raises ArgumentTypeError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, [HOST]:PORT or PORT")
    return (found["host"] or _LOOPBACK).strip("[]"), int(found["port"])


@frozen
class _Answer:
    code: int
    text: str
    kind: str = _TEXT


class StatusServer:
    """Answers while it is open, in threads of its own, whatever the system does. Raises UnusableCode for the address.

    `system` is set once the system is open; until then, and once the system drains, it is not ready.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.system: AgentSystem | None = None
        self._checking = threading.Lock()
        self._checked: tuple[float, str | None] = (float("-inf"), None)
        answers: dict[str, Callable[[], _Answer]] = {
            "/healthz": lambda: _Answer(200, "alive\n"),
            "/readyz": self._answer_ready,
            "/metrics": self._answer_metrics,
        }

        class Server(ThreadingHTTPServer):
            address_family = AF_INET6 if ":" in address[0] else AF_INET
            daemon_threads = True
            block_on_close = False

        try:
            self._server = Server(address, _make_handler(answers))
        except OSError as error:
            raise UnusableCode(f"cannot listen on {address[0]} port {address[1]}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="duramen-status", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        name = str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def close(self) -> None:
        """Stop answering. Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer_ready(self) -> _Answer:
        problem = self._find_problem()
        return _Answer(200, "ready\n") if problem is None else _Answer(503, f"not ready: {problem}\n")

    def _find_problem(self) -> str | None:
        system = self.system
        if system is None:
            return "opening"
        if system.is_draining:
            return _DRAINING
        # One thread asks the log; the others wait for its answer as long as they would for their own.
        if not self._checking.acquire(timeout=_REQUEST_SECONDS):
            return "the log does not answer"
        try:
            at, problem = self._checked
            if monotonic() - at > _CHECK_SECONDS:
                problem = _ask_log(system)
                self._checked = (monotonic(), problem)
            return problem
        finally:
            self._checking.release()

    def _answer_metrics(self) -> _Answer:
        problem, system = self._find_problem(), self.system
        load = None if system is None else system.load()
        lags = _ask_lags(system) if system is not None and problem in (None, _DRAINING) else {}
        return _Answer(200, metrics_page(is_ready=problem is None, load=load, lags=lags), CONTENT_TYPE)


def _ask_lags(system: AgentSystem) -> dict[str, int]:
    try:
        return system.consumers.lags()
    except DuramenError:  # the other numbers are there all the same
        return {}


def _ask_log(system: AgentSystem) -> str | None:
    """Why the log cannot be used; None if it answers."""
    try:
        system.log.hosts.find(_NOBODY)
    except DuramenError as error:
        return type(error).__name__
    return None


def _make_handler(answers: dict[str, Callable[[], _Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_SECONDS
        server_version = "duramen"
        sys_version = ""

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0], lambda: _Answer(404, "not found\n"))()
            body = answer.text.encode()
            self.send_response(answer.code)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: probes come every few seconds."""

    return Handler
