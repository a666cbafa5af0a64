"""The command as a process: what only shows from outside."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import command, environment, start
from duramen.events.embedded.data_directory import DataDirectory
from waiting import eventually

pytestmark = pytest.mark.slow  # each command is a process, and starts a server

HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]


def run(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=60, check=False
    )


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-P", "-c", code]
    return subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False)


def many(folder: Path, sessions: int) -> str:
    file = folder / "many.json"
    file.write_text(json.dumps([HELLO * 10] * sessions))
    return str(file)


def test_in_an_empty_folder_the_sample_becomes_agents(tmp_path: Path) -> None:
    done = run(tmp_path, "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "what to try next" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [".duramen"]
    listed = json.loads(run(tmp_path, "agents", "--json").stdout)
    assert [entry["status"] for entry in listed] == ["terminated"] * 3


WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from duramen.actors.console import main; sys.exit(main({}))"


def test_without_rich_people_are_told_what_to_install_and_nothing_is_done(tmp_path: Path) -> None:
    done = python(tmp_path, WITHOUT_RICH.format(["run"]))
    assert done.returncode == 2
    assert done.stderr == ("duramen: printing for people needs rich: pip install 'duramen[console]', or use --json\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["run", "--json"], ["agents", "--json"], ["--help"], ["doctor", "--json"]])
def test_without_rich_programs_are_served(tmp_path: Path, words: list[str]) -> None:
    run(tmp_path, "spawn", "acme/alice")
    done = python(tmp_path, WITHOUT_RICH.format(words))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_enough_ends_the_command_quietly(tmp_path: Path) -> None:
    run(tmp_path, "run", many(tmp_path, 5), "--json")
    line = f"{' '.join(command('log', 'many/session-0001'))} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_a_terminal_that_knows_few_characters_is_served(tmp_path: Path) -> None:
    done = run(tmp_path, "run", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert run(tmp_path, "agents", PYTHONIOENCODING="ascii").returncode == 0


def test_without_v_nothing_is_logged_and_with_it_what_happens_is(tmp_path: Path) -> None:
    assert run(tmp_path, "spawn", "acme/alice").stderr == ""
    logged = run(tmp_path, "pause", "acme/alice", "-v").stderr
    assert "transition='pause'" in logged
    assert "acme/alice" in logged


def test_colours_are_for_terminals(tmp_path: Path) -> None:
    shown = _on_a_terminal(tmp_path, "run", many(tmp_path, 40))
    assert "\x1b[" in shown
    assert "\x1b[" not in run(tmp_path, "agents").stdout


def _on_a_terminal(folder: Path, *words: str) -> str:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            command(*words),
            cwd=folder,
            env=environment(TERM="xterm", COLUMNS="120"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while select.select([terminal], [], [], 60)[0]:
            try:
                shown += terminal.read(65_536)
            except OSError:  # the other side is closed
                break
    assert process.wait(60) == 0
    return shown.decode()


def test_ctrl_c_ends_a_run_cleanly_and_the_next_one_carries_on(tmp_path: Path) -> None:
    file = many(tmp_path, 400)
    with start(tmp_path, "run", file, "--parallel", "2") as process:
        try:
            eventually(lambda: _written(tmp_path) > 100_000, what="events on disk")
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to all of the group
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "duramen: interrupted\n" in err
    assert "run the same again to carry on" in err
    record = DataDirectory(tmp_path / ".duramen").read_record()
    assert record is None, "the server was stopped too"
    second = json.loads(run(tmp_path, "run", file, "--json").stdout)
    assert second["sessions_done"] == 400
    assert 0 < second["messages_added"] < 8_000
    listed = json.loads(run(tmp_path, "agents", "--json").stdout)
    assert {(entry["status"], entry["seq"]) for entry in listed} == {("terminated", 1 + 20 + 10 + 2 + 2)}


def _written(folder: Path) -> int:
    """Bytes in the append-only files of the store in this folder."""
    return sum(path.stat().st_size for path in (folder / ".duramen").glob("appendonlydir/*.aof"))
