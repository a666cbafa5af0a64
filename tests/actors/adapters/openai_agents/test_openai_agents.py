"""DuramenSession does what the SDK's own sessions do, and loses nothing that several callers add or take at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
from agents import Agent, Model, ModelResponse, RunConfig, Runner, Session, SessionSettings, SQLiteSession, Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from duramen import AgentSystem
from duramen.adapters.openai_agents import DuramenSession
from duramen.events import InvalidPath, ValueRefused


def said(number: int) -> dict[str, Any]:
    return {"role": "user", "content": f"message {number} é\u2028 \ud800"[: -1 if number % 2 else None]}


def test_it_is_a_session_of_the_sdk(system: AgentSystem) -> None:
    assert isinstance(DuramenSession("s-1", system), Session)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_calls_give_what_the_session_in_sqlite_gives(seed: int, system: AgentSystem) -> None:
    async def use() -> None:
        ours, theirs = DuramenSession("s-1", system), SQLiteSession("s-1")
        chance = random.Random(seed)
        for number in range(40):
            match chance.choice(["add", "add", "pop", "get", "clear" if number % 10 == 0 else "get"]):
                case "add":
                    items: Any = [said(number * 10 + each) for each in range(chance.randint(0, 4))]
                    await ours.add_items(items)
                    await theirs.add_items(items)
                case "pop":
                    assert await ours.pop_item() == await theirs.pop_item()
                case "clear":
                    await ours.clear_session()
                    await theirs.clear_session()
                case "get":
                    limit = chance.choice([None, 0, 1, 3, 100, -1])
                    assert await DuramenSession("s-1", system).get_items(limit) == await theirs.get_items(limit)
        assert await ours.get_items() == await theirs.get_items()
        theirs.close()

    asyncio.run(use())


def test_a_session_that_nobody_has_used_is_empty(system: AgentSystem) -> None:
    async def use() -> tuple[Any, ...]:
        session = DuramenSession("s-1", system)
        await session.clear_session()
        return await session.get_items(), await session.pop_item(), await session.get_items(2)

    assert asyncio.run(use()) == ([], None, [])


def test_the_settings_say_how_much_is_read(system: AgentSystem) -> None:
    async def use() -> list[list[Any]]:
        found = list[list[Any]]()
        for settings in (SessionSettings(limit=2), {"limit": 1}, SessionSettings(), None):
            session = DuramenSession("s-1", system, session_settings=settings)
            if not found:
                await session.add_items([said(number) for number in (1, 3, 5)])
            found.append([item["content"][:9] for item in await session.get_items()])
        return found

    assert [len(each) for each in asyncio.run(use())] == [2, 1, 3, 3]


def test_nothing_is_lost_on_concurrent_first_access_and_each_item_is_popped_once(system: AgentSystem) -> None:
    async def use() -> tuple[list[Any], list[Any]]:
        sessions = [DuramenSession("s-1", system) for _ in range(20)]
        await asyncio.gather(*[session.add_items([{"n": number}]) for number, session in enumerate(sessions)])
        there = await sessions[0].get_items()
        return there, await asyncio.gather(*[session.pop_item() for session in (*sessions, sessions[0])])

    there, popped = asyncio.run(use())
    assert Counter(item["n"] for item in there) == Counter(range(20))
    assert sorted(popped, key=repr) == sorted([*there, None], key=repr)


def test_what_one_call_adds_is_one_event(system: AgentSystem) -> None:
    async def use() -> int:
        session = DuramenSession("s-1", system)
        await session.add_items([said(1)])
        await session.add_items([said(number) for number in range(100)])
        return (await system.aio.agent(session.path).status()).seq

    assert asyncio.run(use()) == 3


@pytest.mark.slow
def test_large_items_and_long_lists_come_back_in_order(system: AgentSystem) -> None:
    items = [{"n": 0, "image": "x" * 5_000_000}, {"n": 1}, {"n": 2, "text": "y" * 200_000}]
    many = [{"n": number, "text": "z" * 100} for number in range(5_000)]

    async def use() -> None:
        session = DuramenSession("s-1", system)
        await session.add_items(items)
        await session.add_items(many)
        assert await DuramenSession("s-1", system).get_items() == [*items, *many]
        await session.clear_session()
        await session.add_items(items[:1])
        assert await session.pop_item() == items[0]
        assert await session.get_items() == []
        assert await system.aio.agent(session.path).get("large") == {}

    asyncio.run(use())


def test_a_call_that_is_cancelled_has_an_outcome_first() -> None:
    async def use(system: AgentSystem) -> list[Any]:
        session = DuramenSession("s-1", system)
        await session.add_items([{"n": 0}])
        adding = asyncio.create_task(session.add_items([{"n": 1}]))
        await asyncio.sleep(0)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        return await session.get_items()

    with AgentSystem.open("memory://") as system:
        assert asyncio.run(use(system)) == [{"n": 0}, {"n": 1}]


def test_ids_of_any_kind_are_sessions_of_their_own(system: AgentSystem) -> None:
    ids = ["user:42@example/α", "user:42@example/β", "", "-", "a" * 500, "a" * 501]

    async def use() -> list[Any]:
        for each in ids:
            await DuramenSession(each, system).add_items([{"of": each}])
        return [await DuramenSession(each, system).get_items() for each in ids]

    assert asyncio.run(use()) == [[{"of": each}] for each in ids]


def test_a_session_that_was_erased_elsewhere_begins_anew(redis_url: str) -> None:
    async def use() -> tuple[Any, Any]:
        namespace = f"erased-{uuid4().hex[:12]}"
        async with (
            AgentSystem.open(redis_url, namespace=namespace) as one,
            AgentSystem.open(redis_url, namespace=namespace) as two,
        ):
            session = DuramenSession("s-1", one)
            await session.add_items([{"n": 1}])
            await asyncio.to_thread(two.erase, session.path)
            gone = await session.pop_item()
            await session.add_items([{"n": 2}])
            return gone, await session.get_items()

    assert asyncio.run(use()) == (None, [{"n": 2}])


def test_bad_input_is_refused() -> None:
    with AgentSystem.open("memory://") as system:
        with pytest.raises(InvalidPath):
            DuramenSession("s-1", system, project="")
        with pytest.raises((TypeError, ValueRefused)):
            asyncio.run(DuramenSession("s-1", system).add_items([object()]))
        assert asyncio.run(DuramenSession("s-1", system).get_items()) == []


# -- with the SDK ------------------------------------------------------------------------------------------------------


class Counting(Model):
    """Answers with how many items it was given."""

    async def get_response(self, *arguments: Any, **named: Any) -> ModelResponse:
        given = arguments[1] if len(arguments) > 1 else named["input"]
        text = ResponseOutputText(text=str(len(given)), type="output_text", annotations=[])
        message = ResponseOutputMessage(
            id=f"msg_{uuid4().hex}", content=[text], role="assistant", status="completed", type="message"
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


@pytest.mark.slow
def test_a_conversation_of_the_runner_goes_on_as_with_the_session_in_sqlite(system: AgentSystem) -> None:
    async def talk(made: Callable[[], Any]) -> tuple[list[str], list[str]]:
        agent, quiet = Agent(name="a", model=Counting()), RunConfig(tracing_disabled=True)
        answers = [
            (await Runner.run(agent, text, session=made(), run_config=quiet)).final_output for text in ("one", "two")
        ]
        return answers, [item["role"] for item in await made().get_items()]

    theirs = SQLiteSession("s-1")
    expected = asyncio.run(talk(lambda: theirs))
    theirs.close()
    assert asyncio.run(talk(lambda: DuramenSession("s-1", system))) == expected
    assert expected == (["1", "3"], ["user", "assistant"] * 2)
