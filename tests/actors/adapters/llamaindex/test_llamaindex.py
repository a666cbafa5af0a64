"""The chat store does what LlamaIndex's own does in memory; its keys are agents, and a list grows by what is added.

LlamaIndex is imported by the tests that use it, by name: every worker loads every file.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest

from duramen import AgentSystem
from duramen.actors import Set
from duramen.events import InvalidPath, ValueRefused

KEYS = ["user:42@example/α", "user:42@example/β", "", "-", "a" * 500, "a" * 501]


def store(system: AgentSystem, **options: Any) -> Any:
    return import_module("duramen.adapters.llamaindex").DuramenChatStore(system, **options)


def message(text: str, role: str = "user", **extra: Any) -> Any:
    return import_module("llama_index.core.llms").ChatMessage(role=role, content=text, additional_kwargs=extra)


class Model:
    """LlamaIndex's own store, with lists that nobody else holds, and None where it would raise IndexError."""

    def __init__(self) -> None:
        self.own = import_module("llama_index.core.storage.chat_store").SimpleChatStore()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            try:
                found = getattr(self.own, name)(*[list(each) if isinstance(each, list) else each for each in arguments])
            except IndexError:
                return None
            return list(found) if isinstance(found, list) else found

        return call


def any_call(chance: random.Random, number: int, there: list[Any]) -> tuple[str, tuple[Any, ...]]:
    """A method and its arguments; `there` are the messages that stand there now."""
    new = [
        message(f"{number}.{each} é\u2028 \ud800"[: chance.choice([-1, None])]) for each in range(chance.randint(0, 3))
    ]
    match chance.choice(["add", "add", "grow", "cut", "other", "pop", "last", "delete"]):
        case "add":
            large = chance.random() < 0.2
            return "add_message", (message("é" * 200_000 if large else f"{number}", "assistant", tool={"n": number}),)
        case "grow":
            return "set_messages", ([*there, *new],)
        case "cut":
            return "set_messages", ([*there[: chance.randint(0, len(there))], *new],)
        case "other":
            return "set_messages", (new,)
        case "pop":
            return "delete_message", (chance.randint(-len(there) - 1, len(there)),)
        case "delete" if chance.random() < 0.4:
            return "delete_messages", ()
    return "delete_last_message", ()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_calls_give_what_the_store_in_memory_gives(seed: int, system: AgentSystem) -> None:
    chance, model = random.Random(seed), Model()
    for number in range(40):
        key = chance.choice(["k-1", "k 2:é"])
        name, arguments = any_call(chance, number, model.get_messages(key))
        assert getattr(store(system), name)(key, *arguments) == getattr(model, name)(key, *arguments), name
        assert store(system).get_messages(key) == model.get_messages(key), name
        assert store(system).get_keys() == sorted(model.get_keys()), name
    assert model.get_keys(), "the calls have left something to compare"


TWINS = {
    "aset_messages": "set_messages",
    "async_add_message": "add_message",
    "adelete_messages": "delete_messages",
    "adelete_message": "delete_message",
    "adelete_last_message": "delete_last_message",
}


@pytest.mark.slow
def test_awaited_calls_give_what_the_store_in_memory_gives(system: AgentSystem) -> None:
    async def use() -> None:
        chance, model, ours = random.Random(7), Model(), store(system)
        for number in range(40):
            name, arguments = any_call(chance, number, model.get_messages("k"))
            [twin] = [each for each in TWINS if TWINS[each] == name]
            assert await getattr(ours, twin)("k", *arguments) == getattr(model, name)("k", *arguments), name
            assert await ours.aget_messages("k") == model.get_messages("k"), name
            assert await ours.aget_keys() == model.get_keys(), name

    asyncio.run(use())


def test_keys_of_any_kind_have_lists_of_their_own(system: AgentSystem) -> None:
    ours = store(system)
    for key in KEYS:
        ours.add_message(key, message(key))
    assert [[each.content for each in ours.get_messages(key)] for key in KEYS] == [[key] for key in KEYS]
    assert ours.get_keys() == sorted(KEYS)
    assert store(system, project="other").get_keys() == []


def test_a_list_that_has_grown_is_stored_by_what_was_added(system: AgentSystem) -> None:
    ours, messages = store(system), [message(f"message {number} " + "x" * 200) for number in range(200)]

    def events_of(*changed: Any) -> list[str]:
        before = system.agent(ours.path("k")).status().seq
        ours.set_messages("k", list(changed))
        return [event.type for event in system.events(ours.path("k"), from_seq=before + 1)]

    ours.set_messages("k", messages)
    assert events_of(*messages) == []
    assert events_of(*messages, message("one more")) == ["memory_appended"]
    assert events_of(*messages[:-1], message("another")) == ["memory_deleted", "memory_deleted", "memory_appended"]
    assert [each.content for each in ours.get_messages("k")] == [*[each.content for each in messages[:-1]], "another"]
    assert events_of(*messages[:-1]) == ["memory_deleted"]
    assert events_of(messages[0], message("of many, one stays")) == ["memory_set", "memory_appended"]
    assert [each.content for each in ours.get_messages("k")] == [messages[0].content, "of many, one stays"]


