"""Values that subscriptions and histories tell, against states folded from the log at each seq."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import pytest
from attrs import evolve

from duramen.actors import AgentHandle, AgentSystem
from duramen.events import DuramenError
from duramen.events.model import same_value
from duramen.projections import MISSING, Change
from following import OpenSystem

PATH = "acme/alice"
KEYS = ("a", "b", "0")
PATTERNS = ("**", "a", "a/*", "a/b", "a/0", "b/0", "a/**/b", "0/**")
SECONDS = 30.0
START: dict[str, Any] = {"a": {"b": [1, 2], "0": 1}, "b": [0, {"a": 1}], "0": 5}


def value_for(rng: random.Random, depth: int = 2) -> Any:
    kind = rng.randrange(6 if depth else 3)
    if kind < 3:
        return rng.choice([None, 1, 2, "x", True, 1.0])
    if kind < 5:
        return {rng.choice(KEYS): value_for(rng, depth - 1) for _ in range(rng.randrange(3))}
    return [value_for(rng, depth - 1) for _ in range(rng.randrange(3))]


def path_for(rng: random.Random) -> str:
    return "/".join(rng.choice(KEYS) for _ in range(rng.randrange(1, 4)))


def patch_for(rng: random.Random) -> dict[str, Any]:
    return {rng.choice(KEYS): value_for(rng) for _ in range(rng.randrange(1, 3))}


def change_something(alice: AgentHandle, rng: random.Random) -> None:
    """One call that changes memory, of any kind. Many do not fit what is there, and are refused."""
    kind = rng.choice(("set", "merge", "merge", "merge_root", "append", "extend", "delete", "batch", "pause", "resume"))
    with suppress(DuramenError):
        if kind == "set":
            alice.set(path_for(rng), value_for(rng))
        elif kind == "merge":
            alice.merge(path_for(rng), patch_for(rng))
        elif kind == "merge_root":
            alice.merge("", patch_for(rng))
        elif kind == "append":
            alice.append(path_for(rng), value_for(rng))
        elif kind == "extend":
            alice.extend(path_for(rng), [value_for(rng) for _ in range(rng.randrange(3))])
        elif kind == "delete":
            alice.delete(path_for(rng))
        elif kind == "batch":
            with alice.batch() as batch:
                batch.set(path_for(rng), value_for(rng))
                batch.merge("", patch_for(rng))
                batch.delete(rng.choice(KEYS))
        elif kind == "pause":
            alice.pause(checkpoint_id="c")
            alice.resume()
        else:
            alice.pause()
            try:
                alice.resume("c", clear_current=rng.random() < 0.5)
            except DuramenError:
                alice.resume()


def change_at_random(alice: AgentHandle, seed: int) -> None:
    """Some changes, and at the end one of which every subscription is told."""
    rng = random.Random(seed)
    for _ in range(25):
        change_something(alice, rng)
    alice.terminate()


def states_of(system: AgentSystem) -> list[Any]:
    """The working memory after each seq, each folded from the log alone."""
    head = system.peek(PATH).seq
    return [{}, *(system.state_at(PATH, seq).memory.plain() for seq in range(1, head + 1))]


def value_at(memory: Any, path: str) -> Any:
    found = memory
    for segment in path.split("/"):
        held = parts_of(found)
        if segment and segment not in held:
            return MISSING
        found = held[segment] if segment else found
    return found


def parts_of(value: Any) -> dict[str, Any]:
    """What is in a dict or a list, by the segments that name it; nothing is in a scalar."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    return {str(index): held for index, held in enumerate(cast("list[Any]", value))} if isinstance(value, list) else {}


def is_same(first: Any, second: Any) -> bool:
    return first is second if MISSING in (first, second) else same_value(plain(first), plain(second))


def plain(value: Any) -> Any:
    return value.plain() if hasattr(value, "plain") else value


def outline(value: Any) -> str:
    """What an exact pattern is told of: the value of a scalar, the length of a list, that there is a dict."""
    if isinstance(value, dict):
        return "dict"
    return f"list of {len(parts_of(value))}" if isinstance(value, list) else repr(value)


