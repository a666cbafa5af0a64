"""An index in memory to look up, list and search episodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from heapq import nlargest
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from attrs import frozen

from duramen.events import Limits
from duramen.events.codec import Codec

from .episode import Episode, episode_text
from .facets import EpisodeFilter, Facets
from .word_index import WordIndex

if TYPE_CHECKING:
    from .vector_index import Matrix, Vector, VectorIndex
    from .word_index import Match

ALL: Final = EpisodeFilter()


class Found(NamedTuple):
    """An episode that a search found, with its score: more is better.

    By meaning the score is the cosine, from -1 to 1; by words it is BM25's, comparable within one search only.
    """

    episode: Episode
    score: float


@frozen
class PendingText:
    """The text of an episode that has no vector yet."""

    row: int
    stamp: int
    text: str


class EpisodeIndex:
    """All episodes in memory. Thread-safe.

    Episodes are held as bytes; each call returns new objects. The word index is built at the first search by words
    (half a minute for a million episodes) and kept up to date from then on; vectors likewise, after `use_vectors`.
    Of episodes with equal scores the newest comes first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codec = Codec(Limits())
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._packed: list[bytes] = []
        self._facets = Facets()
        self._free: list[int] = []
        self._words: WordIndex | None = None
        self._make_vectors: Callable[[int], VectorIndex] | None = None
        self._vectors: VectorIndex | None = None
        self._pending: dict[int, int] = {}  # row → stamp, oldest first
        self._stamp = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, episode: Episode) -> None:
        """Add an episode, or replace the one with its id."""
        with self._lock:
            data = self._codec.pack(episode.as_data())
            row = self._rows.get(episode.id)
            if row is None:
                self._insert(episode, data)
            elif self._packed[row] != data:
                self._update(row, episode, data)

    def remove(self, episode_id: str) -> bool:
        """Remove an episode; False if there is none with this id."""
        with self._lock:
            row = self._rows.pop(episode_id, None)
            if row is None:
                return False
            if self._words is not None:
                self._words.remove(row, episode_text(self._episode(row)))
            self._forget_vector(row)
            self._facets.clear(row)
            self._packed[row] = b""
            self._free.append(row)
            return True

    def clear(self) -> None:
        """Remove all episodes."""
        for episode_id in list(self._rows):
            self.remove(episode_id)

    def get(self, episode_id: str) -> Episode | None:
        """One episode by id; None if there is none."""
        with self._lock:
            row = self._rows.get(episode_id)
            return None if row is None else self._episode(row)

    def newest(self, selection: EpisodeFilter = ALL, limit: int | None = None) -> list[Episode]:
        """Episodes, newest first."""
        with self._lock:
            choice = self._facets.choose(selection)
            rows = [row for row in self._rows.values() if choice.matches(row)]
            newest = nlargest(len(rows) if limit is None else limit, rows, key=self._recency)
            return [self._episode(row) for row in newest]

    # -- by words --------------------------------------------------------------------------------------------------

    def search_words(
        self, text: str, selection: EpisodeFilter = ALL, limit: int = 10, *, match: Match = "any", prefix: bool = False
    ) -> list[Found]:
        """Search as `WordIndex.search` does, best first. Raises NotInstalled where SQLite has no FTS5."""
        with self._lock:
            if self._words is None:
                self._words = self._index_words()
            choice = self._facets.choose(selection)
            hits = self._words.search(text, match=match, prefix=prefix)
            return self._best(((row, score) for row, score in hits if choice.matches(row)), limit)

    def _index_words(self) -> WordIndex:
        words = WordIndex()
        for row in self._rows.values():
            words.add(row, episode_text(self._episode(row)))
        return words

    # -- by meaning ------------------------------------------------------------------------------------------------

    def use_vectors(self, make: Callable[[int], VectorIndex]) -> None:
        """Hold vectors from now on, in an index that `make` creates for their length; earlier vectors are dropped."""
        with self._lock:
            self._make_vectors, self._vectors = make, None
            self._pending.clear()
            for row in self._rows.values():
                self._mark_pending(row)

    @property
    def stamp(self) -> int:
        """A counter that grows with every text that needs a vector."""
        return self._stamp

    def pending_texts(self, most: int, up_to: int) -> list[PendingText]:
        """The oldest texts without a vector, at most `most`, with a stamp up to `up_to`."""
        with self._lock:
            found: list[PendingText] = []
            for row, stamp in self._pending.items():
                if stamp > up_to or len(found) == most:
                    break
                found.append(PendingText(row, stamp, episode_text(self._episode(row))))
            return found

    def missing_texts(self, texts: Sequence[str]) -> list[str]:
        """Those of these texts that no episode has. Looks at every episode."""
        with self._lock:
            return sorted(set(texts) - {episode_text(self._episode(row)) for row in self._rows.values()})

    def put_vectors(self, texts: Sequence[PendingText], vectors: Matrix) -> None:
        """Store the vectors of pending texts, a row each. A text that has changed since stays pending."""
        with self._lock:
            current = [at for at, text in enumerate(texts) if self._pending.get(text.row) == text.stamp]
            if not current or self._make_vectors is None:
                return
            if self._vectors is None:
                self._vectors = self._make_vectors(vectors.shape[1])
            self._vectors.put([texts[at].row for at in current], vectors[current])
            for at in current:
                del self._pending[texts[at].row]

    def search_vectors(self, vector: Vector, selection: EpisodeFilter = ALL, limit: int = 10) -> list[Found]:
        """The episodes with the most similar vectors; episodes without a vector are not found."""
        from .vector_index import make_mask

        with self._lock:
            if self._vectors is None or limit < 1:
                return []
            mask = make_mask(self._facets.choose(selection))
            hits = [(row, max(-1.0, min(1.0, cosine))) for row, cosine in self._vectors.search(vector, limit, mask)]
            return self._best(sorted(hits, key=lambda hit: -hit[1]), limit)

    # -- rows ------------------------------------------------------------------------------------------------------

    def _insert(self, episode: Episode, data: bytes) -> None:
        if self._free:
            row = self._free.pop()
        else:
            row = len(self._packed)
            self._ids.append("")
            self._packed.append(b"")
        self._rows[episode.id] = row
        self._ids[row] = episode.id
        self._packed[row] = data
        self._set_facets(row, episode)
        if self._words is not None:
            self._words.add(row, episode_text(episode))
        self._mark_pending(row)

    def _update(self, row: int, episode: Episode, data: bytes) -> None:
        before, after = episode_text(self._episode(row)), episode_text(episode)
        self._packed[row] = data
        self._set_facets(row, episode)
        if before == after:
            return
        if self._words is not None:
            self._words.remove(row, before)
            self._words.add(row, after)
        self._forget_vector(row)
        self._mark_pending(row)

    def _set_facets(self, row: int, episode: Episode) -> None:
        self._facets.put(row, episode.project_id, episode.agent, episode.outcome, episode.created_at)

    def _forget_vector(self, row: int) -> None:
        self._pending.pop(row, None)
        if self._vectors is not None:
            self._vectors.remove(row)

    def _mark_pending(self, row: int) -> None:
        if self._make_vectors is not None:
            self._stamp += 1
            self._pending[row] = self._stamp

    def _episode(self, row: int) -> Episode:
        return Episode(**self._codec.unpack(self._packed[row]))

    def _recency(self, row: int) -> tuple[int, str]:
        """A sort key that is greater for newer episodes, and different for all."""
        return self._facets.created[row], self._ids[row]

    def _best(self, hits: Iterable[tuple[int, float]], limit: int) -> list[Found]:
        """The first `limit` of hits that come best first; of equal scores the newest."""
        best: list[Found] = []
        for score, group in groupby(hits, key=lambda hit: hit[1]):
            if len(best) >= limit:
                break
            rows = nlargest(limit - len(best), (row for row, _ in group), key=self._recency)
            best += [Found(self._episode(row), score) for row in rows]
        return best
