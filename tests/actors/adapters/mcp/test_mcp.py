"""The tools of the server, asked by the protocol's own client."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from duramen import AgentSystem
from duramen.adapters.mcp import make_server
from duramen.events import Limits

ALICE = "acme/user:42"
READS = {"list_agents", "get_memory", "list_keys", "search_episodes", "changes_since", "memory_at", "blame"}
WRITES = {"set_memory", "append_memory", "delete_memory"}


def asked(use: Callable[[Client, AgentSystem], Awaitable[Any]], *, allow_writes: bool = False) -> Any:
    """What `use` returns of a client and the system it asks about, where alice lives."""

    async def main() -> Any:
        async with AgentSystem.open("memory://", limits=Limits(event_bytes=1_000_000)) as system:
            alice = await system.aio.spawn(ALICE, initial_state={"goal": "old"})
            await alice.set("goal", "new")
            await alice.append("plan/steps", b"raw")
            async with Client(make_server(system, allow_writes=allow_writes)) as client:
                return await use(client, system)

    return asyncio.run(main())


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    text = result.content[0].text
    assert not result.is_error, text
    return json.loads(text)


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    text: str = result.content[0].text
    return text


def test_memory_and_past_are_read_as_they_are() -> None:
    async def use(client: Client, system: AgentSystem) -> None:
        assert await call(client, "list_agents", prefix="acme/") == [
            {"agent": ALICE, "status": "running", "type": None, "seq": 3}
        ]
        assert await call(client, "list_agents", prefix="other/") == []
        assert await call(client, "get_memory", agent=ALICE) == {"goal": "new", "plan": {"steps": [{"$bytes": "cmF3"}]}}
        assert await call(client, "list_keys", agent=ALICE, property="plan") == ["steps"]
        assert await call(client, "memory_at", agent=ALICE, seq=1, property="goal") == "old"
        changes = await call(client, "changes_since", agent=ALICE, seq=1)
        assert [(change["seq"], change["type"]) for change in changes] == [(2, "memory_set"), (3, "memory_appended")]
        assert (await call(client, "blame", agent=ALICE, property="goal"))["seq"] == 2
        held = await client.read_resource(f"duramen://memory/{ALICE}")
        assert json.loads(held.contents[0].text)["goal"] == "new"

    asked(use)


def test_finished_sessions_are_found_by_words() -> None:
    async def use(client: Client, system: AgentSystem) -> None:
        await system.aio.agent(ALICE).terminate(
            task_description="refund the train ticket", lessons_learned=["ask first"]
        )
        [found] = await call(client, "search_episodes", query="train")
        assert found["lessons_learned"] == ["ask first"]
        assert await call(client, "search_episodes", query="football") == []

    asked(use)


def test_no_tool_writes_unless_that_is_allowed() -> None:
    async def names(client: Client, system: AgentSystem) -> dict[str, bool | None]:
        tools = (await client.list_tools()).tools
        return {tool.name: tool.annotations.read_only_hint for tool in tools if tool.annotations is not None}

    assert asked(names) == dict.fromkeys(READS, True)
    assert asked(names, allow_writes=True) == dict.fromkeys(READS, True) | dict.fromkeys(WRITES, False)


def test_a_tool_that_writes_is_an_event_of_the_agent() -> None:
    async def use(client: Client, system: AgentSystem) -> None:
        assert await call(client, "set_memory", agent=ALICE, property="plan/title", value={"a": [1]}) == {"seq": 4}
        assert await call(client, "append_memory", agent=ALICE, property="plan/title/a", value=2) == {"seq": 5}
        assert await call(client, "delete_memory", agent=ALICE, property="goal") == {"seq": 6}
        assert await system.aio.agent(ALICE).get("plan/title") == {"a": [1, 2]}

    asked(use, allow_writes=True)


def test_a_model_is_told_what_was_wrong() -> None:
    async def use(client: Client, system: AgentSystem) -> None:
        assert "AgentNotFound: there is no agent acme/nobody" in await refused(
            client, "get_memory", agent="acme/nobody"
        )
        assert "PathNotFound" in await refused(client, "get_memory", agent=ALICE, property="gaol")
        assert "limit is 1 to 1000" in await refused(client, "list_agents", limit=0)
        await system.aio.agent(ALICE).set("large", "x" * 300_000)
        assert "ask for a smaller part" in await refused(client, "get_memory", agent=ALICE)

    asked(use)


@pytest.mark.slow
def test_the_command_serves_a_client_on_stdin_and_stdout(tmp_path: Path) -> None:
    with AgentSystem.open(data_dir=tmp_path / "d") as system:
        system.spawn("acme/alice", initial_state={"goal": "seen"})
        duramen = str(Path(sys.executable).with_name("duramen"))
        command = StdioServerParameters(command=duramen, args=["mcp", "--data-dir", str(tmp_path / "d")])

        async def use() -> Any:
            async with Client(stdio_client(command)) as client:
                assert {tool.name for tool in (await client.list_tools()).tools} == READS
                return await call(client, "get_memory", agent="acme/alice")

        assert asyncio.run(asyncio.wait_for(use(), 100)) == {"goal": "seen"}
