"""Messages that agents send themselves for later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from duramen.actors import Agent, AgentSystem
from duramen.actors.dispatch.timers import Timers

OpenSystem = Callable[..., AgentSystem]


class Clock(Agent):
    """Ticks into working memory; `ticked` is set at the third tick."""

    ticked: threading.Event

    def on_receive(self, message: Any) -> None:
        if message == "tick":
            self.append("ticks", len(self.get("ticks", [])))
            if len(self.get("ticks")) == 3:
                self.after_commit(self.ticked.set)
        elif message == "once":
            self.schedule_once(0.01, "tick")
        else:
            self.schedule_every(0.01, "tick")


def _clock() -> type[Clock]:
    return type("Clock_", (Clock,), {"ticked": threading.Event()})


def test_a_repeated_timer_tells_the_agent_again_and_again(open_any: OpenSystem) -> None:
    kind = _clock()
    agent = open_any(agents={"clock": kind}).spawn("acme/clock", agent_type="clock")
    agent.ask("every")
    assert kind.ticked.wait(10)
    assert agent.get("ticks")[:3] == [0, 1, 2]


def test_a_timer_for_once_tells_the_agent_once(open_system: OpenSystem) -> None:
    kind = _clock()
    agent = open_system(agents={"clock": kind}).spawn("acme/clock", agent_type="clock")
    for _ in range(3):
        agent.ask("once")
    assert kind.ticked.wait(10)
    assert agent.get("ticks") == [0, 1, 2]


def test_terminating_an_agent_ends_its_timers(open_system: OpenSystem) -> None:
    kind = _clock()
    system = open_system(agents={"clock": kind})
    agent = system.spawn("acme/clock", agent_type="clock")
    agent.ask("every")
    assert kind.ticked.wait(10)
    agent.terminate()
    ended = agent.status().seq
    beat = threading.Event()
    system._services.timers.call_later(0.1, beat.set)  # ten ticks later
    assert beat.wait(10)
    assert agent.status().seq == ended


def test_a_cancelled_timer_does_not_call() -> None:
    timers, called, later = Timers(), threading.Event(), threading.Event()
    timers.call_later(0.01, called.set).cancel()
    timers.call_later(0.05, later.set)
    assert later.wait(10)
    assert not called.is_set()
    timers.close(5)


def test_timers_call_in_the_order_in_which_they_are_due() -> None:
    timers, order, done = Timers(), [], threading.Event()
    timers.call_later(0.06, lambda: (order.append("later"), done.set()))
    timers.call_later(0.02, lambda: order.append("sooner"))
    assert done.wait(10)
    assert order == ["sooner", "later"]
    timers.close(5)


def test_a_call_that_raises_does_not_stop_the_others() -> None:
    timers, done = Timers(), threading.Event()
    timers.call_later(0.01, lambda: 1 / 0)
    timers.call_later(0.03, done.set)
    assert done.wait(10)
    timers.close(5)
