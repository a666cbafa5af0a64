"""Stored bytes that somebody else has changed: a typed error of that agent, or partition, alone, at the next touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from duramen.actors import AgentHandle, AgentSystem, Settings
from duramen.actors.commands import AdoptChild
from duramen.events import CorruptEvent
from duramen.projections import Projection
from waiting import eventually

HURT, SOUND = "acme/hurt", "acme/sound"
TOUCHES: dict[str, Callable[[AgentSystem], Any]] = {
    "get": lambda system: system.agent(HURT).get(),
    "keys": lambda system: system.agent(HURT).keys(),
    "status": lambda system: system.agent(HURT).status(),
    "set": lambda system: system.agent(HURT).set("a", 1),
    "append": lambda system: system.agent(HURT).append("list", 1),
    "pause": lambda system: system.agent(HURT).pause().raise_for_failure(),
    "terminate": lambda system: system.agent(HURT).terminate(outcome="success").raise_for_failure(),
    "spawn": lambda system: system.spawn(HURT),
    "events": lambda system: list(system.events(HURT)),
    "peek": lambda system: system.peek(HURT),
    "state_at": lambda system: system.state_at(HURT, seq=5),
}


class Count(Projection[int]):
    version = 1

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Any) -> int:
        return state + 1


class Store:
    """What the server has of a namespace of one partition, and ways to damage it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = f"d{uuid4().hex}"
        self._opened: list[AgentSystem] = []

    def open(self, **options: Any) -> AgentSystem:
        system = AgentSystem.open(self.url, namespace=self.namespace, partitions=1, **options)
        self._opened.append(system)
        self._server: Any = system.log._server  # type: ignore[attr-defined]
        return system

    def run(self, *command: bytes) -> Any:
        return self._server.execute("damage", *command)

    def key(self, what: str) -> bytes:
        return f"duramen:{{{self.namespace}:00}}:{what}".encode()

    @property
    def list_key(self) -> bytes:
        return self._opened[0].log.log_key(HURT).encode()

    def close(self) -> None:
        for system in self._opened:
            system.close(timeout=60)


