"""A handler that waits for a reply that cannot come is told so at once, and one that blocks the loop is named."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, LifecycleEvent, Pause
from duramen.events import CallCycle, LoopBlocked
from waiting import eventually

A, B = "acme/a", "acme/b"
Work = Callable[[Agent], Any]


class Caller(Agent):
    """Its messages are what it does."""

    def on_receive(self, message: Work) -> Any:
        return message(self)


@pytest.fixture
def system() -> Iterator[AgentSystem]:
    with AgentSystem.open("memory://", agents={"caller": Caller}) as opened:
        for path in (A, B):
            opened.spawn(path, agent_type="caller")
        yield opened


OWN: dict[str, Callable[[AgentSystem], Any]] = {
    "ask": lambda s: s.agent(A).ask(lambda me: None),
    "ask in vain for room": lambda s: s.agent(A).ask(lambda me: None, room=30),
    "get": lambda s: s.agent(A).get(),
    "set": lambda s: s.agent(A).set("n", 1),
    "status": lambda s: s.agent(A).status(),
    "pause": lambda s: s.agent(A).pause(),
    "pause with a command id": lambda s: s.agent(A).pause(command_id="p"),
    "spawn_child": lambda s: s.agent(A).spawn_child("kid"),
    "batch": lambda s: batch(s),
}


def batch(system: AgentSystem) -> None:
    with system.agent(A).batch() as gathered:
        gathered.set("n", 1)


@pytest.mark.parametrize("call", OWN.values(), ids=list(OWN))
def test_a_handler_that_would_wait_for_its_own_agent_is_told_and_nothing_is_sent(
    system: AgentSystem, call: Callable[[AgentSystem], Any]
) -> None:
    with pytest.raises(CallCycle, match="acme/a itself") as told:
        system.agent(A).ask(lambda me: call(system))
    assert told.value.agent == A
    assert (system.agent(A).status().seq, len(list(system.agents()))) == (1, 2)


AWAITED: dict[str, Callable[[AgentSystem], Any]] = {
    "ask": lambda s: s.agent(A).aio.ask(lambda me: None),
    "get": lambda s: s.agent(A).aio.get(),
    "set": lambda s: s.agent(A).aio.set("n", 1),
    "spawn_child": lambda s: s.agent(A).aio.spawn_child("kid"),
    "gather": lambda s: gathered(s),
}


async def gathered(system: AgentSystem) -> None:
    await asyncio.gather(system.agent(B).aio.get(), system.agent(A).aio.set("n", 1))


@pytest.mark.parametrize("call", AWAITED.values(), ids=list(AWAITED))
def test_a_coroutine_that_would_await_its_own_agent_is_told_and_nothing_is_sent(
    system: AgentSystem, call: Callable[[AgentSystem], Any]
) -> None:
    with pytest.raises(CallCycle, match="acme/a itself"):
        system.agent(A).ask(lambda me: call(system))
    assert (system.agent(A).status().seq, len(list(system.agents()))) == (1, 2)


def test_a_future_of_the_own_agent_is_refused_where_it_is_waited_for(system: AgentSystem) -> None:
    with pytest.raises(CallCycle):
        system.agent(A).ask(lambda me: system.agent(A).ask(lambda me: me.set("n", 1), block=False).get())
    assert system.agent(A).get("n") == 1, "it was sent, and its reply may be waited for elsewhere"


def test_a_circle_of_three_is_told_with_its_chain(system: AgentSystem) -> None:
    system.spawn("acme/c", agent_type="caller")

    def around(*paths: str) -> Work:
        if not paths:
            return lambda me: "nobody"
        return lambda me: system.agent(paths[0]).ask(around(*paths[1:]))

    with pytest.raises(CallCycle) as told:
        system.agent(A).ask(around(B, "acme/c", A))
    assert told.value.actual == "acme/c -> acme/a -> acme/b -> acme/c"
    assert system.agent(A).ask(around(B, "acme/c")) == "nobody", "the same chain without the circle"


def test_of_two_that_ask_each_other_at_the_same_moment_one_is_told(system: AgentSystem) -> None:
    both = threading.Barrier(2)

    def meet(other: str) -> Work:
        def work(me: Agent) -> str:
            both.wait(10)
            try:
                return str(system.agent(other).ask(lambda me: "reply"))
            except CallCycle:
                return "told"

        return work

    for _ in range(20):
        replies = [system.agent(A).ask(meet(B), block=False), system.agent(B).ask(meet(A), block=False)]
        assert sorted(reply.get(timeout=10) for reply in replies) == ["reply", "told"]


def test_two_coroutines_that_await_each_other_are_told(system: AgentSystem) -> None:
    async def back(me: Agent) -> Any:
        return await system.agent(A).aio.ask(lambda me: "reply")

    async def there(me: Agent) -> Any:
        return await system.agent(B).aio.ask(back)

    with pytest.raises(CallCycle, match="acme/a, which waits for acme/b"):
        system.agent(A).ask(there)


KID = f"{A}/kid"


def waits(system: AgentSystem, path: str) -> bool:
    """Whether a handler of the agent waits for a reply now."""
    mailbox = system._actors.find(path)
    return mailbox is not None and mailbox.waiter is not None and bool(mailbox.waiter.replies)


def test_a_tree_that_would_wait_for_a_child_that_waits_for_its_pause_is_told_and_not_paused(
    system: AgentSystem, gate: threading.Event
) -> None:
    system.agent(A).spawn_child("kid", agent_type="caller")
    begun = threading.Event()

    def pause(me: Agent) -> None:
        begun.set()
        gate.wait()
        system.agent(A).pause(cascade=True)

    reply = system.agent(KID).ask(pause, block=False)
    assert begun.wait(10)
    with system._services.dispatcher._core:  # so that the child waits before the pause is begun
        gate.set()
        eventually(lambda: waits(system, KID))
    with pytest.raises(CallCycle) as told:
        reply.get(timeout=10)
    assert told.value.agent == A
    assert system.agent(A).status().status == "running"


def test_a_child_that_would_wait_for_a_pause_of_its_whole_tree_is_told_and_paused_with_it(system: AgentSystem) -> None:
    system.agent(A).spawn_child("kid", agent_type="caller")

    def pause(me: Agent) -> None:
        paused = system.agent(A).ask(Pause(cascade=True), block=False)
        eventually(lambda: waits(system, A))
        paused.get()

    with pytest.raises(CallCycle) as told:
        system.agent(KID).ask(pause)
    assert told.value.agent == KID
    eventually(lambda: {system.agent(path).status().status for path in (A, KID)} == {"paused"})


@pytest.mark.slow
def test_replies_that_have_come_close_no_circle(system: AgentSystem) -> None:
    """Control: B waits for A until A has replied, and A, in its next message, for B."""
    for _ in range(200):
        first = system.agent(B).ask(lambda me: system.agent(A).ask(lambda me: "a"), block=False)
        assert first.get(timeout=10) == "a"
        assert system.agent(A).ask(lambda me: system.agent(B).ask(lambda me: "b")) == "b"


def test_the_same_path_in_another_system_is_another_agent(system: AgentSystem) -> None:
    with AgentSystem.open("memory://", agents={"caller": Caller}) as other:
        other.spawn(A, agent_type="caller", initial_state={"of": "other"})
        assert system.agent(A).ask(lambda me: other.agent(A).get("of")) == "other"


def test_telling_the_own_agent_is_allowed(system: AgentSystem) -> None:
    done = threading.Event()
    system.agent(A).ask(lambda me: system.agent(A).tell(lambda me: done.set()))
    assert done.wait(10)


def test_a_task_that_outlives_its_handler_may_wait_for_the_agent(system: AgentSystem) -> None:
    ended, seen = threading.Event(), threading.Event()
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        await asyncio.to_thread(ended.wait, 10)
        await system.agent(A).aio.get()
        seen.set()

    async def start(me: Agent) -> None:
        tasks.append(asyncio.create_task(later()))

    system.agent(A).ask(start)
    ended.set()
    assert seen.wait(10)


# -- the loop ----------------------------------------------------------------------------------------------------------


BLOCKING: dict[str, Callable[[AgentSystem], Any]] = {
    "get": lambda s: s.agent(B).get(),
    "set": lambda s: s.agent(B).set("n", 1),
    "ask": lambda s: s.agent(B).ask(lambda me: "b"),
    "spawn": lambda s: s.spawn("acme/new"),
    "spawn_child": lambda s: s.agent(B).spawn_child("kid"),
}


@pytest.mark.parametrize("call", BLOCKING.values(), ids=list(BLOCKING))
def test_a_call_that_blocks_is_refused_on_the_loop_and_nothing_is_sent(
    system: AgentSystem, call: Callable[[AgentSystem], Any]
) -> None:
    async def work(me: Agent) -> Any:
        return call(system)

    with pytest.raises(LoopBlocked, match="aio"):
        system.agent(A).ask(work)
    assert (system.agent(B).status().seq, len(list(system.agents()))) == (1, 2)


def test_a_future_that_is_not_there_is_refused_on_the_loop(system: AgentSystem) -> None:
    gate = threading.Event()

    async def work(me: Agent) -> Any:
        return system.agent(B).ask(lambda me: gate.wait(10), block=False).get()

    with pytest.raises(LoopBlocked):
        system.agent(A).ask(work)
    gate.set()


def test_a_hook_on_the_loop_is_refused_and_named(system: AgentSystem) -> None:
    @system.hooks.on_pause
    async def look(event: LifecycleEvent) -> None:
        system.agent(B).get()

    assert system.agent(A).pause().data["hook_errors"] == [f"{look.__qualname__}: LoopBlocked"]


def test_a_call_that_blocks_is_allowed_in_a_thread_of_a_coroutine(system: AgentSystem) -> None:
    """Control."""

    async def work(me: Agent) -> Any:
        return await asyncio.to_thread(system.agent(B).get, "n", "nothing")

    assert system.agent(A).ask(work) == "nothing"


class Records(logging.Handler):
    """Keeps what the loop's logger says."""

    def __init__(self) -> None:
        super().__init__()
        self.said = threading.Semaphore(0)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.said.release()


