"""Spawn, pause, resume, terminate: given a state, when a command comes, then these events, or none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis

from duramen.actors import (
    AgentHandle,
    AgentSystem,
    Append,
    Batch,
    Checkpoint,
    Delete,
    Get,
    GetStatus,
    Keys,
    LifecycleResult,
    ListCheckpoints,
    Merge,
    Outcome,
    Pause,
    Record,
    Resume,
    Set,
    SetGranularity,
    Spawn,
    Terminate,
)
from duramen.actors.dispatch import Envelope
from duramen.actors.runtime.active.stash import Stash
from duramen.events import (
    AgentAlreadyRunning,
    AgentNotFound,
    AgentNotRunning,
    AgentPaused,
    CheckpointNotFound,
    DuramenError,
    Granularity,
    InvalidMessage,
    Limits,
    MailboxFull,
    MemoryLog,
    PathNotFound,
    TooLarge,
    ValueRefused,
)
from duramen.events.model.values import same_value
from duramen.events.redis.log import RedisLog
from duramen.projections import WorkingMemory, fold
from duramen.projections.recovery import AgentLog, rebuild
from naming import shown
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"
LIFECYCLE = {"spawned", "paused", "resumed", "terminated"}


def types(system: AgentSystem, after: int = 0) -> list[str]:
    return [event.type for event in system.events(PATH, from_seq=after + 1)]


def seq(system: AgentSystem) -> int:
    head = system.log.head(PATH)
    return head.seq if head else 0


def replayed(system: AgentSystem) -> dict[str, Any]:
    """Working memory by full replay, without any snapshot."""
    return rebuild(AgentLog(system.log, PATH, Limits()), use_snapshot=False).state.memory


# -- spawn -------------------------------------------------------------------------------------------------------------


def test_spawn_starts_a_session(any_system: AgentSystem) -> None:
    result = any_system.agent(PATH).ask(
        Spawn(session_id="s-1", agent_type="researcher", initial_state={"goal": "g", "n": None}, metadata={"team": 7})
    )
    assert result.success
    assert result.event_type == "spawn"
    assert result.data == {"session_id": "s-1", "initial_items": 2, "seq": 1}
    assert result.duration_ms > 0
    assert result.raise_for_failure() is result
    [event] = any_system.events(PATH)
    assert (event.type, event.seq, event.session_id, event.granularity) == ("spawned", 1, "s-1", Granularity.LIFECYCLE)
    status = any_system.agent(PATH).status()
    assert (status.status, status.agent_type, status.session_id, status.seq) == ("running", "researcher", "s-1", 1)
    assert status.metadata == {"team": 7}
    assert status.digest == event.digest
    assert any_system.agent(PATH).get() == {"goal": "g", "n": None}


def test_spawn_makes_up_a_session_id(system: AgentSystem) -> None:
    first = system.agent("acme/a").ask(Spawn()).data["session_id"]
    second = system.agent("acme/b").ask(Spawn()).data["session_id"]
    assert UUID(first) != UUID(second)


def test_spawn_takes_what_an_agent_platform_has(system: AgentSystem) -> None:
    project, instance, session, kind = uuid4(), uuid4(), uuid4(), uuid4()
    agent = system.spawn(project_id=project, agent_instance_id=instance, session_id=session, agent_type=kind)
    assert str(agent.path) == f"{project}/{instance}"
    assert (agent.status().session_id, agent.status().agent_type) == (str(session), str(kind))
    assert system.agent(project_id=str(project), agent_instance_id=str(instance)).status() == agent.status()


def test_spawning_a_running_agent_says_no_and_changes_nothing(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"a": 1})
    result = agent.ask(Spawn(session_id="other", initial_state={"a": 2}))
    assert not result.success
    assert result.event_type == "spawn"
    assert result.data == {}
    with pytest.raises(AgentAlreadyRunning) as caught:
        result.raise_for_failure()
    assert caught.value.agent == PATH
    with pytest.raises(AgentAlreadyRunning):
        any_system.spawn(PATH)
    assert types(any_system) == ["spawned"]
    assert agent.get() == {"a": 1}


def test_a_child_knows_its_parent_and_stands_below_it(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    child = agent.spawn_child("helper", initial_state={"a": 1})
    assert str(child.path) == f"{PATH}/helper"
    assert any_system.peek(f"{PATH}/helper").parent == PATH
    assert sorted(entry.agent for entry in any_system.agents()) == [PATH, f"{PATH}/helper"]
    assert agent.get() == {}


# -- pause -------------------------------------------------------------------------------------------------------------


def test_pause_keeps_a_checkpoint(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"a": 1, "b": None})
    before = datetime.now(UTC)
    result = agent.pause("lunch", metadata={"why": "hungry"}, reason="noon")
    assert result.success
    assert result.event_type == "pause"
    assert set(result.data) == {"checkpoint_id", "items_saved", "timestamp", "seq"}
    assert (result.data["checkpoint_id"], result.data["items_saved"], result.data["seq"]) == ("lunch", 2, 2)
    [checkpoint] = agent.checkpoints()
    assert checkpoint == Checkpoint(
        checkpoint_id="lunch",
        timestamp=result.data["timestamp"],
        keys_count=2,
        seq=2,
        expires_at=checkpoint.expires_at,
        metadata={"why": "hungry"},
    )
    assert before - timedelta(seconds=1) <= checkpoint.timestamp <= datetime.now(UTC)
    assert checkpoint.expires_at == checkpoint.timestamp + timedelta(days=7)
    assert types(any_system) == ["spawned", "paused"]
    assert agent.status().status == "paused"


def test_a_paused_agent_refuses_mutations_and_answers_reads(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"a": {"b": 1}})
    agent.pause("p")
    for message in (Set("a", 2), Delete("a"), Append("l", 1), Merge("a", {}), Record("note"), Batch([Set("a", 1)])):
        with pytest.raises(AgentPaused) as caught:
            agent.ask(message)
        assert caught.value.agent == PATH
    with pytest.raises(AgentPaused):
        agent.set_granularity(Granularity.TRACE)
    assert agent.get("a/b") == 1
    assert agent.keys("a") == ["b"]
    assert agent.get("missing", "default") == "default"
    assert types(any_system) == ["spawned", "paused"]


def test_two_checkpoints_within_a_second_are_two_and_differ(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn(PATH, initial_state={"n": 1})
    first = agent.pause().data["checkpoint_id"]
    agent.resume()
    agent.set("n", 2)
    second = agent.pause().data["checkpoint_id"]
    agent.resume()
    assert first != second
    assert [found.checkpoint_id for found in agent.checkpoints()] == [second, first]
    times = [found.timestamp for found in agent.checkpoints()]
    assert times == sorted(times, reverse=True)
    agent.resume(first)
    assert agent.get() == {"n": 1}
    agent.resume(second)
    assert agent.get() == {"n": 2}
    assert replayed(system) == {"n": 2}


@pytest.mark.parametrize("name", ["__checkpoint__x", "x", "a b/c*?[]\\", "日本", "x" * 200, "0", "None", "{tag}", "%s"])
def test_a_checkpoint_can_have_any_printable_name(any_system: AgentSystem, name: str) -> None:
    agent = any_system.spawn(PATH, initial_state={"__checkpoint__x": None, "__checkpoint__": {"x": None}, "n": 1})
    agent.pause(name)
    agent.resume(name)
    agent.delete("n")
    agent.set("__checkpoint__x", 5)
    assert agent.resume(name).data["items_restored"] == 3
    assert agent.get() == {"__checkpoint__x": None, "__checkpoint__": {"x": None}, "n": 1}
    assert [found.checkpoint_id for found in agent.checkpoints()] == [name]


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\x00", "\x7f", "\u202e", "\ud800"])
def test_a_checkpoint_cannot_have_another_name(system: AgentSystem, name: str) -> None:
    agent = system.spawn(PATH)
    with pytest.raises(InvalidMessage):
        agent.pause(name)
    assert types(system) == ["spawned"]
    assert agent.status().status == "running"


def test_a_name_used_again_is_the_newer_checkpoint(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"n": 1})
    for number in (1, 2):
        agent.set("n", number)
        agent.pause("same", metadata={"n": number})
        agent.resume("same")
    agent.set("n", 3)
    assert [(found.checkpoint_id, found.metadata) for found in agent.checkpoints()] == [("same", {"n": 2})]
    agent.resume("same")
    assert agent.get("n") == 2


@pytest.mark.parametrize(
    "ttl", [timedelta(0), timedelta(seconds=-1), timedelta(days=40_000), "1", 0.5, float("nan"), float("inf"), True]
)
def test_a_time_to_live_that_is_none_is_refused(system: AgentSystem, ttl: Any) -> None:
    agent = system.spawn(PATH)
    with pytest.raises(InvalidMessage):
        agent.ask(Pause(ttl=ttl), timeout=2)
    assert agent.ask(Get(), timeout=2) == {}
    assert types(system) == ["spawned"]


# -- checkpoints that expire -------------------------------------------------------------------------------------------


class Clock:
    """Of the log: it decides what has expired."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ticking(clock: Clock) -> Any:
    """A system whose log has a clock of its own."""
    with AgentSystem.open(log=MemoryLog(clock=clock)) as system:
        yield system


