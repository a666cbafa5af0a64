"""Agents of the user's own: what they emit is one batch, and what goes wrong in one harms no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pykka
import pytest
from attrs import define, frozen, make_class

from duramen.actors import Agent, AgentHandle, AgentSystem, Get, Set, Settings, Spawn
from duramen.events import (
    AgentFailed,
    AgentNotFound,
    AgentNotRunning,
    AgentPaused,
    AskTimeout,
    CommandConflict,
    DuramenError,
    EventRegistry,
    HandlerStopped,
    InvalidMessage,
    InvalidPath,
    MemoryLog,
    NoHost,
    TooLarge,
    UnknownAgentType,
    UnknownEventType,
    ValueRefused,
    event_type,
    upcaster,
)
from naming import shown
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
REGISTRY = EventRegistry()


@event_type("claim_found", registry=REGISTRY)
@frozen
class ClaimFound:
    text: str
    source: str = "book"


@frozen
class Find:
    question: str
    command_id: str | None = None


@frozen
class Fail:
    error: BaseException


class Researcher(Agent):
    """Folds its claims into a list; a claim of "nonsense" does not fit."""

    def on_receive(self, message: Any) -> Any:
        match message:
            case Find(question):
                self.emit(ClaimFound(question))
                self.append("claims", question)
                return self.seq
            case Fail(error):
                self.emit(ClaimFound("before the failure"))
                self.set("trace", True)
                self.after_commit(_never)
                raise error
            case "claims":
                return self.state
            case _:
                return super().on_receive(message)

    def initial(self) -> Any:
        return []

    def apply(self, state: Any, event: Any) -> Any:
        if event.text == "nonsense":
            raise ValueError("nonsense does not fit")
        return [*state, event.text]


def _never() -> None:
    raise AssertionError("an effect of a handler that raised was called")


def run(open_system: OpenSystem, *kinds: Callable[[], Agent], **options: Any) -> tuple[AgentSystem, list[AgentHandle]]:
    """A system, and an agent of each type in it."""
    options.setdefault("registry", REGISTRY)
    system = open_system(agents={f"kind-{number}": kind for number, kind in enumerate(kinds)}, **options)
    agents = [system.spawn(f"p/a{number}", agent_type=f"kind-{number}") for number in range(len(kinds))]
    return system, agents


def event_types(system: AgentSystem, path: str) -> list[str]:
    return [event.type for event in system.events(path)]


def agent_of(handler: Callable[[Agent, Any], Any]) -> type[Agent]:
    """An agent class with this handler."""

    class Handling(Agent):
        def on_receive(self, message: Any) -> Any:
            return handler(self, message)

    return Handling


# -- one batch ---------------------------------------------------------------------------------------------------------


def test_all_that_a_handler_emits_is_one_batch_and_the_reply_shows_it(open_any: OpenSystem) -> None:
    system, [agent] = run(open_any, Researcher)

    assert agent.ask(Find("why")) == 3

    assert event_types(system, "p/a0") == ["spawned", "claim_found", "memory_appended"]
    assert [event.data for event in system.events("p/a0")][1] == {"text": "why", "source": "book"}
    assert agent.get("claims") == ["why"]
    assert agent.ask("claims") == ["why"]


@pytest.mark.parametrize("message", [Find, Fail, type, DuramenError], ids=lambda kind: kind.__name__)
def test_a_class_is_no_message_and_no_handler_gets_it(open_any: OpenSystem, message: type) -> None:
    handled: list[Any] = []
    _, [agent] = run(open_any, lambda: agent_of(lambda _, found: handled.append(found))())

    with pytest.raises(InvalidMessage, match="send an instance"):
        agent.ask(message)
    assert handled == []
    agent.ask(Fail(KeyError()))
    assert [type(found) for found in handled] == [Fail]


def test_an_agent_type_is_a_name_and_no_class(open_any: OpenSystem) -> None:
    system, _ = run(open_any)

    with pytest.raises(InvalidMessage, match="agent_type is a name, as text or UUID, and not the class Researcher"):
        system.spawn("p/a", agent_type=Researcher)  # type: ignore[arg-type]
    with pytest.raises(AgentNotFound):
        system.agent("p/a").get()


def test_the_events_of_a_handler_are_one_entry_of_the_feed(open_system: OpenSystem) -> None:
    system, [agent] = run(open_system, Researcher)
    agent.ask(Find("why"))
    entries = [e for p in range(system.log.partitions) for e in system.log.feed_page(p, 0, 100).entries]
    assert [(entry.first_seq, entry.count) for entry in entries] == [(1, 1), (2, 2)]


def test_a_handler_reads_its_own_writes_and_nobody_else_does_before_the_commit(
    open_system: OpenSystem, gate: threading.Event
) -> None:
    written = threading.Event()

    def handler(agent: Agent, message: Any) -> Any:
        agent.set("draft", 1)
        seen = agent.get("draft")
        written.set()
        gate.wait()
        return seen

    system, [agent] = run(open_system, agent_of(handler))
    reply = agent.ask("write", block=False)
    assert written.wait(30)
    assert system.peek("p/a0").memory == {}
    gate.set()
    assert reply.get(timeout=30) == 1
    assert agent.get("draft") == 1


def test_every_operation_works_inside_a_handler(open_system: OpenSystem) -> None:
    def handler(agent: Agent, message: Any) -> Any:
        agent.set("a", {"b": 1})
        agent.append("list", 1)
        agent.merge("a", {"c": 2, "b": None})
        agent.set("gone", 1)
        agent.delete("gone")
        agent.record("note", {"n": 1})
        assert agent.get("missing", None) is None
        with pytest.raises(InvalidPath):
            agent.get("missing")
        return agent.path, agent.session_id is not None, agent.seq

    system, [agent] = run(open_system, agent_of(handler))
    assert agent.ask("all") == ("p/a0", True, 7)
    assert agent.get() == {"a": {"c": 2}, "list": [1]}
    assert event_types(system, "p/a0")[1:] == [
        "memory_set",
        "memory_appended",
        "memory_merged",
        "memory_set",
        "memory_deleted",
        "activity_recorded",
    ]


def test_what_a_handler_gets_is_a_copy(open_system: OpenSystem) -> None:
    def handler(agent: Agent, message: Any) -> Any:
        agent.get("list").append("sneaked in")
        return agent.get("list")

    _, [agent] = run(open_system, agent_of(handler))
    agent.set("list", [1])
    assert agent.ask("look") == [1]
    assert agent.get("list") == [1]


def test_a_batch_over_the_limit_is_refused_as_a_whole(open_system: OpenSystem) -> None:
    def handler(agent: Agent, message: Any) -> Any:
        for number in range(message):
            agent.set("n", number)

    system, [agent] = run(open_system, agent_of(handler))
    agent.ask(256)
    with pytest.raises(TooLarge):
        agent.ask(257)
    assert agent.get("n") == 255
    assert system.peek("p/a0").seq == 257


def test_an_operation_that_is_refused_can_be_caught_and_the_rest_happens(open_system: OpenSystem) -> None:
    def handler(agent: Agent, message: Any) -> Any:
        agent.set("a", 1)
        with pytest.raises(InvalidPath):
            agent.set("a/b", 1)
        with pytest.raises(ValueRefused):
            agent.set("c", {1, 2})
        agent.set("d", 1)

    _, [agent] = run(open_system, agent_of(handler))
    agent.ask("go")
    assert agent.get() == {"a": 1, "d": 1}


# -- a handler that raises leaves no trace -----------------------------------------------------------------------------


def test_a_handler_that_raises_leaves_no_trace(open_any: OpenSystem) -> None:
    system, [agent] = run(open_any, Researcher)
    agent.ask(Find("kept"))
    before = agent.status()

    with pytest.raises(ZeroDivisionError):
        agent.ask(Fail(ZeroDivisionError("text")))

    assert agent.status() == before
    assert agent.get() == {"claims": ["kept"]}
    assert agent.ask("claims") == ["kept"]
    assert len(event_types(system, "p/a0")) == before.seq
    agent.ask(Find("next"))
    assert agent.ask("claims") == ["kept", "next"]


@pytest.mark.parametrize(
    "error",
    [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), RecursionError(), MemoryError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_what_ends_a_program_ends_one_agent_only(
    open_system: OpenSystem, promptly: Callable[..., Any], error: BaseException, kind: str
) -> None:
    class Doomed(Agent):
        def on_receive(self, message: Any) -> Any:
            self.set("trace", True)
            if message == "die":
                raise error
            return "alive"

    class AsyncDoomed(Agent):
        async def on_receive(self, message: Any) -> Any:
            self.set("trace", True)
            if message == "die":
                raise error
            return "alive"

    doomed = Doomed if kind == "plain" else AsyncDoomed
    system, [first, second] = run(open_system, doomed, doomed)

    expected = type(error) if isinstance(error, Exception) else HandlerStopped
    with pytest.raises(expected):
        promptly(lambda: first.ask("die", timeout=30))

    assert first.get() == {}
    assert promptly(lambda: second.ask("live", timeout=30)) == "alive"
    assert promptly(lambda: first.ask("live", timeout=30)) == "alive"
    assert event_types(system, "p/a0") == ["spawned", "memory_set"]


def test_the_caller_of_a_stopped_handler_gets_the_cause(open_system: OpenSystem) -> None:
    _, [agent] = run(open_system, Researcher)
    with pytest.raises(HandlerStopped) as caught:
        agent.ask(Fail(SystemExit(3)))
    assert caught.value.agent == "p/a0"
    assert isinstance(caught.value.__cause__, SystemExit)


def test_an_event_that_the_fold_rejects_is_not_appended(open_any: OpenSystem) -> None:
    system, [agent] = run(open_any, Researcher)
    agent.ask(Find("sense"))
    with pytest.raises(ValueError, match="does not fit"):
        agent.ask(Find("nonsense"))
    assert event_types(system, "p/a0") == ["spawned", "claim_found", "memory_appended"]
    assert agent.ask("claims") == ["sense"]


def test_an_event_that_does_not_come_back_equal_is_refused_even_if_the_handler_goes_on(
    open_system: OpenSystem,
) -> None:
    registry = EventRegistry()

    @event_type("odd", registry=registry)
    @frozen(eq=False)  # so that no two instances are equal
    class Odd:
        number: int

    class Stubborn(Agent):
        def on_receive(self, message: Any) -> Any:
            with pytest.raises(InvalidMessage):
                self.emit(Odd(1))
            self.set("went", "on")
            return self.seq

        def initial(self) -> Any:
            return 0

        def apply(self, state: Any, event: Any) -> Any:
            return state + event.number

    system, [agent] = run(open_system, Stubborn, registry=registry)
    assert agent.ask("go") == 2
    assert event_types(system, "p/a0") == ["spawned", "memory_set"]


@pytest.mark.parametrize("value", [{1, 2}, (1,), object(), 2**64, "\ud800"], ids=shown)
def test_an_event_with_what_is_no_plain_data_is_refused(open_system: OpenSystem, value: Any) -> None:
    system, [agent] = run(open_system, Researcher)
    with pytest.raises(ValueRefused):
        agent.ask(Find(value))
    assert event_types(system, "p/a0") == ["spawned"]


def test_an_object_that_is_no_event_type_is_refused(open_system: OpenSystem) -> None:
    wrong = (object(), "text", 5, Find("x"), ClaimFound)
    _, [agent] = run(open_system, agent_of(lambda agent, number: agent.emit(wrong[number])))
    for number in range(len(wrong)):
        with pytest.raises(UnknownEventType):
            agent.ask(number)


def test_a_paused_agent_refuses_events_and_a_terminated_one_too(open_system: OpenSystem) -> None:
    system, [agent] = run(open_system, Researcher)
    agent.pause("rest")
    with pytest.raises(AgentPaused):
        agent.ask(Find("why"))
    agent.resume("rest")
    agent.ask(Find("why"))
    agent.terminate()
    with pytest.raises(AgentNotRunning):
        agent.ask(Find("why"))
    assert event_types(system, "p/a0").count("claim_found") == 1


def test_a_message_to_an_agent_that_never_was_tells_so(system: AgentSystem) -> None:
    with pytest.raises(AgentNotFound):
        system.agent("p/nobody").ask(Find("anybody?"))
    assert list(system.agents()) == []


def test_a_message_that_nobody_understands_is_refused(system: AgentSystem) -> None:
    with pytest.raises(InvalidMessage):
        system.spawn("p/a").ask(Find("why"))


def test_the_calls_for_handlers_are_refused_outside_of_one(open_system: OpenSystem) -> None:
    kept: list[Agent] = []
    _, [agent] = run(open_system, agent_of(lambda agent, message: kept.append(agent)))
    agent.ask("keep")
    for call in (
        lambda: kept[0].set("a", 1),
        lambda: kept[0].emit(ClaimFound("x")),
        lambda: kept[0].after_commit(print),
    ):
        with pytest.raises(InvalidMessage):
            call()
    with pytest.raises(InvalidMessage):
        Researcher().get("a")
    assert agent.get() == {}


# -- effects -----------------------------------------------------------------------------------------------------------


def test_an_effect_is_called_once_after_the_log_has_the_batch(open_any: OpenSystem) -> None:
    seen: list[int] = []
    done = threading.Event()
    log_of: list[AgentSystem] = []

    def effect() -> None:
        seen.append(log_of[0].peek("p/a0").seq)
        done.set()

    def handler(agent: Agent, message: Any) -> Any:
        agent.set("a", 1)
        agent.after_commit(effect)

    system, [agent] = run(open_any, agent_of(handler))
    log_of.append(system)
    agent.ask("go")
    assert done.wait(30)
    assert seen == [2]


def test_an_effect_that_raises_harms_nothing(open_system: OpenSystem) -> None:
    called = threading.Event()

    def effect() -> None:
        called.set()
        raise SystemExit

    _, [agent] = run(open_system, agent_of(lambda agent, message: agent.after_commit(effect)))
    agent.ask("go")
    assert called.wait(30)
    agent.ask("go")
    assert agent.status().seq == 1


def test_neither_handlers_nor_effects_run_at_replay(open_any: OpenSystem) -> None:
    calls: list[str] = []

    def handler(agent: Agent, message: Any) -> Any:
        calls.append("handler")
        agent.set("a", message)
        agent.after_commit(lambda: calls.append("effect"))

    kind = agent_of(handler)
    system, [agent] = run(open_any, kind)
    agent.ask(1)
    eventually(lambda: len(calls) == 2)
    system.close()
    again = open_any(agents={"kind-0": kind}, registry=REGISTRY)
    assert again.agent("p/a0").get("a") == 1
    assert calls == ["handler", "effect"]


# -- blocking ----------------------------------------------------------------------------------------------------------


def test_a_handler_that_blocks_stalls_nobody(open_any: OpenSystem, gate: threading.Event) -> None:
    entered = threading.Event()

    def block(agent: Agent, message: Any) -> Any:
        entered.set()
        gate.wait()
        return "at last"

    _, [slow, other] = run(open_any, agent_of(block), Researcher)
    reply = slow.ask("wait", block=False)
    assert entered.wait(30)
    assert other.ask(Find("why"), timeout=30) == 3
    other.set("a", 1)
    other.pause("p")
    assert not reply.done
    gate.set()
    assert reply.get(timeout=30) == "at last"


@pytest.mark.slow
def test_many_handlers_block_at_a_time(open_system: OpenSystem, gate: threading.Event) -> None:
    system = open_system(agents={"slow": agent_of(lambda agent, message: gate.wait())}, registry=REGISTRY)
    agents = [system.spawn(f"p/a{number}", agent_type="slow") for number in range(100)]
    replies = [agent.ask("wait", block=False) for agent in agents]
    quick = system.spawn("p/quick")
    quick.set("a", 1)
    assert quick.get("a") == 1
    gate.set()
    assert all(reply.get(timeout=10) for reply in replies)


def test_an_async_handler_that_waits_stalls_nobody(open_system: OpenSystem) -> None:
    entered, release = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    class Waiting(Agent):
        async def on_receive(self, message: Any) -> Any:
            if message == "wait":
                loops.append(asyncio.get_running_loop())
                entered.set()
                await release.wait()
            self.append("done", message)
            return message

    _, [first, second] = run(open_system, Waiting, Waiting)
    reply = first.ask("wait", block=False)
    assert entered.wait(30)
    assert second.ask("go", timeout=30) == "go"
    assert not reply.done
    loops[0].call_soon_threadsafe(release.set)
    assert reply.get(timeout=30) == "wait"
    assert first.get("done") == ["wait"]


def test_an_agent_handles_one_message_at_a_time_in_order(open_any: OpenSystem, gate: threading.Event) -> None:
    def handler(agent: Agent, message: Any) -> Any:
        if message == 0:
            gate.wait()
        agent.append("order", message)

    _, [agent] = run(open_any, agent_of(handler))
    replies = [agent.ask(number, block=False) for number in range(20)]
    late = agent.ask(Get("order"), block=False)
    gate.set()
    for reply in replies:
        reply.get(timeout=10)
    assert late.get(timeout=10) == list(range(20))


def test_a_factory_that_blocks_stalls_nobody(
    open_system: OpenSystem, gate: threading.Event, promptly: Callable[..., Any]
) -> None:
    entered = threading.Event()

    def factory() -> Agent:
        entered.set()
        gate.wait()
        return Researcher()

    system = open_system(agents={"slow": factory}, registry=REGISTRY)
    other = system.spawn("p/other")
    reply = promptly(lambda: system.agent("p/slow").ask(Spawn(agent_type="slow"), block=False))
    assert entered.wait(30)
    assert promptly(lambda: other.ask(Get(), timeout=30)) == {}
    gate.set()
    assert reply.get(timeout=30).success


def test_the_caller_of_a_spawn_whose_factory_hangs_gets_its_time_out(
    open_system: OpenSystem, gate: threading.Event, promptly: Callable[..., Any]
) -> None:
    def factory() -> Agent:
        gate.wait()
        return Researcher()

    system = open_system(agents={"slow": factory}, registry=REGISTRY)
    with pytest.raises(AskTimeout):
        promptly(lambda: system.agent("p/slow").ask(Spawn(agent_type="slow"), timeout=0.2))


# -- which class runs --------------------------------------------------------------------------------------------------


class Answering(Agent):
    """Of which each class says its own name."""

    def on_receive(self, message: Any) -> Any:
        return type(self).__name__


class Other(Answering):
    pass


KINDS = {"answering": Answering, "other": Other}


def test_the_class_registered_under_the_agent_type_runs(open_any: OpenSystem) -> None:
    system = open_any(agents=KINDS)
    kind = uuid4()
    system.register(kind, Other)
    assert system.spawn("p/a", agent_type="answering").ask("who") == "Answering"
    assert system.spawn("p/b", agent_type=kind).ask("who") == "Other"
    assert system.spawn("p/c", agent_type=str(kind)).ask("who") == "Other"
    with pytest.raises(UnknownAgentType):
        system.spawn("p/d", agent_type="unregistered").ask("who")


def test_a_spawn_with_a_command_id_runs_its_agent_type(open_any: OpenSystem) -> None:
    agent = open_any(agents=KINDS).spawn("p/a", agent_type="answering", command_id="c-1")
    assert agent.ask("who") == "Answering"


def test_a_spawn_that_comes_right_behind_another_message_runs_its_agent_type(open_any: OpenSystem) -> None:
    system = open_any(agents=KINDS)
    for number in range(20):
        agent = system.agent(f"p/a{number}")
        agent.tell(Get())
        assert agent.ask(Spawn(agent_type="answering"), block=False).get(timeout=30).success
        assert agent.ask("who", timeout=30) == "Answering"


def test_a_new_session_runs_its_own_agent_type(open_any: OpenSystem) -> None:
    system = open_any(agents=KINDS)
    agent = system.spawn("p/a", agent_type="answering")
    assert agent.ask("who") == "Answering"
    agent.terminate()
    system.spawn("p/a", agent_type="other")
    assert agent.ask("who") == "Other"
    agent.terminate()
    system.spawn("p/a")
    with pytest.raises(InvalidMessage):
        agent.ask("who")


def test_a_factory_makes_a_new_object_for_each_activation(open_system: OpenSystem) -> None:
    made: list[Agent] = []

    def factory() -> Agent:
        made.append(Answering())
        return made[-1]

    system = open_system(agents={"answering": factory})
    for path in ("p/a", "p/b"):
        system.spawn(path, agent_type="answering")
    system.close()
    second = open_system(agents={"answering": factory})
    assert second.agent("p/a").ask("who") == "Answering"
    assert len({id(agent) for agent in made}) == len(made) >= 3


@define
class WithoutInit(Agent):
    """attrs writes an `__init__` that does not call Pykka's."""

    number: int = 1


