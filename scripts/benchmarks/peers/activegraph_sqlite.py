# mypy: disable-error-code="import-not-found,import-untyped"
"""`activegraph` with its SQLite store: a run an agent, one object that is patched."""

from __future__ import annotations

from activegraph import Graph, Runtime
from activegraph.store.sqlite import SQLiteEventStore

from ..work import Step
from .peer import Peer

__all__ = ["ActivegraphSqlite"]


class ActivegraphSqlite(Peer):
    note = "WAL, synchronous=NORMAL (its defaults): survives a crash of the process, no sync for each event"

    def prepare(self) -> None:
        self._path = str(self.folder / "activegraph.sqlite")
        self._graphs = [self._new_graph(number) for number in range(self.work.agents)]

    def _new_graph(self, number: int) -> tuple[Graph, str]:
        graph = Graph(run_id=f"run_{number}")
        graph.attach_store(SQLiteEventStore(self._path, run_id=graph.run_id))
        return graph, graph.add_object("memory", {}).id

    def change(self, steps: list[Step]) -> None:
        graphs = self._graphs
        for agent, key, text in steps:
            graph, memory = graphs[agent]
            graph.patch_object(memory, {key: text})

    def stored(self, agent: int) -> tuple[dict[str, str], int]:
        graph, memory = self._graphs[agent]
        loaded = Runtime.load(self._path, run_id=graph.run_id).graph
        patches = sum(event.type == "patch.applied" for event in loaded.events)
        loaded.store.close()
        return loaded.get_object(memory).data, patches

    def close(self) -> None:
        for graph, _ in self._graphs:
            graph.store.close()