def test_an_expired_checkpoint_is_gone_by_id(ticking: AgentSystem, clock: Clock) -> None:
    agent = ticking.spawn(PATH, initial_state={"n": 1})
    agent.pause("short", ttl=timedelta(seconds=1))
    agent.resume("short")
    agent.set("n", 2)
    clock.now += 2
    before = seq(ticking)
    result = agent.resume("short")
    assert not result.success
    with pytest.raises(CheckpointNotFound):
        result.raise_for_failure()
    assert agent.checkpoints() == []
    assert agent.get() == {"n": 2}
    assert seq(ticking) == before


def test_one_that_never_expires_stays(ticking: AgentSystem, clock: Clock) -> None:
    agent = ticking.spawn(PATH, initial_state={"n": 1})
    agent.pause("kept", ttl=None)
    agent.resume("kept")
    agent.set("n", 2)
    clock.now += 10 * 365 * 86_400
    assert agent.checkpoints()[0].expires_at is None
    assert agent.resume("kept").success
    assert agent.get() == {"n": 1}


def test_seven_days_are_the_default(ticking: AgentSystem, clock: Clock) -> None:
    agent = ticking.spawn(PATH)
    agent.pause("week")
    agent.resume("week")
    clock.now += 7 * 86_400 - 10
    assert [found.checkpoint_id for found in agent.checkpoints()] == ["week"]
    clock.now += 20
    assert agent.checkpoints() == []


