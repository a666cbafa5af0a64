"""Handlers of durable messages are interrupted after every append; what their log does not bring is found."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from attrs import frozen
from hypothesis import strategies as st

from duramen.actors import Agent, Retry
from duramen.actors.verification import LawBroken, check, check_interruptions
from duramen.events import EventRegistry, InvalidMessage, StepFailed, message_type

REGISTRY = EventRegistry()
GOES_ON = "work that is interrupted goes on from its log"
SAME_END = "an interruption changes nothing"
ANY_ORDER = "the order in which steps end does not matter"


@message_type("errand", durable=True, registry=REGISTRY)
@frozen
class Errand:
    what: int


JOBS = st.builds(Errand, st.integers(0, 3))
ANSWERS = {"approval": lambda about: {"ok": True, "about": about}}


def double(value: int) -> int:
    return 2 * value


async def name(value: int) -> str:
    return f"n{value}"


class Sound(Agent):
    """It uses everything that a durable handler can await, and nothing else; the faults are small changes of it."""

    async def on_receive(self, message: Any) -> Any:
        if type(message) is not Errand:
            return self.set("told", message)
        plan = await self.step("plan", double, message.what)
        self.set(f"plans/{message.what}", plan)
        pair = await asyncio.gather(self.step("left", name, plan), self.step("right", double, plan))
        await self.between(message.what)
        verdict = await self.wait_for("approval", about=plan, timeout=60)
        await self.sleep(3600)
        self.append("done", [verdict["ok"], str(self.now()), str(self.uuid()), self.random()])
        return [pair, verdict, await self.step("last", name, plan)]

    async def between(self, what: int) -> None:
        """Where the faults are."""


def look(agent: Callable[[], Agent], **options: Any) -> Any:
    return check_interruptions(agent, JOBS, registry=REGISTRY, answers=ANSWERS, seed=1, examples=3, **options)


def test_a_sound_handler_may_be_interrupted_anywhere() -> None:
    assert look(Sound).held == (SAME_END, ANY_ORDER, GOES_ON)


def test_each_step_is_called_once_however_often_it_is_interrupted() -> None:
    calls: Counter[int] = Counter()

    def count(value: int) -> int:
        calls[value] += 1
        return calls[value]

    class Counting(Agent):
        async def on_receive(self, message: Any) -> Any:
            return [await self.step("count", count, number) for number in range(3)]

    check_interruptions(Counting, st.just(Errand(1)), registry=REGISTRY, seed=1, examples=1)
    assert set(calls.values()) <= {1, 2}  # there are one or two messages


class LooksAtTheClock(Sound):
    async def between(self, what: int) -> None:
        self.set("at", time.time())


class WaitsByTheClock(Sound):
    async def between(self, what: int) -> None:
        if time.time() < 2_000_000_000:
            await self.step("still early", name, what)


class ThrowsDice(Sound):
    async def between(self, what: int) -> None:
        await self.step("dice", double, random.randrange(1_000_000))


class MakesIds(Sound):
    async def between(self, what: int) -> None:
        self.set("id", str(uuid4()))


class KeepsWhatItSaw(Sound):
    """In the object: gone when another one goes on."""

    seen = 0

    async def between(self, what: int) -> None:
        self.seen += 1
        self.set("seen", self.seen)


class RepliesWithTheClock(Sound):
    """Nothing of it is in the log until the end."""

    async def on_receive(self, message: Any) -> Any:
        await super().on_receive(message)
        return time.time()


def counts_in_a_global() -> type[Agent]:
    counted = Counter[str]()

    class CountsInAGlobal(Sound):
        async def between(self, what: int) -> None:
            counted["calls"] += 1
            self.set("calls", counted["calls"])

    return CountsInAGlobal


def remembers_in_a_global() -> type[Agent]:
    known: dict[int, str] = {}

    class RemembersInAGlobal(Sound):
        """It is well the second time: its step is left out then in the first run, too."""

        async def between(self, what: int) -> None:
            if what not in known:
                known[what] = await self.step("look up", name, what)

    return RemembersInAGlobal


def sees_steps_end() -> type[Agent]:
    ended: list[str] = []

    class SeesStepsEnd(Sound):
        """Past the log: steps that do not run again do not write into its list."""

        async def between(self, what: int) -> None:
            ended.clear()
            await asyncio.gather(*(self.step(side, ended.append, side) for side in ("left", "right")))
            self.set("ended", list(ended))

    return SeesStepsEnd


class TakesTheFirst(Sound):
    """By the log, but it comes to something else when its steps end in another order."""

    async def between(self, what: int) -> None:
        steps = [asyncio.create_task(self.step(side, name, what)) for side in ("left", "right")]
        for step in asyncio.as_completed(steps):
            await step
        await asyncio.gather(*(self.note(side) for side in ("left", "right")))

    async def note(self, side: str) -> None:
        await self.step(side, double, 1)
        self.append("in order", side)


FAULTS = {
    "looks at the clock": (lambda: LooksAtTheClock, {SAME_END}),
    "decides by the clock": (lambda: WaitsByTheClock, {GOES_ON, SAME_END}),
    "draws a random number": (lambda: ThrowsDice, {GOES_ON, SAME_END}),
    "makes an id": (lambda: MakesIds, {SAME_END}),
    "keeps what it saw in the object": (lambda: KeepsWhatItSaw, {GOES_ON, SAME_END}),
    "replies with the clock": (lambda: RepliesWithTheClock, {SAME_END}),
    "counts in a global": (counts_in_a_global, {GOES_ON, SAME_END}),
    "remembers in a global": (remembers_in_a_global, {GOES_ON, SAME_END}),
    "sees its steps end past the log": (sees_steps_end, {GOES_ON, SAME_END}),
    "depends on which step ends first": (lambda: TakesTheFirst, {ANY_ORDER}),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.replace(" ", "-"))
def test_a_planted_fault_is_found_and_shown_with_both_sides(fault: str) -> None:
    make, laws = FAULTS[fault]
    with pytest.raises(LawBroken) as broken:
        look(make())
    assert broken.value.law in laws
    assert broken.value.expected != broken.value.actual
    assert "'work_accepted'" in str(broken.value.example)


def test_the_shortest_log_is_shown() -> None:
    """The first append after which it matters, and one message with the plainest content."""

    class Late(Agent):
        async def on_receive(self, message: Any) -> Any:
            await self.step("first", double, 1)
            self.set("at", time.time())
            await self.step("second", double, 2)

    with pytest.raises(LawBroken) as broken:
        look(Late)
    assert broken.value.subject.endswith("Late")
    assert [kind for kind, *_ in (raw for raw in broken.value.log.raws())] == ["spawned", "work_accepted"]
    assert "'data': {'what': 0}" in str(broken.value.example)


def test_what_depends_on_the_order_of_steps_may_be_meant() -> None:
    assert look(TakesTheFirst, any_order=False).held == (SAME_END, GOES_ON)


def test_failures_and_retries_of_steps_are_the_same_in_each_run() -> None:
    tries: list[int] = []

    def fails_twice() -> str:
        tries.append(1)
        if len(tries) % 3:
            raise ConnectionError("lost")
        return "found"

    class Patient(Agent):
        async def on_receive(self, message: Any) -> Any:
            found = await self.step("look up", fails_twice, retry=Retry(times=3, backoff=60.0))
            try:
                await self.step("refused", double, None)
            except StepFailed as error:
                self.set("refused", error.kind)
            return found

    report = check_interruptions(Patient, st.just(Errand(1)), registry=REGISTRY, seed=1, examples=1)
    assert GOES_ON in report.held


def test_the_work_of_agents_that_are_asked_is_interrupted_with_it() -> None:
    class Helper(Agent):
        async def on_receive(self, message: Any) -> Any:
            self.set("helped", await self.step("help", double, message.what))
            await self.sleep(60)
            return self.get("helped")

    class Lead(Agent):
        async def on_receive(self, message: Any) -> Any:
            helper = f"{self.path}/helper"
            self.spawn_child("helper", agent_type="helper")
            reply = await self.ask(helper, Errand(message.what))
            await self.send(helper, Errand(message.what + 1))
            self.set("reply", await self.step("own", double, reply))
            return reply

    assert set(look(Lead, agents={"helper": Helper}).held) == {SAME_END, GOES_ON, ANY_ORDER}


def test_steps_can_be_replaced_and_waits_can_expire() -> None:
    replies: list[Any] = []

    class Asks(Agent):
        async def on_receive(self, message: Any) -> Any:
            paid: Any = await self.step("pay", partial(pytest.fail, "a payment is made"))
            try:
                await self.wait_for("nobody", timeout=3600)
            except TimeoutError:
                replies.append(paid)
                return paid

    check_interruptions(Asks, st.just(Errand(1)), registry=REGISTRY, steps={"pay": {"id": 7}}, seed=1, examples=1)
    assert replies
    assert all(reply == {"id": 7} for reply in replies)


class Fails(Agent):
    async def on_receive(self, message: Any) -> Any:
        await self.sleep(60)
        raise self.error()

    def error(self) -> Exception:
        return LookupError("there is none")


class IsRefused(Fails):
    def error(self) -> Exception:
        return InvalidMessage("there is none")


class FailsAnotherWay(Fails):
    tries = 0

    def error(self) -> Exception:
        FailsAnotherWay.tries += 1
        return LookupError("there is none") if FailsAnotherWay.tries % 2 else KeyError("there is none")


def test_handlers_that_raise_have_to_raise_the_same() -> None:
    for agent in (Fails, IsRefused):
        report = check_interruptions(agent, st.just(Errand(1)), registry=REGISTRY, seed=1, examples=1)
        assert SAME_END in report.held
    with pytest.raises(LawBroken) as broken:
        check_interruptions(FailsAnotherWay, st.just(Errand(1)), registry=REGISTRY, seed=1, examples=1)
    assert broken.value.law == SAME_END
    assert "LookupError" in f"{broken.value.expected}{broken.value.actual}"
    assert "KeyError" in f"{broken.value.expected}{broken.value.actual}"


def test_check_interrupts_durable_messages_and_leaves_them_out_of_lives() -> None:
    messages = JOBS | st.integers()
    report = check(lambda: Sound(), messages=messages, registry=REGISTRY, answers=ANSWERS, examples=10, seed=1)
    assert {GOES_ON, SAME_END, "every life keeps the laws"} <= set(report.held)
    with pytest.raises(LawBroken) as broken:
        check(lambda: LooksAtTheClock(), messages=JOBS, registry=REGISTRY, answers=ANSWERS, examples=10, seed=1)
    assert broken.value.law == SAME_END


def test_an_agent_without_durable_messages_is_not_said_to_hold_these_laws() -> None:
    assert check_interruptions(Sound, st.integers(), registry=REGISTRY, examples=3).held == ()
