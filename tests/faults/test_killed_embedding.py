"""Episodes are embedded once each, though the process that embeds them is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from duramen.actors import AgentSystem
from duramen.projections.consumers import host_of
from hashing import Recorder
from waiting import eventually

PROGRAM = Path(__file__).with_name("embedding_process.py")


@pytest.mark.slow
def test_a_process_that_stands_by_goes_on_where_a_killed_one_was(valkey_url: str) -> None:
    namespace = f"t{uuid4().hex}"
    environment = {"PYTHONPATH": str(PROGRAM.parent.parent), "PATH": ""}
    arguments = [sys.executable, "-P", str(PROGRAM), valkey_url, namespace]
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    with AgentSystem.open(valkey_url, namespace=namespace, partitions=2) as system:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            calls = Recorder(lambda texts: [[float(len(text)), 1.0] for text in texts])
            system.episodes.use_embedding(calls, name="m", background=True)
            for name in "abc":
                system.spawn(f"acme/{name}").terminate(task_description=f"session {name}")
                assert process.stdout.readline() == f"session {name}\n"
            eventually(lambda: system.consumers.get("embedding.m").lag == 0)
            assert calls.texts == []
        finally:
            process.kill()
            process.communicate()

        def owner() -> str:
            record = system.log.consumer_store().find("embedding.m").live
            return "" if record is None else host_of(record)

        killed = owner()
        system.spawn("acme/d").terminate(task_description="session d")
        eventually(lambda: owner() != killed, timeout=60)
        eventually(lambda: calls.texts, timeout=60)
        assert [text.partition("\n")[0] for text in calls.texts] == ["session d"]
        assert len(system.episodes.search("session")) == 4
        assert [text.partition("\n")[0] for text in calls.texts] == ["session d", "session"]
