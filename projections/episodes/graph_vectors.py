"""Approximate vector search by a graph of neighbours, for over a million. Needs usearch: `duramen[approximate]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duramen.events import NotInstalled

from .vector_index import Mask, Matrix, Vector

try:
    from usearch.index import Index
except ImportError:
    raise NotInstalled("this index needs usearch: pip install 'duramen[approximate]'") from None

_FEW: Final = 20_000
"""Up to this many allowed vectors are compared one by one, without the graph."""


class GraphVectors:
    """A `VectorIndex` that finds nearly all of the nearest vectors, and compares few of the others.

    A row takes two bytes a dimension and some hundreds for the graph. Cosines are right to three digits. Adding a
    vector of 384 dimensions takes about 0.3 ms.
    """

    def __init__(self, dimensions: int) -> None:
        # The vectors have length 1, so the inner product is the cosine; unlike that, it accepts vectors of zeros.
        self._graph: Any = Index(ndim=dimensions, metric="ip", dtype="f16")
        self._filled: Mask = np.zeros(64, np.bool_)

    def put(self, rows: Sequence[int], vectors: Matrix) -> None:
        end = max(rows, default=-1) + 1
        if end > len(self._filled):
            more = max(end, 2 * len(self._filled)) - len(self._filled)
            self._filled = np.pad(self._filled, (0, more))
        for row in rows:
            self.remove(row)
        self._graph.add(np.array(rows, np.uint64), vectors)
        self._filled[rows] = True

    def remove(self, row: int) -> None:
        if row < len(self._filled) and self._filled[row]:
            self._graph.remove(row)
            self._filled[row] = False

    def search(self, vector: Vector, most: int, allowed: Mask | None) -> list[tuple[int, float]]:
        taken = self._filled.copy()
        if allowed is not None:
            common = min(len(taken), len(allowed))
            taken[:common] &= allowed[:common]
            taken[common:] = False
        rows = np.flatnonzero(taken)
        asked = 2 * most
        while len(rows) > _FEW and asked * 4 < len(rows):
            matches = self._graph.search(vector, asked)
            found: NDArray[np.intp] = np.asarray(matches.keys).astype(np.intp)
            passing = taken[found]
            if np.count_nonzero(passing) >= most:
                cosines = 1.0 - np.asarray(matches.distances, np.float64)
                return list(zip(found[passing].tolist(), cosines[passing].tolist(), strict=True))
            asked *= 4
        return self._one_by_one(rows, vector)

    def _one_by_one(self, rows: NDArray[np.intp], vector: Vector) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = []
        precise = vector.astype(np.float64)
        for at in range(0, len(rows), _FEW):
            part = rows[at : at + _FEW]
            vectors = np.asarray(self._graph.get(part.astype(np.uint64)), np.float64)
            found += zip(part.tolist(), (vectors * precise).sum(axis=1).tolist(), strict=True)
        return found
