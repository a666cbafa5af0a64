"""Agent paths and property paths: what is a path, what is not, and that text and segments say the same."""

from __future__ import annotations

import copy
import re
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.events.errors import DuramenError, InvalidPath
from duramen.events.model.paths import (
    MAX_AGENT_BYTES,
    MAX_PROPERTY_BYTES,
    AgentPath,
    PropertyPath,
    agent_path,
    agent_segments,
    join_text,
    property_segments,
    segments_of_text,
)

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
UUID_TEXT = "0b7cbb4f-0f63-4a9e-8d4e-0a6bb7d4b8a1"


def allowed(segment: str) -> bool:
    """Say what a key may be, in other words than the code does: whatever UTF-8 can encode."""
    try:
        return segment.encode().decode() == segment
    except UnicodeEncodeError:
        return False


def ordinary(segment: str) -> bool:
    """Whether a segment stands in a text as it is, but for "~" and "/"; as in logs that are there already."""
    return (
        segment not in ("", ".", "..", "*", "**")
        and not any(unicodedata.category(c) == "Cc" or c in BIDI for c in segment)
        and unicodedata.normalize("NFC", segment) == segment
    )


SEGMENT_TEXT = st.one_of(
    st.text(max_size=6),
    st.text(alphabet="/~01*.ae\u0301é-uUA\n\u202e", max_size=6),
    st.sampled_from(["", ".", "..", "*", "**", "~", "~*", "~u000A", "\x00", "A\x00\u0301", "\U0001f600\u0301e\u0301"]),
    st.text(min_size=1, max_size=6).map(lambda text: unicodedata.normalize("NFC", text)),
    st.integers(0, 10**6).map(str),
)
SEGMENT = SEGMENT_TEXT.filter(allowed)
SEGMENTS = st.lists(SEGMENT, max_size=8).map(tuple)
AGENT_SEGMENT = SEGMENT_TEXT.filter(lambda segment: allowed(segment) and segment != "")
AGENT_SEGMENTS = st.lists(AGENT_SEGMENT, min_size=2, max_size=8).map(tuple)

HOSTILE_ANYWHERE: dict[str, Any] = {
    "empty segment": "a//b",
    "leading slash": "/a/b",
    "trailing slash": "a/b/",
    "only a slash": "/",
    "dot": "a/.",
    "dot dot": "a/../b",
    "NUL": "a/b\x00",
    "C0": "a/b\x1f",
    "newline at the end": "a/b\n",
    "tab": "a/\tb",
    "DEL": "a/b\x7f",
    "C1": "a/b\x85",
    "bidi override": "a/b\u202e",
    "bidi isolate": "a/\u2066b",
    "right-to-left mark": "a/b\u200f",
    "Arabic letter mark": "a/b\u061c",
    "not NFC": "a/cafe\u0301",
    "lone high surrogate": "a/b\ud800",
    "lone low surrogate": "a/b\udfff",
    "33 segments": "/".join("a" * 33),
    "star": "a/*",
    "star star": "a/**",
    "bytes": b"a/b",
    "bytearray": bytearray(b"a/b"),
    "None": None,
    "int": 7,
    "bool": True,
    "list": ["a", "b"],
    "tuple": ("a", "b"),
    "object": object(),
}
HOSTILE_AGENTS: dict[str, Any] = HOSTILE_ANYWHERE | {
    "empty": "",
    "one segment": "acme",
    "a dot alone": ".",
    "129 characters": "a/" + "b" * 129,
    "129 wide characters": "a/" + "\U0001f600" * 129,
    "over 1024 bytes": "/".join(["a" * 128] * 8),
    "empty name": "acme/~",
    "escape of nothing": "acme/~2",
}
HOSTILE_PROPERTIES: dict[str, Any] = HOSTILE_ANYWHERE | {
    "dot alone": ".",
    "dot dot alone": "..",
    "star alone": "*",
    "too many bytes": "a" * (MAX_PROPERTY_BYTES + 1),
    "too many bytes in UTF-8 only": "é" * (MAX_PROPERTY_BYTES // 2 + 1),
    "escape of nothing": "a/~2",
    "tilde at the end": "a/b~",
    "two tildes": "~~",
    "tilde before a name": "a/~b",
    "lower case": "a/b~u000a",
    "three digits": "a/b~u00A",
    "no need of an escape": "a/~u0041",
    "a short one written long": "a/~U0000000A",
    "a slash by its number": "a/b~u002Fc",
    "a lone surrogate by its number": "a/~uD800",
    "beyond Unicode": "a/~U00110000",
}


def refused(call: Callable[[], object]) -> InvalidPath:
    with pytest.raises(InvalidPath) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, DuramenError)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 400
    return caught.value


