"""What differs between two moments, and who set what is there."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta, timezone
from io import BytesIO
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from contracts.authors import Author
from duramen.actors import AgentSystem
from duramen.events import Event, InvalidMessage, InvalidPath, PathNotFound
from duramen.events.codec.event_codec import Codec
from duramen.events.log.keys import partition_of
from duramen.events.log.records import Base
from duramen.events.model.causation import (
    EXTERNAL,
    Cause,
    Handling,
    event_id,
    is_log_id,
    log_id,
    parse_event_id,
    partition_of_log,
)
from duramen.events.model.event import Granularity
from duramen.events.model.limits import Limits
from duramen.projections import Blame
from duramen.projections.history.causes import Causes
from duramen.projections.history.comparison import compare
from duramen.projections.history.past_state import PastState
from duramen.projections.recovery import AgentLog, BaseState, pack_base, rebuild
from duramen.projections.state.agent_state import AgentState

PATH = "acme/alice"


@pytest.fixture
def system() -> Iterator[AgentSystem]:
    with AgentSystem.open("memory://") as found:
        yield found


def past(memory: dict[str, Any], agent: str = PATH) -> PastState:
    return PastState(agent, AgentState(memory=memory), None)


# -- diff --------------------------------------------------------------------------------------------------------------


def test_a_diff_names_what_was_added_removed_and_changed_by_path(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"goal": "x", "old": {"a": 1}, "l": [1, 2, 3], "a/b": 1})
    agent.set("goal", "y")
    agent.delete("old")
    agent.set("new", {"deep": [1]})
    agent.set("l/1", 20)
    agent.delete("l/2")
    agent.set("a~1b", 2)
    found = system.diff(PATH, 1)
    assert found.added == {"new": {"deep": [1]}}
    assert found.removed == {"old": {"a": 1}, "l/2": 3}
    assert found.changed == {"goal": ("x", "y"), "l/1": (2, 20), "a~1b": (1, 2)}
    assert found and not found.lifecycle and (found.a.seq, found.b.seq) == (1, 7)
    back = system.diff(PATH, None, 1)
    assert (back.added, back.removed) == (found.removed, found.added)
    assert back.changed == {path: (new, old) for path, (old, new) in found.changed.items()}


def test_a_moment_does_not_differ_from_itself(system: AgentSystem) -> None:
    system.spawn(PATH, initial_state={"nan": float("nan"), "l": [{}]})
    found = system.diff(PATH, 1, 1)
    assert not found and len(found.memory) == 0
    assert str(found).splitlines()[-1].strip() == "no difference"


def test_values_of_another_type_differ() -> None:
    for old, new in ((1, True), (1, 1.0), (0.0, -0.0), ("a", b"a"), ({}, []), (None, 0)):
        assert list(compare(past({"v": old}), past({"v": new})).changed) == ["v"]


def test_checkpoints_times_and_other_agents_are_moments_too(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"goal": "x"})
    agent.pause("lunch")
    agent.resume("lunch")
    agent.set("goal", "y")
    system.spawn("acme/bob", initial_state={"goal": "z"})
    assert system.diff(PATH, "lunch").changed == {"goal": ("x", "y")}
    assert system.diff(PATH, "lunch").lifecycle["status"] == ("paused", "running")
    assert system.diff(PATH, next(iter(system.events(PATH))).time, 4).changed == {"goal": ("x", "y")}
    assert system.diff(PATH, 4, other="acme/bob").changed == {"goal": ("y", "z")}
    assert system.diff(PATH, "lunch", 1, other="acme/bob").changed == {"goal": ("x", "z")}


def test_a_diff_can_be_read_by_people_and_by_programs(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"goal": "x", "l": list(range(12))})
    agent.set("goal", "y" * 500)
    agent.set("l/10", "ten")
    agent.set("l/2", "two")
    agent.delete("l/11")
    agent.pause("lunch")
    found = system.diff(PATH, 1)
    lines = str(found).splitlines()
    assert lines[:2] == ["--- acme/alice at 1", "+++ acme/alice at 6"]
    assert lines[2:4] == ["  status: 'running' → 'paused'", "  paused_at: None → 'lunch'"]
    assert [line.split(":")[0] for line in lines[4:]] == ["~ goal", "~ l/2", "~ l/10", "- l/11"]
    assert max(map(len, lines)) < 150
    assert json.loads(json.dumps(found.as_data()))["changed"]["l/2"] == [2, "two"]


TREES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.sampled_from([None, 1, True, "x"]),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)


def patched(tree: Any, found: Any) -> Any:
    """Carry a comparison out, by hand."""
    tree = copy.deepcopy(tree)

    def place(path: str) -> tuple[Any, Any]:
        *above, last = path.split("/")
        node = tree
        for segment in above:
            node = node[int(segment)] if isinstance(node, list) else node[segment]
        return node, int(last) if isinstance(node, list) else last

    for path in sorted(found.removed, key=lambda path: (path.count("/"), path), reverse=True):
        node, last = place(path)
        del node[last]
    for path, value in found.added.items():
        node, last = place(path)
        node.append(value) if isinstance(node, list) else node.update({last: value})
    for path, (_, new) in found.changed.items():
        node, last = place(path)
        node[last] = new
    return tree


@given(TREES, TREES)
def test_what_a_diff_says_turns_one_into_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = compare(past(copy.deepcopy(old)), past(copy.deepcopy(new)))
    assert past(patched(old, found)).memory == new
    assert bool(found) == (not PastState.__eq__(past(old), past(new)))


# -- blame -------------------------------------------------------------------------------------------------------------


def test_blame_names_the_event_that_set_a_value(system: AgentSystem) -> None:
    agent = system.spawn(PATH, session_id="s-1", initial_state={"goal": "x", "plan": {"steps": ["read"]}})
    agent.append("plan/steps", "think", command_id="c-1")
    agent.merge("plan", {"tone": "dry"})
    agent.set("plan/steps/0", "READ")
    expected = {"plan/steps/0": 4, "plan/steps/1": 2, "plan/tone": 3, "goal": 1}
    for path, seq in expected.items():
        found = system.blame(PATH, path)
        assert (found.path, found.seq, found.event.seq if found.event else 0, found.leaves) == (path, seq, seq, {})
        assert found.session_id == "s-1" and found.value == agent.get(path)
    assert system.blame(PATH, "plan/steps/1").command_id == "c-1"
    whole = system.blame(PATH)
    assert {path: leaf.seq for path, leaf in whole.leaves.items()} == expected
    assert whole.seq == 4
    assert system.blame(PATH, "plan/steps").seq == 4
    assert system.blame(PATH, "plan/steps/0", 3).seq == 1, "as it was at a moment"
    assert "set by acme/alice@2" in str(system.blame(PATH, "plan/steps/1"))
    assert json.loads(json.dumps(whole.as_data(), default=str))["leaves"] == expected


def test_a_blame_is_told_in_local_time(system: AgentSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    system.spawn(PATH, initial_state={"goal": "x"})
    found = system.blame(PATH, "goal")
    try:
        monkeypatch.setenv("TZ", "JST-9")
        time.tzset()
        told = str(found)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found.event is not None
    assert f"{found.event.time.astimezone(timezone(timedelta(hours=9))):%Y-%m-%d %H:%M:%S}" in told
    assert f"{found.event.time:%H:%M:%S}" not in told, "control: not in UTC"


def test_blame_follows_elements_that_move(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"l": ["a"]})
    for number in range(5):
        agent.append("l", number)
    agent.delete("l/0")
    agent.delete("l/1")
    assert [system.blame(PATH, f"l/{at}").seq for at in range(4)] == [2, 4, 5, 6]


def test_an_empty_container_is_blamed_on_the_event_that_emptied_it(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"a": {}, "l": [1], "d": {"x": {"y": 1}}})
    agent.set("n", 1)
    agent.delete("l/0")
    agent.merge("d", {"x": {"y": None}})
    agent.set("e", [[], {}])
    found = {path: system.blame(PATH, path).seq for path in ("a", "l", "d/x", "e/0", "e/1")}
    assert found == {"a": 1, "l": 3, "d/x": 4, "e/0": 5, "e/1": 5}
    assert {path: leaf.seq for path, leaf in system.blame(PATH).leaves.items()} == {**found, "n": 2}


def carriers(found: Blame) -> list[str]:
    return [f"{event.agent}@{event.seq} {event.type}" for event in found.carried_by]


def test_blame_goes_through_a_resume_to_the_event_that_set_the_value(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"goal": "x", "l": ["a" * 50, 2], "none": {}})
    with agent.batch(command_id="c-1") as batch:
        batch.record("tool_output", {"tool": "search", "result": 42})
        batch.set("answer", 42)
    agent.pause("lunch")
    agent.resume("lunch")
    agent.set("goal", "y")
    agent.delete("answer")
    agent.set("none", 1)
    agent.append("l", 3)
    agent.resume("lunch")
    last = system.peek(PATH).seq
    assert (system.blame(PATH, "l/0").seq, carriers(system.blame(PATH, "l/0"))) == (1, [])  # the control: it stayed
    for path, seq in {"goal": 1, "answer": 3, "none": 1}.items():
        found = system.blame(PATH, path)
        assert (found.seq, carriers(found)) == (seq, [f"{PATH}@{last} resumed"]), path
    found = system.blame(PATH, "answer")
    assert found.tool is not None and (found.tool.seq, found.command_id) == (2, "c-1")
    assert f"carried by {PATH}@{last}: resumed from checkpoint lunch" in str(found)
    assert json.loads(json.dumps(found.as_data(), default=str))["carried_by"] == [f"{PATH}@{last}"]
    whole = system.blame(PATH)
    assert {path: leaf.seq for path, leaf in whole.leaves.items()} == {
        "goal": 1, "answer": 3, "none": 1, "l/0": 1, "l/1": 1,
    }  # fmt: skip
    assert whole.seq == 3


def test_blame_goes_through_resumes_of_resumes_and_elements_that_move(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"l": ["a", "b"]})
    agent.set("l/1", "c")  # 2
    agent.pause("one")  # 3
    agent.resume("one")  # 4
    agent.set("l", 0)  # 5
    agent.resume("one")  # 6 restored, 7
    agent.pause("two")  # 8
    agent.resume("two")  # 9
    agent.delete("l")  # 10
    agent.resume("two")  # 11, 12
    agent.delete("l/0")  # 13
    found = system.blame(PATH, "l/0")
    assert (found.value, found.seq) == ("c", 2)
    assert carriers(found) == [f"{PATH}@12 resumed", f"{PATH}@7 resumed"]


def test_a_resume_from_before_a_trim_is_itself_to_blame(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"goal": "x"})
    agent.pause("lunch", ttl=None)
    agent.resume("lunch")
    agent.set("goal", "y")
    agent_log = AgentLog(system.log, PATH, Limits())
    base = rebuild(agent_log, to_seq=3).state
    agent.resume("lunch")
    system.log.trim(PATH, Base(3, base.digest), pack_base(agent_log, BaseState(base)))
    found = system.blame(PATH, "goal")
    assert found.event is not None and (found.event.type, carriers(found)) == ("memory_restored", [])


def test_blame_goes_through_forks_into_the_logs_of_their_origins(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"goal": "x", "l": ["a", "b"], "none": {}})
    with agent.batch(command_id="c-1") as batch:
        batch.record("tool_output", {"tool": "search", "result": 42})
        batch.set("answer", 42)
    system.fork(PATH, to="acme/one").set("l/1", "c")
    agent.set("answer", "of no matter")
    two = system.fork("acme/one", to="acme/two")
    two.delete("l/0")
    two.set("own", 1)
    two.pause("lunch")
    two.resume("lunch")
    two.delete("answer")
    two.resume("lunch")
    last = system.peek("acme/two").seq
    expected = {
        "answer": (PATH, 3, [f"acme/two@{last} resumed", "acme/two@6 forked", "acme/one@4 forked"]),
        "goal": (PATH, 1, ["acme/two@6 forked", "acme/one@4 forked"]),
        "none": (PATH, 1, ["acme/two@6 forked", "acme/one@4 forked"]),
        "l/0": ("acme/one", 5, ["acme/two@6 forked"]),
        "own": ("acme/two", 8, []),
    }
    whole = system.blame("acme/two")
    for path, answer in expected.items():
        for found in (system.blame("acme/two", path), whole.leaves[path]):
            assert (found.agent, found.seq, carriers(found)) == answer, path
    tool = system.blame("acme/two", "answer").tool
    assert tool is not None and (tool.agent, tool.seq) == (PATH, 2)
    assert (whole.agent, whole.seq) == ("acme/two", 8)
    # Moments from before a fork are those of its origin.
    assert system.blame("acme/two", "l/1", at=2).seq == 1
    with pytest.raises(PathNotFound):
        system.blame("acme/two", "answer", at=1)
    # Where the origins have no such past any more, their bases are all there is.
    system.trim("acme/one", keep_events=0)
    found = system.blame("acme/two", "goal")
    assert (found.agent, found.seq, found.event) == ("acme/one", 5, None)
    assert "set at acme/one@5 or before, which was trimmed" in str(found)
    system.agent("acme/one").set("more", 1)
    system.trim("acme/one", keep_events=0)
    found = system.blame("acme/two", "goal")
    assert (found.agent, found.seq, found.event, carriers(found)) == ("acme/two", 5, None, [])


def test_blame_goes_through_an_import_under_another_path(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"goal": "x"})
    agent.spawn_child("helper", initial_state={"a": 1})
    with agent.batch(command_id="c-1") as batch:
        batch.record("tool_output", {"tool": "search", "result": 42})
        batch.set("answer", 42)
    agent.pause("lunch")
    agent.resume("lunch")
    agent.delete("answer")
    agent.resume("lunch")
    system.fork(PATH, to="acme/fork")
    for path, copied, by in ((PATH, "acme/copy", "resumed"), ("acme/fork", "acme/copied-fork", "forked")):
        file = BytesIO()
        system.export_session(path, file)
        file.seek(0)
        system.import_session(file, copied)
        theirs, ours = system.blame(path, "answer"), system.blame(copied, "answer")
        assert ours.seq == theirs.seq and ours.tool is not None and theirs.tool is not None
        assert (ours.tool.seq, ours.command_id) == (theirs.tool.seq, "c-1")
        assert [event.type for event in ours.carried_by] == [event.type for event in theirs.carried_by]
        assert ours.carried_by[0].type == by and ours.carried_by[0].agent == copied


def test_blame_of_each_value_is_an_event_that_set_it(system: AgentSystem) -> None:
    """Random lives of resumes and forks: the blamed event brought exactly this value, where it is."""
    chance = random.Random(11)
    for life in range(20):
        path = f"acme/life-{life}"
        agent = system.spawn(path, initial_state={"k0": "0", "l": ["0"]})
        saved: list[str] = []
        for step in range(40):
            key, value = f"k{chance.randrange(4)}", f"{step}"
            match chance.randrange(7):
                case 0:
                    saved.append(agent.pause(f"c{step}", ttl=None).data["checkpoint_id"])
                    agent.resume()
                case 1 if saved:
                    agent.resume(chance.choice(saved), clear_current=chance.random() < 0.7)
                case 2 if step % 5 == 0:
                    path = f"acme/life-{life}-{step}"
                    agent, saved = system.fork(agent.path, to=path), []
                case 3:
                    agent.append("l", value)
                case 4 if len(agent.get("l")) > 1:
                    agent.delete("l/0")
                case _:
                    agent.set(key, value)
        for leaf in system.blame(path).leaves.values():
            event = leaf.event
            assert event is not None and event.type in ("spawned", "memory_set", "memory_appended")
            assert f"'{leaf.value}'" in str(event.data)


def test_blame_of_a_path_without_a_value_is_refused(system: AgentSystem) -> None:
    system.spawn(PATH, initial_state={"l": list(range(20))})
    with pytest.raises(PathNotFound):
        system.blame(PATH, "no")
    with pytest.raises(InvalidPath):
        system.blame(PATH, "a//b")
    with pytest.raises(InvalidMessage):
        system.blame(PATH, "l", most=19)
    assert len(system.blame(PATH, "l", most=20).leaves) == 20


def naive_blame(memory: Any, setter: dict[str, int]) -> dict[str, int]:
    return {path: setter[path] for path in memory}


def test_blame_agrees_with_a_count_kept_beside(system: AgentSystem) -> None:
    chance = random.Random(3)
    agent = system.spawn(PATH)
    setters: dict[str, int] = {}
    seq = 1
    for _ in range(200):
        key = f"k{chance.randrange(12)}"
        seq += 1
        if key in setters and chance.random() < 0.3:
            agent.delete(key)
            del setters[key]
        else:
            agent.set(key, chance.random())
            setters[key] = seq
    assert {path: leaf.seq for path, leaf in system.blame(PATH).leaves.items()} == setters


def test_the_tool_of_the_same_command_is_found(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    with agent.batch(command_id="c-1") as batch:
        batch.record("tool_output", {"tool": "search", "result": "far"})
        batch.record("tool_output", {"tool": "search", "result": "near"})
        batch.set("answer", 42)
    agent.record("tool_output", {"tool": "other"})
    agent.set("alone", 1)
    found = system.blame(PATH, "answer")
    assert found.tool is not None and found.tool.data["data"]["result"] == "near"
    assert "output of tool search" in str(found)
    assert system.blame(PATH, "alone").tool is None


# -- causes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "acme/alice", "acme/alice@", "acme/alice@0", "acme/alice@01", "alice@1", "a/b@-1", "a/b@x", None]
)
def test_what_is_no_id_of_an_event_is_none(text: str | None) -> None:
    assert parse_event_id(text) is None


def test_an_id_of_an_event_is_read_back() -> None:
    name = log_id("acme/alice/helper")
    assert event_id("acme/alice/helper", 12) == f"{name}@12"
    assert parse_event_id(f"{name}@12") == (name, 12)
    assert parse_event_id("acme/alice/helper@12") == ("acme/alice/helper", 12), "as it was stored once"


def test_the_id_of_a_log_is_short_tells_its_partition_and_nothing_of_the_path() -> None:
    paths = [f"acme/{name}{deeper}" for name in ("alice", "bob", "x" * 200) for deeper in ("", "/helper", "/a/b")]
    names = [log_id(path) for path in paths]
    assert len(set(names)) == len(paths)
    assert {len(name) for name in names} == {22}
    assert all(is_log_id(name) and not is_log_id(path) for name, path in zip(names, paths, strict=True))
    for partitions in (1, 16, 4_096):
        assert [partition_of_log(name, partitions) for name in names] == [
            partition_of(path, partitions) for path in paths
        ]


def old_id(agent: str, seq: int) -> str:
    return f"{agent}@{seq}"


def test_causes_are_handed_on_from_handling_to_handling() -> None:
    first = Handling(PATH, 10)
    assert first.message_cause(10) == EXTERNAL, "it has emitted nothing yet"
    assert first.event_cause() == Cause(None, event_id("acme/alice", 11))
    sent = first.message_cause(12)
    assert sent == Cause(event_id("acme/alice", 12), event_id("acme/alice", 11))
    second = Handling("acme/bob", 4, sent)
    assert second.event_cause() == sent
    assert second.message_cause(4) == sent, "who emits nothing hands on what it got"
    assert second.message_cause(5) == Cause(event_id("acme/bob", 5), event_id("acme/alice", 11))


def written(system: AgentSystem, agent: str, events: list[tuple[str, dict[str, Any], Cause]]) -> None:
    """Events with causes, written behind the library's back: it does not store any by itself here."""
    author = Author(system.log, agent).after_claim()
    codec = Codec(Limits())
    for kind, data, cause in events:
        body = codec.pack(
            [kind, 1, Granularity.STATE.value, 1, data, "s", None, cause.causation_id, cause.correlation_id, None]
        )
        author.write(body)


