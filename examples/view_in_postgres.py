"""A view in a database of your own: what each tool costs, kept in PostgreSQL, its cursor in the same transaction.

    python examples/view_in_postgres.py postgresql://user@host/database

Needs `pip install "psycopg[binary]"`. As in SQLite, except that a connection may be lost: then it is opened anew.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence

import psycopg

from duramen.actors import AgentSystem
from duramen.events import Event
from duramen.projections import Sink

TABLES = """
CREATE TABLE IF NOT EXISTS costs (tool TEXT PRIMARY KEY, calls BIGINT NOT NULL, tokens BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, cursor BYTEA NOT NULL);
"""


class Costs(Sink):
    """Calls and tokens by tool."""

    types = frozenset({"activity_recorded"})

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection: psycopg.Connection | None = None
        with self.database() as database:
            database.execute(TABLES)

    def database(self) -> psycopg.Connection:
        if self.connection is None or self.connection.closed:
            self.connection = psycopg.connect(self.url, connect_timeout=10, autocommit=True)
        return self.connection

    def cursor(self, name: str) -> bytes | None:
        row = self.database().execute("SELECT cursor FROM cursors WHERE name = %s", (name,)).fetchone()
        return None if row is None else row[0]

    def write(self, name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        database = self.database()
        with database.transaction():
            # One after the other: whoever comes second sees that the cursor is not the one it continues.
            database.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (name,))
            if self.cursor(name) != after:
                raise self.fenced(name)
            with database.cursor() as statements:
                statements.executemany(
                    "INSERT INTO costs VALUES (%s, 1, %s) ON CONFLICT (tool) DO UPDATE "
                    "SET calls = costs.calls + 1, tokens = costs.tokens + excluded.tokens",
                    [(event.data["data"]["tool"], event.data["data"]["tokens"]) for event in events],
                )
            database.execute(
                "INSERT INTO cursors VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor",
                (name, cursor),
            )

    def reset(self, name: str) -> None:
        with self.database().transaction():
            self.database().execute("DELETE FROM costs")
            self.database().execute("DELETE FROM cursors WHERE name = %s", (name,))


def main(url: str, data_dir: str) -> None:
    costs = Costs(url)
    with AgentSystem.open(data_dir=data_dir) as system:
        runner = system.attach(costs, name="costs")
        for name in ("alice", "bob"):
            agent = system.spawn(f"acme/{name}")
            for tool, tokens in (("search", 120), ("read", 900), ("search", 80)):
                receipt = agent.record("tool_output", {"tool": tool, "tokens": tokens})
            agent.terminate()
            runner.wait_for(receipt)  # what was just recorded is in the table
        runner.close()
        for tool, calls, tokens in costs.database().execute("SELECT * FROM costs ORDER BY tool"):
            print(f"{tool}: {calls} calls, {tokens} tokens")
        print(f"status {runner.status}, lag {runner.lag}")
    costs.database().close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1], temporary)
