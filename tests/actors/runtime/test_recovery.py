"""An agent comes back from its log: with a snapshot, without one, after `kill -9`, and always the same."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import redis
from attrs import evolve, frozen

from command_line import environment
from duramen.actors import Agent, AgentHandle, AgentSystem, Append, Batch, Record, Set, Settings
from duramen.actors.runtime import Runtime
from duramen.events import EventRegistry, Granularity, Limits, MemoryLog, PathNotFound, event_type
from duramen.events.codec.event_codec import Codec
from duramen.events.codec.snapshot import SnapshotRecord, pack_snapshot, unpack_snapshot
from duramen.events.log.event_log import EventLog
from duramen.events.model.values import same_value
from duramen.projections import AgentState, WorkingMemory, fold
from duramen.projections.recovery import AgentLog, Rebuilt, rebuild
from servers import Server, redis_server, valkey_server
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"
REGISTRY = EventRegistry()


@event_type("counted", registry=REGISTRY)
@frozen
class Counted:
    by: int


class Counter(Agent):
    """Adds up the numbers it is sent."""

    def on_receive(self, message: Any) -> Any:
        if message == "sum":
            return self.state
        self.emit(Counted(message))
        self.append("received", message)
        return None

    def initial(self) -> Any:
        return {"sum": 0}

    def apply(self, state: Any, event: Any) -> Any:
        return {"sum": state["sum"] + event.by}


class Place:
    """One log, on which processes come and go; its snapshots can be changed behind everybody's back."""

    def __init__(self, url: str | None) -> None:
        self._url, self._namespace = url, f"t{uuid4().hex}"
        self._memory = MemoryLog()
        self._opened: list[AgentSystem] = []

    def open(self, every: int = 1_000_000, **options: Any) -> AgentSystem:
        """A process that starts after the one before has ended."""
        self.close()
        where: dict[str, Any] = (
            {"log": self._memory} if self._url is None else {"url": self._url, "namespace": self._namespace}
        )
        self._opened.append(AgentSystem.open(**where, settings=Settings(snapshot_every=every), **options))
        return self._opened[-1]

    def plant(self, log: EventLog, stored: bytes, path: str = PATH) -> None:
        """Put these bytes where the agent's snapshot is."""
        key = log.snapshot_key(path)
        if self._url is None:
            self._memory._storage.values[key] = (stored, float("inf"))
        else:
            with redis.Redis.from_url(self._url) as client:
                client.set(key, stored)
        assert log.load([key]) == [stored]

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close(timeout=5)


