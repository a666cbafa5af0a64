"""Working memory as a projection: pure, and the same as what the live actor has."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors import AgentHandle, AgentSystem, Append, Batch, Record, Set
from duramen.events import Event, Granularity, Limits, PathNotFound
from duramen.events.model import vocabulary as v
from duramen.events.model.values import same_value
from duramen.projections import AgentState, WorkingMemory, fold
from duramen.projections.recovery import AgentLog, rebuild

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
PATH = "p/a"


def plain(state: AgentState) -> dict[str, Any]:
    """All of a state as plain data, for a deep comparison in value and type."""
    return {name: int(value) if name == "granularity" else value for name, value in state.dump().items()}


def frozen_copy(state: AgentState) -> dict[str, Any]:
    return deepcopy(plain(state))


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {name: (one[name], other[name]) for name in one if not same_value(one[name], other[name])}


def event(
    seq: int,
    kind: str,
    data: dict[str, Any],
    *,
    command_id: str | None = None,
    session_id: str | None = "s",
    level: Granularity = Granularity.STATE,
) -> Event:
    time = NOW + timedelta(seconds=seq)
    digest = seq.to_bytes(16, "big")
    return Event(PATH, seq, time, kind, 1, data, session_id, command_id, None, None, level, None, digest)


def spawned(memory: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return v.SPAWNED, {
        "session_id": "s",
        "agent_type": "t",
        "metadata": {"m": [1]},
        "memory": memory,
        "parent": None,
        "granularity": "activity",
        "levels": {"note": "trace"},
    }


def paused(checkpoint_id: str) -> tuple[str, dict[str, Any]]:
    return v.PAUSED, {
        "checkpoint_id": checkpoint_id,
        "keys_count": 1,
        "expires_at": None,
        "metadata": {"m": [1]},
        "when_paused": "refuse",
        "reason": None,
    }


def resumed(checkpoint_id: str) -> tuple[str, dict[str, Any]]:
    return v.RESUMED, {
        "checkpoint_id": checkpoint_id,
        "checkpoint_seq": 1,
        "checkpoint_timestamp": NOW,
        "clear_current": True,
        "items_restored": 1,
    }


def terminated(cleared: bool) -> tuple[str, dict[str, Any]]:
    return v.TERMINATED, {
        "outcome": "success",
        "episode_id": None,
        "items_consolidated": 0,
        "items_cleared": 1,
        "cleared": cleared,
        "reason": None,
    }


Step = tuple[str, dict[str, Any]]

MEMORY: dict[str, Any] = {"a": {"b": {"c": 1}, "l": [1, [2, {"d": None}]]}, "l": [1, 2], "n": 1, "p": {"x": {}}}

WORK = 6
"""The seq of the message whose work `started` has begun."""


def begun(number: int, kind: str) -> Step:
    data = {"work": WORK, "number": number, "kind": kind, "name": "approval", "key": "k", "digest": b"", "due": None}
    return v.WORK_BEGUN, {**data, "about": {"order": ["o-17"]}, "once": False, "arguments": None}


def reminder(name: str, at: int | None) -> Step:
    data = {"name": name, "message_type": "sum_up", "version": 1, "data": {"of": ["day"]}, "at": at, "every": 7}
    return v.REMINDER_SET, {**data, "missed": "once", "log": "l"}


STEPS: list[Step] = [
    spawned({"new": [1], "a": {"other": 1}}),
    (v.MEMORY_SET, {"path": "a/b/c", "value": [1]}),
    (v.MEMORY_SET, {"path": "a/l/1/1/d", "value": {"x": 1}}),
    (v.MEMORY_SET, {"path": "l/0", "value": None}),
    (v.MEMORY_SET, {"path": "made/on/the/way", "value": 1}),
    (v.MEMORY_SET, {"path": "a", "value": 1}),
    (v.MEMORY_DELETED, {"path": "a/b/c"}),
    (v.MEMORY_DELETED, {"path": "l/0"}),
    (v.MEMORY_DELETED, {"path": "a"}),
    (v.MEMORY_APPENDED, {"path": "l", "values": [3, [4]]}),
    (v.MEMORY_APPENDED, {"path": "a/l/1", "values": [{}]}),
    (v.MEMORY_APPENDED, {"path": "made", "values": [1]}),
    (v.MEMORY_MERGED, {"path": "", "patch": {"a": {"b": {"c": None, "e": {"f": 1}}}, "n": None, "l": {"x": 1}}}),
    (v.MEMORY_MERGED, {"path": "a/b", "patch": {"c": {"deep": {"er": 1}}}}),
    (v.MEMORY_MERGED, {"path": "p/x", "patch": [1]}),
    (
        v.MEMORY_RESTORED,
        {
            "ops": [
                ["set", ["a", "b", "c"], 2],
                ["delete", ["n"]],
                ["extend", ["l"], [3]],
                ["truncate", ["a", "l"], 1],
            ]
        },
    ),
    paused("cp"),
    paused("cp-2"),
    resumed("cp"),
    terminated(cleared=True),
    terminated(cleared=False),
    (v.GRANULARITY_SET, {"level": "lifecycle", "levels": {"note": None, "other": "state"}}),
    (v.ACTIVITY_RECORDED, {"kind": "note", "data": {"path": "a/b"}}),
    (v.EPISODE_RECORDED, {"episode": {"id": "e", "path": "a"}}),
    (v.CHILD_SPAWNED, {"path": "p/a/helper", "outlives": True}),
    (v.FAILED, {"error": "ValueError"}),
    (v.RESTARTED, {}),
    (v.WORK_ACCEPTED, {"message_type": "refund", "version": 1, "data": {"order": "o-18"}, "log": "l"}),
    begun(2, "step"),
    begun(2, "wait"),
    (v.WORK_CONTINUED, {"work": WORK, "number": 1, "result": {"x": [1]}, "error": None}),
    (v.WORK_CONTINUED, {"work": WORK, "number": 0, "result": None, "error": {"kind": "", "text": "", "data": 5}}),
    (v.WORK_ATTEMPTED, {"work": WORK, "number": 1, "attempt": 1, "error": {"kind": "E"}, "due": 7}),
    (v.WORK_DONE, {"work": WORK, "number": 1, "result": {"x": [1]}, "error": None}),
    (v.WORK_GIVEN_UP, {"work": WORK, "number": 1}),
    (v.WORK_CANCEL_SENT, {"key": "k"}),
    (v.WORK_ANSWERED, {"name": "approval", "work": None, "value": {"by": ["kim"]}}),
    (v.WORK_ANSWERED, {"name": "approval", "work": WORK, "value": {"by": ["kim"]}}),
    (v.WORK_TAKEN_UP, {"works": [WORK, 99]}),
    (v.WORK_PARKED, {"work": WORK, "error": {"kind": "E"}}),
    (v.WORK_RETRIED, {"work": WORK, "log": "l"}),
    (v.WORK_ENDED, {"work": WORK, "how": "done", "reply": {"x": [1]}, "error": None}),
    (v.WORK_ENDED, {"work": 99, "how": "done", "reply": None, "error": None}),
    reminder("hourly", None),
    reminder("nightly", 5),
    (v.REMINDER_DUE, {"name": "nightly", "due": 5, "ticks": 1, "delivered": True, "next": 12}),
    (v.REMINDER_DUE, {"name": "nightly", "due": 5, "ticks": 1, "delivered": True, "next": None}),
    (v.REMINDER_STOPPED, {"name": "nightly", "parked": True}),
    (v.REMINDER_STOPPED, {"name": "nightly", "parked": False}),
    (v.REMINDER_STOPPED, {"name": "none", "parked": True}),
    ("claim_found", {"path": "a/b", "value": 1}),
    ("claim_found", {"path": 7}),
]


def started(memory: dict[str, Any] | None = None) -> AgentState:
    """A state with something in each of its containers."""
    view, state = WorkingMemory(), WorkingMemory().initial()
    first = deepcopy(MEMORY if memory is None else memory)
    before: list[tuple[Step, str | None]] = [
        (spawned(first), None),
        ((v.CHILD_SPAWNED, {"path": "p/a/first", "outlives": False}), None),
        (paused("old"), None),
        (resumed("old"), None),
        ((v.MEMORY_SET, {"path": "by", "value": "command"}), "c-1"),
        ((v.WORK_ACCEPTED, {"message_type": "refund", "version": 1, "data": {"order": "o-17"}, "log": "l"}), None),
        (begun(1, "step"), None),
        ((v.WORK_ANSWERED, {"name": "approval", "work": None, "value": {"by": ["kim"]}}), None),
        (reminder("nightly", 5), None),
    ]
    for seq, ((kind, data), command_id) in enumerate(before, 1):
        state = view.apply(state, event(seq, kind, data, command_id=command_id))
    return state


@pytest.mark.parametrize("command_id", [None, "c-1", "c-2"])
@pytest.mark.parametrize(("kind", "data"), STEPS)
def test_apply_leaves_the_old_state_and_the_event_strictly_as_they_were(
    kind: str, data: dict[str, Any], command_id: str | None
) -> None:
    view, state = WorkingMemory(), started()
    found = event(state.seq + 1, kind, deepcopy(data), command_id=command_id)
    before = frozen_copy(state)
    after = view.apply(state, found)
    assert differences(before, plain(state)) == {}
    assert same_value(found.data, data)
    assert after is not state
    assert (after.seq, after.digest) == (state.seq + 1, found.digest)
    # And again: the same two arguments, the same result.
    assert differences(plain(after), plain(view.apply(state, found))) == {}
    assert differences(before, plain(state)) == {}


@pytest.mark.parametrize(("kind", "data"), STEPS)
def test_what_comes_later_does_not_reach_back_into_a_state_or_an_event(kind: str, data: dict[str, Any]) -> None:
    """Containers of an event become part of the state: later events must change copies of them."""
    view, state = WorkingMemory(), started()
    first = event(state.seq + 1, kind, deepcopy(data))
    after = view.apply(state, first)
    kept = frozen_copy(after)
    for next_kind, next_data in STEPS:
        try:
            view.apply(after, event(after.seq + 1, next_kind, deepcopy(next_data), command_id="c-1"))
        except ValueError:
            continue  # it does not fit this state
        assert differences(kept, plain(after)) == {}
        assert same_value(first.data, data)


@pytest.mark.parametrize(
    ("kind", "data", "older"),
    [
        (*spawned({}), {"granularity": 3, "levels": {"note": 4}}),
        (v.GRANULARITY_SET, {"level": "state", "levels": {"note": "trace"}}, {"level": 2, "levels": {"note": 4}}),
    ],
)
def test_granularities_are_folded_from_their_names_and_from_the_numbers_of_older_logs(
    kind: str, data: dict[str, Any], older: dict[str, Any]
) -> None:
    view, state = WorkingMemory(), started()
    after = view.apply(state, event(state.seq + 1, kind, data))
    assert differences(plain(after), plain(view.apply(state, event(state.seq + 1, kind, data | older)))) == {}
    assert (after.levels["note"], after.granularity) == (4, 3 if kind == v.SPAWNED else 2)


def test_the_control_a_fold_in_place_is_noticed() -> None:
    state = started()
    before = frozen_copy(state)
    state.memory["a"]["b"]["c"] = True  # equal to 1, but not the same
    assert list(differences(before, plain(state))) == ["memory"]


segments = st.sampled_from(["a", "b", "l", "0", "1"])
paths = st.lists(segments, min_size=1, max_size=3).map("/".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.just(1.0) | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(segments, inner, max_size=3),
    max_leaves=6,
)
dicts = st.dictionaries(segments, values, max_size=3)
steps = st.one_of(
    st.tuples(st.just(v.MEMORY_SET), st.fixed_dictionaries({"path": paths, "value": values})),
    st.tuples(st.just(v.MEMORY_DELETED), st.fixed_dictionaries({"path": paths})),
    st.tuples(
        st.just(v.MEMORY_APPENDED), st.fixed_dictionaries({"path": paths, "values": st.lists(values, max_size=2)})
    ),
    st.tuples(st.just(v.MEMORY_MERGED), st.fixed_dictionaries({"path": paths, "patch": values})),
    st.tuples(st.just(v.MEMORY_MERGED), st.fixed_dictionaries({"path": st.just(""), "patch": dicts})),
    dicts.map(spawned),
    st.booleans().map(lambda cleared: terminated(cleared=cleared)),
    st.sampled_from(["x", "y"]).map(paused),
    st.sampled_from(["x", "y"]).map(resumed),
)


@pytest.mark.slow
@given(st.lists(st.tuples(steps, st.none() | st.sampled_from(["c-1", "c-2"])), max_size=15))
def test_no_state_of_a_whole_history_is_ever_changed(history: list[tuple[Step, str | None]]) -> None:
    view, state = WorkingMemory(), started({})
    kept: list[tuple[AgentState, dict[str, Any]]] = [(state, frozen_copy(state))]
    for (kind, data), command_id in history:
        found = event(state.seq + 1, kind, deepcopy(data), command_id=command_id)
        try:
            state = view.apply(state, found)
        except ValueError:
            pass  # it leads nowhere in this state, which the loop below then finds as it was
        else:
            kept.append((state, frozen_copy(state)))
        assert same_value(found.data, data)
    for seen, before in kept:
        assert differences(before, plain(seen)) == {}


def test_an_event_that_does_not_fit_raises_and_changes_nothing() -> None:
    view, state = WorkingMemory(), started()
    before = frozen_copy(state)
    with pytest.raises(PathNotFound):
        view.apply(state, event(state.seq + 1, v.MEMORY_DELETED, {"path": "nowhere"}, command_id="c-1"))
    assert differences(before, plain(state)) == {}


def test_a_type_of_the_users_changes_nothing_but_the_position() -> None:
    view, state = WorkingMemory(), started()
    after = view.apply(state, event(state.seq + 1, "claim_found", {"path": "a/b", "value": 1}))
    assert set(differences(plain(state), plain(after))) == {"seq", "digest", "updated_at"}
    assert after.memory is state.memory


def test_what_an_event_did_not_touch_is_shared() -> None:
    """The price of an event is its path, not the whole."""
    view, state = WorkingMemory(), started()
    after = view.apply(state, event(state.seq + 1, v.MEMORY_SET, {"path": "a/b/c", "value": 2}))
    assert after.memory["l"] is state.memory["l"]
    assert after.memory["a"]["l"] is state.memory["a"]["l"]
    assert after.memory["a"]["b"] is not state.memory["a"]["b"]


def test_a_sub_agents_path_is_no_property_path() -> None:
    """`p/a/helper` names an agent; that memory has a `p` of another kind does not matter."""
    view = WorkingMemory()
    for memory in ({"p": 1}, {"p": [1]}, {"p": {"a": "x"}}, {"p": {"a": {"helper": [1]}}}):
        state = started(memory)
        child = event(state.seq + 1, v.CHILD_SPAWNED, {"path": "p/a/helper", "outlives": True})
        after = view.apply(state, child)
        assert same_value(after.memory, state.memory)
        assert after.children == {"p/a/first": False, "p/a/helper": True}


def test_only_so_many_commands_are_remembered() -> None:
    view = WorkingMemory(Limits(commands_remembered=3))
    state = view.initial()
    state = view.apply(state, event(1, *spawned({})))
    for seq in range(2, 8):
        before = list(state.commands)
        later = view.apply(state, event(seq, v.MEMORY_SET, {"path": "a", "value": seq}, command_id=f"c-{seq}"))
        assert list(state.commands) == before
        state = later
    assert list(state.commands) == ["c-5", "c-6", "c-7"]


# -- fold == live ------------------------------------------------------------------------------------------------------

SCENES: dict[str, Callable[[AgentHandle], object]] = {
    "set": lambda agent: agent.set("a/b", [1, {"c": None}], command_id="c-1"),
    "delete": lambda agent: agent.delete("l"),
    "append": lambda agent: [agent.append("l", {"n": n}) for n in range(5)],
    "merge": lambda agent: agent.merge("p", {"x": None, "y": {"z": 1.0}}),
    "batch": lambda agent: agent.ask(Batch([Set("q", 1), Append("l", b"x"), Record("note", {"path": "l"})], "c-2")),
    "pause": lambda agent: agent.pause("cp", metadata={"m": 1}),
    "resume": lambda agent: (agent.set("n", 2), agent.pause("cp"), agent.resume("cp")),
    "resume over": lambda agent: (agent.pause("cp"), agent.resume("cp", clear_current=False)),
    "granularity": lambda agent: agent.set_granularity(Granularity.STATE, levels={"note": Granularity.TRACE}),
    "child": lambda agent: agent.spawn_child("helper", outlives_parent=True),
    "terminate": lambda agent: agent.terminate(),
    "terminate and keep": lambda agent: agent.terminate(cleanup_working=False),
}


@pytest.mark.parametrize("scene", SCENES)
def test_the_fold_of_the_log_is_the_live_state(scene: str) -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(
            PATH, session_id="s-1", agent_type="t", initial_state=deepcopy(MEMORY), metadata={"team": [7]}
        )
        SCENES[scene](agent)
        status, memory = agent.status(), agent.get()
        state = fold(WorkingMemory(), system.events(PATH))
        assert same_value(state.memory, memory)
        assert (state.seq, state.digest, state.status) == (status.seq, status.digest, status.status)
        assert (state.session_id, state.agent_type) == (status.session_id, status.agent_type)
        assert (state.granularity, len(state.memory)) == (status.granularity, status.items)
        assert same_value(state.metadata, status.metadata)
        ours = plain(state)
        theirs = plain(rebuild(AgentLog(system.log, PATH, Limits()), use_snapshot=False).state)
        fingerprints = {command: entry[:3] for command, entry in theirs["commands"].items()}
        assert {command: entry[:3] for command, entry in ours["commands"].items()} == fingerprints
        assert set(differences(ours, theirs)) <= {"commands"}


def test_the_fold_goes_on_over_sessions() -> None:
    with AgentSystem.open("memory://") as system:
        for session in range(3):
            agent = system.spawn(PATH, session_id=f"s-{session}", initial_state={f"k{session}": [session]})
            agent.append("l", session)
            agent.terminate(cleanup_working=session == 1)
        state = fold(WorkingMemory(), system.events(PATH))
        assert same_value(state.memory, agent.get())
        assert state.memory == {"k2": [2], "l": [2]}
        assert (state.status, state.session_id) == ("terminated", "s-2")


def test_the_fold_of_a_page_goes_on_from_the_fold_before() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"l": []})
        for number in range(9):
            agent.append("l", number)
        whole = fold(WorkingMemory(), system.events(PATH))
        for cut in range(10):
            first = fold(WorkingMemory(), system.events(PATH, to_seq=cut)) if cut else WorkingMemory().initial()
            assert first.seq == cut
            both = fold(WorkingMemory(), system.events(PATH, from_seq=cut + 1), first)
            assert differences(plain(both), plain(whole)) == {}