@pytest.fixture(params=["valkey", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    store = Store(request.getfixturevalue(f"{request.param}_url"))
    yield store
    store.close()


def filled(system: AgentSystem) -> tuple[AgentHandle, AgentHandle]:
    hurt, sound = (system.spawn(path, initial_state={"list": []}) for path in (HURT, SOUND))
    for number in range(4):
        hurt.append("list", number)
        sound.append("list", number)
    return hurt, sound


def poison_head(store: Store) -> None:
    store.run(b"HSET", store.key("heads"), HURT.encode(), b"\xc1")


def cut_head(store: Store) -> None:
    head = store.run(b"HMGET", store.key("heads"), HURT.encode())[0]
    store.run(b"HSET", store.key("heads"), HURT.encode(), head[:-9])


def replace_last_event(store: Store) -> None:
    store.run(b"LSET", store.list_key, b"-1", b"x" * 60)


def change_last_digest(store: Store) -> None:
    item = store.run(b"LRANGE", store.list_key, b"-1", b"-1")[0]
    store.run(b"LSET", store.list_key, b"-1", bytes((item[0] ^ 1,)) + item[1:])


def change_last_body(store: Store) -> None:
    item = store.run(b"LRANGE", store.list_key, b"-1", b"-1")[0]
    store.run(b"LSET", store.list_key, b"-1", item[:-5] + bytes((item[-5] ^ 1,)) + item[-4:])


def change_earlier_body(store: Store) -> None:
    item = store.run(b"LRANGE", store.list_key, b"-2", b"-2")[0]
    store.run(b"LSET", store.list_key, b"-2", item[:-5] + bytes((item[-5] ^ 1,)) + item[-4:])


def remove_last_event(store: Store) -> None:
    store.run(b"RPOP", store.list_key)


def store_another_type(store: Store) -> None:
    store.run(b"DEL", store.list_key)
    store.run(b"SET", store.list_key, b"not ours")


AT_ONCE = (
    poison_head,
    cut_head,
    replace_last_event,
    change_last_digest,
    change_last_body,
    remove_last_event,
    store_another_type,
)
"""What one look at head and end of the list tells, also to the process that has the agent in memory."""


@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("damage", AT_ONCE)
def test_damage_of_an_agent_is_corrupt_event_to_the_process_that_has_it_in_memory(
    store: Store, damage: Callable[[Store], None], touch: str
) -> None:
    system = store.open()
    _, sound = filled(system)
    damage(store)
    before = store.run(b"HMGET", store.key("heads"), HURT.encode())
    past = touch in ("events", "peek", "state_at")
    for _ in range(2):
        with pytest.raises(CorruptEvent) as caught:
            TOUCHES[touch](system)
        assert caught.value.agent == HURT
    if past:
        assert store.run(b"HMGET", store.key("heads"), HURT.encode()) == before
    assert sound.append("list", "more").seq == 6
    assert len(sound.get("list")) == 5
    assert {entry.agent for entry in system.agents()} == {HURT, SOUND}
    assert list(system.episodes.list(project="acme")) == []


@pytest.mark.parametrize("touch", ["get", "set", "pause"])
@pytest.mark.parametrize("damage", AT_ONCE)
@pytest.mark.parametrize("snapshot_every", [1, 1_000], ids=["a snapshot of all", "no snapshot"])
def test_damage_of_an_agent_is_corrupt_event_where_it_is_brought_into_memory(
    store: Store, damage: Callable[[Store], None], touch: str, snapshot_every: int
) -> None:
    with store.open(settings=Settings(snapshot_every=snapshot_every)) as system:
        filled(system)
    damage(store)
    length = store.run(b"TYPE", store.list_key) == b"list" and store.run(b"LLEN", store.list_key)
    system = store.open()
    for _ in range(2):
        with pytest.raises(CorruptEvent) as caught:
            TOUCHES[touch](system)
        assert caught.value.agent == HURT
    if length:
        assert store.run(b"LLEN", store.list_key) == length, "nothing is appended upon it"
    assert len(system.agent(SOUND).get("list")) == 4


@pytest.mark.parametrize("appended", [0, 3], ids=["nothing is appended", "three events are appended upon it"])
def test_a_changed_bit_in_an_event_before_the_last_is_found_by_all_that_reads_it(store: Store, appended: int) -> None:
    """One look at the end of the list cannot tell: the agent in memory goes on, and nobody else takes the event."""
    with store.open() as system:
        hurt, sound = filled(system)
        assert system.verify().ok, "control: nothing was wrong before"
        change_earlier_body(store)
        for number in range(appended):
            hurt.append("list", number)
        report = system.verify()
        assert [(problem.agent, problem.seq, problem.kind) for problem in report.problems] == [(HURT, 4, "changed")]
        for touch in ("events", "peek", "state_at"):
            with pytest.raises(CorruptEvent) as caught:
                TOUCHES[touch](system)
            assert (caught.value.agent, caught.value.seq) == (HURT, 4)
        assert sound.append("list", "more").seq == 6
    system = store.open()
    for _ in range(2):
        with pytest.raises(CorruptEvent) as caught:
            system.agent(HURT).get()
        assert (caught.value.agent, caught.value.seq) == (HURT, 4)
    assert len(system.agent(SOUND).get("list")) == 5


@pytest.mark.parametrize("damage", [poison_head, cut_head])
def test_a_consumer_of_all_agents_reads_on_past_an_agent_whose_head_is_damaged(
    store: Store, damage: Callable[[Store], None]
) -> None:
    system = store.open()
    _, sound = filled(system)
    damage(store)
    changes: list[Any] = []
    system.subscribe("**", changes.append, from_start=True)
    runner = system.attach(Count(), name="count")
    runner.wait_for(sound.append("list", "more"), timeout=60)
    assert (runner.status, runner.state) == ("live", 11)
    eventually(lambda: len(changes) == 11)


FEEDS: dict[str, Callable[[Store], None]] = {
    "deleted": lambda store: store.run(b"DEL", store.key("feed")),
    "popped": lambda store: store.run(b"RPOP", store.key("feed")),
    "trimmed from the left": lambda store: store.run(b"LPOP", store.key("feed")),
    "an entry added": lambda store: store.run(b"RPUSH", store.key("feed"), b"\x94\xa6acme/x\x01\x01\x04"),
}


@pytest.mark.parametrize("written", [False, True], ids=["nothing is written", "more is written"])
@pytest.mark.parametrize("damage", FEEDS)
def test_a_damaged_feed_parks_a_consumer_that_was_live(store: Store, damage: str, written: bool) -> None:
    system = store.open()
    hurt, _ = filled(system)
    runner = system.attach(Count(), name="count")
    runner.wait_for(hurt.append("list", "more"), timeout=60)
    assert runner.status == "live"
    FEEDS[damage](store)
    if written:
        for number in range(3):
            hurt.append("list", number)
    eventually(lambda: runner.status == "parked", 60, what="parked")
    eventually(lambda: system.consumers.get("count").error, 60, what="the error stored, which others see")
    info = system.consumers.get("count")
    assert info.error is not None
    assert info.error.error == "CorruptEvent"
    assert len(hurt.get("list")) == 5 + 3 * written, "agents need no feed"


@pytest.mark.parametrize("damage", [replace_last_event, change_last_digest])
def test_a_damaged_event_at_a_consumers_position_is_corrupt_and_not_another_history(
    store: Store, damage: Callable[[Store], None]
) -> None:
    with store.open() as system:
        hurt, _ = filled(system)
        runner = system.attach(Count(), name="count")
        runner.wait_for(hurt.append("list", "last"), timeout=60)
    damage(store)
    system = store.open()
    runner = system.attach(Count(), name="count")
    eventually(lambda: runner.status == "parked", 60, what="parked")
    eventually(lambda: system.consumers.get("count").error, 60, what="the error stored, which others see")
    info = system.consumers.get("count")
    assert info.error is not None
    assert (info.error.error, info.error.agent) == ("CorruptEvent", HURT)


def test_a_parent_is_looked_at_whatever_has_become_of_its_children(store: Store) -> None:
    with store.open() as system:
        parent = system.spawn("acme/root")
        for name in ("one", "two"):
            parent.spawn_child(name)
        parent.ask(AdoptChild("acme/root/never"))
        store.run(b"HSET", store.key("heads"), b"acme/root/one", b"\xc1")
        assert set(system.peek("acme/root").children) == {"acme/root/one", "acme/root/two"}
        with pytest.raises(CorruptEvent):
            system.peek("acme/root/one")