def _exits() -> Agent:
    raise SystemExit(3)


def _raises() -> Agent:
    raise OSError("no model")


class BadInitial(Agent):
    def initial(self) -> Any:
        raise SystemExit(3)

    def apply(self, state: Any, event: Any) -> Any:
        return state


@pytest.mark.parametrize("block", [True, False], ids=["asked", "sent"])
@pytest.mark.parametrize(
    "factory",
    [_exits, _raises, BadInitial, lambda: None, lambda: object()],
    ids=["exits", "raises", "initial-exits", "none", "no-agent"],
)
def test_a_factory_that_fails_is_told_to_the_caller_and_harms_no_other(
    open_system: OpenSystem, promptly: Callable[..., Any], factory: Any, block: bool
) -> None:
    system = open_system(agents={"bad": factory})
    other = system.spawn("p/other")
    message = Spawn(agent_type="bad")

    with pytest.raises(AgentFailed) as caught:
        if block:
            promptly(lambda: system.agent("p/bad").ask(message, timeout=30))
        else:
            system.agent("p/bad").ask(message, block=False).get(timeout=30)

    assert caught.value.agent == "p/bad"
    assert other.ask(Set("a", 1), block=False).get(timeout=30).seq == 2
    assert [entry.agent for entry in system.agents()] == ["p/other"]


