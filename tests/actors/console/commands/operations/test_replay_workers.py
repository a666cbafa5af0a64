"""`duramen verify --replay` with several processes says what it says with one, and leaves none behind."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from command_line import command, environment, start
from duramen.actors import AgentSystem
from duramen.projections.recorded.as_code import items_of
from duramen.projections.recorded.sealing import store_items
from waiting import eventually, process_ends

pytestmark = pytest.mark.slow  # each command is a process, and starts some

KINDS = """
from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from attrs import frozen

from duramen.events import event_type, upcaster
from duramen.projections.recorded.workers import pool

pool.EVENTS_EACH = 1  # processes for small logs, too
HELPS = sys.argv[0] == "-c"
if HELPS:
    Path(f"helper-{os.getpid()}").touch()


@event_type("claim", version=2)
@frozen
class Claim:
    text: str
    source: str

    def __attrs_post_init__(self) -> None:
        if HELPS and self.text == "wait":
            Path(f"waits-{os.getpid()}").touch()
            threading.Event().wait()


@upcaster("claim", from_version=1)
def with_a_source(data):
    return {**data, "source": "unknown"}
"""
DROPPING = KINDS.replace('{**data, "source": "unknown"}', '{"source": "unknown"}')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an embedded store of three agents, and a module of event types."""
    with AgentSystem.open(data_dir=tmp_path / ".duramen") as system:
        for number in range(3):
            texts = [("claim", {"text": f"text {seq}"}, {"version": 1}) for seq in range(200)]
            store_items(system.log, f"p/agent-{number}", items_of([("spawned", {}), *texts]))
        waiting = items_of([("spawned", {}), ("claim", {"text": "wait"}, {"version": 1})])
        store_items(system.log, "p/waiting", waiting)
    (tmp_path / "kinds.py").write_text(KINDS)
    return tmp_path


AGENTS = [f"p/agent-{number}" for number in range(3)]


def verify(folder: Path, workers: int, *words: str) -> tuple[int, Any]:
    line = command("verify", "--replay", *words, "--workers", str(workers), "--import", "kinds", "--json")
    done = subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def helpers(folder: Path) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in folder.glob("helper-*")}


def test_one_and_three_workers_say_the_same_of_sound_logs(folder: Path) -> None:
    alone = verify(folder, 1, *AGENTS)
    assert helpers(folder) == set()
    assert alone == verify(folder, 3, *AGENTS)
    assert (alone[0], alone[1]["events"], alone[1]["agents"]) == (0, 603, 3)
    assert len(helpers(folder)) == 3
    assert all(process_ends(pid, 0.0) for pid in helpers(folder))


def test_one_and_three_workers_say_the_same_of_an_upcaster_that_drops_a_field(folder: Path) -> None:
    (folder / "kinds.py").write_text(DROPPING)
    alone = verify(folder, 1, *AGENTS)
    assert alone == verify(folder, 3, *AGENTS)
    assert len(helpers(folder)) == 3
    assert alone[0] == 4
    assert [(found["agent"], found["kind"], found["seq"]) for found in alone[1]["differences"]] == [
        (agent, "error", 2) for agent in AGENTS
    ]
    assert all("def test_" in (folder / found["test"]).read_text() for found in alone[1]["differences"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_the_command_is_ended_while_one_does_not_answer(
    folder: Path, number: signal.Signals
) -> None:
    running = start(folder, "verify", "--replay", "p/waiting", *AGENTS, "--workers", "2", "--import", "kinds")
    try:
        eventually(lambda: list(folder.glob("waits-*")), 60.0, what="a helper that waits")
        running.send_signal(number)
        _, told = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in told
    assert all(process_ends(pid, 30.0) for pid in helpers(folder))
