"""With `copy_messages`, whatever could not cross to another process is refused in this one, and nothing is shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem, Pause, Set, Settings
from duramen.actors.commands import Hold
from duramen.events import (
    EventRegistry,
    InvalidMessage,
    ReplyRefused,
    TooLarge,
    UnknownMessageType,
    ValueRefused,
    message_type,
)

OpenSystem = Callable[..., AgentSystem]
REGISTRY = EventRegistry()


@message_type("find", registry=REGISTRY)
@frozen
class Find:
    question: Any


@frozen
class Undeclared:
    text: str = "x"


class Researcher(Agent):
    handled: ClassVar[list[Any]]
    replies: ClassVar[dict[str, Any]] = {
        "declared": Find("x"),
        "plain": {"a": [1]},
        "tuple": (1, 2),
        "undeclared": Undeclared(),
        "set": {1},
        "large": ["x" * 1_000_000] * 16,
    }

    def on_receive(self, message: Any) -> Any:
        self.handled.append(message)
        self.append("handled", len(self.handled))
        question = message.question if isinstance(message, Find) else message
        return self.replies.get(question, question) if isinstance(question, str) else question


class AsyncResearcher(Researcher):
    async def on_receive(self, message: Any) -> Any:
        return super().on_receive(message)


@pytest.fixture(params=[Researcher, AsyncResearcher])
def kind(request: pytest.FixtureRequest) -> type[Researcher]:
    request.param.handled = []
    cls: type[Researcher] = request.param
    return cls


def spawn(open_system: OpenSystem, kind: type[Researcher], copy: bool = True, path: str = "p/a") -> AgentHandle:
    system = open_system(agents={"r": kind}, registry=REGISTRY, settings=Settings(copy_messages=copy))
    return system.spawn(path, agent_type="r")


@pytest.mark.parametrize("question", ["declared", "plain", "tuple", "why", None, 1.5, b"x"])
def test_what_crosses_is_handled_and_answered_as_ever(
    open_system: OpenSystem, kind: type[Researcher], question: Any
) -> None:
    copied, shared = spawn(open_system, kind), spawn(open_system, kind, copy=False, path="p/b")
    assert copied.ask(Find(question)) == shared.ask(Find(question))
    assert kind.handled == [Find(question)] * 2


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Undeclared(), UnknownMessageType),
        (range(3), UnknownMessageType),
        (print, UnknownMessageType),
        (Hold(), UnknownMessageType),
        (Find(Undeclared()), UnknownMessageType),
        (Find({1}), ValueRefused),
        (Set("a", {1}), ValueRefused),
        (Find(["x" * 100] * 20_000), TooLarge),
    ],
    ids=lambda given: repr(given)[:60],
)
def test_what_could_not_cross_is_refused_before_it_is_handled(
    open_system: OpenSystem, kind: type[Researcher], message: Any, error: type[Exception]
) -> None:
    agent = spawn(open_system, kind)
    for send in (agent.ask, agent.tell, lambda message: agent.ask(message, block=False)):
        with pytest.raises(error):
            send(message)
    assert kind.handled == []
    assert agent.status().seq == 1


def test_what_is_stored_beside_the_log_does_not_cross(open_system: OpenSystem, kind: type[Researcher]) -> None:
    agent, text = spawn(open_system, kind), "x" * 2_000_000
    agent.set("a", text)
    agent.tell(Set("b", [text]))
    assert agent.get() == {"a": text, "b": [text]}
    with pytest.raises(TooLarge):
        agent.set("c", ["x" * 100] * 20_000)


def test_without_the_setting_any_object_is_handled(open_system: OpenSystem, kind: type[Researcher]) -> None:
    message = Undeclared()
    assert spawn(open_system, kind, copy=False).ask(message) is message


@pytest.mark.parametrize("question", ["undeclared", "set", "large"])
def test_a_reply_that_could_not_cross_is_refused_and_the_message_was_handled(
    open_system: OpenSystem, kind: type[Researcher], question: str
) -> None:
    agent = spawn(open_system, kind)
    with pytest.raises(ReplyRefused) as caught:
        agent.ask(Find(question))
    assert (caught.value.agent, caught.value.seq) == ("p/a", 2)
    assert agent.get("handled") == [1]
    assert agent.ask(Find("why")) == "why"


def test_nobody_waits_for_the_reply_of_a_message_that_was_told(open_system: OpenSystem, kind: type[Researcher]) -> None:
    agent = spawn(open_system, kind)
    agent.tell(Find("undeclared"))
    assert agent.ask(Find("why")) == "why"
    assert agent.get("handled") == [1, 2]


def test_a_message_and_a_reply_are_shared_with_nobody(open_system: OpenSystem, kind: type[Researcher]) -> None:
    agent, question = spawn(open_system, kind), Find({"words": [1]})
    reply = agent.ask(question)
    assert reply == kind.handled[0].question == {"words": [1]}
    assert kind.handled[0] is not question
    assert reply is not kind.handled[0].question


def test_duramens_own_messages_work_as_ever(open_system: OpenSystem, kind: type[Researcher]) -> None:
    agent = spawn(open_system, kind)
    agent.set("a", {"b": 1})
    assert agent.get("a") == {"b": 1}
    with agent.batch() as batch:
        batch.set("c", 1)
        batch.delete("a")
    assert agent.ask(Pause(checkpoint_id="lunch")).success
    assert [checkpoint.checkpoint_id for checkpoint in agent.checkpoints()] == ["lunch"]


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_the_setting_is_true_or_false(value: Any) -> None:
    with pytest.raises(InvalidMessage, match="copy_messages is True or False"):
        Settings(copy_messages=value)
