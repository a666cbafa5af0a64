"""The timeline: a line an event, names and numbers only."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors import AgentSystem, Batch, Record, Set
from duramen.events import Event, Granularity, InvalidMessage
from duramen.events.model import vocabulary as v
from duramen.projections import Moment, Timeline, fold
from duramen.projections.history.timeline import headline

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECRET = "hunter2-Zx9-swordfish"


def event(
    seq: int, kind: str, data: dict[str, Any] | None = None, level: Granularity = Granularity.STATE, agent: str = "p/a"
) -> Event:
    time = NOW + timedelta(seconds=seq)
    return Event(agent, seq, time, kind, 1, data or {}, "s", None, None, None, level, None, bytes([seq % 256]) * 16)


def secrets() -> Any:
    """The secret at every place of a value, as text, as bytes and as a key below."""
    return {"password": SECRET, SECRET: [SECRET, {"deep": SECRET}], "raw": SECRET.encode()}


TITLES = [
    (v.SPAWNED, {"session_id": "s-1", "agent_type": "t", "metadata": secrets(), "memory": secrets(), "parent": None,
                 "granularity": "activity", "levels": {}}, "spawned, session s-1"),
    (v.PAUSED, {"checkpoint_id": "lunch", "keys_count": 3, "expires_at": NOW, "metadata": secrets(),
                "when_paused": "refuse", "reason": SECRET}, "paused at checkpoint lunch (items: 3)"),
    (v.RESUMED, {"checkpoint_id": "lunch", "checkpoint_seq": 4, "checkpoint_timestamp": NOW, "clear_current": True,
                 "items_restored": 2}, "resumed from checkpoint lunch (items: 2)"),
    (v.MEMORY_RESTORED, {"ops": [["set", ["a"], SECRET], ["set", ["b"], secrets()]]}, "restored (changes: 2)"),
    (v.MEMORY_SET, {"path": "a/b", "value": secrets()}, "set a/b"),
    (v.MEMORY_SET, {"path": "a/b", "value": SECRET}, "set a/b"),
    (v.MEMORY_DELETED, {"path": "a/b"}, "deleted a/b"),
    (v.MEMORY_APPENDED, {"path": "l", "values": [SECRET, secrets()]}, "appended 2 to l"),
    (v.MEMORY_MERGED, {"path": "m", "patch": secrets()}, "merged into m"),
    (v.GRANULARITY_SET, {"level": "activity", "levels": {"x": "lifecycle"}}, "changed the granularity"),
    (v.ACTIVITY_RECORDED, {"kind": "tool_output", "data": secrets()}, "recorded tool_output"),
    (v.EPISODE_RECORDED, {"episode": secrets()}, "kept as an episode"),
    (v.TERMINATED, {"outcome": "success", "episode_id": "e", "items_consolidated": 1, "items_cleared": 1,
                    "cleared": True, "reason": SECRET}, "terminated: success"),
    (v.RETENTION_SET, {"retention": secrets()}, "changed how much of its log is kept"),
    (v.FORKED, {"origin": "p/a", "origin_seq": 7, "origin_digest": b"x" * 16, "session_id": SECRET, "parent": None,
                "children": {}}, "forked from p/a at 7"),
    (v.CHILD_SPAWNED, {"path": "p/a/helper", "outlives": False}, "spawned sub-agent p/a/helper"),
    (v.FAILED, {"error": "ValueError"}, "failed: ValueError"),
    (v.RESTARTED, {}, "restarted"),
    (v.WORK_ACCEPTED, {"message_type": "refund", "version": 1, "data": secrets(), "log": SECRET},
     "accepted refund as work"),
    (v.WORK_CONTINUED, {"work": 2, "number": 1, "result": SECRET, "error": None},
     "work 2 went on with the result of #1"),
    (v.WORK_CONTINUED, {"work": 2, "number": 1, "result": None, "error": {"kind": "raised", "text": SECRET}},
     "work 2 went on with the error of #1"),
    (v.WORK_CONTINUED, {"work": 2, "number": 0, "result": None, "error": None}, "work 2 started"),
    (v.WORK_CONTINUED, {"work": 2, "number": 0, "result": None, "error": {"kind": "cancelled", "data": 1}},
     "work 2 went on to be cancelled"),
    (v.WORK_BEGUN, {"work": 2, "number": 1, "kind": "step", "name": "pay", "key": SECRET, "digest": b"", "due": None,
                    "about": secrets(), "once": False, "arguments": secrets()}, "work 2 began #1: step pay"),
    (v.WORK_ATTEMPTED, {"work": 2, "number": 1, "attempt": 1, "error": secrets(), "due": 0},
     "work 2: attempt 1 of #1 failed"),
    (v.WORK_DONE, {"work": 2, "number": 1, "result": SECRET, "error": None}, "work 2 has the result of #1"),
    (v.WORK_GIVEN_UP, {"work": 2, "number": 1}, "work 2 gave up #1"),
    (v.WORK_CANCEL_SENT, {"key": SECRET}, "had work cancelled that was asked for"),
    (v.WORK_ANSWERED, {"name": "approval", "work": None, "value": secrets()}, "answered approval"),
    (v.WORK_TAKEN_UP, {"works": [2, 3]}, "took up pieces of work: 2"),
    (v.WORK_PARKED, {"work": 2, "error": secrets()}, "parked work 2"),
    (v.WORK_RETRIED, {"work": 2, "log": SECRET}, "retried work 2"),
    (v.WORK_ENDED, {"work": 2, "how": "done", "reply": SECRET, "error": None}, "work 2 ended: done"),
    (v.EXPIRED, {}, "expired, and was to be erased"),
    (v.REMINDER_SET, {"name": "nightly", "message_type": "sum_up", "version": 1, "data": secrets(), "at": None,
                    "every": 1,
                      "missed": "once", "log": SECRET}, "set reminder nightly"),
    (v.REMINDER_DUE, {"name": "nightly", "due": 1, "ticks": 1, "delivered": True, "next": 2},
     "reminder nightly was due"),
    (v.REMINDER_STOPPED, {"name": "nightly", "parked": False}, "stopped reminder nightly"),
    ("claim_found", secrets(), "claim found"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "data", "title"), TITLES)
def test_a_title_says_what_was_done_to_what_and_shows_no_value(kind: str, data: dict[str, Any], title: str) -> None:
    assert headline(event(1, kind, data)) == title
    [moment] = fold(Timeline(), [event(1, kind, data)])
    assert (moment.title, moment.seq, moment.agent) == (title, 1, "p/a")
    assert SECRET not in repr(moment)


def test_every_type_of_ours_has_a_title_of_its_own() -> None:
    assert {kind for kind, _, _ in TITLES} >= v.OWN_TYPES


def test_no_value_of_a_real_session_is_in_its_timeline() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn("p/a", initial_state={"key": SECRET}, metadata={"m": SECRET})
        agent.set("api", {"token": SECRET})
        agent.append("l", SECRET)
        agent.merge("m", {"x": SECRET})
        agent.record("tool_output", {"tool": "login", "result": SECRET})
        agent.ask(Batch([Set("a", SECRET), Record("note", SECRET)]))
        agent.pause("cp", metadata={"m": SECRET}, reason=SECRET)
        agent.resume("cp")
        agent.set_granularity(Granularity.TRACE)
        agent.terminate(outcome_details=SECRET, task_description=SECRET, lessons_learned=[SECRET], reason=SECRET)
        events = list(system.events("p/a"))
        moments = fold(Timeline(), events)
    assert len(moments) == len(events)
    assert SECRET in repr(events)  # the control: it was there to be shown
    assert SECRET not in repr(moments)


@pytest.mark.parametrize("width", [79, 80, 81, 5_000])
def test_a_long_name_is_cut(width: int) -> None:
    title = headline(event(1, v.MEMORY_SET, {"path": "x" * width, "value": 1}))
    assert title == "set " + ("x" * width if width <= 80 else "x" * 79 + "…")


def test_braces_in_a_name_are_only_braces() -> None:
    path = "{value}/{0}/{path.__class__}"
    assert headline(event(1, v.MEMORY_SET, {"path": path, "value": SECRET})) == f"set {path}"


# -- what is in it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", list(Granularity))
def test_only_events_up_to_the_granularity_are_there(granularity: Granularity) -> None:
    events = [event(seq, "claim_found", {}, level) for seq, level in enumerate([*Granularity, *Granularity], 1)]
    moments = fold(Timeline(granularity), events)
    assert [moment.seq for moment in moments] == [found.seq for found in events if found.granularity <= granularity]
    assert all(moment.granularity <= granularity for moment in moments)


@given(st.integers(1, 7), st.integers(0, 20))
def test_the_latest_most_are_kept_in_order(most: int, count: int) -> None:
    moments = fold(Timeline(most=most), [event(seq, "x") for seq in range(1, count + 1)])
    assert [moment.seq for moment in moments] == list(range(max(1, count - most + 1), count + 1))


@pytest.mark.parametrize("most", [0, -1, -10_000])
def test_a_timeline_of_less_than_one_moment_is_refused(most: int) -> None:
    """`[-0:]` would keep everything, and so without a bound."""
    with pytest.raises(InvalidMessage, match="at least one"):
        Timeline(most=most)


def test_moments_of_several_agents_come_as_the_events_come() -> None:
    events = [event(seq, "x", agent=agent) for seq in (1, 2) for agent in ("p/a", "p/b")]
    moments = fold(Timeline(), events)
    assert [(moment.agent, moment.seq) for moment in moments] == [("p/a", 1), ("p/b", 1), ("p/a", 2), ("p/b", 2)]


def test_apply_leaves_the_old_state_and_the_event_as_they_were() -> None:
    view = Timeline(most=3)
    state: tuple[Moment, ...] = view.initial()
    for seq, (kind, data, _) in enumerate(TITLES, 1):
        found = event(seq, kind, data)
        before, data_before = deepcopy(state), deepcopy(found.data)
        after = view.apply(state, found)
        assert state == before
        assert found.data == data_before
        assert view.apply(state, found) == after
        state = after
    assert len(state) == 3
