"""Work whose process is killed at each of its appends is done all the same: each step that was logged, once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.events import message_type
from faults.killed_work import PATH, STEPS
from servers import valkey_server
from waiting import eventually

PROGRAM = Path(__file__).with_name("killed_work.py")
_KILLED = -9


class Killing:
    """Lets processes do work, one after the other, and kills them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.namespace = ""
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(PROGRAM.parent.parent), "PATH": ""},
            text=True,
        )

    def begin(self) -> None:
        """What follows is done in a namespace of its own."""
        self.namespace = f"t{uuid4().hex}"

    @property
    def ledger(self) -> Path:
        return self.folder / self.namespace

    def run(self, at: int = 0, when: str = "") -> int:
        """The exit code of a process that does the work, or goes on with it."""
        order = {"namespace": self.namespace, "ledger": str(self.ledger), "at": at, "when": when}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def entries(self) -> list[str]:
        """What the steps have done outside, and their keys, in order."""
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def look(self) -> tuple[list[Any], dict[str, Any], Any, list[Any]]:
        """The events, the memory, what is replied and what is unfinished."""
        with AgentSystem.open(self.url, namespace=self.namespace, partitions=2, host=False) as system:
            if system.log.head(PATH) is None:
                return [], {}, None, []
            events = list(system.events(PATH))
            assert system.verify(PATH).ok
            reply = next((event.data["reply"] for event in events if event.type == "work_ended"), None)
            return events, system.agent(PATH).get(), reply, system.unfinished()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture
def killing(valkey_url: str, tmp_path: Path) -> Iterator[Killing]:
    killing = Killing(valkey_url, tmp_path)
    yield killing
    killing.close()


def logged_steps(events: list[Any]) -> set[str]:
    """The steps whose results the log has."""
    begun = {event.data["number"]: event.data["name"] for event in events if event.type == "work_begun"}
    done = {event.data["number"] for event in events if event.type in ("work_continued", "work_done")}
    return {name for number, name in begun.items() if number in done and name in STEPS}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before", "sent", "committed"])
def test_a_step_that_was_logged_is_not_done_again_wherever_the_process_dies(killing: Killing, when: str) -> None:
    killing.begin()
    assert killing.run() == 0
    _, memory, reply, unfinished = killing.look()
    assert Counter(entry.split()[0] for entry in killing.entries()) == dict.fromkeys(STEPS, 1)
    assert unfinished == []
    kills, repeated = 0, 0
    for at in range(1, 100):
        killing.begin()
        if killing.run(at, when) != _KILLED:
            break
        kills += 1
        before, done = killing.look()[0], logged_steps(killing.look()[0])
        assert killing.run() == 0
        events, again, replied, unfinished = killing.look()
        counts = Counter(entry.split()[0] for entry in killing.entries())
        assert unfinished == []
        assert replied == reply
        assert {**again, "drawn": None} == {**memory, "drawn": None}
        assert set(counts) == set(STEPS)
        assert {name for name in done if counts[name] != 1} == set(), f"done again: {counts}, killed at {at}"
        assert max(counts.values()) <= 2
        assert len(set(killing.entries())) == len(STEPS), "the key of a step has changed"
        assert events[: len(before)] == before
        repeated += sum(counts.values()) - len(STEPS)
    assert kills >= 8
    # The control: it was also killed when a step had run and its result was not logged. Only before it is sent is that
    # sure: at each append with results, of which "two" and "three" may have one.
    assert repeated >= len(STEPS) - 1 or when != "before"


# -- the server dies ---------------------------------------------------------------------------------------------------


@message_type("errand-on-a-dying-server", durable=True)
@frozen
class Walk:
    steps: int


class Walker(Agent):
    done: ClassVar[list[int]] = []

    async def on_receive(self, message: Any) -> Any:
        for number in range(message.steps):
            await self.step("walk", self.done.append, number)
            self.append("walked", number)
        return message.steps


def test_work_goes_on_when_its_server_is_back_and_repeats_no_step() -> None:
    """The process lives: the outcome of a step is kept until it is logged, however often its append fails."""
    done: list[int] = []
    walker = type("Walker", (Walker,), {"done": done})
    with valkey_server(aof=True) as server, AgentSystem.open(server.url, agents={"walker": walker}) as system:
        alice = system.spawn("acme/alice", agent_type="walker")
        receipt = alice.send(Walk(400))
        for count in (20, 40, 60):
            eventually(partial(has_done, done, count), what=f"{count} steps")
            server.kill9()
            server.start()
        assert alice.result(receipt, timeout=60) == 400
        assert alice.get("walked") == done == list(range(400))
        assert system.verify("acme/alice").ok


def has_done(done: list[int], count: int) -> bool:
    return len(done) >= count
