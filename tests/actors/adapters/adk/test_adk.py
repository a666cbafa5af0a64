"""ADK's sessions and memories on duramen do what ADK's own do in memory, and refuse those who write without knowing.

ADK is imported by the tests that use it, since every worker loads every file, and by name, since its types take mypy
longer than all of ours.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest

from duramen import AgentSystem
from duramen.events import InvalidPath

KEYS = ("plan", "user:tone", "app:rules", "temp:draft", "user:a/b", "app:", "~json", "α b")
VALUES: tuple[Any, ...] = (
    1,
    None,
    "text \ud800",
    {"a": {"b": [1, None]}},
    {"~json": 1},
    2**70,
    0.1 + 0.2,
    [],
    {},
    "x" * 300_000,
)


def adk(module: str, name: str) -> Any:
    return getattr(import_module(f"google.adk.{module}"), name)


def ours(name: str) -> Any:
    return getattr(import_module("duramen.adapters.adk"), name)


def sessions(system: AgentSystem) -> Any:
    return ours("DuramenSessionService")(system)


def memories(system: AgentSystem) -> Any:
    return ours("DuramenMemoryService")(system)


def content(text: str) -> Any:
    types = import_module("google.genai.types")
    return types.Content(role="user", parts=[types.Part(text=text)])


def event(text: str = "hello", at: float = 1.0, **delta: Any) -> Any:
    state = {key.replace("__", ":"): value for key, value in delta.items()}
    actions = adk("events.event_actions", "EventActions")(state_delta=state)
    return adk("events.event", "Event")(
        id=uuid4().hex, author="user", timestamp=at, content=content(text), actions=actions
    )


def shown(session: Any) -> Any:
    return (
        None if session is None else (session.id, session.user_id, session.state, [each.id for each in session.events])
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_calls_give_what_the_service_in_memory_gives(seed: int, system: AgentSystem) -> None:
    GetSessionConfig = adk("sessions.base_session_service", "GetSessionConfig")
    InMemorySessionService = adk("sessions.in_memory_session_service", "InMemorySessionService")

    chance = random.Random(seed)

    def delta() -> dict[str, Any]:
        return {chance.choice(KEYS): chance.choice(VALUES) for _ in range(chance.randint(0, 3))}

    async def use() -> None:
        mine, theirs = sessions(system), InMemorySessionService()
        for number in range(30):
            who = {"app_name": "weather", "user_id": chance.choice(["alice", "böb:x"])}
            name = {"session_id": chance.choice(["s/1", " s-2 ", "s-3" * 60])}
            match chance.choice(["create", "append", "append", "append", "get", "list", "delete", "user"]):
                case "create":
                    made, state = [], delta()
                    for service in (mine, theirs):
                        try:
                            made.append(shown(await service.create_session(**who, **name, state=dict(state))))
                        except Exception as error:
                            made.append(type(error))
                    assert made[0] == made[1]
                case "append":
                    added, found = event(f"m {number}", float(number), **delta()), []
                    for service in (mine, theirs):
                        session = await service.get_session(**who, **name)
                        if session is not None:
                            await service.append_event(session, added.model_copy(deep=True))
                            assert session.last_update_time == number
                        found.append(shown(session))
                    assert found[0] == found[1]
                case "get":
                    config = GetSessionConfig(
                        num_recent_events=chance.choice([None, 0, 2]), after_timestamp=chance.choice([None, 5.0])
                    )
                    one, other = [await service.get_session(**who, **name, config=config) for service in (mine, theirs)]
                    assert shown(one) == shown(other)
                case "list":
                    asked = chance.choice([who, {"app_name": "weather"}, {"app_name": "w"}])
                    lists = [(await service.list_sessions(**asked)).sessions for service in (mine, theirs)]
                    assert sorted(map(repr, map(shown, lists[0]))) == sorted(map(repr, map(shown, lists[1])))
                    assert lists[0] == sorted(lists[0], key=lambda each: each.last_update_time)
                case "delete":
                    for service in (mine, theirs):
                        await service.delete_session(**who, **name)
                case "user":
                    assert await mine.get_user_state(**who) == await theirs.get_user_state(**who)

    asyncio.run(use())


@pytest.mark.slow
def test_an_object_that_is_behind_is_refused_and_changes_nothing(system: AgentSystem) -> None:
    StaleSessionError = adk("errors", "StaleSessionError")

    async def use() -> tuple[bool, dict[str, Any]]:
        one, two = sessions(system), sessions(system)
        who = {"app_name": "weather", "user_id": "alice", "session_id": "s-1"}
        mine = await one.create_session(**who)
        yours = await two.get_session(**who)
        assert yours is not None
        await one.append_event(mine, event("first", 5.0))
        with pytest.raises(StaleSessionError):
            await two.append_event(yours, event("second", 9.0, user__tone="dry", plan=1))
        await one.append_event(mine, event("third", 6.0))  # the one that is not behind goes on
        there = await two.get_session(**who)
        assert there is not None
        return [each.id for each in there.events] == [each.id for each in mine.events], there.state

    assert asyncio.run(use()) == (True, {})


def test_a_session_object_from_json_is_current_if_its_last_event_is_the_stored_one(system: AgentSystem) -> None:
    StaleSessionError = adk("errors", "StaleSessionError")
    Session = adk("sessions.session", "Session")

    async def use() -> int:
        service = sessions(system)
        mine = await service.create_session(app_name="weather", user_id="alice", session_id="s-1")
        behind = Session.model_validate_json(mine.model_dump_json())
        await service.append_event(mine, event())
        with pytest.raises(StaleSessionError):
            await service.append_event(behind, event())
        await service.append_event(Session.model_validate_json(mine.model_dump_json()), event())
        found = await service.get_session(app_name="weather", user_id="alice", session_id="s-1")
        assert found is not None
        return len(found.events)

    assert asyncio.run(use()) == 2


@pytest.mark.slow
def test_events_added_at_once_through_one_object_are_all_there(system: AgentSystem) -> None:
    async def use() -> None:
        service = sessions(system)
        mine = await service.create_session(app_name="weather", user_id="alice", session_id="s-1")
        added = [event(str(number), 1.0, **{f"user__{number}": number}) for number in range(10)]
        await asyncio.gather(*[service.append_event(mine, each) for each in added])
        found = await sessions(system).get_session(app_name="weather", user_id="alice", session_id="s-1")
        assert found is not None
        assert sorted(each.id for each in found.events) == sorted(each.id for each in added)
        assert found.state == {f"user:{number}": number for number in range(10)}
        assert await service.append_event(mine, added[3]) is added[3]
        assert len(mine.events) == 10

    asyncio.run(use())


def test_an_event_that_is_added_again_is_there_once_whatever_became_of_the_others_in_the_object(
    system: AgentSystem,
) -> None:
    async def tried() -> None:
        service = sessions(system)
        session = await service.create_session(app_name="a", user_id="u")
        added = [await service.append_event(session, event(str(number))) for number in range(5)]
        for each in (added[0], added[4]):
            assert await service.append_event(session, each) is each
        del session.events[1:3]
        assert await service.append_event(session, added[3]) is added[3]
        assert [each.id for each in session.events] == [added[at].id for at in (0, 3, 4)]
        stored = await service.get_session(app_name="a", user_id="u", session_id=session.id)
        assert [each.id for each in stored.events] == [each.id for each in added]

    asyncio.run(tried())


def test_a_new_event_costs_no_look_at_those_before_it(system: AgentSystem) -> None:
    looked = 0

    class Counted(list[Any]):
        def __reversed__(self) -> Iterator[Any]:
            nonlocal looked
            looked += 1
            return super().__reversed__()

    async def tried() -> None:
        service = sessions(system)
        session = await service.create_session(app_name="a", user_id="u")
        session.events = Counted(session.events)
        for number in range(20):
            added = await service.append_event(session, event(str(number)))
        assert looked == 0
        assert await service.append_event(session, added) is added
        assert looked == 1, "control: what may be there is looked for"

    asyncio.run(tried())


@pytest.mark.slow
def test_the_states_of_user_and_app_get_what_a_session_kept_for_them_when_its_writer_died(system: AgentSystem) -> None:
    async def use() -> list[Any]:
        service = sessions(system)
        await service.create_session(app_name="weather", user_id="alice", session_id="s-1")
        kept = {"k-1": '[{"rules": 1}, {"tone": "dry"}]'}  # as it is between the two commits of an append
        await system.aio.agent(service.path("weather", "alice", "s-1")).set("shared", kept)
        before = await service.get_user_state(app_name="weather", user_id="alice")
        await asyncio.gather(
            *[service.get_session(app_name="weather", user_id="alice", session_id="s-1") for _ in range(5)]
        )
        other = await service.create_session(app_name="weather", user_id="alice", state={"user:tone": "warm"})
        await service.get_session(app_name="weather", user_id="alice", session_id="s-1")
        return [before, await service.get_user_state(app_name="weather", user_id="alice"), other.state]

    assert asyncio.run(use()) == [{}, {"tone": "warm"}, {"app:rules": 1, "user:tone": "warm"}]


def test_a_cancelled_append_has_an_outcome_first() -> None:
    async def use(system: AgentSystem) -> tuple[int, int]:
        service = sessions(system)
        mine = await service.create_session(app_name="weather", user_id="alice", session_id="s-1")
        adding = asyncio.create_task(service.append_event(mine, event()))
        await asyncio.sleep(0)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        found = await service.get_session(app_name="weather", user_id="alice", session_id="s-1")
        assert found is not None
        await service.append_event(mine, event())  # the object knows what was added
        return len(found.events), len(mine.events)

    with AgentSystem.open("memory://") as system:
        assert asyncio.run(use(system)) == (1, 2)


def test_a_deleted_session_leaves_no_events_and_takes_none(system: AgentSystem) -> None:
    SessionNotFoundError = adk("errors.session_not_found_error", "SessionNotFoundError")

    async def use() -> None:
        service = sessions(system)
        mine = await service.create_session(app_name="weather", user_id="alice", session_id="s-1")
        await service.append_event(mine, event("secret"))
        await service.delete_session(app_name="weather", user_id="alice", session_id="s-1")
        for text in ("late", "x" * 300_000):
            with pytest.raises(SessionNotFoundError):
                await service.append_event(mine, event(text))
        assert not await service.get_session(app_name="weather", user_id="alice", session_id="s-1")
        assert (await service.list_sessions(app_name="weather")).sessions == []

    asyncio.run(use())


@pytest.mark.slow
def test_a_runner_works_with_the_services(system: AgentSystem) -> None:
    BaseAgent = adk("agents.base_agent", "BaseAgent")
    Runner = adk("runners", "Runner")

    class Echo(BaseAgent):  # type: ignore[misc, valid-type]
        async def _run_async_impl(self, ctx: Any) -> Any:
            yield event(f"{len(ctx.session.events)}", 2.0, user__turns=len(ctx.session.events))

    async def use() -> Any:
        service = sessions(system)
        await service.create_session(app_name="weather", user_id="alice", session_id="s-1")
        runner = Runner(
            app_name="weather", agent=Echo(name="echo"), session_service=service, memory_service=memories(system)
        )
        for _ in range(2):
            async for _ in runner.run_async(user_id="alice", session_id="s-1", new_message=content("hi")):
                pass
        return await service.get_session(app_name="weather", user_id="alice", session_id="s-1")

    session = asyncio.run(use())
    assert [each.content.parts[0].text for each in session.events] == ["hi", "1", "hi", "3"]
    assert session.state == {"user:turns": 3}


def test_the_project_must_be_a_name() -> None:
    with AgentSystem.open("memory://") as system:
        for name in ("DuramenSessionService", "DuramenMemoryService"):
            with pytest.raises(InvalidPath):
                ours(name)(system, project="")


def found_texts(response: Any) -> list[str]:
    return [memory.content.parts[0].text for memory in response.memories]


@pytest.mark.slow
def test_memories_are_found_by_words_by_their_user_alone_and_once(system: AgentSystem) -> None:
    async def use() -> None:
        service, memory = sessions(system), memories(system)
        mine = await service.create_session(app_name="weather", user_id="alice", session_id="s-1")
        for text in ("The dog likes rain", "Cats hate rain and dogs", "x" * 2_000 + " umbrella", "y" * 300_000):
            await service.append_event(mine, event(text, 3.0))
        await asyncio.gather(*[each.add_session_to_memory(mine) for each in (memory, memories(system), memory)])
        found = await memory.search_memory(app_name="weather", user_id="alice", query="dog rain")
        assert found_texts(found) == ["The dog likes rain", "Cats hate rain and dogs"]
        assert found.memories[0].id == mine.events[0].id
        assert found.memories[0].author == "user"
        far = await memory.search_memory(app_name="weather", user_id="alice", query="umbrella")
        assert found_texts(far) == ["x" * 2_000 + " umbrella"]
        for other in ({"app_name": "weather", "user_id": "bob"}, {"app_name": "w", "user_id": "alice"}):
            assert found_texts(await memory.search_memory(**other, query="dog rain")) == []
        assert found_texts(await memory.search_memory(app_name="weather", user_id="alice", query=" ")) == []

    asyncio.run(use())


def test_a_memory_that_is_deleted_is_not_found(system: AgentSystem) -> None:
    MemoryEntry = adk("memory.memory_entry", "MemoryEntry")

    async def use() -> None:
        memory, who = memories(system), {"app_name": "weather", "user_id": "a:" * 100}
        entry = MemoryEntry(content=content("likes rain"), custom_metadata={"by": "me"})
        await memory.add_memory(**who, memories=[entry, entry], custom_metadata={"of": 1})
        found = (await memory.search_memory(**who, query="rain")).memories
        assert [each.custom_metadata for each in found] == [{"by": "me", "of": 1}] * 2
        await memory.delete_memory(**who, memory_id=found[0].id)
        await memory.delete_memory(**who, memory_id="never there")
        left = (await memory.search_memory(**who, query="rain")).memories
        assert [each.id for each in left] == [found[1].id]

    asyncio.run(use())
