"""What a handler can do besides memory and events: all it writes is part of its one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from duramen.actors import Agent, AgentHandle, AgentSystem, GetStatus, LifecycleEvent, Set, Strategy, Supervision
from duramen.actors.commands import AdoptChild
from duramen.events import (
    AgentNotFound,
    AgentNotRunning,
    AgentPaused,
    InvalidMessage,
    InvalidPath,
    PathNotFound,
    event_id,
)
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
Handler = Callable[[Agent, Any], Any]
SECONDS = 10.0


class Doing(Agent):
    """Does what its messages say: functions of the agent."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.received.append(message)
        return self.received


class AsyncDoing(Doing):
    async def on_receive(self, message: Any) -> Any:
        return super().on_receive(message)


KINDS: dict[str, Callable[[], Agent]] = {"doing": Doing, "async": AsyncDoing}


def spawn(open_system: OpenSystem, kind: str = "doing") -> tuple[AgentSystem, AgentHandle]:
    system = open_system(agents=KINDS)
    return system, system.spawn("p/a", agent_type=kind)


def types(system: AgentSystem, path: str = "p/a") -> list[str]:
    return [event.type for event in system.events(path)]


def status_in_directory(system: AgentSystem) -> str:
    return next(entry.status for entry in system.agents() if entry.agent == "p/a")


def failing(work: Callable[[Any], Any]) -> Callable[[Any], None]:
    def handle(agent: Any) -> None:
        work(agent)
        raise ArithmeticError("after the work")

    return handle


