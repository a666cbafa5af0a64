"""Agents that several processes ask: each lives in one of them, and what becomes of them when that one ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from duramen.actors import AgentSystem, Append, Pop
from faults.evidence import Evidence
from servers import Server, valkey_server
from waiting import eventually

AGENT = "acme/alice"
SECONDS = float(os.environ.get("DURAMEN_TEST_HANDLER_SECONDS", "0.002"))
"""What a handler takes; of those that are read meanwhile twenty times as much."""
REQUESTS = 100
HANDLERS = 20
READS = 100
CODE = Path(__file__).parent / "shared_agent.py"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with valkey_server() as running:
        yield running


@pytest.fixture
def evidence(server: Server) -> Evidence:
    return Evidence(server)


class Process:
    """A process that shares the agents of a namespace."""

    def __init__(self, url: str, namespace: str, *, has_class: bool = True) -> None:
        root = Path(__file__).parent.parent
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(CODE), url, namespace, "class" if has_class else "plain"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        self._pool = ThreadPoolExecutor(1)
        assert self._read() == ["ready"]

    def _read(self) -> list[Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: list[Any] = json.loads(line) if line else ["ended"]
        return answer

    def begin(self, *command: Any) -> Future[list[Any]]:
        """Send a command; its outcome comes later."""
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return self._pool.submit(self._read)

    def run(self, *command: Any) -> Any:
        """The result of a command that succeeds."""
        outcome = self.begin(*command).result(60)
        assert outcome[0] == "ok", outcome
        return outcome[1]

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)

    def leave(self) -> None:
        """End as a program ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def close(self) -> None:
        self.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(20)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._pool.shutdown()


@pytest.fixture
def start(server: Server, evidence: Evidence) -> Iterator[Any]:
    with ExitStack() as stack:

        def start_one(**options: Any) -> Process:
            process = Process(server.url, evidence.namespace, **options)
            stack.callback(process.close)
            return process

        yield start_one


def memory(evidence: Evidence) -> dict[str, Any]:
    with AgentSystem.open(evidence.server.url, namespace=evidence.namespace, host=False) as system:
        return system.agent(AGENT).get()


def names(evidence: Evidence) -> list[Any]:
    return list(memory(evidence).get("done", []))


def fence_of(evidence: Evidence) -> Any:
    head = evidence.head(AGENT)
    assert head is not None
    return head[3]


def test_requests_of_two_processes_to_one_agent_all_succeed_and_each_is_done_once(
    start: Any, evidence: Evidence
) -> None:
    one, two = start(), start()
    one.run("spawn", AGENT, "worker")
    with ThreadPoolExecutor(2) as pool:

        def requests(process: Process, side: str) -> list[Any]:
            return [process.run("work", AGENT, f"{side}{number}", SECONDS, None) for number in range(REQUESTS)]

        sides = [pool.submit(requests, process, side) for process, side in ((one, "a"), (two, "b"))]
        assert [side.result(120) for side in sides] == [[f"{s}{n}" for n in range(REQUESTS)] for s in "ab"]
    done = names(evidence)
    assert sorted(done) == sorted(f"{s}{n}" for s in "ab" for n in range(REQUESTS))
    for side in "ab":  # and in the order of each caller
        assert [name for name in done if name.startswith(side)] == [f"{side}{n}" for n in range(REQUESTS)]


def test_handlers_are_not_disturbed_by_a_process_that_reads_as_fast_as_it_can(start: Any, evidence: Evidence) -> None:
    owner, reader = start(), start()
    owner.run("spawn", AGENT, "worker")
    owner.run("work", AGENT, "first", 0, None)
    fence = fence_of(evidence)
    reading, count = reader.begin("poll", AGENT, READS, HANDLERS), 0
    while count < HANDLERS or not reading.done():
        assert owner.run("work", AGENT, f"w{count}", 20 * SECONDS, None) == f"w{count}"
        count += 1
    how, reads = reading.result(60)
    assert how == "ok"
    assert reads >= READS
    assert names(evidence) == ["first", *(f"w{number}" for number in range(count))]
    assert fence_of(evidence) == fence, "nobody has claimed it"


def test_a_process_without_the_class_asks_the_one_that_has_it_and_never_takes_the_agent(
    start: Any, evidence: Evidence
) -> None:
    owner, plain = start(), start(has_class=False)
    owner.run("spawn", AGENT, "worker")
    assert plain.run("work", AGENT, "first", 0, None) == "first"
    owner.leave()
    assert plain.begin("set", AGENT, "x", 1).result(60)[0] == "NoHost"
    assert plain.run("get", AGENT) == {"done": ["first"]}
    start()
    assert plain.run("work", AGENT, "second", 0, None) == "second"
    assert names(evidence) == ["first", "second"]


