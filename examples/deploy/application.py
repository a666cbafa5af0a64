"""Agents, and a web application on them: `duramen serve application:AGENTS`, `uvicorn application:app`.

Each worker of the web application opens a system of its own. With `DURAMEN_HOST=0` the workers are clients, and the
agents live on hosts that run `duramen serve`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from duramen.actors import Agent, AgentSystem

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Notebook(Agent):
    """Keeps what it is told."""

    async def on_receive(self, message: Any) -> int:
        notes = self.get("notes", default=[])
        self.set("notes", [*notes, message])
        return len(notes) + 1


AGENTS = {"notebook": Notebook}


class Application:
    """`PUT /NAME` with a note as its body adds it to that notebook, `GET /NAME` shows how many it has."""

    def __init__(self) -> None:
        self.system: AgentSystem | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif scope["type"] == "http":
            await self.answer(scope, receive, send)

    async def live(self, receive: Receive, send: Send) -> None:
        await receive()  # this worker starts: it was forked, or is a process of its own
        is_host = os.environ.get("DURAMEN_HOST", "1") != "0"
        self.system = await asyncio.to_thread(
            AgentSystem.open,
            agents=AGENTS if is_host else None,
            host=is_host,
            insecure=bool(os.environ.get("INSECURE")),
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.system.aio.drain(20)  # other workers take its agents
        await self.system.aio.close(10)
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert self.system is not None
        path = f"web/{scope['path'].strip('/') or 'notes'}"
        agent = self.system.aio.agent(path)
        if scope["method"] == "PUT":
            note = (await receive())["body"].decode()
            request_id = dict(scope["headers"]).get(b"x-request-id")
            await self.system.aio.spawn(path, agent_type="notebook", exist_ok=True)
            # With an id the message is carried out once, also if the worker that has the agent dies in the middle.
            count = await agent.ask(note, command_id=request_id.decode() if request_id else None)
        else:
            count = len(await agent.get("notes", default=[]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": f"{count}\n".encode()})


app = Application()