@pytest.fixture(params=["doing", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


# -- looking -----------------------------------------------------------------------------------------------------------


def test_keys_shows_what_the_handler_has_changed(open_system: OpenSystem, kind: str) -> None:
    _, agent = spawn(open_system, kind)

    def look(agent: Any) -> Any:
        agent.set("plan/a", [1])
        found = [agent.keys(), agent.keys("plan")]
        with pytest.raises(InvalidPath):
            agent.keys("plan/a")
        with pytest.raises(PathNotFound):
            agent.keys("nothing")
        return found

    assert agent.ask(look) == [["plan"], ["a"]]


class Named(Agent):
    def on_receive(self, message: Any) -> Any:
        return self.command_id


class AsyncNamed(Agent):
    async def on_receive(self, message: Any) -> Any:
        return self.command_id


@pytest.mark.parametrize("named", [Named, AsyncNamed])
def test_command_id_is_that_of_the_message(open_system: OpenSystem, named: type[Agent]) -> None:
    agent = open_system(agents={"named": named}).spawn("p/a", agent_type="named")
    assert agent.ask("which?", command_id="c-1") == "c-1"
    assert agent.ask("which?") is None
    with pytest.raises(InvalidMessage):
        _ = named().command_id


def test_system_is_the_one_that_runs_the_agent(open_system: OpenSystem, kind: str) -> None:
    system, agent = spawn(open_system, kind)
    other = system.spawn("p/b")
    assert agent.ask(lambda agent: agent.system is system)
    agent.ask(lambda agent: agent.system.agent("p/b").tell(Set("from", agent.path)))
    assert other.get("from") == "p/a"


# -- messages to itself ------------------------------------------------------------------------------------------------


def test_tell_self_is_handled_in_order_after_what_waits(open_system: OpenSystem, gate: threading.Event) -> None:
    _, agent = spawn(open_system)

    def work(agent: Any) -> None:
        assert gate.wait(SECONDS)
        for number in range(20):
            agent.tell_self(number)

    agent.tell(work)
    waiting = agent.ask("waiting", block=False)
    gate.set()
    waiting.get(timeout=SECONDS)
    assert agent.ask("last") == ["waiting", *range(20), "last"]


def test_tell_self_sends_nothing_when_the_handler_raises(open_system: OpenSystem, kind: str) -> None:
    _, agent = spawn(open_system, kind)
    with pytest.raises(ArithmeticError):
        agent.ask(failing(lambda agent: agent.tell_self("never")))
    assert agent.ask("last") == ["last"]


def test_a_message_to_itself_has_the_cause_of_its_handler(open_system: OpenSystem) -> None:
    system, agent = spawn(open_system)
    done = threading.Event()

    def second(agent: Any) -> None:
        agent.set("second", 2)
        agent.after_commit(done.set)

    def first(agent: Any) -> None:
        agent.set("first", 1)
        agent.tell_self(second)

    agent.ask(first)
    assert done.wait(SECONDS)
    assert [event.causation_id for event in system.events("p/a")] == [None, None, event_id("p/a", 2)]


# -- pause -------------------------------------------------------------------------------------------------------------


def pausing(agent: Any) -> str:
    agent.set("before", 1)
    agent.pause("lunch", metadata={"why": "hungry"}, reason="noon")
    with pytest.raises(AgentPaused):
        agent.set("after", 2)
    return "paused"


def test_a_handler_can_pause_its_agent_within_its_batch(open_any: OpenSystem, kind: str) -> None:
    system, agent = spawn(open_any, kind)
    seen: list[LifecycleEvent] = []
    called = threading.Event()
    system.hooks.on_pause(seen.append)
    system.hooks.on_pause(lambda event: called.set())

    assert agent.ask(pausing, timeout=SECONDS) == "paused"

    assert types(system) == ["spawned", "memory_set", "paused"]
    assert (agent.status().status, status_in_directory(system)) == ("paused", "paused")
    assert [found.checkpoint_id for found in agent.checkpoints()] == ["lunch"]
    assert agent.checkpoints()[0].metadata == {"why": "hungry"}
    assert called.wait(SECONDS)
    assert [(event.event_type, event.seq) for event in seen] == [("pause", 3)]
    assert agent.resume().success
    agent.set("before", 9)
    assert agent.resume("lunch").success
    assert agent.get() == {"before": 1}
    assert system.verify("p/a").ok


def test_a_pause_whose_handler_raises_has_not_happened(open_any: OpenSystem, kind: str) -> None:
    system, agent = spawn(open_any, kind)
    system.hooks.on_pause(lambda event: pytest.fail("a hook ran for what did not happen"))

    with pytest.raises(ArithmeticError):
        agent.ask(failing(pausing))

    assert types(system) == ["spawned"]
    assert (agent.status().status, status_in_directory(system)) == ("running", "running")
    assert agent.checkpoints() == []
    assert agent.set("goes", "on").seq == 2
    assert agent.get() == {"goes": "on"}
    assert system.verify("p/a").ok


def test_a_pause_within_a_handler_can_stash(open_system: OpenSystem) -> None:
    _, agent = spawn(open_system)
    agent.ask(lambda agent: agent.pause("tea", when_paused="stash"))
    reply = agent.ask("later", block=False)
    assert agent.status().status == "paused"
    agent.resume()
    assert reply.get(timeout=SECONDS) == ["later"]


class Pauser(Agent):
    def on_receive(self, message: Any) -> Any:
        getattr(self, message)()
        return f"{message}d"


@pytest.mark.parametrize("message", ["pause", "terminate"])
def test_a_command_that_paused_or_ended_its_agent_gives_its_reply_again(open_system: OpenSystem, message: str) -> None:
    system = open_system(agents={"pauser": Pauser})
    agent = system.spawn("p/a", agent_type="pauser")
    assert agent.ask(message, command_id="c-1") == f"{message}d"
    before = types(system)
    agent.resume() if message == "pause" else system.spawn("p/a", agent_type="pauser")
    assert agent.ask(message, command_id="c-1") == f"{message}d"
    assert types(system) == [*before, "resumed" if message == "pause" else "spawned"]
    assert system.verify("p/a").ok


# -- terminate ---------------------------------------------------------------------------------------------------------


def ending(agent: Any) -> str:
    agent.record("tool_output", {"tool": "search", "tokens_used": 7})
    agent.set("result", 42)
    agent.terminate("partial", task_description="a task", lessons_learned=["one"], outcome_details={"n": 1})
    with pytest.raises(AgentNotRunning):
        agent.set("after", 1)
    return "ended"


def test_a_handler_can_end_its_session_within_its_batch(open_any: OpenSystem, kind: str) -> None:
    system, agent = spawn(open_any, kind)
    agent.record("tool_output", {"tool": "read", "tokens_used": 5})
    called = threading.Event()
    system.hooks.on_terminate(lambda event: called.set())

    assert agent.ask(ending, timeout=SECONDS) == "ended"

    assert types(system)[2:] == ["activity_recorded", "memory_set", "episode_recorded", "terminated"]
    assert (agent.status().status, status_in_directory(system)) == ("terminated", "terminated")
    assert agent.get() == {}
    assert called.wait(SECONDS)
    [episode] = system.episodes.list()
    assert (episode.tokens_used, list(episode.actions)) == (
        12,
        [{"tool": "read", "seq": 2}, {"tool": "search", "seq": 3}],
    )
    assert (episode.task_description, episode.outcome, episode.outcome_details) == ("a task", "partial", {"n": 1})
    assert (episode.first_seq, episode.last_seq) == (1, 6)
    system.spawn("p/a", agent_type="doing")
    assert agent.ask("new session") == ["new session"]
    assert system.verify("p/a").ok


def test_an_end_whose_handler_raises_has_not_happened(open_any: OpenSystem, kind: str) -> None:
    system, agent = spawn(open_any, kind)
    child = agent.spawn_child("c")
    agent.set("kept", 1)

    with pytest.raises(ArithmeticError):
        agent.ask(failing(ending))

    assert (agent.status().status, status_in_directory(system)) == ("running", "running")
    assert agent.get() == {"kept": 1}
    assert system.episodes.list() == []
    assert child.status().status == "running"
    assert agent.set("more", 2).seq == 4
    assert system.verify("p/a").ok


def test_sub_agents_end_after_their_parents_handler_has_ended_it(open_system: OpenSystem) -> None:
    system, agent = spawn(open_system)
    child, guest = agent.spawn_child("c"), agent.spawn_child("g", outlives_parent=True)
    grandchild = child.spawn_child("gc")
    ended = threading.Semaphore(0)
    system.hooks.on_terminate(lambda event: ended.release())

    agent.ask(lambda agent: agent.terminate())
    for _ in range(3):
        assert ended.acquire(timeout=SECONDS)

    assert [one.status().status for one in (child, grandchild, guest)] == ["terminated", "terminated", "running"]


# -- children ----------------------------------------------------------------------------------------------------------


def test_a_handler_can_spawn_a_child_within_its_batch(open_any: OpenSystem, kind: str) -> None:
    system, agent = spawn(open_any, kind)

    def work(agent: Any) -> Any:
        agent.set("before", 1)
        return agent.spawn_child("c", agent_type="doing", initial_state={"x": 1})

    child = agent.ask(work, timeout=SECONDS)

    assert types(system) == ["spawned", "memory_set", "child_spawned"]
    assert child.ask("hello", timeout=SECONDS) == ["hello"]
    assert child.get() == {"x": 1}
    assert dict(system.peek("p/a").children) == {"p/a/c": False}
    assert system.peek("p/a/c").parent == "p/a"
    assert next(iter(system.events("p/a/c"))).causation_id == event_id("p/a", 3)
    assert agent.pause(cascade=True).data["agents"] == 2


def test_a_child_whose_parents_handler_raises_does_not_exist(open_any: OpenSystem, kind: str) -> None:
    system, agent = spawn(open_any, kind)
    with pytest.raises(ArithmeticError):
        agent.ask(failing(lambda agent: agent.spawn_child("c")))
    assert types(system) == ["spawned"]
    assert dict(system.peek("p/a").children) == {}
    with pytest.raises(AgentNotFound):
        system.agent("p/a/c").status()
    assert [entry.agent for entry in system.agents()] == ["p/a"]


@pytest.mark.parametrize(
    "arguments", [{"initial_state": 7}, {"session_id": ""}, {"granularity": "loud"}, {"metadata": {1: 2}}]
)
def test_a_child_that_could_not_be_spawned_is_refused_in_the_handler(
    open_system: OpenSystem, arguments: dict[str, Any]
) -> None:
    system, agent = spawn(open_system)

    def work(agent: Any) -> Any:
        with pytest.raises(ValueError):
            agent.spawn_child("c", **arguments)
        agent.set("goes", "on")

    agent.ask(work)
    assert types(system) == ["spawned", "memory_set"]
    assert dict(system.peek("p/a").children) == {}


def test_a_child_that_was_announced_and_never_came_does_not_exist(open_any: OpenSystem) -> None:
    system, agent = spawn(open_any)
    agent.ask(AdoptChild("p/a/ghost"))  # as by a process that died before it could spawn the child

    for call in (AgentHandle.status, AgentHandle.get, AgentHandle.pause):
        with pytest.raises(AgentNotFound):
            result = call(system.agent("p/a/ghost"))
            result.raise_for_failure()
    agent.spawn_child("real", outlives_parent=True)
    assert [entry.agent for entry in sorted(system.agents(), key=lambda entry: entry.agent)] == ["p/a", "p/a/real"]
    assert system.peek("p/a").children == {"p/a/real": True}
    assert agent.pause("lunch", cascade=True).data["agents"] == 2
    assert agent.resume(cascade=True).data["agents"] == 2
    assert agent.ask(lambda agent: agent.spawn_child("ghost"), timeout=SECONDS).status().status == "running"
    assert system.peek("p/a").children == {"p/a/ghost": False, "p/a/real": True}
    assert agent.terminate().data["agents"] == 2


def test_whoever_has_the_reply_comes_after_what_the_handler_has_sent(
    open_system: OpenSystem, gate: threading.Event
) -> None:
    system, agent = spawn(open_system)
    asked: list[Any] = []

    def send(agent: Any) -> None:
        gate.wait(10)
        agent.spawn_child("kid")
        agent.tell_self("told")

    def ask() -> None:
        """Ask in the very moment in which the reply leaves."""
        asked.append(system.agent("p/a/kid").ask(GetStatus(), block=False))
        asked.append(agent.ask("asked", block=False))

    reply = agent.ask(send, block=False)
    reply.add_done_callback(ask)
    gate.set()
    reply.get(timeout=10)
    eventually(lambda: len(asked) == 2)
    assert asked[0].get(timeout=10).status == "running"
    assert asked[1].get(timeout=10) == ["told", "asked"]


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("emit", "set", "get", "delete", "append", "merge", "record", "keys", "state", "path", "seq", "session_id"),
        *("pause", "terminate", "spawn_child", "tell_self", "command_id", "after_commit", "schedule_once"),
        *("actor_handle", "actor_activate", "actor_fold", "actor_ref", "stop", "_stop", "_handle_receive"),
        *("on_start", "on_stop", "on_failure"),
    ],
)
def test_a_class_that_would_replace_one_of_our_names_is_refused_when_it_is_made(name: str) -> None:
    with pytest.raises(InvalidMessage, match=rf"Mine\.{name} would replace"):
        type("Mine", (Agent,), {name: lambda self, *_: None})


