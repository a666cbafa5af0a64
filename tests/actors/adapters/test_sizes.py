"""What each adapter must take: long lists, large values, and ids of any kind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any

import pytest

from duramen import AgentSystem

Roundtrip = Callable[[AgentSystem, str, Sequence[str]], Awaitable[list[str]]]
IDS = ["user:42@example", "a b\tc", "日本 語/ünï", "a/b/../*", "~0"]


async def openai_agents(system: AgentSystem, name: str, texts: Sequence[str]) -> list[str]:
    def session() -> Any:
        return import_module("duramen.adapters.openai_agents").DuramenSession(name, system)

    await session().add_items([{"role": "user", "content": text} for text in texts])
    return [item["content"] for item in await session().get_items()]


async def adk(system: AgentSystem, name: str, texts: Sequence[str]) -> list[str]:
    types = import_module("google.genai.types")
    make = import_module("google.adk.events.event").Event

    def sessions() -> Any:
        return import_module("duramen.adapters.adk").DuramenSessionService(system)

    who = {"app_name": name, "user_id": name}
    session = await sessions().create_session(session_id=name, **who)
    service = sessions()
    for text in texts:
        content = types.Content(role="user", parts=[types.Part(text=text)])
        await service.append_event(session, make(author="user", content=content))
    found = await sessions().get_session(session_id=name, **who)
    return [event.content.parts[0].text for event in found.events]


async def pydantic_ai(system: AgentSystem, name: str, texts: Sequence[str]) -> list[str]:
    messages = import_module("pydantic_ai.messages")

    def store() -> Any:
        return import_module("duramen.adapters.pydantic_ai").DuramenConversationStore(system)

    made = import_module("pydantic_ai.conversation").Conversation(messages=[], conversation_id=name)
    made.messages += [messages.ModelRequest(parts=[messages.UserPromptPart(content=text)]) for text in texts]
    await store().save(made)
    return [message.parts[0].content for message in (await store().load(name)).messages]


async def agent_framework(system: AgentSystem, name: str, texts: Sequence[str]) -> list[str]:
    message = import_module("agent_framework").Message

    def provider() -> Any:
        return import_module("duramen.adapters.agent_framework").DuramenHistoryProvider(system)

    await provider().save_messages(name, [message("user", [text]) for text in texts])
    return [each.text for each in await provider().get_messages(name)]


async def strands(system: AgentSystem, name: str, texts: Sequence[str]) -> list[str]:
    types = import_module("strands.types.session")

    def use() -> list[str]:
        repository = import_module("duramen.adapters.strands").DuramenSessionRepository(system)
        repository.create_session(types.Session(session_id=name, session_type="AGENT"))
        repository.create_agent(name, types.SessionAgent(agent_id=name, state={}, conversation_manager_state={}))
        for number, text in enumerate(texts):
            said = {"role": "user", "content": [{"text": text}]}
            repository.create_message(name, name, types.SessionMessage(said, number))
        again = import_module("duramen.adapters.strands").DuramenSessionRepository(system)
        return [each.message["content"][0]["text"] for each in again.list_messages(name, name)]

    return await asyncio.to_thread(use)


async def llamaindex(system: AgentSystem, name: str, texts: Sequence[str]) -> list[str]:
    message = import_module("llama_index.core.llms").ChatMessage

    def store() -> Any:
        return import_module("duramen.adapters.llamaindex").DuramenChatStore(system)

    messages = [message(text) for text in texts]
    await store().aset_messages(name, messages[:1])
    await store().aset_messages(name, messages)
    return [each.content for each in await store().aget_messages(name)]


async def langgraph(system: AgentSystem, name: str, texts: Sequence[str]) -> list[str]:
    empty_checkpoint = import_module("langgraph.checkpoint.base").empty_checkpoint

    def saver() -> Any:
        return import_module("duramen.adapters.langgraph").DuramenSaver(system)

    values, versions = {"messages": list(texts)}, {"messages": "1"}
    checkpoint = {**empty_checkpoint(), "channel_values": values, "channel_versions": versions}
    config = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
    stored = await saver().aput(config, checkpoint, {}, versions)
    found = (await saver().aget_tuple(stored)).checkpoint["channel_values"]["messages"]
    return list(found)


async def langgraph_store(system: AgentSystem, name: str, texts: Sequence[str]) -> list[str]:
    def store() -> Any:
        return import_module("duramen.adapters.langgraph").DuramenStore(system)

    await store().aput((name.replace(".", "-"),), name, {"messages": list(texts)})
    found = await store().aget((name.replace(".", "-"),), name)
    return list(found.value["messages"])


async def mcp(system: AgentSystem, name: str, texts: Sequence[str]) -> list[str]:
    message = import_module("mcp.types").JSONRPCNotification

    def store() -> Any:
        return import_module("duramen.adapters.mcp").DuramenEventStore(system, name)

    opened, sent = store(), list[str]()
    first = await opened.store_event(name, None)
    for text in texts:
        await opened.store_event(name, message(jsonrpc="2.0", method="said", params={"text": text}))

    async def send(event: Any) -> None:
        sent.append(event.message.params["text"])

    assert await store().replay_events_after(first, send) == name
    return sent


ABSENT = os.environ.get("DURAMEN_TEST_WITHOUT", "").split()
ADAPTERS: list[Any] = [openai_agents, adk, pydantic_ai, agent_framework, strands, llamaindex]
ADAPTERS += [langgraph, langgraph_store, mcp]
HERE = [each for each in ADAPTERS if each.__name__.removesuffix("_store") not in ABSENT]


@pytest.fixture
def system() -> Any:
    with AgentSystem.open("memory://") as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("adapter", HERE, ids=lambda adapter: adapter.__name__)
def test_ids_of_any_kind_have_lists_of_their_own(adapter: Roundtrip, system: AgentSystem) -> None:
    async def use() -> None:
        for name in IDS:
            texts = [f"{name} {number}" for number in range(20)] + ["é" * 150_000]
            assert await adapter(system, name, texts) == texts

    asyncio.run(use())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("adapter", HERE, ids=lambda adapter: adapter.__name__)
def test_a_value_of_twenty_megabytes_comes_back(adapter: Roundtrip, system: AgentSystem) -> None:
    texts = ["before", "0123456789" * 2_000_000, "after"]
    assert asyncio.run(adapter(system, IDS[0], texts)) == texts


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("adapter", HERE, ids=lambda adapter: adapter.__name__)
def test_a_very_long_list_of_messages_comes_back(adapter: Roundtrip, system: AgentSystem) -> None:
    # Their frameworks store one message a call, which would take minutes.
    count = 3_000 if adapter in (adk, strands, mcp) else 100_000
    if adapter is langgraph_store:  # it keeps one value, whose small parts together fit into an event
        count = 10_000
    texts = [f"message {number}" for number in range(count)]
    assert asyncio.run(adapter(system, IDS[0], texts)) == texts
