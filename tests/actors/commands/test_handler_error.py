"""What a handler's caller gets for what the handler raises: HandlerRaised, and the built-in exception that it is."""

from __future__ import annotations

import builtins
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

import duramen.events
from duramen.actors import Agent, AgentSystem, Supervision
from duramen.actors.commands import Serializer, to_caller_error
from duramen.events import (
    AgentNotFound,
    AgentPaused,
    DuramenError,
    EventRegistry,
    HandlerRaised,
    InvalidMessage,
    Limits,
    PathNotFound,
)

OpenSystem = Callable[..., AgentSystem]
SERIALIZER = Serializer(Limits(), EventRegistry())
NOT_FROM_TEXT = {"ExceptionGroup", "UnicodeDecodeError", "UnicodeEncodeError", "UnicodeTranslateError"}
END_COROUTINES = {"StopIteration", "StopAsyncIteration"}
BUILT_IN = [
    cls
    for name, cls in sorted(vars(builtins).items())
    if isinstance(cls, type) and issubclass(cls, Exception) and name == cls.__name__
]
TYPED = [cls for cls in vars(duramen.events).values() if isinstance(cls, type) and issubclass(cls, DuramenError)]


class OutOfStock(LookupError):
    """An exception of a user's own."""


class Refused(InvalidMessage):
    """A typed error of a user's own."""


def from_afar(error: Exception) -> DuramenError:
    return SERIALIZER.unpack_error(SERIALIZER.pack_error(error, "p/a"))


def raised(cls: type[Exception]) -> Exception:
    """An exception of this class, as a handler raises it."""
    if cls is ExceptionGroup:
        return ExceptionGroup("text", [ValueError("inner")])
    if cls is UnicodeDecodeError:
        return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "text")
    if cls is UnicodeEncodeError:
        return UnicodeEncodeError("ascii", "\xff", 0, 1, "text")
    if cls is UnicodeTranslateError:
        return UnicodeTranslateError("\xff", 0, 1, "text")
    return cls("text")


@pytest.mark.parametrize("get", [lambda error: to_caller_error(error, "p/a"), from_afar], ids=["near", "afar"])
@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.__name__)
def test_a_built_in_exception_is_caught_as_itself_and_as_handler_raised(cls: type[Exception], get: Any) -> None:
    error = get(raised(cls))
    assert isinstance(error, HandlerRaised)
    assert (error.agent, error.kind) == ("p/a", cls.__name__)
    assert "text" in error.text
    assert str(error) == f"a handler of p/a raised {cls.__name__}: {error.text}"
    assert isinstance(error, cls) is (cls.__name__ not in NOT_FROM_TEXT | END_COROUTINES)


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.__name__)
def test_near_and_afar_are_the_same_class_and_text_and_survive_a_pickle(cls: type[Exception]) -> None:
    near, afar = to_caller_error(raised(cls), "p/a"), from_afar(raised(cls))
    assert type(near) is type(afar)
    assert (str(near), vars(near)) == (str(afar), vars(afar))
    again = pickle.loads(pickle.dumps(afar))
    assert (type(again), str(again), vars(again)) == (type(afar), str(afar), vars(afar))


def test_only_near_is_the_exception_itself_chained() -> None:
    error = ValueError("x")
    assert to_caller_error(error, "p/a").__cause__ is error
    assert from_afar(error).__cause__ is None


@pytest.mark.parametrize("get", [lambda error: to_caller_error(error, "p/a"), from_afar], ids=["near", "afar"])
def test_an_exception_of_the_users_is_caught_as_the_nearest_class_that_all_know(get: Any) -> None:
    error = get(OutOfStock("tea"))
    assert isinstance(error, HandlerRaised)
    assert isinstance(error, LookupError)
    assert not isinstance(error, OutOfStock)
    assert (error.kind, error.text) == ("OutOfStock", "tea")

    refused = get(Refused("no", seq=4, expected=1))
    assert isinstance(refused, HandlerRaised)
    assert isinstance(refused, InvalidMessage)
    assert isinstance(refused, ValueError)
    assert (refused.seq, refused.expected, refused.kind) == (4, 1, "Refused")


