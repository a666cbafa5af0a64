"""A caller that waits no longer: its message is dropped where it is, here or on another host, unless it is begun."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, Append, Set
from duramen.actors.dispatch import WORKING, ThreadPool
from duramen.actors.runtime import forwarding
from duramen.events import AskTimeout, Limits
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"


class Counter(Agent):
    """Appends each message; waits for the gate if it is told to."""

    gate: threading.Event
    entered: threading.Event

    def on_receive(self, message: Any) -> None:
        self.append("done", message)
        if message == "wait":
            self.entered.set()
            self.gate.wait()


@pytest.fixture
def counter(gate: threading.Event) -> Iterator[type[Counter]]:
    class Gated(Counter):
        pass

    Gated.gate, Gated.entered = gate, threading.Event()
    yield Gated
    gate.set()


@pytest.fixture(params=["here", "another host"])
def systems(request: pytest.FixtureRequest, open_any: OpenSystem, counter: type[Counter]) -> list[AgentSystem]:
    """The agent's host, and the system of its callers, which may be the same."""
    host = open_any(agents={"counter": counter})
    host.spawn(PATH, agent_type="counter", initial_state={"done": []})
    return [host, host if request.param == "here" else open_any(host=False)]


def waiting(host: AgentSystem) -> list[Any]:
    """The messages in the agent's mailbox."""
    mailbox = host._actors.find(PATH)
    return [] if mailbox is None else [envelope.message for envelope in mailbox.waiting]


def test_a_call_that_times_out_in_line_is_dropped(systems: list[AgentSystem], counter: type[Counter]) -> None:
    host, callers = systems
    agent = callers.agent(PATH)
    running = agent.ask("wait", block=False)
    assert counter.entered.wait(10)
    for message in ("late", Set("late", 1)):
        with pytest.raises(AskTimeout):
            agent.ask(message, timeout=0.02)
    later = agent.ask("later", block=False)
    eventually(lambda: waiting(host) == ["later"])
    counter.gate.set()
    running.get(timeout=10)
    later.get(timeout=10)
    assert host.agent(PATH).get() == {"done": ["wait", "later"]}


