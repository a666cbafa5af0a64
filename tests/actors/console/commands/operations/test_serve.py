"""`duramen serve` as a process: it says when it is ready, answers probes whatever handlers do, and ends at a signal."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from command_line import command, environment, start
from metrics import parse_metrics
from servers import redis_server
from waiting import eventually

pytestmark = pytest.mark.slow  # each test starts a process, and most a server

APPLICATION = """
import os, time
from pathlib import Path
from duramen.actors import Agent, AgentSystem
from duramen.events import message_type
from attrs import frozen

class Shop(Agent):
    def on_receive(self, message):
        if message == "wait":
            Path("began").touch()
            while not Path("go").exists():  # busy, as a handler that computes
                pass
        self.set("handled", message)
        return message

AGENTS = {"shop": Shop}
EMPTY = {}
NUMBER = 5

def make():
    return AGENTS

def prepare(system):
    system.hooks.on_terminate(lambda event: Path("hooked").touch())
    system.spawn("acme/brief").terminate()
    return AGENTS

def busy(system):
    system.register("shop", Shop)
    system.spawn("acme/shop", agent_type="shop").tell("wait")

def own():
    return AgentSystem.open("memory://", agents=AGENTS)

def explode():
    raise ZeroDivisionError("a secret")

def two(a, b):
    pass

async def later():
    return AGENTS
"""


@define
class Served:
    """A `duramen serve` that has said that it is ready."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self.ready['http']}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APPLICATION)
    return tmp_path


@contextmanager
def serve(folder: Path, name: str = "AGENTS", *words: str) -> Iterator[Served]:
    process = start(folder, "serve", f"shop:{name}", "--http", "0", "--json", *words)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Served(process, json.loads(line))
    finally:
        process.kill()
        process.communicate(timeout=60)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", ["AGENTS", "make", "prepare"])
def test_it_says_in_one_line_when_it_is_ready(folder: Path, name: str) -> None:
    with serve(folder, name) as served:
        assert served.ready.pop("http").startswith("http://127.0.0.1:")
        assert served.ready == {"ready": True, "agent_types": ["shop"], "namespace": "default"}
        assert served.end() == 0
        assert served.process.communicate() == ("", "")