def test_what_is_large_leaves_nothing_behind(system: AgentSystem) -> None:
    ours, large = store(system), message("é" * 200_000)
    ours.set_messages("k", [large, message("small"), large])
    ours.set_messages("k", [large])
    assert len(system.agent(ours.path("k")).get("large")) == 1
    assert ours.delete_message("k", 0) == large
    assert system.agent(ours.path("k")).get("large") == {}


def test_many_who_add_and_take_at_once_lose_nothing(system: AgentSystem) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store(system).add_message("k", message(str(number))), range(24)))
        assert sorted(int(each.content) for each in store(system).get_messages("k")) == list(range(24))
        taken = list(pool.map(lambda _: store(system).delete_last_message("k"), range(25)))
    assert sorted(int(each.content) for each in taken if each is not None) == list(range(24))


@pytest.mark.slow
def test_a_list_is_set_as_a_whole_whoever_else_sets_it() -> None:
    lists = [[message(f"{name}{number}") for number in range(100)] for name in "abcd"]
    with AgentSystem.open("memory://") as system, ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            list(pool.map(lambda messages: store(system).set_messages("k", messages), lists))
            assert store(system).get_messages("k") in lists


@pytest.mark.parametrize("turn", range(4))
def test_a_list_that_changes_between_look_and_write_is_looked_at_again(turn: int) -> None:
    """Another caller gets in before a message that the call sends: two looks at the list, the seq, the write."""
    common = import_module("duramen.adapters.common")
    with AgentSystem.open("memory://") as system:
        messages = common.TextList(store(system).path("k"), {})
        common.run(system, messages.replace(["a", "b"]))

        def interrupted() -> Any:
            steps, asked = messages.replace(["a", "c", "d"]), 0
            step = next(steps)
            while True:
                if asked == turn:
                    common.run(system, messages.extend(["late"]))
                asked += 1
                try:
                    result = yield step
                except Exception as error:
                    step = steps.throw(error)
                else:
                    try:
                        step = steps.send(result)
                    except StopIteration:
                        return asked

        assert common.run(system, interrupted()) > turn
        assert common.run(system, messages.read()) == ["a", "c", "d"]


def test_a_call_that_is_cancelled_has_an_outcome_first() -> None:
    async def use(system: AgentSystem) -> list[Any]:
        ours = store(system)
        await ours.async_add_message("k", message("0"))
        setting = asyncio.create_task(ours.aset_messages("k", [message("1"), message("2")]))
        await asyncio.sleep(0)
        setting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await setting
        return [each.content for each in await ours.aget_messages("k")]

    with AgentSystem.open("memory://") as system:
        assert asyncio.run(use(system)) == ["1", "2"]


def test_blocks_and_numbers_of_tools_come_back() -> None:
    llms = import_module("llama_index.core.llms")
    blocks = [llms.TextBlock(text="look"), llms.ImageBlock(image=b"\xff\x00abc", image_mimetype="image/png")]
    messages = [
        llms.ChatMessage(role="user", blocks=blocks),
        message("", "tool", tool_call_id="c-1", result=[1, 2.5, None, True, {"deep": "é"}]),
    ]
    with AgentSystem.open("memory://") as system:
        ours = store(system)
        ours.set_messages("k", messages)
        assert store(system).get_messages("k") == messages


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda ours: ours.add_message("k", message("x", thing=object())), ValueRefused),
        (lambda ours: ours.set_messages("k", [message("y"), message("x", thing=object())]), ValueRefused),
        (lambda ours: store(ours._system, project=""), InvalidPath),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(call: Callable[[Any], Any], error: type[Exception]) -> None:
    with AgentSystem.open("memory://") as system:
        ours = store(system)
        with pytest.raises(error):
            call(ours)
        assert ours.get_keys() == []


def test_a_memory_of_llamaindex_goes_on_in_another_process(redis_url: str) -> None:
    memories = import_module("llama_index.core.memory")
    namespace = f"llamaindex-{uuid4().hex[:12]}"

    def memory(system: AgentSystem) -> Any:
        return memories.ChatMemoryBuffer(
            token_limit=1000, tokenizer_fn=str.split, chat_store=store(system), chat_store_key="user:42"
        )

    said = [message("hello"), message("hi", "assistant")]
    with AgentSystem.open(redis_url, namespace=namespace) as one:
        memory(one).put_messages(said)
    with AgentSystem.open(redis_url, namespace=namespace) as two:
        assert memory(two).get() == said
        memory(two).reset()
        assert memory(two).get() == []


def test_an_agent_that_is_not_a_list_of_messages_is_no_key() -> None:
    with AgentSystem.open("memory://") as system:
        ours = store(system)
        ours.add_message("k", message("x"))
        system.spawn("llamaindex/not-ours").ask(Set("a", 1))
        system.agent(ours.path("k")).spawn_child("below")
        assert ours.get_keys() == ["k"]
        system.agent(ours.path("k")).terminate()
        assert (ours.get_keys(), ours.get_messages("k"), ours.delete_message("k", 0)) == ([], [], None)
        ours.set_messages("k", [message("anew")])
        assert [each.content for each in ours.get_messages("k")] == ["anew"]
        ours.delete_messages("k")
        assert (ours.get_keys(), ours.get_messages("k"), ours.delete_messages("k")) == ([], [], None)