def test_the_agents_of_a_process_that_was_killed_answer_in_another(start: Any, evidence: Evidence) -> None:
    owner, other = start(), start()
    owner.run("spawn", AGENT, "worker")
    owner.run("work", AGENT, "before", 0, None)
    assert other.run("set", AGENT, "x", 1)
    owner.kill()
    assert other.run("work", AGENT, "after", 0, "a-1") == "after"  # it may be sent to the dead one first
    assert memory(evidence) == {"done": ["before", "after"], "x": 1}


def test_a_process_that_was_killed_and_is_started_again_has_its_agents_back(start: Any, evidence: Evidence) -> None:
    first = start()
    first.run("spawn", AGENT, "worker")
    first.run("work", AGENT, "before", 0, None)
    first.kill()
    assert start().run("work", AGENT, "after", 0, None) == "after"
    assert names(evidence) == ["before", "after"]


@pytest.mark.parametrize("command_id", ["w-1", None])
def test_what_a_killed_process_was_doing_is_done_elsewhere_if_it_has_an_id(
    start: Any, evidence: Evidence, tmp_path: Path, command_id: str | None
) -> None:
    owner, other = start(), start()
    owner.run("spawn", AGENT, "worker")
    under_way = other.begin("work", AGENT, "long", 0, command_id, str(tmp_path))
    eventually((tmp_path / "begun").exists, 60, what="a handler that has begun")
    owner.kill()
    (tmp_path / "open").touch()
    outcome = under_way.result(60)
    if command_id is None:
        assert outcome[0] == "OutcomeUnknown"
        assert names(evidence) == []
    else:
        assert outcome == ["ok", "long"]
        assert names(evidence) == ["long"]


def test_what_is_popped_through_a_process_that_is_killed_is_popped_once(
    start: Any, evidence: Evidence, server: Server
) -> None:
    owner = start()
    owner.run("spawn", AGENT, "worker")
    with AgentSystem.open(server.url, namespace=evidence.namespace, host=False) as caller:
        agent = caller.agent(AGENT)
        agent.extend("queue", list(range(300)))
        replies = [agent.ask(Pop("queue", 0), block=False) for _ in range(200)]
        replies[20].get(timeout=60)
        other = start()
        owner.kill()
        assert [reply.get(timeout=60) for reply in replies] == list(range(200))
        assert other.run("pop", AGENT, "queue") == 200
        assert agent.get("queue") == list(range(201, 300))


def test_a_process_that_leaves_hands_over_what_is_under_way(start: Any, evidence: Evidence, server: Server) -> None:
    owner, other = start(), start()
    owner.run("spawn", AGENT, "worker")
    with AgentSystem.open(server.url, namespace=evidence.namespace) as caller:
        agent = caller.agent(AGENT)
        agent.set("done", [])
        replies = [agent.ask(Append("done", number), block=False) for number in range(300)]
        owner.leave()
        replies += [agent.ask(Append("done", number), block=False) for number in range(300, 400)]
        assert other.run("set", AGENT, "x", 1)
        seqs = [reply.get(timeout=60).seq for reply in replies]
    assert seqs == sorted(set(seqs))
    assert names(evidence) == list(range(400))


@pytest.mark.slow
def test_mutations_under_way_to_a_process_that_is_killed_are_done_once_and_in_order(
    start: Any, evidence: Evidence, server: Server
) -> None:
    with AgentSystem.open(server.url, namespace=evidence.namespace, host=False) as caller:
        owner = start()
        owner.run("spawn", AGENT, "worker")
        agent = caller.agent(AGENT)
        agent.set("done", [])
        count = 0
        for _ in range(5):
            replies = [agent.ask(Append("done", number), block=False) for number in range(count, count + 500)]
            count += 500
            replies[50].get(timeout=60)
            following = start()
            owner.kill()
            seqs = [reply.get(timeout=60).seq for reply in replies]
            assert seqs == sorted(set(seqs))
            owner = following
        assert agent.get("done") == list(range(count))
    assert names(evidence) == list(range(count))


@pytest.mark.slow
def test_a_process_that_was_stopped_past_its_lease_writes_nothing_of_what_it_was_doing(
    start: Any, evidence: Evidence, tmp_path: Path
) -> None:
    owner, other = start(), start()
    owner.run("spawn", AGENT, "worker")
    stopped = owner.begin("work", AGENT, "stopped", 0, None, str(tmp_path))
    eventually((tmp_path / "begun").exists, 60, what="a handler that has begun")
    owner.send_signal(signal.SIGSTOP)
    assert other.run("work", AGENT, "other", 0, "o-1") == "other"  # once the lease has ended
    (tmp_path / "open").touch()
    owner.send_signal(signal.SIGCONT)
    assert stopped.result(60)[0] == "Fenced"
    assert names(evidence) == ["other"]
    assert owner.run("work", AGENT, "back", 0, None) == "back"
    assert names(evidence) == ["other", "back"]