@pytest.mark.parametrize("factory", [_exits, _raises], ids=["exits", "raises"])
def test_an_agent_that_cannot_be_brought_back_tells_each_caller(open_system: OpenSystem, factory: Any) -> None:
    first = open_system(agents={"kind": Answering})
    first.spawn("p/a", agent_type="kind", initial_state={"n": 1})
    first.close()
    system = open_system(agents={"kind": factory})
    for _ in range(2):
        refused = system.agent("p/a").ask(Set("n", 2), block=False)
        read_behind_it = system.agent("p/a").ask(Get(), block=False)
        with pytest.raises(AgentFailed):
            refused.get(timeout=30)
        assert read_behind_it.get(timeout=30) == {"n": 1}, "its state is in the log, whatever its class does"
    assert system.spawn("p/b").get() == {}


def test_an_agent_whose_init_calls_no_other_runs_and_is_a_pykka_actor(open_system: OpenSystem) -> None:
    made: list[WithoutInit] = []

    def factory() -> WithoutInit:
        made.append(WithoutInit(7))
        return made[-1]

    agent = open_system(agents={"kind": factory}).spawn("p/a", agent_type="kind")

    assert agent.set("a", 1).seq == 2
    reference = made[-1].actor_ref
    assert reference.is_alive()
    assert reference is made[-1].actor_ref
    assert reference.ask(Get("a")) == 1


