"""Durable handlers wait for answers and for times; pauses, cancels and ends reach them where they wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of
from duramen.actors import AgentSystem, WorkCancelled
from duramen.actors.commands import CancelWork
from duramen.events import AnswerRefused, AskTimeout, InvalidMessage, TooLarge, WaitExpired, WorkStopped
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


@pytest.fixture
def system(open_system: OpenSystem) -> AgentSystem:
    return open_system(registry=REGISTRY)


async def approve(self: Any, message: Job) -> Any:
    verdict = await self.wait_for("approval", about={"order": message.name})
    self.set(f"verdicts/{message.name}", verdict)
    return verdict


def waiting(alice: Any, count: int) -> list[Any]:
    """What the work waits for, once so much is begun."""

    def begun() -> list[Any]:
        found = [item for each in alice.unfinished() for item in each.waits_for]
        return found if len(found) == count else []

    return eventually(begun, what="what is begun")


def test_an_answer_ends_a_wait(system: AgentSystem) -> None:
    alice = spawn_worker(system, approve)
    receipt = alice.send(Job("o-17"))
    [wait] = waiting(alice, 1)
    assert (wait["kind"], wait["name"], wait["about"], wait["due"]) == ("wait", "approval", {"order": "o-17"}, None)
    alice.answer("approval", {"by": "kim"}, work=receipt)
    assert alice.result(receipt) == {"by": "kim"}
    assert alice.get("verdicts") == {"o-17": {"by": "kim"}}


def test_an_answer_that_comes_early_is_kept(system: AgentSystem, gate: threading.Event) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.step("first", gate.wait, 10)
        return await self.wait_for("approval")

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    alice.answer("approval", "early")
    alice.answer("other", "not this one")
    gate.set()
    assert alice.result(receipt) == "early"


def test_one_answer_goes_to_one_wait_the_oldest_or_the_one_it_names(system: AgentSystem) -> None:
    alice = spawn_worker(system, approve)
    first, second, third = (alice.send(Job(name)) for name in ("a", "b", "c"))
    waiting(alice, 3)
    alice.answer("approval", "for the third", work=third)
    alice.answer("approval", "for the oldest")
    assert alice.result(first) == "for the oldest"
    assert alice.result(third) == "for the third"
    with pytest.raises(AskTimeout):
        alice.result(second, timeout=0.01)
    with pytest.raises(AnswerRefused, match="no unfinished work"):
        alice.answer("approval", "too late", work=first)


def test_answers_and_waits_work_in_asyncio_too(system: AgentSystem) -> None:
    alice = spawn_worker(system, approve)

    async def main() -> Any:
        receipt = await alice.aio.send(Job())
        assert [work.work for work in await system.aio.unfinished()] == [receipt.seq]
        await alice.aio.answer("approval", 5)
        return await alice.aio.result(receipt)

    assert asyncio.run(main()) == 5


def test_a_wait_without_an_answer_expires(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        with pytest.raises(WaitExpired) as raised:
            await self.wait_for("approval", timeout=timedelta(milliseconds=5))
        return isinstance(raised.value, TimeoutError)

    alice = spawn_worker(system, work)
    assert alice.ask(Job()) is True
    alice.answer("approval", "nobody gets this")
    assert alice.unfinished() == []


def test_sleep_ends_when_it_is_due_and_not_before(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        before = self.now()
        await self.sleep(0.02)
        return (self.now() - before).total_seconds()

    assert spawn_worker(system, work).ask(Job()) >= 0.02


def test_the_first_of_two_waits_wins_and_the_other_is_given_up(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        tasks = [asyncio.create_task(self.wait_for(name)) for name in ("yes", "no")]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.wait(rest)
        await self.step("go on", dict)
        return done.pop().result()

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    waiting(alice, 2)
    alice.answer("no", "it was no")
    assert alice.result(receipt) == "it was no"
    assert types_of(system).count("work_given_up") == 1


def test_numbers_ids_and_the_version_come_from_the_log(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        numbers = [self.random("dice"), self.random("dice"), self.random("coin")]
        ids = [str(self.uuid("order")), str(self.uuid("order"))]
        return [numbers, ids, self.version]

    numbers, ids, version = spawn_worker(system, work).ask(Job())
    assert len(set(numbers)) == 3
    assert all(0 <= number < 1 for number in numbers)
    assert len(set(ids)) == 2
    assert version == 3


# -- pause, resume, terminate, cancel ----------------------------------------------------------------------------------


def test_a_paused_agent_goes_on_with_no_work_and_keeps_what_comes(system: AgentSystem, gate: threading.Event) -> None:
    ran: list[str] = []

    async def work(self: Any, message: Job) -> Any:
        await self.step("slow", gate.wait, 10)
        await self.step("next", ran.append, "next")
        return await self.wait_for("approval")

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    waiting(alice, 1)
    alice.pause()
    gate.set()
    eventually(lambda: types_of(system)[-1] == "work_done", what="the result of what ran")
    alice.answer("approval", "while it was paused")
    assert ran == []
    alice.resume()
    assert alice.result(receipt) == "while it was paused"
    assert ran == ["next"]


def test_a_resume_from_before_it_began_stops_the_work(system: AgentSystem) -> None:
    alice = spawn_worker(system, approve)
    alice.pause("before")
    alice.resume("before")
    receipt = alice.send(Job())
    waiting(alice, 1)
    alice.resume("before")
    with pytest.raises(WorkStopped):
        alice.result(receipt)
    assert alice.unfinished() == []


def test_the_end_of_a_session_stops_its_work_where_it_waits(system: AgentSystem) -> None:
    raised: list[BaseException] = []
    told = threading.Event()

    async def work(self: Any, message: Job) -> Any:
        try:
            await self.wait_for("approval")
        except BaseException as error:
            raised.append(error)
            told.set()
            raise

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    waiting(alice, 1)
    alice.terminate()
    with pytest.raises(WorkStopped):
        alice.result(receipt)
    assert told.wait(10)
    assert isinstance(raised[0], WorkCancelled)


def test_a_cancelled_handler_still_does_what_its_finally_says(system: AgentSystem) -> None:
    undone: list[str] = []

    async def work(self: Any, message: Job) -> Any:
        try:
            await self.wait_for("approval")
        except Exception:  # WorkCancelled is none
            return "swallowed"
        finally:
            await self.step("undo", undone.append, "undone")
            self.set("undone", True)

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    waiting(alice, 1)
    alice.cancel(receipt)
    with pytest.raises(WorkStopped, match="cancelled"):
        alice.result(receipt)
    assert undone == ["undone"]
    assert alice.get() == {"undone": True}


@pytest.mark.parametrize("seconds", [nan, inf, -1.0, "1"])
def test_a_cancellation_of_ones_own_with_an_impossible_time_is_refused(system: AgentSystem, seconds: Any) -> None:
    alice = spawn_worker(system, approve)
    receipt = alice.send(Job())
    waiting(alice, 1)
    with pytest.raises(InvalidMessage, match="seconds takes a number"):
        alice.ask(CancelWork(receipt.seq, seconds))
    assert len(alice.unfinished()) == 1


def test_what_a_cancelled_handler_still_does_is_bounded(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        try:
            await self.wait_for("approval")
        finally:
            await self.wait_for("another approval")

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    waiting(alice, 1)
    alice.cancel(receipt, seconds=0.02)
    with pytest.raises(WorkStopped, match="cancelled"):
        alice.result(receipt)


def test_work_of_a_paused_agent_is_cancelled_at_once(system: AgentSystem) -> None:
    alice = spawn_worker(system, approve)
    receipt = alice.send(Job())
    waiting(alice, 1)
    alice.pause()
    alice.cancel(receipt)
    with pytest.raises(WorkStopped):
        alice.result(receipt)
    alice.resume()
    assert system.agent(PATH).get() == {}


def test_an_answer_that_is_about_something_else_is_refused(system: AgentSystem) -> None:
    alice = spawn_worker(system, approve)
    receipt = alice.send(Job("o-17"))
    waiting(alice, 1)
    with pytest.raises(AnswerRefused, match="look again"):
        alice.answer("approval", True, about={"order": "o-16"})
    with pytest.raises(AnswerRefused, match="look again"):
        alice.answer("other", True, about={"order": "o-17"})
    alice.answer("approval", True, about={"order": "o-17"})
    assert alice.result(receipt) is True


@pytest.mark.slow
def test_an_answer_that_no_event_could_hand_over_is_refused(system: AgentSystem) -> None:
    alice = spawn_worker(system, approve)
    receipt = alice.send(Job())
    with pytest.raises(TooLarge, match="elsewhere"):
        alice.answer("approval", ["xxx"] * 65_000)
    alice.answer("approval", ["xxx"] * 62_000)
    assert len(alice.result(receipt)) == 62_000


def test_what_has_its_answer_is_not_waited_for_any_more(system: AgentSystem) -> None:
    alice = spawn_worker(system, approve)
    alice.send(Job("o-17"))
    waiting(alice, 1)
    alice.pause()
    alice.answer("approval", {"by": "kim"})
    assert [each.waits_for for each in alice.unfinished()] == [()]
