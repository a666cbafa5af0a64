"""Rules that the users of other systems have paid for, as far as no other file here has them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from contracts.authors import head_of
from contracts.places import MemoryPlace
from duramen.actors import AgentSystem, Retry, WorkCancelled
from duramen.events import DataLoss, StepFailed, WaitExpired, WorkStopped
from takeover import bury_others, give_up
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


@pytest.fixture
def system(open_system: OpenSystem) -> AgentSystem:
    return open_system(registry=REGISTRY)


def items(alice: Any) -> list[Any]:
    return [item for work in alice.unfinished() for item in work.waits_for]


def test_a_deadline_does_not_begin_anew_after_a_crash(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.step("ready", str)
        return await self.wait_for("approval", timeout=timedelta(hours=1))

    first = open_system(registry=REGISTRY)
    alice = spawn_worker(first, work)
    receipt = alice.send(Job())
    eventually(lambda: any(item["kind"] == "wait" for item in items(alice)))
    [before] = items(alice)
    second = open_system(registry=REGISTRY, agents={"worker": worker(work)})
    give_up(first, PATH)
    alice = second.agent(PATH)
    alice.set("woken", True)
    [after] = items(alice)
    assert (after["due"], after["seq"]) == (before["due"], before["seq"])
    alice.answer("approval", "in time")
    assert alice.result(receipt) == "in time"
    assert types_of(second).count("work_begun") == 2


def test_an_expired_wait_takes_no_answer_from_the_next_one(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        try:
            await self.wait_for("approval", timeout=0.01)
        except WaitExpired:
            await self.wait_for("go")
            return await self.wait_for("approval")

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    eventually(lambda: [item["name"] for item in items(alice)] == ["go"])
    alice.answer("approval", "for the second")
    alice.answer("go")
    assert alice.result(receipt) == "for the second"


def test_a_timed_out_attempt_in_a_thread_does_not_run_on_beside_its_retry(
    system: AgentSystem, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, lock = 0, 0, threading.Lock()
    attempts: list[int] = []
    begun = threading.Event()

    def slow() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            attempts.append(running)
        begun.set()
        if len(attempts) == 1:
            gate.wait(10)
        with lock:
            running -= 1
        return f"attempt {len(attempts)}"

    async def work(self: Any, message: Job) -> Any:
        return await self.step("slow", slow, timeout=77.5, retry=Retry(times=2, backoff=0.0))

    expired = threading.Event()
    timers = system._services.timers
    call_later = timers.call_later

    def expire(call: Any) -> Any:
        assert begun.wait(10)
        again = call()
        expired.set()
        return again

    def call_now(seconds: float, call: Any) -> Any:  # the time-out of the first attempt comes once it has begun
        if seconds != 77.5 or expired.is_set():
            return call_later(seconds, call)
        return call_later(0.0, lambda: expire(call))

    monkeypatch.setattr(timers, "call_later", call_now)
    receipt = spawn_worker(system, work).send(Job())
    assert expired.wait(10)
    assert attempts == [1]  # its time is over, and it runs on: no other attempt has begun
    gate.set()
    assert system.agent(PATH).result(receipt) == "attempt 2"
    assert (most, len(attempts)) == (1, 2)


def test_the_time_out_of_a_step_does_not_run_while_the_step_waits_for_a_thread(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = system._services
    submit, call_later = services.thread_pool.submit, services.timers.call_later
    queued: list[Any] = []
    armed: list[float] = []

    def call(seconds: float, function: Any) -> Any:
        if seconds == 77.5:
            armed.append(seconds)
        return call_later(seconds, function)

    def hold(work: Callable[[], object]) -> None:
        if "StepRunner" in getattr(work, "__qualname__", ""):
            queued.append(work)
        else:
            submit(work)

    monkeypatch.setattr(services.thread_pool, "submit", hold)
    monkeypatch.setattr(services.timers, "call_later", call)

    async def work(self: Any, message: Job) -> Any:
        return await self.step("quick", str, "done", timeout=77.5)

    receipt = spawn_worker(system, work).send(Job())
    eventually(lambda: bool(queued))
    assert armed == []
    submit(queued[0])
    assert system.agent(PATH).result(receipt) == "done"
    assert armed == [77.5]


def test_a_handler_that_swallows_its_cancellation_is_ended_all_the_same(system: AgentSystem) -> None:
    async def stubborn(self: Any, message: Job) -> Any:
        while True:
            try:
                await self.wait_for("never")
            except WorkCancelled:
                self.append("swallowed", 1)

    alice = spawn_worker(system, stubborn)
    receipt = alice.send(Job())
    eventually(lambda: items(alice))
    alice.cancel(receipt, seconds=0.05)
    with pytest.raises(WorkStopped):
        alice.result(receipt)
    assert alice.unfinished() == []
    assert alice.set("lives", "on").seq > receipt.seq


def test_an_error_that_was_caught_is_the_same_in_the_next_run(open_system: OpenSystem) -> None:
    class CardRefused(Exception):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.data = {"limit": 40}

    def pay() -> None:
        raise CardRefused("too much")

    async def work(self: Any, message: Job) -> Any:
        try:
            await self.step("pay", pay)
        except StepFailed as error:
            caught = [type(error).__name__, error.kind, error.text, error.data, str(error)]
            self.set("caught", caught)
            await self.wait_for("go")
            return [caught, self.get("caught")]

    first = open_system(registry=REGISTRY)
    receipt = spawn_worker(first, work).send(Job())
    eventually(lambda: items(first.agent(PATH)))
    second = open_system(registry=REGISTRY, agents={"worker": worker(work)})
    give_up(first, PATH)
    alice = second.agent(PATH)
    alice.answer("go")
    again, before = alice.result(receipt)
    assert again == before
    assert again[:4] == ["StepFailed", "CardRefused", "too much", {"limit": 40}]


def test_one_damaged_log_does_not_keep_other_work_from_being_found(gate: threading.Event) -> None:
    def handler(function: Any) -> Any:
        async def work(self: Any, message: Job) -> Any:
            await self.step("step", function)

        return {"worker": worker(work)}

    place = MemoryPlace()
    log = place.open()
    partition = log.partition_of("acme/a")
    others = [f"acme{number}/a" for number in range(400) if log.partition_of(f"acme{number}/a") == partition][:3]
    with AgentSystem.open(log=log, registry=REGISTRY, agents=handler(lambda: gate.wait(10))) as first:
        for path in ("acme/a", *others):
            first.spawn(path, agent_type="worker").send(Job())
        eventually(lambda: all(items(first.agent(path)) for path in ("acme/a", *others)))
        stored = place.items(log, "acme/a")
        place.keep(log, "acme/a", [*stored[:-1], stored[-1][:-1] + bytes([stored[-1][-1] ^ 1])])
        with AgentSystem.open(log=log, registry=REGISTRY, agents=handler(str)) as second:
            bury_others(second)  # its index has the damaged agent first
            for path in others:  # nobody asks for them
                eventually(lambda: "work_ended" in [event.type for event in second.events(path)])
        gate.set()


def test_an_agent_whose_log_lost_events_hides_no_work_of_others() -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.wait_for("kim")

    place, paths = MemoryPlace(), ["acme/a", "acme/b", "beta/c"]
    log = place.open()
    with AgentSystem.open(log=log, registry=REGISTRY, agents={"worker": worker(work)}) as first:
        for path in paths:
            first.spawn(path, agent_type="worker").send(Job())
        eventually(lambda: all(found.waits_for for found in first.unfinished()))
        with AgentSystem.open(log=log, registry=REGISTRY, host=False) as reader:
            assert sorted(found.agent for found in reader.unfinished()) == paths  # it knows how far each log goes
            items = place.items(log, "acme/a")[:-1]
            place.keep(log, "acme/a", items)
            place.write_head(log, "acme/a", evolve(head_of(log, "acme/a"), seq=len(items), digest=items[-1][:16]))
            for _ in range(2):
                assert sorted(found.agent for found in reader.unfinished()) == paths[1:]
            with pytest.raises(DataLoss):
                reader.agent("acme/a").unfinished()
            assert [found.agent for found in reader.agent("acme/a").unfinished()] == ["acme/a"], "told once"


def test_keys_do_not_collide_after_an_agent_was_made_anew(system: AgentSystem) -> None:
    keys: list[str] = []

    def note(key: str) -> None:
        keys.append(key)

    async def work(self: Any, message: Job) -> Any:
        await self.step("pay", note, key="key")

    for _ in range(2):
        alice = spawn_worker(system, work)
        alice.ask(Job())
        alice.terminate()
        spawn_worker(system, work).ask(Job())
        system.erase(PATH)
    assert len(set(keys)) == 4