@pytest.mark.parametrize("cls", TYPED, ids=lambda cls: cls.__name__)
def test_a_typed_error_stays_what_it_is(cls: type[DuramenError]) -> None:
    error = cls("text", agent="p/other", seq=3, expected=1, actual=2)
    assert to_caller_error(error, "p/a") is error
    arrived = from_afar(error)
    assert (type(arrived), str(arrived), vars(arrived)) == (cls, "text", vars(error))


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("x" * 5_000), "x" * 2_000),
        (ValueError("\ud800"), "\\ud800"),
        (ValueError(), ""),
        (KeyError("a"), "a"),
        (Unspeakable(), ""),
        (ValueError("two", "arguments"), "('two', 'arguments')"),
    ],
    ids=["long", "surrogate", "none", "key", "unspeakable", "two"],
)
def test_the_text_is_bounded_and_can_be_stored(error: Exception, text: str) -> None:
    for arrived in (to_caller_error(error, "p/a"), from_afar(error)):
        assert isinstance(arrived, HandlerRaised)
        assert arrived.text == text
        assert len(str(arrived)) < 2_100


# -- in a system -------------------------------------------------------------------------------------------------------


class Shop(Agent):
    supervision: ClassVar[Any] = "resume"

    def on_receive(self, message: Any) -> Any:
        self.set("tried", True)
        raise message


class AsyncShop(Shop):
    async def on_receive(self, message: Any) -> Any:
        return super().on_receive(message)


class StoppedShop(Shop):
    supervision: ClassVar[Any] = Supervision(strategy="stop")


class Front(Agent):
    """Passes a message on to the shop."""

    supervision: ClassVar[Any] = Supervision(strategy="stop")

    def on_receive(self, message: Any) -> Any:
        return self.system.agent("p/a").ask(message)


@pytest.mark.parametrize("kind", [Shop, AsyncShop, StoppedShop])
@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OutOfStock("x"), OSError("x")], ids=repr)
def test_a_caller_catches_both(open_system: OpenSystem, kind: type[Shop], error: Exception) -> None:
    agent = open_system(agents={"shop": kind}).spawn("p/a", agent_type="shop")
    with pytest.raises(HandlerRaised, match=r"a handler of p/a raised .*: x") as caught:
        agent.ask(error)
    assert isinstance(caught.value, LookupError if isinstance(error, LookupError) else type(error))
    assert caught.value.__cause__ is error
    assert agent.status().status == ("failed" if kind is StoppedShop else "running")


@pytest.mark.parametrize("error", [PathNotFound("x"), AgentPaused("x"), AgentNotFound("x")], ids=repr)
def test_a_typed_error_of_a_handler_is_a_refusal(open_system: OpenSystem, error: DuramenError) -> None:
    agent = open_system(agents={"shop": StoppedShop}).spawn("p/a", agent_type="shop")
    with pytest.raises(type(error)) as caught:
        agent.ask(error)
    assert not isinstance(caught.value, HandlerRaised)
    assert agent.status().status == "running"


def test_what_another_agents_handler_raised_is_a_failure_of_the_one_that_lets_it_pass(open_system: OpenSystem) -> None:
    system = open_system(agents={"shop": Shop, "front": Front})
    system.spawn("p/a", agent_type="shop")
    front = system.spawn("p/front", agent_type="front")
    with pytest.raises(ValueError, match="a handler of p/a raised ValueError: x") as caught:
        front.ask(ValueError("x"))
    assert isinstance(caught.value, HandlerRaised)
    assert caught.value.agent == "p/a"
    assert front.status().status == "failed"
    assert system.agent("p/a").status().status == "running"
