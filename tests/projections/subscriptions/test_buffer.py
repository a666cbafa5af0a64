"""What waits for one subscription: in order, bounded by who fills it, and never ahead of its cursor."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from duramen.events import Event, Granularity
from duramen.events.model.cursor import START, Mark
from duramen.projections.state.missing import MISSING, Missing
from duramen.projections.subscriptions.buffer import ChangeBuffer, Item
from duramen.projections.subscriptions.change import Change

TIME = datetime(2026, 1, 1, tzinfo=UTC)


def change(seq: int, *paths: str, agent: str = "acme/alice", type: str = "memory_set", values: Any = None) -> Change:
    event = Event(agent, seq, TIME, type, 1, {}, None, None, None, None, Granularity.STATE, None, b"")
    return Change(agent, seq, event, paths, values)


def filled(*changes: Change, latest_only: bool = True) -> ChangeBuffer:
    buffer = ChangeBuffer(100, latest_only=latest_only)
    for number, one in enumerate(changes, 1):
        buffer.add(Mark(number - 1), [Item(0, one, Mark(number))])
    return buffer


def seqs(items: list[Item]) -> list[int]:
    return [item.change.seq for item in items]


def test_without_latest_only_everything_comes_in_order() -> None:
    buffer = filled(change(1, "a"), change(2, "a"), change(3, "a"), latest_only=False)
    assert seqs(buffer.pop(2)) == [1, 2]
    assert seqs(buffer.pop()) == [3]


def test_of_a_path_only_the_newest_waits() -> None:
    assert seqs(filled(change(1, "a"), change(2, "b"), change(3, "a")).pop()) == [2, 3]


def test_a_change_of_several_paths_waits_until_all_of_them_are_overtaken() -> None:
    assert seqs(filled(change(1, "a", "b"), change(2, "a")).pop()) == [1, 2]
    assert seqs(filled(change(1, "a", "b"), change(2, "a"), change(3, "b")).pop()) == [2, 3]


def test_agents_do_not_overtake_each_other() -> None:
    assert seqs(filled(change(1, "a"), change(1, "a", agent="acme/bob")).pop()) == [1, 1]


def test_what_changes_no_property_is_overtaken_by_its_own_type_only() -> None:
    states = filled(change(1, type="paused"), change(2, type="claim"), change(3, type="claim"), change(4, "a"))
    assert seqs(states.pop()) == [1, 3, 4]


def test_what_was_taken_is_overtaken_no_more() -> None:
    buffer = filled(change(1, "a"), change(2, "b"))
    assert seqs(buffer.pop(1)) == [1]
    buffer.add(Mark(2), [Item(0, change(3, "a"), Mark(3))])
    assert seqs(buffer.pop()) == [2, 3]


def test_an_overtaken_change_leaves_its_old_value_to_the_newer_one() -> None:
    items = filled(change(1, "a", values={"a": (0, 1)}), change(2, "a", values={"a": (1, 2)})).pop()
    assert [item.change.values for item in items] == [{"a": (0, 2)}]


def test_an_old_value_is_told_once_where_a_change_waits_for_another_of_its_paths() -> None:
    both = change(1, "a", "b", values={"a": (0, 1), "b": (0, 1)})
    then = change(2, "a", values={"a": (1, 2)})
    assert [item.change.values for item in filled(both, then).pop()] == [{"a": (0, 1), "b": (0, 1)}, {"a": (1, 2)}]
    last = change(3, "b", values={"b": (1, 3)})
    assert [item.change.values for item in filled(both, then, last).pop()] == [{"a": (0, 2)}, {"b": (0, 3)}]


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abc"), min_size=1), st.integers(0, 2), st.sampled_from(["alice", "bob"])),
        max_size=30,
    )
)
def test_the_values_of_a_path_continue_each_other_whatever_is_overtaken(
    steps: list[tuple[set[str], int, str]],
) -> None:
    buffer = ChangeBuffer(1_000, latest_only=True)
    now: dict[tuple[str, str], int] = {}
    told: dict[tuple[str, str], int] = {}

    def take(most: int | None) -> None:
        for item in buffer.pop(most):
            for path, (old, new) in (item.change.values or {}).items():
                assert old == told.get((item.change.agent, path), 0)
                told[item.change.agent, path] = new
            buffer.confirm(item)

    for seq, (paths, takes, agent) in enumerate(steps, 1):
        values = {path: (now.get((agent, path), 0), seq) for path in sorted(paths)}
        now |= {(agent, path): seq for path in paths}
        buffer.add(Mark(seq - 1), [Item(0, change(seq, *values, agent=agent, values=values), Mark(seq))])
        if takes:
            take(takes)
    take(None)
    assert told == now


def test_missing_is_no_value_and_says_so() -> None:
    assert repr(MISSING) == "MISSING"
    assert not MISSING
    assert MISSING is Missing.MISSING


@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.integers(0, 3)), max_size=30),
)
def test_what_stands_behind_the_cursor_is_all_delivered_or_overtaken(
    latest_only: bool, steps: list[tuple[str, int, int]]
) -> None:
    """A new reader at the cursor gets at least the newest change of each path that the old one did not deliver."""
    buffer = ChangeBuffer(1_000, latest_only=latest_only)
    position = {0: 0, 1: 0}
    newest: dict[tuple[int, str], int] = {}
    delivered: dict[tuple[int, str], int] = {}
    seen: list[tuple[int, int]] = []
    in_hand: list[Item] = []
    for path, partition, takes in steps:
        position[partition] += 1
        seq = position[partition]
        newest[partition, path] = seq
        item = Item(partition, change(seq, path, agent=f"acme/{partition}"), Mark(seq))
        buffer.add(Mark(seq - 1), [item])
        for _ in range(takes):
            in_hand = in_hand or buffer.pop(2)
            if not in_hand:
                break
            item = in_hand.pop(0)
            buffer.confirm(item)
            seen.append((item.partition, item.change.seq))
            delivered[item.partition, item.change.paths[0]] = item.change.seq
        for one in (0, 1):
            mark, all_done = buffer.delivered(one)
            if all_done:
                mark = Mark(position[one])  # as its intake takes it, which knows how far was read
            behind = {key: last for key, last in newest.items() if key[0] == one and last <= mark.position}
            assert all(delivered.get(key) == last for key, last in behind.items())
    for one in (0, 1):
        ordered = [seq for partition, seq in seen if partition == one]
        assert ordered == sorted(set(ordered))
        if not latest_only:
            assert ordered == list(range(1, len(ordered) + 1))
    assert len(buffer) == buffer.waiting + len(in_hand)


def test_a_partition_of_which_nothing_came_is_at_the_start() -> None:
    assert ChangeBuffer(1).delivered(5) == (START, True)
