"""Work that was begun elsewhere goes on: with the results that its log has, in their order, and compared with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentHandle, AgentSystem, Retry
from duramen.events import StepInterrupted, WorkParked
from takeover import give_up
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


class Ledger:
    """What the steps of a test have done outside; one of them can be held."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun = threading.Event()
        self.gate = threading.Event()

    def do(self, name: str) -> str:
        self.done.append(name)
        return f"did {name}"

    def hang(self, name: str) -> str:
        self.done.append(name)
        self.begun.set()
        self.gate.wait(60)
        return "too late"


@pytest.fixture
def ledger() -> Any:
    made = Ledger()
    yield made
    made.gate.set()


@pytest.fixture
def take_over(open_system: OpenSystem) -> Callable[..., Any]:
    """Let work begin on one host until its step hangs; then another host takes the agent over, with other code."""

    def run(ledger: Ledger, before: Any, after: Any) -> tuple[AgentHandle, Any]:
        first = open_system(registry=REGISTRY)
        receipt = spawn_worker(first, before).send(Job())
        assert ledger.begun.wait(10)
        second = open_system(registry=REGISTRY, agents={"worker": worker(after)})
        give_up(first, PATH)
        return second.agent(PATH), receipt

    return run


def crew(ledger: Ledger, last: Any) -> Any:
    async def work(self: Any, message: Job) -> Any:
        first = await self.step("first", ledger.do, "first")
        self.set("first", first)
        both = await asyncio.gather(self.step("a", ledger.do, "a"), self.step("b", ledger.do, "b"))
        self.append("both", both)
        self.set("seen", [self.get("first"), self.get("both"), str(self.uuid()), self.random(), str(self.now())])
        return [both, await self.step("last", last, "last"), self.get("seen")]

    return work


def test_a_recorded_step_is_not_run_again_and_the_one_under_way_is(take_over: Any, ledger: Ledger) -> None:
    alice, receipt = take_over(ledger, crew(ledger, ledger.hang), crew(ledger, ledger.do))
    both, last, seen = alice.result(receipt)
    assert (both, last) == (["did a", "did b"], "did last")
    assert sorted(ledger.done) == ["a", "b", "first", "last", "last"]
    assert seen == alice.get("seen")
    assert alice.get("both") == [["did a", "did b"]]


def test_the_key_of_a_step_is_the_same_in_each_run(take_over: Any, ledger: Ledger) -> None:
    keys: list[str] = []

    def hang(key: str) -> None:
        keys.append(key)
        ledger.hang("x")

    def finish(key: str) -> None:
        keys.append(key)

    def step(function: Any) -> Any:
        return lambda self, message: self.step("pay", function, key="key")

    alice, receipt = take_over(ledger, step(hang), step(finish))
    alice.result(receipt)
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_a_step_that_runs_at_most_once_is_not_run_again(take_over: Any, ledger: Ledger) -> None:
    async def work(self: Any, message: Job) -> Any:
        try:
            return await self.step("pay", ledger.hang, "pay", at_most_once=True)
        except StepInterrupted as error:
            return f"{error.kind}: look"

    alice, receipt = take_over(ledger, work, work)
    assert alice.result(receipt) == "Interrupted: look"
    assert ledger.done == ["pay"]


def test_failed_attempts_count_over_a_crash(take_over: Any, ledger: Ledger) -> None:
    def fail(name: str) -> None:
        if len(ledger.done) == 1:
            ledger.hang(name)
        ledger.done.append(name)
        raise ConnectionError(name)

    async def work(self: Any, message: Job) -> Any:
        try:
            await self.step("pay", fail, "pay", retry=Retry(times=3, backoff=0.0))
        except Exception as error:
            return type(error).__name__

    alice, receipt = take_over(ledger, work, work)
    assert alice.result(receipt) == "StepFailed"
    # One failed; one was cut off, which does not count; two failed.
    assert ledger.done == ["pay"] * 4


