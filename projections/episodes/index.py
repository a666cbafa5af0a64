"""Episodes to look up, list and search."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from heapq import nlargest
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from attrs import frozen

from duramen.events import Limits, NotInstalled
from duramen.events.codec import Codec

from .episode import Episode, episode_text
from .facets import EpisodeFilter, Facets

if TYPE_CHECKING:
    from .vector_index import Matrix, Vector, VectorIndex
    from .word_index import Match, WordIndex

__all__ = ["EpisodeIndex", "Found", "Waiting"]

ALL: Final = EpisodeFilter()


class Found(NamedTuple):
    """An episode that a search has found, and how well it fits: more is better.

    By meaning the score is the cosine, from -1 to 1; by words it is BM25's, to be compared within one search only.
    """

    episode: Episode
    score: float


@frozen
class Waiting:
    """An episode that has no vector yet, and the text of it that is to get one."""

    row: int
    stamp: int
    text: str


class EpisodeIndex:
    """All episodes in memory, from wherever they come. Thread-safe.

    An episode is kept as bytes, and made anew for who asks. What searching by words needs is built at the first such
    search (half a minute for a million episodes), and kept up from then on; the same with vectors, once somebody
    uses them. Among episodes that fit equally well the newest comes first.
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
        self._waiting: dict[int, int] = {}  # row → stamp, oldest first
        self._stamp = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, episode: Episode) -> None:
        """Take an episode in, in the place of one of the same id."""
        with self._lock:
            data = self._codec.pack(episode.as_data())
            row = self._rows.get(episode.id)
            if row is None:
                self._insert(episode, data)
            elif self._packed[row] != data:
                self._update(row, episode, data)

    def remove(self, episode_id: str) -> bool:
        """Leave an episode out from now on; False if there is none of this id."""
        with self._lock:
            row = self._rows.pop(episode_id, None)
            if row is None:
                return False
            if self._words is not None:
                self._words.remove(row, episode_text(self._at(row)))
            self._forget_vector(row)
            self._facets.clear(row)
            self._packed[row] = b""
            self._free.append(row)
            return True

    def clear(self) -> None:
        """Leave all episodes out."""
        for episode_id in list(self._rows):
            self.remove(episode_id)

    def get(self, episode_id: str) -> Episode | None:
        """One episode by id; None if there is none."""
        with self._lock:
            row = self._rows.get(episode_id)
            return None if row is None else self._at(row)

    def newest(self, selection: EpisodeFilter = ALL, limit: int | None = None) -> list[Episode]:
        """Episodes, newest first."""
        with self._lock:
            choice = self._facets.choose(selection)
            found = filter(choice.takes, self._rows.values())
            newest = (
                sorted(found, key=self._age, reverse=True) if limit is None else nlargest(limit, found, key=self._age)
            )
            return [self._at(row) for row in newest]

    # -- by words --------------------------------------------------------------------------------------------------

    def by_words(
        self, text: str, selection: EpisodeFilter = ALL, limit: int = 10, *, match: Match = "any", prefix: bool = False
    ) -> list[Found]:
        """The episodes that fit best, as `WordIndex.search` says. Raises NotInstalled where SQLite has no FTS5."""
        with self._lock:
            if self._words is None:
                self._words = self._index_words()
            choice = self._facets.choose(selection)
            hits = self._words.search(text, match=match, prefix=prefix)
            return self._best(((row, score) for row, score in hits if choice.takes(row)), limit)

    def _index_words(self) -> WordIndex:
        try:
            from .word_index import WordIndex
        except ImportError:
            raise NotInstalled(
                "search by words needs the module sqlite3, which this Python was built without"
            ) from None
        words = WordIndex()
        for row in self._rows.values():
            words.add(row, episode_text(self._at(row)))
        return words

    # -- by meaning ------------------------------------------------------------------------------------------------

    def use_vectors(self, make: Callable[[int], VectorIndex]) -> None:
        """Keep vectors from now on, in an index that `make` makes of their length; those there were are forgotten."""
        with self._lock:
            self._make_vectors, self._vectors = make, None
            self._waiting.clear()
            for row in self._rows.values():
                self._wait_for(row)

    @property
    def stamp(self) -> int:
        """Grows with every text that begins to wait for a vector."""
        return self._stamp

    def waiting(self, most: int, up_to: int) -> list[Waiting]:
        """At most so many of the texts without a vector that had a stamp up to `up_to`, those that wait longest."""
        with self._lock:
            found: list[Waiting] = []
            for row, stamp in self._waiting.items():
                if stamp > up_to or len(found) == most:
                    break
                found.append(Waiting(row, stamp, episode_text(self._at(row))))
            return found

    def put_vectors(self, texts: Sequence[Waiting], vectors: Matrix) -> None:
        """Keep the vectors of texts that waited, a row each. Those that changed meanwhile go on waiting."""
        with self._lock:
            current = [at for at, text in enumerate(texts) if self._waiting.get(text.row) == text.stamp]
            if not current or self._make_vectors is None:
                return
            if self._vectors is None:
                self._vectors = self._make_vectors(vectors.shape[1])
            self._vectors.put([texts[at].row for at in current], vectors[current])
            for at in current:
                del self._waiting[texts[at].row]

    def by_vector(self, vector: Vector, selection: EpisodeFilter = ALL, limit: int = 10) -> list[Found]:
        """The episodes whose vectors are most like this one; those that still wait for theirs are not among them."""
        from .vector_index import mask_of

        with self._lock:
            if self._vectors is None or limit < 1:
                return []
            mask = mask_of(self._facets.choose(selection))
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
        self._describe(row, episode)
        if self._words is not None:
            self._words.add(row, episode_text(episode))
        self._wait_for(row)

    def _update(self, row: int, episode: Episode, data: bytes) -> None:
        before, after = episode_text(self._at(row)), episode_text(episode)
        self._packed[row] = data
        self._describe(row, episode)
        if before == after:
            return
        if self._words is not None:
            self._words.remove(row, before)
            self._words.add(row, after)
        self._forget_vector(row)
        self._wait_for(row)

    def _describe(self, row: int, episode: Episode) -> None:
        self._facets.put(row, episode.project_id, episode.agent, episode.outcome, episode.created_at)

    def _forget_vector(self, row: int) -> None:
        self._waiting.pop(row, None)
        if self._vectors is not None:
            self._vectors.remove(row)

    def _wait_for(self, row: int) -> None:
        if self._make_vectors is not None:
            self._stamp += 1
            self._waiting[row] = self._stamp

    def _at(self, row: int) -> Episode:
        return Episode(**self._codec.unpack(self._packed[row]))

    def _age(self, row: int) -> tuple[int, str]:
        """Grows with newness; no two rows have the same."""
        return self._facets.created[row], self._ids[row]

    def _best(self, hits: Iterable[tuple[int, float]], limit: int) -> list[Found]:
        """The first of the hits, which come best first; of equal ones the newest."""
        best: list[Found] = []
        for score, group in groupby(hits, key=lambda hit: hit[1]):
            if len(best) >= limit:
                break
            rows = nlargest(limit - len(best), (row for row, _ in group), key=self._age)
            best += [Found(self._at(row), score) for row in rows]
        return best