def test_people_are_told_what_it_serves_and_where(folder: Path) -> None:
    process = start(folder, "serve", "shop:AGENTS", "--http", "0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.fullmatch(rf"duramen: serving shop in {folder}/\.duramen; status at http://127\.0\.0\.1:\d+\n", line)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_what_was_begun_is_done(folder: Path, number: int) -> None:
    with serve(folder, "busy") as served:
        eventually((folder / "began").exists)
        served.process.send_signal(number)
        eventually(lambda: served.get("/readyz") == (503, "not ready: draining\n"))
        assert served.process.poll() is None
        (folder / "go").touch()
        assert served.process.wait(timeout=60) == 0
    assert json.loads(run(folder, "show", "acme/shop", "handled", "--json").stdout) == "wait"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(folder: Path, number: int) -> None:
    with serve(folder, "busy") as served:
        eventually((folder / "began").exists)
        served.process.send_signal(number)
        eventually(lambda: served.get("/readyz")[0] == 503)
        assert served.end(number) == 130


def test_it_waits_no_longer_than_it_was_told_and_says_so(folder: Path) -> None:
    with serve(folder, "busy", "--close-timeout", "0.1") as served:
        eventually((folder / "began").exists)
        assert served.end() == 0
        assert served.process.stderr is not None
        assert "close_timed_out" in served.process.stderr.read()


# -- the status page ---------------------------------------------------------------------------------------------------


def test_it_is_alive_and_ready_while_a_handler_computes(folder: Path) -> None:
    with serve(folder, "busy") as served:
        eventually((folder / "began").exists)
        assert served.get("/healthz") == (200, "alive\n")
        assert served.get("/readyz") == (200, "ready\n")
        assert served.get("/metrics?x=1")[0] == 200
        assert served.get("/") == (404, "not found\n")
        assert served.get("/healthz/more")[0] == 404


def test_metrics_count_agents_messages_and_appends(folder: Path) -> None:
    with serve(folder, "busy") as served:
        eventually((folder / "began").exists)
        busy = metrics(served)
        assert busy["duramen_ready"] == 1
        assert busy["duramen_agents_in_memory"] == 1
        assert busy["duramen_appends_total"] == 1
        (folder / "go").touch()
        eventually(lambda: metrics(served)["duramen_appends_total"] == 2)
        assert metrics(served)["duramen_append_failures_total"] == 0


def metrics(served: Served) -> dict[str, float]:
    """Each value by its name, of a page in the text format."""
    code, page = served.get("/metrics")
    assert code == 200
    return dict(parse_metrics(page))


def test_it_is_not_ready_without_its_server_and_alive_all_the_same(folder: Path) -> None:
    with redis_server(aof=True) as server, serve(folder, "AGENTS", "--url", server.url) as served:
        assert served.get("/readyz") == (200, "ready\n")
        server.kill9()
        eventually(lambda: served.get("/readyz") == (503, "not ready: Unavailable\n"), timeout=30)
        assert metrics(served)["duramen_ready"] == 0
        assert served.get("/healthz") == (200, "alive\n")
        server.restart()
        eventually(lambda: served.get("/readyz") == (200, "ready\n"), timeout=30)
        assert served.end() == 0


def test_without_http_nothing_listens(folder: Path) -> None:
    process = start(folder, "serve", "shop:EMPTY", "--json")
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["http"] is None
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_an_address_that_is_taken_is_exit_code_2_and_makes_no_store(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(folder, "serve", "shop:AGENTS", "--http", str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in done.stderr
    assert not (folder / ".duramen").exists()


# -- what is served ----------------------------------------------------------------------------------------------------


def test_hooks_of_an_application_are_called(folder: Path) -> None:
    with serve(folder, "AGENTS", "--url", "memory://"):
        assert not (folder / "hooked").exists()
    with serve(folder, "prepare", "--url", "memory://") as served:
        assert served.ready["agent_types"] == ["shop"]
        eventually((folder / "hooked").exists)


def test_an_application_may_open_its_system_itself_and_takes_no_url_then(folder: Path) -> None:
    with serve(folder, "own") as served:
        assert served.ready["agent_types"] == ["shop"]
        assert served.end() == 0
    done = run(folder, "serve", "shop:own", "--data-dir", "elsewhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "opens its system itself; leave --data-dir out" in done.stderr


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop", "is not MODULE:NAME"),
        ("shop:", "is not MODULE:NAME"),
        (":AGENTS", "is not MODULE:NAME"),
        ("nowhere:AGENTS", "cannot import 'nowhere': No module named 'nowhere'"),
        ("broken:AGENTS", "cannot import 'broken': SyntaxError at"),
        ("exits:AGENTS", "cannot import 'exits': SystemExit at"),
        ("shop:agents", "module 'shop' has no 'agents'"),
        ("shop:Shop", "is one Agent class; give a mapping"),
        ("shop:NUMBER", "shop:NUMBER is of type int; give a mapping"),
        ("shop:explode", "shop:explode raised ZeroDivisionError at"),
        ("shop:two", "takes 2 arguments"),
        ("shop:later", "is async"),
        ("shop:make.name", "has no 'make.name'"),
    ],
)
def test_what_is_no_application_is_exit_code_2_and_makes_no_store(folder: Path, target: str, said: str) -> None:
    (folder / "broken.py").write_text("AGENTS = {")
    (folder / "exits.py").write_text("raise SystemExit(0)")
    done = run(folder, "serve", target)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "a secret" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / ".duramen").exists()


@pytest.mark.parametrize("address", ["", "x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "http://x:1", "::1:80"])
def test_an_address_of_another_form_is_a_usage_error(folder: Path, address: str) -> None:
    done = run(folder, "serve", "shop:AGENTS", "--http", address)
    assert done.returncode == 2
    assert "is not HOST:PORT" in done.stderr