def told(system: AgentSystem, pattern: str, *, latest_only: bool = False) -> list[Change]:
    """All changes of a pattern from the start, up to the last event of the log."""
    last, found = system.peek(PATH).seq, list[Change]()
    with system.subscribe(f"{PATH}/{pattern}", values=True, from_start=True, latest_only=latest_only) as changes:
        while not found or found[-1].seq < last:
            taken = changes.take(timeout=SECONDS)
            assert taken, f"nothing came after {found[-1:]}"
            found += taken
    return found


def wrong_values(states: Sequence[Any], changes: Sequence[Change], every: Sequence[Change]) -> list[tuple[Any, ...]]:
    """Each value told that is not the one of the states; `every` are the changes with none dropped.

    An old value is the one before the first event that named the path after the last change told of it.
    """
    wrong, last = list[tuple[Any, ...]](), dict[str, int]()
    for change in changes:
        for path, (old, new) in (change.values or {}).items():
            first = next(other.seq for other in every if other.seq > last.get(path, 0) and path in other.paths)
            last[path] = change.seq
            if not is_same(old, value_at(states[first - 1], path)):
                wrong.append((change.seq, path, "old", plain(old)))
            if not is_same(new, value_at(states[change.seq], path)):
                wrong.append((change.seq, path, "new", plain(new)))
    return wrong


def is_told_of(path: str, before: Any, after: Any) -> bool:
    """Whether an exact pattern is told of what became of its value, whichever path the event named."""
    old, new = value_at(before, path), value_at(after, path)
    return old is not MISSING and (new is MISSING or outline(old) != outline(new))


def compare_with_states(system: AgentSystem) -> None:
    states = states_of(system)
    seqs = range(1, len(states))
    for pattern in PATTERNS:
        every, latest = told(system, pattern), told(system, pattern, latest_only=True)
        assert wrong_values(states, every, every) == []
        assert wrong_values(states, latest, every) == []
        newest = {path: change.seq for change in every for path in change.paths}
        assert {path: change.seq for change in latest for path in change.paths} == newest
        if "*" in pattern:
            continue
        gone = {seq for seq in seqs if is_told_of(pattern, states[seq - 1], states[seq])}
        assert gone <= {change.seq for change in every}
        history = [(change.event.seq, plain(change.old), plain(change.new)) for change in system.history(PATH, pattern)]
        pairs = [(seq, value_at(states[seq - 1], pattern), value_at(states[seq], pattern)) for seq in seqs]
        expected = [(seq, old, new) for seq, old, new in pairs if not is_same(old, new)]
        assert [seq for seq, *_ in history] == [seq for seq, *_ in expected]
        assert all(
            is_same(had[1], want[1]) and is_same(had[2], want[2]) for had, want in zip(history, expected, strict=True)
        )


@pytest.mark.parametrize("seed", range(4))
def test_values_told_are_those_of_the_states_folded_from_the_log(open_system: OpenSystem, seed: int) -> None:
    system = open_system()
    change_at_random(system.spawn(PATH, initial_state=START), seed)
    compare_with_states(system)


def test_values_told_elsewhere_are_those_of_the_states_folded_from_the_log(open_any: OpenSystem) -> None:
    writer, reader = open_any(), open_any()
    change_at_random(writer.spawn(PATH, initial_state=START), 4)
    compare_with_states(reader)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_values_told_are_those_of_the_states_in_many_lives(open_system: OpenSystem, seed: int) -> None:
    system = open_system()
    change_at_random(system.spawn(PATH, initial_state=START), seed)
    compare_with_states(system)


def test_a_value_of_another_moment_is_found_wrong(open_system: OpenSystem) -> None:
    system = open_system()
    alice = system.spawn(PATH, initial_state={"a": 1})
    alice.merge("", {"a": {"b": 2}})
    alice.terminate()
    every = told(system, "a")
    assert [change.seq for change in every][:2] == [1, 2]
    late = evolve(every[1], values={"a": (MISSING, every[1].values["a"][1])} if every[1].values else None)
    assert wrong_values(states_of(system), [every[0], late, *every[2:]], every) == [(2, "a", "old", MISSING)]
