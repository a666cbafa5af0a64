from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duramen.events.errors import InvalidPath, PathNotFound
from duramen.projections.state.missing import MISSING
from duramen.projections.state.tree import (
    assign,
    copy_for_merge,
    copy_path,
    copy_tree,
    extend,
    find,
    lookup,
    merge,
    remove,
)
from duramen.projections.state.undo import Undo, count_nodes, roll_back

# Few names, so that paths meet what is there; "0" and "1" are positions in lists and keys in dicts.
names = st.sampled_from(["a", "b", "0", "1", "2"])
segments = names | st.sampled_from(["", "01", "-1", "+1", "²", "٣", "1.0", "9" * 30])
paths = st.lists(names | segments, max_size=4).map(tuple)
zones = st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(timedelta(seconds=-90))])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), 2**64 - 1, -(2**63)])
    | st.text(max_size=2)
    | st.binary(max_size=2)
    | st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 2), timezones=zones)
)
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=4),
    max_leaves=10,
)
trees = st.dictionaries(names, values, max_size=5)
edits = st.one_of(
    st.tuples(st.just("assign"), paths, values),
    st.tuples(st.just("remove"), paths, st.none()),
    st.tuples(st.just("extend"), paths, st.lists(values, max_size=3)),
    st.tuples(st.just("merge"), paths, values | trees),
)


def exact(value: Any) -> Any:
    """Something that is equal for two values only if types, order of keys and every bit are."""
    if isinstance(value, dict):
        return dict, [(key, exact(item)) for key, item in value.items()]
    if isinstance(value, list):
        return list, [exact(item) for item in value]
    if isinstance(value, float):
        return float, struct.pack("d", value)
    if isinstance(value, datetime):
        return datetime, value.isoformat()
    return type(value), value


def containers(value: Any) -> Iterator[int]:
    if isinstance(value, dict | list):
        yield id(value)
        for item in value.values() if isinstance(value, dict) else value:
            yield from containers(item)


