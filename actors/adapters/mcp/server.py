"""The server and its tools."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from itertools import islice
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from duramen.actors import AgentSystem
from duramen.events import DuramenError, InvalidMessage

from .answers import answer, entry_data, event_data

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)
_INSTRUCTIONS = """Agents of duramen: long-running programs whose memory is a log of events. An agent is named by a path
such as "acme/alice", a value of its memory by a property path such as "plan/steps/0". Every change has a number, its
seq; the past can be read at any seq."""
_MOST = 1_000

Tool = Callable[..., Awaitable[str]]


def make_server(system: AgentSystem, *, allow_writes: bool = False, name: str = "duramen") -> MCPServer[Any]:
    """Make a server with tools for the agents of a system: `run()` serves one client on stdin and stdout.

    Without `allow_writes` no tool changes anything. The server does not close the system.
    """
    server: MCPServer[Any] = MCPServer(name, instructions=_INSTRUCTIONS, log_level="WARNING")
    _add_reads(server, system)
    _add_past(server, system)
    if allow_writes:
        _add_writes(server, system)
    return server


def _tool(server: MCPServer[Any], annotations: ToolAnnotations) -> Callable[[Tool], Tool]:
    """Add a tool, whose typed errors are told to the model: others are defects, and only logged."""

    def add(function: Tool) -> Tool:
        @wraps(function)
        async def told(*args: Any, **kwargs: Any) -> str:
            try:
                return await function(*args, **kwargs)
            except DuramenError as error:
                raise ToolError(f"{type(error).__name__}: {error}") from None

        server.tool(annotations=annotations)(told)
        return function

    return add


def _add_reads(server: MCPServer[Any], system: AgentSystem) -> None:
    @_tool(server, _READS)
    async def list_agents(prefix: str = "", limit: int = 100) -> str:
        """List agents whose path begins with a text: path, status, type and seq of each."""
        most = _limit(limit)
        entries = await asyncio.to_thread(lambda: list(system.agents(prefix, limit=most)))
        return answer([entry_data(entry) for entry in sorted(entries, key=lambda entry: entry.agent)])

    @_tool(server, _READS)
    async def get_memory(agent: str, property: str = "") -> str:
        """Get the value at a property path of an agent's memory; the empty path is all of it."""
        return answer(await system.aio.agent(agent).get(property))

    @_tool(server, _READS)
    async def list_keys(agent: str, property: str = "") -> str:
        """List the keys of the subtree at a property path of an agent's memory."""
        return answer(await system.aio.agent(agent).keys(property))

    @_tool(server, _READS)
    async def search_episodes(query: str, project: str | None = None, limit: int = 5) -> str:
        """Search the finished sessions of agents by words: what was done, how it ended, what was learned."""
        found = await system.aio.episodes.search(query, project=project, limit=_limit(limit))
        return answer([{"score": each.score, **each.episode.as_data()} for each in found])

    @server.resource("duramen://memory/{+agent}", mime_type="application/json")
    async def memory(agent: str) -> str:
        """The whole memory of an agent."""
        return answer(await system.aio.agent(agent).get())


def _add_past(server: MCPServer[Any], system: AgentSystem) -> None:
    @_tool(server, _READS)
    async def changes_since(agent: str, seq: int = 0, limit: int = 50) -> str:
        """List what happened to an agent after an event, oldest first: seq, time, type and data of each event."""
        most = _limit(limit)
        events = await asyncio.to_thread(lambda: list(islice(system.events(agent, from_seq=seq + 1), most)))
        return answer([event_data(event) for event in events])

    @_tool(server, _READS)
    async def memory_at(agent: str, seq: int, property: str = "") -> str:
        """Get the value at a property path as it was after the event at a seq."""
        return answer((await system.aio.state_at(agent, seq)).get(property))

    @_tool(server, _READS)
    async def blame(agent: str, property: str = "") -> str:
        """Find which event has set a value, when, and for which command."""
        # It may store marks beside keyframes. It still counts as a read: they make the next look quicker, no answer
        # depends on them, and whoever may not write gets the same one.
        return answer((await system.aio.blame(agent, property)).as_data())


def _add_writes(server: MCPServer[Any], system: AgentSystem) -> None:
    @_tool(server, _WRITES)
    async def set_memory(agent: str, property: str, value: Any) -> str:
        """Set the value at a property path of a running agent's memory. Returns the seq of the change."""
        return answer({"seq": (await system.aio.agent(agent).set(property, value)).seq})

    @_tool(server, _WRITES)
    async def append_memory(agent: str, property: str, value: Any) -> str:
        """Add a value to the end of a list in a running agent's memory. Returns the seq of the change."""
        return answer({"seq": (await system.aio.agent(agent).append(property, value)).seq})

    @_tool(server, _WRITES)
    async def delete_memory(agent: str, property: str) -> str:
        """Remove the value at a property path of a running agent's memory. Returns the seq of the change."""
        return answer({"seq": (await system.aio.agent(agent).delete(property)).seq})


def _limit(limit: int) -> int:
    if not 1 <= limit <= _MOST:
        raise InvalidMessage(f"limit is 1 to {_MOST}", actual=limit)
    return limit
