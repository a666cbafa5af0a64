"""Search by words: BM25 over SQLite's FTS5, in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final, Literal

from duramen.events import NotInstalled

from .tokenizer import words_of

__all__ = ["Match", "WordIndex"]

Match = Literal["any", "all"]

_MOST_WORDS: Final = 100
"""Words of a question that count: SQLite takes expressions of a bounded size."""

# `ascii` takes all that is not ASCII for letters: what a word is was decided before, by `words_of`, and not by the
# version of Unicode that this SQLite was built with. Nothing but the index itself is stored.
_TABLE: Final = "CREATE VIRTUAL TABLE texts USING fts5(words, content='', tokenize='ascii')"


class WordIndex:
    """Texts by number, found by the words in them. Not thread-safe.

    Raises NotInstalled where this Python's SQLite has no FTS5.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._database.execute(_TABLE)
            self._database.execute("BEGIN")  # for ever: there is nothing to roll back to, and a commit each costs time
        except sqlite3.OperationalError:
            self._database.close()
            raise NotInstalled(
                "this Python's SQLite has no FTS5, which search by words needs: use a Python whose sqlite3 has it, or "
                "search by meaning with `use_embedding`"
            ) from None

    def add(self, number: int, text: str) -> None:
        """Keep a text under a number that has none."""
        self._database.execute("INSERT INTO texts(rowid, words) VALUES (?, ?)", (number, _plain(text)))

    def remove(self, number: int, text: str) -> None:
        """Take a text away again; it has to be the one that was added."""
        command = "INSERT INTO texts(texts, rowid, words) VALUES ('delete', ?, ?)"
        self._database.execute(command, (number, _plain(text)))

    def search(self, text: str, *, match: Match = "any", prefix: bool = False) -> Iterator[tuple[int, float]]:
        """Numbers and scores of the texts with any, or all, of the words of `text`; best first, equal ones in no order.

        The score is BM25's: more is better, and it says nothing beside those of other questions. With `prefix` a word
        stands for all that begin with it. Nothing in `text` is syntax. At most 100 different words count. Nothing may
        be added or removed while the iterator is in use.
        """
        terms = dict.fromkeys(_term(phrase, prefix) for phrase in words_of(text))
        if not terms:
            return
        question = (" AND " if match == "all" else " OR ").join(list(terms)[:_MOST_WORDS])
        rows = self._database.execute("SELECT rowid, rank FROM texts WHERE texts MATCH ? ORDER BY rank", (question,))
        yield from ((number, -rank) for number, rank in rows)

    def close(self) -> None:
        self._database.close()


def _plain(text: str) -> str:
    """What SQLite splits at its spaces into just these words."""
    return " ".join(word for phrase in words_of(text) for word in phrase)


def _term(phrase: list[str], prefix: bool) -> str:
    """Words hold letters, digits and marks only, and stand in quotes: they cannot be operators or end the string."""
    return f'"{" ".join(phrase)}"' + ("*" if prefix else "")
