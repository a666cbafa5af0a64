"""A process that goes on when the one that owned the embedded server has ended says nothing about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

OWNER = """
import sys
from duramen.actors import AgentSystem
with AgentSystem.open(data_dir=sys.argv[1]) as system:
    system.spawn("acme/alice").set("a", 1)
    print("ready", flush=True)
    sys.stdin.readline()
"""
OTHER = """
import sys, threading
from duramen.actors import AgentSystem
from duramen.projections import Projection

class Count(Projection):
    def initial(self): return 0
    def apply(self, state, event): return state + 1

seen = threading.Semaphore(0)
with AgentSystem.open(data_dir=sys.argv[1]) as system:
    bob = system.spawn("acme/bob")
    subscription = system.subscribe("acme/bob/**", lambda change: seen.release())
    runner = system.attach(Count(), name="count")
    runner.wait_for(bob.set("a", 1), timeout=60)
    seen.acquire()
    print("ready", flush=True)
    sys.stdin.readline()
    runner.wait_for(bob.set("a", 2), timeout=60)
    seen.acquire()
    print(bob.get("a"), flush=True)
"""


def start(program: str, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", program, str(folder)]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_nothing_is_printed_when_the_process_that_owned_the_server_has_ended(killed: bool, tmp_path: Path) -> None:
    with start(OWNER, tmp_path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        with start(OTHER, tmp_path) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            if killed:
                owner.kill()
            printed, complaints = owner.communicate("\n", timeout=60)
            assert (printed, complaints) == ("", "")
            printed, complaints = other.communicate("\n", timeout=120)
    assert (printed, complaints) == ("2\n", "")
