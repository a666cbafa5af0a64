"""A fork goes on from any moment of another agent's past, and neither can hurt the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.events import (
    AgentExists,
    AgentNotFound,
    AgentNotRunning,
    EventRegistry,
    InvalidMessage,
    InvalidPath,
    Trimmed,
    event_type,
)
from duramen.events.log.records import Base
from duramen.projections import MISSING
from duramen.projections.recovery import AgentLog, state_for_base
from duramen.projections.recovery.trim_base import pack_base

OpenSystem = Callable[..., AgentSystem]
REGISTRY = EventRegistry()
ALICE, FORK = "acme/alice", "acme/fork"


@event_type("noted", registry=REGISTRY)
@frozen
class Noted:
    n: int


class Noter(Agent):
    def initial(self) -> Any:
        return []

    def apply(self, state: Any, event: Any) -> Any:
        return [*state, event.n]

    def on_receive(self, message: Any) -> None:
        self.emit(Noted(message))
        self.append("notes", message)


@pytest.fixture
def system(open_any: OpenSystem) -> AgentSystem:
    """An agent with ten notes: the state at seq 1 + 2n has n of them."""
    found = open_any(agents={"noter": Noter}, registry=REGISTRY)
    agent = found.spawn(ALICE, session_id="s-1", agent_type="noter", initial_state={"goal": "x"})
    for number in range(10):
        agent.ask(number, command_id=f"c-{number}")
    return found


def trimmed(system: AgentSystem, path: str, to_seq: int) -> None:
    agent_log = AgentLog(system.log, path, system._limits, REGISTRY)
    base = state_for_base(agent_log, to_seq=to_seq, fold_of=system._fold_of())
    system.log.trim(path, Base(to_seq, base.state.digest), pack_base(agent_log, base))


def head(system: AgentSystem, path: str) -> tuple[int, int, bytes]:
    found = system.log.head(path)
    assert found is not None
    return found.seq, found.base, found.digest


@pytest.mark.parametrize("at", range(1, 22))
def test_a_fork_at_any_seq_has_the_state_of_that_seq_and_goes_on(system: AgentSystem, at: int) -> None:
    before = head(system, ALICE)
    expected = system.state_at(ALICE, at)
    fork = system.fork(ALICE, at, to=FORK)
    assert fork.get() == expected.get()
    assert fork.status().status == "running" and fork.status().session_id != "s-1"
    assert head(system, FORK)[:2] == (at + 1, at)
    fork.ask(100)
    assert system.state_at(FORK).custom == [*expected.custom, 100]
    assert fork.get("notes") == [*expected.get("notes", []), 100]
    assert fork.set("goal", "y").seq == at + 4
    assert head(system, ALICE) == before and system.agent(ALICE).get("goal") == "x"
    assert system.verify().ok


def test_a_fork_is_found_again_by_another_process(open_any: OpenSystem) -> None:
    options: dict[str, Any] = {"agents": {"noter": Noter}, "registry": REGISTRY}
    first = open_any(**options)
    agent = first.spawn(ALICE, agent_type="noter")
    agent.ask(1)
    first.fork(ALICE, to=FORK).ask(2)
    second = open_any(**options)
    assert second.agent(FORK).get("notes") == [1, 2]
    second.agent(FORK).ask(3)
    assert second.state_at(FORK).custom == [1, 2, 3]
    assert first.agent(FORK).get("notes") == [1, 2, 3]


def test_the_first_event_says_where_it_comes_from(system: AgentSystem) -> None:
    system.fork(ALICE, 5, to=FORK, session_id="s-2")
    (event,) = system.events(FORK, from_seq=6)
    digest = list(system.events(ALICE))[4].digest
    assert (event.type, event.seq, event.session_id) == ("forked", 6, "s-2")
    assert (event.data["origin"], event.data["origin_seq"], event.data["origin_digest"]) == (ALICE, 5, digest)
    origin = system.origin(FORK)
    assert origin is not None and (origin.agent, origin.seq, origin.digest) == (ALICE, 5, digest)
    assert system.origin(ALICE) is None
    with pytest.raises(AgentNotFound):
        system.origin("acme/nobody")


def test_moments_are_named_as_everywhere(system: AgentSystem) -> None:
    agent = system.agent(ALICE)
    agent.pause("lunch")
    agent.resume("lunch")
    agent.set("goal", "y")
    assert system.fork(ALICE, "lunch", to="acme/f1").get("goal") == "x"
    assert system.fork(ALICE, "lunch", to="acme/f2").status().status == "running"
    assert system.fork(ALICE, datetime.now(UTC), to="acme/f3").get("goal") == "y"
    assert system.fork(ALICE, to="acme/f4").get("goal") == "y"
    for wrong in (-1, 1_000, True):
        with pytest.raises(InvalidMessage):
            system.fork(ALICE, wrong, to=FORK)


def test_what_is_not_there_cannot_be_forked_nor_what_is_be_forked_to(system: AgentSystem) -> None:
    before = head(system, ALICE)
    with pytest.raises(AgentNotFound):
        system.fork("acme/nobody", to=FORK)
    with pytest.raises(AgentNotFound):
        system.fork(ALICE, 0, to=FORK)
    with pytest.raises(AgentExists):
        system.fork(ALICE, 3, to=ALICE)
    with pytest.raises(InvalidPath):
        system.fork(ALICE, 3, to="nowhere")
    system.fork(ALICE, 3, to=FORK)
    kept = head(system, FORK)
    with pytest.raises(AgentExists) as caught:
        system.fork(ALICE, 4, to=FORK)
    assert caught.value.agent == FORK
    assert (head(system, FORK), head(system, ALICE)) == (kept, before)


def test_the_origin_may_be_trimmed_and_ended(system: AgentSystem) -> None:
    fork = system.fork(ALICE, 11, to=FORK)
    expected = system.state_at(FORK)
    assert system.state_at(FORK, 5).get("notes") == [0, 1], "its origin still has that"
    assert system.state_at(FORK, 5).agent == FORK
    trimmed(system, ALICE, 15)
    system.agent(ALICE).terminate()
    assert system.state_at(FORK) == expected
    with pytest.raises(Trimmed):
        system.state_at(FORK, 5)
    fork.ask(7)
    assert fork.get("notes") == [0, 1, 2, 3, 4, 7] and system.verify().ok
    assert system.fork(ALICE, 17, to="acme/f2").get("notes") == list(range(8))
    with pytest.raises(Trimmed):
        system.fork(ALICE, 14, to="acme/f3")


def test_the_history_of_a_property_goes_through_forks_to_where_it_was_first_set(system: AgentSystem) -> None:
    mine = [(change.event.agent, change.event.seq, change.new) for change in system.history(ALICE, "notes")]
    fork = system.fork(ALICE, 11, to=FORK)
    fork.ask(50)
    again = system.fork(FORK, to="acme/again")
    again.delete("notes")
    shared = [change for change in mine if change[1] <= 11]
    assert len(shared) >= 2
    theirs = [(FORK, seq, value) for (agent, seq, value) in history(system, FORK) if agent == FORK]
    assert [value for _, _, value in theirs] == [[0, 1, 2, 3, 4, 50]]
    assert history(system, FORK) == shared + theirs
    assert history(system, "acme/again") == [*shared, *theirs, ("acme/again", again.status().seq, MISSING)]
    olds = [change.old for change in system.history("acme/again", "notes")]
    assert olds == [MISSING, *(value for _, _, value in [*shared, *theirs])]
    assert run_history(system, "acme/again") == history(system, "acme/again")

    trimmed(system, ALICE, 15)
    assert history(system, FORK) == theirs, "its origin has lost the event that it continues"


def history(system: AgentSystem, path: str) -> list[tuple[str, int, Any]]:
    return [(change.event.agent, change.event.seq, change.new) for change in system.history(path, "notes")]


def run_history(system: AgentSystem, path: str) -> list[tuple[str, int, Any]]:
    async def gather() -> list[tuple[str, int, Any]]:
        return [(event.agent, event.seq, new) async for event, _, new in system.aio.history(path, "notes")]

    return asyncio.run(gather())


def test_an_origin_with_another_history_is_not_taken_for_it(system: AgentSystem) -> None:
    system.fork(ALICE, 11, to=FORK)
    other = system.spawn("acme/other")
    for number in range(20):
        other.set("n", number)
    log: Any = system.log
    real = log.read

    def elsewhere(agent: str, *arguments: Any) -> Any:
        return real("acme/other" if agent == ALICE else agent, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "read", elsewhere)
        with pytest.raises(Trimmed):
            system.state_at(FORK, 5)


def test_a_fork_can_be_forked_paused_resumed_ended_and_carried(system: AgentSystem) -> None:
    fork = system.fork(ALICE, 11, to=FORK)
    fork.ask(50)
    again = system.fork(FORK, 13, to="acme/again")
    assert again.get("notes") == [0, 1, 2, 3, 4, 50][: len(again.get("notes"))]
    assert system.state_at("acme/again", 3).get("notes") == [0], "through both"
    assert fork.pause("stop").success and fork.resume("stop").success
    file = BytesIO()
    system.export_session(FORK, file)
    file.seek(0)
    system.import_session(file, "acme/carried")
    assert system.agent("acme/carried").get() == fork.get()
    origin = system.origin("acme/carried")
    assert origin is not None and origin.agent == ALICE
    result = fork.terminate(task_description="forked")
    assert result.success
    (episode,) = system.episodes.list(agent=FORK)
    assert episode.first_seq == 12, "its session began with the fork"
    assert system.verify().ok


def test_command_ids_of_the_shared_past_are_known(system: AgentSystem) -> None:
    fork = system.fork(ALICE, 11, to=FORK)
    seq = fork.status().seq
    receipt = fork.set("a", 1, command_id="new")
    assert fork.set("a", 1, command_id="new") == receipt and receipt.seq == seq + 1


def test_checkpoints_of_the_origin_are_not_the_forks(system: AgentSystem) -> None:
    agent = system.agent(ALICE)
    agent.pause("lunch")
    agent.resume("lunch")
    fork = system.fork(ALICE, to=FORK)
    assert fork.checkpoints() == []
    result = fork.resume("lunch")
    assert not result.success
    fork.pause("lunch")
    assert [checkpoint.checkpoint_id for checkpoint in agent.checkpoints()] == ["lunch"]


def test_what_had_ended_by_then_has_to_be_spawned(system: AgentSystem) -> None:
    agent = system.agent(ALICE)
    agent.terminate()
    fork = system.fork(ALICE, to=FORK)
    with pytest.raises(AgentNotRunning):
        fork.set("a", 1)
    system.spawn(FORK, session_id="s-9").set("a", 1)
    assert fork.get() == {"a": 1}


def test_a_tree_is_forked_as_it_was_together(system: AgentSystem) -> None:
    root = system.agent(ALICE)
    child = root.spawn_child("child", initial_state={"n": 0})
    child.spawn_child("deep", initial_state={"n": 0})
    at = root.status().seq
    root.set("mark", 1)
    child.set("n", 1)
    root.spawn_child("late")
    fork = system.fork(ALICE, at + 1, to="other/root", tree=True)
    found = {
        entry.agent: system.agent(entry.agent).get("n", None) for entry in system.agents() if "other" in entry.agent
    }
    assert found == {"other/root": None, "other/root/child": 0, "other/root/child/deep": 0}
    assert system.peek("other/root").children == {"other/root/child": False}
    assert system.peek("other/root/child").parent == "other/root"
    assert system.peek("other/root/child").children == {"other/root/child/deep": False}
    assert fork.pause("all", cascade=True).success
    assert system.agent("other/root/child/deep").status().status == "paused"
    assert child.status().status == "running"
    now = system.fork(ALICE, to="other/now", tree=True)
    assert set(system.tree_at(str(now.path))) == {
        "other/now",
        "other/now/child",
        "other/now/child/deep",
        "other/now/late",
    }
    alone = system.fork(ALICE, to="other/alone")
    assert system.peek(str(alone.path)).children == {}
    system.spawn("other/taken/child")
    with pytest.raises(AgentExists):
        system.fork(ALICE, to="other/taken", tree=True)
    assert system.log.head("other/taken") is None, "all, or none"
    assert system.verify().ok


def test_who_follows_the_feed_hears_of_a_fork(system: AgentSystem) -> None:
    system.fork(ALICE, 5, to=FORK)
    partition = system.log.partition_of(FORK)
    entry = system.log.feed_page(partition, 0, 100).entries[-1]
    assert (entry.agent, entry.first_seq, entry.count, entry.levels) == (FORK, 6, 1, 2)
    assert [e.status for e in system.agents() if e.agent == FORK] == ["running"]


@pytest.mark.slow
def test_a_fork_reads_no_more_however_long_the_past_is(open_system: OpenSystem) -> None:
    from duramen.actors import Settings
    from duramen.projections.recovery.keyframes import keep_keyframes

    system = open_system(settings=Settings(snapshot_every=10**9))
    agent = system.spawn(ALICE)
    for number in range(4_000):
        agent.set("n", number)
    list(keep_keyframes(system._agent_log(ALICE), None))
    log: Any = system.log
    looked: list[int] = []
    real = log.pages

    def pages(agent: str, from_seq: int, to_seq: int | None) -> Any:
        if agent == ALICE:
            looked.append((to_seq or 0) - from_seq + 1)
        return real(agent, from_seq, to_seq)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "pages", pages)
        assert system.fork(ALICE, 3_900, to=FORK).get("n") == 3_898
    assert sum(looked) <= 1_000
