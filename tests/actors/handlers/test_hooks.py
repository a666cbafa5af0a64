"""Hooks: told after the commit, reported when they fail, and never in the way."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, LifecycleEvent, LifecycleResult, Pause, Settings, Spawn
from duramen.events import AgentPaused, AskTimeout, DuramenError, SystemClosed
from naming import shown
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"
QUICK = Settings(hook_timeout=0.2)


def types(system: AgentSystem) -> list[str]:
    return [event.type for event in system.events(PATH)]


def transitions(system: AgentSystem) -> list[LifecycleResult]:
    """Each of the four, once."""
    agent = system.agent(PATH)
    return [
        agent.ask(Spawn(session_id="s-1", agent_type="kind", metadata={"m": 1})),
        agent.pause("p"),
        agent.resume("p"),
        agent.terminate(),
    ]


ALL = ["spawned", "paused", "resumed", "episode_recorded", "terminated"]


def on_all(system: AgentSystem, hook: Any) -> None:
    hooks = system.hooks
    for register in (hooks.on_spawn, hooks.on_pause, hooks.on_resume, hooks.on_terminate):
        assert register(hook) is hook


@pytest.mark.parametrize("kind", ["sync", "async", "object", "lambda"])
def test_a_hook_is_told_of_every_transition_after_its_commit(any_system: AgentSystem, kind: str) -> None:
    told: list[LifecycleEvent] = []
    heads: list[int] = []

    def sync(event: LifecycleEvent) -> None:
        head = any_system.log.head(event.agent)
        assert head is not None
        heads.append(head.seq)
        told.append(event)

    async def asynchronous(event: LifecycleEvent) -> None:
        await asyncio.sleep(0)
        sync(event)

    class Callable_:
        async def __call__(self, event: LifecycleEvent) -> None:
            sync(event)

    hooks: dict[str, Any] = {
        "sync": sync,
        "async": asynchronous,
        "object": Callable_(),
        "lambda": lambda event: asynchronous(event),
    }
    on_all(any_system, hooks[kind])

    results = transitions(any_system)

    assert [event.event_type for event in told] == ["spawn", "pause", "resume", "terminate"]
    assert heads == [event.seq for event in told] == [1, 2, 3, 5]
    for event, result in zip(told, results, strict=True):
        assert result.success
        assert event.data == result.data
        assert "hook_errors" not in result.data
        assert (event.agent, event.session_id, event.agent_type, event.metadata["m"]) == (PATH, "s-1", "kind", 1)
        assert isinstance(event.time, datetime)
        assert event.time.tzinfo is not None


def test_a_hook_gets_what_the_hooks_of_an_agent_platform_get(any_system: AgentSystem) -> None:
    seen: list[LifecycleEvent] = []
    on_all(any_system, seen.append)
    child = any_system.spawn("acme/alice/helper", agent_type="kind", metadata={"m": 1, "checkpoint_id": "mine"})
    paused, resumed, ended = child.pause("p"), child.resume("p"), child.terminate()
    again = any_system.spawn("acme/alice/helper")
    unkept = again.terminate(consolidate_to_episodic=False)
    assert paused.success and resumed.success and unkept.success
    for event in seen:
        assert (event.project_id, event.agent_instance_id) == ("acme", "alice/helper")
        assert (event.agent_type_id, event.timestamp) == (event.agent_type, event.time)
    assert [event.metadata for event in seen] == [
        {"m": 1, "checkpoint_id": "mine"},
        {"m": 1, "checkpoint_id": "p"},
        {"m": 1, "checkpoint_id": "p"},
        {"m": 1, "checkpoint_id": "mine", "episode_id": ended.data["episode_id"]},
        {},
        {"episode_id": None},
    ]
    assert any_system.episodes.get(seen[3].metadata["episode_id"]) is not None


def test_hooks_run_where_the_transition_happens(open_any: OpenSystem) -> None:
    here, there = open_any(), open_any()
    seen: list[str] = []
    here.hooks.on_pause(lambda event: seen.append("here"))
    there.hooks.on_pause(lambda event: seen.append("there"))
    here.spawn(PATH)
    there.agent(PATH).pause("p")  # the agent lives on the other host
    assert seen == ["here"]


def test_hooks_run_in_the_order_of_their_registration(system: AgentSystem) -> None:
    order: list[int] = []

    def numbered(number: int, asynchronous: bool) -> Any:
        async def later(event: LifecycleEvent) -> None:
            await asyncio.sleep(0)
            order.append(number)

        return later if asynchronous else (lambda event: order.append(number))

    for number in range(6):
        system.hooks.on_spawn(numbered(number, number % 2 == 1))
    system.spawn(PATH)
    assert order == list(range(6))


def test_a_hook_that_was_removed_is_not_called(system: AgentSystem) -> None:
    told: list[Any] = []
    on_all(system, told.append)
    system.hooks.remove(told.append)
    transitions(system)
    assert told == []


def test_a_refused_transition_is_told_to_no_hook(system: AgentSystem) -> None:
    told: list[Any] = []
    on_all(system, told.append)
    system.agent(PATH).pause("p")
    system.spawn(PATH)
    system.agent(PATH).ask(Spawn())
    system.agent(PATH).resume("nope")
    assert [event.event_type for event in told] == ["spawn"]


# -- that fail ---------------------------------------------------------------------------------------------------------


def failing(error: BaseException) -> Any:
    def fail(event: LifecycleEvent) -> None:
        raise error

    return fail


def async_failing(error: BaseException) -> Any:
    async def fail(event: LifecycleEvent) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [ValueError("secret"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), RecursionError(), TimeoutError("own")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("make", [failing, async_failing], ids=["sync", "async"])
def test_a_hook_that_raises_is_reported_and_stops_nothing(
    open_system: OpenSystem, promptly: Callable[..., Any], error: BaseException, make: Any
) -> None:
    system = open_system(settings=Settings(hook_timeout=5))
    told: list[Any] = []
    on_all(system, make(error))
    on_all(system, told.append)

    results = promptly(lambda: transitions(system), 15)

    assert len(told) == 4
    assert types(system) == ALL
    for result in results:
        assert result.success
        [line] = result.data["hook_errors"]
        assert type(error).__name__ in line
        assert "not done" not in line
        assert "secret" not in line


def no_arguments() -> None:
    """Cannot be called with an event."""


async def no_arguments_async() -> None:
    """Cannot be called with an event."""


@pytest.mark.parametrize("hook", [no_arguments, no_arguments_async, None, 5], ids=shown)
def test_a_hook_that_cannot_be_called_is_reported_or_refused(
    system: AgentSystem, promptly: Callable[..., Any], hook: Any
) -> None:
    system.spawn(PATH)
    try:
        system.hooks.on_pause(hook)
    except DuramenError:
        return
    result = promptly(lambda: system.agent(PATH).ask(Pause(), timeout=3))
    assert result.success
    assert len(result.data["hook_errors"]) == 1


def test_a_hook_that_hangs_is_reported_within_its_time_out(open_any: OpenSystem, gate: threading.Event) -> None:
    system = open_any(settings=QUICK)
    told: list[Any] = []

    async def hang_async(event: LifecycleEvent) -> None:
        await asyncio.Event().wait()

    def hang(event: LifecycleEvent) -> None:
        gate.wait()

    system.hooks.on_pause(hang)
    system.hooks.on_pause(hang_async)
    system.hooks.on_pause(told.append)
    agent = system.spawn(PATH)

    result = agent.ask(Pause())

    assert result.success
    first, second, *_ = result.data["hook_errors"]  # on a slow machine the last hook may be late, too
    assert [line.partition("<locals>.")[2] for line in (first, second)] == [
        "hang: not done after 0.2 s",
        "hang_async: not done after 0.2 s",
    ]
    eventually(lambda: len(told) == 1)
    assert types(system) == ["spawned", "paused"]


def test_a_hook_that_ends_after_its_time_out_is_no_defect(
    open_system: OpenSystem, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    system = open_system(settings=Settings(hook_timeout=0.05))
    made: list[Any] = []

    async def never_begun() -> None:
        pytest.fail("its time was over")

    def return_late(event: LifecycleEvent) -> None:
        gate.wait()

    def begin_late(event: LifecycleEvent) -> Any:
        gate.wait()
        made.append(never_begun())
        return made[0]

    def fail_late(event: LifecycleEvent) -> None:
        gate.wait()
        raise ValueError("secret")

    for hook in (return_late, begin_late, fail_late):
        system.hooks.on_pause(hook)
    assert len(system.spawn(PATH).ask(Pause()).data["hook_errors"]) == 3
    gate.set()
    system.close()
    assert "work_failed" not in caplog.text
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED


def test_a_hook_that_hangs_stalls_nobody_else(open_system: OpenSystem, gate: threading.Event) -> None:
    system = open_system(settings=Settings(hook_timeout=30))
    entered = threading.Event()

    def hang(event: LifecycleEvent) -> None:
        entered.set()
        gate.wait()

    system.hooks.on_pause(hang)
    agent, other = system.spawn(PATH), system.spawn("acme/other")
    reply = agent.ask(Pause(), block=False)
    assert entered.wait(30)
    other.set("a", 1)
    assert agent.get() == {}
    assert agent.status().status == "paused"
    assert not reply.done
    gate.set()
    assert reply.get(timeout=30).success


def test_a_hook_gets_its_own_copy_of_what_happened(system: AgentSystem) -> None:
    def spoil(event: LifecycleEvent) -> None:
        for told in (event.data, event.metadata):
            assert isinstance(told, dict)
            told.update(seq="spoilt", m="spoilt")

    seen: list[Any] = []
    on_all(system, spoil)
    on_all(system, lambda event: seen.append(event.data["seq"]))
    results = transitions(system)
    assert [result.data["seq"] for result in results] == [1, 2, 3, 5]
    assert seen == [1, 2, 3, 5]
    assert system.agent(PATH).status().metadata == {"m": 1}


# -- that do things ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_hook_may_send_messages_to_the_same_agent(any_system: AgentSystem, kind: str) -> None:
    agent = any_system.agent(PATH)

    def reenter(event: LifecycleEvent) -> None:
        agent.set("told", event.event_type)
        assert agent.get("told") == event.event_type
        assert agent.pause("inner").success
        with pytest.raises(AgentPaused):
            agent.set("x", 1)

    async def reenter_async(event: LifecycleEvent) -> None:
        await agent.aio.set("told", event.event_type)
        assert await agent.aio.get("told") == event.event_type
        inner = await agent.aio.pause("inner")
        assert inner.success

    any_system.hooks.on_spawn(reenter if kind == "sync" else reenter_async)
    result = agent.ask(Spawn(), timeout=10)
    assert "hook_errors" not in result.data
    assert types(any_system) == ["spawned", "memory_set", "paused"]


def test_a_hook_may_end_the_agent(any_system: AgentSystem) -> None:
    agent = any_system.agent(PATH)

    @any_system.hooks.on_pause
    def end(event: LifecycleEvent) -> None:
        assert agent.terminate().success

    any_system.spawn(PATH)
    result = agent.pause("p")
    assert result.success
    assert "hook_errors" not in result.data
    assert types(any_system) == ["spawned", "paused", "episode_recorded", "terminated"]


def test_a_hook_may_close_the_system(open_system: OpenSystem, promptly: Callable[..., Any]) -> None:
    system = open_system(settings=Settings(hook_timeout=1))
    agent = system.spawn(PATH)
    system.hooks.on_pause(lambda event: system.close(timeout=3))
    result = promptly(lambda: agent.ask(Pause(), timeout=5), 10)
    assert result.success
    with pytest.raises(SystemClosed):
        agent.get()
    assert types(open_system()) == ["spawned", "paused"]


@pytest.mark.slow
def test_what_was_told_before_the_end_is_still_told_to_hooks(open_system: OpenSystem) -> None:
    for number in range(20):
        system = open_system()
        told: list[Any] = []
        system.hooks.on_pause(told.append)
        for name in ("a", "b", "c"):
            system.spawn(f"p{number}/{name}").tell(Pause())
        system.close()
        assert len(told) == 3


# -- never at replay ---------------------------------------------------------------------------------------------------


def test_no_hook_is_called_for_what_is_only_replayed(open_any: OpenSystem) -> None:
    first = open_any()
    transitions(first)
    first.spawn(PATH)
    first.agent(PATH).pause("p")
    first.close()
    second = open_any(settings=Settings(snapshot_every=1))
    told: list[Any] = []
    on_all(second, told.append)
    assert second.agent(PATH).status().status == "paused"
    second.peek(PATH)
    list(second.events(PATH))
    assert told == []
    second.agent(PATH).resume("p")
    assert [event.event_type for event in told] == ["resume"]


def test_a_command_that_is_sent_again_is_not_told_again(any_system: AgentSystem) -> None:
    told: list[Any] = []
    on_all(any_system, told.append)
    agent = any_system.spawn(PATH, command_id="c-1")
    for _ in range(3):
        agent.pause("p", command_id="c-2")
        agent.resume("p", command_id="c-3")
    assert [event.event_type for event in told] == ["spawn", "pause", "resume"]


def test_the_effect_stands_where_the_caller_has_given_up_waiting(
    open_system: OpenSystem, gate: threading.Event
) -> None:
    system = open_system(settings=Settings(hook_timeout=30))
    begun = threading.Event()
    system.hooks.on_pause(lambda event: (begun.set(), gate.wait()))
    agent = system.spawn(PATH)
    reply = agent.ask(Pause(checkpoint_id="p"), block=False)
    assert begun.wait(10)
    with pytest.raises(AskTimeout):
        reply.get(timeout=0.01)
    assert agent.status().status == "paused"
    assert types(system) == ["spawned", "paused"]
    gate.set()


def test_custom_agents_hear_of_hooks_nothing_and_hooks_of_custom_messages_nothing(open_system: OpenSystem) -> None:
    class Quiet(Agent):
        def on_receive(self, message: Any) -> Any:
            self.set("a", 1)

    system = open_system(agents={"quiet": Quiet})
    told: list[Any] = []
    on_all(system, told.append)
    agent = system.spawn(PATH, agent_type="quiet")
    agent.ask("go")
    agent.set("b", 1)
    eventually(lambda: len(told) == 1)
    assert [event.event_type for event in told] == ["spawn"]