@pytest.mark.parametrize("id_of", [event_id, old_id])
def test_blame_follows_causes_across_agents_to_the_tool(system: AgentSystem, id_of: Callable[[str, int], str]) -> None:
    for path in (PATH, "acme/bob"):
        system.spawn(path)
    root = Handling("acme/bob", 1).event_cause()
    output = {"kind": "tool_output", "data": {"tool": "search", "result": 1}}
    written(system, "acme/bob", [("activity_recorded", output, root), ("memory_set", {"path": "b", "value": 1}, root)])
    cause = Cause(id_of("acme/bob", 3), root.correlation_id)
    written(system, PATH, [("memory_set", {"path": "a", "value": 1}, cause)])
    found = system.blame(PATH, "a")
    assert [(event.agent, event.seq) for event in found.causes] == [("acme/bob", 3)]
    assert found.tool is not None and (found.tool.agent, found.tool.seq) == ("acme/bob", 2)
    assert "caused by acme/bob@3" in str(found)


def test_causes_that_go_round_or_nowhere_end(system: AgentSystem) -> None:
    system.spawn(PATH)
    written(
        system,
        PATH,
        [
            ("memory_set", {"path": "a", "value": 1}, Cause(event_id("acme/alice", 3))),
            ("memory_set", {"path": "b", "value": 1}, Cause(event_id("acme/alice", 2))),
            ("memory_set", {"path": "c", "value": 1}, Cause(event_id("acme/gone", 7))),
            ("memory_set", {"path": "d", "value": 1}, Cause("an id of another program")),
        ],
    )
    assert [event.seq for event in system.blame(PATH, "a").causes] == [3]
    assert system.blame(PATH, "c").causes == system.blame(PATH, "d").causes == ()


def test_an_agent_that_was_made_anew_has_caused_nothing_of_before(system: AgentSystem) -> None:
    helper = system.spawn("acme/bob")
    system.spawn(PATH)
    helper.set("b", 1)
    cause = Cause(event_id("acme/bob", 2))
    written(system, PATH, [("memory_set", {"path": "a", "value": 1}, cause)])
    now = next(event for event in system.events("acme/bob") if event.seq == 2).time
    [event] = [event for event in system.events(PATH) if event.causation_id == cause.causation_id]
    found = Causes(AgentLog(system.log, PATH, Limits()))
    assert [each.seq for each in found.causes(evolve(event, time=now))] == [2], "control: the same log"
    assert found.causes(evolve(event, time=now - timedelta(hours=1))) == ()


def test_what_is_looked_up_is_bounded(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    for number in range(200):
        agent.set("n", number)
    causes: Any = Causes(AgentLog(system.log, PATH, Limits(), system._registry))
    found: list[Event | None] = [causes.event(PATH, seq) for seq in range(1, 203)]
    assert [event.seq for event in found if event] == list(range(1, 202)) and found[-1] is None
    assert len(causes._pages) <= 256