@pytest.mark.parametrize("path", HOSTILE_AGENTS.values(), ids=HOSTILE_AGENTS)
def test_a_hostile_agent_path_is_refused_with_a_bounded_message(path: Any) -> None:
    refused(lambda: AgentPath.parse(path))
    refused(lambda: agent_path(path))
    refused(lambda: agent_path(path))  # failures are not remembered as anything else


@pytest.mark.parametrize("path", HOSTILE_PROPERTIES.values(), ids=HOSTILE_PROPERTIES)
def test_a_hostile_property_path_is_refused_with_a_bounded_message(path: Any) -> None:
    refused(lambda: PropertyPath.parse(path))
    refused(lambda: property_segments(path))
    refused(lambda: property_segments(path))


@pytest.mark.parametrize("segment", ["\ud800", "a\udfff"])
def test_a_segment_that_no_key_can_be_is_refused_wherever_segments_are_taken(segment: str) -> None:
    refused(lambda: PropertyPath.of(segment))
    refused(lambda: PropertyPath.of("a", segment, "b"))
    refused(lambda: PropertyPath.parse("a").child(segment))
    refused(lambda: PropertyPath((segment,)))


ODD = ["", ".", "..", "*", "**", "a\x00", "a\x9f", "\u202e", "e\u0301"]


@pytest.mark.parametrize("segment", ["", "\ud800", "a\udfff", "b" * 129])
def test_a_hostile_name_of_an_agent_is_refused_wherever_one_is_taken(segment: str) -> None:
    refused(lambda: AgentPath.of("acme", segment))
    refused(lambda: AgentPath.of(segment, "alice"))
    refused(lambda: AgentPath.parse("acme/alice").child(segment))
    refused(lambda: AgentPath(("acme", segment)))


@pytest.mark.parametrize("segment", [None, True, 1.5, b"a", ["a"], {}, -1, 2**63, ("a",)])
def test_a_segment_that_is_neither_text_nor_an_index_is_refused(segment: Any) -> None:
    refused(lambda: PropertyPath.of(segment))
    refused(lambda: PropertyPath.parse("a").child(segment))
    refused(lambda: PropertyPath((segment,)))
    refused(lambda: AgentPath.of("acme", segment))
    refused(lambda: AgentPath(("acme", segment)))
    refused(lambda: AgentPath.parse("acme/alice").child(segment))


@pytest.mark.parametrize("segments", ["ab", b"ab", None, 3, {"a": 1}, {"a"}, iter("ab"), ["a", "b"]])
def test_the_constructors_take_only_a_tuple(segments: Any) -> None:
    refused(lambda: AgentPath(segments))
    refused(lambda: PropertyPath(segments))


def test_an_index_too_large_for_str_is_refused_as_any_other() -> None:
    refused(lambda: PropertyPath.of(10**5000))


def test_a_message_names_the_segment_and_the_reason() -> None:
    assert "segment 2 'b\\u202e' has the character U+202E" in str(refused(lambda: PropertyPath.parse("a/b\u202e")))
    assert "segment 2 '' is empty" in str(refused(lambda: PropertyPath.parse("a//b")))
    assert "segment 1 'e\\u0301' is not in Unicode form NFC" in str(refused(lambda: PropertyPath.parse("e\u0301")))
    assert "is of type bytes" in str(refused(lambda: PropertyPath.parse(HOSTILE_ANYWHERE["bytes"])))
    assert "segment 2 '' is not a name" in str(refused(lambda: AgentPath.of("a", "")))
    assert "write '~*', or use AgentPath.of" in str(refused(lambda: AgentPath.parse("a/*")))
    assert "'acme' has fewer than two segments" in str(refused(lambda: AgentPath.parse("acme")))


