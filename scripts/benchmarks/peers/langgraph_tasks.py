# mypy: disable-error-code="import-not-found,import-untyped"
"""LangGraph's `@task` with its SQLite saver: a thread a handler, one invocation after the other."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from uuid import uuid4

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task

from ..figures import Kind, Sample
from ..rounds import Wrong, timed

__all__ = ["LanggraphTasks"]


@task
def _answer(payload: int) -> str:
    return "x" * payload


class LanggraphTasks:
    """Entry points of so many tasks each."""

    kind: Kind = "peer"
    name = "LangGraph"
    note = "WAL, synchronous=FULL (its defaults), durability='sync'"

    def __init__(self, folder: Path, handlers: int, steps: int, payload: int) -> None:
        self._folder = folder
        self._handlers = handlers
        self._job = {"steps": steps, "payload": payload}
        self._rounds = 0

    def prepare(self) -> None:
        path = self._folder / f"tasks-{uuid4().hex}.sqlite"
        self._connection = sqlite3.connect(path, check_same_thread=False)
        saver = SqliteSaver(self._connection)
        saver.setup()
        make: Any = entrypoint(checkpointer=saver)

        @make
        def work(job: dict[str, int]) -> int:
            for _ in range(job["steps"]):
                _answer(job["payload"]).result()
            return job["steps"]

        self._graph: Any = work

    def run(self) -> Sample:
        self._rounds += 1
        return timed(self._run)

    def _run(self) -> int:
        total = 0
        for number in range(self._handlers):
            place = {"configurable": {"thread_id": f"{self._rounds}-{number}"}}
            total += self._graph.invoke(self._job, place, durability="sync")
        return total

    def verify(self) -> None:
        stored = self._connection.execute("SELECT count(*) FROM writes WHERE channel = '__return__'").fetchone()[0]
        expected = self._rounds * self._handlers * self._job["steps"]
        if stored != expected:
            raise Wrong(f"{self.name}: {stored} results of tasks are stored, not {expected}")

    def close(self) -> None:
        self._connection.close()
