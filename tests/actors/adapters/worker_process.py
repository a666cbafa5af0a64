"""A worker of a service: it serves turns of conversations that other workers serve as well.

`python worker_process.py FRAMEWORK URL NAMESPACE`: it reads a turn a line from standard input, as `["c1", "text"]`,
serves what it has read at once, and writes each line back when its turn is stored. A framework is imported when it is
served, since that takes seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from importlib import import_module
from operator import add
from typing import Annotated, Any, Protocol, TypedDict

from duramen import AgentSystem


class Service(Protocol):
    """Conversations of one framework."""

    async def serve(self, conversation: str, text: str) -> None: ...

    async def read(self, conversation: str) -> list[str]: ...


class OpenAI:
    def __init__(self, system: AgentSystem) -> None:
        self.system = system

    def session(self, conversation: str) -> Any:
        return import_module("duramen.adapters.openai_agents").DuramenSession(conversation, self.system)

    async def serve(self, conversation: str, text: str) -> None:
        session = self.session(conversation)
        await session.get_items()
        await session.add_items([{"role": "user", "content": text}])

    async def read(self, conversation: str) -> list[str]:
        return [item["content"] for item in await self.session(conversation).get_items()]


class State(TypedDict):
    messages: Annotated[list[str], add]


class LangGraph:
    def __init__(self, system: AgentSystem) -> None:
        saver = import_module("duramen.adapters.langgraph").DuramenSaver(system)
        graph = import_module("langgraph.graph")
        builder = graph.StateGraph(State)
        builder.add_node("answer", lambda state: {"messages": []})
        builder.add_edge(graph.START, "answer")
        self.graph: Any = builder.compile(checkpointer=saver)

    async def serve(self, conversation: str, text: str) -> None:
        await self.graph.ainvoke({"messages": [text]}, {"configurable": {"thread_id": conversation}}, durability="sync")

    async def read(self, conversation: str) -> list[str]:
        found = await self.graph.aget_state({"configurable": {"thread_id": conversation}})
        return list(found.values.get("messages", []))


SERVICES: dict[str, Callable[[AgentSystem], Service]] = {"openai_agents": OpenAI, "langgraph": LangGraph}


async def main(framework: str, url: str, namespace: str) -> None:
    with AgentSystem.open(url, namespace=namespace) as system:
        service = SERVICES[framework](system)

        async def serve(line: str) -> None:
            conversation, text = json.loads(line)
            await service.serve(conversation, text)
            print(line, end="", flush=True)

        print("ready", flush=True)
        async with asyncio.TaskGroup() as turns:
            while line := await asyncio.to_thread(sys.stdin.readline):
                turns.create_task(serve(line))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
