"""Trimming under kill -9, lost replies, full memory, damaged bytes: it is done or it is not, and nothing is mixed."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest

from contracts.authors import Author, head_of
from duramen.actors import AgentSystem, Retention, Settings
from duramen.events.codec.event_codec import DIGEST_SIZE, Codec
from duramen.events.codec.snapshot import unpack_snapshot
from duramen.events.errors import CorruptEvent, DuramenError, Unavailable
from duramen.events.log.records import Base
from duramen.events.model.limits import Limits
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.log import RedisLog
from faults.evidence import Evidence
from faults.proxy import FaultProxy
from servers import Server, redis_server, valkey_server

AGENT = "acme/alice"
LIMITS = Limits()


def check(evidence: Evidence, agent: str = AGENT) -> tuple[int, int]:
    """Head, base, list and the state at the base fit together; seq and base."""
    stored = evidence.at_once(agent)
    head = stored.head
    assert head is not None
    seq, base = head[0], head[1]
    assert base + len(stored.items) == seq
    digest = bytes(16)
    if base:
        assert stored.base_state is not None
        record = unpack_snapshot(stored.base_state, agent, Codec(LIMITS), LIMITS)
        assert [record.seq, record.digest] == stored.kept
        assert record.seq == base
        digest = record.digest
    for item in stored.items:
        digest = sha256(digest + item[DIGEST_SIZE:]).digest()[:DIGEST_SIZE]
        assert item[:DIGEST_SIZE] == digest
    assert digest == head[2]
    return seq, base


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with (valkey_server if request.param == "valkey" else redis_server)() as running:
        yield running


@pytest.fixture
def evidence(server: Server) -> Evidence:
    return Evidence(server)


# -- the way there and back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_trim_that_is_sent_twice_is_done_once(server: Server, lost: str) -> None:
    evidence = Evidence(server)
    with FaultProxy(server.socket_path) as proxy:
        log = RedisLog(pool_of_url(proxy.url), namespace=evidence.namespace)
        items = Author(log, AGENT).write(*[b"event %d" % number for number in range(10)]).items
        (proxy.drop_request if lost == "request" else proxy.drop_reply)(containing=b":base:")
        log.trim(AGENT, Base(6, items[5][:DIGEST_SIZE]), b"state")
        assert proxy.counts.requests_dropped + proxy.counts.replies_dropped == 1
        assert (head_of(log, AGENT).base, head_of(log, AGENT).seq) == (6, 10)
        assert evidence.items(AGENT) == items[6:]
        log.close()


# -- kill -9 -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_killed_while_it_trims_has_trimmed_or_has_not() -> None:
    chance = random.Random(23)
    with valkey_server(aof=True) as server:
        evidence = Evidence(server)
        with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
            system.spawn(AGENT, initial_state={"text": "x" * 20_000})
        expected: dict[str, Any] = {}
        bases: list[int] = []
        for round_ in range(6):
            _trim_until_killed(server, evidence, round_, expected, chance.randint(20, 120))
            seq, base = check(evidence)
            bases.append(base)
            with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
                found = system.agent(AGENT).get()
                assert {name: value for name, value in found.items() if name in expected} == expected
                assert system.agent(AGENT).set("after", round_).seq == seq + 1
        assert bases == sorted(bases)
        assert bases[0] > 0


def _trim_until_killed(server: Server, evidence: Evidence, round_: int, expected: dict[str, Any], most: int) -> None:
    """Set and trim, until the server is killed at some moment; all that was acknowledged goes into `expected`."""
    reached = threading.Event()

    def work() -> None:
        try:
            with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
                agent = system.agent(AGENT)
                for number in range(10_000):
                    agent.set(f"r{round_}-{number % 50}", number)
                    expected[f"r{round_}-{number % 50}"] = number
                    if number % 3 == 0:
                        system.trim(AGENT, keep_events=number % 4)
                    if number >= most:
                        reached.set()
                    if stop.is_set():
                        return
        except DuramenError:
            reached.set()

    stop = threading.Event()
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert reached.wait(60)
    server.kill9()
    server.start()
    stop.set()
    worker.join(60)
    assert not worker.is_alive()


CLIENT = """
import sys
from duramen.actors import AgentSystem, Retention, Settings

