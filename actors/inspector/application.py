"""The inspector as an ASGI application: addresses, the page's files, errors as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from duramen.events import (
    AgentNotFound,
    CheckpointNotFound,
    DuramenError,
    PathNotFound,
    Unavailable,
)

from . import endpoints as e
from .access import Access, AccessMiddleware
from .actions import act
from .history import to_bytes
from .live import stream_changes, stream_verification

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_ANSWERS: Final[dict[str, Callable[[e.Inspected, e.Parameters], e.Answer]]] = {
    "agents": e.answer_agents,
    "blame": e.answer_blame,
    "conversation": e.answer_conversation,
    "diff": e.answer_diff,
    "episodes": e.answer_episodes,
    "event": e.answer_event,
    "head": e.answer_head,
    "hosts": e.answer_hosts,
    "long": e.answer_long,
    "rates": e.answer_rates,
    "record": e.answer_record,
    "state": e.answer_state,
    "timeline": e.answer_timeline,
    "window": e.answer_window,
    "work": e.answer_work,
}
_NOT_FOUND: Final = (AgentNotFound, CheckpointNotFound, PathNotFound)


def make_application(inspected: e.Inspected, access: Access, ended: asyncio.Event) -> Starlette:
    """The application. `ended` ends the streams; it belongs to the loop that serves."""
    page = _read_page()

    async def show_page(request: Request) -> Response:
        response = Response(page["index.html"], media_type=_TYPES["html"])
        access.start_session(response)
        return response

    async def show_file(request: Request) -> Response:
        name = request.path_params["name"]
        held = page.get(name)
        if held is None:
            return _error(404, "NotFound", "there is no such file")
        return Response(held, media_type=_TYPES[name.rpartition(".")[2]])

    async def answer(request: Request) -> Response:
        make = _ANSWERS.get(request.path_params["name"])
        if make is None:
            return _error(404, "NotFound", "there is no such answer")
        return await _respond(lambda: make(inspected, dict(request.query_params)))

    async def session(request: Request) -> Response:
        return await _respond(lambda: {**e.answer_session(inspected, {}), "csrf": access.csrf})

    async def live(request: Request) -> Response:
        last_id = request.headers.get("last-event-id") or request.query_params.get("after")
        changes = stream_changes(inspected.system, inspected.live.rates, inspected.agents, last_id, ended)
        return StreamingResponse(changes, media_type="text/event-stream")

    async def verify(request: Request) -> Response:
        return StreamingResponse(stream_verification(inspected.system, ended), media_type="text/event-stream")

    async def action(request: Request) -> Response:
        body = await request.body()
        return await _respond(lambda: act(inspected.system, request.path_params["name"], body))

    routes = [
        Route("/", show_page, methods=["GET"]),
        Route("/page/{name}", show_file, methods=["GET"]),
        Route("/api/session", session, methods=["GET"]),
        Route("/api/live", live, methods=["GET"]),
        Route("/api/verify", verify, methods=["GET"]),
        Route("/api/actions/{name}", action, methods=["POST"]),
        Route("/api/{name}", answer, methods=["GET"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(AccessMiddleware, access=access)])


async def _respond(make: Callable[[], dict[str, Any]]) -> Response:
    """The answer of a function that blocks, or its error as JSON."""
    try:
        body = await run_in_threadpool(lambda: to_bytes(make()))
    except _NOT_FOUND as error:
        return _error(404, type(error).__name__, str(error))
    except Unavailable as error:
        return _error(503, type(error).__name__, str(error))
    except DuramenError as error:
        return _error(400, type(error).__name__, str(error))
    return Response(body, media_type="application/json")


def _error(code: int, kind: str, sentence: str) -> Response:
    return Response(to_bytes({"error": kind, "message": sentence[:2_000]}), code, media_type="application/json")


def _read_page() -> dict[str, bytes]:
    folder = files("duramen.actors.inspector").joinpath("page")
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.name.rpartition(".")[2] in _TYPES}