def test_so_is_one_that_replaces_it_by_a_base_class() -> None:
    class Settings:
        state = "idle"

    with pytest.raises(InvalidMessage, match=r"Mixed\.state"):
        type("Mixed", (Settings, Agent), {})


def test_so_is_one_with_a_base_class_behind_ours_that_would_never_be_asked() -> None:
    class Counting:
        def on_start(self) -> None:
            raise AssertionError("nobody calls it")

    with pytest.raises(InvalidMessage, match=r"Mixed\.on_start would replace a hook that is never called"):
        type("Mixed", (Agent, Counting), {})


@pytest.mark.parametrize("name", ["get", "keys", "step", "pause", "tell_self", "stream"])
def test_so_is_an_object_that_replaces_it_by_an_attribute(open_system: OpenSystem, name: str) -> None:
    class Mine(Doing):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, 0)

    system = open_system(agents={"mine": Mine})
    with pytest.raises(InvalidMessage, match=rf"self\.{name} of Mine would replace"):
        system.spawn("p/a", agent_type="mine")
    with pytest.raises(AgentNotFound):
        system.peek("p/a")


def test_a_test_may_answer_a_call_by_a_function(open_system: OpenSystem) -> None:
    class Mine(Doing):
        def __init__(self) -> None:
            super().__init__()
            self.__dict__["keys"] = lambda: ["answered"]

    agent = open_system(agents={"mine": Mine}).spawn("p/a", agent_type="mine")
    assert agent.ask(lambda agent: agent.keys()) == ["answered"]