rule = Settings(snapshot_every=10, retention=Retention(events=5))
with AgentSystem.open(sys.argv[1], namespace=sys.argv[2], settings=rule) as system:
    agent = system.agent("acme/alice")
    for number in range(10_000):
        agent.set(f"k{number % 20}", number)
        print(agent.get(f"k{number % 20}"), flush=True)
"""


@pytest.mark.slow
def test_a_client_killed_while_it_trims_leaves_a_log_that_is_whole(server: Server, evidence: Evidence) -> None:
    chance = random.Random(29)
    with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
        system.spawn(AGENT)
    bases: list[int] = []
    for _ in range(5):
        command = [sys.executable, "-c", CLIENT, server.url, evidence.namespace]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(chance.randint(30, 200)):
                assert process.stdout.readline()
            process.kill()
        seq, base = check(evidence)
        bases.append(base)
        with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
            assert system.agent(AGENT).get() == system.peek(AGENT).memory
            assert system.agent(AGENT).set("after", 1).seq == seq + 1
    assert bases == sorted(bases)
    assert bases[-1] > 0


# -- side by side ------------------------------------------------------------------------------------------------------


def test_writers_and_trimmers_of_several_processes_do_not_disturb_each_other(
    server: Server, evidence: Evidence
) -> None:
    rule = Settings(snapshot_every=20, retention=Retention(events=10))
    with (
        AgentSystem.open(server.url, namespace=evidence.namespace, settings=rule) as one,
        AgentSystem.open(server.url, namespace=evidence.namespace) as other,
    ):
        agent = one.spawn(AGENT)
        done = threading.Event()
        errors: list[DuramenError] = []

        def trim() -> None:
            while not done.is_set():
                try:
                    other.trim(AGENT, keep_events=1)
                except DuramenError as error:
                    errors.append(error)

        trimmer = threading.Thread(target=trim, daemon=True)
        trimmer.start()
        for number in range(300):
            agent.append("l", number)
        done.set()
        trimmer.join(30)
        assert errors == []
        assert agent.get("l") == list(range(300))
        assert other.peek(AGENT).memory == {"l": list(range(300))}
        assert check(evidence)[1] > 0
        other.trim(AGENT, keep_events=1)
    assert check(evidence) == (301, 300)


# -- the server's refusals ---------------------------------------------------------------------------------------------


def test_a_server_without_memory_for_the_state_trims_all_the_same_and_writes_nothing_else() -> None:
    """The state is as large as the events that go: it is written beyond the limit, and in its place there is room."""
    with redis_server() as server:
        evidence = Evidence(server)
        client = evidence.client
        with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
            agent = system.spawn(AGENT, initial_state={"text": ["x" * 200_000]})
            for number in range(20):
                agent.set("n", number)
            before = check(evidence)
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", used)
            with pytest.raises(Unavailable):
                agent.set("text", ["y" * 200_000])
            assert check(evidence) == before == (21, 0)
            assert system.trim(AGENT, keep_events=0).base == 21
            assert check(evidence) == (21, 21)
        with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
            assert system.agent(AGENT).get() == {"text": ["x" * 200_000], "n": 19}


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda stored: None,
    "empty": lambda stored: b"",
    "flipped": lambda stored: stored[:-5] + bytes([stored[-5] ^ 16]) + stored[-4:],
    "cut": lambda stored: stored[: len(stored) // 2],
    "huge": lambda stored: sha256(b"\xdd\xff\xff\xff\xff").digest()[:16] + b"\xdd\xff\xff\xff\xff",
    "a pickle": lambda stored: b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_an_agent_whose_base_is_damaged_does_not_start_and_its_caller_knows_why(
    server: Server, evidence: Evidence, damage: Callable[[bytes], bytes | None]
) -> None:
    with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
        agent = system.spawn(AGENT)
        for number in range(9):
            agent.set("n", number)
        system.trim(AGENT, keep_events=3)
    key = evidence.key(AGENT, "base")
    sound: Any = evidence.client.get(key)
    changed = damage(sound)
    if changed is None:
        evidence.client.delete(key)
    else:
        evidence.client.set(key, changed)
    with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
        with pytest.raises(CorruptEvent) as caught:
            system.agent(AGENT).get()
        assert caught.value.agent == AGENT
        assert [event.seq for event in system.events(AGENT, from_seq=8)] == [8, 9, 10]
        evidence.client.set(key, sound)
        assert system.agent(AGENT).get() == {"n": 8}