# -- the state of custom events ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3, 1_000])
def test_custom_state_survives_a_restart(open_any: OpenSystem, every: int) -> None:
    system, [agent] = run(open_any, Researcher, settings=Settings(snapshot_every=every))
    for number in range(5):
        agent.ask(Find(f"q{number}"))
    system.close()
    again = open_any(agents={"kind-0": Researcher}, registry=REGISTRY)
    agent = again.agent("p/a0")
    assert agent.ask("claims") == [f"q{number}" for number in range(5)]
    agent.ask(Find("one more"))
    assert agent.ask("claims")[-1] == "one more"


def test_a_snapshot_of_an_older_fold_is_ignored(open_any: OpenSystem) -> None:
    system, [agent] = run(open_any, Researcher, settings=Settings(snapshot_every=1))
    agent.ask(Find("why"))
    system.close()

    class Counting(Researcher):
        state_version = 2

        def initial(self) -> Any:
            return 0

        def apply(self, state: Any, event: Any) -> Any:
            return state + 1

    assert open_any(agents={"kind-0": Counting}, registry=REGISTRY).agent("p/a0").ask("claims") == 1


def test_custom_state_survives_a_pause_and_a_resume(open_system: OpenSystem) -> None:
    _, [agent] = run(open_system, Researcher)
    agent.ask(Find("a"))
    agent.pause("p")
    agent.resume("p")
    agent.ask(Find("b"))
    agent.resume("p")
    # A checkpoint holds working memory; what the agent's own events made of it is history.
    assert agent.ask("claims") == ["a", "b"]
    assert agent.get("claims") == ["a"]


