"""Which agents a subscription that is given changes of many is told of when they are erased."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import pytest

from duramen.events.model import START
from duramen.projections.notifications.event_filter import EventFilter
from duramen.projections.subscriptions import erasures as erasures_module
from duramen.projections.subscriptions.buffer import Item
from duramen.projections.subscriptions.erasures import ErasureWatch, erased_change

NAMED = "acme/alice"


@pytest.fixture(autouse=True)
def keep_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasures_module, "_MOST_SEEN", 3)


class Counted(OrderedDict[str, tuple[int, int]]):
    """Counts the agents that are looked at."""

    looked = 0

    def __iter__(self) -> Iterator[str]:
        for agent in super().__iter__():
            self.looked += 1
            yield agent


def watch_of(*agents: str) -> ErasureWatch:
    """A watch of a pattern that names an agent, and was given a change of each of these, in order."""
    watch = ErasureWatch(EventFilter.parse(f"{NAMED}/**"))
    watch.expect(NAMED, 0, 0)
    watch.note(Item(0, erased_change(agent), START) for agent in agents)
    return watch


def test_the_agents_whose_changes_came_last_are_kept_and_the_ones_that_are_named() -> None:
    a, b, c = (f"{NAMED}/{name}" for name in "abc")
    assert set(watch_of(a, b).agents(0)) == {NAMED, a, b}
    assert set(watch_of(a, b, c).agents(0)) == {NAMED, b, c}
    assert set(watch_of(a, b, a, c).agents(0)) == {NAMED, a, c}, "it has changed since the other one did"


def test_to_forget_one_looks_at_no_more_agents_than_the_pattern_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasures_module, "_MOST_SEEN", 100)
    watch = watch_of(*(f"{NAMED}/{number}" for number in range(99)))
    watch.seen = Counted(watch.seen)
    watch.note(Item(0, erased_change(f"{NAMED}/{number}"), START) for number in range(99, 199))
    assert len(watch.seen) == 100
    assert watch.seen.looked <= 102, "the 100 that are forgotten, and the one that is named, now and then"
