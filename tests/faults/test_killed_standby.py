"""A consumer whose process is killed goes on in one of those that stand by, from where it was stored."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from duramen.actors import AgentSystem
from following import LastSeqs, expected_seqs, seqs_of
from waiting import eventually

PROGRAM = Path(__file__).with_name("standby_process.py")


@pytest.mark.slow
def test_of_two_that_stand_by_one_goes_on_where_a_killed_process_was(valkey_url: str) -> None:
    namespace = f"t{uuid4().hex}"
    environment = {"PYTHONPATH": str(PROGRAM.parent.parent), "PATH": ""}
    arguments = [sys.executable, "-P", str(PROGRAM), valkey_url, namespace]
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    with (
        AgentSystem.open(valkey_url, namespace=namespace, partitions=2) as one,
        AgentSystem.open(valkey_url, namespace=namespace, partitions=2) as two,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() in ("live\n", "catching_up\n")
            runners = [system.attach(LastSeqs(), "seqs", standby=True) for system in (one, two)]
            alice = one.spawn("acme/alice")
            for number in range(5):
                receipt = alice.set("n", number)
                for runner in runners:
                    runner.wait_for(receipt)
                    assert runner.status == "standby"
                    assert seqs_of(runner.state) == expected_seqs(one)
        finally:
            process.kill()
            process.communicate()
        receipt = alice.set("n", 5)
        for runner in runners:
            runner.wait_for(receipt, timeout=60)
        eventually(lambda: Counter(runner.status for runner in runners) == {"live": 1, "standby": 1}, timeout=60)
        for runner in runners:
            runner.wait_for(alice.set("n", 6))
            assert seqs_of(runner.state) == expected_seqs(one)
