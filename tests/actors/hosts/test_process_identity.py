"""Whether a process of this machine has ended, seen with processes that really run, stop and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from duramen.actors.hosts import Machine, has_ended, this_process
from waiting import eventually

ANNOUNCE = "from duramen.actors.hosts import this_process; print(*this_process(), flush=True); input()"


@pytest.fixture
def here() -> Machine:
    found = this_process()
    assert found is not None, "these tests need a /proc"
    return found


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Machine]]:
    """A process that waits, and what it says of itself."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", ANNOUNCE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        boot, namespace, pid, started = process.stdout.readline().split()
        yield process, (boot, int(namespace), int(pid), int(started))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_process_that_runs_has_not_ended(here: Machine, other: tuple[subprocess.Popen[str], Machine]) -> None:
    process, machine = other
    assert machine[2] == process.pid
    assert machine[:2] == here[:2]
    assert not has_ended(machine, here)
    assert not has_ended(here, here)
    assert here == this_process()


@pytest.mark.slow
def test_a_process_that_is_stopped_lives(here: Machine, other: tuple[subprocess.Popen[str], Machine]) -> None:
    process, machine = other
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", 30)
    assert not has_ended(machine, here)
    process.send_signal(signal.SIGCONT)
    assert not has_ended(machine, here)


@pytest.mark.slow
def test_a_killed_process_has_ended_before_its_parent_knows(
    here: Machine, other: tuple[subprocess.Popen[str], Machine]
) -> None:
    process, machine = other
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended(machine, here), "it is a zombie"
    process.wait(30)
    assert has_ended(machine, here)


@pytest.mark.slow
def test_another_process_under_the_same_pid_is_not_the_one_that_ended(
    here: Machine, other: tuple[subprocess.Popen[str], Machine]
) -> None:
    _, (boot, namespace, pid, started) = other
    assert has_ended((boot, namespace, pid, started - 1), here), "it had the pid before"


@pytest.mark.slow
@pytest.mark.parametrize("field", [0, 1])
def test_nothing_is_said_of_processes_elsewhere(
    here: Machine, other: tuple[subprocess.Popen[str], Machine], field: int
) -> None:
    process, (boot, namespace, pid, started) = other
    process.kill()
    process.wait(30)
    elsewhere = ("another boot", namespace, pid, started) if field == 0 else (boot, namespace + 1, pid, started)
    assert not has_ended(elsewhere, here)
    assert not has_ended((boot, namespace, pid, started), None)
    assert not has_ended(None, here)


def test_a_process_that_is_hidden_from_this_user_is_not_taken_for_one_that_ended(
    here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `hidepid` the files of others are not there, though the processes are."""

    def hide(self: Path, *_: object) -> str:
        raise FileNotFoundError(str(self))

    monkeypatch.setattr(Path, "read_text", hide)
    assert not has_ended(here, here)
    assert this_process() is None