def test_a_huge_text_is_shown_only_in_part() -> None:
    message = str(refused(lambda: AgentPath.parse("acme/" + "!" * 900)))
    assert "!" * 60 + "..." in message
    assert "!" * 61 not in message
    assert "!" not in str(refused(lambda: AgentPath.parse("acme/" + "!" * 10_000_000)))


def test_limits_are_facts_of_the_error() -> None:
    error = refused(lambda: PropertyPath.parse("/".join("a" * 33)))
    assert (error.expected, error.actual) == (32, 33)
    error = refused(lambda: PropertyPath.parse("é" * (2**20 + 1)))
    assert (error.expected, error.actual) == (2**21, 2**21 + 2)
    error = refused(lambda: AgentPath.parse("a/" + "b" * 1023))
    assert (error.expected, error.actual) == (1024, 1025)


@pytest.mark.slow
def test_the_largest_paths_are_accepted() -> None:
    assert len(PropertyPath.parse("/".join("a" * 32)).segments) == 32
    assert len(AgentPath.parse("/".join("a" * 32)).segments) == 32
    assert PropertyPath.of("é" * 2**20).text == "é" * 2**20
    assert PropertyPath.parse("a" * MAX_PROPERTY_BYTES).text == "a" * MAX_PROPERTY_BYTES
    full = "/".join(["a" * 127] * 8)
    assert len(full) == MAX_AGENT_BYTES - 1
    assert AgentPath.parse(full + "a").text == full + "a"
    refused(lambda: AgentPath.parse(full + "/a"))
    refused(lambda: AgentPath((*full.split("/"), "a")))
    refused(lambda: AgentPath.parse(full).child("aa"))


@pytest.mark.slow
def test_the_bound_on_bytes_counts_escapes() -> None:
    most = MAX_PROPERTY_BYTES // 6
    assert len(PropertyPath.of("\n" * most).text) == 6 * most
    refused(lambda: PropertyPath.of("\n" * (most + 1)))


@given(AGENT_SEGMENTS)
def test_an_agent_path_reads_back_from_its_text(segments: tuple[str, ...]) -> None:
    path = AgentPath(segments)
    assert path.text == str(path) == join_text(segments)
    assert path.text.count("/") == len(segments) - 1
    assert AgentPath.parse(path.text) == path
    assert tuple(agent_segments(path.text)) == segments
    assert AgentPath.parse(path) is path
    assert AgentPath.of(*segments) == path
    assert hash(AgentPath.parse(path.text)) == hash(path)


@given(SEGMENTS)
def test_a_property_path_reads_back_from_its_text(segments: tuple[str, ...]) -> None:
    path = PropertyPath(segments)
    assert PropertyPath.parse(path.text) == path
    assert PropertyPath.parse(path) is path
    assert PropertyPath.of(*segments) == path
    assert path.segments == segments
    assert str(path) == path.text
    assert hash(PropertyPath.parse(path.text)) == hash(path)


@given(SEGMENTS)
def test_joining_undoes_splitting(segments: tuple[str, ...]) -> None:
    assert property_segments(join_text(segments)) == segments
    assert property_segments(PropertyPath(segments)) == segments


@given(st.text(alphabet="ab/~01*.uA", max_size=12) | SEGMENTS.map(join_text))
def test_splitting_undoes_joining_for_every_text_that_is_a_path(text: str) -> None:
    try:
        segments = property_segments(text)
    except InvalidPath:
        assert re.search(r"^/|//|/$|(^|/)(\.\.?|\*\*?)(/|$)|~(?![01])", text)
    else:
        assert join_text(segments) == text
        assert segments_of_text(text) == segments


@given(SEGMENTS, SEGMENTS)
def test_two_paths_have_two_texts(one: tuple[str, ...], two: tuple[str, ...]) -> None:
    assert (join_text(one) == join_text(two)) is (one == two)


