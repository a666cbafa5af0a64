"""The index beyond a million: what the exact one says, nearly always; filters and changes always."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.projections.episodes import GraphVectors, graph_vectors
from duramen.projections.episodes.vector_index import ExactVectors, Mask, VectorIndex


def random_vectors(
    count: int, seed: int = 0, dimensions: int = 32
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions))
    unit: np.ndarray[tuple[int, int], np.dtype[np.float32]] = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
    ).astype(np.float32)
    return unit


def best(
    index: VectorIndex, vector: np.ndarray[tuple[int], np.dtype[np.float32]], most: int, mask: Mask | None
) -> list[int]:
    found = index.search(vector, most, mask)
    return [row for row, _ in sorted(found, key=lambda hit: -hit[1])[:most]]


@pytest.fixture(params=[0, 20_000])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """By the graph, and one by one."""
    monkeypatch.setattr(graph_vectors, "_FEW", max(1, request.param))
    return int(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("share", [None, 0.5, 0.02])
def test_it_finds_nearly_what_the_exact_one_finds(few: int, share: float | None) -> None:
    vectors = random_vectors(3_000)
    graph, exact = GraphVectors(32), ExactVectors(32)
    for index in (graph, exact):
        index.put(range(3_000), vectors)
    mask = None if share is None else np.random.default_rng(1).random(3_000) < share
    same = 0
    for question in random_vectors(50, seed=2):
        ours, theirs = best(graph, question, 10, mask), best(exact, question, 10, mask)
        assert len(ours) == 10
        assert mask is None or all(mask[row] for row in ours)
        same += len(set(ours) & set(theirs))
    assert same >= 450


def test_the_score_is_the_cosine(few: int) -> None:
    vectors = random_vectors(1_000)
    index = GraphVectors(32)
    index.put(range(1_000), vectors)
    for row, cosine in index.search(vectors[7], 3, None):
        assert cosine == pytest.approx(float(vectors[row] @ vectors[7]), abs=2e-3)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=40))
def test_what_was_changed_or_removed_is_not_found_as_it_was(steps: list[tuple[int, bool]]) -> None:
    vectors = random_vectors(40, dimensions=8)
    index, model = GraphVectors(8), dict[int, int]()
    for number, (row, keep) in enumerate(steps):
        if keep:
            index.put([row], vectors[number : number + 1])
            model[row] = number
        else:
            index.remove(row)
            model.pop(row, None)
    found = dict(index.search(vectors[0], 100, None))
    assert set(found) == set(model)
    for row, number in model.items():
        assert found[row] == pytest.approx(float(vectors[number] @ vectors[0]), abs=2e-3)


def test_a_vector_of_zeros_is_like_nothing() -> None:
    index = GraphVectors(4)
    index.put([0, 1], np.array([[0, 0, 0, 0], [1, 0, 0, 0]], np.float32))
    found = dict(index.search(np.array([1, 0, 0, 0], np.float32), 2, None))
    assert found == {0: pytest.approx(0), 1: pytest.approx(1, abs=1e-3)}
    assert GraphVectors(4).search(np.zeros(4, np.float32), 2, None) == []