@pytest.mark.parametrize("older", [False, True], ids=["alone", "behind-an-older-one"])
def test_an_agent_whose_checkpoint_expired_while_it_was_paused_goes_on_as_it_was(
    ticking: AgentSystem, clock: Clock, older: bool
) -> None:
    agent = ticking.spawn(PATH, initial_state={"n": 1})
    if older:
        agent.pause("older", ttl=None)
        agent.resume("older")
    agent.set("n", 2)
    agent.pause("short", ttl=timedelta(seconds=1))
    clock.now += 2
    by_id = agent.resume("short")
    assert not by_id.success
    assert agent.status().status == "paused"

    latest = agent.resume()

    assert latest.success
    assert agent.status().status == "running"
    assert agent.get() == {"n": 2}
    assert replayed(ticking) == {"n": 2}
    agent.set("n", 3)


@pytest.mark.slow
def test_a_checkpoint_expires_on_a_server(open_server: OpenSystem) -> None:
    system = open_server()
    agent = system.spawn(PATH, initial_state={"n": 1})
    agent.pause("short", ttl=timedelta(seconds=1))
    agent.resume("short")
    agent.pause("long")
    agent.resume("long")
    agent.set("n", 2)
    eventually(lambda: [found.checkpoint_id for found in agent.checkpoints()] == ["long"], 5)
    assert not agent.resume("short").success
    assert agent.get() == {"n": 2}
    assert agent.resume().data["checkpoint_id"] == "long"


# -- resume ------------------------------------------------------------------------------------------------------------


NESTED = {"plan": {"steps": ["a", {"b": [1, 2]}], "done": False}, "none": None, "n": 1, "bytes": b"x", "f": 1.0}


def changed(system: AgentSystem) -> AgentHandle:
    """An agent that has gone a good way from its checkpoint."""
    agent = system.spawn(PATH, initial_state=NESTED)
    agent.pause("start")
    agent.resume("start")
    agent.append("plan/steps", "c")
    agent.set("plan/steps/1/b/0", 99)
    agent.set("plan/done", 0)
    agent.set("n", True)
    agent.set("f", 1)
    agent.delete("none")
    agent.set("new", {"x": 1})
    return agent


def test_resume_makes_state_equal_the_checkpoint(open_any: OpenSystem) -> None:
    system = open_any()
    agent = changed(system)
    head = seq(system)
    result = agent.resume("start", clear_current=True)
    assert result.success
    assert result.event_type == "resume"
    assert set(result.data) == {"checkpoint_id", "items_restored", "checkpoint_timestamp", "seq"}
    assert result.data["checkpoint_id"] == "start"
    assert result.data["items_restored"] == 5
    assert result.data["checkpoint_timestamp"] == agent.checkpoints()[0].timestamp
    assert result.data["seq"] == seq(system)
    assert same_value(agent.get(), NESTED)
    assert types(system, head) == ["memory_restored", "resumed"]
    assert same_value(replayed(system), NESTED)
    assert same_value(open_any().agent(PATH).get(), NESTED)


