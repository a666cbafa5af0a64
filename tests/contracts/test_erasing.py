"""Erasing: nothing of an agent stays in the log, its feed keeps its places, and readers pass over what is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from attrs import evolve

from duramen.actors import AgentSystem, Pause
from duramen.events import AgentNotFound, DataLoss, Erased, Limits, MemoryLog
from duramen.events.codec import Codec
from duramen.events.feed import FeedReader, confirm_marks, end_marks
from duramen.events.log import Append, Status
from duramen.events.model import START

OpenSystem = Callable[..., AgentSystem]
PATH, OTHER = "acme/alice", "acme/bob"


@pytest.fixture(params=["memory", "valkey", "redis"])
def open_one(request: pytest.FixtureRequest) -> Any:
    where: dict[str, Any] = {"log": MemoryLog(partitions=1)}
    if request.param != "memory":
        url = request.getfixturevalue(f"{request.param}_url")
        where = {"url": url, "namespace": f"t{uuid4().hex}", "partitions": 1}
    opened: list[AgentSystem] = []

    def open_system(**options: Any) -> AgentSystem:
        opened.append(AgentSystem.open(**where, **options))
        return opened[-1]

    yield open_system
    for system in reversed(opened):
        system.close(timeout=5)


def fill(system: AgentSystem, path: str = PATH, text: str = "secret") -> None:
    agent = system.spawn(path, initial_state={"text": text}, metadata={"text": text})
    agent.set("n", [text] * 3)
    agent.ask(Pause(checkpoint_id=text, ttl=None))
    agent.resume(text)
    agent.spawn_child("child").set("n", text)


def read_all(system: AgentSystem, mark: Any = START) -> list[tuple[str, int]]:
    reader = FeedReader(system.log, Codec(Limits()), 0, mark)
    found: list[tuple[str, int]] = []
    while events := reader.read(7):
        found += [(event.agent, event.seq) for event in events]
    return found


def test_an_erased_agent_is_gone_with_all_below_it(open_one: OpenSystem) -> None:
    system = open_one()
    fill(system)
    fill(system, OTHER, "kept")
    before = {path: system.agent(path).get() for path in (OTHER, f"{OTHER}/child")}
    erasure = system.erase(PATH)
    assert erasure.agents == (PATH, f"{PATH}/child")
    assert (erasure.events, erasure.checkpoints, erasure.episodes) == (7, 1, 0)
    assert [entry.agent for entry in system.agents(PATH)] == []
    for path in (PATH, f"{PATH}/child"):
        with pytest.raises(AgentNotFound):
            system.peek(path)
    assert {path: system.agent(path).get() for path in before} == before
    assert system.verify().ok
    assert system.erase(PATH).agents == ()
    with pytest.raises(AgentNotFound):
        system.erase("acme/nobody")


def test_its_path_can_be_spawned_anew_and_is_another_log(open_one: OpenSystem) -> None:
    system = open_one()
    fill(system)
    system.erase(PATH)
    agent = system.spawn(PATH, initial_state={"new": 1})
    assert (agent.set("n", 1).seq, agent.get()) == (2, {"new": 1, "n": 1})
    assert agent.checkpoints() == []
    assert [event.seq for event in system.events(PATH)] == [1, 2]
    assert system.verify().ok
    assert system.erase(PATH).events == 2
    assert system.spawn(PATH).status().seq == 1


def test_a_process_that_has_it_is_told_and_writes_nothing(open_one: OpenSystem) -> None:
    host, other = open_one(), open_one()
    agent = host.spawn(PATH, initial_state={"n": 1})
    read = other.agent(PATH)
    assert read.get("n") == 1
    other.erase(PATH)
    with pytest.raises(Erased):
        agent.set("n", 2)
    with pytest.raises(AgentNotFound):
        agent.get("n")
    with pytest.raises(AgentNotFound):
        read.get("n")
    assert list(host.agents()) == []
    assert host.spawn(PATH).set("n", 3).seq == 2
    assert read.get() == {"n": 3}


def test_a_process_that_has_it_may_spawn_it_anew_at_once(open_one: OpenSystem) -> None:
    host, other = open_one(), open_one()
    host.spawn(PATH, initial_state={"n": 1}).set("n", 2)
    other.erase(PATH)
    assert host.spawn(PATH, initial_state={"n": 3}).get() == {"n": 3}
    assert other.agent(PATH).set("n", 4).seq == 2
    assert host.verify().ok


def test_a_feed_keeps_its_places_and_its_readers_pass_over_what_is_gone(open_one: OpenSystem) -> None:
    system = open_one()
    fill(system)
    fill(system, OTHER, "kept")
    ends = system.log.positions()
    others = [event for event in read_all(system) if event[0].startswith(OTHER)]
    system.erase(PATH)
    assert system.log.positions() == ends
    assert read_all(system) == others
    entries = system.log.feed_page(0, 0, 100).entries
    assert len(entries) == ends[0] and {entry.agent for entry in entries} == {"", OTHER, f"{OTHER}/child"}
    system.spawn(PATH)
    assert read_all(system) == [*others, (PATH, 1)]


@pytest.mark.parametrize("count", range(1, 15))
def test_a_reader_goes_on_from_wherever_it_was(open_one: OpenSystem, count: int) -> None:
    system = open_one()
    fill(system)
    with system.agent(PATH).batch() as batch:
        for number in range(4):
            batch.set("n", number)
    fill(system, OTHER, "kept")
    reader = FeedReader(system.log, Codec(Limits()), 0)
    seen = [(event.agent, event.seq) for event in reader.read(count)]
    mark = reader.mark
    everything = read_all(system)
    others = [event for event in everything if event[0].startswith(OTHER)]
    assert everything[:count] == seen
    system.erase(PATH)
    system.spawn(PATH)
    expected = [event for event in everything[count:] if event[0].startswith(OTHER)] + [(PATH, 1)]
    assert read_all(system, mark) == expected
    while events := reader.read(5):  # this one has events, and entries, that it has read ahead
        seen += [(event.agent, event.seq) for event in events]
    assert [event for event in seen if event[0].startswith(OTHER)] == others
    assert seen[-1] == (PATH, 1)


def test_a_mark_at_the_end_stays_good(open_one: OpenSystem) -> None:
    system = open_one()
    fill(system)
    mark = end_marks(system.log, [0])[0]
    assert mark.agent
    system.erase(PATH)
    assert read_all(system, mark) == []
    system.spawn(PATH)
    assert read_all(system, mark) == [(PATH, 1)]


def test_a_reader_that_passes_over_erased_agents_one_after_the_other_has_lost_nothing(open_one: OpenSystem) -> None:
    system = open_one()
    reader = FeedReader(system.log, Codec(Limits()), 0)
    for number in range(4):
        system.spawn(f"acme/guest-{number}")
        if not number:
            assert [event.agent for event in reader.read(7)] == ["acme/guest-0"]
        system.erase(f"acme/guest-{number}")
        assert reader.read(7) == []
        assert reader.mark.position == number + 1
        assert confirm_marks(system.log, {0: reader.mark}) == {}
        assert read_all(system, reader.mark) == []
    fill(system, OTHER, "kept")
    assert reader.read(1)[0].agent == OTHER


def test_a_reader_behind_an_erased_agent_is_told_of_a_loss_all_the_same(open_one: OpenSystem) -> None:
    system = open_one()
    fill(system)
    system.erase(PATH)
    system.spawn(PATH).set("n", 1)
    mark = end_marks(system.log, [0])[0]
    lost = evolve(mark, seq=mark.seq + 1)  # as though the server had lost the last event of the new agent
    assert isinstance(confirm_marks(system.log, {0: lost})[0], DataLoss)
    with pytest.raises(DataLoss):
        read_all(system, lost)
    in_the_middle = evolve(lost, position=mark.position - 1, offset=1)
    assert isinstance(confirm_marks(system.log, {0: in_the_middle})[0], DataLoss)


def test_an_append_to_an_erased_agent_says_so_and_writes_nothing(open_one: OpenSystem) -> None:
    system = open_one()
    fill(system)
    head = system.log.head(PATH)
    assert head is not None
    ends = system.log.positions()
    system.erase(PATH)
    items = [system.log.chain.digest(head.digest, b"x") + b"x"]
    for path, status in ((PATH, Status.ERASED), ("acme/nobody", Status.GONE)):
        append = Append(path, system.log.log_key(path), head.seq, head.digest, head.fence, items, b"\x02")
        assert system.log.commit(0, [append])[0].status is status
    assert system.log.positions() == ends and system.log.head(PATH) is None
