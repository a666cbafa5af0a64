"""What a projection is, and the fold over events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.events import Event, Granularity
from duramen.projections import Episodes, Projection, Timeline, WorkingMemory, fold
from duramen.projections.recovery.session_totals import SessionActivity

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


def event(seq: int, kind: str = "note_taken", data: dict[str, Any] | None = None) -> Event:
    return Event(
        "p/a", seq, NOW, kind, 1, data or {"n": seq}, "s", None, None, None, Granularity.STATE, None, bytes(16)
    )


class Total(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        return state + int(event.data["n"])


class LastOdd(Projection[int | None]):
    """The last odd number; an even one takes it away. Starts from a state that is not None."""

    def initial(self) -> int | None:
        return -1

    def apply(self, state: int | None, event: Event) -> int | None:
        number: int = event.data["n"]
        if state == -1:
            return None
        return number if number % 2 else None


def test_the_fold_of_nothing_is_the_initial_state() -> None:
    assert fold(Total(), []) == 0
    assert fold(Total(), [], 7) == 7
    assert fold(Total(), iter(())) == 0


def test_events_are_applied_in_order_each_once() -> None:
    seen: list[int] = []

    class Seeing(Projection[None]):
        def initial(self) -> None:
            return None

        def apply(self, state: None, event: Event) -> None:
            seen.append(event.seq)

    fold(Seeing(), (event(seq) for seq in (1, 2, 3, 5, 4)))
    assert seen == [1, 2, 3, 5, 4]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(0, 12))
def test_a_fold_in_two_parts_is_the_fold_of_the_whole(numbers: list[int], cut: int) -> None:
    events = [event(seq, data={"n": number}) for seq, number in enumerate(numbers, 1)]
    assert fold(Total(), events[cut:], fold(Total(), events[:cut])) == fold(Total(), events)


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(0, 12))
def test_a_fold_in_two_parts_is_that_of_the_whole_also_where_the_state_between_is_none(
    numbers: list[int], cut: int
) -> None:
    """None is a state like any other: a fold that goes on from it must not start over."""
    events = [event(seq, data={"n": number}) for seq, number in enumerate(numbers, 1)]
    assert fold(LastOdd(), events[cut:], fold(LastOdd(), events[:cut])) == fold(LastOdd(), events)


def test_a_fold_raises_what_apply_raises_and_stops_there() -> None:
    class Refusing(Total):
        def apply(self, state: int, event: Event) -> int:
            if event.seq == 2:
                raise LookupError
            return super().apply(state, event)

    left = iter([event(1), event(2), event(3)])
    with pytest.raises(LookupError):
        fold(Refusing(), left)
    assert [found.seq for found in left] == [3]


def test_a_projection_without_both_methods_cannot_be_made() -> None:
    class Half(Projection[int]):
        def initial(self) -> int:
            return 0

    with pytest.raises(TypeError, match="abstract"):
        cast(Any, Half)()
    with pytest.raises(TypeError, match="abstract"):
        cast(Any, Projection)()


@pytest.mark.parametrize("view", [WorkingMemory(), Episodes(), SessionActivity(), Timeline()])
def test_each_view_starts_from_a_new_object_with_a_version(view: Projection[Any]) -> None:
    assert type(view).version >= 1
    one, other = view.initial(), view.initial()
    assert one is not other or isinstance(one, tuple)


def test_two_starts_share_nothing_that_can_be_changed() -> None:
    one, other = WorkingMemory().initial(), WorkingMemory().initial()
    for name, value in one.dump().items():
        if isinstance(value, (dict, list)):
            assert value is not getattr(other, name)


def test_an_event_that_does_not_concern_a_view_leaves_the_very_state() -> None:
    state = Episodes().initial()
    assert Episodes().apply(state, event(1)) is state
    quiet = Timeline(Granularity.LIFECYCLE)
    moments = quiet.initial()
    assert quiet.apply(moments, event(1)) is moments
