"""kill -9 of the server, of the client, and files cut anywhere: what was acknowledged is there, batches are whole."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest

from contracts.authors import Author
from duramen.actors import AgentHandle, AgentSystem
from duramen.events.errors import OutcomeUnknown, Unavailable
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.log import RedisLog
from faults.evidence import Evidence
from servers import Server, redis_server, valkey_server
from takeover import bury_others

AGENT = "acme/alice"
BATCH = 50


def write_batch(agent: AgentHandle, number: int) -> None:
    with agent.batch() as batch:
        for item in range(BATCH):
            batch.set(f"b{number}-{item}", item)


def batches_of(evidence: Evidence, agent: str) -> list[int]:
    """The numbers of the batches in the log, in order, after a look that each is whole and in one piece."""
    paths = [path for path, _ in evidence.sets(agent)]
    assert len(paths) % BATCH == 0, "a batch is there in part"
    found: list[int] = []
    for start in range(0, len(paths), BATCH):
        number = int(paths[start].partition("-")[0][1:])
        assert paths[start : start + BATCH] == [f"b{number}-{item}" for item in range(BATCH)]
        found.append(number)
    assert len(set(found)) == len(found), "a batch is there twice"
    return found


class Progress:
    """What was acknowledged, and a way to wait for so much of it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.acknowledged: dict[str, list[int]] = {}
        self.unknown: dict[str, list[int]] = {}

    def note(self, agent: str, number: int, *, known: bool = True) -> None:
        with self._changed:
            (self.acknowledged if known else self.unknown).setdefault(agent, []).append(number)
            self._changed.notify_all()

    def total(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def wait_for(self, total: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.total() >= total, 60), f"only {self.total()} acknowledged"


@pytest.fixture
def server() -> Iterator[Server]:
    with valkey_server(aof=True) as running:
        yield running


# -- the server ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_batches_loses_none_and_each_call_succeeds(server: Server) -> None:
    """The writer sends again what was under way; nobody notices more than a pause."""
    evidence, progress, chance = Evidence(server), Progress(), random.Random(7)
    over = threading.Event()

    def write(agent: AgentHandle) -> None:
        number = 0
        while not over.is_set():
            write_batch(agent, number)
            progress.note(agent.path.text, number)
            number += 1

    with AgentSystem.open(server.url, namespace=evidence.namespace) as system, ThreadPoolExecutor(6) as pool:
        agents = [system.spawn(f"acme/agent-{number}") for number in range(6)]
        writing = [pool.submit(write, agent) for agent in agents]
        for _ in range(20):
            progress.wait_for(progress.total() + chance.randint(1, 40))
            server.kill9()
            server.start()
        progress.wait_for(progress.total() + 10)
        over.set()
        for done in writing:
            done.result(30)
        for agent in agents:
            assert agent.get() == evidence.memory(agent.path.text)
    for name, numbers in progress.acknowledged.items():
        assert batches_of(evidence, name) == numbers


@pytest.mark.slow
@pytest.mark.timeout(300)  # each round waits until the lease of the last host has ended
def test_a_batch_given_up_on_a_killed_server_is_there_whole_or_not_at_all(server: Server) -> None:
    evidence, progress, chance = Evidence(server), Progress(), random.Random(11)
    for round_ in range(6):
        log = RedisLog(pool_of_url(server.url), namespace=evidence.namespace, retry_seconds=0.2)
        with AgentSystem.open(log=log) as system, ThreadPoolExecutor(4) as pool:

            def write(name: str, start: int, system: AgentSystem = system) -> None:
                agent = system.agent(name)
                for number in range(start, start + 10_000):
                    try:
                        write_batch(agent, number)
                    except Unavailable as error:
                        if isinstance(error, OutcomeUnknown):
                            progress.note(name, number, known=False)
                        return
                    progress.note(name, number)

            names = [f"acme/agent-{number}" for number in range(4)]
            if round_ == 0:
                for name in names:
                    system.spawn(name)
            writing = [pool.submit(write, name, round_ * 10_000) for name in names]
            progress.wait_for(progress.total() + chance.randint(5, 40))
            server.kill9()
            for done in writing:
                done.result(30)
        server.start()
    for name in names:
        found = batches_of(evidence, name)
        acknowledged = progress.acknowledged[name]
        assert [number for number in found if number in set(acknowledged)] == acknowledged
        assert set(found) - set(acknowledged) <= set(progress.unknown.get(name, []))
    with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
        for name in names:
            assert system.agent(name).get() == evidence.memory(name)


# -- the client -----------------------------------------------------------------------------------------------------


CLIENT = """\
import sys
from duramen.actors import AgentSystem

url, namespace, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
with AgentSystem.open(url, namespace=namespace) as system:
    agent = system.agent("acme/alice")
    for number in range(start, start + 10_000):
        with agent.batch() as batch:
            for item in range(50):
                batch.set(f"b{number}-{item}", item)
        print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_client_killed_in_the_middle_of_batches_leaves_whole_ones_and_the_next_resumes(
    request: pytest.FixtureRequest, kind: str
) -> None:
    start = valkey_server if kind == "valkey" else redis_server
    with start() as server:
        evidence, chance = Evidence(server), random.Random(13)
        with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
            system.spawn(AGENT)
        expected: list[int] = []
        for round_ in range(6):
            first = round_ * 10_000
            acknowledged = _killed_client(server.url, evidence.namespace, first, after=chance.randint(1, 30))
            found = batches_of(evidence, AGENT)
            assert found[: len(expected)] == expected
            new = found[len(expected) :]
            # One more than was told may be there, for its client died before it could say so.
            assert new in (acknowledged, [*acknowledged, first + len(acknowledged)])
            expected = found
            with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
                assert system.agent(AGENT).get() == evidence.memory(AGENT)


def _killed_client(url: str, namespace: str, first: int, *, after: int) -> list[int]:
    """Run a client until it has told of so many batches, and kill it at once; what it told of."""
    command = [sys.executable, "-c", CLIENT, url, namespace, str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(after)]
        process.kill()
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    assert told == list(range(first, first + len(told)))
    return told


# -- the file -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "samples"), [("valkey", 50), ("redis", 15)])
def test_a_log_whose_file_was_cut_anywhere_ends_between_two_batches_and_is_resumed(
    tmp_path: Path, kind: Literal["valkey", "redis"], samples: int
) -> None:
    """As a machine without power leaves it. Whatever was cut away is a suffix, in whole batches of all agents."""
    with Server(kind=kind, aof=True, directory=tmp_path).start() as server:
        evidence = Evidence(server)
        full = _write_history(server, evidence)
        server.stop()
        file = max(tmp_path.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_size)
        content = file.read_bytes()
        chance = random.Random(17)
        tail = full["size before"]
        cuts = sorted({*chance.sample(range(tail, len(content)), samples - 2), tail, len(content) - 1})
        met: set[int] = set()
        for cut in cuts:
            file.write_bytes(content[:cut])
            server.start()
            met.add(_check_cut(evidence, full))
            server.stop()
        # The cuts met the log at different lengths, also the shortest: else they would have tested nothing.
        assert min(met) == full["batches before"]
        assert len(met) > 3


def _write_history(server: Server, evidence: Evidence) -> dict[str, Any]:
    """A log of an agent with batches of many sizes, beside batches of three agents of its partition."""
    with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
        agent = system.spawn(AGENT, initial_state={"goal": "x"})
        log = system.log
        fence = f"1:{system.host}"  # of the host that has the tree
        helpers = [Author(log, f"{AGENT}/helper-{number}", fence=fence) for number in range(3)]
        boundaries = [1]
        lengths = [[0, 0, 0]]
        sizes = [0]

        def write(events: int, helper_events: list[int]) -> None:
            batch = [helper.append(*helper.bodies(count)) for helper, count in zip(helpers, helper_events, strict=True)]
            for helper, append, answer in zip(helpers, batch, log.commit(log.partition_of(AGENT), batch), strict=True):
                helper.settle(append, answer)
            lengths.append([helper.seq for helper in helpers])
            with agent.batch() as changes:
                for number in range(events):
                    changes.set(f"k{len(boundaries)}-{number}", "x" * number)
            boundaries.append(boundaries[-1] + events)
            sizes.append(int(evidence.client.info("persistence")["aof_current_size"]))

        for number in range(1, 11):
            write(number, [1, 2, number])
    return {
        "events": evidence.events(AGENT),
        "boundaries": boundaries,
        "lengths": lengths,
        "items": [evidence.items(helper.agent) for helper in helpers],
        "batches before": 4,
        "size before": sizes[4],
    }


def _check_cut(evidence: Evidence, full: dict[str, Any]) -> int:
    """That a prefix is left, and that agents go on from it; how many batches are left."""
    events = evidence.events(AGENT)
    assert events == full["events"][: len(events)]
    assert len(events) in full["boundaries"]
    batches: int = full["boundaries"].index(len(events))
    lengths = [len(evidence.items(f"{AGENT}/helper-{number}")) for number in range(3)]
    # The helpers' batch comes before the agent's of the same number.
    assert lengths in (full["lengths"][batches], full["lengths"][min(batches + 1, len(full["lengths"]) - 1)])
    for number, length in enumerate(lengths):
        items, head = evidence.items(f"{AGENT}/helper-{number}"), evidence.head(f"{AGENT}/helper-{number}")
        assert items == full["items"][number][:length]
        assert head is not None
        assert (head[0], head[2]) == (length, items[-1][:16])
    feed = evidence.client.llen(evidence.key(AGENT, "feed"))
    assert feed == 1 + batches + 3 * full["lengths"].index(lengths)
    before = evidence.memory(AGENT)
    with AgentSystem.open(evidence.server.url, namespace=evidence.namespace) as system:
        bury_others(system)
        agent = system.agent(AGENT)
        assert agent.get() == before
        assert agent.set("again", True).seq == len(events) + 1
    return batches
