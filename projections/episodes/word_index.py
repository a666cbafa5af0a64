"""Word search: BM25 with SQLite's FTS5, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from duramen.events import NotInstalled

from .tokenizer import split_words

Match = Literal["any", "all"]

_MOST_WORDS: Final = 100
"""Words of a query that count: SQLite takes expressions of a bounded size."""

# `split_words` has decided what a word is, whatever Unicode version SQLite was built with: the tokenizer `ascii` takes
# every character that is not ASCII for a letter. Only the index is stored, not the texts.
_TABLE: Final = "CREATE VIRTUAL TABLE texts USING fts5(words, content='', tokenize='ascii')"


class WordIndex:
    """Texts by number, searched by their words. Not thread-safe.

    Raises NotInstalled where this Python has no SQLite, or its SQLite no FTS5.
    """

    def __init__(self) -> None:
        try:
            import sqlite3
        except ImportError:
            raise NotInstalled(
                "search by words needs the module sqlite3, which this Python was built without"
            ) from None
        self._database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._database.execute(_TABLE)
            self._database.execute("BEGIN")  # never committed: nothing is rolled back, and commits cost time
        except sqlite3.OperationalError:
            self._database.close()
            raise NotInstalled(
                "this Python's SQLite has no FTS5, which search by words needs: use a Python whose sqlite3 has it, or "
                "search by meaning with `use_embedding`"
            ) from None

    def add(self, number: int, text: str) -> None:
        """Add a text under a number that has none."""
        self._database.execute("INSERT INTO texts(rowid, words) VALUES (?, ?)", (number, _plain(text)))

    def remove(self, number: int, text: str) -> None:
        """Remove a text; it has to be the one that was added."""
        command = "INSERT INTO texts(texts, rowid, words) VALUES ('delete', ?, ?)"
        self._database.execute(command, (number, _plain(text)))

    def search(self, text: str, *, match: Match = "any", prefix: bool = False) -> Iterator[tuple[int, float]]:
        """Numbers and scores of the texts with any, or all, of the words of `text`; best first, equal scores unordered.

        The score is BM25's: more is better, and only scores of one search compare. With `prefix` a word matches every
        word that begins with it. Nothing in `text` is syntax. At most 100 different words count. The index must not
        change while the iterator is in use.
        """
        terms = dict.fromkeys(_term(phrase, prefix) for phrase in split_words(text))
        if not terms:
            return
        question = (" AND " if match == "all" else " OR ").join(list(terms)[:_MOST_WORDS])
        rows = self._database.execute("SELECT rowid, rank FROM texts WHERE texts MATCH ? ORDER BY rank", (question,))
        yield from ((number, -rank) for number, rank in rows)

    def close(self) -> None:
        self._database.close()


def _plain(text: str) -> str:
    """The words of a text, separated by the spaces at which SQLite splits them."""
    return " ".join(word for phrase in split_words(text) for word in phrase)


def _term(phrase: list[str], prefix: bool) -> str:
    """A query term in quotes. Words have letters, digits and marks only, so they are no operators and end no string."""
    return f'"{" ".join(phrase)}"' + ("*" if prefix else "")