@given(SEGMENTS)
def test_a_text_is_one_line_that_shows_all_its_characters(segments: tuple[str, ...]) -> None:
    text = PropertyPath(segments).text
    assert not any(unicodedata.category(c) == "Cc" or c in BIDI for c in text)
    assert unicodedata.normalize("NFC", text) == text


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        (("plan", "", "*"), "plan/~/~*"),
        (("",), "~"),
        (("", ""), "~/~"),
        ((".", "..", "**"), "~./~../~**"),
        (("a\nb", "\x00"), "a~u000Ab/~u0000"),
        (("\u202ecod.exe",), "~u202Ecod.exe"),
        (("e\u0301", "é"), "e~u0301/é"),
        (("\U0001f600e\u0301",), "~U0001F600e~u0301"),
        (("~", "/", "~u000A", "a*b"), "~0/~1/~0u000A/a*b"),
    ],
)
def test_a_key_that_means_something_else_in_a_text_is_written_with_a_tilde(
    segments: tuple[str, ...], text: str
) -> None:
    assert PropertyPath.of(*segments).text == text
    assert PropertyPath.parse(text).segments == segments


def test_a_message_says_how_a_key_is_written() -> None:
    assert "write '~*'" in str(refused(lambda: PropertyPath.parse("plan/*")))
    assert "write '~'" in str(refused(lambda: PropertyPath.parse("plan//x")))
    assert "write 'a~u000Ab'" in str(refused(lambda: PropertyPath.parse("a\nb")))
    assert "write '~0b'" in str(refused(lambda: PropertyPath.parse("~b")))


@given(SEGMENTS.filter(lambda segments: all(map(ordinary, segments))))
def test_the_text_form_is_the_one_of_rfc_6901_without_its_first_slash(segments: tuple[str, ...]) -> None:
    pointer = "".join("/" + segment.replace("~", "~0").replace("/", "~1") for segment in segments)
    assert join_text(segments) == pointer[1:]


@given(SEGMENT_TEXT)
def test_exactly_the_allowed_segments_are_accepted(segment: str) -> None:
    if allowed(segment):
        assert PropertyPath.of(segment).segments == (segment,)
    else:
        refused(lambda: PropertyPath.of(segment))


@given(st.characters())
def test_every_character_is_accepted_or_refused_as_the_rule_says(character: str) -> None:
    if allowed(character):
        assert property_segments(PropertyPath((character,)).text) == (character,)
    else:
        refused(lambda: PropertyPath.of(character))


def test_escapes_are_read_in_the_right_order() -> None:
    assert property_segments("~01") == ("~1",)
    assert property_segments("a~1b/m~0n") == ("a/b", "m~n")
    assert join_text(("a/b", "m~n", "~1")) == "a~1b/m~0n/~01"


def test_the_empty_text_is_the_whole_state() -> None:
    root = PropertyPath.parse("")
    assert root.is_root
    assert root.segments == ()
    assert root.text == ""
    assert root.parent is None
    assert root == PropertyPath.of() == PropertyPath(())
    assert not PropertyPath.parse("a").is_root


def test_indexes_become_decimal_segments() -> None:
    assert PropertyPath.of("plan", 0, "title").text == "plan/0/title"
    assert PropertyPath.parse("plan").child(12) == PropertyPath.parse("plan/12")
    assert PropertyPath.of(2**63 - 1).text == str(2**63 - 1)


@given(SEGMENTS, SEGMENT)
def test_the_parent_of_a_child_property_is_the_path(segments: tuple[str, ...], segment: str) -> None:
    path = PropertyPath(segments)
    assert path.child(segment).parent == path
    assert path.child(segment).segments == (*segments, segment)


@given(AGENT_SEGMENTS, AGENT_SEGMENT)
def test_a_child_agent_has_the_path_as_its_parent_and_stands_under_it(segments: tuple[str, ...], name: str) -> None:
    path = AgentPath(segments)
    child = path.child(name)
    assert child.parent == path
    assert child.name == name
    assert not child.is_root
    assert child.root == path.root
    assert child.is_under(path)
    assert child.is_under(path.text)
    assert child.is_under(path.root)
    assert not path.is_under(child)
    assert not path.is_under(path)


def test_the_parts_of_an_agent_path_have_names() -> None:
    path = AgentPath.parse("acme/alice/helper/fetch")
    assert path.project == "acme"
    assert path.name == "fetch"
    assert path.root == AgentPath.parse("acme/alice")
    assert path.parent == AgentPath.parse("acme/alice/helper")
    assert path.root.is_root
    assert path.root.root is path.root
    assert path.root.parent is None