def test_waits_and_answers_outlive_their_host(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        first = await self.wait_for("approval")
        return [first, await self.wait_for("approval")]

    first = open_system(registry=REGISTRY)
    alice = spawn_worker(first, work)
    receipt = alice.send(Job())
    eventually(lambda: alice.unfinished()[0].waits_for)
    alice.answer("approval", 1)
    eventually(lambda: types_of(first).count("work_begun") == 2)
    second = open_system(registry=REGISTRY, agents={"worker": worker(work)})
    give_up(first, PATH)
    alice = second.agent(PATH)
    alice.answer("approval", 2)
    assert alice.result(receipt) == [1, 2]


def test_a_result_that_came_while_paused_outlives_its_host(open_system: OpenSystem, ledger: Ledger) -> None:
    first = open_system(registry=REGISTRY)
    receipt = spawn_worker(first, crew(ledger, ledger.hang)).send(Job())
    assert ledger.begun.wait(10)
    first.agent(PATH).pause()
    ledger.gate.set()
    eventually(lambda: types_of(first)[-1] == "work_done")
    second = open_system(registry=REGISTRY, agents={"worker": worker(crew(ledger, ledger.do))})
    give_up(first, PATH)
    alice = second.agent(PATH)
    alice.resume()
    assert alice.result(receipt)[1] == "too late"
    assert ledger.done.count("last") == 1


# -- what differs ------------------------------------------------------------------------------------------------------


def _base(self: Any, ledger: Ledger, *, first: str = "first", argument: str = "first", value: Any = 1) -> Any:
    async def run() -> Any:
        await self.step(first, ledger.do, argument)
        self.set("a", value)
        return await self.step("last", ledger.hang if not ledger.begun.is_set() else ledger.do, "last")

    return run()


async def _swapped(self: Any, ledger: Ledger) -> Any:
    self.set("a", 1)
    await self.step("first", ledger.do, "first")
    return await self.step("last", ledger.do, "last")


async def _other_kind(self: Any, ledger: Ledger) -> Any:
    return await self.wait_for("first")


async def _another_step(self: Any, ledger: Ledger) -> Any:
    await self.step("first", ledger.do, "first")
    self.set("a", 1)
    await asyncio.gather(self.step("last", ledger.do, "last"), self.step("more", ledger.do, "more"))


async def _fewer_steps(self: Any, ledger: Ledger) -> Any:
    await self.step("first", ledger.do, "first")
    self.set("a", 1)


async def _raises(self: Any, ledger: Ledger) -> Any:
    raise LookupError("changed")


async def _no_event(self: Any, ledger: Ledger) -> Any:
    await self.step("first", ledger.do, "first")
    return await self.step("last", ledger.do, "last")


async def _one_event_more(self: Any, ledger: Ledger) -> Any:
    await self.step("first", ledger.do, "first")
    self.set("a", 1)
    self.set("b", 1)
    return await self.step("last", ledger.do, "last")


async def _another_event(self: Any, ledger: Ledger) -> Any:
    await self.step("first", ledger.do, "first")
    self.merge("a", 1)
    return await self.step("last", ledger.do, "last")


async def _sleeps_first(self: Any, ledger: Ledger) -> Any:
    await self.sleep(1)
    return await _base(self, ledger)


async def _side_by_side(self: Any, ledger: Ledger) -> Any:
    first, last = (asyncio.create_task(self.step(name, ledger.do, name)) for name in ("first", "last"))
    await first
    self.set("a", 1)
    return await last


async def _swallowed(self: Any, ledger: Ledger) -> Any:
    try:
        await self.step("renamed", ledger.do, "first")
    except Exception:
        await self.step("first", ledger.do, "first")


DIFFERENCES = {
    "a renamed step": lambda self, ledger: _base(self, ledger, first="renamed"),
    "other arguments": lambda self, ledger: _base(self, ledger, argument="other"),
    "another value": lambda self, ledger: _base(self, ledger, value=2),
    "another order": _swapped,
    "another await": _other_kind,
    "a step more": _another_step,
    "a step less": _fewer_steps,
    "an exception": _raises,
    "an event less": _no_event,
    "an event more": _one_event_more,
    "another event": _another_event,
    "a sleep before": _sleeps_first,
    "steps side by side": _side_by_side,
    "a difference that the handler swallows": _swallowed,
}


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda name: name.replace(" ", "-"))
def test_a_handler_that_differs_from_its_log_is_parked(take_over: Any, ledger: Ledger, difference: str) -> None:
    async def before(self: Any, message: Job) -> Any:
        return await _base(self, ledger)

    async def after(self: Any, message: Job) -> Any:
        return await DIFFERENCES[difference](self, ledger)

    alice, receipt = take_over(ledger, before, after)
    with pytest.raises(WorkParked) as raised:
        alice.result(receipt)
    assert raised.value.expected != raised.value.actual
    assert ledger.done == ["first", "last"]
    [unfinished] = alice.unfinished()
    assert unfinished.parked is not None
    assert unfinished.parked["kind"] == "ReplayDiverged"
    assert alice.set("lives", "on").seq > receipt.seq


