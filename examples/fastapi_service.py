"""A web service on agents with FastAPI: a question in one request, the answer token by token in another.

    python examples/fastapi_service.py                     # serves, asks itself, prints what comes back, and ends
    uvicorn --app-dir examples fastapi_service:app --workers 2

Needs `pip install fastapi uvicorn`. Without DURAMEN_URL and with one worker the agents live in an embedded store;
several workers share those of a server, and any of them answers for any agent.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from duramen.actors import Agent, AgentSystem, server_sent_events
from duramen.events import AgentNotFound, AgentPaused, DuramenError, MailboxFull, NoHost, OutputNotFound, Unavailable


class Writer(Agent):
    """Answers a question word by word, and remembers both."""

    async def on_receive(self, message: Any) -> None:
        self.append("messages", {"role": "user", "content": message["text"]})
        async with self.stream(message["id"]) as out:  # readers see each token; the log gets the whole text at the end
            for token in ("Heart", "wood ", "is old ", "wood."):  # a model's, in real life
                out.write(token)
        self.append("messages", {"role": "assistant", "content": out.text})


class Question(BaseModel):
    id: str
    text: str


@asynccontextmanager
async def open_system(app: FastAPI) -> AsyncIterator[None]:
    """Each worker opens a system of its own when it starts, and hands its agents on before it ends."""
    app.state.agents = system = await asyncio.to_thread(AgentSystem.open, agents={"writer": Writer})
    yield
    await system.aio.drain(20)
    await system.aio.close(10)


app = FastAPI(lifespan=open_system)


@app.post("/writers/{name}/questions", status_code=202)
async def ask(name: str, question: Question, request: Request) -> dict[str, str]:
    system: AgentSystem = request.app.state.agents
    writer = await system.aio.spawn(f"web/{name}", agent_type="writer", initial_state={"messages": []}, exist_ok=True)
    # The client's id makes a repeated request the same question, whatever worker it comes to.
    await writer.tell(question.model_dump(), command_id=question.id)
    return {"answer": f"/writers/{name}/answers/{question.id}"}


@app.get("/writers/{name}/answers/{question_id}")
async def follow(
    name: str, question_id: str, request: Request, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    # A browser that was cut off sends the id of the last event it has, and goes on there.
    follower = request.app.state.agents.follow(f"web/{name}", question_id, after=last_event_id)
    return StreamingResponse(server_sent_events(follower), media_type="text/event-stream")


@app.get("/writers/{name}/messages")
async def messages(name: str, request: Request) -> list[dict[str, str]]:
    found: list[dict[str, str]] = await request.app.state.agents.aio.agent(f"web/{name}").get("messages")
    return found


@app.exception_handler(DuramenError)
async def explain(request: Request, error: DuramenError) -> JSONResponse:
    """The errors of agents as answers of HTTP; their texts hold no payloads and no passwords."""
    codes = {404: (AgentNotFound, OutputNotFound), 409: (AgentPaused,), 503: (Unavailable, NoHost, MailboxFull)}
    code = next((code for code, kinds in codes.items() if isinstance(error, kinds)), 400)
    return JSONResponse({"error": type(error).__name__, "message": str(error)}, code)


def main() -> None:
    os.environ.setdefault("DURAMEN_URL", "memory://")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = threading.Thread(target=server.run, args=([listener],))
        serving.start()
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        question = json.dumps({"id": "q-1", "text": "what is heartwood?"}).encode()
        asked = urllib.request.Request(f"{base}/writers/alice/questions", question)
        asked.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(asked) as response:
            answer = json.load(response)["answer"]
        with urllib.request.urlopen(base + answer) as events:
            for line in events:
                if line.startswith(b"event: end"):
                    break
                if line.startswith(b"data: "):
                    print("token:", line.decode().removeprefix("data: ").strip())
        with urllib.request.urlopen(f"{base}/writers/alice/messages") as response:
            print("messages:", len(json.load(response)))
        server.should_exit = True
        serving.join()
    print("closed")


if __name__ == "__main__":
    main()
