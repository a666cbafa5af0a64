"""A client of the protocol that comes back gets what it has missed of its own stream: once, in order, nobody else's."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from mcp.server.streamable_http import EventMessage
from mcp.types import JSONRPCNotification

from duramen import AgentSystem
from duramen.adapters.mcp import DuramenEventStore
from duramen.events import InvalidPath


def message(text: str) -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"text": text})


async def missed(store: DuramenEventStore, last: str) -> tuple[str | None, list[str], list[str | None]]:
    sent: list[EventMessage] = []

    async def send(event: EventMessage) -> None:
        sent.append(event)

    stream = await store.replay_events_after(last, send)
    texts = [getattr(event.message, "params", {})["text"] for event in sent]
    return stream, texts, [event.event_id for event in sent]


def test_what_came_after_an_event_is_sent_in_order_by_a_store_that_was_opened_later(system: AgentSystem) -> None:
    async def use() -> None:
        store = DuramenEventStore(system, "s-1")
        first = await store.store_event("7", None)
        ids = [await store.store_event("7", message(text)) for text in ("a", "b \ud800", "c" * 400_000)]
        await store.store_event("_GET_stream", message("of another stream"))
        later = DuramenEventStore(system, "s-1")
        assert await missed(later, first) == ("7", ["a", "b \ud800", "c" * 400_000], ids)
        assert await missed(later, ids[1]) == ("7", ["c" * 400_000], ids[2:])
        assert await missed(later, ids[2]) == ("7", [], [])

    asyncio.run(use())


def test_a_session_is_not_sent_what_another_was_though_its_streams_have_the_same_ids(system: AgentSystem) -> None:
    async def use() -> None:
        one, two = DuramenEventStore(system, "s-1"), DuramenEventStore(system, "s/2:é" * 50)
        first, other = await one.store_event("1", None), await two.store_event("1", None)
        await one.store_event("1", message("secret"))
        await two.store_event("1", message("own"))
        assert (await missed(two, other))[1] == ["own"]
        assert await missed(two, first) == (None, [], [])
        for unknown in ("", "x", ":", "x:1:2"):
            assert await missed(one, unknown) == (None, [], [])

    asyncio.run(use())


def test_messages_stored_at_once_are_all_sent_and_once(system: AgentSystem) -> None:
    async def use() -> list[str]:
        store = DuramenEventStore(system, "s-1")
        first = await store.store_event("1", None)
        await asyncio.gather(*[DuramenEventStore(system, "s-1").store_event("1", message(str(at))) for at in range(20)])
        return sorted((await missed(store, first))[1])

    assert asyncio.run(use()) == sorted(map(str, range(20)))


def test_a_stream_expires_after_what_was_asked(system: AgentSystem) -> None:
    async def use() -> tuple[Any, Any]:
        brief = DuramenEventStore(system, "s-1", expires_after=timedelta(minutes=5))
        await brief.store_event("1", None)
        events = [event async for event in system.aio.events(brief.path("1"))]
        return events[0].data["expires_after"], brief.path("1").text

    assert asyncio.run(use()) == (300.0, "mcp-streams/s-1/1")


def test_the_project_must_be_a_name() -> None:
    with AgentSystem.open("memory://") as system, pytest.raises(InvalidPath):
        DuramenEventStore(system, "s-1", project="")
