"""A caller that waits no longer: its message is dropped where it is, here or on another host, unless it is begun."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, Set
from duramen.events import AskTimeout
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
