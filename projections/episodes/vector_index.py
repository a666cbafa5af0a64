"""Vector search: the protocol, and exact search in one matrix. Needs numpy: `duramen[search]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .facets import Choice

Matrix: TypeAlias = NDArray[np.float32]
Vector: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

_FIRST_ROWS: Final = 64
_FEW: Final = 8
"""If fewer than one row in so many is allowed, only the allowed ones are compared."""
_AT_ONCE: Final = 16_384


class VectorIndex(Protocol):
    """Vectors of length 1 in numbered rows, 0, 1, 2 … Used by one thread at a time."""

    def put(self, rows: Sequence[int], vectors: Matrix) -> None:
        """Store a vector in each of these rows, or replace the one there."""
        ...

    def remove(self, row: int) -> None:
        """Empty a row. An empty row stays empty."""
        ...

    def search(self, vector: Vector, most: int, allowed: Mask | None) -> list[tuple[int, float]]:
        """The allowed rows most similar to `vector`, with their cosines, in any order.

        At least `most` rows if there are so many; more where others are as similar as the last of them. `allowed` has
        an entry for each row, also for empty ones; None allows all.
        """
        ...


class ExactVectors:
    """An exact `VectorIndex`: all vectors in one matrix, which a search reads once.

    A row takes four bytes a dimension. The matrix doubles when it is full; its empty part takes address space and no
    memory.
    """

    def __init__(self, dimensions: int) -> None:
        self._matrix: Matrix = np.empty((_FIRST_ROWS, dimensions), np.float32)
        self._filled: Mask = np.zeros(_FIRST_ROWS, np.bool_)
        self._end = 0

    def put(self, rows: Sequence[int], vectors: Matrix) -> None:
        end = max(rows, default=-1) + 1
        if end > len(self._matrix):
            self._grow(end)
        if end > self._end:
            self._matrix[self._end : end] = 0.0  # no number of an empty row in between may be NaN
            self._end = end
        self._matrix[rows] = vectors
        self._filled[rows] = True

    def remove(self, row: int) -> None:
        if row < self._end:
            self._filled[row] = False

    def search(self, vector: Vector, most: int, allowed: Mask | None) -> list[tuple[int, float]]:
        taken = self._filled[: self._end]
        if allowed is not None:
            taken = taken & _fitted(allowed, self._end)
        count = int(np.count_nonzero(taken))
        if count * _FEW < self._end:
            rows = np.flatnonzero(taken)
            cosines = np.concatenate([self._matrix[part] @ vector for part in _parts(rows)] or [_NONE])
        else:
            rows = np.arange(self._end)
            cosines = self._matrix[: self._end] @ vector
            cosines[~taken] = -np.inf
        rows = select_nearest(rows, cosines, min(most, count), len(vector))
        return list(zip(rows.tolist(), self._exactly(rows, vector), strict=True))

    def _exactly(self, rows: NDArray[np.intp], vector: Vector) -> list[float]:
        """Compute cosines in double precision, row by row: equal vectors get equal cosines in any row."""
        precise = vector.astype(np.float64)
        return [
            float(cosine)
            for part in _parts(rows)
            for cosine in (self._matrix[part].astype(np.float64) * precise).sum(axis=1)
        ]

    def _grow(self, end: int) -> None:
        size = max(end, 2 * len(self._matrix))
        matrix: Matrix = np.empty((size, self._matrix.shape[1]), np.float32)
        matrix[: self._end] = self._matrix[: self._end]
        filled: Mask = np.zeros(size, np.bool_)
        filled[: self._end] = self._filled[: self._end]
        self._matrix, self._filled = matrix, filled


_NONE: Final[Vector] = np.empty(0, np.float32)


def select_nearest(rows: NDArray[np.intp], cosines: Vector, most: int, dimensions: int) -> NDArray[np.intp]:
    """The `most` rows of the highest cosines, and all within rounding error of the last, in any order."""
    if most <= 0:
        return rows[:0]
    last = cosines[np.argpartition(cosines, -most)[-most]]
    margin = np.float32(2 * dimensions * np.finfo(np.float32).eps)  # twice the rounding error of such a sum
    near: NDArray[np.intp] = rows[cosines >= last - margin]
    return near


def make_mask(choice: Choice) -> Mask | None:
    """A mask of the rows that match; None: all do. The columns are not copied."""
    if choice.takes_all:
        return None
    mask: Mask = np.ones(len(choice.created), np.bool_)
    for column, code in choice.equal:
        mask &= np.frombuffer(column, np.int32) == code
    if choice.since is not None:
        mask &= np.frombuffer(choice.created, np.int64) >= choice.since
    return mask


def _fitted(mask: Mask, length: int) -> Mask:
    """A mask cut, or filled up with False, to a length."""
    return mask[:length] if len(mask) >= length else np.pad(mask, (0, length - len(mask)))


def _parts(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return [rows[at : at + _AT_ONCE] for at in range(0, len(rows), _AT_ONCE)]
