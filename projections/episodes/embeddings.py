"""Embedding of texts by a function of the user's: in batches, each text once, the vectors checked."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duramen.events import EmbeddingFailed
from duramen.events.log import ContentCache

from .record import CHARACTERS, hash_of_text
from .vector_index import Matrix, Vector

Embed = Callable[[list[str]], Any]
"""A function from texts to as many vectors of one length: lists, an array, or an awaitable of these."""

_DIMENSIONS: Final = b"dimensions"
_MOST_DIMENSIONS: Final = 65_536
_QUERIES: Final = 1_000
_LITTLE_ENDIAN: Final = np.dtype("<f4")


class Embedding:
    """A model by its name, and the vectors it has returned. Used by one thread at a time.

    Vectors are normalized to length 1; a vector of zeros stays. Vectors of stored texts, not those of queries, are
    kept in `cache` for other processes. `wait` awaits what a coroutine function returned. Every method raises
    EmbeddingFailed, and what the cache raises.
    """

    def __init__(
        self, embed: Embed, *, name: str, batch: int, cache: ContentCache, wait: Callable[[Awaitable[Any]], Any]
    ) -> None:
        self._embed = embed
        self._name = name
        self._cache = cache
        self._wait = wait
        self._queries: OrderedDict[str, Vector] = OrderedDict()
        self._dimensions: int | None = None
        self.batch = batch
        """The number of texts in one call, at most."""
        self.stored = 0
        """How many vectors were written to the cache."""

    def embed_query(self, text: str) -> Vector:
        """Embed the text of a search. The latest 1,000 vectors stay in memory; none is written to the cache."""
        text = text[:CHARACTERS]
        if text in self._queries:
            self._queries.move_to_end(text)
            return self._queries[text]
        self._load_dimensions()
        [stored] = self._parse(self._cache.load([hash_of_text(text)]))
        vector = self._call([text])[0] if stored is None else stored
        self._queries[text] = vector
        if len(self._queries) > _QUERIES:
            self._queries.popitem(last=False)
        return vector

    def embed_texts(self, texts: Sequence[str]) -> Matrix:
        """Embed texts, a row each. Texts that the cache lacks are embedded in batches and written to it."""
        self._load_dimensions()
        texts = [text[:CHARACTERS] for text in texts]
        different = {hash_of_text(text): text for text in texts}
        found = dict(zip(different, self._parse(self._cache.load(list(different))), strict=True))
        missing = [field for field, vector in found.items() if vector is None]
        for at in range(0, len(missing), self.batch):
            part = missing[at : at + self.batch]
            rows = self._call([different[field] for field in part])
            found.update(zip(part, rows, strict=True))
            values = {field: row.astype(_LITTLE_ENDIAN).tobytes() for field, row in zip(part, rows, strict=True)}
            self._cache.store({**values, _DIMENSIONS: b"%d" % rows.shape[1]})
            self.stored += len(values)
        return np.array([found[hash_of_text(text)] for text in texts], np.float32)

    def forget_texts(self, texts: Sequence[str]) -> None:
        """Remove the vectors of texts from the cache."""
        self._cache.drop([hash_of_text(text) for text in texts])

    def _load_dimensions(self) -> None:
        """Load the length of the vectors in the cache, if it has any."""
        if self._dimensions is None:
            [stored] = self._cache.load([_DIMENSIONS])
            if stored is not None and stored.isdigit() and 0 < int(stored) <= _MOST_DIMENSIONS:
                self._dimensions = int(stored)

    def _parse(self, stored: Sequence[bytes | None]) -> list[Vector | None]:
        """Parse vectors from the cache. A damaged one counts as missing, and is replaced."""
        return [None if value is None else self._parse_one(value) for value in stored]

    def _parse_one(self, stored: bytes) -> Vector | None:
        if self._dimensions is None or len(stored) != self._dimensions * _LITTLE_ENDIAN.itemsize:
            return None
        vector = np.frombuffer(stored, _LITTLE_ENDIAN).astype(np.float32)
        length = float(np.linalg.norm(vector))  # NaN fails both comparisons
        return vector if length == 0 or abs(length - 1) < 1e-3 else None

    def _call(self, texts: list[str]) -> Matrix:
        try:
            answer = self._embed(list(texts))
            if inspect.isawaitable(answer):
                answer = self._wait(answer)
        except BaseException as error:  # even a SystemExit ends only this call
            raise EmbeddingFailed(
                f"the embedding {self._name!r} raised {type(error).__name__} for {len(texts)} texts: correct it or try "
                "again later; nothing is lost, and search by words works meanwhile"
            ) from error
        return self._normalize(self._check(answer, len(texts)))

    def _check(self, answer: Any, count: int) -> NDArray[np.float64]:
        try:
            vectors = np.asarray(answer, np.float64)
        except (TypeError, ValueError) as error:
            raise self._wrong_form("vectors of numbers, all of one length", type(answer).__name__) from error
        if vectors.ndim != 2 or len(vectors) != count or not 0 < vectors.shape[1] <= _MOST_DIMENSIONS:
            raise self._wrong_form(f"{count} vectors, one a text, all of one length", f"shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise self._wrong_form("finite numbers", "NaN or infinity")
        if self._dimensions is None:
            self._dimensions = int(vectors.shape[1])
        if vectors.shape[1] != self._dimensions:
            raise EmbeddingFailed(
                f"the embedding {self._name!r} returned vectors of {vectors.shape[1]} numbers, and earlier ones have "
                f"{self._dimensions}: give a changed model another name",
                expected=self._dimensions,
                actual=int(vectors.shape[1]),
            )
        return vectors

    def _wrong_form(self, expected: str, actual: str) -> EmbeddingFailed:
        return EmbeddingFailed(
            f"the embedding {self._name!r} has to return {expected}; it returned {actual}",
            expected=expected,
            actual=actual,
        )

    def _normalize(self, vectors: NDArray[np.float64]) -> Matrix:
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        scaled = vectors / np.where(largest == 0, 1.0, largest)  # squares of larger numbers would overflow
        lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
        unit: Matrix = (scaled / np.where(lengths == 0, 1.0, lengths)).astype(np.float32)
        return unit
