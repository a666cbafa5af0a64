"""A view in a database of your own: what each tool costs, kept in SQLite, with its cursor in the same transaction.

    python examples/view_in_sqlite.py

Kill it at any moment and run it again with a folder of yours as argument: no event is counted twice, none is left out.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from duramen.actors import AgentSystem
from duramen.events import Event
from duramen.projections import Sink

TABLES = """
CREATE TABLE IF NOT EXISTS costs (tool TEXT PRIMARY KEY, calls INTEGER NOT NULL, tokens INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, cursor BLOB NOT NULL);
"""


class Costs(Sink):
    """Calls and tokens by tool. The runner calls from one thread of its own, so SQLite must not mind which."""

    types = frozenset({"activity_recorded"})

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path, check_same_thread=False, timeout=30)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.executescript(TABLES)

    def cursor(self, name: str) -> bytes | None:
        row = self.database.execute("SELECT cursor FROM cursors WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def write(self, name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        with self.database:  # commits, or rolls back
            self.database.execute("BEGIN IMMEDIATE")  # nobody writes between the look at the cursor and the commit
            if self.cursor(name) != after:
                raise self.fenced(name)
            for event in events:
                data = event.data["data"]
                self.database.execute(
                    "INSERT INTO costs VALUES (?, 1, ?) ON CONFLICT (tool) DO UPDATE "
                    "SET calls = calls + 1, tokens = tokens + excluded.tokens",
                    (data["tool"], data["tokens"]),
                )
            self.database.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (name, cursor))

    def reset(self, name: str) -> None:
        with self.database:
            self.database.execute("DELETE FROM costs")
            self.database.execute("DELETE FROM cursors WHERE name = ?", (name,))


def main(folder: Path) -> None:
    costs = Costs(folder / "costs.db")
    with AgentSystem.open(data_dir=folder / "agents") as system:
        runner = system.attach(costs, name="costs")
        for name in ("alice", "bob"):
            agent = system.spawn(f"acme/{name}")
            for tool, tokens in (("search", 120), ("read", 900), ("search", 80)):
                receipt = agent.record("tool_output", {"tool": tool, "tokens": tokens})
            agent.terminate()
            runner.wait_for(receipt)  # what was just recorded is in the table
        runner.close()
        for tool, calls, tokens in costs.database.execute("SELECT * FROM costs ORDER BY tool"):
            print(f"{tool}: {calls} calls, {tokens} tokens")
        print(f"status {runner.status}, lag {runner.lag}")
    costs.database.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
