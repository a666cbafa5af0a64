"""The conversation store does what pydantic-ai's own does in memory; its conversations are agents.

pydantic-ai is imported by the tests that use it, by name: every worker loads every file, and its types take mypy longer
than all of ours.
"""

from __future__ import annotations

import asyncio
import random
from importlib import import_module
from typing import Any

import pytest

from duramen import AgentSystem
from duramen.events import InvalidPath

IDS = ("c-1", "user:42@example/α", "a" * 300, "")


def theirs(name: str) -> Any:
    return getattr(import_module("pydantic_ai.conversation_store"), name)


def store(system: AgentSystem, **options: Any) -> Any:
    return import_module("duramen.adapters.pydantic_ai").DuramenConversationStore(system, **options)


def conversation(conversation_id: str, *texts: str) -> Any:
    made = import_module("pydantic_ai.conversation").Conversation(messages=[], conversation_id=conversation_id)
    return say(made, *texts)


def say(made: Any, *texts: str) -> Any:
    messages = import_module("pydantic_ai.messages")
    for text in texts:
        parts = [messages.UserPromptPart(content=[text, messages.BinaryContent(b"\xff\x00", media_type="image/png")])]
        made.messages.append(messages.ModelRequest(parts=parts))
    return made


def texts(loaded: Any) -> Any:
    return None if loaded is None else [message.parts[0].content[0] for message in loaded.messages]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_calls_give_what_the_store_in_memory_gives(seed: int, system: AgentSystem) -> None:
    chance = random.Random(seed)
    UserError = import_module("pydantic_ai.exceptions").UserError

    async def use() -> None:
        stores = [store(system), theirs("InMemoryConversationStore")()]
        held: dict[str, list[Any]] = {}

        async def both(call: Any) -> list[Any]:
            found = []
            for at, each in enumerate(stores):
                try:
                    found.append(await call(at, each))
                except UserError as error:
                    found.append(type(error).__name__)
            assert texts_of(found[0]) == texts_of(found[1])
            return found

        def texts_of(found: Any) -> Any:
            return texts(found) if hasattr(found, "messages") else found

        for number in range(25):
            name, other = chance.choice(IDS[:3]), chance.choice(IDS)
            match chance.choice(["new", "save", "save", "load", "branch", "fork", "list", "delete", "stale"]):
                case "new":
                    loaded = [conversation(name, f"n {number}") for _ in stores]
                    counts = await both(lambda at, each: counted(each.save(loaded[at], scope="mine")))
                    if counts[0] == 1:
                        held[name] = loaded
                case "save" | "stale":
                    found = await both(lambda at, each: each.load(name))
                    if found[0] is not None and name in held:
                        made = held[name] if chance.random() < 0.3 else found
                        size = chance.choice([1, 200_000])
                        for each in made:
                            say(each, f"s {number} " + "é" * size)
                        await both(lambda at, each: counted(each.save(made[at])))
                case "load":
                    limit = chance.choice([None, 0, 1, 2])
                    await both(lambda at, each: each.load(name, limit=limit, scope=chance_scope(number)))
                case "branch":
                    found = await both(lambda at, each: each.load(name))
                    if found[0] is not None:
                        await both(lambda at, each: each.branch(name, at=1, expected_revision=found[at].revision))
                case "fork":
                    await both(lambda at, each: each.fork(name, new_conversation_id=other))
                case "list":
                    records = await both(lambda at, each: listed(each.list_conversations(scope="mine", limit=3)))
                    assert records[0] == records[1]
                case "delete":
                    await both(lambda at, each: each.delete(name))

    async def counted(saving: Any) -> int:
        return len(await saving)

    async def listed(listing: Any) -> Any:
        return [(each.conversation_id, each.forked_from, each.scope, len(each.branches)) for each in await listing]

    def chance_scope(number: int) -> str | None:
        return (None, "mine", "yours")[number % 3]

    asyncio.run(use())


