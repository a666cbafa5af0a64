from __future__ import annotations

import math
import struct
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.events.codec.event_codec import Codec
from duramen.events.errors import InvalidPath
from duramen.events.model.limits import Limits
from duramen.events.model.values import check_value
from duramen.projections.state.difference import difference, overlay
from duramen.projections.state.operations import Op, apply_ops, split_ops
from duramen.projections.state.tree import copy_tree
from duramen.projections.state.undo import Undo, count_nodes, roll_back

keys = st.sampled_from(["a", "b", "0", "", "a/b", "*", "\x00", "é"])
zones = st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(timedelta(seconds=-90))])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), 2**64 - 1])
    | st.text(max_size=9)
    | st.binary(max_size=9)
    | st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 2), timezones=zones)
)
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(keys, below, max_size=4),
    max_leaves=12,
)
trees = st.dictionaries(keys, values, max_size=5)


@st.composite
def relatives(draw: st.DrawFn, value: Any) -> Any:
    """A value that has most of its parts from another."""
    if draw(st.integers(0, 5)) == 0:
        return draw(values)
    if isinstance(value, dict):
        kept = {key: draw(relatives(item)) for key, item in value.items() if draw(st.integers(0, 4))}
        return kept | draw(st.dictionaries(keys, scalars, max_size=1))
    if isinstance(value, list):
        kept_items = value[: draw(st.integers(0, len(value)))] if draw(st.booleans()) else value
        return [draw(relatives(item)) for item in kept_items] + draw(st.lists(values, max_size=2))
    return value


@st.composite
def pairs_of_trees(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    old = draw(trees)
    new = draw(relatives(old))
    return old, new if isinstance(new, dict) else draw(trees)


def same(value: Any) -> Any:
    """Something that is equal for two values only if types and values are; keys in any order."""
    if isinstance(value, dict):
        return dict, {key: same(item) for key, item in value.items()}
    if isinstance(value, list):
        return list, [same(item) for item in value]
    if isinstance(value, float):
        return float, b"nan" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, datetime):
        return datetime, value.astimezone(UTC).isoformat(), value.utcoffset()
    return type(value), value


def applied(tree: dict[str, Any], *groups: list[Op]) -> dict[str, Any]:
    result = deepcopy(tree)
    for ops in groups:
        apply_ops(result, ops)
    return result


def size_of(value: Any) -> int:
    return len(Codec(Limits()).pack(value))


# difference


@pytest.mark.slow
@given(pairs_of_trees())
def test_the_difference_applied_to_the_old_tree_gives_the_new_one(
    pair: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    old, new = pair
    before = same(old), same(new)
    ops = difference(old, new)
    assert (same(old), same(new)) == before
    assert same(applied(old, ops)) == same(new)


@pytest.mark.slow
@given(pairs_of_trees())
def test_a_difference_is_plain_data_and_does_the_same_when_it_was_stored(
    pair: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    old, new = pair
    ops = difference(old, new)
    check_value(ops, Limits())
    codec = Codec(Limits())
    assert same(applied(old, codec.unpack(codec.pack(ops)))) == same(new)


@pytest.mark.slow
@given(trees)
def test_a_tree_does_not_differ_from_its_copy_in_whatever_order_its_keys_are(tree: dict[str, Any]) -> None:
    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return [reversed_keys(item) for item in value] if isinstance(value, list) else value

    assert difference(tree, deepcopy(tree)) == []
    assert difference(tree, reversed_keys(tree)) == []


INSTANT = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (True, 1),
        (1, 1.0),
        (False, 0),
        (0.0, -0.0),
        (True, 1.0),
        (INSTANT, INSTANT.astimezone(timezone(timedelta(hours=1)))),
    ],
)
def test_values_that_python_calls_equal_differ_if_they_would_read_back_different(old: Any, new: Any) -> None:
    assert old == new  # so a comparison with == would miss it
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"a": old}, {"a": new}),
        ({"a": [old]}, {"a": [new]}),
        ({"a": {"b": [0, old]}}, {"a": {"b": [0, new]}}),
    ]
    for before, after in pairs:
        assert before == after
        assert same(applied(before, difference(before, after))) == same(after)
        assert same(before) != same(after)


