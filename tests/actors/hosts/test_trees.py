"""Trees that have left memory are given up a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain

import pytest

from duramen.actors.hosts import Trees

MANY = 1_000
FEW = 128
PATHS = [f"acme/a{number}" for number in range(MANY)]


class Released:
    """A worker thread that is far behind: its calls are made by the test."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.roots: list[str] = []
        self.trees = Trees(self.roots.extend, self.calls.append)
        for path in PATHS:
            assert self.trees.enter(path, lambda: None)
        for path in PATHS:
            self.trees.leave(path)

    def end_one(self) -> list[str]:
        """The trees of the batch that is under way, once it has ended."""
        (call,) = self.calls
        self.calls.clear()
        self.roots.clear()
        call()
        self.trees.ended(list(self.roots))
        return list(self.roots)


@pytest.fixture
def released() -> Released:
    return Released()


def test_trees_that_leave_together_are_released_a_batch_after_the_other(released: Released) -> None:
    released.trees.release_empty()
    batches = []
    while released.calls:
        batches.append(released.end_one())
    assert max(map(len, batches)) <= FEW
    assert sorted(chain(*batches)) == sorted(PATHS), "each of them, once"
    assert not released.trees.is_releasing


def test_only_the_trees_of_the_batch_under_way_have_to_be_waited_for(released: Released) -> None:
    entered: list[str] = []
    released.trees.release_empty()
    refused = [path for path in PATHS if not released.trees.enter(path, partial(entered.append, path))]
    assert 0 < len(refused) <= FEW
    assert sorted(released.end_one()) == sorted(refused)
    assert sorted(entered) == sorted(refused)
    assert not released.calls, "the others are in memory again, and nobody gives them up"


def test_the_trees_that_were_left_last_are_released_first(released: Released) -> None:
    """A host that drains relies on it: what waits for an agent that has just left must not bring it back."""
    released.trees.release_empty()
    assert set(released.end_one()) == set(PATHS[-FEW:])