def nodes(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(nodes(item) for item in value.values())
    return 1 + sum(nodes(item) for item in value) if isinstance(value, list) else 1


class Refused(Exception):
    pass


NOTHING: Any = object()


def rewritten(node: Any, path: tuple[str, ...], change: Callable[[Any], Any], create: bool) -> Any:
    """The model: a copy of the tree in which `change` decided about the value at the path."""
    if not path:
        return change(node)
    head, rest = path[0], path[1:]
    if isinstance(node, dict):
        if head not in node and not create:
            raise Refused
        value = rewritten(node.get(head, {} if rest else NOTHING), rest, change, create)
        return {**node, head: value} if value is not NOTHING else {k: v for k, v in node.items() if k != head}
    if isinstance(node, list) and head in map(str, range(len(node))):
        at = int(head)
        value = rewritten(node[at], rest, change, create)
        return node[:at] + ([] if value is NOTHING else [value]) + node[at + 1 :]
    raise Refused


def merge_patch(target: Any, patch: Any) -> Any:
    """The pseudo-code of RFC 7386, section 2."""
    if isinstance(patch, dict):
        target = dict(target) if isinstance(target, dict) else {}
        for name, value in patch.items():
            if value is None:
                if name in target:
                    del target[name]
            else:
                target[name] = merge_patch(target.get(name), value)
        return target
    return patch


def joined(old: Any, new: list[Any]) -> list[Any]:
    if old is not NOTHING and not isinstance(old, list):
        raise Refused
    return [*([] if old is NOTHING else old), *new]


def expected(tree: dict[str, Any], edit: tuple[str, tuple[str, ...], Any]) -> Any:
    kind, path, content = edit
    if not path and not (kind == "merge" and isinstance(content, dict)):
        raise Refused
    if kind == "assign":
        return rewritten(tree, path, lambda old: content, create=True)
    if kind == "remove":
        return rewritten(tree, path, lambda old: NOTHING, create=False)
    if kind == "extend":
        return rewritten(tree, path, lambda old: joined(old, content), create=True)
    return rewritten(tree, path, lambda old: merge_patch(old, content), create=True)


def perform(tree: dict[str, Any], edit: tuple[str, tuple[str, ...], Any], undo: list[Undo] | None = None) -> int:
    kind, path, content = edit
    if kind == "assign":
        return assign(tree, path, deepcopy(content), undo)
    if kind == "remove":
        return remove(tree, path, undo)
    if kind == "extend":
        return extend(tree, path, deepcopy(content), undo)
    return merge(tree, path, content, undo)


# Laws of all edits.


@pytest.mark.slow
@given(trees, st.lists(edits, max_size=8), st.booleans())
def test_every_edit_does_what_the_model_does_or_is_refused_with_it_and_changes_nothing(
    tree: dict[str, Any], steps: list[Any], noting: bool
) -> None:
    undo: list[Undo] | None = [] if noting else None
    for edit in steps:
        before = deepcopy(tree)
        noted = len(undo or ())
        try:
            after = expected(before, edit)
        except Refused:
            with pytest.raises(InvalidPath):
                perform(tree, edit, undo)
            assert exact(tree) == exact(before)
            assert len(undo or ()) == noted
        else:
            perform(tree, edit, undo)
            assert exact(tree) == exact(after)


@pytest.mark.slow
@given(trees, st.lists(edits, max_size=8))
def test_the_changes_in_nodes_add_up(tree: dict[str, Any], steps: list[Any]) -> None:
    count = nodes(tree)
    assert count_nodes(tree) == count
    for edit in steps:
        try:
            count += perform(tree, edit)
        except InvalidPath:
            continue
        assert count == nodes(tree)


@pytest.mark.slow
@given(trees, st.lists(edits, max_size=8), st.integers(0, 8))
def test_rolling_back_restores_every_earlier_state_bit_for_bit(
    tree: dict[str, Any], steps: list[Any], keep: int
) -> None:
    undo: list[Undo] = []
    history = [(0, exact(tree))]
    for edit in steps:
        try:
            perform(tree, edit, undo)
        except InvalidPath:
            continue
        history.append((len(undo), exact(tree)))
    for mark, state in reversed(history[: keep + 1]):
        roll_back(undo, mark)
        assert exact(tree) == state
        assert len(undo) == mark


@pytest.mark.slow
@given(trees, edits)
def test_an_edit_of_a_copied_path_leaves_the_old_tree_as_it_was(tree: dict[str, Any], edit: Any) -> None:
    before = deepcopy(tree)
    kind, path, content = edit
    copied = copy_for_merge(tree, path, content) if kind == "merge" else copy_path(tree, path)
    assert exact(copied) == exact(before)
    try:
        after = expected(before, edit)
    except Refused:
        with pytest.raises(InvalidPath):
            perform(copied, edit)
    else:
        perform(copied, edit)
        assert exact(copied) == exact(after)
    assert exact(tree) == exact(before)


@pytest.mark.parametrize(
    "edit",
    [
        ("assign", ("a", "b"), 9),
        ("remove", ("a", "b"), None),
        ("extend", ("a", "list"), [9]),
        ("merge", (), {"a": {"b": 9}}),
    ],
)
def test_control_an_edit_of_a_shallow_copy_does_change_the_old_tree(edit: Any) -> None:
    tree = {"a": {"b": 1, "list": [1]}}
    before = deepcopy(tree)
    perform(tree.copy(), edit)
    assert tree != before


def test_a_copied_path_shares_everything_beside_it() -> None:
    tree: dict[str, Any] = {"a": {"b": {}, "beside": {}}, "beside": {}}
    copied: Any = copy_path(tree, ("a", "b"))
    assert copied["beside"] is tree["beside"]
    assert copied["a"]["beside"] is tree["a"]["beside"]
    assert copied["a"]["b"] is not tree["a"]["b"]


def test_a_copy_for_a_merge_shares_what_the_patch_does_not_enter() -> None:
    tree: dict[str, Any] = {"a": {"b": {}, "beside": {}}, "beside": {}, "list": []}
    copied: Any = copy_for_merge(tree, (), {"a": {"b": {"c": 1}}, "list": {"c": 1}})
    assert copied["beside"] is tree["beside"]
    assert copied["list"] is tree["list"]
    assert copied["a"]["beside"] is tree["a"]["beside"]
    assert copied["a"]["b"] is not tree["a"]["b"]


@given(values)
def test_a_copied_tree_is_the_same_and_shares_no_container(value: Any) -> None:
    copied = copy_tree(value)
    assert exact(copied) == exact(value)
    assert not set(containers(copied)) & set(containers(value))


def test_a_tree_as_deep_as_limits_allow_can_be_edited_copied_and_counted() -> None:
    deep: Any = {}
    for _ in range(63):
        deep = {"x": deep}
    path = tuple("abcdefghijklmnopqrstuvwxyz012345")
    tree: dict[str, Any] = {}
    undo: list[Undo] = []
    assert assign(tree, path, copy_tree(deep), undo) == 31 + 64
    assert merge(tree, path, deep, undo) == 0
    assert count_nodes(copy_for_merge(tree, path, deep)) == 1 + 31 + 64
    assert remove(tree, path[:1], undo) == -(31 + 64)
    roll_back(undo)
    assert tree == {}


# lookup


def test_lookup_finds_keys_of_dicts_and_positions_of_lists() -> None:
    tree: dict[str, Any] = {"plan": {"steps": [{"title": "read"}], "0": "a key"}, "none": None}
    assert lookup(tree, ("plan", "steps", "0", "title")) == "read"
    assert lookup(tree, ("plan", "0")) == "a key"
    assert lookup(tree, ("none",)) is None
    assert lookup(tree, ()) is tree
    assert lookup(tree, ["plan", "steps"]) == [{"title": "read"}]


@pytest.mark.parametrize(
    "path",
    [
        ("b",),
        ("a", "b"),
        ("l", "2"),
        ("l", "01"),
        ("l", "-1"),
        ("l", "x"),
        ("l", "²"),
        ("l", "١"),
        ("n", "0"),
    ],
)
def test_a_lookup_of_what_is_not_there_says_so(path: tuple[str, ...]) -> None:
    with pytest.raises(PathNotFound, match="nothing is at"):
        lookup({"a": 1, "l": [1, 2], "n": None}, path)


# assign


def test_assign_makes_the_dicts_that_are_missing() -> None:
    tree: dict[str, Any] = {"l": [{}]}
    assert assign(tree, ("a", "b", "c"), [1]) == 4
    assert assign(tree, ("l", "0", "0"), 1) == 1
    assert tree == {"a": {"b": {"c": [1]}}, "l": [{"0": 1}]}


def test_assign_does_not_extend_a_list_and_points_to_append() -> None:
    tree: dict[str, Any] = {"l": ["x"]}
    with pytest.raises(PathNotFound, match=r"list at 'l' has 1 element, .*append") as refused:
        assign(tree, ("l", "1"), "y")
    assert (refused.value.expected, refused.value.actual) == (1, "1")
    with pytest.raises(PathNotFound, match="append"):
        assign(tree, ("l", "1", "deeper"), "y")
    assert tree == {"l": ["x"]}


@pytest.mark.parametrize("segment", ["01", "00", "-1", "-0", "+1", " 0", "0 ", "1_0", "²", "١", "x", "", "9" * 5000])
def test_a_segment_that_is_no_canonical_position_is_refused_in_a_list(segment: str) -> None:
    tree: dict[str, Any] = {"l": list(range(20))}
    with pytest.raises(InvalidPath):
        assign(tree, ("l", segment), "y")
    assert tree == {"l": list(range(20))}


@pytest.mark.parametrize(
    ("standing", "name"),
    [("hunter2", "str"), (None, "None"), (1, "int"), (b"hunter2", "bytes"), (datetime.now(UTC), "datetime")],
)
def test_nothing_is_set_below_a_scalar_and_the_message_says_what_is_there_but_not_its_content(
    standing: Any, name: str
) -> None:
    tree: dict[str, Any] = {"a": {"b": standing}}
    below: list[Any] = [
        ("assign", ("a", "b", "c"), 1),
        ("assign", ("a", "b", "c", "d"), 1),
        ("extend", ("a", "b", "c"), [1]),
        ("merge", ("a", "b", "c"), {}),
    ]
    for edit in below:
        with pytest.raises(InvalidPath, match=f"^{name} is at 'a/b'") as refused:
            perform(tree, edit)
        assert not isinstance(refused.value, PathNotFound)
        assert "hunter2" not in str(refused.value)
        assert (refused.value.expected, refused.value.actual) == ("dict or list", name)
    assert tree == {"a": {"b": standing}}


def test_the_path_in_a_message_is_escaped_and_bounded() -> None:
    with pytest.raises(PathNotFound) as refused:
        lookup({}, ("a/b", "\x1b[31m", "x" * 10_000))
    assert "a~1b" in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_the_root_is_neither_set_nor_deleted_nor_appended_to() -> None:
    tree: dict[str, Any] = {"a": 1}
    with pytest.raises(InvalidPath, match="use merge"):
        assign(tree, (), {})
    with pytest.raises(InvalidPath, match="delete its items"):
        remove(tree, ())
    with pytest.raises(InvalidPath, match="append to one of its items"):
        extend(tree, (), [1])
    assert tree == {"a": 1}


# remove


def test_removing_an_element_moves_the_later_ones_up() -> None:
    tree: dict[str, Any] = {"l": ["x", ["y"], "z"]}
    assert remove(tree, ("l", "1")) == -2
    assert tree == {"l": ["x", "z"]}


@pytest.mark.parametrize("path", [("b",), ("a", "b"), ("a", "b", "c"), ("l", "1"), ("l", "00"), ("n", "x")])
def test_what_is_not_there_cannot_be_removed(path: tuple[str, ...]) -> None:
    tree: dict[str, Any] = {"a": 1, "l": [1], "n": {}}
    with pytest.raises(PathNotFound):
        remove(tree, path)
    assert tree == {"a": 1, "l": [1], "n": {}}


@pytest.mark.parametrize(("size", "restored"), [(64, True), (65, False)])
def test_taking_back_a_removal_restores_the_order_of_keys_in_dicts_of_at_most_64(size: int, restored: bool) -> None:
    tree: dict[str, Any] = {str(number): number for number in range(size)}
    before = deepcopy(tree)
    undo: list[Undo] = []
    remove(tree, ("3",), undo)
    remove(tree, ("1",), undo)
    roll_back(undo)
    assert tree == before
    assert (list(tree) == list(before)) is restored


def test_taking_back_the_removal_of_an_element_puts_it_back_in_its_place() -> None:
    tree: dict[str, Any] = {"l": [0, 1, 2]}
    undo: list[Undo] = []
    remove(tree, ("l", "1"), undo)
    remove(tree, ("l", "0"), undo)
    roll_back(undo, 1)
    assert tree == {"l": [0, 2]}
    roll_back(undo)
    assert tree == {"l": [0, 1, 2]}


def test_taking_back_a_removal_puts_the_very_same_container_back() -> None:
    kept: list[Any] = [1]
    tree: dict[str, Any] = {"a": kept, "b": 2}
    undo: list[Undo] = []
    remove(tree, ("a",), undo)
    roll_back(undo)
    assert tree["a"] is kept


# extend


def test_extending_what_is_missing_makes_a_list_and_its_parents() -> None:
    tree: dict[str, Any] = {}
    assert extend(tree, ("a", "b"), [1, [2]]) == 5
    assert extend(tree, ("a", "b"), [3]) == 1
    assert extend(tree, ("c",), []) == 1
    assert tree == {"a": {"b": [1, [2], 3]}, "c": []}


def test_extending_a_missing_path_does_not_keep_the_given_list() -> None:
    given_list: list[Any] = [1]
    tree: dict[str, Any] = {}
    extend(tree, ("a",), given_list)
    extend(tree, ("a",), [2])
    assert given_list == [1]


@pytest.mark.parametrize(("standing", "name"), [({}, "dict"), ("hunter2", "str"), (None, "None"), (b"", "bytes")])
def test_only_a_list_is_extended(standing: Any, name: str) -> None:
    tree = {"a": standing, "l": [standing]}
    for path in (("a",), ("l", "0")):
        with pytest.raises(InvalidPath, match=f"^{name} is at .*not a list") as refused:
            extend(tree, path, [1])
        assert "hunter2" not in str(refused.value)
    assert tree == {"a": standing, "l": [standing]}


# merge

APPENDIX_A: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "patch", "result"), APPENDIX_A)
def test_merge_gives_the_results_of_rfc_7386_appendix_a(original: Any, patch: Any, result: Any) -> None:
    tree = {"document": deepcopy(original), "list": [deepcopy(original)]}
    merge(tree, ("document",), patch)
    merge(tree, ("list", "0"), patch)
    assert tree == {"document": result, "list": [result]}
    if isinstance(original, dict) and isinstance(patch, dict):
        root = deepcopy(original)
        merge(root, (), patch)
        assert root == result


