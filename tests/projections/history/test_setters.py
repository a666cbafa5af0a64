"""States with the setters of their values, and what each event has written."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors import AgentSystem
from duramen.events import PathNotFound
from duramen.events.codec import RawEvent
from duramen.events.model import same_value
from duramen.projections.history import MOST_WRITES, TracedState, Write, traced_base, traced_states, writes_between
from duramen.projections.recovery import AgentLog
from duramen.projections.state import MISSING

PATH = "acme/alice"
KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from([True, 1.0, -0.0, "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)
PATHS = st.lists(st.sampled_from(["a", "b", "l", "0", "1"]), min_size=1, max_size=3).map("/".join)
STEPS = st.one_of(
    st.tuples(st.just("set"), PATHS, VALUES),
    st.tuples(st.just("append"), PATHS, VALUES),
    st.tuples(st.just("merge"), PATHS, st.dictionaries(KEYS, VALUES, max_size=3)),
    st.tuples(st.just("delete"), PATHS, st.none()),
    st.tuples(st.just("pause"), st.none(), st.none()),
    st.tuples(st.just("resume"), st.none(), st.booleans()),
)


def traced_of(system: AgentSystem, agent: str = PATH) -> list[TracedState]:
    """The states of a log, from its base on."""
    agent_log = AgentLog(system.log, agent, system.limits, system.registry)
    base = traced_base(agent_log)
    states = [base]
    for raw, traced in traced_states(agent_log, base, None):
        assert written(states[-1], traced, raw) == written(states[-1], traced), "with the event and without"
        states.append(traced)
    return states


def written(before: TracedState, after: TracedState, *raw: RawEvent) -> list[tuple[Any, ...]]:
    found = writes_between(before, after, *raw)
    return [(write.path, repr(write.value), repr(write.setters), write.is_new) for write in found]


def act(system: AgentSystem, kind: str, path: str | None, value: Any) -> None:
    alice = system.agent(PATH)
    try:
        if kind == "pause":
            alice.pause(checkpoint_id="c")
            alice.resume()
        elif kind == "resume":
            alice.resume("c", clear_current=value)
        elif kind == "delete":
            alice.delete(str(path))
        else:
            getattr(alice, kind)(path, value)
    except (ValueError, PathNotFound):
        pass  # it does not fit what is there


def carry_out(write: Write, memory: Any, setters: Any) -> tuple[Any, Any]:
    if not write.path:
        return copied(write.value), copied(write.setters)
    for root, value in ((memory, write.value), (setters, write.setters)):
        for segment in write.path[:-1]:
            root = root[segment] if isinstance(root, dict) else root[int(segment)]
        last = write.path[-1]
        if isinstance(root, dict):
            assert write.is_new == (last not in root)
            if value is MISSING:
                del root[last]
            else:
                root[last] = copied(value)
        elif value is MISSING:
            del root[int(last)]
        elif write.is_new:
            assert int(last) == len(root)
            root.append(copied(value))
        else:
            root[int(last)] = copied(value)
    return memory, setters


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copied(held) for key, held in value.items()}
    return [copied(held) for held in value] if isinstance(value, list) else value


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        return {path: value}
    return {where: leaf for key, held in pairs for where, leaf in leaves(held, f"{path}/{key}").items()}


@pytest.mark.slow
@given(st.lists(STEPS, max_size=12))
def test_writes_lead_from_each_state_to_the_next_and_setters_are_those_of_blame(steps: list[tuple[Any, ...]]) -> None:
    with AgentSystem.open("memory://") as system:
        system.spawn(PATH, initial_state={"a": {"b": [1, 2]}, "l": [0, {"a": 1}]})
        for step in steps:
            act(system, *step)
        states = traced_of(system)
        assert [traced.seq for traced in states] == list(range(system.peek(PATH).seq + 1))
        memory: Any = {}
        setters: Any = {}
        for before, after in pairwise(states):
            for write in writes_between(before, after):
                memory, setters = carry_out(write, memory, setters)
            assert same_value(memory, system.state_at(PATH, after.seq).memory.plain())
            assert same_value(memory, after.memory)
            assert setters == after.setters
        marks = {path.removeprefix("/"): seq for path, seq in leaves(setters).items()}
        found = system.blame(PATH).leaves if memory else {}
        for path, leaf in found.items():
            if path in marks:  # else an empty container
                assert marks[path] == leaf.seq


def test_earlier_states_stay_as_they_were() -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(PATH, initial_state={"a": {"b": 1}})
        alice.set("a/b", 2)
        alice.append("l", 3)
        states = traced_of(system)
        assert [traced.memory for traced in states] == [
            {},
            {"a": {"b": 1}},
            {"a": {"b": 2}},
            {"a": {"b": 2}, "l": [3]},
        ]
        assert states[2].memory["a"] is states[3].memory["a"], "what was not changed is shared"
        assert states[3].setters == {"a": {"b": 2}, "l": [3]}


def test_what_a_resume_brings_back_has_its_setter_from_before() -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(PATH, initial_state={"plan": {"at": 0}})
        alice.append("l", {"text": "first"})
        alice.pause(checkpoint_id="c")
        alice.resume()
        alice.set("plan", {"at": 1, "new": True})
        alice.delete("l")
        alice.resume("c")
        *_, before, after = traced_of(system)
        assert (after.setters["plan"]["at"], after.setters["l"]) == (1, [{"text": 2}])
        assert before.setters["plan"]["at"] == before.seq, "the events of the resume have set it until it is complete"


def test_of_very_many_checkpoints_the_last_ones_are_known() -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(PATH, initial_state={"a": 0, "b": 0})
        for number in range(34):
            alice.pause(checkpoint_id=f"c{number}")
            alice.resume()
        for name, setter in (("c33", 1), ("c0", None)):
            alice.set("a", 1)
            alice.resume(name)
            last = traced_of(system)[-1]
            assert last.setters["b"] == 1
            assert last.setters["a"] == (setter or last.seq - 1)


def test_elements_that_move_up_keep_their_setters() -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(PATH, initial_state={"l": ["first"]})
        alice.append("l", "second")
        alice.delete("l/0")
        *_, before, after = traced_of(system)
        assert after.setters == {"l": [2]}
        assert [(write.path, write.value, write.setters) for write in writes_between(before, after)] == [
            (("l", "0"), "second", 2),
            (("l", "1"), MISSING, MISSING),
        ]


def test_an_event_that_writes_very_much_is_one_write_of_the_whole() -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(PATH, initial_state={"many": {}, "other": 1})
        alice.merge("many", {str(number): number for number in range(MOST_WRITES + 1)})
        *_, before, after = traced_of(system)
        assert [write.path for write in writes_between(before, after)] == [("many",)]
        alice.merge("many", {str(number): -1 for number in range(MOST_WRITES)})
        *_, before, after = traced_of(system)
        assert len(writes_between(before, after)) == MOST_WRITES


def test_what_a_base_holds_has_the_last_trimmed_seq() -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(PATH)
        for number in range(20):
            alice.set(f"k{number % 2}", number)
        system.trim(PATH, keep_events=1)
        base = system.log.head(PATH)
        assert base is not None
        states = traced_of(system)
        assert (states[0].seq, states[0].setters) == (base.base, {"k0": base.base, "k1": base.base})
        assert states[-1].setters == {"k0": base.base, "k1": 21}


@pytest.mark.parametrize("kind", ["activity", "user"])
def test_an_event_that_changes_no_memory_writes_nothing(kind: str) -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn(PATH, initial_state={"a": 1})
        if kind == "activity":
            alice.record("note", {"a": 2})
        else:
            alice.pause()
        *_, before, after = traced_of(system)
        assert after.memory is before.memory
        assert writes_between(before, after) == []
