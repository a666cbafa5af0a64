"""Messages that agents send themselves for later."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors import Agent, AgentSystem, Settings
from duramen.actors.dispatch.timers import _MOST_TOGETHER, DueTimers, Timer, Timers
from duramen.events import InvalidMessage, Limits

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
    timers.call_later(60, called.set).cancel()
    timers.call_later(61, later.set)
    timers.skip(62)
    assert later.wait(30)
    assert not called.is_set()
    timers.close(5)


def test_where_the_machine_gives_no_thread_a_timer_is_refused_and_the_next_one_asks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "duramen-timers":
            raise RuntimeError("can't start new thread")
        start(thread)

    timers, refused, called = Timers(), threading.Event(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            timers.call_later(0.0, refused.set)
    timers.call_later(0.0, called.set)  # due later than the first would have been
    assert called.wait(10)
    assert not refused.is_set(), "who was given an error is not called all the same"
    timers.close(10)


def test_time_that_is_skipped_makes_due_what_was_due_until_then() -> None:
    timers, order, done = Timers(), list[str](), threading.Event()
    timers.call_later(7200, lambda: order.append("too late"))
    timers.call_later(3600, lambda: (order.append("due"), done.set()))
    timers.call_later(3599, lambda: order.append("sooner"))
    timers.skip(3601)
    assert done.wait(30)
    timers.close(5)
    assert order == ["sooner", "due"]


def test_timers_call_in_the_order_in_which_they_are_due() -> None:
    timers, order, done = Timers(), [], threading.Event()
    timers.call_later(60.0, lambda: (order.append("later"), done.set()))
    timers.call_later(20.0, lambda: order.append("sooner"))
    timers.skip(60.0)
    assert done.wait(10)
    assert order == ["sooner", "later"]
    timers.close(5)


def test_a_call_that_raises_does_not_stop_the_others() -> None:
    timers, done = Timers(), threading.Event()
    timers.call_later(0.01, lambda: 1 / 0)
    timers.call_later(0.03, done.set)
    assert done.wait(10)
    timers.close(5)


class Caller(Agent):
    """Its messages are what it does."""

    def on_receive(self, message: Any) -> Any:
        return message(self)


@pytest.mark.parametrize("seconds", [0, -1, 1e-9, float("nan"), float("inf"), "1", None, True, timedelta(0)], ids=repr)
def test_a_repeated_timer_without_a_time_between_is_refused(open_system: OpenSystem, seconds: Any) -> None:
    agent = open_system(agents={"caller": Caller}).spawn("acme/a", agent_type="caller")
    with pytest.raises(InvalidMessage, match="seconds"):
        agent.ask(lambda me: me.schedule_every(seconds, lambda me: None))


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", None, True, timedelta(-1)], ids=repr)
def test_a_timer_at_no_time_is_refused(open_system: OpenSystem, seconds: Any) -> None:
    agent = open_system(agents={"caller": Caller}).spawn("acme/a", agent_type="caller")
    with pytest.raises(InvalidMessage, match="seconds"):
        agent.ask(lambda me: me.schedule_once(seconds, lambda me: None))


@pytest.mark.parametrize("seconds", [0, 0.01, timedelta(milliseconds=10)], ids=repr)
def test_a_timer_takes_seconds_or_a_timedelta(open_system: OpenSystem, seconds: Any) -> None:
    rung = threading.Event()
    agent = open_system(agents={"caller": Caller}).spawn("acme/a", agent_type="caller")
    agent.ask(lambda me: me.schedule_once(seconds, lambda me: rung.set()) and None)
    assert rung.wait(10)


def test_a_handler_that_raises_has_set_no_timer(open_system: OpenSystem) -> None:
    system = open_system(agents={"caller": Caller})
    agent, rung, later = system.spawn("acme/a", agent_type="caller"), threading.Event(), threading.Event()

    def fail(me: Agent) -> None:
        me.schedule_once(0, lambda me: rung.set())
        me.schedule_every(0.001, lambda me: rung.set())
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        agent.ask(fail)
    agent.ask(lambda me: me.schedule_once(0.1, lambda me: later.set()) and None)  # control
    assert later.wait(10)
    assert not rung.is_set()


def test_a_timer_that_finds_the_mailbox_full_rings_later(open_system: OpenSystem) -> None:
    system = open_system(
        agents={"caller": Caller}, limits=Limits(mailbox_messages=1), settings=Settings(passivate_after=0.1)
    )
    agent, rung, gate = system.spawn("acme/a", agent_type="caller"), threading.Event(), threading.Event()
    agent.ask(lambda me: me.schedule_once(3_600, lambda me: rung.set()) and None)
    entered, full = threading.Event(), threading.Event()
    blocking = agent.ask(lambda me: (entered.set(), gate.wait(60))[1], block=False)
    assert entered.wait(10)
    agent.tell(lambda me: None)  # the mailbox is full until the gate is opened
    timers = system._services.timers
    timers.call_later(3_600, full.set)  # after the timer has rung in vain
    timers.skip(3_601)
    assert full.wait(30)
    assert not rung.is_set()
    gate.set()
    assert blocking.get(timeout=30)
    assert rung.wait(30)


def test_timers_that_find_mailboxes_full_log_nothing(open_system: OpenSystem, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "duramen.timers")
    system = open_system(agents={"caller": Caller}, limits=Limits(mailbox_messages=1))
    agent, gate, later = system.spawn("acme/a", agent_type="caller"), threading.Event(), threading.Event()
    agent.ask(lambda me: me.schedule_every(0.001, lambda me: gate.wait(10)) and None)
    system._services.timers.call_later(0.1, later.set)
    assert later.wait(10)
    gate.set()
    assert [record for record in caplog.records if record.name == "duramen.timers"] == []


def test_a_cancelled_timer_lets_go_of_its_message() -> None:
    class Message:
        def __call__(self) -> None: ...

    message = Message()
    timers, known = Timers(), weakref.ref(message)
    timers.call_later(1_000, message).cancel()
    del message
    gc.collect()
    assert known() is None
    timers.close(5)


def test_cancelled_timers_are_not_kept_until_they_would_be_due() -> None:
    timers = Timers()
    due = [timers.call_later(1_000, lambda: None) for _ in range(100)]
    for _ in range(10_000):
        timers.call_later(1_000, lambda: None).cancel()
    assert len(list(timers._due)) < 500
    assert not any(timer.done for timer in due), "the others still are"
    timers.close(5)


@given(
    most=st.sampled_from([4, 8, 2_048]),
    steps=st.lists(st.one_of(st.integers(0, 50), st.just("pop"), st.just("cancel")), max_size=400),
)
def test_timers_of_several_heaps_come_as_those_of_one(most: int, steps: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("duramen.actors.dispatch.timers._MOST_TOGETHER", most)
        patch.setattr("duramen.actors.dispatch.timers._LEAST_KEPT", 2)
        timers, model = DueTimers(), list[tuple[float, int, Timer]]()
        for number, step in enumerate(steps):
            if step == "cancel" and model:
                model.pop(len(model) // 2)[2].cancel()
            elif step == "pop" and model:
                while (found := timers.pop()).done:
                    pass
                assert found is model.pop(0)[2]
            elif isinstance(step, int):
                timer = Timer(int, float(step), None)
                timers.push(timer)
                model = sorted([*model, (timer.due, number, timer)], key=lambda entry: entry[:2])
        assert {timer for timer in timers if not timer.done} == {timer for _, _, timer in model}
        while (due := timers.first_due()) is not None:
            found = timers.pop()
            assert found.due == due
            if not found.done:
                assert found is model.pop(0)[2]
        assert model == []


@pytest.mark.slow
def test_no_more_than_some_timers_are_looked_through_at_once_and_cancelled_ones_go_all_the_same() -> None:
    timers = DueTimers()
    kept = [Timer(int, float(number), None) for number in range(20_000)]
    for timer in kept:
        timers.push(timer)
    for timer in kept[::2]:
        timer.cancel()
    assert max(map(len, timers._heaps)) <= _MOST_TOGETHER
    for number in range(40_000):
        timer = Timer(int, float(number), None)
        timers.push(timer)
        timer.cancel()
    assert max(map(len, timers._heaps)) <= _MOST_TOGETHER
    assert len(list(timers)) < 15_000, "all but the 10,000 that are left, and the newest"
