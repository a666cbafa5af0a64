"""A system is closed within its time-out whatever hangs, from anywhere, and again after an interrupt."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, Spawn, Supervision
from duramen.actors.dispatch import WORKING
from duramen.events import SystemClosed
from waiting import eventually

PATH = "acme/alice"
Work = Callable[[Agent], Any]


class Caller(Agent):
    """Its messages are what it does."""

    def on_receive(self, message: Work) -> Any:
        return message(self)


class Restarts(Agent):
    supervision = Supervision(strategy="restart", first_pause=1_000.0, longest_pause=1_000.0)

    def on_receive(self, message: Any) -> Any:
        raise ValueError(message)


@pytest.fixture
def threads_before() -> set[threading.Thread]:
    """Those of other tests; to be asked for ahead of `system`."""
    return set(threading.enumerate())


@pytest.fixture
def system() -> Iterator[AgentSystem]:
    with AgentSystem.open("memory://", agents={"caller": Caller, "restarts": Restarts}) as opened:
        yield opened


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end, so that no test leaves a thread that waits."""
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged of the closing."""
    caplog.set_level(logging.WARNING, "duramen.system")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "duramen.system"]


def core_threads(before: set[threading.Thread]) -> int:
    """How many cores run that did not run before."""
    return sum(thread.name == "duramen-core" for thread in set(threading.enumerate()) - before)


def test_closing_waits_for_no_restart_where_nothing_is_to_be_handled(
    system: AgentSystem, said: Callable[[], list[str]]
) -> None:
    agent = system.spawn(PATH, agent_type="restarts")
    with pytest.raises(ValueError, match="x"):
        agent.ask("x")
    system.close(timeout=20)
    assert said() == []


def test_closing_says_when_its_time_was_not_enough(
    system: AgentSystem, gate: threading.Event, said: Callable[[], list[str]]
) -> None:
    """Control."""
    agent, entered = system.spawn(PATH, agent_type="caller"), threading.Event()
    reply = agent.ask(lambda me: (entered.set(), gate.wait(20))[1], block=False)
    assert entered.wait(10)
    system.close(timeout=0.2)
    assert "close_timed_out" in said()[0]
    with pytest.raises(SystemClosed):
        reply.get(timeout=5)


def test_what_no_thread_was_free_for_is_refused_and_no_defect_when_one_is(
    system: AgentSystem, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entered = threading.Event()
    monkeypatch.setattr(system._services.thread_pool, "_most", 1)
    first, second = (system.spawn(path, agent_type="caller") for path in (PATH, "acme/bob"))
    first.tell(lambda me: (entered.set(), gate.wait(20)))
    assert entered.wait(10)
    reply = second.ask(lambda me: "handled", block=False)
    mailbox = system._actors.find("acme/bob")
    assert mailbox is not None
    eventually(lambda: mailbox.phase == WORKING)
    system.close(timeout=0.1)
    with pytest.raises(SystemClosed):
        reply.get(timeout=10)
    gate.set()
    assert system._services.thread_pool.close(10)
    assert "work_failed" not in caplog.text


def test_what_waits_for_an_agent_that_is_not_in_memory_is_handled_before_the_end(system: AgentSystem) -> None:
    """The host takes no more trees while it closes; but there is no other one that could."""
    replies = [
        system.agent(f"acme/new-{number}").ask(Spawn(command_id="begin"), block=False)  # looked up before it is made
        for number in range(20)
    ]
    system.close()
    assert all(reply.get(timeout=5).success for reply in replies)


def test_a_closing_that_was_interrupted_is_finished_by_the_next(
    threads_before: set[threading.Thread], gate: threading.Event
) -> None:
    system = AgentSystem.open("memory://", agents={"caller": Caller})
    agent, entered = system.spawn(PATH, agent_type="caller"), threading.Event()
    reply = agent.ask(lambda me: (entered.set(), gate.wait(20))[1], block=False)
    assert entered.wait(10)

    def interrupt() -> None:
        never = threading.Event()
        while True:
            try:
                agent.tell(lambda me: None)
            except SystemClosed:
                break
            never.wait(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        system.close()
    assert core_threads(threads_before) == 1
    gate.set()
    system.close()
    assert core_threads(threads_before) == 0
    assert reply.get(timeout=5) is True


def call(system: AgentSystem, me: Agent) -> str:
    system.close()
    return "closed"


async def in_a_thread(system: AgentSystem) -> str:
    await asyncio.to_thread(system.close)
    return "closed"


async def on_the_loop(system: AgentSystem) -> str:
    system.close()
    return "closed"


HANDLERS: dict[str, Callable[[AgentSystem], Work]] = {
    "in a worker thread": lambda system: lambda me: call(system, me),
    "in a thread of a coroutine": lambda system: lambda me: in_a_thread(system),
    "on the loop": lambda system: lambda me: on_the_loop(system),
}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=list(HANDLERS))
def test_a_handler_that_closes_its_system_returns_and_is_answered(
    system: AgentSystem, handler: Callable[[AgentSystem], Work], said: Callable[[], list[str]]
) -> None:
    assert system.spawn(PATH, agent_type="caller").ask(handler(system)) == "closed"
    system.close()
    assert said() == []


def test_hooks_effects_and_callbacks_that_close_the_system_return(said: Callable[[], list[str]]) -> None:
    for place in ("hook", "effect", "callback", "coroutine callback"):
        system = AgentSystem.open("memory://", agents={"caller": Caller})
        returned = threading.Event()

        def close(*_: Any, system: AgentSystem = system, returned: threading.Event = returned) -> None:
            system.close()
            returned.set()

        async def closing(*_: Any, close: Callable[[], None] = close) -> None:
            close()

        agent = system.spawn(PATH, agent_type="caller")
        if place == "hook":
            system.hooks.on_pause(close)
            assert agent.pause().success
        elif place == "effect":
            agent.ask(lambda me, close=close: me.after_commit(close))
        else:
            system.subscribe("**", close if place == "callback" else closing)
            agent.set("n", 1)
        assert returned.wait(10), place
        system.close()
        assert said() == [], place


def test_a_second_thread_waits_for_the_first(system: AgentSystem, gate: threading.Event) -> None:
    entered, closed = threading.Event(), threading.Event()
    reply = system.spawn(PATH, agent_type="caller").ask(lambda me: (entered.set(), gate.wait(20))[1], block=False)
    assert entered.wait(10)
    threads = [threading.Thread(target=lambda: (system.close(), closed.set())) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert not closed.wait(0.05), "a handler runs still"
    gate.set()
    for thread in threads:
        thread.join(10)
    assert reply.get(timeout=5) is True


def drop(opened: list[AgentSystem]) -> None:
    opened.clear()
    gc.collect()


def test_a_system_that_is_dropped_without_close_is_warned_about() -> None:
    system = AgentSystem.open("memory://")
    system.spawn(PATH).set("n", 1)
    parts = system._services
    opened = [system]
    del system
    with pytest.warns(ResourceWarning, match="dropped without close"):
        drop(opened)
    assert parts.dispatcher.close(5)
    parts.timers.close(5)
    parts.thread_pool.close(5)
    links = parts.hosting.router._links
    assert links is not None
    links.close(5)
    parts.hosting.membership.close(5)


def test_a_system_that_was_closed_is_dropped_without_a_warning() -> None:
    """Control."""
    with AgentSystem.open("memory://") as system:
        system.spawn(PATH).set("n", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del system
        gc.collect()


def test_what_is_looked_after_while_the_last_messages_of_hosts_come_has_ended(
    threads_before: set[threading.Thread], system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that leaves is looked after by a worker, also when all else has been closed."""
    looked: list[str] = []
    hosted = system._hosted
    close = hosted.close

    def refresh() -> None:
        threading.Event().wait(0.3)
        looked.append(threading.current_thread().name)

    def close_late(timeout: float) -> None:
        hosted._on_left()
        hosted.on_died()
        close(timeout)

    monkeypatch.setattr(hosted, "close", close_late)
    monkeypatch.setattr(hosted, "_refresh", refresh)
    system.close()
    assert [name.rpartition("-")[0] for name in looked] == ["duramen-activation"]
    left = set(threading.enumerate()) - threads_before
    assert not any(thread.name.startswith("duramen-worker") for thread in left)