def test_an_unknown_event_type_is_a_typed_error_and_the_log_stays(open_any: OpenSystem) -> None:
    system, [agent] = run(open_any, Researcher)
    agent.ask(Find("why"))
    system.close()

    stranger = open_any(agents={"kind-0": Researcher}, registry=EventRegistry())
    with pytest.raises(UnknownEventType):
        stranger.agent("p/a0").set("a", 1)
    assert stranger.agent("p/a0").status().seq == 3, "what only looks needs no code of the agent"
    assert [event.type for event in stranger.events("p/a0")] == ["spawned", "claim_found", "memory_appended"]

    friend = open_any(agents={"kind-0": Researcher}, registry=REGISTRY)
    assert friend.agent("p/a0").ask("claims") == ["why"]


def test_a_newer_version_is_a_typed_error_and_upcasters_apply_in_order(open_any: OpenSystem) -> None:
    old, new = EventRegistry(), EventRegistry()

    @event_type("noted", registry=old)
    @frozen
    class Noted:
        text: str

    @event_type("noted", version=3, registry=new)
    @frozen
    class NotedToday:
        words: list[str]
        language: str

    upcaster("noted", from_version=1, registry=new)(lambda data: {"words": data["text"].split()})
    upcaster("noted", from_version=2, registry=new)(lambda data: {**data, "language": f"en{len(data['words'])}"})

    class Noting(Agent):
        def on_receive(self, message: Any) -> Any:
            if message == "state":
                return self.state
            self.emit(message)
            return None

        def initial(self) -> Any:
            return []

        def apply(self, state: Any, event: Any) -> Any:
            return [*state, getattr(event, "text", None) or [event.words, event.language]]

    first = open_any(agents={"noting": Noting}, registry=old)
    first.spawn("p/a", agent_type="noting").ask(Noted("a b"))
    first.close()
    second = open_any(agents={"noting": Noting}, registry=new)
    agent = second.agent("p/a")
    assert agent.ask("state") == [[["a", "b"], "en2"]]
    agent.ask(NotedToday(["c"], "fr"))
    assert [(event.version, event.data["language"]) for event in second.events("p/a", from_seq=2)] == [
        (3, "en2"),
        (3, "fr"),
    ]
    second.close()
    with pytest.raises(UnknownEventType):
        open_any(agents={"noting": Noting}, registry=old).agent("p/a").set("a", 1)