def test_a_handler_that_does_not_differ_is_not_parked(take_over: Any, ledger: Ledger) -> None:
    """The control of the differences."""

    async def work(self: Any, message: Job) -> Any:
        return await _base(self, ledger)

    alice, receipt = take_over(ledger, work, work)
    assert alice.result(receipt) == "did last"


def test_parked_work_goes_on_when_it_is_retried_with_the_code_it_began_with(
    open_system: OpenSystem, take_over: Any, ledger: Ledger
) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await _base(self, ledger)

    alice, receipt = take_over(ledger, work, lambda self, message: _raises(self, ledger))
    with pytest.raises(WorkParked, match="LookupError"):
        alice.result(receipt)
    alice._system.register("worker", worker(work))
    alice.retry(receipt)
    assert alice.result(receipt) == "did last"


# -- what is parked, left behind and kept ------------------------------------------------------------------------------


def has_ended_with(system: AgentSystem, types: list[str]) -> bool:
    return types_of(system)[-len(types) :] == types


@pytest.mark.slow
def test_work_whose_hosts_die_is_parked_after_five_times(open_system: OpenSystem, gate: threading.Event) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.step("hang", gate.wait, 60)

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    eventually(lambda: types_of(system)[-1] == "work_begun")
    for number in range(1, 7):
        give_up(system, PATH)
        system = open_system(registry=REGISTRY, agents={"worker": worker(work)})
        wanted = ["work_taken_up"] * min(number, 5) + ["work_parked"] * (number == 6)
        eventually(partial(has_ended_with, system, wanted))
    with pytest.raises(WorkParked, match="5 times"):
        system.agent(PATH).result(receipt)


def test_work_of_an_imported_agent_is_parked_until_it_is_retried(open_system: OpenSystem, tmp_path: Any) -> None:
    ran: list[str] = []

    async def work(self: Any, message: Job) -> Any:
        await self.step("first", ran.append, "first")
        verdict = await self.wait_for("approval")
        await self.step("second", ran.append, "second")
        return verdict

    first = open_system(registry=REGISTRY)
    receipt = spawn_worker(first, work).send(Job())
    eventually(lambda: types_of(first).count("work_begun") == 2)
    first.export_session(PATH, tmp_path / "session")
    with AgentSystem.open("memory://", registry=REGISTRY, agents={"worker": worker(work)}) as second:
        second.import_session(tmp_path / "session")
        alice = second.agent(PATH)
        alice.answer("approval", "yes")
        with pytest.raises(WorkParked, match="another log"):
            alice.result(receipt.seq)
        assert ran == ["first"]
        alice.retry(receipt.seq)
        assert alice.result(receipt.seq) == "yes"
    assert ran == ["first", "second"]


