"""No exception of the user's, and none of ours, leaves an agent that only times out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from attrs import define, field, frozen

from duramen.actors import Agent, AgentHandle, AgentSystem, Get, Set, Spawn, Supervision
from duramen.actors.dispatch import ThreadPool
from duramen.events import (
    AgentFailed,
    AskTimeout,
    DuramenError,
    EventRegistry,
    HandlerRaised,
    InvalidMessage,
    Limits,
    MemoryLog,
    TooLarge,
    ValueRefused,
    event_type,
)

OpenSystem = Callable[..., AgentSystem]
REGISTRY = EventRegistry()
SECONDS = 10.0


@event_type("noted", registry=REGISTRY)
@frozen
class Noted:
    text: str


class Kind(Agent):
    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.append("handled", 1)
        return "ok"


def is_alive(agent: AgentHandle) -> bool:
    return agent.ask("are you there?", timeout=SECONDS) == "ok"


@pytest.fixture
def agent(open_system: OpenSystem) -> AgentHandle:
    return open_system(agents={"kind": Kind}, registry=REGISTRY).spawn("p/a", agent_type="kind")


# -- messages ----------------------------------------------------------------------------------------------------------


@frozen(repr=False)  # of some of what it holds a text would take all memory, where a test fails and shows it
class Holding:
    x: Any


@define
class Unset:
    x: int = field(init=False)


@dataclass
class Plain:
    x: int


@frozen(repr=False)
class Raising(Holding):
    def __getattribute__(self, name: str) -> Any:
        if name == "x":
            raise KeyError(name)
        return super().__getattribute__(name)


def _refuse(_: object) -> Any:
    raise OSError("not for you")


class Pretending:
    __class__: Any = property(_refuse)


class NoAttrs:
    __attrs_attrs__ = property(lambda self: 1 / 0)


class EqualTypes(type):
    def __eq__(cls, other: object) -> bool:
        raise ArithmeticError

    def __hash__(cls) -> int:
        raise ArithmeticError


class Unhashable(metaclass=EqualTypes):
    pass


def nested(depth: int, make: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = make(value)
    return value


def bomb() -> Any:
    value: Any = ["x"] * 10
    for _ in range(30):
        value = [value] * 10
    return value


def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


MESSAGES: dict[str, Any] = {
    "a field that was never set": Unset(),
    "a field that raises": Raising(1),
    "a dataclass": Plain(1),
    "an object": object(),
    "a class": Holding,
    "a class that hides its fields": NoAttrs(),
    "one whose class raises": Pretending(),
    "a function": Holding(len),
    "too deep": Holding(nested(5_000, lambda inner: [inner])),
    "too deep in messages": nested(5_000, Holding),
    "a cycle": cycle(),
    "a large int": Holding(2**80),
    "half a character": Holding("\ud800"),
    "too many values": Holding(bomb()),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_that_cannot_have_a_command_id_is_refused_and_the_agent_goes_on(
    agent: AgentHandle, kind: str
) -> None:
    for _ in range(2):
        with pytest.raises(DuramenError) as caught:
            agent.ask(MESSAGES[kind], command_id="c-1", timeout=SECONDS)
        assert not isinstance(caught.value, AskTimeout)
    assert is_alive(agent)
    assert agent.get("handled") == [1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a field that was never set", "too many values"])
def test_one_of_ours_that_cannot_have_a_command_id_harms_no_other_message_of_its_turn(
    agent: AgentHandle, gate: threading.Event, kind: str
) -> None:
    agent.tell(lambda _: gate.wait(SECONDS))
    before = agent.ask(Set("a", 1), block=False)
    bad = agent.ask(Set("b", MESSAGES[kind], "c-1"), block=False)
    after = agent.ask(Set("c", 3), block=False)
    gate.set()
    with pytest.raises((InvalidMessage, TooLarge, ValueRefused)):
        bad.get(timeout=SECONDS)
    before.get(timeout=SECONDS)
    after.get(timeout=SECONDS)
    assert agent.get() == {"a": 1, "c": 3}


@pytest.mark.parametrize("kind", MESSAGES)
def test_without_a_command_id_it_is_handled_or_refused(agent: AgentHandle, kind: str) -> None:
    with suppress(DuramenError, OSError, TypeError):
        agent.ask(MESSAGES[kind], timeout=SECONDS)
    assert is_alive(agent)


def test_a_message_of_an_unhashable_type_is_refused(agent: AgentHandle) -> None:
    with pytest.raises((ArithmeticError, AgentFailed)):
        agent.ask(Unhashable(), timeout=SECONDS)
    assert is_alive(agent)


@pytest.mark.parametrize("kind", [Pretending, Unhashable, NoAttrs])
@pytest.mark.parametrize("command_id", [None, "c-1"])
def test_a_reply_that_raises_when_it_is_looked_at_is_a_reply(
    open_system: OpenSystem, kind: Callable[[], Any], command_id: str | None
) -> None:
    reply = kind()

    class Replying(Kind):
        def on_receive(self, message: Any) -> Any:
            return super().on_receive(message) if message != "reply" else reply

    agent = open_system(agents={"kind": Replying}).spawn("p/a", agent_type="kind")
    assert agent.ask("reply", timeout=SECONDS, command_id=command_id) is reply
    assert is_alive(agent)


def test_a_callback_of_a_reply_that_raises_stops_neither_the_others_nor_the_agent(agent: AgentHandle) -> None:
    def fail() -> None:
        raise OSError

    called = threading.Event()
    reply = agent.ask("go", block=False)
    reply.add_done_callback(fail)
    reply.add_done_callback(called.set)
    assert called.wait(SECONDS)
    assert is_alive(agent)


# -- code of the agent's type ------------------------------------------------------------------------------------------


class Odd(DuramenError):
    """An error of the user's own, made from other arguments than duramen's."""

    def __init__(self, code: int, *, severity: str) -> None:
        super().__init__(f"{code}: {severity}")


def odd(*_: Any) -> Any:
    raise Odd(7, severity="high")


@frozen(slots=False)
class Frozen(Kind):
    pass


class OddFold(Kind):
    def apply(self, state: Any, event: Any) -> Any:
        return odd()


class OddState(OddFold):
    def initial(self) -> Any:
        return odd()


@pytest.mark.parametrize("factory", [odd, OddState, Frozen, lambda: None, lambda: 1 / 0])
def test_an_agent_that_cannot_be_made_says_so_each_time_and_can_be_mended(
    open_system: OpenSystem, factory: Any
) -> None:
    system = open_system(agents={"kind": Kind})
    system.spawn("p/a", agent_type="kind")
    system.close()
    broken = open_system(agents={"kind": factory})
    for path in ("p/a", "p/a", "p/new"):
        with pytest.raises((DuramenError, ZeroDivisionError)) as caught:
            broken.agent(path).ask(Spawn(agent_type="kind") if path == "p/new" else "hi", timeout=SECONDS)
        assert not isinstance(caught.value, AskTimeout)
    broken.register("kind", Kind)
    assert is_alive(broken.agent("p/a"))


def test_a_fold_that_raises_an_odd_error_is_told_to_every_waiting_caller(open_system: OpenSystem) -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log, agents={"kind": Kind}, registry=REGISTRY) as system:
        system.spawn("p/a", agent_type="kind").ask(lambda agent: agent.emit(Noted("x")))
    with AgentSystem.open(log=log, agents={"kind": OddFold}, registry=REGISTRY) as system:
        agent = system.agent("p/a")
        replies = [agent.ask("hi", block=False) for _ in range(3)]
        for reply in replies:
            with pytest.raises(Odd):
                reply.get(timeout=SECONDS)


@pytest.mark.parametrize("strategy", ["stop", "escalate", "restart", "resume"])
@pytest.mark.parametrize("name", ["Plain", "L" * 100_000, "Two\nlines"])
def test_an_exception_with_an_odd_name_is_supervised(open_system: OpenSystem, name: str, strategy: str) -> None:
    class Supervised(Kind):
        supervision = Supervision(strategy=strategy, first_pause=0.0)

    agent = open_system(agents={"kind": Supervised}).spawn("p/a", agent_type="kind")
    error = type(name, (Exception,), {})

    def fail(_: Agent) -> None:
        raise error

    with pytest.raises(HandlerRaised) as caught:
        agent.ask(fail, timeout=SECONDS)
    assert type(caught.value.__cause__) is error
    if strategy in ("stop", "escalate"):
        assert agent.status().status == "failed"
        agent.restart()
    assert is_alive(agent)


class BadText(str):
    def __str__(self) -> str:
        raise OSError

    def __hash__(self) -> int:
        raise OSError


def test_a_spawn_whose_agent_type_raises_is_refused_and_the_path_stays_usable(open_system: OpenSystem) -> None:
    system = open_system(agents={"kind": Kind})
    with pytest.raises(DuramenError) as caught:
        system.agent("p/a").ask(Spawn(agent_type=BadText("kind")), timeout=SECONDS)
    assert not isinstance(caught.value, AskTimeout)
    assert is_alive(system.spawn("p/a", agent_type="kind"))


# -- no more threads ---------------------------------------------------------------------------------------------------


def test_when_there_are_no_more_threads_a_message_is_refused_and_later_ones_are_handled(
    open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("duramen-worker"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)  # from the start: a thread that idles would do
        agent = open_system(agents={"kind": Kind}).spawn("p/a", agent_type="kind")
        with pytest.raises(AgentFailed):
            agent.ask("hi", timeout=SECONDS)
        agent.set("quick", 1)
    assert is_alive(agent)
    assert agent.get("quick") == 1


def test_when_there_are_no_more_threads_what_another_host_would_get_is_refused_and_the_rest_is_sent(
    open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("duramen-none"):
            raise RuntimeError("can't start new thread")
        start(thread)

    limits = Limits(event_bytes=4_096, batch_bytes=16_384, text_bytes=50_000)
    host, other = open_system(limits=limits), open_system(limits=limits)
    host.spawn("p/a")
    agent = other.agent("p/a")
    agent.set("n", 1)  # from now on the way to the agent is known
    other._services.activations.close(30)
    other._services.activations = ThreadPool("none", 1)  # no thread of it idles
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(AgentFailed, match="no thread"):
            agent.set("n", "x" * 45_000)
        with pytest.raises(AgentFailed, match="no thread"):
            agent.ask(Get("n"), timeout=SECONDS)
        agent.set("n", 2)
    assert agent.ask(Get("n"), timeout=SECONDS) == 2
    agent.set("n", "x" * 45_000)
    assert host.agent("p/a").get("n") == "x" * 45_000
    other._services.activations.close(30)
