"""The commands in `examples/deploy` run as they stand there, and its web application answers."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from command_line import command, environment

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "deploy"


def words_of(file: str) -> list[str]:
    """The arguments of `duramen` in a file of the folder; the port is any that is free."""
    text = (FOLDER / file).read_text()
    if file.endswith(".service"):
        [line] = re.findall(r"^ExecStart=\S+/duramen (.+)$", text, re.MULTILINE)
        words = line.split()
    else:
        [line] = re.findall(r"\[\"?duramen\"?, (.+)\]$", text, re.MULTILINE)
        words = [word.strip(' "') for word in line.split(",")]
    return [re.sub(r"^(.*:)?8080$", "0", word) for word in words]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["duramen.service", "compose.yaml", "Dockerfile"])
def test_a_host_serves_as_it_is_told_there(file: str) -> None:
    line = command(*words_of(file), "--json", "--url", "memory://")
    process = subprocess.Popen(line, cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["agent_types"] == ["notebook"]
        with urllib.request.urlopen(f"{ready['http']}/readyz", timeout=10) as answer:
            assert answer.read() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_the_web_application_carries_out_a_request_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURAMEN_URL", "memory://")
    spec = importlib.util.spec_from_file_location("application", FOLDER / "application.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert asyncio.run(_talk(module.app)) == [b"1\n", b"2\n", b"2\n", b"2\n"]


async def _talk(app: Any) -> list[bytes]:
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    living = asyncio.create_task(app({"type": "lifespan"}, incoming.get, outgoing.put))
    await incoming.put({"type": "lifespan.startup"})
    assert (await outgoing.get())["type"] == "lifespan.startup.complete"
    bodies = [await _request(app, "PUT", b"r-1"), await _request(app, "PUT", b"r-2")]
    bodies += [await _request(app, "PUT", b"r-2"), await _request(app, "GET", b"")]
    await incoming.put({"type": "lifespan.shutdown"})
    assert (await outgoing.get())["type"] == "lifespan.shutdown.complete"
    await living
    return bodies


async def _request(app: Any, method: str, request_id: bytes) -> bytes:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"a note", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/ann", "method": method, "headers": [(b"x-request-id", request_id)]}
    await app(scope, receive, send)
    assert sent[0]["status"] == 200
    body: bytes = sent[1]["body"]
    return body