def test_work_of_an_agent_that_is_imported_beside_its_original_runs_only_there(
    open_system: OpenSystem, tmp_path: Any, ledger: Ledger
) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.step("pay", ledger.hang, "pay")

    system = open_system(registry=REGISTRY)
    receipt = spawn_worker(system, work).send(Job())
    assert ledger.begun.wait(10)
    system.export_session(PATH, tmp_path / "session")
    system.import_session(tmp_path / "session", to="acme/copy")
    copy = system.agent("acme/copy")
    copy.set("seen", True)
    with pytest.raises(WorkParked, match="another log"):
        copy.result(receipt.seq)
    ledger.gate.set()
    system.agent(PATH).result(receipt)
    assert ledger.done == ["pay"]


def test_work_of_a_tree_goes_on_under_the_path_that_an_import_gives_it(open_system: OpenSystem, tmp_path: Any) -> None:
    """The paths of its tree are mapped, so the digests before its message are others; what it has drawn is not."""
    ran, drawn = list[str](), list[Any]()

    async def work(self: Any, message: Job) -> Any:
        await self.step("first", ran.append, "first")
        drawn.append((self.uuid("id"), self.random("luck")))
        verdict = await self.wait_for("approval")
        await self.step("second", ran.append, "second")
        return verdict

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, work)
    alice.spawn_child("helper")
    receipt = alice.send(Job())
    eventually(lambda: types_of(system).count("work_begun") == 2)
    path = PATH
    for copy in ("acme/copy", "acme/again"):
        system.export_session(path, tmp_path / copy.replace("/", "-"), tree=True)
        system.import_session(tmp_path / copy.replace("/", "-"), to=copy)
        path = copy
        alice = system.agent(path)
        alice.answer("approval", copy)
        with pytest.raises(WorkParked, match="another log"):
            alice.result(receipt.seq)
    alice.retry(receipt.seq)
    assert alice.result(receipt.seq) == "acme/copy"
    assert ran == ["first", "second"]
    assert len(drawn) == 2 and drawn[0] == drawn[1]
    assert system.verify().ok


def test_a_fork_leaves_work_behind(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.wait_for("approval")

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, work)
    alice.send(Job())
    eventually(lambda: types_of(system)[-1] == "work_begun")
    system.fork(PATH, to="acme/fork")
    assert system.agent("acme/fork").unfinished() == []
    assert len(alice.unfinished()) == 1


def test_trimming_keeps_what_unfinished_work_needs(open_any: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        first = await self.step("first", dict)
        return [first, await self.wait_for("approval")]

    system = open_any(registry=REGISTRY)
    alice = spawn_worker(system, work)
    alice.set("before", 1)
    receipt = alice.send(Job())
    eventually(lambda: types_of(system).count("work_begun") == 2)
    alice.set("after", 1)
    done = system.trim(PATH, keep_events=0)
    assert (done.base, done.held_by) == (receipt.seq - 1, "unfinished work")
    give_up(system, PATH)
    second = open_any(registry=REGISTRY, agents={"worker": worker(work)})
    second.agent(PATH).answer("approval", "yes")
    assert second.agent(PATH).result(receipt) == [{}, "yes"]
    assert second.trim(PATH, keep_events=0).held_by is None


@pytest.mark.slow
def test_a_result_whose_append_failed_is_not_lost_and_its_step_not_run_again(
    open_system: OpenSystem, ledger: Ledger
) -> None:
    """The agent leaves memory while a step runs, as after an append that failed; the next run gets its outcome."""

    async def work(self: Any, message: Job) -> Any:
        return await self.step("slow", ledger.hang, "slow", at_most_once=True)

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    assert ledger.begun.wait(10)
    give_up(system, PATH)
    system._services.dispatcher.post(lambda: system._actors.find(PATH).runner.deactivate())
    eventually(lambda: types_of(system)[-1] == "work_taken_up")
    ledger.gate.set()
    assert alice.result(receipt) == "too late"
    assert ledger.done == ["slow"]
    assert system._services.attempts == {}