def test_resume_can_lay_the_checkpoint_over_what_is_there(open_any: OpenSystem) -> None:
    system = open_any()
    agent = changed(system)
    agent.resume("start", clear_current=False)
    expected = {**NESTED, "new": {"x": 1}}
    assert same_value(agent.get(), expected)
    assert same_value(replayed(system), expected)
    assert same_value(open_any().agent(PATH).get(), expected)
    assert same_value(fold(WorkingMemory(), system.events(PATH)).memory, expected)


def test_a_resume_writes_what_changes_and_not_the_whole(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"big": ["x" * 1_000] * 100, "n": 1})
    agent.pause("p")
    agent.resume("p")
    agent.set("n", 2)
    head = seq(system)
    agent.resume("p")
    [restored, _] = system.events(PATH, from_seq=head + 1)
    assert restored.data == {"ops": [["set", ["n"], 1]]}


def test_resuming_where_nothing_changed_is_an_event_all_the_same(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"n": 1})
    agent.pause("p")
    assert agent.resume("p").success
    assert agent.resume("p").success
    assert types(system) == ["spawned", "paused", "resumed", "resumed"]


def test_resume_takes_the_latest_checkpoint_unless_told_which(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"n": 0})
    for number in (1, 2, 3):
        agent.set("n", number)
        agent.pause(f"c{number}")
        agent.resume()
    agent.set("n", 4)
    assert agent.resume().data["checkpoint_id"] == "c3"
    assert agent.get("n") == 3
    assert agent.resume("c1").data["checkpoint_id"] == "c1"
    assert agent.get("n") == 1
    assert agent.resume().data["checkpoint_id"] == "c3"


def test_an_unknown_checkpoint_says_no_and_changes_nothing(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"n": 1})
    for wanted in ("nope", None):
        result = agent.resume(wanted)
        assert not result.success
        assert result.event_type == "resume"
        with pytest.raises(CheckpointNotFound):
            result.raise_for_failure()
    agent.pause("there")
    assert not agent.resume("nope").success
    assert agent.status().status == "paused"
    assert types(any_system) == ["spawned", "paused"]


def test_a_checkpoint_of_another_agent_is_not_found(any_system: AgentSystem) -> None:
    any_system.spawn("acme/bob").pause("his")
    assert not any_system.spawn(PATH).resume("his").success


@pytest.mark.parametrize("wrong", [object(), "no", None, 1])
def test_a_resume_that_is_refused_restores_nothing(open_system: OpenSystem, wrong: Any) -> None:
    system = open_system()
    agent = changed(system)
    before, head = agent.get(), seq(system)
    with pytest.raises((InvalidMessage, ValueRefused)):
        agent.ask(Resume(checkpoint_id="start", clear_current=wrong))
    assert same_value(agent.get(), before)
    assert seq(system) == head
    assert same_value(replayed(system), before)


