"""Any key that a value may have can be addressed: written, read, deleted, followed, blamed, compared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duramen.actors import AgentHandle, AgentSystem
from duramen.events import InvalidPath, PathNotFound, PropertyPath
from duramen.projections import Change
from duramen.projections.verification import property_paths

ODD = ["", ".", "..", "*", "**", "a*b", "a/b", "~", "~u000A", "\x00", "line\nline", "\u202e", "e\u0301", "k" * 5_000]
KEYS = st.sampled_from(ODD) | st.text(max_size=6)
NUMBERS = count()


@pytest.fixture(scope="module")
def shared() -> Iterator[AgentSystem]:
    with AgentSystem.open("memory://") as system:
        yield system


def spawn(system: AgentSystem, **items: Any) -> AgentHandle:
    return system.spawn(f"acme/a{next(NUMBERS)}", initial_state=items)


def new_value(change: Change) -> Any:
    """The value that a change has left at its last path."""
    assert change.values is not None
    return change.values[change.paths[-1]][1]


@pytest.mark.slow
@given(keys=st.lists(KEYS, min_size=1, max_size=3), value=st.integers(0, 9))
@example(keys=[""], value=1)
@example(keys=["", ""], value=1)
@example(keys=["*", "..", "\x00"], value=1)
def test_what_is_set_below_any_keys_is_got_by_path_and_by_text(
    shared: AgentSystem, keys: list[str], value: int
) -> None:
    agent, path = spawn(shared), PropertyPath.of(*keys)
    agent.set(path, [value])
    expected: Any = [value]
    for key in reversed(keys):
        expected = {key: expected}
    assert agent.get() == expected
    agent.append(path.text, value)
    assert agent.get(path) == agent.get(path.text) == [value, value]
    assert agent.keys(path.parent or "") == [keys[-1]]
    assert shared.peek(agent.path).get(path) == [value, value]
    setter = shared.blame(agent.path, path).event
    assert setter is not None
    assert setter.type == "memory_appended"
    assert [change.new for change in shared.history(agent.path, path)] == [[value], [value, value]]
    assert list(shared.diff(agent.path, 1, 2).added) == [PropertyPath.of(keys[0]).text]
    agent.merge(path.text, {"": 1})
    assert agent.get(path.child("")) == 1
    agent.delete(path)
    assert agent.keys(path.parent or "") == []
    with pytest.raises(PathNotFound):
        agent.get(path)
    [deleted] = [event for event in shared.events(agent.path) if event.type == "memory_deleted"]
    assert deleted.data["path"] == path.text


@pytest.mark.slow
@given(path=property_paths(min_segments=1))
def test_the_root_is_not_what_an_empty_key_has(shared: AgentSystem, path: PropertyPath) -> None:
    agent = spawn(shared, **{"": 0})
    agent.merge("", {"": {"x": 1}})
    assert agent.get(PropertyPath.of("")) == {"x": 1}
    assert agent.get("~") == {"x": 1}
    assert agent.get("") == {"": {"x": 1}}
    agent.set(PropertyPath.of("", *path.segments), path.text)
    assert agent.get(f"~/{path}") == path.text


@pytest.mark.parametrize("key", ODD)
def test_changes_are_told_with_a_path_that_leads_to_the_value(shared: AgentSystem, key: str) -> None:
    agent = spawn(shared)
    path = PropertyPath.of("a", key)
    with shared.subscribe(f"{agent.path}/**", values=True) as changes:
        agent.merge("", {"a": {key: [1]}})
        agent.append(path, 2)
        agent.set(path.child(0), 3)
        agent.delete(path)
        found = list(islice(changes, 4))
    assert [change.paths for change in found] == [("a", path.text), (path.text,), (path.child(0).text,), (path.text,)]
    assert [new_value(change) for change in found[:3]] == [[1], [1, 2], 3]
    for told in [text for change in found for text in change.paths]:
        assert PropertyPath.parse(told).segments[:2] in (("a",), ("a", key))


def test_a_subscription_to_a_star_is_not_one_to_everything(shared: AgentSystem) -> None:
    agent = spawn(shared)
    with (
        shared.subscribe(f"{agent.path}/~*") as star,
        shared.subscribe(f"{agent.path}/~/**") as below_empty,
        shared.subscribe(f"{agent.path}/*") as every,
    ):
        agent.set("other", 1)
        agent.set("~*", 2)
        agent.set("~/x", 3)
        assert [change.paths for change in islice(every, 2)] == [("other",), ("~*",)]
        assert [change.paths for change in islice(star, 1)] == [("~*",)]
        assert [change.paths for change in islice(below_empty, 1)] == [("~/x",)]


def test_a_value_deeper_than_a_path_may_be_is_told_with_its_value(shared: AgentSystem) -> None:
    agent = spawn(shared)
    patch: Any = 1
    for _ in range(40):
        patch = {"k": patch}
    with shared.subscribe(f"{agent.path}/**", values=True) as changes:
        agent.merge("", patch)
        [change] = islice(changes, 1)
    assert new_value(change) == 1
    assert change.paths[-1] == "/".join("k" * 40)


@pytest.mark.slow
def test_what_is_not_found_names_keys_as_a_path_has_them(shared: AgentSystem) -> None:
    agent = spawn(shared, a={"": 1, "x\ny": 2, "*": 3})
    with pytest.raises(PathNotFound, match=r"the keys of 'a' are '~', 'x~u000Ay', '~\*'"):
        agent.get("a/zzz")
    with pytest.raises(PathNotFound):
        agent.get(PropertyPath.of("a", "q" * 1_000_000))


@pytest.mark.parametrize("text", ["a//b", "a/*", "..", "a\nb"])
def test_a_text_that_looks_like_something_else_is_still_refused(shared: AgentSystem, text: str) -> None:
    with pytest.raises(InvalidPath, match="write '"):
        spawn(shared).set(text, 1)
