"""What an agent is to Pykka, and how its own calls reach the agent in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event
from typing import Any, Final, NoReturn, TypeVar, cast
from uuid import uuid4

import pykka

from duramen.events import InvalidMessage, SystemClosed

from ..dispatch import Envelope, Inbox
from ..handlers import ActiveAgent, HandlerCall, current_call
from ..work import refuse_in_step

T = TypeVar("T")


def _lazy(make: Callable[[Any], T]) -> T:
    """An attribute that is made as `make(instance)` when it is first read, once even if two threads read it together.

    To type checkers it is what `make` returns.
    """
    return cast("T", _Lazy(make))


class _Lazy:
    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make: Final = make
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        own = cast("dict[str, Any]", instance.__dict__)
        return own.setdefault(self._name, self._make(instance))


class _System:
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        system = instance.actor_runtime().services.system()
        if system is None:
            raise SystemClosed("the system of this agent is gone", agent=instance.path)
        return system


class AgentActor(pykka.Actor):
    """An actor without a thread and a loop of its own, which the runtime gives an agent in memory."""

    _actor_runtime: ActiveAgent | None = None
    _actor_inbox_was_early: bool = False
    """Whether the inbox was read before the agent ran, by its own `__init__` or a factory."""

    @property
    def path(self) -> str:
        """The agent path, as text; of a handler that a fork runs again from its log, the one that it had then."""
        runtime, call = self.actor_runtime(), current_call()
        return runtime.path if call is None or call.runtime is not runtime else call.turn.agent

    system: Any = _System()
    """The `AgentSystem` that runs this agent; a subclass may put a system of its own there.

    Its calls are not part of the handler's batch. A handler must not wait for itself: use `tell` or `block=False`.
    """

    def actor_activate(self, runtime: ActiveAgent) -> None:
        """Run on `runtime` from now on; called once."""
        self._actor_runtime = runtime
        if self._actor_inbox_was_early:
            for made in ("actor_inbox", "_actor_ref"):
                vars(self).pop(made, None)

    def actor_runtime(self) -> ActiveAgent:
        """The agent in memory. Raises InvalidMessage for an object that does not run."""
        if self._actor_runtime is None:
            raise InvalidMessage("this agent is not running; agents are started by system.spawn(...)")
        return self._actor_runtime

    @contextmanager
    def _actor_reading(self) -> Generator[ActiveAgent]:
        """Read within the handler's call; outside of handlers, read the state as it is at that moment."""
        runtime, call = self.actor_runtime(), current_call()
        if call is None or call.runtime is not runtime:
            refuse_in_step(runtime.path)
            yield runtime
        else:
            with call as turn:
                yield turn.runtime

    def _actor_call(self) -> HandlerCall:
        call = current_call()
        if call is None or call.runtime is not self._actor_runtime:
            refuse_in_step(None if self._actor_runtime is None else self._actor_runtime.path)
            raise InvalidMessage(
                "only for a handler of this agent, in its own task or thread, or in one that has its context "
                "(asyncio.to_thread, contextvars.copy_context().run); from elsewhere, send the agent a message"
            )
        return call

    # -- the attributes of every Pykka actor, made only when read: they take 1.5 kB ------------------------------------

    actor_urn = _lazy(lambda _: uuid4().urn)
    actor_stopped = _lazy(lambda _: Event())
    actor_inbox = _lazy(lambda agent: agent.actor_make_inbox())
    _actor_ref = _lazy(pykka.ActorRef)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Make an agent that does not run yet; a subclass may have an `__init__` of its own."""

    def actor_make_inbox(self) -> Inbox:
        """The inbox that Pykka's references put messages into."""
        if self._actor_runtime is None:
            self._actor_inbox_was_early = True
            return Inbox.detached()
        return self._actor_runtime.inbox()

    # -- Pykka's three, for implementors of actor types ----------------------------------------------------------------

    @classmethod
    def start(cls, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Not for agents: raises InvalidMessage. Agents are started by `system.spawn`."""
        raise InvalidMessage(f"register {cls.__name__} under an agent type and start it with system.spawn(...)")

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox.detached()

    @staticmethod
    def _create_future() -> Envelope:
        return Envelope()

    def _start_actor_loop(self) -> NoReturn:
        # An agent has no loop: the dispatcher runs agents with messages. Nor is it ever in Pykka's registry, a list
        # that is searched from its start when an actor leaves.
        raise InvalidMessage("agents are run by their system's dispatcher")