def test_the_largest_value_can_be_restored(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    size = 256 * 1024
    while True:
        size -= 1
        try:
            agent.ask(Set("text", "x" * size), block=False).get(timeout=30)
            break
        except TooLarge:
            assert size > 255 * 1024
    agent.append("list", "y" * (size - 20))
    agent.pause("p")
    agent.resume("p")
    agent.delete("text")
    agent.delete("list")
    agent.set("other", 1)
    assert agent.resume("p").success
    assert agent.keys() == ["text", "list"]
    assert len(agent.get("text")) == size


def test_a_large_state_is_restored_in_one_atomic_append(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    for number in range(10):
        agent.set(f"part{number}", ["x" * 1_000] * 200)
    agent.pause("full")
    agent.resume("full")
    for number in range(10):
        agent.delete(f"part{number}")
    head = seq(any_system)
    agent.resume("full")
    assert len(agent.keys()) == 10
    added = types(any_system, head)
    assert added == ["memory_restored"] * (len(added) - 1) + ["resumed"]
    assert len(added) > 2
    entries = any_system.log.feed_page(any_system.log.partition_of(PATH), 0, 100).entries
    assert (entries[-1].first_seq, entries[-1].count) == (head + 1, len(added))


# -- copies that cannot be believed ------------------------------------------------------------------------------------


def store(system: AgentSystem, key: str, value: bytes) -> None:
    """Put bytes in the place of a checkpoint, behind the library's back."""
    log = system.log
    if isinstance(log, MemoryLog):
        log._storage.values[key] = (value, float("inf"))
    else:
        assert isinstance(log, RedisLog)
        redis.Redis(connection_pool=log._server.pool).set(key, value)


@pytest.mark.parametrize("damage", ["cut", "flipped", "another-agents", "another-seq", "empty", "garbage"])
def test_a_damaged_checkpoint_falls_back_to_the_log(any_system: AgentSystem, damage: str) -> None:
    agent = any_system.spawn(PATH, initial_state={"n": 1, "l": [1]})
    other = any_system.spawn("acme/bob", initial_state={"his": 1})
    other.pause("p")
    agent.pause("p")
    agent.resume("p")
    agent.set("n", 2)
    agent.pause("later")
    agent.resume("later")
    log = any_system.log
    key = log.checkpoint_key(PATH, "p")
    [whole] = log.load([key])
    assert whole
    store(
        any_system,
        key,
        {
            "cut": whole[:-3],
            "flipped": whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
            "another-agents": log.load([log.checkpoint_key("acme/bob", "p")])[0],
            "another-seq": log.load([log.checkpoint_key(PATH, "later")])[0],
            "empty": b"",
            "garbage": b"\xdd\xff\xff\xff\xff" * 100,
        }[damage]
        or b"",
    )
    agent.set("n", 3)
    result = agent.resume("p")
    assert result.success
    assert agent.get() == {"n": 1, "l": [1]}
    assert replayed(any_system) == {"n": 1, "l": [1]}


# -- stash -------------------------------------------------------------------------------------------------------------


def test_a_stash_keeps_mutations_in_order_until_the_resume(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"l": []})
    agent.pause("p", when_paused="stash")
    replies = [agent.ask(Append("l", number), block=False) for number in range(20)]
    assert agent.get("l") == []
    assert not any(reply.done for reply in replies)
    agent.resume("p")
    last = agent.ask(Append("l", 20))
    assert [reply.get(timeout=30).seq for reply in replies] == list(range(4, 24))
    assert last.seq == 24
    assert agent.get("l") == list(range(21))


def test_what_comes_while_the_message_before_it_is_stashed_is_stashed_too(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = system.spawn(PATH, initial_state={"l": []})
    agent.pause("p", when_paused="stash")
    add, later = Stash.add, list[Any]()

    def add_and_send(stash: Stash, envelope: Envelope) -> None:
        add(stash, envelope)
        if len(later) < 3:  # in the core, whose turn has counted the messages that it looks at
            later.append(agent.ask(Append("l", len(later) + 1), block=False))

    monkeypatch.setattr(Stash, "add", add_and_send)
    first = agent.ask(Append("l", 0), block=False)
    eventually(lambda: len(later) == 3)
    assert agent.get("l") == []
    agent.resume("p")
    assert [reply.get(timeout=10).seq for reply in (first, *later)] == [4, 5, 6, 7]
    assert agent.get("l") == [0, 1, 2, 3]


def test_a_stash_is_bounded(open_system: OpenSystem) -> None:
    system = open_system(limits=Limits(stash_messages=3))
    agent = system.spawn(PATH)
    agent.pause("p", when_paused="stash")
    replies = [agent.ask(Append("l", number), block=False) for number in range(5)]
    for reply in replies[3:]:
        with pytest.raises(MailboxFull):
            reply.get(timeout=30)
    agent.resume("p")
    for reply in replies[:3]:
        reply.get(timeout=30)
    assert agent.get("l") == [0, 1, 2]


def test_a_stash_is_refused_when_the_session_ends(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    agent.pause("p", when_paused="stash")
    reply = agent.ask(Set("a", 1), block=False)
    agent.terminate()
    with pytest.raises(AgentNotRunning):
        reply.get(timeout=30)
    assert "memory_set" not in types(system)


def test_a_stash_is_answered_when_the_system_closes(open_system: OpenSystem) -> None:
    system = open_system()
    agent = system.spawn(PATH)
    agent.pause("p", when_paused="stash")
    reply = agent.ask(Set("a", 1), block=False)
    agent.get()
    system.close()
    assert eventually(lambda: reply.done)
    with pytest.raises(DuramenError):
        reply.get(timeout=30)
    again = open_system()
    assert again.agent(PATH).status().status == "paused"
    assert again.agent(PATH).get() == {}


def test_a_stash_goes_with_the_agent_when_another_system_takes_it_over(open_system: OpenSystem) -> None:
    first, second = open_system(), open_system()
    agent = first.spawn(PATH)
    agent.pause("p", when_paused="stash")
    reply = agent.ask(Set("a", 1), block=False)
    agent.get()
    assert second.agent(PATH).get() == {}
    assert agent.get() == {}
    second.agent(PATH).resume("p")
    assert agent.get("b", None) is None
    reply.get(timeout=30)
    assert second.agent(PATH).get() == {"a": 1}


@pytest.mark.parametrize("wrong", ["drop", "", None, 1])
def test_another_way_to_be_paused_is_refused(system: AgentSystem, wrong: Any) -> None:
    agent = system.spawn(PATH)
    with pytest.raises(InvalidMessage):
        agent.pause("p", when_paused=wrong)
    assert types(system) == ["spawned"]


# -- terminate ---------------------------------------------------------------------------------------------------------


def test_terminate_keeps_the_session_as_an_episode_and_clears_memory(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, session_id="s-1", initial_state={"password": "hunter2", "n": {"deep": "hunter3"}})
    agent.record("tool_output", {"tool": "search", "result": "hunter4", "tokens_used": 5})
    agent.record("completion", {"usage": {"total_tokens": 7}, "text": "hunter5"})
    agent.record("tool_output", {"tool": "read"})
    agent.record("note", "no dict")
    result = agent.terminate(
        Outcome.PARTIAL,
        task_description="look it up",
        outcome_details={"score": 0.5},
        lessons_learned=["read first"],
    )
    assert result.success
    assert result.event_type == "terminate"
    assert set(result.data) == {"episode_id", "state_items_consolidated", "items_cleared", "outcome", "seq"}
    assert result.data["state_items_consolidated"] == 2
    assert result.data["items_cleared"] == 2
    assert result.data["outcome"] == "partial"
    assert result.data["seq"] == 7
    assert types(any_system)[-2:] == ["episode_recorded", "terminated"]

    [episode] = any_system.episodes.list()
    assert episode.id == result.data["episode_id"]
    assert (episode.project_id, episode.agent_instance_id, episode.session_id) == ("acme", "alice", "s-1")
    assert episode.task_type == "session_completion"
    assert episode.task_description == "look it up"
    assert episode.outcome == "partial"
    assert episode.outcome_details == {"score": 0.5}
    assert episode.actions == [{"tool": "search", "seq": 2}, {"tool": "read", "seq": 4}]
    assert episode.lessons_learned == ["read first"]
    assert episode.tokens_used == 12
    assert episode.importance_score == 0.6
    assert (episode.first_seq, episode.last_seq) == (1, 7)
    events = list(any_system.events(PATH))
    assert episode.duration_seconds == pytest.approx((events[-1].time - events[0].time).total_seconds(), abs=1e-6)
    assert episode.created_at == events[-1].time
    for secret in ("hunter2", "hunter3", "hunter4", "hunter5"):
        assert secret not in episode.context_summary
        assert secret not in episode.task_description
    assert "password" in episode.context_summary

    assert agent.get() == {}
    assert agent.status().status == "terminated"
    assert replayed(any_system) == {}


def test_an_episode_keeps_to_its_limits(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={f"key {number} " + "x" * 100: "v" for number in range(200)})
    agent.terminate(task_description="d" * 2_000)
    [episode] = system.episodes.list()
    assert len(episode.task_description) == 500
    assert 0 < len(episode.context_summary) <= 1_000

    agent = system.spawn(PATH)
    agent.terminate(context_summary="c" * 5_000, importance_score=1, task_description="d" * 500)
    [episode, _] = system.episodes.list()
    assert len(episode.context_summary) == 1_000
    assert episode.task_description == "d" * 500
    assert episode.importance_score == 1.0


def test_a_session_without_a_description_gets_one(system: AgentSystem) -> None:
    system.spawn(PATH, session_id="s-9").terminate()
    [episode] = system.episodes.list()
    assert "s-9" in episode.task_description


def test_an_episode_counts_its_own_session_only(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, session_id="s-1")
    agent.record("tool_output", {"tool": "one", "tokens_used": 100})
    agent.terminate()
    any_system.spawn(PATH, session_id="s-2")
    agent.record("tool_output", {"tool": "two", "tokens_used": 3})
    result = agent.terminate(Outcome.FAILURE)
    [second, first] = any_system.episodes.list()
    assert (first.session_id, second.session_id) == ("s-1", "s-2")
    assert (second.tokens_used, second.outcome) == (3, "failure")
    assert second.actions == [{"tool": "two", "seq": 6}]
    assert (second.first_seq, second.last_seq) == (5, 8)
    assert first.id != second.id == result.data["episode_id"]


def test_what_a_session_had_without_logging_it_is_not_in_its_episode(system: AgentSystem) -> None:
    agent = system.spawn(PATH, granularity=Granularity.STATE)
    agent.record("tool_output", {"tool": "unlogged", "tokens_used": 100})
    agent.terminate()
    [episode] = system.episodes.list()
    assert (episode.actions, episode.tokens_used) == ([], 0)


def test_terminating_again_with_the_same_command_id_is_one_episode(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    first = agent.terminate(command_id="end")
    second = agent.terminate(command_id="end")
    assert (second.success, second.data) == (True, first.data)
    assert len(any_system.episodes.list()) == 1
    assert types(any_system) == ["spawned", "episode_recorded", "terminated"]


def test_an_episode_can_be_left_out(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"n": 1})
    result = agent.terminate(consolidate_to_episodic=False)
    assert result.data["episode_id"] is None
    assert result.data["state_items_consolidated"] == 0
    assert result.data["items_cleared"] == 1
    assert any_system.episodes.list() == []
    assert types(any_system) == ["spawned", "terminated"]


def test_working_memory_can_be_kept(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn(PATH, initial_state={"n": 1, "m": 1})
    result = agent.terminate(cleanup_working=False)
    assert result.data["items_cleared"] == 0
    assert result.data["state_items_consolidated"] == 2
    assert agent.get() == {"n": 1, "m": 1}
    system.spawn(PATH, initial_state={"m": 2})
    assert agent.get() == {"n": 1, "m": 2}
    assert open_any().agent(PATH).get() == {"n": 1, "m": 2}


def test_spawning_again_is_a_new_session_on_the_same_log(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn(PATH, session_id="s-1", initial_state={"n": 1})
    agent.terminate()
    result = agent.ask(Spawn(initial_state={"m": 1}))
    assert result.data == {"session_id": result.data["session_id"], "initial_items": 1, "seq": 4}
    assert result.data["session_id"] != "s-1"
    agent.set("k", 1)
    events = list(system.events(PATH))
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.session_id for event in events[:3]] == ["s-1"] * 3
    assert events[4].session_id == result.data["session_id"]
    assert open_any().agent(PATH).get() == {"m": 1, "k": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        {"outcome": "fine"},
        {"outcome": None},
        {"importance_score": 1.1},
        {"importance_score": -0.1},
        {"importance_score": float("nan")},
        {"importance_score": "0.5"},
        {"importance_score": True},
        {"lessons_learned": "a text"},
        {"lessons_learned": [1]},
        {"lessons_learned": None},
        {"lessons_learned": 5},
        {"task_description": 5},
        {"context_summary": b"x"},
        {"outcome_details": {1, 2}},
        {"outcome_details": object()},
        {"reason": "a\nb"},
    ],
    ids=shown,
)
def test_terminate_refuses_what_it_cannot_keep(system: AgentSystem, arguments: dict[str, Any]) -> None:
    agent = system.spawn(PATH, initial_state={"n": 1})
    with pytest.raises((InvalidMessage, ValueRefused)):
        agent.ask(Terminate(**arguments), timeout=3)
    assert types(system) == ["spawned"]
    assert agent.status().status == "running"


# -- the table ---------------------------------------------------------------------------------------------------------

GIVEN = ("absent", "running", "paused", "terminated")

OK = "ok"
_ALIVE = {"absent": AgentNotFound, "terminated": AgentNotRunning}
_MUTATED = {**_ALIVE, "paused": AgentPaused}

WHEN: dict[str, Callable[[], Any]] = {
    "spawn": Spawn,
    "pause": Pause,
    "resume": Resume,
    "terminate": Terminate,
    "list_checkpoints": ListCheckpoints,
    "set": lambda: Set("n", 2),
    "delete": lambda: Delete("n"),
    "append": lambda: Append("l", 1),
    "merge": lambda: Merge("", {"n": 3}),
    "batch": lambda: Batch([Set("n", 2), Record("note")]),
    "record": lambda: Record("note", {"a": 1}),
    "get": Get,
    "keys": Keys,
    "status": GetStatus,
    "set_granularity": lambda: SetGranularity(level=Granularity.TRACE),
}

# (first time, second time) where they are not the same as for every other state.
THEN: dict[tuple[str, str], tuple[Any, Any]] = {
    ("absent", "spawn"): (OK, AgentAlreadyRunning),
    ("running", "spawn"): (AgentAlreadyRunning, AgentAlreadyRunning),
    ("paused", "spawn"): (AgentAlreadyRunning, AgentAlreadyRunning),
    ("terminated", "spawn"): (OK, AgentAlreadyRunning),
    ("running", "pause"): (OK, AgentPaused),
    ("paused", "pause"): (AgentPaused, AgentPaused),
    ("running", "resume"): (CheckpointNotFound, CheckpointNotFound),
    ("running", "terminate"): (OK, AgentNotRunning),
    ("paused", "terminate"): (OK, AgentNotRunning),
    ("running", "delete"): (OK, PathNotFound),
}


def then(given: str, when: str) -> tuple[Any, Any]:
    if (given, when) in THEN:
        return THEN[(given, when)]
    if when in ("list_checkpoints", "get", "keys", "status"):
        expected = _ALIVE[given] if given == "absent" else OK
    elif when in ("pause", "resume", "terminate"):
        expected = _ALIVE.get(given, OK)
    else:
        expected = _MUTATED.get(given, OK)
    return expected, expected


def bring(system: AgentSystem, path: str, given: str) -> AgentHandle:
    agent = system.agent(path)
    if given != "absent":
        system.spawn(path, initial_state={"n": 1})
    if given == "paused":
        agent.pause("p")
    if given == "terminated":
        agent.terminate()
    return agent


def outcome(agent: AgentHandle, message: Any) -> Any:
    try:
        result = agent.ask(message, timeout=10)
    except DuramenError as error:
        return type(error)
    if isinstance(result, LifecycleResult) and not result.success:
        assert result.data == {}
        assert result.message
        return type(result.error)
    return OK


def lifecycle_events(system: AgentSystem, path: str) -> int:
    if system.log.head(path) is None:
        return 0
    return sum(event.type in LIFECYCLE for event in system.events(path))


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("given", GIVEN)
def test_every_command_in_every_state_twice(system: AgentSystem, given: str, when: str) -> None:
    agent = bring(system, PATH, given)
    before = lifecycle_events(system, PATH)

    found = (outcome(agent, WHEN[when]()), outcome(agent, WHEN[when]()))

    assert found == then(given, when)
    transitions = found.count(OK) if when in ("spawn", "pause", "resume", "terminate") else 0
    assert lifecycle_events(system, PATH) == before + transitions


@pytest.mark.slow
def test_every_command_in_every_state_from_two_threads_at_once(any_system: AgentSystem) -> None:
    for given in GIVEN:
        for when, command in WHEN.items():
            path = f"{given}/{when.replace('_', '-')}"
            agent = bring(any_system, path, given)
            before = lifecycle_events(any_system, path)
            start = threading.Barrier(2)
            found: list[Any] = []

            def go(agent: AgentHandle = agent, command: Any = command, start: Any = start, found: Any = found) -> None:
                start.wait()
                found.append(outcome(agent, command()))

            threads = [threading.Thread(target=go) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)

            assert sorted(map(str, found)) == sorted(map(str, then(given, when))), (given, when)
            transitions = found.count(OK) if when in ("spawn", "pause", "resume", "terminate") else 0
            assert lifecycle_events(any_system, path) == before + transitions, (given, when)


def test_a_lifecycle_command_with_the_same_id_gives_its_result_again(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.agent(PATH)
    commands = [
        Spawn(initial_state={"n": 1}, command_id="c-1"),
        Pause(checkpoint_id="p", command_id="c-2"),
        Resume(checkpoint_id="p", command_id="c-3"),
        Terminate(command_id="c-4"),
    ]
    first = [agent.ask(command) for command in commands]
    head = seq(system)
    again = [agent.ask(command) for command in commands]
    system.close()
    restarted = open_any()
    later = [restarted.agent(PATH).ask(command) for command in commands]
    for results in (first, again, later):
        assert [(r.success, r.event_type, r.message, r.data) for r in results] == [
            (r.success, r.event_type, r.message, r.data) for r in first
        ]
    assert seq(restarted) == head
    assert [event.command_id for event in restarted.events(PATH)] == ["c-1", "c-2", "c-3", "c-4", "c-4"]
