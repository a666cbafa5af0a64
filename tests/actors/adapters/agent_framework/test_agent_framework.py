"""Checkpoints and histories of Microsoft's Agent Framework on duramen do what its own do in memory.

The framework is imported by the tests that use it, by name: every worker loads every file.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest

from duramen import AgentSystem
from duramen.events import InvalidPath

IDS = ("c-1", "a/b:c α", "x" * 300)


@dataclass
class Order:
    """A value that JSON has no form for."""

    item: str


def theirs(name: str) -> Any:
    return getattr(import_module("agent_framework"), name)


def ours(name: str) -> Any:
    return getattr(import_module("duramen.adapters.agent_framework"), name)


def storage(system: AgentSystem, *allowed: str) -> Any:
    return ours("DuramenCheckpointStorage")(system, allowed_checkpoint_types=allowed)


def checkpoint(checkpoint_id: str, workflow: str, minute: int, **state: Any) -> Any:
    return theirs("WorkflowCheckpoint")(
        workflow_name=workflow,
        graph_signature_hash="h",
        checkpoint_id=checkpoint_id,
        timestamp=f"2026-01-01T00:{minute:02}:00+00:00",
        state=state,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_calls_give_what_the_storage_in_memory_gives(seed: int, system: AgentSystem) -> None:
    chance = random.Random(seed)
    sizes = (1, 60_000, 400_000)

    async def use() -> None:
        storages = storage(system), theirs("InMemoryCheckpointStorage")()
        for number in range(30):
            name = chance.choice(IDS)
            workflow = ("w-1", "w/2", "w-1")[IDS.index(name)]
            match chance.choice(["save", "save", "load", "list", "latest", "ids", "delete"]):
                case "save":
                    made = checkpoint(name, workflow, number, n=number, at={1, 2}, text="é" * chance.choice(sizes))
                    assert [await each.save(made) for each in storages] == [name, name]
                case "load":
                    found = []
                    for each in storages:
                        try:
                            found.append(await each.load(name))
                        except Exception as error:
                            found.append(type(error))
                    assert found[0] == found[1]
                case "list":
                    lists = [await each.list_checkpoints(workflow_name=workflow) for each in storages]
                    assert lists[0] == sorted(lists[1], key=lambda each: each.timestamp)
                case "latest":
                    found = [await each.get_latest(workflow_name=workflow) for each in storages]
                    assert found[0] == found[1]
                case "ids":
                    ids = [sorted(await each.list_checkpoint_ids(workflow_name=workflow)) for each in storages]
                    assert ids[0] == ids[1]
                case "delete":
                    found = [await each.delete(name) for each in storages]
                    assert found[0] == found[1]

    asyncio.run(use())


def test_values_of_types_that_nobody_has_named_are_refused_before_they_are_stored(system: AgentSystem) -> None:
    async def use() -> tuple[Any, Any]:
        made = checkpoint("c-1", "w-1", 1, order=Order("tea"))
        with pytest.raises(theirs("WorkflowCheckpointException")):
            await storage(system).save(made)
        before = await storage(system).get_latest(workflow_name="w-1")
        named = storage(system, f"{Order.__module__}:{Order.__qualname__}")
        await named.save(made)
        return before, (await named.load("c-1")).state["order"]

    assert asyncio.run(use()) == (None, Order("tea"))


def test_a_checkpoint_that_is_not_large_is_one_commit(system: AgentSystem) -> None:
    async def use() -> int:
        one = storage(system)
        await one.save(checkpoint("c-1", "w-1", 1, n=1))
        return (await system.aio.agent(one.path("c-1")).status()).seq

    assert asyncio.run(use()) == 1


def test_a_cancelled_save_has_an_outcome_first() -> None:
    async def use(system: AgentSystem) -> int:
        saving = asyncio.create_task(storage(system).save(checkpoint("c-1", "w-1", 1, n=7)))
        await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        return (await storage(system).load("c-1")).state["n"]  # type: ignore[no-any-return]

    with AgentSystem.open("memory://") as system:
        assert asyncio.run(use(system)) == 7


@pytest.mark.slow
def test_a_workflow_goes_on_from_a_checkpoint(system: AgentSystem) -> None:
    Executor, handler = theirs("Executor"), theirs("handler")

    class Add(Executor):  # type: ignore[misc, valid-type]
        async def add(self, number: Any, context: Any) -> None:
            if number == 3:
                await context.yield_output(number)
            else:
                await context.send_message(number + 1)

        add.__annotations__.update(number=int, context=theirs("WorkflowContext")[int, int])
        add = handler(add)

    def workflow() -> Any:
        one, two = Add(id="one"), Add(id="two")
        builder = theirs("WorkflowBuilder")(start_executor=one, name="adding", checkpoint_storage=storage(system))
        return builder.add_edge(one, two).add_edge(two, one).build()

    async def use() -> tuple[Any, Any, int]:
        first = (await workflow().run(0)).get_outputs()
        kept = await storage(system).list_checkpoints(workflow_name="adding")
        again = (await workflow().run(checkpoint_id=kept[1].checkpoint_id)).get_outputs()
        return first, again, len(kept)

    first, again, kept = asyncio.run(use())
    assert first == again == [3]
    assert kept > 2


def provider(system: AgentSystem, **options: Any) -> Any:
    return ours("DuramenHistoryProvider")(system, **options)


def message(text: str) -> Any:
    return theirs("Message")(role="user", contents=[text])


@pytest.mark.slow
def test_histories_come_back_in_order_for_ids_of_any_kind(system: AgentSystem) -> None:
    async def use() -> None:
        for name in (*IDS, None):
            await provider(system).save_messages(name, [message(f"{name}"), message("é" * 300_000)])
            await provider(system).save_messages(name, [])
            await provider(system).save_messages(name, [message("last")])
        for name in (*IDS, None):
            texts = [each.text for each in await provider(system).get_messages(name)]
            assert texts == [f"{name}", "é" * 300_000, "last"]
        await provider(system).clear(IDS[0])
        await provider(system).clear(IDS[0])
        assert await provider(system).get_messages(IDS[0]) == []
        assert len(await provider(system).get_messages(IDS[1])) == 3

    asyncio.run(use())


@pytest.mark.slow
def test_no_message_is_lost_that_several_providers_save_at_once(system: AgentSystem) -> None:
    async def use() -> list[str]:
        await asyncio.gather(*[provider(system).save_messages("s-1", [message(str(at))]) for at in range(20)])
        return sorted(each.text for each in await provider(system).get_messages("s-1"))

    assert asyncio.run(use()) == sorted(map(str, range(20)))


def test_an_agent_remembers_through_the_provider(system: AgentSystem) -> None:
    seen = list[int]()

    class Client(theirs("BaseChatClient")):  # type: ignore[misc]
        def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **kwargs: Any) -> Any:
            async def answer() -> Any:
                seen.append(len(messages))
                return theirs("ChatResponse")(messages=[theirs("Message")(role="assistant", contents=["hi"])])

            return answer()

    async def use() -> None:
        for _ in range(2):  # as in two processes
            agent = theirs("Agent")(client=Client(), context_providers=[provider(system)])
            await agent.run("hello", session=agent.create_session(session_id="s-1"))

    asyncio.run(use())
    assert seen == [1, 3]


def test_the_project_must_be_a_name() -> None:
    with AgentSystem.open("memory://") as system:
        for name in ("DuramenCheckpointStorage", "DuramenHistoryProvider"):
            with pytest.raises(InvalidPath):
                ours(name)(system, project="")