async def waiting(*_: Any) -> Any:
    return {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("on_receive", 3), ("on_child_failed", "no"), ("initial", {"a": 1}), ("apply", None)),
        *(("initial", waiting), ("apply", waiting)),
        *(("own_thread", "yes"), ("state_version", "2"), ("state_version", True), ("on_paused", "handles")),
        *(("supervision", "rstart"), ("supervision", None), ("supervision", Supervision)),
    ],
)
def test_so_is_one_that_could_not_run(name: str, value: Any) -> None:
    with pytest.raises(InvalidMessage):
        type("Mine", (Agent,), {name: value})


@pytest.mark.parametrize("value", ["restart", Strategy.STOP, Supervision(restarts=2), property(lambda self: "stop")])
def test_a_supervision_is_a_policy_its_strategy_or_computed(value: Any) -> None:
    type("Mine", (Agent,), {"supervision": value})


@pytest.mark.parametrize(
    "name", ["begin", "end", "handle", "join", "run", "custom_fold", "_turn", "_runtime", "system"]
)
def test_other_names_are_the_users(open_system: OpenSystem, name: str) -> None:
    kind = type("Mine", (Doing,), {name: "mine"})
    agent = open_system(agents={"mine": kind}).spawn("p/a", agent_type="mine")
    assert agent.ask(lambda agent: getattr(agent, name)) == "mine"
    agent.ask(lambda agent: agent.set("works", True))
    assert agent.get("works")


def test_what_is_meant_to_be_replaced_may_be() -> None:
    class Open(Agent):
        own_thread = True
        state_version = 2
        on_paused = "handle"

        def __init__(self) -> None:
            super().__init__()

        def on_receive(self, message: Any) -> Any:
            return message

        def on_child_failed(self, path: str, error: str) -> Any:
            return None

        def initial(self) -> Any:
            return []

        def apply(self, state: Any, event: Any) -> Any:
            return state

    class Further(Open):
        own_thread = False

    assert Further().on_receive(1) == 1
