"""The state of work is the fold of its events: from snapshots, in parts, undone and looked at in the past."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY
from actors.work.whole_life import work_for_life
from duramen.actors import AgentSystem, Settings
from duramen.events import EventRegistry, Limits, MemoryLog
from duramen.events.codec import Codec
from duramen.projections import AgentState, WorkingMemory
from duramen.projections.recovery import AgentLog, rebuild
from duramen.projections.state import advance, cancels_to_send, due_of_work, open_work, reminders

_REMEMBERED = 10


@pytest.fixture(scope="module")
def life() -> tuple[MemoryLog, list[Any]]:
    """A log with every type of event about work, written with a snapshot after every second event."""
    log, registry = MemoryLog(), EventRegistry()
    settings = Settings(snapshot_every=2)

    def open_system(kinds: dict[str, Any]) -> AgentSystem:
        return AgentSystem.open(log=log, registry=registry, agents=kinds, settings=settings)

    work_for_life(open_system, PATH, registry)
    agent_log = AgentLog(log, PATH, Limits(), REGISTRY)
    return log, list(agent_log.raw_events(0, bytes(16), None))


def fold(state: AgentState, events: list[Any]) -> AgentState:
    for _, raw, digest in events:
        advance(state, deepcopy(raw), digest, _REMEMBERED)
    return state


def test_a_state_from_any_snapshot_is_that_of_the_whole_log(life: tuple[MemoryLog, list[Any]]) -> None:
    _, events = life
    codec, whole = Codec(Limits()), fold(AgentState(), events).dump()
    for cut in range(len(events)):
        half = fold(AgentState(), events[:cut])
        again = AgentState.load(codec.unpack(codec.pack(half.dump())))
        assert fold(again, events[cut:]).dump() == whole


def test_what_comes_later_changes_no_earlier_state(life: tuple[MemoryLog, list[Any]]) -> None:
    _, events = life
    state, seen = AgentState(), list[tuple[Any, Any]]()
    for event in events:
        fold(state, [event])
        seen.append((state.work, deepcopy(state.work)))
    assert all(kept == copied for kept, copied in seen)
    assert len([copied for _, copied in seen if copied]) > len(seen) // 2


def test_the_stored_snapshot_and_the_pure_form_agree_with_the_log(life: tuple[MemoryLog, list[Any]]) -> None:
    log, events = life
    agent_log = AgentLog(log, PATH, Limits(), REGISTRY)
    stored = rebuild(agent_log)
    assert stored.snapshot_seq > 0
    assert stored.state.dump() == rebuild(agent_log, use_snapshot=False).state.dump()
    pure = WorkingMemory().initial()
    for event in agent_log.events(1, len(events)):
        pure = WorkingMemory().apply(pure, event)
    assert pure.work == stored.state.work


def test_work_is_due_at_once_at_a_time_or_not_before_something_happens(life: tuple[MemoryLog, list[Any]]) -> None:
    _, events = life
    state, dues = AgentState(), list[int | None]()
    for event in events:
        fold(state, [event])
        dues.append(due_of_work(state))
        nothing_left = not open_work(state) and not reminders(state) and not cancels_to_send(state)
        assert (due_of_work(state) is None) == nothing_left
    assert {dues[0], dues[-1]} == {None}
    assert {due for due in dues if due == 0} == {0}
    assert any(due is not None and due > 0 for due in dues)