@pytest.fixture(params=["memory", "valkey", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    found = Place(None if request.param == "memory" else request.getfixturevalue(f"{request.param}_url"))
    yield found
    found.close()


def record_of(system: AgentSystem, path: str = PATH) -> SnapshotRecord | None:
    """The agent's automatic snapshot."""
    stored = system.log.load([system.log.snapshot_key(path)])[0]
    return None if stored is None else unpack_snapshot(stored, path, Codec(Limits()), Limits())


def snapshot_seq(system: AgentSystem) -> int:
    found = record_of(system)
    return found.seq if found else 0


def packed(record: SnapshotRecord) -> bytes:
    return pack_snapshot(record, Codec(Limits()), Limits())


def poisoned(record: SnapshotRecord) -> SnapshotRecord:
    """The same place in the log, but another memory: who believes it is seen to believe it."""
    agent = {**record.state["agent"], "memory": {"poison": True}, "nodes": 2}
    return evolve(record, state={**record.state, "agent": agent, "custom": {"sum": -1}})


def rebuilt(system: AgentSystem, *, use_snapshot: bool) -> Rebuilt:
    return rebuild(AgentLog(system.log, PATH, Limits()), use_snapshot=use_snapshot)


def plain(state: AgentState) -> dict[str, Any]:
    """All of a state as plain data, for a deep comparison in value and type."""
    return {name: int(value) if name == "granularity" else value for name, value in state.dump().items()}


def assert_same(one: AgentState, other: AgentState) -> None:
    ours, theirs = plain(one), plain(other)
    assert {name: (ours[name], theirs[name]) for name in ours if not same_value(ours[name], theirs[name])} == {}


def assert_all_ways_lead_to_one_state(system: AgentSystem, *, snapshot: bool) -> None:
    """Snapshot plus replay, full replay, the projection, and the agent itself."""
    quick, full = rebuilt(system, use_snapshot=True), rebuilt(system, use_snapshot=False)
    assert (quick.snapshot_seq > 0, full.snapshot_seq) == (snapshot, 0)
    assert_same(quick.state, full.state)
    seen = fold(WorkingMemory(), system.events(PATH))
    assert same_value(seen.memory, full.state.memory)
    assert (seen.seq, seen.digest, seen.status) == (full.state.seq, full.state.digest, full.state.status)
    agent = system.agent(PATH)
    status = agent.status()
    assert (status.seq, status.digest, status.status) == (full.state.seq, full.state.digest, full.state.status)
    assert same_value(agent.get(), full.state.memory)


def live_a_little(agent: AgentHandle) -> None:
    """A bit of everything that can be in a log."""
    agent.set("profile/name", "alice", command_id="c-1")
    agent.append("steps", {"n": 1, "x": None, "b": b"\x00"})
    agent.merge("profile", {"tone": "dry", "deep": {"a": 1}})
    agent.ask(Batch([Set("m", [1, [2]]), Append("steps", 2.0), Record("note", {"n": 1})], "c-2"))
    agent.pause("first", metadata={"why": "lunch"})
    agent.resume("first")
    agent.set("m/0", True)
    agent.set_granularity(Granularity.STATE, levels={"note": Granularity.TRACE})
    agent.delete("profile/deep")
    agent.resume("first", clear_current=False)
    agent.record("note", {"n": 2}, level=Granularity.TRACE)
    agent.spawn_child("helper")
    agent.terminate(cleanup_working=False)


# -- when snapshots are taken -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 7, 10])
def test_a_snapshot_is_taken_every_so_many_events(place: Place, every: int) -> None:
    system = place.open(every)
    agent = system.spawn(PATH)
    for seq in range(1, 31):
        if seq > 1:
            assert agent.set("n", seq).seq == seq
        assert snapshot_seq(system) == seq - seq % every


def test_a_batch_that_steps_over_the_mark_is_in_the_snapshot_whole(place: Place) -> None:
    system = place.open(10)
    agent = system.spawn(PATH)
    agent.ask(Batch([Append("l", number) for number in range(8)]))
    assert snapshot_seq(system) == 0
    agent.ask(Batch([Append("l", number) for number in range(8, 16)]))
    found = record_of(system)
    assert found is not None
    assert (found.seq, found.state["agent"]["memory"]) == (17, {"l": list(range(16))})
    assert found.digest == list(system.events(PATH))[16].digest
    for number in range(16, 25):
        agent.append("l", number)
    assert snapshot_seq(system) == 17
    agent.append("l", 25)
    assert snapshot_seq(system) == 27


def test_no_snapshot_is_taken_before_it_is_time_and_none_by_a_read(place: Place) -> None:
    system = place.open(3)
    agent = system.spawn(PATH)
    agent.set("a", 1)
    for _ in range(10):
        assert agent.get("a") == 1
        agent.record("note", level=Granularity.TRACE)  # under the agent's granularity: not logged
    assert record_of(system) is None
    agent.set("a", 2)
    assert snapshot_seq(system) == 3


def test_the_count_goes_on_after_a_restart(place: Place) -> None:
    agent = place.open(10).spawn(PATH)
    for number in range(12):
        agent.set("n", number)
    system = place.open(10)
    agent = system.agent(PATH)
    assert snapshot_seq(system) == 10
    for number in range(6):
        agent.set("n", number)
    assert (agent.status().seq, snapshot_seq(system)) == (19, 10)
    agent.set("n", 7)
    assert snapshot_seq(system) == 20


def test_a_refused_command_takes_no_snapshot(place: Place) -> None:
    system = place.open(2)
    agent = system.spawn(PATH)
    with pytest.raises(PathNotFound):
        agent.delete("nothing")
    assert record_of(system) is None


# -- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 3, 5, 8, 1_000_000])
def test_recovery_is_the_same_with_and_without_a_snapshot(place: Place, every: int) -> None:
    system = place.open(every)
    live_a_little(system.spawn(PATH, session_id="s", agent_type="t", initial_state={"a": 1}, metadata={"m": [1]}))
    assert_all_ways_lead_to_one_state(system, snapshot=every < 100)
    before = rebuilt(system, use_snapshot=True).state
    system = place.open(every)
    assert_all_ways_lead_to_one_state(system, snapshot=every < 100)
    assert_same(rebuilt(system, use_snapshot=True).state, before)
    # And once more through a second session, which starts on what the first one kept.
    live_a_little(system.spawn(PATH, session_id="s2", initial_state={"a": 2}))
    assert_all_ways_lead_to_one_state(place.open(every), snapshot=every < 100)


def test_every_prefix_is_the_same_with_and_without_a_snapshot(place: Place) -> None:
    system = place.open(5)
    live_a_little(system.spawn(PATH))
    head = system.peek(PATH).seq
    used = set()
    for to_seq in range(1, head + 1):
        quick = rebuild(AgentLog(system.log, PATH, Limits()), to_seq=to_seq)
        full = rebuild(AgentLog(system.log, PATH, Limits()), to_seq=to_seq, use_snapshot=False)
        assert_same(quick.state, full.state)
        assert full.state.seq == to_seq
        used.add(quick.snapshot_seq > 0)
    assert used == {True, False}


def test_state_outside_working_memory_comes_back_too(place: Place) -> None:
    agent = place.open(2).spawn(PATH, session_id="s-1", agent_type="t", metadata={"team": 7})
    first = agent.set("a", 1, command_id="c-1")
    agent.set_granularity(Granularity.LIFECYCLE, levels={"note": Granularity.TRACE})
    agent.spawn_child("helper")
    agent.pause("p", metadata={"k": 1}, when_paused="refuse")
    agent = place.open(2).agent(PATH)
    status = agent.status()
    assert (status.status, status.session_id, status.agent_type) == ("paused", "s-1", "t")
    assert (status.metadata, status.granularity) == ({"team": 7}, Granularity.LIFECYCLE)
    [checkpoint] = agent.checkpoints()
    assert (checkpoint.checkpoint_id, checkpoint.metadata) == ("p", {"k": 1})
    assert agent.resume("p", cascade=True).success
    assert agent.set("a", 1, command_id="c-1") == first
    assert agent.record("other").first_seq > first.seq + 3  # still not logged
    assert agent.pause("q", cascade=True).data["agents"] == 2


def test_the_snapshot_is_what_is_used(place: Place) -> None:
    """The control for those below: a snapshot that fits is believed, so that ignoring one can be seen."""
    system = place.open(5)
    agent = system.spawn(PATH)
    for number in range(6):
        agent.append("l", number)
    found = record_of(system)
    assert found is not None
    place.plant(system.log, packed(poisoned(found)))
    assert place.open().agent(PATH).get() == {"poison": True, "l": [4, 5]}


def damaged(record: SnapshotRecord) -> dict[str, bytes]:
    """Snapshots of another memory, each with one reason not to be believed."""
    poison = poisoned(record)
    good = packed(poison)
    return {
        "of another schema": packed(evolve(poison, schema="state-0")),
        "of a newer schema": packed(evolve(poison, schema="state-2")),
        "of another agent": packed(evolve(poison, agent="acme/bob")),
        "with the digest of another event": packed(evolve(poison, digest=bytes(16))),
        "past the head": packed(evolve(poison, seq=record.seq + 1_000)),
        "at another seq": packed(evolve(poison, seq=record.seq - 1)),
        "cut": good[:-1],
        "longer": good + b"\x00",
        "with one bit flipped": good[:-1] + bytes([good[-1] ^ 1]),
        "empty": b"",
        "garbage": b"\xc1" * 64,
        "with a huge header": good[:16] + b"\xdd\xff\xff\xff\xff" + good[21:],
        "without an agent's state": packed(evolve(poison, state={})),
        "with an agent's state of no form": packed(evolve(poison, state={**poison.state, "agent": [1]})),
        "with a field too many": packed(
            evolve(poison, state={**poison.state, "agent": {**poison.state["agent"], "more": 1}})
        ),
        "with a state that stands elsewhere": packed(
            evolve(poison, state={**poison.state, "agent": {**poison.state["agent"], "seq": record.seq - 2}})
        ),
    }


@pytest.mark.parametrize("kind", list(damaged(SnapshotRecord("a/b", 9, bytes(16), 0, "s", {"agent": {}}))))
def test_a_snapshot_that_does_not_fit_is_ignored(place: Place, kind: str) -> None:
    system = place.open(5)
    agent = system.spawn(PATH)
    for number in range(6):
        agent.append("l", number)
    found = record_of(system)
    assert found is not None
    place.plant(system.log, damaged(found)[kind])
    system = place.open(5)
    assert system.peek(PATH).memory == {"l": list(range(6))}
    agent = system.agent(PATH)
    assert agent.get() == {"l": list(range(6))}
    assert agent.append("l", 6).seq == 8
    for number in range(7, 12):
        agent.append("l", number)
    assert_all_ways_lead_to_one_state(place.open(5), snapshot=True)  # a new one has taken its place


def test_a_missing_snapshot_is_no_loss(place: Place) -> None:
    system = place.open(3)
    live_a_little(system.spawn(PATH))
    before = rebuilt(system, use_snapshot=True).state
    log = system.log
    place.plant(log, b"")
    assert_same(rebuilt(place.open(), use_snapshot=True).state, before)


# -- custom state -----------------------------------------------------------------------------------------------------


def counting(place: Place, every: int, kind: type[Agent] = Counter) -> AgentSystem:
    return place.open(every, agents={"counter": kind}, registry=REGISTRY)


@pytest.mark.parametrize("every", [1, 2, 5, 1_000_000])
def test_custom_state_comes_back_with_and_without_a_snapshot(place: Place, every: int) -> None:
    agent = counting(place, every).spawn(PATH, agent_type="counter")
    for number in range(1, 8):
        agent.ask(number)
    for _ in range(2):
        agent = counting(place, every).agent(PATH)
        assert agent.ask("sum") == {"sum": 28}
        assert agent.get("received") == list(range(1, 8))
    agent.ask(8)
    assert counting(place, every).agent(PATH).ask("sum") == {"sum": 36}


@pytest.mark.slow
def test_a_snapshot_with_another_version_of_the_class_is_ignored(place: Place) -> None:
    system = counting(place, 5)
    agent = system.spawn(PATH, agent_type="counter")
    for number in range(1, 8):
        agent.ask(number)
    found = record_of(system)
    assert found is not None
    place.plant(system.log, packed(poisoned(found)))

    # The control: a class of the same version believes the snapshot.
    assert counting(place, 1_000_000).agent(PATH).ask("sum")["sum"] < 28

    class Newer(Counter):
        state_version = 2

        def initial(self) -> Any:
            return {"sum": 0, "times": 0}

        def apply(self, state: Any, event: Any) -> Any:
            return {"sum": state["sum"] + event.by, "times": state["times"] + 1}

    agent = counting(place, 5, Newer).agent(PATH)
    assert agent.ask("sum") == {"sum": 28, "times": 7}
    assert agent.get("received") == list(range(1, 8))
    # What it leaves fits it, and the old class does not believe that in turn.
    for number in range(8, 12):
        agent.ask(number)
    assert counting(place, 5, Newer).agent(PATH).ask("sum") == {"sum": 66, "times": 11}
    assert counting(place, 5).agent(PATH).ask("sum") == {"sum": 66}


def test_a_snapshot_taken_while_the_class_was_not_registered_is_ignored(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runtime, "needs_class", False)  # as an older release spawned it
    agent = counting(place, 1_000_000).spawn(PATH, agent_type="counter")
    agent.ask(1)
    plain_agent = place.open(1, registry=REGISTRY).agent(PATH)
    plain_agent.set("a", 1)
    assert counting(place, 1).agent(PATH).ask("sum") == {"sum": 1}


@pytest.mark.slow
def test_custom_state_starts_over_with_each_session(place: Place) -> None:
    for every in (1, 1_000_000):
        system = counting(place, every)
        agent = system.spawn(PATH, agent_type="counter")
        agent.ask(5)
        agent.terminate()
        system.spawn(PATH, agent_type="counter")
        agent.ask(7)
        assert counting(place, every).agent(PATH).ask("sum") == {"sum": 7}
        counting(place, every).agent(PATH).terminate()


# -- much --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("every", [1_000, 1_000_000])
def test_an_agent_of_3000_events_comes_back(place: Place, every: int) -> None:
    system = place.open(every)
    agent = system.spawn(PATH, initial_state={"l": [], "n": -1})
    replies = [
        agent.ask(message, block=False)
        for number in range(1_500)
        for message in (Append("l", number), Set("n", number))
    ]
    assert replies[-1].get(timeout=30).seq == 3_001
    system = place.open(every)
    agent = system.agent(PATH)
    status = agent.status()
    assert (status.seq, status.status) == (3_001, "running")
    assert agent.get() == {"l": list(range(1_500)), "n": 1_499}
    assert rebuilt(system, use_snapshot=True).snapshot_seq >= (2_000 if every == 1_000 else 0)
    assert_same(rebuilt(system, use_snapshot=True).state, rebuilt(system, use_snapshot=False).state)
    assert [event.seq for event in system.events(PATH)] == list(range(1, 3_002))
    assert agent.set("n", 0).seq == 3_002


# -- the process was killed --------------------------------------------------------------------------------------------

WRITER = """
import sys
from duramen.actors import AgentSystem, Append, Batch, Set, Settings

with AgentSystem.open(sys.argv[1], namespace="killed", settings=Settings(snapshot_every=10)) as system:
    agent = system.agent("acme/alice")
    if sys.argv[2] == "spawn":
        agent = system.spawn("acme/alice", session_id="s-1", initial_state={"l": [], "n": -1})
    start = agent.get("n") + 1
    for number in range(start, start + 1_000_000):
        receipt = agent.ask(Batch([Append("l", number), Set("n", number), Append("m", [number])]))
        print(number, receipt.seq, flush=True)
"""


@contextmanager
def writer(server: Server, how: str) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-c", WRITER, server.url, how]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def killed(server: Server, how: str, lines: int) -> tuple[int, int]:
    """Let the writer write, kill it while it does; the last number and seq that it reported."""
    with writer(server, how) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
        assert process.wait(10) == -signal.SIGKILL
    last = [line for line in said if line.endswith("\n")][-1].split()
    return int(last[0]), int(last[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_an_agent_carries_on_after_its_process_was_killed(kind: str) -> None:
    with (valkey_server if kind == "valkey" else redis_server)(aof=True) as server:
        acknowledged, seq = killed(server, "spawn", 40)
        acknowledged, seq = killed(server, "go on", 25)
        with AgentSystem.open(server.url, namespace="killed", settings=Settings(snapshot_every=10)) as system:
            agent = system.agent(PATH)
            head = agent.status().seq
            numbers = agent.get("l")
            # All that was acknowledged, at most one batch more, whole, and nothing twice.
            assert numbers == list(range(len(numbers)))
            assert numbers[-1] - acknowledged in (0, 1)
            assert head == seq + 3 * (numbers[-1] - acknowledged)
            assert (agent.get("n"), agent.get("m")) == (numbers[-1], [[number] for number in numbers])
            assert_all_ways_lead_to_one_state(system, snapshot=True)
            assert agent.append("l", "alive").seq == head + 1
            assert agent.pause("p").success
            assert agent.resume("p").success
            assert agent.terminate().success


def test_an_agent_carries_on_after_its_process_and_then_its_server_were_killed() -> None:
    with valkey_server(aof=True) as server:
        acknowledged, _ = killed(server, "spawn", 30)
        server.kill9()
        server.start()
        with AgentSystem.open(server.url, namespace="killed", settings=Settings(snapshot_every=10)) as system:
            numbers = system.agent(PATH).get("l")
            assert numbers == list(range(len(numbers)))
            assert numbers[-1] - acknowledged in (0, 1)
            assert_all_ways_lead_to_one_state(system, snapshot=True)


@pytest.mark.slow
def test_a_system_whose_server_was_killed_goes_on_with_what_it_acknowledged() -> None:
    with valkey_server(aof=True) as server, AgentSystem.open(server.url, settings=Settings(snapshot_every=5)) as system:
        agent = system.spawn(PATH, initial_state={"l": []})
        for number in range(12):
            agent.append("l", number)
        server.kill9()
        server.start()
        eventually(lambda: agent.get("l", None) == list(range(12)), what="the same memory")
        assert agent.append("l", 12).seq == 14
        assert_all_ways_lead_to_one_state(system, snapshot=True)