def test_a_name_that_begins_with_another_name_is_not_under_it() -> None:
    assert not AgentPath.parse("acme/alice2/x").is_under("acme/alice")
    refused(lambda: AgentPath.parse("acme/alice").is_under("acme"))


def test_ids_may_be_uuids() -> None:
    identity = UUID(UUID_TEXT)
    path = AgentPath.of(identity, identity, "helper", identity)
    assert path.text == f"{UUID_TEXT}/{UUID_TEXT}/helper/{UUID_TEXT}"
    assert AgentPath.parse(path.text) == path
    assert AgentPath.of("acme", "alice").child(identity).name == UUID_TEXT


def test_an_id_cannot_smuggle_in_another_level() -> None:
    for path in (AgentPath.of("acme", "alice/bob"), AgentPath(("acme", "alice/bob"))):
        assert (path.text, path.name, path.is_root) == ("acme/alice~1bob", "alice/bob", True)
    assert AgentPath.of("acme", "alice").child("x/y").text == "acme/alice/x~1y"


def test_ids_of_other_systems_stand_in_a_path_as_they_are() -> None:
    for name in ("user:42@example", "al ice", "ålice", "٣", "-a", ".a", "{a}", "al*ce", "\U0001f600"):
        assert AgentPath.of("acme", name).text == f"acme/{name}"
        assert AgentPath.parse(f"acme/{name}").name == name
    assert AgentPath.of("acme", "a~b", "..", "\n").text == "acme/a~0b/~../~u000A"


class Tenant(StrEnum):
    ACME = "acme"


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "other"


@pytest.mark.parametrize("member", [Tenant.ACME, Loud("acme")])
def test_a_subclass_of_str_counts_by_its_characters_and_does_not_stay(member: Any) -> None:
    for segments in (
        AgentPath.of(member, "a").segments,
        property_segments(member),
        PropertyPath.of(member).segments,
    ):
        assert segments[0] == "acme"
        assert type(segments[0]) is str
    assert type(PropertyPath.parse(member).text) is str
    assert type(PropertyPath((member, "only here")).text) is str
    refused(lambda: agent_path(member))


def test_paths_cannot_be_changed() -> None:
    for path in (AgentPath.parse("acme/alice"), PropertyPath.parse("a/b")):
        for name in ("segments", "text", "another"):
            with pytest.raises(AttributeError):
                setattr(path, name, "x")
        assert not hasattr(path, "__dict__")


@given(st.lists(AGENT_SEGMENTS, max_size=8))
def test_agents_sort_by_segments(paths: list[tuple[str, ...]]) -> None:
    assert [path.segments for path in sorted(map(AgentPath, paths))] == sorted(paths)


def test_a_tree_stands_together_when_sorted() -> None:
    texts = ["a/b/x", "a/b-c", "a/b", "a/b.c/y"]
    assert [str(path) for path in sorted(map(AgentPath.parse, texts))] == ["a/b", "a/b/x", "a/b-c", "a/b.c/y"]


def test_kinds_of_paths_are_neither_equal_nor_ordered() -> None:
    agent: Any = AgentPath.parse("acme/alice")
    prop: Any = PropertyPath.parse("acme/alice")
    assert agent != prop
    assert agent != "acme/alice"
    with pytest.raises(TypeError):
        assert agent < prop


@pytest.mark.parametrize("path", [AgentPath.parse("acme/alice"), PropertyPath.parse("a~1b/é")])
def test_a_copy_of_a_path_equals_it(path: Any) -> None:
    for other in (copy.copy(path), copy.deepcopy(path)):
        assert other == path
        assert hash(other) == hash(path)
        assert other.text == path.text


def test_a_path_shows_how_to_make_it() -> None:
    assert repr(AgentPath.parse("acme/alice")) == "AgentPath.parse('acme/alice')"
    assert repr(PropertyPath.parse("a~1b/é")) == "PropertyPath.parse('a~1b/é')"


def test_a_text_seen_before_is_not_read_again() -> None:
    assert PropertyPath.parse("seen/before") is PropertyPath.parse("seen/before")
    assert agent_path("seen/before") is agent_path("seen/before")
    assert property_segments("seen/before") is PropertyPath.parse("seen/before").segments