@pytest.mark.parametrize("lacks", ["the version of an event", "the event", "the class"])
def test_an_old_host_never_takes_an_agent_that_newer_code_has_written(open_any: OpenSystem, lacks: str) -> None:
    old, new = EventRegistry(), EventRegistry()

    @event_type("noted", version=2, registry=new)
    @frozen
    class Noted:
        text: str

    if lacks == "the version of an event":
        event_type("noted", registry=old)(frozen(type("Noted", (), {"__annotations__": {"text": str}})))

    class Noting(Agent):
        def on_receive(self, message: Any) -> Any:
            self.emit(Noted(message))
            return len(self.state)

        def initial(self) -> Any:
            return []

        def apply(self, state: Any, event: Any) -> Any:
            return [*state, event.text]

    agents = {"noting": Noting}
    first = open_any(agents=agents, registry=new)
    first.spawn("p/a", agent_type="noting").ask("a")
    first.close()
    behind = open_any(agents=None if lacks == "the class" else agents, registry=old)
    before = behind.log.hosts.locate("p/a")
    for call in (lambda agent: agent.set("a", 1), lambda agent: agent.ask("b"), lambda agent: agent.pause()):
        with pytest.raises((UnknownEventType, NoHost)):
            call(behind.agent("p/a"))
        assert behind.log.hosts.locate("p/a") == before, "owner and fence are as they were"
    assert open_any(agents=agents, registry=new).agent("p/a").ask("b") == 2
    after = behind.log.hosts.locate("p/a")
    assert (after.owner, after.head) != (before.owner, before.head), "control: who has the code takes it"


