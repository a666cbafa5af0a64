"""Messages of the user's own: whether their handler starts at all, and which class handles them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from duramen.actors import Agent, AgentHandle, AgentSystem, Set, Supervision
from duramen.events import (
    AgentFailed,
    AgentNotFound,
    AgentNotRunning,
    AgentPaused,
    CommandConflict,
    DuramenError,
    InvalidMessage,
    NoHost,
    UnknownAgentType,
)

OpenSystem = Callable[..., AgentSystem]


class Tool(Agent):
    """Notes each call of its handlers outside of the log, as a tool that acts would."""

    calls: ClassVar[list[Any]]

    def on_receive(self, message: Any) -> Any:
        self.calls.append(message)
        if message == "fail":
            raise ValueError("the tool failed")
        return self.set("last", message)

    def act(self) -> None:
        self.calls.append("act")

    def on_child_failed(self, path: str, error: str) -> None:
        self.calls.append((path, error))


class AsyncTool(Tool):
    async def on_receive(self, message: Any) -> Any:
        return super().on_receive(message)


class PausedTool(Tool):
    on_paused = "handle"

    def on_receive(self, message: Any) -> Any:
        self.calls.append(message)
        if message == "write":
            self.set("last", message)
        if message == "fail":
            raise ValueError("the tool failed")
        return self.get("last", None)


class StoppedTool(Tool):
    supervision = Supervision(strategy="stop")


class PausedStoppedTool(PausedTool):
    supervision = Supervision(strategy="stop")


def spawn(open_system: OpenSystem, kind: type[Tool]) -> tuple[AgentSystem, AgentHandle]:
    kind.calls = []
    system = open_system(agents={"tool": kind})
    return system, system.spawn("p/a", agent_type="tool")


def end_session(agent: AgentHandle) -> None:
    agent.terminate()


def pause(agent: AgentHandle) -> None:
    agent.pause("lunch")


def fail(agent: AgentHandle) -> None:
    with pytest.raises(ValueError, match="the tool failed"):
        agent.ask("fail")
    StoppedTool.calls.clear()


REFUSALS: dict[str, tuple[Callable[[AgentHandle], None], type[Tool], type[DuramenError]]] = {
    "paused": (pause, Tool, AgentPaused),
    "paused, async": (pause, AsyncTool, AgentPaused),
    "terminated": (end_session, Tool, AgentNotRunning),
    "terminated, async": (end_session, AsyncTool, AgentNotRunning),
    "terminated, may handle when paused": (end_session, PausedTool, AgentNotRunning),
    "failed": (fail, StoppedTool, AgentFailed),
}


@pytest.mark.parametrize("command_id", [None, "c-1"])
@pytest.mark.parametrize("message", ["pay", "fail"])
@pytest.mark.parametrize("status", REFUSALS)
def test_no_handler_starts_on_an_agent_that_is_not_running(
    open_system: OpenSystem, status: str, message: str, command_id: str | None
) -> None:
    leave, kind, refusal = REFUSALS[status]
    system, agent = spawn(open_system, kind)
    leave(agent)
    before = agent.status()

    with pytest.raises(refusal):
        agent.ask(message, command_id=command_id)

    assert kind.calls == []
    assert agent.status() == before
    assert [event.seq for event in system.events("p/a")][-1] == before.seq


@pytest.mark.parametrize("status", [status for status in REFUSALS if status != "failed"])
def test_nor_does_it_after_the_agent_was_brought_back(open_system: OpenSystem, status: str) -> None:
    leave, kind, refusal = REFUSALS[status]
    _, agent = spawn(open_system, kind)
    leave(agent)
    elsewhere = open_system(agents={"tool": kind}).agent("p/a")
    with pytest.raises(refusal):
        elsewhere.ask("pay")
    assert kind.calls == []


@pytest.mark.parametrize("status", REFUSALS)
def test_a_command_that_was_handled_before_has_its_reply_all_the_same(open_system: OpenSystem, status: str) -> None:
    """As every other command has: a caller who has lost the reply is not told that nothing was written."""
    leave, kind, refusal = REFUSALS[status]
    _, agent = spawn(open_system, kind)
    first = agent.ask("pay", command_id="c-1")
    leave(agent)
    kind.calls.clear()
    before = agent.status()

    assert agent.ask("pay", command_id="c-1") == first
    with pytest.raises(CommandConflict):
        agent.ask("look", command_id="c-1")
    with pytest.raises(refusal):
        agent.ask("pay", command_id="c-2")
    assert agent.status() == before
    elsewhere = open_system(agents={"tool": kind}).agent("p/a")
    assert elsewhere.ask("pay", command_id="c-1") == first
    assert kind.calls == []


def test_nor_for_an_agent_that_never_was(open_system: OpenSystem) -> None:
    system, _ = spawn(open_system, Tool)
    with pytest.raises(AgentNotFound):
        system.agent("p/never").ask("pay")
    assert Tool.calls == []


def test_nor_for_a_call_by_a_proxy(open_system: OpenSystem) -> None:
    class Referring(Tool):
        def on_receive(self, message: Any) -> Any:
            return self.actor_ref

    _, agent = spawn(open_system, Referring)
    ref = agent.ask("who are you?")
    agent.pause("lunch")
    with pytest.raises(AgentPaused):
        ref.proxy().act().get(timeout=10)
    assert Referring.calls == []
    agent.resume()
    ref.proxy().act().get(timeout=10)
    assert Referring.calls == ["act"]


@pytest.mark.parametrize("kind", [Tool, AsyncTool])
def test_a_pause_that_stashes_keeps_own_messages_for_the_resume(open_system: OpenSystem, kind: type[Tool]) -> None:
    _, agent = spawn(open_system, kind)
    agent.pause("lunch", when_paused="stash")
    reply = agent.ask("pay", block=False)
    assert agent.status().status == "paused"
    assert kind.calls == []
    agent.resume()
    reply.get(timeout=10)
    assert kind.calls == ["pay"]


@pytest.mark.parametrize("when_paused", ["refuse", "stash"])
def test_a_class_may_handle_its_messages_while_paused_but_not_write(open_system: OpenSystem, when_paused: str) -> None:
    _, agent = spawn(open_system, PausedTool)
    agent.set("last", "tea")
    agent.pause("lunch", when_paused=when_paused)
    assert agent.ask("read") == "tea"
    with pytest.raises(AgentPaused):
        agent.ask("write")
    assert PausedTool.calls == ["read", "write"]
    assert agent.get("last") == "tea"


def test_a_handler_that_raises_while_paused_does_not_end_the_pause(open_system: OpenSystem) -> None:
    system, agent = spawn(open_system, PausedStoppedTool)
    agent.pause("lunch")
    with pytest.raises(ValueError, match="the tool failed"):
        agent.ask("fail")
    assert agent.status().status == "paused"
    assert [event.type for event in system.events("p/a")] == ["spawned", "paused"]


def test_the_failure_of_a_child_waits_for_the_resume_of_its_parent(open_system: OpenSystem) -> None:
    class Failing(Agent):
        supervision = Supervision(strategy="escalate")

        def on_receive(self, message: Any) -> Any:
            raise ValueError("no")

    Tool.calls = []
    system = open_system(agents={"tool": Tool, "failing": Failing})
    parent = system.spawn("p/a", agent_type="tool")
    child = parent.spawn_child("c", agent_type="failing")
    parent.pause("lunch")
    with pytest.raises(ValueError, match="no"):
        child.ask("go")
    assert child.status().status == "failed"
    assert parent.status().status == "paused"
    assert Tool.calls == []
    parent.resume()
    parent.ask("after")
    assert Tool.calls == [("p/a/c", "ValueError"), "after"]


def test_on_paused_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(InvalidMessage, match="on_paused"):
        type("Wrong", (Agent,), {"on_paused": "stash"})


# -- which class handles them ------------------------------------------------------------------------------------------


class Echo(Agent):
    def on_receive(self, message: Any) -> Any:
        return message

    def initial(self) -> Any:
        return "echo"


class Shout(Agent):
    def on_receive(self, message: Any) -> Any:
        return message.upper()


def test_an_agent_is_asked_through_any_process_for_as_long_as_one_has_its_class(open_any: OpenSystem) -> None:
    first = open_any(agents={"echo": Echo})
    others = [open_any(), open_any(agents={"other": Shout})]
    assert first.spawn("p/a", agent_type="echo").ask("hi") == "hi"
    for system in others:
        assert system.agent("p/a").ask("hi") == "hi"
        assert system.agent("p/a").set("seen", True).seq >= 2
    first.close()
    for system in others:
        for message in ("hi", Set("seen", False)):
            with pytest.raises(NoHost, match="echo") as caught:
                system.agent("p/a").ask(message)
            assert caught.value.agent == "p/a"
    others[0].register("echo", Echo)
    assert others[1].agent("p/a").ask("again") == "again"


def test_an_unregistered_agent_type_says_so(open_any: OpenSystem) -> None:
    agent = open_any().spawn("p/a", agent_type="echo")
    with pytest.raises(UnknownAgentType, match="echo") as caught:
        agent.ask("hi")
    assert (caught.value.agent, caught.value.actual) == ("p/a", "echo")
    assert agent.set("seen", True).seq == 2


@pytest.mark.parametrize("handled_before", [True, False])
def test_a_registration_that_comes_later_counts_from_the_next_message_on(
    open_any: OpenSystem, handled_before: bool
) -> None:
    system = open_any()
    agent = system.spawn("p/a", agent_type="echo", initial_state={"kept": 1})
    if handled_before:
        with pytest.raises(UnknownAgentType):
            agent.ask("hi")
    system.register("echo", Echo)
    assert agent.ask("hi") == "hi"
    assert agent.get() == {"kept": 1}


def test_a_type_that_is_registered_again_runs_as_its_new_class(open_system: OpenSystem) -> None:
    system = open_system(agents={"echo": Echo})
    agent = system.spawn("p/a", agent_type="echo")
    assert agent.ask("hi") == "hi"
    system.register("echo", Shout)
    assert agent.ask("hi") == "HI"


def test_an_agent_stays_in_memory_as_long_as_its_type_stays(open_system: OpenSystem) -> None:
    made: list[Agent] = []

    def make() -> Agent:
        made.append(Echo())
        return made[-1]

    system = open_system(agents={"echo": make})
    agent = system.spawn("p/a", agent_type="echo")
    system.register("other", Shout)
    for _ in range(3):
        agent.ask("hi")
    assert len(made) == 1


def test_a_plain_agent_says_that_it_has_no_messages_of_its_own(open_system: OpenSystem) -> None:
    agent = open_system(agents={"plain": lambda: Agent()}).spawn("p/a")
    with pytest.raises(InvalidMessage, match="plain agent"):
        agent.ask("hi")


def generator(self: Agent, message: Any) -> Any:
    yield self.set("never", message)


async def async_generator(self: Agent, message: Any) -> Any:
    yield self.set("never", message)


@pytest.mark.parametrize("name", ["on_receive", "on_child_failed"])
@pytest.mark.parametrize("handler", [generator, async_generator])
def test_a_class_whose_handler_is_a_generator_is_refused_when_it_is_made(name: str, handler: Any) -> None:
    with pytest.raises(InvalidMessage, match=f"Yielding.{name} is a generator"):
        type("Yielding", (Agent,), {name: handler})


@pytest.mark.parametrize("handler", [generator, async_generator])
def test_a_generator_that_a_handler_gives_is_refused_and_writes_nothing(open_system: OpenSystem, handler: Any) -> None:
    class Giving(Agent):
        def on_receive(self, message: Any) -> Any:
            self.set("begun", True)
            return handler(self, message)

    agent = open_system(agents={"giving": Giving}).spawn("p/a", agent_type="giving")
    with pytest.raises(InvalidMessage, match="generator"):
        agent.ask("go")
    assert agent.get() == {}
