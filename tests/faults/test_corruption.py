"""Bytes on the server that nobody of us wrote: never run, never believed, never more memory than they are worth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from attrs import evolve

import msgpack
from contracts.authors import Author
from duramen.actors import AgentSystem
from duramen.actors.handlers.services import Settings
from duramen.events.codec.event_codec import Codec
from duramen.events.codec.snapshot import SnapshotRecord, pack_snapshot, unpack_snapshot
from duramen.events.errors import CorruptEvent
from duramen.events.model.limits import Limits
from faults.evidence import Evidence
from servers import Server, redis_server, valkey_server

AGENT = "acme/alice"
LIMITS = Limits()
CODEC = Codec(LIMITS)
EVERY = Settings(snapshot_every=10)


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with (valkey_server if request.param == "valkey" else redis_server)() as running:
        yield running


@pytest.fixture
def evidence(server: Server) -> Evidence:
    return Evidence(server)


def opened(evidence: Evidence) -> AgentSystem:
    return AgentSystem.open(evidence.server.url, namespace=evidence.namespace, settings=EVERY)


# -- snapshots --------------------------------------------------------------------------------------------------------


@pytest.fixture
def snapshot(evidence: Evidence) -> SnapshotRecord:
    """The automatic snapshot of an agent with 25 events, and another agent beside it."""
    with opened(evidence) as system:
        for name in (AGENT, "acme/bob"):
            agent = system.spawn(name, initial_state={"name": name})
            for number in range(24):
                agent.set(f"k{number}", number)
    stored = evidence.client.get(evidence.key(AGENT, "snapshot"))
    record = unpack_snapshot(stored, AGENT, CODEC, LIMITS)
    assert 10 <= record.seq < 25
    return record


def sealed(body: bytes) -> bytes:
    return sha256(body).digest()[:16] + body


def repacked(record: SnapshotRecord, **changes: Any) -> bytes:
    return pack_snapshot(evolve(record, **changes), CODEC, LIMITS)


def restated(record: SnapshotRecord, **changes: Any) -> bytes:
    """With other fields in its state."""
    return repacked(record, state={**record.state, "agent": {**record.state["agent"], **changes}})


DAMAGE: dict[str, Any] = {
    "empty": lambda stored, record: b"",
    "cut to the checksum": lambda stored, record: stored[:16],
    "cut in half": lambda stored, record: stored[: len(stored) // 2],
    "cut by one": lambda stored, record: stored[:-1],
    "longer by one": lambda stored, record: stored + b"\x00",
    "a bit of the checksum": lambda stored, record: bytes([stored[0] ^ 1]) + stored[1:],
    "a bit of the state": lambda stored, record: stored[:-5] + bytes([stored[-5] ^ 16]) + stored[-4:],
    "of another agent": lambda stored, record: repacked(record, agent="acme/bob"),
    "beyond the head": lambda stored, record: repacked(record, seq=1_000),
    "at the head, of another history": lambda stored, record: repacked(record, seq=25),
    "before the first event": lambda stored, record: repacked(record, seq=0),
    "negative": lambda stored, record: repacked(record, seq=-5),
    "of another digest": lambda stored, record: repacked(record, digest=b"another  history"),
    "of another schema": lambda stored, record: repacked(record, schema="state-999"),
    "without a state": lambda stored, record: repacked(record, state={}),
    "of an empty state": lambda stored, record: repacked(record, state={**record.state, "agent": {}}),
    "of a state that is none": lambda stored, record: repacked(record, state={**record.state, "agent": 7}),
    "with a field too many": lambda stored, record: restated(record, surplus=1),
    "standing elsewhere": lambda stored, record: restated(record, seq=3),
    "a huge list": lambda stored, record: sealed(b"\xdd\xff\xff\xff\xff"),
    "a huge map": lambda stored, record: sealed(b"\x97\x01\xdf\xff\xff\xff\xff"),
    "deep": lambda stored, record: sealed(b"\x91" * 100_000),
    "large": lambda stored, record: sealed(b"\x80" * (LIMITS.snapshot_bytes + 1)),
    "poison": lambda stored, record: sealed(b"\xc1"),
    "text": lambda stored, record: b"not a snapshot at all, but long enough to be one",
    "a pickle": lambda stored, record: sealed(b"\x80\x04\x8c\x05posix\x8c\x06system\x93."),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_snapshot_that_cannot_be_believed_is_ignored_and_the_log_replayed(
    evidence: Evidence, snapshot: SnapshotRecord, damage: Any
) -> None:
    key, expected = evidence.key(AGENT, "snapshot"), evidence.memory(AGENT)
    client = evidence.client
    client.set(key, damage(client.get(key), snapshot))
    with opened(evidence) as system:
        assert system.agent(AGENT).get() == expected
        assert system.peek(AGENT).memory == expected
        for number in range(12):
            system.agent(AGENT).set(f"more-{number}", number)
        # The next one takes its place.
        record = unpack_snapshot(client.get(key), AGENT, CODEC, LIMITS)
        assert record.seq > 25
    with opened(evidence) as system:
        assert system.agent(AGENT).get() == evidence.memory(AGENT)


def test_a_snapshot_of_another_agent_under_this_ones_key_is_ignored(
    evidence: Evidence, snapshot: SnapshotRecord, caplog: pytest.LogCaptureFixture
) -> None:
    client = evidence.client
    client.set(evidence.key(AGENT, "snapshot"), client.get(evidence.key("acme/bob", "snapshot")))
    with opened(evidence) as system:
        assert system.agent(AGENT).get() == evidence.memory(AGENT)
    assert "snapshot_ignored" in caplog.text


def test_a_snapshot_that_can_be_believed_is_used(evidence: Evidence, snapshot: SnapshotRecord) -> None:
    """Control: were snapshots never read, none of the damage above would be seen."""
    memory = {**snapshot.state["agent"]["memory"], "marker": True}
    evidence.client.set(evidence.key(AGENT, "snapshot"), restated(snapshot, memory=memory))
    with opened(evidence) as system:
        assert system.agent(AGENT).get("marker") is True


@pytest.mark.parametrize("damage", ["empty", "cut in half", "of another agent", "huge"])
def test_a_checkpoint_that_cannot_be_believed_is_restored_from_the_log(evidence: Evidence, damage: str) -> None:
    with opened(evidence) as system:
        agent = system.spawn(AGENT, initial_state={"goal": "x"})
        agent.set("a", 1)
        agent.pause("lunch")
        agent.resume("lunch")
        agent.set("a", 2)
        key = system.log.checkpoint_key(AGENT, "lunch")
        stored = evidence.client.get(key)
        record = unpack_snapshot(stored, AGENT, CODEC, LIMITS)
        changed = {
            "empty": b"",
            "cut in half": stored[: len(stored) // 2],
            "of another agent": repacked(record, agent="acme/bob"),
            "huge": sealed(b"\xdd\xff\xff\xff\xff"),
        }[damage]
        evidence.client.set(key, changed)
        assert agent.resume("lunch").success
        assert agent.get() == {"goal": "x", "a": 1}


# -- events -----------------------------------------------------------------------------------------------------------


def body_of(**changes: Any) -> bytes:
    fields = {
        "type": "told",
        "version": 1,
        "level": 2,
        "time": 1_700_000_000_000_000,
        "data": {},
        "session": "s-1",
        "command": None,
        "causation": None,
        "correlation": None,
        "metadata": None,
    }
    packed: bytes = msgpack.packb(list({**fields, **changes}.values()))
    return packed


def with_data(data: bytes) -> bytes:
    """An event, right in every other way, with these bytes for its data."""
    empty = body_of()
    assert empty.count(b"\x80") == 1
    return empty.replace(b"\x80", data)


POISON: dict[str, bytes] = {
    "unused code": b"\xc1",
    "nothing": b"",
    "truncated": body_of(data={"text": "x" * 100})[:-7],
    "something behind": body_of() + b"\x00",
    "huge list": b"\xdd\xff\xff\xff\xff",
    "huge map": b"\xdf\xff\xff\xff\xff",
    "huge text": b"\xdb\xff\xff\xff\xff",
    "huge bytes": b"\xc6\xff\xff\xff\xff",
    "huge list within": with_data(b"\xdd\xff\xff\xff\xff"),
    "deep": b"\x91" * 100_000 + b"\xc0",
    "deep within": with_data(b"\x81\xa1a" * 2_000 + b"\x80"),
    "foreign extension": with_data(b"\x81\xa1a\xd4\x05\x00"),
    "impossible time": with_data(b"\x81\xa1a\xc7\x0c\x01" + b"\x7f" * 12),
    "1 MiB of empty maps": b"\x80" * 2**20,
    "as many empty maps as fit": b"\xdd" + (2**18 - 5).to_bytes(4, "big") + b"\x80" * (2**18 - 5),
    "text that is none": with_data(b"\x81\xa1a\xa2\xff\xfe"),
    "a key that is none": with_data(b"\x81\x01\xc0"),
    "nine fields": b"\x99" + b"\xc0" * 9,
    "no list": b"\x80",
    "a type that is none": body_of(type=5),
    "a time that is none": body_of(time="now"),
    "a time that never is": body_of(time=2**62),
    "a level that is none": body_of(level=9),
    "data that is none": body_of(data=[1]),
    "a command that is none": body_of(command=["c-1"]),
    "a session that is none": body_of(session=7),
    "a known type without its data": body_of(type="memory_set"),
    "a known type with other data": body_of(type="memory_set", data={"path": 5, "value": 1}),
    "a path that leads nowhere": body_of(type="memory_set", data={"path": "a//b", "value": 1}),
}


# These decode, and are events; only the fold refuses them. Whoever reads events sees them as they are.
FOLD_ONLY = ("a known type without its data", "a known type with other data", "a path that leads nowhere")


def poison(evidence: Evidence, name: str, body: bytes) -> None:
    """Make an agent with three events, then the poison with its digest right, then one more."""
    with opened(evidence) as system:
        agent = system.spawn(name)
        agent.set("a", 1)
        agent.set("b", 2)
        Author(system.log, name).after_claim().write(body, body_of())


READER = """\
import json, resource, sys, time
from duramen.actors import AgentSystem
from duramen.events import DuramenError

