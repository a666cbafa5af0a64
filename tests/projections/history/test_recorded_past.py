"""The recorded sessions, seen at every one of their events: forward, back, elsewhere, and after a fork.

On the recordings that lie beside the project where they do, else on copies of the sample that ships with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from attrs import frozen

from duramen.actors import AgentSystem
from duramen.actors.console.ingest.json_items import file_source, sample_source
from duramen.actors.console.ingest.recordings import read_sessions
from duramen.actors.console.ingest.steps import steps_of
from duramen.events import Event, Limits

BESIDE = Path(__file__).resolve().parents[4] / "shared" / "data" / "airline-sessions.json"


@frozen
class Ingested:
    system: AgentSystem
    agents: dict[str, list[Event]]


@pytest.fixture(scope="module")
def ingested() -> Iterator[Ingested]:
    source = file_source(str(BESIDE)) if BESIDE.exists() else sample_source()
    with AgentSystem.open("memory://") as system:
        for number, session in enumerate(read_sessions(source, Limits())):
            agent = system.agent(f"recorded/session-{number}")
            for step in steps_of(session):
                agent.ask(step.message)
        yield Ingested(system, {entry.agent: list(system.events(entry.agent)) for entry in system.agents()})


def naive(events: list[Event]) -> Iterator[dict[str, Any]]:
    """The memory after each event. Nothing of the library is used."""
    memory: dict[str, Any] = {}
    for event in events:
        if event.type == "spawned":
            memory = {**memory, **event.data["memory"]}
        elif event.type == "memory_appended":
            assert "/" not in event.data["path"]
            memory = {**memory, event.data["path"]: [*memory.get(event.data["path"], []), *event.data["values"]]}
        elif event.type == "terminated":
            memory = {} if event.data["cleared"] else memory
        else:
            assert event.type in ("activity_recorded", "paused", "resumed", "episode_recorded"), event.type
        yield memory


def test_there_is_something_to_see(ingested: Ingested) -> None:
    assert len(ingested.agents) == (50 if BESIDE.exists() else 3)


def test_the_state_at_every_seq_is_the_fold_forward_and_back(ingested: Ingested) -> None:
    for path, events in ingested.agents.items():
        expected = [{}, *naive(events)]
        replay = ingested.system.replay(path)
        for seq, (event, state) in enumerate(replay, 1):
            assert event == events[seq - 1]
            assert (state.seq, state.memory) == (seq, expected[seq]), path
        while (found := replay.back()) is not None:
            assert found[1].memory == expected[found[1].seq], path
        assert replay.seq == 0


def test_the_state_at_any_one_seq_is_the_fold(ingested: Ingested) -> None:
    for path, events in ingested.agents.items():
        expected = [{}, *naive(events)]
        for seq in range(0, len(expected), 5):
            assert ingested.system.state_at(path, seq=seq).memory == expected[seq], path


def test_every_message_was_set_by_the_event_that_brought_it(ingested: Ingested) -> None:
    for path, events in ingested.agents.items():
        at = len(events) - 2  # before it was cleared
        brought = [event.seq for event in events if event.type == "memory_appended"]
        found = ingested.system.blame(path, "messages", at, most=100_000)
        for leaf in found.leaves.values():
            position = int(leaf.path.split("/")[1])
            assert leaf.seq == brought[position], (path, leaf.path)
            assert leaf.command_id == f"{leaf.session_id}/message-{position + 1}"


def test_what_a_tool_said_is_found_from_the_message_that_has_it(ingested: Ingested) -> None:
    told = 0
    for path, events in ingested.agents.items():
        at = len(events) - 2
        messages: list[dict[str, Any]] = ingested.system.state_at(path, at).get("messages")
        for position, message in list(enumerate(messages))[:12]:
            if message["role"] != "tool":
                continue
            tool = ingested.system.blame(path, f"messages/{position}/role", at).tool
            assert tool is not None and tool.data["data"]["result"] == message["content"]
            told += 1
    assert told > 0


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_taken_elsewhere_and_verified_they_have_equal_digests(
    ingested: Ingested, kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    with AgentSystem.open(url, namespace=f"t{uuid4().hex}") as elsewhere:
        for path in ingested.agents:
            file = BytesIO()
            ingested.system.export_session(path, file)
            file.seek(0)
            elsewhere.import_session(file)
        assert elsewhere.verify().ok
        here = {entry.agent: (entry.head.seq, entry.head.digest, entry.status) for entry in ingested.system.agents()}
        there = {entry.agent: (entry.head.seq, entry.head.digest, entry.status) for entry in elsewhere.agents()}
        assert there == here
        for path, events in ingested.agents.items():
            assert list(elsewhere.events(path)) == events
        ids = {episode.id for episode in ingested.system.episodes.list()}
        assert {episode.id for episode in elsewhere.episodes.list()} == ids
        assert len(ids) == len(ingested.agents)


def test_all_recorded_sessions_are_whole(ingested: Ingested) -> None:
    report = ingested.system.verify()
    assert report.ok and report.events == sum(map(len, ingested.agents.values()))
    assert json.loads(json.dumps(report.as_data()))["problems"] == []


# -- another course ----------------------------------------------------------------------------------------------------


def stored(system: AgentSystem, agents: Iterable[str]) -> dict[str, tuple[Any, list[bytes], list[str]]]:
    """All that is stored of agents: head, items, and their line in the directory."""
    status = {entry.agent: entry.status for entry in system.agents()}
    found: dict[str, tuple[Any, list[bytes], list[str]]] = {}
    for path in agents:
        page = system.log.read(path, 1, 1_000_000)
        assert page is not None
        found[path] = (page.head, list(page.items), [str(status[path])])
    return found


@pytest.fixture(params=["memory", "valkey", "redis"])
def elsewhere(ingested: Ingested, request: pytest.FixtureRequest) -> Iterator[AgentSystem]:
    """The same sessions in a place of their own, where something may be done with them."""
    place: dict[str, Any] = {"url": "memory://"}
    if request.param != "memory":
        place = {"url": request.getfixturevalue(f"{request.param}_url"), "namespace": f"t{uuid4().hex}"}
    with AgentSystem.open(**place) as system:
        for path in ingested.agents:
            file = BytesIO()
            ingested.system.export_session(path, file)
            file.seek(0)
            system.import_session(file)
        yield system


def test_forked_at_their_middle_they_go_on_and_the_parents_stay_what_they_were(
    ingested: Ingested, elsewhere: AgentSystem
) -> None:
    before = stored(elsewhere, ingested.agents)
    for number, (path, events) in enumerate(ingested.agents.items()):
        expected, middle = [{}, *naive(events)], len(events) // 2
        fork = elsewhere.fork(path, middle, to=f"forked/session-{number}")
        assert fork.get() == expected[middle], path
        for event in events[middle:]:  # what its origin went through, once more
            if event.type == "memory_appended":
                for value in event.data["values"]:
                    fork.append(event.data["path"], value)
        assert fork.get() == expected[-2], path
        fork.append("messages", {"role": "user", "content": "and something else"})
        fork.terminate(task_description="another course")
        forked = elsewhere.log.head(f"forked/session-{number}")
        assert forked is not None and forked.base == middle < forked.seq
        shared = elsewhere.diff(path, middle, middle, other=f"forked/session-{number}")
        assert not shared.memory and not shared.custom, path
    assert stored(elsewhere, ingested.agents) == before
    assert elsewhere.verify().ok
    for path, events in ingested.agents.items():
        assert list(elsewhere.events(path)) == events


def test_what_happens_to_a_parent_would_be_seen(ingested: Ingested, elsewhere: AgentSystem) -> None:
    """Control: were the parents touched, the comparison above would say so."""
    path = next(iter(ingested.agents))
    before = stored(elsewhere, ingested.agents)
    elsewhere.spawn(path)
    after = stored(elsewhere, ingested.agents)
    assert [each for each in before if before[each] != after[each]] == [path]
