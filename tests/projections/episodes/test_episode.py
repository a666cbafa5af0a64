"""Episodes: what is kept of a session, within its bounds, and never a value of its working memory."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors import AgentSystem, Outcome
from duramen.events import Event, Granularity
from duramen.events.model import vocabulary as v
from duramen.events.model.values import same_value
from duramen.projections import Episode, Episodes, fold
from duramen.projections.episodes.episode import compose_episode
from duramen.projections.recovery.session_totals import SessionActivity, SessionTotals

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECRET = "hunter2-Zx9-swordfish"


def event(seq: int, kind: str, data: dict[str, Any], level: Granularity = Granularity.LIFECYCLE) -> Event:
    time = NOW + timedelta(seconds=seq)
    return Event("p/a", seq, time, kind, 1, data, "s", None, None, None, level, None, bytes(16))


def recorded(seq: int, kind: str, data: Any) -> Event:
    return event(seq, v.ACTIVITY_RECORDED, {"kind": kind, "data": data}, Granularity.ACTIVITY)


def composed(**given: Any) -> Episode:
    usual: dict[str, Any] = {
        "agent": "p/a/child",
        "session_id": "s-1",
        "first_seq": 4,
        "last_seq": 9,
        "duration_seconds": 1.5,
        "created_at": NOW,
        "totals": SessionTotals(events=6),
        "memory": {"goal": "g"},
        "outcome": "success",
        "outcome_details": None,
        "task_description": None,
        "context_summary": None,
        "lessons_learned": (),
        "importance_score": 0.6,
    }
    return compose_episode(**{**usual, **given})


def episode_event(seq: int, **given: Any) -> Event:
    return event(seq, v.EPISODE_RECORDED, {"episode": composed(**given).as_data()})


# -- the view ----------------------------------------------------------------------------------------------------------


def test_apply_leaves_the_old_state_and_the_event_strictly_as_they_were() -> None:
    view = Episodes()
    state = view.initial()
    for seq in range(1, 6):
        found = episode_event(seq, first_seq=seq % 3, outcome_details={"n": [seq]})  # two come again
        before, data = dict(state), deepcopy(found.data)
        after = view.apply(state, found)
        assert state == before
        assert list(state) == list(before)
        assert all(state[name] is before[name] for name in before)
        assert same_value(found.data, data)
        assert view.apply(state, found) == after
        state = after
    assert len(state) == 3


def test_a_session_recorded_twice_is_one_episode() -> None:
    first, again = episode_event(1), episode_event(2, outcome="failure")
    [kept] = fold(Episodes(), [first, again]).values()
    assert kept.outcome == "failure"


def test_other_events_are_none_of_its_business() -> None:
    state = fold(Episodes(), [episode_event(1)])
    for kind in (*sorted(v.OWN_TYPES - {v.EPISODE_RECORDED}), "claim_found"):
        assert Episodes().apply(state, event(2, kind, {"episode": 1})) is state


def test_an_episode_comes_back_from_its_data() -> None:
    one = composed(outcome_details={"x": [1]}, lessons_learned=["l"], totals=SessionTotals(1, 2, (("search", 5),)))
    assert Episode(**one.as_data()) == one
    assert fold(Episodes(), [event(1, v.EPISODE_RECORDED, {"episode": one.as_data()})]) == {one.id: one}


def test_the_fold_of_the_logs_is_what_the_system_has() -> None:
    with AgentSystem.open("memory://") as system:
        for name in ("a", "b"):
            for session in range(3):
                agent = system.spawn(f"p/{name}", session_id=f"s-{session}", initial_state={"n": session})
                agent.record("tool_output", {"tool": "search", "tokens_used": 5})
                agent.terminate(Outcome.PARTIAL, lessons_learned=[f"l-{session}"], outcome_details={"n": [session]})
        live = {episode.id: episode for episode in system.episodes.list()}
        state = Episodes().initial()
        for name in ("a", "b"):
            state = fold(Episodes(), system.events(f"p/{name}"), state)
        assert len(live) == 6
        assert dict(state) == live
        assert all(system.episodes.get(episode_id) == episode for episode_id, episode in state.items())


# -- what an episode holds ---------------------------------------------------------------------------------------------


def test_an_episode_says_whose_and_when() -> None:
    episode = composed()
    assert (episode.project_id, episode.agent_instance_id) == ("p", "a/child")
    assert (episode.session_id, episode.first_seq, episode.last_seq) == ("s-1", 4, 9)
    assert (episode.task_type, episode.importance_score, episode.created_at) == ("session_completion", 0.6, NOW)
    assert "s-1" in episode.task_description
    assert UUID(episode.id)


def test_the_same_session_gives_the_same_id_and_another_another() -> None:
    same = {composed(outcome=outcome, last_seq=seq).id for outcome in ("success", "failure") for seq in (9, 10)}
    assert len(same) == 1
    others = [composed(agent="p/a"), composed(session_id="s-2"), composed(first_seq=5), composed(session_id=None)]
    assert len(same | {other.id for other in others}) == 5


@pytest.mark.parametrize(("given", "kept"), [(0, None), (1, 1), (499, 499), (500, 500), (501, 500), (100_000, 500)])
def test_a_description_has_at_most_500_characters(given: int, kept: int | None) -> None:
    text = composed(task_description="é" * given).task_description
    assert len(text) == kept if kept is not None else "s-1" in text
    assert text.endswith("…") == (given > 500)


@pytest.mark.parametrize(("given", "kept"), [(1, 1), (1_000, 1_000), (1_001, 1_000), (100_000, 1_000)])
def test_a_context_summary_has_at_most_1000_characters(given: int, kept: int) -> None:
    text = composed(context_summary="é" * given).context_summary
    assert len(text) == kept
    assert text.endswith("…") == (given > 1_000)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@pytest.mark.slow
@given(st.dictionaries(names, st.none() | st.integers() | st.lists(st.none()), max_size=60), names)
def test_a_made_up_summary_and_description_keep_the_bounds(memory: dict[str, Any], session: str) -> None:
    totals = SessionTotals(7, 0, (), {f"tool-{n}-{session}"[:200]: n for n in range(30)})
    episode = composed(memory=memory, totals=totals, session_id=session * 3)
    assert 0 < len(episode.context_summary) <= 1_000
    assert 0 < len(episode.task_description) <= 500


def test_lessons_are_at_most_100_of_at_most_1000_characters() -> None:
    episode = composed(lessons_learned=[f"{n} " + "x" * (996 + n) for n in range(150)])
    assert len(episode.lessons_learned) == 100
    assert max(map(len, episode.lessons_learned)) == 1_000
    assert [lesson.split()[0] for lesson in episode.lessons_learned] == [str(n) for n in range(100)]
    assert episode.lessons_learned[0] == "0 " + "x" * 996
    assert episode.lessons_learned[50].endswith("…")


def test_an_episode_of_the_largest_session_can_be_kept() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn("p/a", initial_state={f"name-{n}-" + "x" * 100: n for n in range(1_000)})
        for number in range(150):
            agent.record("tool_output", {"tool": f"{number}-" + "t" * 500, "tokens_used": 10**6})
        result = agent.terminate(
            task_description="d" * 10_000,
            context_summary="c" * 10_000,
            lessons_learned=["l" * 10_000 for _ in range(10)],
            outcome_details={"d": "x" * 1_000},
        )
        assert result.success
        [episode] = system.episodes.list()
    assert (len(episode.actions), episode.tokens_used) == (100, 150 * 10**6)
    assert max(len(action["tool"]) for action in episode.actions) == 200
    assert (len(episode.task_description), len(episode.context_summary)) == (500, 1_000)
    assert [len(lesson) for lesson in episode.lessons_learned] == [1_000] * 10


# -- secrets -----------------------------------------------------------------------------------------------------------

NESTED: dict[str, Any] = {
    "text": SECRET,
    "bytes": SECRET.encode(),
    "list": [SECRET, [SECRET, {"deep": SECRET}]],
    "dict": {"password": SECRET, SECRET: {"deeper": SECRET}},
    "long": SECRET * 10_000,
}


@pytest.mark.parametrize("item", NESTED)
def test_a_summary_names_an_item_and_its_kind_but_shows_no_value(item: str) -> None:
    summary = composed(memory={item: NESTED[item]}).context_summary
    assert item in summary
    assert SECRET not in summary
    assert SECRET[:6] not in summary


def test_no_secret_of_a_session_gets_into_its_summary() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn("p/a", session_id="s", initial_state=NESTED, metadata={"token": SECRET})
        agent.set("api_key", SECRET)
        agent.append("log", SECRET)
        agent.record("tool_output", {"tool": "login", "arguments": {"password": SECRET}, "result": SECRET})
        agent.record("note", SECRET)
        agent.pause("p", metadata={"x": SECRET}, reason=SECRET)
        agent.resume("p")
        agent.terminate(reason=SECRET)
        [episode] = system.episodes.list()
        assert SECRET in repr(list(system.events("p/a")))  # the control: it was there to be shown
    assert "api_key" in episode.context_summary
    assert "login" in episode.context_summary
    assert SECRET not in repr(episode)


@given(st.text("abcdefghij", min_size=8, max_size=20))
def test_no_value_at_any_place_is_in_a_summary(secret: str) -> None:
    secret = f"<{secret}>"
    memory = {"a": secret, "b": [secret], "c": {"d": secret}, "e": {secret: 1}, "f": secret.encode()}
    assert secret not in composed(memory=memory).context_summary


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "none"),
        (True, "bool"),
        (1, "int"),
        (1.0, "float"),
        ("x", "str"),
        (b"x", "bytes"),
        (NOW, "datetime"),
        ([1, 2], "2 entries"),
        ({"a": 1}, "1 key"),
        ([], "0 entries"),
    ],
)
def test_a_summary_says_what_kind_an_item_is(value: Any, kind: str) -> None:
    assert f"item ({kind})" in composed(memory={"item": value}).context_summary


def test_what_the_caller_says_of_the_context_is_kept_as_it_is() -> None:
    assert composed(context_summary="all went well").context_summary == "all went well"


# -- counting ----------------------------------------------------------------------------------------------------------


def counted(*records: tuple[str, Any]) -> SessionTotals:
    return fold(SessionActivity(), [recorded(seq, kind, data) for seq, (kind, data) in enumerate(records, 1)])


def test_every_event_counts_and_each_activity_by_its_kind() -> None:
    events = [
        event(1, v.SPAWNED, {"kind": "note", "data": {"tokens_used": 5}}),
        recorded(2, "note", None),
        recorded(3, "note", {"tokens_used": 1}),
        event(4, v.MEMORY_SET, {"path": "a", "value": {"tokens_used": 5, "tool": "x"}}, Granularity.STATE),
        recorded(5, "completion", {"usage": {"total_tokens": 7}}),
        event(6, "claim_found", {"kind": "note", "data": {"tool": "x"}}, Granularity.STATE),
    ]
    totals = fold(SessionActivity(), events)
    assert (totals.events, totals.tokens_used) == (6, 8)
    assert dict(totals.activities) == {"note": 2, "completion": 1}
    assert (totals.actions, dict(totals.tools)) == ((), {})


def test_nothing_counted_is_nothing() -> None:
    assert fold(SessionActivity(), []) == SessionTotals()
    totals = SessionTotals()
    assert (totals.events, totals.tokens_used, totals.actions, totals.tools, totals.activities) == (0, 0, (), {}, {})


def test_tools_are_actions_in_order_with_their_seq() -> None:
    totals = counted(
        ("tool_output", {"tool": "search"}),
        ("tool_output", {"tool": "book", "tokens_used": 3}),
        ("tool_output", {"tool": "search"}),
        ("tool_call", {"tool": "search"}),
        ("tool_output", {"name": "search"}),
        ("tool_output", {"tool": 7}),
        ("tool_output", "search"),
        ("tool_output", None),
    )
    assert totals.actions == (("search", 1), ("book", 2), ("search", 3))
    assert dict(totals.tools) == {"search": 2, "book": 1}
    assert dict(totals.activities) == {"tool_output": 7, "tool_call": 1}
    assert (totals.events, totals.tokens_used) == (8, 3)


def test_the_first_100_actions_are_listed_and_all_are_counted() -> None:
    totals = counted(*(("tool_output", {"tool": f"t{number % 3}"}) for number in range(150)))
    assert [seq for _, seq in totals.actions] == list(range(1, 101))
    assert dict(totals.tools) == {"t0": 50, "t1": 50, "t2": 50}


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        ({"tokens_used": 5}, 5),
        ({"usage": {"total_tokens": 7}}, 7),
        ({"tokens_used": 5, "usage": {"total_tokens": 7}}, 5),
        ({"tokens_used": 0}, 0),
        ({"tokens_used": -5}, 0),
        ({"tokens_used": 5.5}, 0),
        ({"tokens_used": "5"}, 0),
        ({"tokens_used": True}, 0),
        ({"usage": 7}, 0),
        ({"usage": {"total_tokens": None}}, 0),
        ({"usage": {}}, 0),
        ({}, 0),
        ([{"tokens_used": 5}], 0),
        ("tokens_used", 0),
        (None, 0),
    ],
)
def test_tokens_are_counted_as_recorded(data: Any, tokens: int) -> None:
    assert counted(("completion", data)).tokens_used == tokens
    assert counted(("completion", data), ("completion", {"tokens_used": 1})).tokens_used == tokens + 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["tool", "tokens_used", "usage", "total_tokens"]), inner, max_size=3)
    ),
    max_leaves=5,
)
records = st.lists(st.tuples(st.sampled_from(["tool_output", "note"]), anything), max_size=10)


@pytest.mark.slow
@given(records, st.integers(0, 10))
def test_counting_is_pure_and_in_two_parts_the_same(many: list[tuple[str, Any]], cut: int) -> None:
    view = SessionActivity()
    events = [recorded(seq, kind, data) for seq, (kind, data) in enumerate(many, 1)]
    state = view.initial()
    for found in events:
        before, data = deepcopy(state), deepcopy(found.data)
        after = view.apply(state, found)
        assert state == before
        assert same_value(found.data, data)
        state = after
    assert state == fold(view, events[cut:], fold(view, events[:cut]))
    assert state.events == len(many)
    assert sum(state.activities.values()) == len(many)
    assert len(state.actions) == sum(state.tools.values())


def test_an_episode_has_what_was_counted_over_its_session_alone() -> None:
    with AgentSystem.open("memory://") as system:
        for session in range(1, 4):
            agent = system.spawn("p/a")
            for _ in range(session):
                agent.record("tool_output", {"tool": f"tool-{session}", "tokens_used": 10})
            agent.record("completion", {"usage": {"total_tokens": 1}})
            agent.terminate()
            events = list(system.events("p/a"))
            episode = system.episodes.list(limit=1)[0]
            ours = [found for found in events if episode.first_seq <= found.seq <= episode.last_seq]
            assert (ours[0].type, ours[-1].type) == (v.SPAWNED, v.TERMINATED)
            assert episode.last_seq == events[-1].seq
            totals = fold(SessionActivity(), ours)
            assert (episode.tokens_used, totals.tokens_used) == (session * 10 + 1, session * 10 + 1)
            assert [(one["tool"], one["seq"]) for one in episode.actions] == list(totals.actions)
            assert {tool for tool, _ in totals.actions} == {f"tool-{session}"}
