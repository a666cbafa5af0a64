"""Path patterns: what they match, what they cost, and what is no pattern."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duramen.events.errors import InvalidPath
from duramen.events.model.paths import AgentPath, PropertyPath
from duramen.events.model.patterns import PathPattern

STEPS = st.lists(st.sampled_from(["a", "b", "*", "**"]), max_size=7).map(tuple)
NAMES = st.lists(st.sampled_from(["a", "b", "c"]), max_size=7).map(tuple)


def reference(steps: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Match in the way the words are explained: exponential, and too simple to be wrong."""
    if not steps:
        return not names
    if steps[0] == "**":
        return any(reference(steps[1:], names[taken:]) for taken in range(len(names) + 1))
    return bool(names) and steps[0] in ("*", names[0]) and reference(steps[1:], names[1:])


@given(STEPS, NAMES)
@example(("**", "a", "*", "b", "**"), ("a", "a", "b", "b"))
@example(("**",), ())
@example(("**", "a", "b"), ("a", "a", "b"))
def test_a_pattern_matches_what_the_reference_matches(steps: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert PathPattern(steps).matches(names) is reference(steps, names)


def test_all_small_patterns_match_what_the_reference_matches() -> None:
    for steps in (s for size in range(5) for s in product(("a", "b", "*", "**"), repeat=size)):
        pattern = PathPattern(steps)
        for names in (n for size in range(5) for n in product(("a", "b"), repeat=size)):
            assert pattern.matches(names) is reference(steps, names), (steps, names)


@given(STEPS)
def test_a_pattern_reads_back_from_its_text(steps: tuple[str, ...]) -> None:
    pattern = PathPattern(steps)
    again = PathPattern.parse(pattern.text)
    assert again == pattern
    assert hash(again) == hash(pattern)
    assert again.segments == steps
    assert str(pattern) == pattern.text
    assert PathPattern.parse(pattern) is pattern


@given(STEPS)
def test_a_pattern_is_literal_if_it_has_no_wildcard(steps: tuple[str, ...]) -> None:
    assert PathPattern(steps).is_literal is not any("*" in step for step in steps)


@given(NAMES, NAMES)
def test_a_literal_pattern_matches_its_own_path_and_no_other(names: tuple[str, ...], others: tuple[str, ...]) -> None:
    pattern = PathPattern(names)
    assert pattern.matches(names)
    assert pattern.matches(others) is (names == others)


@pytest.mark.parametrize(
    ("text", "matching", "others"),
    [
        (
            "acme/*/plan/**",
            ["acme/alice/plan", "acme/bob/plan/steps/0"],
            ["acme/alice", "acme/a/b/plan", "x/a/plan"],
        ),
        ("**", ["", "a", "a/b/c"], []),
        ("*", ["a", "é"], ["", "a/b"]),
        ("**/title", ["title", "plan/0/title"], ["titles", "title/x", ""]),
        ("a/**/b/**/c", ["a/b/c", "a/b/b/c/c", "a/x/b/y/z/c"], ["a/c/b", "a/b", "a/b/c/x"]),
        ("a~1b/*", ["a~1b/c"], ["a/b/c", "a~1b"]),
        ("", [""], ["a"]),
    ],
)
def test_a_pattern_matches_whole_paths(text: str, matching: list[str], others: list[str]) -> None:
    pattern = PathPattern.parse(text)
    assert [path for path in matching + others if pattern.matches(PropertyPath.parse(path))] == matching


def test_agents_properties_tuples_and_lists_can_be_matched() -> None:
    pattern = PathPattern.parse("acme/*")
    assert pattern.matches(AgentPath.parse("acme/alice"))
    assert pattern.matches(PropertyPath.parse("acme/alice"))
    assert pattern.matches(("acme", "alice"))
    assert pattern.matches(["acme", "alice"])
    assert PathPattern.parse("acme/alice").matches(["acme", "alice"])
    assert not pattern.matches(AgentPath.parse("acme/alice/helper"))


ODD = ["", "*", "**", ".", "..", "a*b", "~*", "~u002A", "a/b", "\n", "e\u0301"]


def pattern_text(key: str) -> str:
    """A key as it stands in a pattern: a star as its number, unless it is the whole key."""
    text = PropertyPath.of(key).text
    return text if text in ("~*", "~**") else text.replace("*", "~u002A")


def test_a_wildcard_matches_any_key() -> None:
    for key in ODD:
        assert PathPattern.parse("a/*").matches(("a", key))
        assert PathPattern.parse("a/**").matches(("a", "", key))
        assert not PathPattern.parse("a/b").matches(("a", key))


@pytest.mark.parametrize("key", ODD)
def test_a_key_written_with_escapes_matches_itself_alone(key: str) -> None:
    pattern = PathPattern.parse(f"a/{pattern_text(key)}")
    assert [other for other in [*ODD, "b"] if pattern.matches(("a", other))] == [key]
    assert pattern.is_literal
    assert PathPattern.parse(pattern.text) == pattern
    before = PathPattern.parse(f"*/{pattern_text(key)}/**")
    assert [other for other in [*ODD, "b"] if before.matches(("a", other, "c"))] == [key]
    assert PathPattern.parse(before.text) == before
    assert before.text == f"*/{pattern_text(key)}/**"


def test_a_star_that_is_a_key_is_another_pattern_than_a_wildcard() -> None:
    for text in ("*", "**"):
        key, wildcard = PathPattern.parse(f"a/~{text}"), PathPattern.parse(f"a/{text}")
        assert key != wildcard
        assert PathPattern(("a", text)) == wildcard
        assert copy.deepcopy(wildcard).matches(("a", "b"))
        assert not copy.deepcopy(key).matches(("a", "b"))


class CountedName(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        CountedName.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    "text",
    [
        "/".join(["**", "a"] * 16),
        "/".join(["**"] * 16 + ["a"] * 15 + ["x"]),
        "/".join(["**", "a", "**", "a", "a", "x"] * 5),
        "**/" + "/".join("a" * 30) + "/x",
    ],
)
def test_a_hostile_pattern_takes_no_more_steps_than_pattern_times_path(text: str) -> None:
    pattern = PathPattern.parse(text)
    names = tuple(map(CountedName, "a" * 31 + "b"))
    CountedName.comparisons = 0
    assert not pattern.matches(names)
    assert 0 < CountedName.comparisons <= len(pattern.segments) * len(names)


HOSTILE: dict[str, Any] = {
    "star inside": "foo*",
    "star first": "*foo/a",
    "two stars inside": "a/f**o",
    "three stars": "a/***",
    "star and escape": "*~1",
    "empty segment": "a//b",
    "leading slash": "/a",
    "trailing slash": "a/",
    "dot": "a/.",
    "dot dot": "../a",
    "NUL": "a\x00",
    "C1": "a\x80",
    "DEL": "a\x7f",
    "bidi override": "a/\u202e",
    "bidi isolate": "\u2066",
    "not NFC": "e\u0301",
    "lone surrogate": "\ud800",
    "33 segments": "/".join("*" * 33),
    "33 of any": "/".join(["**"] * 33),
    "too many bytes": "é" * (2**20 + 1),
    "escape of nothing": "a~",
    "no need of an escape": "a/~u0041",
    "tilde before a star inside": "~*foo",
    "bytes": b"a/*",
    "None": None,
    "int": 1,
    "tuple": ("a", "*"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_pattern_is_refused_with_a_bounded_message(text: Any) -> None:
    with pytest.raises(InvalidPath) as caught:
        PathPattern.parse(text)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("segments", ["ab", None, ["a"], ("a", 1), ("a", None), ("\ud800",), ("foo*",), ("***",)])
def test_a_pattern_is_not_built_of_bad_segments(segments: Any) -> None:
    with pytest.raises(InvalidPath):
        PathPattern(segments)


@pytest.mark.parametrize("path", ["acme/alice", b"a", None, 1, {"a": 1}, {"a"}])
def test_what_is_no_path_cannot_be_matched(path: Any) -> None:
    for text in ("**", "a"):
        with pytest.raises(InvalidPath):
            PathPattern.parse(text).matches(path)


def test_a_pattern_cannot_be_changed() -> None:
    pattern: Any = PathPattern.parse("a/*")
    for name in ("segments", "text", "is_literal", "another"):
        with pytest.raises(AttributeError):
            setattr(pattern, name, "x")


def test_a_pattern_shows_its_text() -> None:
    assert repr(PathPattern.parse("a/*")) == "PathPattern.parse('a/*')"
