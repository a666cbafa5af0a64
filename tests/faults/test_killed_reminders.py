"""Reminders of an agent whose process is killed again and again are delivered once each."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

from duramen.actors import AgentSystem
from duramen.events import Event
from faults.killed_reminders import EVERY, PATH
from waiting import eventually

PROGRAM = Path(__file__).with_name("killed_reminders.py")
_KILLS = 4
_PERIOD = int(EVERY * 1_000_000)


def test_each_due_time_is_in_the_log_once_whoever_is_killed(valkey_url: str) -> None:
    namespace, chance = f"t{uuid4().hex}", random.Random(7)
    environment = {"PYTHONPATH": str(PROGRAM.parent.parent), "PATH": ""}
    with AgentSystem.open(valkey_url, namespace=namespace, partitions=2, host=False) as client:

        def events(kind: str) -> list[Event]:
            known = client.log.head(PATH) is not None
            return [event for event in client.events(PATH) if event.type == kind] if known else []

        def more(count: int) -> Callable[[], bool]:
            wanted = len(events("reminder_due")) + count
            return lambda: len(events("reminder_due")) >= wanted

        for _ in range(_KILLS):
            process = subprocess.Popen([sys.executable, "-P", str(PROGRAM), valkey_url, namespace], env=environment)
            try:
                eventually(more(chance.randrange(1, 6)), timeout=60)
            finally:
                process.kill()
                process.wait()
        dues = events("reminder_due")
        assert len(dues) >= _KILLS
        assert all(after.data["due"] - before.data["due"] == _PERIOD for before, after in pairwise(dues))
        assert all(event.data["delivered"] and event.data["ticks"] == 1 for event in dues)
        assert [event.seq for event in events("work_accepted")] == [event.seq + 1 for event in dues]
        assert all(event.time.timestamp() * 1_000_000 >= event.data["due"] - 1 for event in dues)  # none was early
        ended = events("work_ended")
        assert len(client.agent(PATH).get("ticks", [])) == len(ended)
        assert len({event.data["work"] for event in ended}) == len(ended)