def test_registries_of_two_systems_do_not_mix(open_system: OpenSystem) -> None:
    one, two = EventRegistry(), EventRegistry()
    for registry, fields in ((one, ["a"]), (two, ["b"])):
        made = event_type("thing", registry=registry)(define_event(fields))
        assert registry.has_type("thing")
        assert registry.dump(made(1))[2] == {fields[0]: 1}
    assert not EventRegistry().has_type("thing")
    with pytest.raises(UnknownEventType):
        two.dump(one.load("thing", 1, {"a": 1}))


def define_event(fields: list[str]) -> Any:
    return make_class("Thing", fields, frozen=True)


# -- command ids -------------------------------------------------------------------------------------------------------


def test_a_custom_message_with_the_same_command_id_happens_once(open_any: OpenSystem) -> None:
    system, [agent] = run(open_any, Researcher)
    reply = agent.ask(Find("why"), command_id="c-1")
    assert agent.ask(Find("why"), command_id="c-1") == reply == 3
    with pytest.raises(CommandConflict):
        agent.ask(Find("else"), command_id="c-1")
    assert event_types(system, "p/a0") == ["spawned", "claim_found", "memory_appended"]
    assert [event.command_id for event in system.events("p/a0")] == [None, "c-1", "c-1"]

    system.close()
    again = open_any(agents={"kind-0": Researcher}, registry=REGISTRY).agent("p/a0")
    assert again.ask(Find("why"), command_id="c-1") == 3
    assert again.status().seq == 3


def test_a_command_whose_handler_raised_can_be_sent_again(open_system: OpenSystem) -> None:
    fail = [True]

    def handler(agent: Agent, message: Any) -> Any:
        agent.set("n", message)
        if fail.pop():
            raise ConnectionError

    _, [agent] = run(open_system, agent_of(handler))
    with pytest.raises(ConnectionError):
        agent.ask(1, command_id="c-1")
    fail.append(False)
    agent.ask(1, command_id="c-1")
    assert agent.get("n") == 1


# -- Pykka -------------------------------------------------------------------------------------------------------------


class Proxied(Agent):
    number = 7

    def on_receive(self, message: Any) -> Any:
        if message == "ref":
            return self.actor_ref
        self.append("told", message)
        return message

    def double(self, number: int) -> int:
        self.set("doubled", number)
        return number * 2