@pytest.fixture
def loop_log() -> Iterator[Records]:
    logger, records = logging.getLogger("duramen.loop"), Records()
    logger.addHandler(records)
    yield records
    logger.removeHandler(records)


@pytest.mark.slow
def test_a_handler_that_blocks_the_loop_is_logged_with_its_place(system: AgentSystem, loop_log: Records) -> None:
    async def deaf(me: Agent) -> bool:
        return loop_log.said.acquire(timeout=10)

    assert system.agent(A).ask(deaf, timeout=20), "it was logged while it blocked"
    [line] = loop_log.lines
    assert "loop_blocked" in line
    assert __file__ in line
    assert "in deaf" in line


@pytest.mark.slow
def test_the_place_is_the_handlers_also_where_all_threads_are_traced(
    loop_log: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = threading.Thread.run

    def traced(thread: threading.Thread) -> None:
        run(thread)

    monkeypatch.setattr(threading.Thread, "run", traced)

    async def deaf(me: Agent) -> bool:
        return loop_log.said.acquire(timeout=10)

    with AgentSystem.open("memory://", agents={"caller": Caller}) as system:
        system.spawn(A, agent_type="caller")
        assert system.agent(A).ask(deaf, timeout=20)
    assert "in deaf" in loop_log.lines[0]


@pytest.mark.slow
def test_a_handler_that_waits_without_blocking_is_not_logged(system: AgentSystem, loop_log: Records) -> None:
    """Control: it waits as long as it takes to log one that blocks."""
    with AgentSystem.open("memory://", agents={"caller": Caller}) as other:
        other.spawn(A, agent_type="caller")

        async def deaf(me: Agent) -> bool:
            return loop_log.said.acquire(timeout=10)

        async def patient(me: Agent) -> Any:
            return await asyncio.to_thread(lambda: other.agent(A).ask(deaf, timeout=20))

        assert system.agent(A).ask(patient, timeout=30)
    assert len(loop_log.lines) == 1, "that of the other system"
