# mypy: disable-error-code="import-not-found,import-untyped,misc,untyped-decorator"
"""`eventsourcing` with its SQLite recorder: an aggregate an agent, each mutation saved before the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from ..work import Step
from .peer import Peer

__all__ = ["EventsourcingSqlite", "Memory", "open_application"]


class Memory(Aggregate):
    """An agent's working memory."""

    @event("Started")
    def __init__(self) -> None:
        self.items: dict[str, str] = {}

    @event("Changed")
    def change(self, key: str, text: str) -> None:
        self.items[key] = text


def open_application(path: Path) -> Any:
    return Application(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(path)})


class EventsourcingSqlite(Peer):
    note = "WAL, synchronous=FULL (its defaults): a sync for each save"

    def prepare(self) -> None:
        self._application = open_application(self.folder / "eventsourcing.sqlite")
        self._memories = [Memory() for _ in range(self.work.agents)]
        for memory in self._memories:
            self._application.save(memory)

    def change(self, steps: list[Step]) -> None:
        save, memories = self._application.save, self._memories
        for agent, key, text in steps:
            memory = memories[agent]
            memory.change(key, text)
            save(memory)

    def stored(self, agent: int) -> tuple[dict[str, str], int]:
        memory = self._application.repository.get(self._memories[agent].id)
        return memory.items, memory.version - 1

    def close(self) -> None:
        self._application.close()