url, namespace, *names = sys.argv[1:]

def tried(call):
    began = time.process_time()  # of all threads; a busy machine is no defect
    try:
        call()
        result = ["returned", None, None]
    except DuramenError as error:
        result = [type(error).__name__, error.agent, error.seq]
    return result, time.process_time() - began

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

with AgentSystem.open(url, namespace=namespace) as system:
    sound = system.spawn("acme/sound")
    sound.get(), list(system.events("acme/sound")), system.peek("acme/sound")
    for name in names:
        before = used()
        agent = system.agent(name)
        outcomes = {
            "get": tried(agent.get),
            "set": tried(lambda: agent.set("c", 3)),
            "events": tried(lambda: list(system.events(name))),
            "peek": tried(lambda: system.peek(name)),
        }
        print(json.dumps([outcomes, used() - before]))
    print(sound.set("fine", 1).seq)
"""


@pytest.mark.slow
def test_poison_in_a_log_is_a_typed_error_at_its_seq_and_costs_next_to_nothing(evidence: Evidence) -> None:
    """In a process of its own, whose memory is measured."""
    agents = {f"acme/poison-{number}": name for number, name in enumerate(POISON)}
    for agent, name in agents.items():
        poison(evidence, agent, POISON[name])
    before = {agent: evidence.items(agent) for agent in agents}
    command = [sys.executable, "-c", READER, evidence.server.url, evidence.namespace, *agents]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    *lines, sound = done.stdout.splitlines()
    for (agent, name), line in zip(agents.items(), lines, strict=True):
        outcomes, grown = json.loads(line)
        for call, (result, seconds) in outcomes.items():
            expected = (
                ["returned", None, None] if call == "events" and name in FOLD_ONLY else ["CorruptEvent", agent, 4]
            )
            assert result == expected, f"{call} with {name}"
            assert seconds < 1, f"{call} with {name} took {seconds} s of a processor"
        assert grown < 64 * 1024, f"{name} took {grown} KiB"
    # Nothing was written to any of them, and the others go on.
    assert {agent: evidence.items(agent) for agent in agents} == before
    assert sound == "2"


def test_an_event_without_poison_in_it_is_read(evidence: Evidence) -> None:
    """Control: nothing else is wrong with those above."""
    poison(evidence, AGENT, body_of())
    with opened(evidence) as system:
        assert [event.type for event in system.events(AGENT)] == ["spawned", "memory_set", "memory_set", "told", "told"]
        assert system.agent(AGENT).get() == {"a": 1, "b": 2}


def exchanged(items: list[bytes]) -> list[bytes]:
    return [items[0], items[2], items[1], *items[3:]]


def one_bit(items: list[bytes]) -> list[bytes]:
    return [*items[:2], items[2][:-1] + bytes([items[2][-1] ^ 1]), *items[3:]]


def one_lost(items: list[bytes]) -> list[bytes]:
    return [*items[:2], *items[3:]]


def one_doubled(items: list[bytes]) -> list[bytes]:
    return [*items[:2], items[1], *items[2:]]


def cut_short(items: list[bytes]) -> list[bytes]:
    return [*items[:2], items[2][:10], *items[3:]]


def emptied(items: list[bytes]) -> list[bytes]:
    return [*items[:2], b"", *items[3:]]


@pytest.mark.parametrize("damage", [exchanged, one_bit, one_lost, one_doubled, cut_short, emptied])
def test_a_list_that_was_tampered_with_is_not_folded(evidence: Evidence, damage: Any) -> None:
    with opened(evidence) as system:
        agent = system.spawn(AGENT)
        for number in range(5):
            agent.set(f"k{number}", number)
        sound = system.spawn("acme/bob")
    client, key = evidence.client, evidence.key(AGENT)
    items = damage(evidence.items(AGENT))
    client.delete(key)
    client.rpush(key, *items)
    with opened(evidence) as system:
        for call in (
            lambda: system.agent(AGENT).get(),
            lambda: system.agent(AGENT).set("a", 1),
            lambda: list(system.events(AGENT)),
            lambda: system.peek(AGENT),
        ):
            with pytest.raises(CorruptEvent) as caught:
                call()
            assert caught.value.agent == AGENT
        assert system.agent(sound.path).set("fine", 1).seq == 2
    assert evidence.items(AGENT) == items