def test_a_call_that_times_out_once_it_is_begun_is_carried_out(
    systems: list[AgentSystem], counter: type[Counter]
) -> None:
    """Control."""
    host, callers = systems

    async def main() -> None:
        call = asyncio.create_task(callers.agent(PATH).aio.ask("wait", timeout=None))
        assert await asyncio.to_thread(counter.entered.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    counter.gate.set()
    eventually(lambda: host.agent(PATH).get("done") == ["wait"])


def test_a_cancelled_call_is_dropped_and_the_others_keep_their_order(
    systems: list[AgentSystem], counter: type[Counter]
) -> None:
    host, callers = systems

    async def main() -> None:
        alice = callers.agent(PATH).aio
        running = asyncio.create_task(alice.ask("wait"))
        assert await asyncio.to_thread(counter.entered.wait, 10)
        calls = [asyncio.create_task(alice.ask(number)) for number in range(20)]
        await asyncio.to_thread(eventually, lambda: waiting(host) == [*range(20)])
        for call in calls[::2]:
            call.cancel()
        await asyncio.gather(*calls[::2], return_exceptions=True)
        await asyncio.to_thread(eventually, lambda: waiting(host) == [*range(1, 20, 2)])
        counter.gate.set()
        await asyncio.gather(running, *calls[1::2])

    asyncio.run(main())
    assert host.agent(PATH).get("done") == ["wait", *range(1, 20, 2)]


def test_a_stashed_message_whose_caller_is_gone_is_not_handled_after_the_resume(systems: list[AgentSystem]) -> None:
    host, callers = systems
    agent = callers.agent(PATH)
    agent.pause(when_paused="stash")
    with pytest.raises(AskTimeout):
        agent.ask("late", timeout=0.05)
    with pytest.raises(AskTimeout):
        agent.ask("late", timeout=0.05, command_id="c-1")
    agent.resume()
    agent.ask("later")
    assert host.agent(PATH).get("done") == ["later"]


def test_a_reply_that_is_kept_may_be_waited_for_again(systems: list[AgentSystem], counter: type[Counter]) -> None:
    """`get` on a future gives up waiting, not the message."""
    _host, callers = systems
    agent = callers.agent(PATH)
    agent.tell("wait")
    assert counter.entered.wait(10)
    kept = agent.ask(Set("n", 1), block=False)
    with pytest.raises(AskTimeout):
        kept.get(timeout=0.01)
    counter.gate.set()
    assert kept.get(timeout=10).seq == 3


def test_a_message_that_waits_for_a_thread_is_dropped(open_system: OpenSystem, counter: type[Counter]) -> None:
    """It is the first in the mailbox, and no thread has taken it."""
    system = open_system(agents={"counter": counter})
    system._services.thread_pool.close(30)
    system._services.thread_pool = pool = ThreadPool("only", 1)
    system.spawn(PATH, agent_type="counter", initial_state={"done": []})
    pool.submit(counter.gate.wait)
    alice = system.agent(PATH)
    late = alice.ask("late", block=False)
    eventually(lambda: system._actors.find(PATH).phase == WORKING)
    later = alice.ask("later", block=False)
    system.withdraw(PATH, late)
    with pytest.raises(AskTimeout, match="dropped"):
        late.get(timeout=30)
    counter.gate.set()
    later.get(timeout=30)
    assert alice.get("done") == ["later"]


@pytest.mark.slow
def test_a_message_that_a_thread_takes_just_then_is_dropped_or_handled_and_never_both(open_system: OpenSystem) -> None:
    class Noting(Agent):
        def on_receive(self, message: Any) -> None:
            self.append("done", message)

    system = open_system(agents={"noting": Noting})
    alice = system.spawn(PATH, agent_type="noting", initial_state={"done": []})
    handled: list[int] = []
    for number in range(200):
        replies = [alice.ask(3 * number + place, block=False) for place in range(3)]
        system.withdraw(PATH, replies[number % 2])
        for place, reply in enumerate(replies):
            try:
                reply.get(timeout=30)
            except AskTimeout:
                assert place == number % 2
            else:
                handled.append(3 * number + place)
    assert alice.get("done") == handled


@pytest.mark.parametrize("is_client", [False, True])
def test_a_message_whose_agent_is_being_read_is_dropped(
    open_system: OpenSystem, counter: type[Counter], monkeypatch: pytest.MonkeyPatch, is_client: bool
) -> None:
    """It is the one that the agent is brought into memory for."""
    first = open_system(agents={"counter": counter})
    first.spawn(PATH, agent_type="counter", initial_state={"done": []})
    if not is_client:
        first.close()
    system = open_system(host=False) if is_client else open_system(agents={"counter": counter})
    gate, entered, store = counter.gate, threading.Event(), system._services.hosting.store
    locate = store.locate

    def locate_slowly(agent: str) -> Any:
        entered.set()
        assert gate.wait(30)
        return locate(agent)

    monkeypatch.setattr(store, "locate", locate_slowly)
    alice = system.agent(PATH)
    late = alice.ask("late", block=False)
    assert entered.wait(30)
    system.withdraw(PATH, late)
    later = alice.ask("later", block=False)
    passed = threading.Event()
    system._services.dispatcher.post(passed.set)  # what was posted before it is done
    assert passed.wait(30)
    gate.set()
    with pytest.raises(AskTimeout, match="dropped"):
        late.get(timeout=30)
    later.get(timeout=30)
    assert alice.get("done") == ["later"]


def test_a_message_whose_large_values_are_being_stored_is_dropped(
    open_any: OpenSystem, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(event_bytes=4_096, batch_bytes=16_384, text_bytes=50_000)
    host, asker = open_any(limits=limits), open_any(limits=limits)
    host.spawn(PATH)
    storing, store = threading.Event(), forwarding.store_contents

    def store_slowly(*given: Any) -> Any:
        storing.set()
        assert gate.wait(30)
        return store(*given)

    monkeypatch.setattr(forwarding, "store_contents", store_slowly)
    alice = asker.agent(PATH)
    late = alice.ask(Append("l", "x" * 45_000), block=False)
    assert storing.wait(30)
    later = alice.ask(Append("l", "later"), block=False)
    asker.withdraw(PATH, late)
    with pytest.raises(AskTimeout, match="dropped"):
        late.get(timeout=10)
    gate.set()
    later.get(timeout=30)
    assert host.agent(PATH).get("l") == ["later"]
