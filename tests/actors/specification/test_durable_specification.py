"""Durable handlers are specified: steps and answers are given, and no time passes."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import Agent, Pause, Retry, Set
from duramen.actors.dispatch.timers import Timer, Timers
from duramen.actors.specification import NotAsSpecified, spec
from duramen.events import AgentPaused, EventRegistry, StepFailed, WaitExpired, event_type, message_type

REGISTRY = EventRegistry()


@event_type("refund_paid", registry=REGISTRY)
@frozen
class RefundPaid:
    order: str


@message_type("refund", durable=True, registry=REGISTRY)
@frozen
class Refund:
    order: str


def never(*_: Any) -> Any:
    raise AssertionError("the world outside was reached")


async def never_async(*_: Any) -> Any:
    never()


class Support(Agent):
    async def on_receive(self, message: Any) -> Any:
        plan = await self.step("plan", never_async, message.order)
        self.set("plan", plan)
        verdict = await self.wait_for("approval", about=plan, timeout=timedelta(days=2))
        if not verdict["ok"]:
            raise LookupError("refused")
        await self.sleep(timedelta(days=1))
        paid = await self.step("pay", never, plan["amount"], retry=Retry(times=3, backoff=60.0, never="ValueError"))
        self.emit(RefundPaid(message.order))
        return paid

    def initial(self) -> Any:
        return {"paid": 0}

    def apply(self, state: Any, event: Any) -> Any:
        return {"paid": state["paid"] + 1}


support = spec(Support, registry=REGISTRY)
planned = support.steps({"plan": {"amount": 40}, "pay": lambda amount: f"paid {amount}"})
approved = planned.answers({"approval": {"ok": True}})


def failure_of(check: Any) -> str:
    with pytest.raises(NotAsSpecified) as failed:
        check()
    return str(failed.value)


def test_a_durable_message_is_handled_to_its_end_with_what_is_given() -> None:
    came = approved.when(Refund("o-17"))
    came.then(Set("plan", {"amount": 40}), RefundPaid("o-17")).replies("paid 40").has_state({"paid": 1})
    came.begins("plan", "approval", "sleep", "pay").remembers({"plan": {"amount": 40}})


def test_it_begins_after_what_was_given() -> None:
    approved.given(RefundPaid("o-1"), Set("goal", 1)).when(Refund("o-2")).has_state({"paid": 2}).remembers(
        {"goal": 1, "plan": {"amount": 40}}
    )
    approved.given(Pause()).when(Refund("o-2")).raises(AgentPaused)


@pytest.mark.slow
def test_an_answer_can_depend_on_what_it_is_about() -> None:
    small = planned.answers({"approval": lambda about: {"ok": about["amount"] < 30}})
    small.when(Refund("o-17")).raises(LookupError, "refused").remembers({"plan": {"amount": 40}})
    small.steps({"plan": {"amount": 20}}).when(Refund("o-17")).replies("paid 20")


def test_without_an_answer_the_deadline_passes_or_the_handler_waits() -> None:
    planned.when(Refund("o-17")).raises(WaitExpired, "approval").begins("plan", "approval")

    class Patient(Support):
        async def on_receive(self, message: Any) -> Any:
            return await self.wait_for("approval")

    came = spec(Patient, registry=REGISTRY).when(Refund("o-17"))
    came.waits_for("approval").nothing()
    assert "has no end: it waits for approval" in failure_of(lambda: came.replies(None))
    assert "+ approval" in failure_of(lambda: came.waits_for())


def test_time_is_not_skipped_between_a_look_at_the_clock_and_the_timer_that_is_set_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skipped, call_later, skip = threading.Event(), Timers.call_later, Timers.skip

    def call_late(timers: Timers, seconds: float, call: Any) -> Timer:
        if seconds > 100_000.0:  # the deadline of the answer, in two days
            skipped.wait(0.2)
        return call_later(timers, seconds, call)

    def skip_and_tell(timers: Timers, seconds: float) -> None:
        skip(timers, seconds)
        skipped.set()

    monkeypatch.setattr(Timers, "call_later", call_late)
    monkeypatch.setattr(Timers, "skip", skip_and_tell)
    planned.when(Refund("o-17")).raises(WaitExpired, "approval")


@pytest.mark.slow
def test_steps_can_fail_and_are_tried_again_at_once() -> None:
    tries: list[int] = []

    def pay(amount: int) -> str:
        tries.append(amount)
        if len(tries) < 3:
            raise ConnectionError("lost")
        return "at last"

    approved.steps({"pay": pay}).when(Refund("o-17")).replies("at last")
    assert tries == [40, 40, 40]
    approved.steps({"pay": ValueError("no such card")}).when(Refund("o-17")).raises(StepFailed, "no such card")
    approved.steps({"plan": ConnectionError}).when(Refund("o-17")).raises(StepFailed).begins("plan")


def test_a_step_without_a_result_is_named() -> None:
    told = failure_of(
        lambda: support.steps({"plan": {"amount": 1}}).answers({"approval": {"ok": True}}).when(Refund(""))
    )
    assert "steps that have no result here: 'pay'" in told


def test_without_results_the_steps_themselves_run() -> None:
    class Real(Agent):
        async def on_receive(self, message: Any) -> Any:
            return await asyncio.gather(*(self.step(name, str.upper, name) for name in ("a", "b")))

    spec(Real, registry=REGISTRY).when(Refund("o-17")).replies(["A", "B"]).begins("a", "b")


def test_what_differs_is_shown() -> None:
    came = approved.when(Refund("o-17"))
    assert "+ memory_set" in failure_of(lambda: came.then(RefundPaid("o-17")))
    assert "- pay\n  plan" in failure_of(lambda: came.begins("pay", "plan", "approval", "sleep"))
    assert "- 'paid 41'" in failure_of(lambda: came.replies("paid 41"))


def test_a_state_that_the_log_does_not_give_is_found() -> None:
    class Leaks(Support):
        extra = 0

        async def on_receive(self, message: Any) -> Any:
            self.extra = 7
            self.emit(RefundPaid(message.order))

        def apply(self, state: Any, event: Any) -> Any:
            return {"paid": state["paid"] + self.extra}

    leaks = spec(Leaks, registry=REGISTRY)
    assert "is not what replaying the log gives" in failure_of(lambda: leaks.when(Refund("o-17")))


class SleepsForEver(Agent):
    async def on_receive(self, message: Any) -> Any:
        while True:
            await self.sleep(60)


def test_a_handler_without_an_end_is_told_and_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duramen.actors.specification.scripted_work._MOST_ACTS", 20)
    told = failure_of(lambda: spec(SleepsForEver, registry=REGISTRY).when(Refund("o-17")).nothing())
    assert "give its handler an end" in told