def test_nones_inside_lists_of_a_patch_are_values() -> None:
    tree: dict[str, Any] = {}
    merge(tree, (), {"a": [None, {"b": None}]})
    assert tree == {"a": [None, {"b": None}]}


@pytest.mark.parametrize("patch", [None, 1, "x", [1]])
def test_only_a_dict_is_merged_into_the_root(patch: Any) -> None:
    tree: dict[str, Any] = {"a": 1}
    with pytest.raises(InvalidPath, match="only a dict"):
        merge(tree, (), patch)
    assert tree == {"a": 1}


@pytest.mark.slow
@given(trees, paths, values | trees)
@example({}, (), {"a": {"b": [{}]}})
@example({}, ("a",), [[]])
def test_a_tree_shares_no_container_with_a_patch_merged_into_it(
    tree: dict[str, Any], path: tuple[str, ...], patch: Any
) -> None:
    before = exact(patch)
    try:
        merge(tree, path, patch)
    except InvalidPath:
        return
    assert not set(containers(tree)) & set(containers(patch))
    assert exact(patch) == before


# -- what is nearest ---------------------------------------------------------------------------------------------------

HELD: Any = {"plan": {"steps": ["a", "b"], "owner": "kim", "step.size": 1}, "profile": "short", "empty": {}}


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        (("paln",), "nothing is at 'paln'; the keys of the root are 'plan' (of 3)"),
        (("plan", "stpes"), "nothing is at 'plan/stpes'; the keys of 'plan' are 'steps' (of 3)"),
        (("other",), "the keys of the root are 'plan', 'profile', 'empty'"),
        (("plan", "nothing", "below"), "nothing is at 'plan/nothing/below'; the keys of 'plan' are "),
        (("empty", "a"), "'empty' has no keys"),
        (("plan", "steps", "2"), "'plan/steps' is a list of 2 elements: positions are 0, 1, 2"),
        (("profile", "a"), "'profile' is of type str and has no keys"),
        (("plan.steps",), "write 'plan/steps': '/' separates the parts of a path"),
        (("plan", "steps.0"), "write 'plan/steps/0'"),
        (("plan.stpes",), "the keys of the root are 'plan'"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_what_is_nearest(path: tuple[str, ...], nearest: str) -> None:
    with pytest.raises(PathNotFound) as caught:
        lookup(HELD, path)
    assert nearest in str(caught.value)
    assert find(HELD, path) is MISSING
    if "." not in path[-1]:
        with pytest.raises(PathNotFound, match="nothing is at"):
            remove(copy_tree(HELD), path)


def test_the_nearest_keys_are_few_and_printable_however_many_there_are() -> None:
    root: Any = {f"key-\u202e-{number}" * 10: number for number in range(60_000)}
    with pytest.raises(PathNotFound) as caught:
        lookup(root, ("key",))
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 600
    assert "(of 60000)" in str(caught.value)
