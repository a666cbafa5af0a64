"""An index of patterns says what asking each pattern would say, however patterns come and go."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.events.errors import InvalidPath
from duramen.events.model import pattern_index
from duramen.events.model.pattern_index import PatternIndex
from duramen.events.model.patterns import PathPattern

steps = st.sampled_from(["a", "b", "*", "**"])
patterns = st.lists(steps, max_size=5).map(lambda segments: PathPattern(tuple(segments)))
written = st.lists(st.sampled_from(["a", "*", "**", "~*", "~**", "~"]), max_size=5).map("/".join)
any_patterns = patterns | written.map(PathPattern.parse)
names = st.sampled_from(["a", "b", "c"])
paths = st.lists(names | st.sampled_from(["*", "**", ""]), max_size=5).map(tuple)
tokens = st.integers(0, 3)


def index_of(pairs: list[tuple[PathPattern, int]]) -> PatternIndex[int]:
    index: PatternIndex[int] = PatternIndex()
    for pattern, token in pairs:
        index.add(pattern, token)
    return index


@given(st.lists(st.tuples(any_patterns, tokens), max_size=12), st.lists(paths, max_size=6))
def test_an_index_finds_what_each_pattern_by_itself_would(
    pairs: list[tuple[PathPattern, int]], asked: list[tuple[str, ...]]
) -> None:
    index = index_of(pairs)
    for path in [*asked, *asked]:  # the second time from memory
        assert index.match(path) == {token for pattern, token in pairs if pattern.matches(path)}


@given(st.lists(st.tuples(any_patterns, tokens), max_size=12), st.data())
def test_what_was_removed_is_as_if_it_had_never_been_added(
    pairs: list[tuple[PathPattern, int]], data: st.DataObject
) -> None:
    index = index_of(pairs)
    left = list(pairs)
    while left and data.draw(st.booleans()):
        gone = data.draw(st.sampled_from(left))
        left.remove(gone)
        index.remove(*gone)
        path = data.draw(paths)
        assert index.match(path) == index_of(left).match(path)
        assert index.match_below(path) == index_of(left).match_below(path)
    assert len(index) == len(left)


@given(st.lists(st.tuples(patterns, tokens), max_size=8), st.lists(names, max_size=3).map(tuple))
def test_below_a_path_an_index_finds_whoever_could_match_something_there(
    pairs: list[tuple[PathPattern, int]], path: tuple[str, ...]
) -> None:
    # Patterns here have five steps at most, and "d" stands for any name that none of them holds.
    tails = [tail for length in range(6) for tail in product("abd", repeat=length)]
    expected = {token for pattern, token in pairs if any(pattern.matches((*path, *tail)) for tail in tails)}
    assert index_of(pairs).match_below(path) == expected


def test_an_emptied_index_has_no_branches_left() -> None:
    index: PatternIndex[str] = PatternIndex()
    for pattern in ("a/b/c", "a/*/c", "a/**"):
        index.add(pattern, "x")
        index.add(pattern, "y")
    for pattern in ("a/b/c", "a/*/c", "a/**"):
        index.remove(pattern, "x")
    assert index.match(("a", "b", "c")) == {"y"}
    for pattern in ("a/b/c", "a/*/c", "a/**"):
        index.remove(pattern, "y")
    assert index._root.is_empty


def test_a_pattern_added_twice_has_to_be_removed_twice() -> None:
    index: PatternIndex[str] = PatternIndex()
    index.add("a/*", "x")
    index.add("a/*", "x")
    index.remove("a/*", "x")
    assert index.match(("a", "b")) == {"x"}
    index.remove("a/*", "x")
    assert index.match(("a", "b")) == frozenset()


@pytest.mark.parametrize(("pattern", "token"), [("a/b", "x"), ("a", "y"), ("**", "x"), ("a/c", "x")])
def test_what_was_never_added_cannot_be_removed(pattern: str, token: str) -> None:
    index: PatternIndex[str] = PatternIndex()
    index.add("a", "x")
    with pytest.raises(KeyError):
        index.remove(pattern, token)
    assert index.match(("a",)) == {"x"}
    assert len(index) == 1


def test_a_text_that_is_no_pattern_is_refused() -> None:
    index: PatternIndex[str] = PatternIndex()
    with pytest.raises(InvalidPath):
        index.add("a/b*", "x")
    assert len(index) == 0


def test_a_new_pattern_counts_for_paths_that_were_asked_for_before() -> None:
    index: PatternIndex[str] = PatternIndex()
    index.add("a/*", "x")
    assert index.match(("a", "b")) == {"x"}
    assert index.match_below(("a",)) == {"x"}
    index.add("a/b", "y")
    assert index.match(["a", "b"]) == {"x", "y"}
    assert index.match_below(("a",)) == {"x", "y"}


@pytest.mark.slow
def test_memory_of_paths_is_bounded() -> None:
    index: PatternIndex[int] = PatternIndex()
    for token in range(50):
        index.add("**", token)
    for number in range(40_000):
        index.match((str(number),))
        index.match_below((str(number),))
    assert len(index._states) <= 2  # however many names there are that no pattern knows
    assert len(index.match(("39999",))) == 50


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["_STATES", "_TOKENS"])
@given(
    st.lists(st.tuples(any_patterns, tokens), max_size=12), st.lists(paths, min_size=1, max_size=12), st.integers(1, 30)
)
def test_what_is_remembered_is_bounded_and_answers_stay_right_when_it_is_forgotten(
    limit: str, pairs: list[tuple[PathPattern, int]], asked: list[tuple[str, ...]], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pattern_index, limit, most)
        index = index_of(pairs)
        for path in asked:
            assert index.match(path) == {token for pattern, token in pairs if pattern.matches(path)}
            assert index.match_below(path) >= index.match(path)
            assert limit == "_TOKENS" or len(index._states) <= most
            assert limit == "_STATES" or index._cached <= most


def test_many_wildcards_do_not_make_a_long_path_slow() -> None:
    index: PatternIndex[int] = PatternIndex()
    index.add("/".join(["**", "a"] * 15), 1)
    index.add("/".join(["**", "*"] * 15), 2)
    assert index.match(("a",) * 32) == {1, 2}
    assert index.match((*("a",) * 31, "b")) == {2}
