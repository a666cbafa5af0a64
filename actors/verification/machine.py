"""A state machine that runs an agent through commands, crashes, other processes, snapshots and repeated commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Final, cast
from uuid import uuid4

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.strategies import DataObject, SearchStrategy

from duramen.events import DuramenError, EventRegistry, InvalidMessage, Limits, MemoryLog
from duramen.events.model import DECLARED
from duramen.projections import WorkingMemory, fold
from duramen.projections.recorded import StoredLog, portrait, read_items
from duramen.projections.recovery import AgentLog, Rebuilt, rebuild
from duramen.projections.state import PAUSED_STATUS, RUNNING
from duramen.projections.verification import LawBroken

from ..agent import Agent
from ..api import AgentSystem
from ..commands import LifecycleResult, Pause, Resume, Set, Spawn
from ..handlers import Settings
from .agent_fold import agent_fold
from .commands import commands, operations

URL: Final = "DURAMEN_VERIFY_URL"
"""Environment variable: the server that agents are checked on, instead of a log in memory."""

_KIND: Final = "verified"
_PATH: Final = "project/agent"
_SECONDS: Final = 10.0
_SNAPSHOTS: Final = (1, 2, 5, 1_000)


class AgentMachine(RuleBasedStateMachine):
    """One agent, used by two systems that act as two processes, each of which may crash at any time.

    After each step, what callers see, the fold of the whole log, and a snapshot plus later events must be equal. Make
    one for your agent with `agent_machine`. Errors of the agent's handlers are allowed; broken laws are not.
    """

    subject: ClassVar[str] = "the agent"
    registry: ClassVar[EventRegistry] = DECLARED
    url: ClassVar[str | None] = None

    @staticmethod
    def make() -> Agent:
        """Make an agent that does not run yet."""
        raise InvalidMessage("agent_machine(...) makes a machine for an agent")

    def __init__(self) -> None:
        super().__init__()
        self.where: dict[str, Any] = {"log": MemoryLog()}
        url = type(self).url or os.environ.get(URL)
        if url:
            self.where = {"url": url, "namespace": f"verify-{uuid4().hex[:12]}"}
        self.opened: list[AgentSystem] = []
        self.agents: dict[int, list[Agent]] = {}
        self.systems: list[AgentSystem] = []
        self.current = 0
        self.forks = 0
        self.sent: list[tuple[str, Any]] = []

    @initialize(every=st.sampled_from(_SNAPSHOTS))
    def begin(self, every: int) -> None:
        self.settings = Settings(snapshot_every=every)
        self.systems = [self.fresh(), self.fresh()]
        self.send(Spawn(agent_type=_KIND, session_id="s-1"))

    def fresh(self) -> AgentSystem:
        """Open a system that acts as one more process."""
        here = self.agents[len(self.opened)] = []

        def made() -> Agent:
            here.append(type(self).make())
            return here[-1]

        system = AgentSystem.open(
            **self.where, agents={_KIND: made}, registry=type(self).registry, settings=self.settings
        )
        self.opened.append(system)
        return system

    def send(self, message: Any, command_id: str | None = None) -> Any:
        """Send a message and check the laws; the reply, or None if it was refused."""
        if isinstance(message, Spawn):
            message = Spawn(agent_type=_KIND, session_id=message.session_id, initial_state=message.initial_state)
        if command_id is not None and hasattr(message, "command_id"):
            message, command_id = evolve(message, command_id=command_id), None  # duramen's messages have a field for it
        reply = None
        try:
            reply = self.systems[self.current].agent(_PATH).ask(message, timeout=_SECONDS, command_id=command_id)
        except TimeoutError:
            raise
        except DuramenError:
            reply = None
        self.agree()
        return reply

    # -- steps -------------------------------------------------------------------------------------------------------

    @rule(message=commands())
    def command(self, message: Any) -> None:
        self.send(message)

    @rule(message=operations())
    def command_with_an_id(self, message: Any) -> None:
        command_id = f"c-{len(self.sent) + 1}"
        if self.send(message, command_id) is not None:
            self.sent.append((command_id, message))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def the_same_command_again(self, data: DataObject) -> None:
        """A command that is delivered again, perhaps late or to another process, is carried out once."""
        command_id, message = data.draw(st.sampled_from(self.sent))
        before = self.log_of().items
        self.send(message, command_id)
        if self.log_of().items != before:
            why = f"{type(message).__name__} was carried out again"
            raise self.broken("a command that comes again changes nothing", why)

    @rule()
    def crash(self) -> None:
        """The process dies and never comes back."""
        self.systems[self.current] = self.fresh()
        self.agree()

    @rule()
    def restart(self) -> None:
        self.systems[self.current].close(_SECONDS)
        self.systems[self.current] = self.fresh()
        self.agree()

    @rule()
    def another_process(self) -> None:
        self.current = 1 - self.current
        self.agree()

    @rule(changes=st.lists(st.builds(Set, st.sampled_from(("a", "b")), st.integers(0, 9)), max_size=2))
    def pause_here_and_resume_elsewhere(self, changes: list[Set]) -> None:
        before = self.rebuilt(snapshot=False).state.memory
        paused = self.send(Pause(checkpoint_id="elsewhere"))
        if not (isinstance(paused, LifecycleResult) and paused.success):
            return
        self.current = 1 - self.current
        for change in changes:
            self.send(change)  # refused: it is paused
        self.send(Resume(checkpoint_id="elsewhere"))
        expected, actual = portrait(before), portrait(self.rebuilt(snapshot=False).state.memory)
        if expected != actual:
            raise self.broken("a resume gives what was paused", "working memory is another", expected, actual)

    @rule()
    def fork(self) -> None:
        """A fork has the same working memory, and leaves the log of its origin as it was."""
        system, before = self.systems[self.current], self.log_of().items
        memory = self.rebuilt(snapshot=False).state.memory
        self.forks += 1
        forked = system.fork(_PATH, to=f"{_PATH}-{self.forks}").get()
        self.same("a fork begins where its origin stands", "working memory is another", memory, forked)
        if self.log_of().items != before:
            raise self.broken("a fork begins where its origin stands", "the origin's log was changed")

    # -- laws --------------------------------------------------------------------------------------------------------

    def agree(self) -> None:
        """Check that the live state, the full replay, and the snapshot plus later events are equal."""
        system = self.systems[self.current]
        live = system.agent(_PATH).get()
        agent = self.agent_in(system)
        full, quick = self.rebuilt(snapshot=False), self.rebuilt(snapshot=True)
        self.same("live equals full replay", "working memory is another", full.state.memory, live)
        runs = full.state.status in (RUNNING, PAUSED_STATUS)  # a terminated agent's object is not recovered
        if runs and agent is not None and agent.actor_fold(type(self).registry) is not None:
            self.same("live equals full replay", "the state that apply folds is another", full.custom, agent.state)
        self.same("stored state plus the rest gives the same", "the state is another", _all_of(full), _all_of(quick))

    def agent_in(self, system: AgentSystem) -> Agent | None:
        """The latest object of the agent in a system; its forks have objects of their own."""
        for agent in self.agents[self.opened.index(system)][::-1]:
            with suppress(InvalidMessage):  # raised by `path` of an object that never ran
                if agent.path == _PATH:
                    return agent
        return None

    def rebuilt(self, *, snapshot: bool) -> Rebuilt:
        folded = type(self).make().actor_fold(type(self).registry)
        log = self.systems[self.current].log
        return rebuild(AgentLog(log, _PATH, Limits()), fold_of=lambda _: folded, use_snapshot=snapshot)

    def same(self, law: str, why: str, expected: object, actual: object) -> None:
        """Raise unless both have the same portrait."""
        shown = portrait(expected), portrait(actual)
        if shown[0] != shown[1]:
            raise self.broken(law, why, *shown)

    def broken(self, law: str, why: str, expected: str | None = None, actual: str | None = None) -> LawBroken:
        subject = type(self).subject
        return LawBroken(law, why, subject=subject, log=self.log_of(), expected=expected, actual=actual)

    def log_of(self) -> StoredLog:
        items = tuple(read_items(self.systems[self.current].log, _PATH))
        return StoredLog(items, _PATH, type(self).registry)

    def teardown(self) -> None:
        try:
            if self.systems and len(self.log_of()):
                projected = fold(WorkingMemory(), self.log_of().events())
                memory = self.rebuilt(snapshot=False).state.memory
                self.same("the projection equals the fold", "working memory is another", memory, projected.memory)
        finally:
            for system in self.opened:
                system.close(_SECONDS)


def _all_of(rebuilt: Rebuilt) -> Any:
    return [rebuilt.state.dump(), rebuilt.custom]


def agent_machine(
    factory: Callable[[], Agent],
    *,
    messages: SearchStrategy[Any] | None = None,
    registry: EventRegistry = DECLARED,
    url: str | None = None,
) -> type[AgentMachine]:
    """Make the machine for an `Agent` subclass, or for a function without arguments that makes an agent.

    `messages` draws the agent's own messages. The machine runs on a log in memory, unless `url` or `DURAMEN_VERIFY_URL`
    names a server; there each run makes a namespace, which stays. `.TestCase` is a test for test runners.
    """
    agent_fold(factory, registry)
    subject = str(getattr(factory, "__qualname__", "the agent"))
    body: dict[str, Any] = {"make": staticmethod(factory), "subject": subject, "registry": registry, "url": url}
    if messages is not None:
        body["message_of_its_own"] = rule(message=messages)(_message_of_its_own)
        body["message_of_its_own_with_an_id"] = rule(message=messages)(_with_an_id)
    name = f"{getattr(factory, '__name__', 'Agent')}Machine"
    return cast("type[AgentMachine]", type(name, (AgentMachine,), body))


def _is_durable(machine: AgentMachine, message: Any) -> bool:
    return type(machine).registry.is_durable(cast("type[Any]", type(message)))


def _message_of_its_own(self: AgentMachine, message: Any) -> None:
    if _is_durable(self, message):
        return  # its work goes on meanwhile; `check_interruptions` looks at that
    _tolerant(lambda: self.send(message))
    self.agree()


def _with_an_id(self: AgentMachine, message: Any) -> None:
    if _is_durable(self, message):
        return
    command_id, before = f"c-{len(self.sent) + 1}", len(self.log_of())
    _tolerant(lambda: self.send(message, command_id))
    self.agree()
    if len(self.log_of()) > before:
        self.sent.append((command_id, message))


def _tolerant(call: Callable[[], Any]) -> None:
    """Ignore an error of a handler; the laws are checked all the same."""
    try:
        call()
    except (LawBroken, TimeoutError):
        raise
    except Exception:
        return
