"""Which patterns an event concerns, and by which of its paths."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duramen.events import CorruptEvent, DuramenError, Granularity, InvalidMessage, InvalidPath, MemoryLog
from duramen.projections.notifications.event_filter import EventFilter
from duramen.projections.state import AgentState, advance, changed_paths
from duramen.projections.subscriptions.matcher import SubscriptionMatcher

AGENT = "acme/alice"


def raw(kind: str, data: dict[str, Any], level: int = Granularity.STATE) -> list[Any]:
    return [kind, 1, int(level), 0, data, None, None, None, None, None]


def set_(path: str, value: Any) -> list[Any]:
    return raw("memory_set", {"path": path, "value": value})


def interest(pattern: str, **options: Any) -> EventFilter:
    wanted = options.pop("granularity", Granularity.TRACE)
    return EventFilter.parse(pattern, wanted, options.pop("categories", None), options.pop("types", None))


def paths_for(pattern: str, event: list[Any], agent: str = AGENT, **options: Any) -> list[str] | None:
    """By which paths an event concerns a pattern; None if it does not."""
    audience: SubscriptionMatcher[str] = SubscriptionMatcher(lambda _: asked)
    asked = interest(pattern, **options)
    audience.add("it")
    return audience.match(agent, 1, event).get("it")


RESTORED = raw(
    "memory_restored",
    {
        "ops": [
            ["set", ["plan", "title"], "new"],
            ["extend", ["plan", "steps"], ["a"]],
            ["set", ["rows", -1, "x"], 1],
            ["delete", ["old"]],
        ]
    },
)


@pytest.mark.parametrize(
    ("pattern", "event", "paths"),
    [
        # The path itself, and patterns that reach it.
        ("acme/alice/status", set_("status", 1), ["status"]),
        ("acme/*/status", set_("status", 1), ["status"]),
        ("**/status", set_("task/status", 1), ["task/status"]),
        ("acme/*/plan/**", set_("plan/steps/0", 1), ["plan/steps/0"]),
        ("acme/**", set_("status", 1), ["status"]),
        ("acme/alice", set_("status", 1), None),
        ("acme/alice/status", set_("status/code", 1), None),
        ("globex/**", set_("status", 1), None),
        # A whole subtree: who watches something in it is told.
        ("acme/alice/plan/steps/0", set_("plan", {}), ["plan"]),
        ("**/status", set_("task", {"status": 1}), ["task"]),
        ("**/status", raw("memory_deleted", {"path": "task"}), ["task"]),
        ("acme/alice/plan/steps/0", raw("memory_deleted", {"path": "plan"}), ["plan"]),
        # A scalar: only who names a fixed place below, where something may have been.
        ("acme/alice/plan/steps/0", set_("plan", 1), ["plan"]),
        ("acme/*/*/steps", set_("plan", None), ["plan"]),
        ("**/status", set_("task", 1), None),
        # Lists: an element more or less changes the list.
        ("acme/alice/steps", raw("memory_appended", {"path": "steps", "values": ["x"]}), ["steps"]),
        ("acme/alice/steps/*", raw("memory_appended", {"path": "steps", "values": ["x"]}), ["steps"]),
        ("**/status", raw("memory_appended", {"path": "steps", "values": ["x"]}), None),
        ("**/status", raw("memory_appended", {"path": "steps", "values": [{"status": 1}]}), ["steps"]),
        ("acme/alice/steps/3", raw("memory_deleted", {"path": "steps/0"}), ["steps"]),
        ("acme/alice/steps/**", raw("memory_deleted", {"path": "steps/0"}), ["steps/0", "steps"]),
        # A merge changes what its patch names, and where it is merged.
        ("**/tone", raw("memory_merged", {"path": "profile", "patch": {"tone": 1, "x": {"y": 2}}}), ["profile/tone"]),
        ("acme/alice/profile", raw("memory_merged", {"path": "profile", "patch": {"tone": 1}}), ["profile"]),
        (
            "acme/*/profile/x/**",
            raw("memory_merged", {"path": "", "patch": {"profile": {"x": {"y": 2}}}}),
            ["profile/x", "profile/x/y"],
        ),
        # A merged dict may stand where a scalar or a list was.
        ("acme/alice/status", raw("memory_merged", {"path": "", "patch": {"status": {"code": 1}}}), ["status"]),
        ("acme/alice/steps/0", raw("memory_merged", {"path": "", "patch": {"steps": {"first": 1}}}), ["steps"]),
        ("acme/alice/steps/0/x", raw("memory_merged", {"path": "steps", "patch": {"first": 1}}), ["steps"]),
        ("acme/*/steps/1/x", raw("memory_merged", {"path": "", "patch": {"steps": {"first": 1}}}), ["steps"]),
        ("acme/*/steps/*", raw("memory_merged", {"path": "steps", "patch": {"first": 1}}), ["steps", "steps/first"]),
        ("acme/alice/steps/**/x", raw("memory_merged", {"path": "steps", "patch": {"first": 1}}), ["steps"]),
        ("acme/*/profile/age", raw("memory_merged", {"path": "", "patch": {"profile": {"tone": 1}}}), None),
        ("**/age", raw("memory_merged", {"path": "", "patch": {"profile": {"tone": 1}}}), None),
        ("acme/*/other", raw("memory_merged", {"path": "", "patch": {"profile": {"x": 1}}}), None),
        (
            "acme/alice/profile/old/x",
            raw("memory_merged", {"path": "profile", "patch": {"old": None}}),
            ["profile/old"],
        ),
        ("acme/alice", raw("memory_merged", {"path": "", "patch": {"x": 1}}), None),
        # A restore: what it changes, not what it leaves.
        ("**/title", RESTORED, ["plan/title", "rows", "old"]),
        ("acme/alice/plan/steps/**", RESTORED, ["plan/steps"]),
        ("acme/alice/rows/*/x", RESTORED, ["rows"]),
        ("acme/alice/goal", RESTORED, None),
        # No property: the agent's path.
        ("acme/alice", raw("paused", {}, Granularity.LIFECYCLE), []),
        ("acme/**", raw("activity_recorded", {"kind": "x", "data": None}, Granularity.ACTIVITY), []),
        ("acme/*", raw("claim_found", {"path": "status"}), []),
        ("acme/*/status", raw("claim_found", {"path": "status"}), None),
        ("acme/*/status", raw("paused", {}, Granularity.LIFECYCLE), None),
        # Both.
        ("acme/*", raw("spawned", {"memory": {"goal": 1}}, Granularity.LIFECYCLE), []),
        ("acme/**", raw("spawned", {"memory": {"goal": 1}}, Granularity.LIFECYCLE), ["goal"]),
        ("acme/*/goal", raw("spawned", {"memory": {"goal": 1}}, Granularity.LIFECYCLE), ["goal"]),
        ("acme/*/goal", raw("terminated", {"cleared": True}, Granularity.LIFECYCLE), [""]),
        ("acme/*/goal", raw("terminated", {"cleared": False}, Granularity.LIFECYCLE), None),
        ("acme/*", raw("terminated", {"cleared": True}, Granularity.LIFECYCLE), [""]),
    ],
)
def test_an_event_concerns_a_pattern_by_the_paths_that_it_names(
    pattern: str, event: list[Any], paths: list[str] | None
) -> None:
    assert paths_for(pattern, event) == paths


KEYS = ("a", "b", "0")
TREES = st.recursive(
    st.sampled_from([None, 1, "x"]),
    lambda child: st.lists(child, max_size=2) | st.dictionaries(st.sampled_from(KEYS), child, max_size=2),
    max_leaves=4,
)
PATHS = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map("/".join)
EDITS = st.one_of(
    st.builds(set_, PATHS, TREES),
    st.builds(lambda path: raw("memory_deleted", {"path": path}), PATHS),
    st.builds(lambda path, value: raw("memory_appended", {"path": path, "values": [value]}), PATHS, TREES),
    st.builds(lambda path, patch: raw("memory_merged", {"path": path, "patch": patch}), st.just("") | PATHS, TREES),
)


def places(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """By path, a scalar itself, of a list its length, of a dict its type."""
    if isinstance(value, dict):
        inner = [places(held, (*path, key)) for key, held in value.items()]
        return {path: dict} | {place: held for each in inner for place, held in each.items()}
    if isinstance(value, list):
        inner = [places(held, (*path, str(index))) for index, held in enumerate(value)]
        return {path: len(value)} | {place: held for each in inner for place, held in each.items()}
    return {path: (value,)}


@pytest.mark.slow
@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(KEYS), TREES, min_size=2), EDITS)
def test_whatever_is_gone_or_another_is_told_to_its_subscribers(memory: dict[str, Any], edit: list[Any]) -> None:
    state = AgentState(memory=deepcopy(memory))
    try:
        advance(state, deepcopy(edit), b"", 10)
    except DuramenError:
        return
    old, new = places(memory), places(state.memory)
    for path in [path for path, held in old.items() if new.get(path) != held]:
        name = "/".join(path)
        assert paths_for(f"{AGENT}/{name}", edit), name
        assert paths_for(f"{AGENT}/{name}/**", edit), name


def test_a_sub_agents_path_and_a_property_path_are_joined_alike() -> None:
    assert paths_for("acme/alice/helper/**", set_("x", 1), "acme/alice/helper") == ["x"]
    assert paths_for("acme/alice/helper/x", set_("helper/x", 1)) == ["helper/x"]


def test_an_escaped_slash_does_not_part_a_segment() -> None:
    assert paths_for("acme/alice/a~1b", set_("a~1b", 1)) == ["a~1b"]
    assert paths_for("acme/alice/a/b", set_("a~1b", 1)) is None


def test_an_event_that_changes_too_many_paths_to_name_has_changed_the_whole() -> None:
    patch = {f"k{number}": number for number in range(300)}
    assert paths_for("acme/alice/deep/k5", raw("memory_merged", {"path": "deep", "patch": patch})) == ["deep"]
    assert paths_for("acme/alice/none", raw("spawned", {"memory": patch}, Granularity.LIFECYCLE)) == [""]


@pytest.mark.parametrize(
    "data", [{}, {"path": 1, "value": 1}, {"path": "a//b", "value": 1}, {"path": None, "value": 1}]
)
def test_an_event_of_ours_with_data_of_another_form_is_corrupt(data: dict[str, Any]) -> None:
    with pytest.raises(CorruptEvent) as caught:
        changed_paths(AGENT, 7, raw("memory_set", data))
    assert (caught.value.agent, caught.value.seq) == (AGENT, 7)


# -- levels and types ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", list(Granularity))
def test_granularity_is_the_highest_level_and_categories_are_exact(level: Granularity) -> None:
    event = raw("some_event", {}, level)
    for wanted in Granularity:
        assert (paths_for("acme/**", event, granularity=wanted) is not None) == (level <= wanted)
        assert (paths_for("acme/**", event, categories=[wanted.name.lower()]) is not None) == (level == wanted)
        assert (paths_for("acme/**", event, categories={wanted}) is not None) == (level == wanted)


def test_types_are_exact() -> None:
    assert paths_for("acme/**", raw("claim_found", {}), types=["claim_found"]) == []
    assert paths_for("acme/**", raw("claim_lost", {}), types=["claim_found"]) is None


@pytest.mark.parametrize("pattern", ["", "acme", "*"])
def test_a_pattern_that_no_agent_can_match_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidPath, match="no agent matches"):
        interest(pattern)


@pytest.mark.parametrize(
    "options", [{"categories": "state"}, {"categories": ["no"]}, {"categories": []}, {"types": "x"}]
)
def test_categories_and_types_of_another_form_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        interest("acme/**", **options)


def test_only_the_partition_of_a_named_root_agent_is_read() -> None:
    log = MemoryLog()
    assert interest("acme/alice/**").partitions(log) == [log.partition_of("acme/alice")]
    assert interest("acme/alice/helper/x").partitions(log) == [log.partition_of("acme/alice/helper")]
    for anywhere in ("**/status", "acme/*/x", "acme/**", "*/alice", "acme/**/alice"):
        assert interest(anywhere).partitions(log) == list(range(16))


# -- many at once ------------------------------------------------------------------------------------------------------

names = st.sampled_from(["acme", "alice", "bob", "plan", "0", "x"])
patterns = st.lists(st.one_of(names, st.sampled_from(["*", "**"])), min_size=2, max_size=5).map("/".join)
events = st.one_of(
    st.builds(set_, st.lists(names, min_size=1, max_size=3).map("/".join), st.sampled_from([1, {}, []])),
    st.builds(
        lambda path: raw("memory_deleted", {"path": path}), st.lists(names, min_size=1, max_size=3).map("/".join)
    ),
    st.just(raw("paused", {}, Granularity.LIFECYCLE)),
)


@given(st.lists(patterns, max_size=6), st.lists(st.tuples(st.sampled_from([AGENT, "acme/bob"]), events), max_size=6))
def test_all_together_hear_what_each_would_hear_alone(wanted: list[str], told: list[tuple[str, list[Any]]]) -> None:
    interests = {number: interest(pattern) for number, pattern in enumerate(wanted)}
    audience: SubscriptionMatcher[int] = SubscriptionMatcher(interests.__getitem__)
    for number in interests:
        audience.add(number)
    for agent, event in told:
        found = audience.match(agent, 1, event)
        alone = {number: paths_for(pattern, event, agent) for number, pattern in enumerate(wanted)}
        assert found == {number: paths for number, paths in alone.items() if paths is not None}
        assert audience.wants(agent) or not found  # who is passed over unread cannot have concerned anybody
    for number in interests:
        audience.remove(number)
    assert all(not audience.match(agent, 1, event) for agent, event in told)


@given(patterns, st.lists(names, min_size=1, max_size=3))
def test_who_watches_a_changed_path_always_hears_of_it(pattern: str, path: list[str]) -> None:
    asked = interest(pattern)
    matched = asked.pattern.matches((*AGENT.split("/"), *path))
    heard = paths_for(pattern, set_("/".join(path), 1))
    assert heard is not None or not matched