def test_a_plain_pykka_reference_works_on_an_agent(open_any: OpenSystem) -> None:
    system, [agent] = run(open_any, Proxied)
    ref = agent.ask("ref")
    assert isinstance(ref, pykka.ActorRef)
    assert ref.is_alive()
    assert ref.ask("asked", timeout=30) == "asked"
    future = ref.ask("later", block=False)
    assert isinstance(future, pykka.Future)
    assert future.get(timeout=30) == "later"
    ref.tell("told")
    assert agent.get("told") == ["asked", "later", "told"]
    assert ref.ask(Set("a", 1), timeout=30).seq == 5
    assert event_types(system, "p/a0")[-1] == "memory_set"


class EarlyBird(Proxied):
    def __init__(self) -> None:
        self.early = self.actor_ref


def looked_at() -> Proxied:
    agent = Proxied()
    assert agent.actor_ref is agent.actor_ref
    return agent


@pytest.mark.parametrize("factory", [EarlyBird, looked_at])
def test_a_reference_that_was_read_too_early_is_replaced(open_any: OpenSystem, factory: Callable[[], Agent]) -> None:
    system = open_any(agents={"early": factory})
    agent = system.spawn("p/early", agent_type="early")
    assert agent.ask("ref").ask("asked", timeout=30) == "asked"
    assert agent.get("told") == ["asked"]


def test_a_pykka_proxy_calls_methods_inside_the_batch_of_a_message(open_system: OpenSystem) -> None:
    system, [agent] = run(open_system, Proxied)
    proxy = agent.ask("ref").proxy()
    assert proxy.double(4).get(timeout=30) == 8
    assert proxy.number.get(timeout=30) == 7
    assert agent.get("doubled") == 4
    assert event_types(system, "p/a0") == ["spawned", "memory_set"]


def test_futures_of_agents_work_as_pykkas(open_system: OpenSystem) -> None:
    _, [agent] = run(open_system, Proxied)
    futures = [agent.ask(number, block=False) for number in range(3)]
    assert pykka.get_all(futures, timeout=30) == [0, 1, 2]
    joined = futures[0].join(futures[1], futures[2])
    assert joined.get(timeout=30) == [0, 1, 2]
    assert futures[1].map(lambda value: value + 10).get(timeout=30) == 11


def test_agents_are_not_started_as_pykka_actors(open_system: OpenSystem) -> None:
    with pytest.raises(InvalidMessage):
        Researcher.start()
    run(open_system, Proxied)
    assert pykka.ActorRegistry.get_all() == []


@pytest.mark.slow
def test_agents_run_without_threads_of_their_own(system: AgentSystem) -> None:
    system.spawn("p/first").set("a", 1)
    before = threading.active_count()
    for number in range(500):
        system.spawn(f"p/a{number}").set("a", 1)
    assert threading.active_count() <= before + 1


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_handler_that_hangs_at_the_end_is_told_to_its_caller(gate: threading.Event) -> None:
    entered = threading.Event()

    def hang(agent: Agent, message: Any) -> Any:
        entered.set()
        gate.wait()

    system = AgentSystem.open(log=MemoryLog(), agents={"hang": agent_of(hang)})
    agent = system.spawn("p/a", agent_type="hang")
    first = agent.ask("hang", block=False)
    behind = agent.ask("wait", block=False)
    assert entered.wait(30)
    system.close(timeout=0.3)
    for reply in (first, behind):
        with pytest.raises(DuramenError) as caught:
            reply.get(timeout=2)
        assert not isinstance(caught.value, AskTimeout)


def test_a_command_id_beside_a_message_that_carries_its_own_is_refused(open_system: OpenSystem) -> None:
    agent = open_system().spawn("p/a")
    with pytest.raises(InvalidMessage, match="carries its command id itself"):
        agent.ask(Set("a", 1), command_id="c-1")
    with pytest.raises(InvalidMessage, match="carries its command id itself"):
        agent.tell(Set("a", 1), command_id="c-1")
    assert agent.ask(Set("a", 1, command_id="c-1")) == agent.ask(Set("a", 1, command_id="c-1"))


def test_a_durability_that_the_server_is_asked_about_holds_up_no_coroutine(
    open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Naming(Agent):
        async def on_receive(self, message: Any) -> str:
            return threading.current_thread().name

    system = open_system(agents={"naming": Naming})
    alice, asked = system.spawn("acme/alice", agent_type="naming"), list[str]()
    find = system.log.require_durability

    def look(durability: Any) -> Any:
        asked.append(threading.current_thread().name)
        return find(durability)

    monkeypatch.setattr(system.log, "require_durability", look)
    assert alice.ask("who", timeout=30) == "duramen-loop"
    assert alice.ask("who", durability="memory", timeout=30) == "duramen-loop"
    assert asked and "duramen-loop" not in asked