def test_nan_is_the_same_as_nan_though_python_says_no() -> None:
    old: dict[str, Any] = {"a": float("nan"), "l": [float("-nan")]}
    new: dict[str, Any] = {"a": float("nan"), "l": [float("nan")]}
    assert old != new
    assert difference(old, new) == []


def test_none_is_not_the_same_as_nothing() -> None:
    assert difference({}, {"a": None}) == [["set", ["a"], None]]
    assert difference({"a": None}, {}) == [["delete", ["a"]]]


def test_what_did_not_change_is_not_in_the_difference() -> None:
    text = "x" * 1000
    old: dict[str, Any] = {
        "same": [text],
        "mixed": {"text": text, "n": 1, "gone": 0, "steps": [text, {"t": text}]},
    }
    new: dict[str, Any] = {
        "same": [text],
        "mixed": {"text": text, "n": 2, "steps": [text, {"t": text, "u": 3}]},
    }
    assert difference(old, new) == [
        ["delete", ["mixed", "gone"]],
        ["set", ["mixed", "n"], 2],
        ["set", ["mixed", "steps", 1, "u"], 3],
    ]


def test_a_list_that_grew_or_shrank_at_its_end_is_extended_or_truncated() -> None:
    short: dict[str, Any] = {"m": ["one", "two", "three"]}
    long: dict[str, Any] = {"m": ["one", "two", "three", "four", "five"]}
    assert difference(short, long) == [["extend", ["m"], ["four", "five"]]]
    assert difference(long, short) == [["truncate", ["m"], 3]]
    longer: dict[str, Any] = {"m": [*long["m"], "x" * 1000]}
    assert difference(long, longer) == [["extend", ["m"], ["x" * 1000]]]


def test_a_container_of_which_most_changed_is_set_as_a_whole() -> None:
    old: dict[str, Any] = {
        "a": {str(number): number for number in range(50)},
        "l": [str(n) for n in range(50)],
    }
    new: dict[str, Any] = {
        "a": {str(number): -number for number in range(1, 50)},
        "l": [str(n) for n in range(1, 50)],
    }
    assert difference(old, new) == [["set", ["a"], new["a"]], ["set", ["l"], new["l"]]]


def test_a_long_text_is_not_set_again_because_short_values_beside_it_changed() -> None:
    text = "x" * 100_000
    old: dict[str, Any] = {"a": {"text": text, "b": 1, "c": 1}}
    new: dict[str, Any] = {"a": {"text": text, "b": 2, "c": 2}}
    assert difference(old, new) == [["set", ["a", "b"], 2], ["set", ["a", "c"], 2]]


# overlay