def test_one_of_many_who_save_at_once_wins_and_the_others_are_told(system: AgentSystem) -> None:
    async def use() -> tuple[int, int]:
        await store(system).save(conversation("c-1", "first"))
        loaded = [await store(system).load("c-1") for _ in range(8)]
        saved = await asyncio.gather(
            *[store(system).save(say(each, str(at))) for at, each in enumerate(loaded)], return_exceptions=True
        )
        conflicts = [each for each in saved if isinstance(each, theirs("ConversationConflict"))]
        return len(conflicts), len((await store(system).load("c-1")).messages)

    assert asyncio.run(use()) == (7, 2)


def test_conversations_of_one_id_begun_at_once_are_one(system: AgentSystem) -> None:
    async def use() -> tuple[int, Any]:
        begun = [store(system).save(conversation("c-1", "only")) for _ in range(8)]
        saved = await asyncio.gather(*begun, return_exceptions=True)
        return sum(isinstance(each, list) for each in saved), texts(await store(system).load("c-1"))

    assert asyncio.run(use()) == (1, ["only"])


@pytest.mark.slow
def test_a_fork_stands_by_itself_when_its_origin_is_erased(system: AgentSystem) -> None:
    async def use() -> tuple[Any, ...]:
        one = store(system)
        entries = await one.save(conversation("c-1", "a", "b" * 200_000, "c"))
        await one.fork("c-1", at=2, new_conversation_id="c-2")
        await one.delete("c-1")
        loaded = await store(system).load("c-2")
        await store(system).save(say(loaded, "d"))
        fresh = store(system)
        entry = await fresh.read_entry(entries[1].id)  # an id that this store has never seen
        with pytest.raises(LookupError):
            await fresh.read_entry("never there")
        records = await fresh.list_conversations()
        return texts(await fresh.load("c-2")), entry.parent_id == entries[0].id, await fresh.load("c-1"), len(records)

    assert asyncio.run(use()) == (["a", "b" * 200_000, "d"], True, None, 1)


def test_a_save_is_one_commit(system: AgentSystem) -> None:
    async def use() -> list[int]:
        one = store(system)
        made = conversation("c-1", *map(str, range(50)))
        await one.save(made)
        before = (await system.aio.agent(one.path("c-1")).status()).seq
        await one.save(say(made, *map(str, range(3))))
        events = [event async for event in system.aio.events(one.path("c-1"), from_seq=before + 1)]
        return [len({event.command_id for event in events}), len(events)]

    assert asyncio.run(use()) == [1, 4]  # three messages and the record


@pytest.mark.slow
def test_many_large_messages_are_saved_in_order(system: AgentSystem) -> None:
    said = [str(number) + "x" * 60_000 for number in range(30)]

    async def use() -> Any:
        await store(system).save(conversation("c-1", *said))
        return texts(await store(system).load("c-1"))

    assert asyncio.run(use()) == said


def test_a_cancelled_write_has_an_outcome_first() -> None:
    async def use(system: AgentSystem) -> bool:
        one = store(system)
        record = theirs("ConversationRecord")(conversation_id="c-1", head_id=None)
        writing = asyncio.create_task(one.write_record(record, expected_revision=None))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        return await one.read_record("c-1") == record

    with AgentSystem.open("memory://") as system:
        assert asyncio.run(use(system))


@pytest.mark.slow
def test_an_agent_works_with_the_store(system: AgentSystem) -> None:
    agent = import_module("pydantic_ai").Agent(import_module("pydantic_ai.models.test").TestModel())

    async def use() -> int:
        one = store(system)
        made = conversation("c-1")
        for _ in range(2):
            result = await agent.run("hello", conversation=made)
            await one.save(result)
            made = await one.load("c-1")
        return len(made.messages)

    assert asyncio.run(use()) == 4


def test_the_project_must_be_a_name() -> None:
    with AgentSystem.open("memory://") as system, pytest.raises(InvalidPath):
        store(system, project="")
