"""Whatever is changed in what is stored is found, and named; and is never shown as a state."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.actors import Agent, AgentSystem, Set, Settings, Spawn
from duramen.events import AgentNotFound, CorruptEvent, DuramenError, InvalidMessage, Limits, Unavailable
from duramen.events.codec.event_codec import DIGEST_SIZE, Codec, chain
from duramen.events.codec.snapshot import pack_snapshot, unpack_snapshot
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Head
from duramen.events.redis.archive import RedisArchive
from duramen.events.redis.client import RedisClient
from duramen.projections.integrity.damage import Kind
from duramen.projections.recovery import AgentLog, rebuild
from duramen.projections.recovery.keyframes import snapshot_of
from duramen.projections.recovery.state_fold import StateFold

LIMITS = Limits()
CODEC = Codec(LIMITS)
AGENTS = ("acme/alice", "acme/bob", "acme/bob/child")
ALICE = AGENTS[0]
EVENTS = 60


@pytest.fixture(params=["memory", "valkey", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    memory = request.param == "memory"
    found: Place = MemoryPlace() if memory else ServerPlace(request.getfixturevalue(f"{request.param}_url"))
    yield found
    found.close()


def inhabited(log: EventLog) -> AgentSystem:
    """Three agents with some sixty events each, a snapshot, a checkpoint and keyframes."""
    system = AgentSystem.open(log=log, settings=Settings(snapshot_every=20))
    chance = random.Random(1)
    for path in AGENTS:
        agent = system.agent("acme/bob").spawn_child("child") if path.endswith("child") else system.spawn(path)
        for number in range(EVENTS // 2):
            agent.set(f"k{number % 9}", "v" * chance.randrange(60))
        agent.pause("lunch")
        agent.resume("lunch")
        for number in range(EVENTS // 2):
            agent.append("l", {"n": number})
        folding = StateFold(path, LIMITS, None, rebuild(AgentLog(log, path, LIMITS), to_seq=25))
        log.archive.keep_keyframe(path, 25, snapshot_of(AgentLog(log, path, LIMITS), folding) or b"")
    return system


@pytest.fixture
def system(place: Place) -> Iterator[AgentSystem]:
    with inhabited(place.open()) as found:
        yield found


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[MemoryPlace, AgentSystem]]:
    place = MemoryPlace()
    with inhabited(place.open()) as system:
        yield place, system


def values(place: MemoryPlace) -> dict[str, tuple[bytes, float]]:
    return place.log._storage.values


def flipped(stored: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(stored))
    return stored[:at] + bytes([stored[at] ^ (1 << chance.randrange(8))]) + stored[at + 1 :]


# -- nothing is wrong --------------------------------------------------------------------------------------------------


def test_what_was_written_is_found_whole(system: AgentSystem) -> None:
    report = system.verify()
    total = sum(entry.head.seq for entry in system.agents())
    assert (report.ok, report.agents, report.events, report.problems) == (True, 3, total, ())
    assert system.verify(ALICE).agents == 1
    assert system.verify("acme/bob").agents == 1
    assert system.verify("acme/bob", tree=True).agents == 2
    assert str(report).startswith("ok: ")


def test_what_is_asked_for_must_be_there(system: AgentSystem) -> None:
    with pytest.raises(AgentNotFound):
        system.verify("acme/nobody")
    wrong: list[Any] = [0, -1, 65, True, "4"]
    for workers in wrong:
        with pytest.raises(InvalidMessage):
            system.verify(workers=workers)


def test_a_namespace_without_agents_is_whole(place: Place) -> None:
    with AgentSystem.open(log=place.open()) as system:
        assert system.verify().ok


# -- many agents -------------------------------------------------------------------------------------------------------

MANY = 200


@pytest.fixture
def many(valkey_url: str) -> Iterator[tuple[ServerPlace, AgentSystem]]:
    """Many agents of three events, with a snapshot, in a few partitions."""
    place = ServerPlace(valkey_url)
    with AgentSystem.open(log=place.open(partitions=3), settings=Settings(snapshot_every=2)) as system:
        for messages in ([Spawn()] * MANY, [Set("n", 1)] * MANY, [Set("n", 2)] * MANY):
            asked = [system.agent(f"p{n % 7}/a{n}").ask(message, block=False) for n, message in enumerate(messages)]
            assert all(reply.get(timeout=30) for reply in asked)
        yield place, system
    place.close()


def requests_of(call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    sent: list[str] = []
    exchange = RedisClient._exchange

    def counted(client: RedisClient, doing: str, *rest: Any) -> Any:
        sent.append(doing)
        return exchange(client, doing, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RedisClient, "_exchange", counted)
        call()
    return len(sent)


def test_small_agents_are_read_together(many: tuple[ServerPlace, AgentSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    _, system = many
    assert (system.verify().ok, system.verify().events) == (True, 3 * MANY)
    together = requests_of(system.verify, monkeypatch)
    assert together < MANY / 2
    monkeypatch.setattr(RedisArchive, "read_small", lambda archive, agents, most: [None] * len(agents))
    assert requests_of(system.verify, monkeypatch) - together > 5 * MANY, "control: each by itself"


def test_the_damaged_ones_among_many_agents_are_found_and_no_others(many: tuple[ServerPlace, AgentSystem]) -> None:
    place, system = many
    hurt = {number: f"p{number % 7}/a{number}" for number in range(0, 70, 7)}  # of one partition
    log, client = system.log, place.client
    items = place.items(log, hurt[0])
    client.lset(log.log_key(hurt[0]), 1, items[1][:-1] + b"\x09")
    client.delete(log.log_key(hurt[7]))
    client.rpop(log.log_key(hurt[14]))
    client.rpush(log.log_key(hurt[21]), b"more")
    client.set(log.snapshot_key(hurt[28]), b"damaged")
    found = system.verify()
    expected = {
        hurt[0]: (2, Kind.CHANGED),
        hurt[7]: (1, Kind.MISSING),
        hurt[14]: (3, Kind.MISSING),
        hurt[21]: (4, Kind.FOREIGN),
        hurt[28]: (0, Kind.SNAPSHOT),
    }
    assert {problem.agent: (problem.seq, problem.kind) for problem in found.problems if problem.agent} == expected
    client.delete(log.log_key(hurt[35]))
    client.set(log.log_key(hurt[35]), b"another type")
    again = {problem.agent: problem.kind for problem in system.verify().problems if problem.agent}
    assert again == {**{agent: kind for agent, (_, kind) in expected.items()}, hurt[35]: Kind.MISSING}


# -- single bytes ------------------------------------------------------------------------------------------------------


def test_single_flipped_bytes_in_events_are_all_found_named_and_never_served(
    shared: tuple[MemoryPlace, AgentSystem],
) -> None:
    place, system = shared
    chance = random.Random(8)
    for _ in range(700):
        path = chance.choice(AGENTS)
        items = place.items(system.log, path)
        at = chance.randrange(len(items))
        place.keep(system.log, path, [*items[:at], flipped(items[at], chance), *items[at + 1 :]])
        report = system.verify(path)
        assert not report.ok
        assert [(p.agent, p.seq, p.kind) for p in report.problems] == [(path, at + 1, Kind.CHANGED)]
        for call in (
            lambda: list(system.events(path)),
            lambda: list(system.replay(path)),
            lambda: list(system.events(path, from_seq=at + 1)),
            lambda: system.blame(path),
        ):
            with pytest.raises(CorruptEvent) as caught:
                call()
            assert (caught.value.agent, caught.value.seq) == (path, at + 1)
        place.keep(system.log, path, items)
    assert system.verify().ok


def test_single_flipped_bytes_in_snapshots_are_all_found_named_and_never_served(
    shared: tuple[MemoryPlace, AgentSystem],
) -> None:
    place, system = shared
    chance = random.Random(9)
    log = system.log
    expected = {path: system.peek(path) for path in AGENTS}
    for _ in range(300):
        path = chance.choice(AGENTS)
        kind = chance.choice(["snapshot", "checkpoint", "keyframe"])
        if kind == "keyframe":
            sound = log.archive.keyframe(path, 25)
            assert sound is not None
            log.archive.keep_keyframe(path, 25, flipped(sound, chance))
        else:
            key = log.snapshot_key(path) if kind == "snapshot" else log.checkpoint_key(path, "lunch")
            sound, expires = values(place)[key]
            values(place)[key] = (flipped(sound, chance), expires)
        report = system.verify()
        assert [(problem.agent, problem.kind) for problem in report.problems] == [(path, Kind.SNAPSHOT)], kind
        assert report.problems[0].seq is not None and report.problems[0].seq <= expected[path].seq
        assert kind in report.problems[0].detail
        assert system.peek(path).memory == expected[path].memory
        assert system.state_at(path, seq=30).seq == 30
        if kind == "keyframe":
            log.archive.keep_keyframe(path, 25, sound)
        else:
            values(place)[key] = (sound, expires)
    assert system.verify().ok


# -- the list ----------------------------------------------------------------------------------------------------------

Items = list[bytes]


def one_gone(items: Items, others: Items) -> Items:
    return [*items[:40], *items[41:]]


def first_gone(items: Items, others: Items) -> Items:
    return items[1:]


def last_gone(items: Items, others: Items) -> Items:
    return items[:-1]


def all_gone(items: Items, others: Items) -> Items:
    return []


def neighbours_swapped(items: Items, others: Items) -> Items:
    return [*items[:40], items[41], items[40], *items[42:]]


def far_ones_swapped(items: Items, others: Items) -> Items:
    swapped = list(items)
    swapped[40], swapped[10] = items[10], items[40]
    return swapped


def doubled(items: Items, others: Items) -> Items:
    return [*items[:41], items[40], *items[41:]]


def doubled_at_the_end(items: Items, others: Items) -> Items:
    return [*items, items[-1]]


def put_in(items: Items, others: Items) -> Items:
    return [*items[:40], others[40], *items[40:]]


def put_in_the_place_of_another(items: Items, others: Items) -> Items:
    return [*items[:40], others[40], *items[41:]]


def put_behind(items: Items, others: Items) -> Items:
    return [*items, others[40]]


def cut_short(items: Items, others: Items) -> Items:
    return [*items[:40], items[40][: DIGEST_SIZE + 3], *items[41:]]


def emptied(items: Items, others: Items) -> Items:
    return [*items[:40], b"", *items[41:]]


def last_cut_short(items: Items, others: Items) -> Items:
    return [*items[:-1], items[-1][:-1]]


def others_altogether(items: Items, others: Items) -> Items:
    return others[: len(items)]


DAMAGE: dict[Callable[[Items, Items], Items], tuple[int | None, Kind]] = {
    one_gone: (41, Kind.MISSING),
    first_gone: (1, Kind.MISSING),
    last_gone: (0, Kind.MISSING),
    all_gone: (1, Kind.MISSING),
    neighbours_swapped: (41, Kind.REORDERED),
    far_ones_swapped: (11, Kind.REORDERED),
    doubled: (42, Kind.DUPLICATED),
    put_in: (41, Kind.FOREIGN),
    put_in_the_place_of_another: (41, Kind.FOREIGN),
    put_behind: (None, Kind.FOREIGN),
    doubled_at_the_end: (None, Kind.FOREIGN),
    cut_short: (41, Kind.CHANGED),
    emptied: (41, Kind.CHANGED),
    last_cut_short: (0, Kind.CHANGED),
    others_altogether: (None, Kind.HEAD),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_the_first_event_that_is_wrong_is_named_and_how(place: Place, system: AgentSystem, damage: Any) -> None:
    log = system.log
    items, others = place.items(log, ALICE), place.items(log, "acme/bob")
    seq, kind = DAMAGE[damage]
    expected = {0: len(items), None: len(items) + 1}.get(seq, seq)
    if damage is others_altogether:
        expected = len(items)
    place.keep(log, ALICE, damage(items, others))
    report = system.verify()
    found = [problem for problem in report.problems if problem.kind is not Kind.SNAPSHOT]
    assert [(problem.agent, problem.seq, problem.kind) for problem in found] == [(ALICE, expected, kind)]
    assert report.agents == 3, "the others were looked at all the same"
    assert json.loads(json.dumps(report.as_data()))["problems"][0]["agent"] == ALICE
    assert f"{ALICE}@" in str(report)


def test_every_agent_is_told_of(place: Place, system: AgentSystem) -> None:
    for path in AGENTS:
        items = place.items(system.log, path)
        place.keep(system.log, path, [*items[:10], items[10] + b"x", *items[11:]])
    found = [(problem.agent, problem.seq) for problem in system.verify(workers=2).problems]
    assert found == [(path, 11) for path in AGENTS]


def test_a_chain_that_was_written_anew_ends_elsewhere_than_its_head(place: Place, system: AgentSystem) -> None:
    items = place.items(system.log, ALICE)
    previous, rewritten = bytes(DIGEST_SIZE), []
    for number, item in enumerate(items):
        body = item[DIGEST_SIZE:].replace(b"goal", b"gaol") if number != 5 else _other(item)
        previous = chain(previous, body)
        rewritten.append(previous + body)
    place.keep(system.log, ALICE, rewritten)
    (first, *_) = [p for p in system.verify(ALICE).problems if p.kind is not Kind.SNAPSHOT]
    assert (first.kind, first.seq) == (Kind.HEAD, len(items))


def _other(item: bytes) -> bytes:
    body = CODEC.decode(item[DIGEST_SIZE:])
    body[4] = {**body[4], "value": "forged"}
    return CODEC.pack(body)


def test_what_is_no_event_is_foreign_though_its_digest_is_right(place: Place, system: AgentSystem) -> None:
    items = place.items(system.log, ALICE)
    head = system.log.head(ALICE)
    assert head is not None
    for body in (
        b"\xc1",
        b"\x90",
        CODEC.pack(["memory_deleted", 1, 2, 1, {"path": "no"}, "s", None, None, None, None]),
    ):
        digest = chain(head.digest, body)
        place.keep(system.log, ALICE, [*items, digest + body])
        place.write_head(system.log, ALICE, Head(head.seq + 1, 0, digest, head.fence, head.claimed_at, head.updated_at))
        (problem,) = system.verify(ALICE).problems
        assert (problem.kind, problem.seq) == (Kind.FOREIGN, head.seq + 1)


# -- heads -------------------------------------------------------------------------------------------------------------


def test_a_head_that_names_another_end_is_found(place: Place, system: AgentSystem) -> None:
    head = system.log.head(ALICE)
    assert head is not None
    rest = (head.fence, head.claimed_at, head.updated_at)
    for wrong, kind in (
        (Head(head.seq, 0, bytes(DIGEST_SIZE), *rest), Kind.HEAD),
        (Head(head.seq + 3, 0, head.digest, *rest), Kind.MISSING),
        (Head(head.seq - 3, 0, head.digest, *rest), Kind.HEAD),
        (Head(head.seq, head.seq + 1, head.digest, *rest), Kind.HEAD),
    ):
        place.write_head(system.log, ALICE, wrong)
        found = [problem for problem in system.verify(ALICE).problems if problem.kind is not Kind.SNAPSHOT]
        assert [problem.kind for problem in found] == [kind]
    place.write_head(system.log, ALICE, None)
    (problem,) = system.verify(ALICE).problems
    assert (problem.kind, problem.seq) == (Kind.HEAD, None)


def test_a_head_or_list_of_another_kind_is_reported(valkey_url: str) -> None:
    place = ServerPlace(valkey_url)
    try:
        with inhabited(place.open()) as system:
            log = system.log
            place.client.hset(place.keys.heads(log.partition_of(ALICE)), ALICE, b"\xc1")
            place.client.delete(log.log_key("acme/bob"))
            place.client.set(log.log_key("acme/bob"), "text")
            found = {problem.agent: problem.kind for problem in system.verify().problems}
            assert found == {ALICE: Kind.HEAD, "acme/bob": Kind.MISSING}
    finally:
        place.close()


# -- snapshots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint", "keyframe"])
def test_a_snapshot_that_is_sound_but_not_the_fold_is_found(shared: tuple[MemoryPlace, AgentSystem], kind: str) -> None:
    place, system = shared
    log = system.log
    key = {"snapshot": log.snapshot_key(ALICE), "checkpoint": log.checkpoint_key(ALICE, "lunch"), "keyframe": ""}[kind]
    sound, expires = values(place).get(key, (log.archive.keyframe(ALICE, 25) or b"", 0.0))
    record = unpack_snapshot(sound, ALICE, CODEC, LIMITS)
    record.state["agent"]["memory"]["forged"] = True
    forged = pack_snapshot(record, CODEC, LIMITS)
    try:
        if kind == "keyframe":
            log.archive.keep_keyframe(ALICE, 25, forged)
        else:
            values(place)[key] = (forged, expires)
        (problem,) = system.verify().problems
        assert (problem.agent, problem.kind, problem.seq) == (ALICE, Kind.SNAPSHOT, record.seq)
        assert "not the fold" in problem.detail
    finally:
        if kind == "keyframe":
            log.archive.keep_keyframe(ALICE, 25, sound)
        else:
            values(place)[key] = (sound, expires)
    assert system.verify().ok


def test_a_snapshot_of_other_code_is_nothing_wrong(shared: tuple[MemoryPlace, AgentSystem]) -> None:
    from attrs import evolve

    place, system = shared
    key = system.log.snapshot_key(ALICE)
    sound = values(place)[key]
    record = unpack_snapshot(sound[0], ALICE, CODEC, LIMITS)
    values(place)[key] = (pack_snapshot(evolve(record, schema="state-0"), CODEC, LIMITS), sound[1])
    assert system.verify(ALICE).ok
    values(place)[key] = sound


class Broken(Agent):
    """An agent whose own fold fails on whatever it gets."""

    def apply(self, state: Any, event: Any) -> Any:
        raise RuntimeError


def test_code_of_the_user_that_fails_is_no_damage(place: Place) -> None:
    from attrs import frozen

    from duramen.events import EventRegistry, event_type

    registry = EventRegistry()

    @event_type("noted", registry=registry)
    @frozen
    class Noted:
        n: int

    class Sound(Agent):
        def initial(self) -> Any:
            return []

        def apply(self, state: Any, event: Any) -> Any:
            return [*state, event.n]

        def on_receive(self, message: Any) -> None:
            self.emit(Noted(message))

    log = place.open()
    settings = Settings(snapshot_every=3)
    with AgentSystem.open(log=log, agents={"t": Sound}, registry=registry, settings=settings) as system:
        agent = system.spawn(ALICE, agent_type="t")
        for number in range(10):
            agent.ask(number)
        assert system.verify().ok
    for kinds, known in (({"t": Broken}, registry), ({}, EventRegistry()), ({"t": Sound}, EventRegistry())):
        with AgentSystem.open(log=log, agents=kinds, registry=known) as system:
            assert system.verify().ok


# -- while it runs -----------------------------------------------------------------------------------------------------


def test_an_agent_that_is_written_to_meanwhile_is_not_called_damaged(system: AgentSystem) -> None:
    ended = threading.Event()
    agent = system.agent(ALICE)

    def write() -> None:
        number = 0
        while not ended.is_set():
            agent.set("busy", number)
            number += 1

    writer = threading.Thread(target=write, name="duramen-test-writer")
    writer.start()
    try:
        for _ in range(10):
            report = system.verify(ALICE)
            assert report.ok, str(report)
    finally:
        ended.set()
        writer.join()


def test_progress_is_told_in_the_callers_thread_and_can_end_it(system: AgentSystem) -> None:
    told: list[Any] = []

    def progress(now: Any) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(now)

    report = system.verify(progress=progress, workers=2)
    assert (told[-1].agents, told[-1].of_agents, told[-1].events) == (3, 3, report.events)

    def stop(now: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        system.verify(progress=stop)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("duramen-verify")]


def test_a_server_that_is_lost_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    place = MemoryPlace()
    with inhabited(place.open()) as system:

        def lost(*arguments: Any) -> Any:
            raise Unavailable("gone")

        monkeypatch.setattr(system.log.archive, "raw", lost)
        with pytest.raises(DuramenError):
            system.verify()
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("duramen-verify")]
