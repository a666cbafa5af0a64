# mypy: disable-error-code="import-not-found,import-untyped"
"""Conversations of a LangGraph graph on a saver, one after the other or all at once on an event loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from duramen.actors import AgentSystem
from duramen.adapters.langgraph import DuramenSaver

from ..figures import Kind, Sample
from ..rounds import Wrong, timed
from ..servers import Server

__all__ = ["AsyncSqlite", "Conversations", "Ours", "OursAtOnce", "Sqlite", "bytes_of_a_step"]


class _State(TypedDict):
    messages: Annotated[list[Any], add_messages]


class Conversations(ABC):
    """Each round: so many new threads, so many steps each. A step adds a message, and is stored before the next."""

    kind: Kind = "peer"
    name: str
    note: str = ""

    def __init__(self, threads: int, steps: int, payload: int) -> None:
        self.threads = threads
        self.steps = steps
        self._text = "x" * payload
        self._rounds = 0
        self._graph: Any = None

    @abstractmethod
    def prepare(self) -> None: ...

    def close(self) -> None:
        self._graph = None

    def compile(self, saver: Any) -> None:
        def answer(state: _State) -> dict[str, Any]:
            return {"messages": [AIMessage(self._text, id=str(len(state["messages"])))]}

        async def answer_async(state: _State) -> dict[str, Any]:
            return answer(state)

        builder: Any = StateGraph(_State)
        builder.add_node("answer", answer_async if self.is_async else answer)
        builder.add_edge(START, "answer")
        steps = self.steps
        builder.add_conditional_edges(
            "answer", lambda state: "answer" if len(state["messages"]) < steps else END, ["answer", END]
        )
        self._graph = builder.compile(checkpointer=saver)

    is_async = False

    def configs(self, round: int) -> list[dict[str, Any]]:
        return [
            {"configurable": {"thread_id": f"thread-{round}-{number}"}, "recursion_limit": self.steps + 10}
            for number in range(self.threads)
        ]

    def run(self) -> Sample:
        self._rounds += 1

        def work() -> int:
            for config in self.configs(self._rounds):
                self._graph.invoke({"messages": []}, config, durability="sync")
            return self.threads * self.steps

        return timed(work)

    def verify(self) -> None:
        wanted = [str(number) for number in range(self.steps)]
        for round in range(1, self._rounds + 1):
            for config in self.configs(round):
                found = self.messages_of(config)
                if found != wanted:
                    raise Wrong(f"{self.name}: a thread has the messages {found}")

    def messages_of(self, config: dict[str, Any]) -> list[str]:
        return _ids(self._graph.get_state(config))


class _AtOnce(Conversations):
    """All threads of a round at once."""

    is_async = True

    def __init__(self, threads: int, steps: int, payload: int) -> None:
        super().__init__(threads, steps, payload)
        self.runner = asyncio.Runner()

    def run(self) -> Sample:
        self._rounds += 1

        async def all_of_them() -> None:
            calls = (
                self._graph.ainvoke({"messages": []}, config, durability="sync")
                for config in self.configs(self._rounds)
            )
            await asyncio.gather(*calls)

        def work() -> int:
            self.runner.run(all_of_them())
            return self.threads * self.steps

        return timed(work)

    def messages_of(self, config: dict[str, Any]) -> list[str]:
        return _ids(self.runner.run(self._graph.aget_state(config)))

    def close(self) -> None:
        self.runner.close()


class _OnSqlite(Conversations):
    note = "WAL, synchronous=FULL (its defaults)"

    def __init__(self, folder: Path, threads: int, steps: int, payload: int) -> None:
        super().__init__(threads, steps, payload)
        self._path = folder / f"{type(self).__name__}.sqlite"


class Sqlite(_OnSqlite):
    """LangGraph's own saver."""

    def prepare(self) -> None:
        import sqlite3

        from langgraph.checkpoint.sqlite import SqliteSaver

        self._connection = sqlite3.connect(self._path, check_same_thread=False)
        saver = SqliteSaver(self._connection)
        saver.setup()
        self.compile(saver)

    def close(self) -> None:
        self._connection.close()


class AsyncSqlite(_OnSqlite, _AtOnce):
    """LangGraph's own saver for asyncio."""

    def prepare(self) -> None:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        self._opened = AsyncSqliteSaver.from_conn_string(str(self._path))
        self.compile(self.runner.run(self._opened.__aenter__()))

    def close(self) -> None:
        self.runner.run(self._opened.__aexit__(None, None, None))
        super().close()


class Ours(Conversations):
    """duramen's saver."""

    kind: Kind = "ours"
    note = "AOF always"

    def __init__(self, server: Server | None, threads: int, steps: int, payload: int) -> None:
        super().__init__(threads, steps, payload)
        self._url = "memory://" if server is None else server.url

    def prepare(self) -> None:
        self._system = AgentSystem.open(self._url, namespace=f"conversations-{type(self).__name__}")
        self.compile(DuramenSaver(self._system))

    def close(self) -> None:
        self._system.close()
        super().close()


class OursAtOnce(Ours, _AtOnce):
    """duramen's saver."""


def bytes_of_a_step(messages: int, payload: int) -> float:
    """What is stored of a step, on average, in a thread of so many messages."""

    class Thread(Ours):
        def stored(self) -> Iterable[bytes]:
            path, seq = DuramenSaver(self._system).path("thread-1-0").text, 1
            while page := self._system.log.read(path, seq, 500):
                if not page.items:
                    return
                yield from page.items
                seq += len(page.items)

    thread = Thread(None, 1, messages, payload)
    thread.prepare()
    try:
        thread.run()
        thread.verify()
        return sum(map(len, thread.stored())) / messages
    finally:
        thread.close()


def _ids(state: Any) -> list[str]:
    return [message.id for message in state.values["messages"]]
