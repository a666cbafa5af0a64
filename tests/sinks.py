"""Sinks for tests, in SQLite and PostgreSQL: a row an event, so that what is doubled or left out is seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from duramen.events import Event
from duramen.projections import Sink

__all__ = ["PageResult", "PostgresSeen", "SqliteSeen", "sink_of"]

_TABLES = (
    "CREATE TABLE IF NOT EXISTS seen (number {serial}, agent TEXT, seq BIGINT)",
    "CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, cursor {bytes})",
)


class PageResult(Sink):
    """`before_commit` and `after_commit` are called inside `write`, with its events."""

    def __init__(self) -> None:
        self.before_commit: Callable[[Sequence[Event]], None] = lambda events: None
        self.after_commit: Callable[[Sequence[Event]], None] = lambda events: None
        self.reachable = True
        self.writes = 0

    def rows(self) -> dict[str, list[int]]:
        """Seqs by agent, in the order of the rows."""
        found: dict[str, list[int]] = {}
        for agent, seq in self.query("SELECT agent, seq FROM seen ORDER BY number"):
            found.setdefault(agent, []).append(seq)
        return found

    def query(self, statement: str, *arguments: Any) -> list[Any]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _check_reachable(self) -> None:
        if not self.reachable:
            raise ConnectionError("the database is away")


class SqliteSeen(PageResult):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.database = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
        self.database.execute("PRAGMA journal_mode = WAL")
        for table in _TABLES:
            self.database.execute(table.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT", bytes="BLOB"))
        self.looking = sqlite3.connect(path, check_same_thread=False, timeout=30)

    def cursor(self, name: str) -> bytes | None:
        self._check_reachable()
        row = self.database.execute("SELECT cursor FROM cursors WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def write(self, name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        self._check_reachable()
        self.writes += 1
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            if self.cursor(name) != after:
                raise self.fenced(name)
            rows = [(event.agent, event.seq) for event in events]
            self.database.executemany("INSERT INTO seen (agent, seq) VALUES (?, ?)", rows)
            self.database.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (name, cursor))
            self.before_commit(events)
        self.after_commit(events)

    def reset(self, name: str) -> None:
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            self.database.execute("DELETE FROM seen")
            self.database.execute("DELETE FROM cursors WHERE name = ?", (name,))

    def query(self, statement: str, *arguments: Any) -> list[Any]:
        return self.looking.execute(statement, arguments).fetchall()

    def close(self) -> None:
        self.database.close()
        self.looking.close()


class PostgresSeen(PageResult):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.database = psycopg.connect(url, autocommit=True)
        self.looking = psycopg.connect(url, autocommit=True)
        with self.database.transaction():
            self.database.execute("SELECT pg_advisory_xact_lock(1)")
            for table in _TABLES:
                self.database.execute(table.format(serial="BIGSERIAL PRIMARY KEY", bytes="BYTEA"))  # type: ignore[call-overload]

    def cursor(self, name: str) -> bytes | None:
        self._check_reachable()
        row = self.database.execute("SELECT cursor FROM cursors WHERE name = %s", (name,)).fetchone()
        return None if row is None else row[0]

    def write(self, name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        self._check_reachable()
        self.writes += 1
        with self.database.transaction():
            self.database.execute("SELECT pg_advisory_xact_lock(2)")
            if self.cursor(name) != after:
                raise self.fenced(name)
            with self.database.cursor() as statements:
                rows = [(event.agent, event.seq) for event in events]
                statements.executemany("INSERT INTO seen (agent, seq) VALUES (%s, %s)", rows)
            self.database.execute(
                "INSERT INTO cursors VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor",
                (name, cursor),
            )
            self.before_commit(events)
        self.after_commit(events)

    def reset(self, name: str) -> None:
        with self.database.transaction():
            self.database.execute("DELETE FROM seen")
            self.database.execute("DELETE FROM cursors WHERE name = %s", (name,))

    def query(self, statement: str, *arguments: Any) -> list[Any]:
        return self.looking.execute(statement, arguments).fetchall()  # type: ignore[call-overload]

    def close(self) -> None:
        self.database.close()
        self.looking.close()


def sink_of(place: str) -> PageResult:
    """By the place of the tables: the path of a file, or the url of a server."""
    return PostgresSeen(place) if place.startswith("postgresql:") else SqliteSeen(place)