@pytest.mark.slow
@given(pairs_of_trees())
def test_an_overlay_replaces_the_items_of_the_checkpoint_and_keeps_the_others(
    pair: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    current, checkpoint = pair
    assert same(applied(current, overlay(current, checkpoint))) == same({**current, **checkpoint})


def test_an_overlay_is_not_a_merge_inside_an_item() -> None:
    current: dict[str, Any] = {"a": {"kept": 1, "new": "since the checkpoint"}, "other": 1}
    checkpoint: dict[str, Any] = {"a": {"kept": 1}}
    assert overlay(current, checkpoint) == [["delete", ["a", "new"]]]


# apply_ops


@pytest.mark.slow
@given(pairs_of_trees())
def test_applied_operations_return_the_change_in_nodes_and_can_be_taken_back(
    pair: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    old, new = pair
    tree = deepcopy(old)
    undo: list[Undo] = []
    assert apply_ops(tree, difference(old, new), undo) == count_nodes(new) - count_nodes(old)
    roll_back(undo)
    assert same(tree) == same(old)


def test_elements_of_lists_can_be_set_and_deleted() -> None:
    tree: dict[str, Any] = {"l": [1, [2], 3]}
    ops: list[Op] = [["set", ["l", 0], {"a": 1}], ["set", ["l", 1, 0], 5], ["delete", ["l", 2]]]
    undo: list[Undo] = []
    assert apply_ops(tree, ops, undo) == 0
    assert tree == {"l": [{"a": 1}, [5]]}
    roll_back(undo)
    assert tree == {"l": [1, [2], 3]}


def test_taking_back_a_truncation_restores_every_element() -> None:
    tree: dict[str, Any] = {"l": [1, [2], 3]}
    undo: list[Undo] = []
    assert apply_ops(tree, [["truncate", ["l"], 0]], undo) == -4
    roll_back(undo)
    assert tree == {"l": [1, [2], 3]}


def test_the_last_element_is_reached_as_position_minus_one() -> None:
    tree: dict[str, Any] = {"l": [[], {"a": []}]}
    apply_ops(tree, [["extend", ["l", -1, "a"], [[]]], ["extend", ["l", -1, "a", -1], [7]]])
    assert tree == {"l": [[], {"a": [[7]]}]}


@pytest.mark.parametrize(
    "bad",
    [
        [],
        "set",
        {"set": 1},
        None,
        ["set"],
        ["set", ["d"]],
        ["set", ["d"], 1, 2],
        ["set", [], {}],
        ["set", "d", 1],
        ["set", ["missing", "a"], 1],
        ["set", ["text", "a"], 1],
        ["set", ["d", 0], 1],
        ["set", ["d", None], 1],
        ["set", [["d"]], 1],
        ["set", ["l", "0"], 1],
        ["set", ["l", 2], 1],
        ["set", ["l", -1], 1],
        ["set", ["l", True], 1],
        ["set", ["l", 0.0], 1],
        ["set", ["empty", -1, "a"], 1],
        ["set", ["l", -2, "a"], 1],
        ["delete", []],
        ["delete", ["missing"]],
        ["delete", ["d", "missing"]],
        ["delete", ["l", 2]],
        ["delete", ["l", -1]],
        ["delete", ["d"], 1],
        ["extend", [], [1]],
        ["extend", ["d"], [1]],
        ["extend", ["missing"], [1]],
        ["extend", ["l"], "ab"],
        ["extend", ["l"], {"a": 1}],
        ["extend", "l", [1]],
        ["truncate", [], 0],
        ["truncate", ["l"], 3],
        ["truncate", ["l"], -1],
        ["truncate", ["l"], True],
        ["truncate", ["d"], 0],
        ["append", ["l"], [1]],
        [["set"], ["d"], 1],
    ],
)
def test_operations_are_applied_all_or_none_and_a_bad_one_is_refused(bad: Any) -> None:
    tree: dict[str, Any] = {"d": {"a": 1}, "l": [{}, {}], "empty": [], "text": "hunter2"}
    before = deepcopy(tree)
    good: list[Op] = [
        ["set", ["d", "a"], 2],
        ["delete", ["text"]],
        ["truncate", ["l"], 1],
        ["extend", ["l"], [3]],
    ]
    restore: Op = ["set", ["text"], "hunter2"]
    undo: list[Undo] = []
    apply_ops(tree, [["set", ["first"], 1]], undo)
    with pytest.raises(InvalidPath, match="operation 6") as refused:
        apply_ops(tree, [*good, restore, bad], undo)
    assert "hunter2" not in str(refused.value)
    assert tree == before | {"first": 1}
    roll_back(undo)
    assert tree == before
    with pytest.raises(InvalidPath, match="operation 6"):
        apply_ops(tree, [*good, restore, bad])
    assert tree == before


def test_operations_are_not_changed_by_later_edits_of_the_tree_they_were_applied_to() -> None:
    ops: list[Op] = [["set", ["a"], {}], ["set", ["a", "b"], [[]]], ["extend", ["a", "b"], [[]]]]
    before = deepcopy(ops)
    tree: dict[str, Any] = {}
    apply_ops(tree, ops)
    apply_ops(tree, [["extend", ["a", "b", 0], [1]], ["extend", ["a", "b", 1], [1]]])
    assert ops == before


# split_ops


def divisible(op: Op) -> bool:
    match op:
        case ["set", _, dict() | list() as value]:
            return bool(value)
        case ["extend", _, [value]]:
            return isinstance(value, dict | list) and bool(value)
        case ["extend", _, [*several]]:
            return bool(several)
        case _:
            return False


@pytest.mark.slow
@given(pairs_of_trees(), st.integers(1, 150))
def test_divided_operations_do_the_same_and_keep_to_the_limit(
    pair: tuple[dict[str, Any], dict[str, Any]], limit: int
) -> None:
    old, new = pair
    ops = difference(old, new)
    before = deepcopy(ops)
    groups = split_ops(ops, size_of, limit)
    assert same(ops) == same(before)
    assert same(applied(old, *groups)) == same(new)
    for group in groups:
        assert group
        if size_of(group) > limit:
            assert len(group) == 1
            assert not divisible(group[0])


@pytest.mark.slow
@given(trees, values, st.integers(1, 150))
def test_an_appended_value_of_any_depth_can_be_divided(tree: dict[str, Any], value: Any, limit: int) -> None:
    tree = {**tree, "log": [0]}
    ops: list[Op] = [["extend", ["log"], [value, value]], ["set", ["after"], value]]
    groups = split_ops(ops, size_of, limit)
    assert same(applied(tree, *groups)) == same({**tree, "log": [0, value, value], "after": value})


@given(st.lists(st.integers(0, 9) | st.text("x", max_size=40), max_size=100), st.integers(60, 200))
def test_a_long_list_of_small_values_is_divided_within_the_limit(items: list[Any], limit: int) -> None:
    groups = split_ops([["set", ["l"], items]], size_of, limit)
    assert applied({}, *groups) == {"l": items}
    assert all(size_of(group) <= limit for group in groups)


def test_many_small_operations_fill_each_list_up_to_the_limit() -> None:
    ops: list[Op] = [["set", [str(number)], number] for number in range(1000)]
    groups = split_ops(ops, size_of, 500)
    assert [op for group in groups for op in group] == ops
    assert all(450 < size_of(group) <= 500 for group in groups[:-1])


def test_an_operation_that_appends_nothing_is_kept() -> None:
    assert split_ops([["extend", ["l"], []]], size_of, 1) == [[["extend", ["l"], []]]]


def test_operations_that_fit_stay_as_they_are_and_together() -> None:
    ops: list[Op] = [["set", ["a"], {"b": 1}], ["delete", ["c"]], ["extend", ["d"], [1, 2]]]
    assert split_ops(ops, size_of, 100) == [ops]
    assert split_ops([], size_of, 100) == []


def test_a_long_list_is_divided_into_few_operations() -> None:
    messages: list[Any] = [{"role": "user", "content": "x" * 80} for _ in range(100)]
    groups = split_ops([["set", ["messages"], messages]], size_of, 2000)
    assert len(groups) < 100 * size_of(messages[0]) / 2000 * 1.2 + 1
    assert sum(map(len, groups)) <= len(groups) + 1


def test_only_elements_too_large_for_one_operation_are_named_as_the_last() -> None:
    ops: list[Op] = [["extend", ["l"], [1, {"text": "x" * 60, "more": "y" * 60}, 2]]]
    pieces = [op for group in split_ops(ops, size_of, 100) for op in group]
    assert pieces == [
        ["extend", ["l"], [1]],
        ["extend", ["l"], [{}]],
        ["set", ["l", -1, "text"], "x" * 60],
        ["set", ["l", -1, "more"], "y" * 60],
        ["extend", ["l"], [2]],
    ]


def test_a_text_over_the_limit_stands_alone() -> None:
    text = "x" * 200
    ops: list[Op] = [["set", ["a"], 1], ["set", ["b"], {"c": text}], ["set", ["d"], 1]]
    groups = split_ops(ops, size_of, 100)
    assert [["set", ["b", "c"], text]] in groups
    assert same(applied({}, *groups)) == same({"a": 1, "b": {"c": text}, "d": 1})


def test_a_difference_of_deep_trees_can_be_made_applied_and_divided() -> None:
    deep: Any = "x" * 50
    for number in range(96):
        deep = {"x": deep} if number % 2 else [deep]
    new: dict[str, Any] = {"deep": deep}
    old: dict[str, Any] = {"deep": copy_tree(deep)}
    assert difference(old, new) == []
    assert applied({}, difference({}, new)) == new
    assert applied({}, *split_ops(difference({}, new), size_of, 64)) == new
