"""Results, answers, messages and replies of durable work may be larger than an event: they are kept beside the log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentHandle, AgentSystem, Append, Get, Set
from duramen.events import AnswerRefused, Content, CorruptEvent, Limits, StepFailed
from duramen.projections.recovery import drop_orphans
from duramen.projections.recovery.agent_log import AgentLog
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
LIMITS = Limits(event_bytes=16_384, batch_bytes=65_536, content_bytes=400_000, text_bytes=50_000, container_items=2_000)
BIG = "ä€𝄞x" * 6_000
VALUES: list[Any] = [BIG, BIG.encode(), [{"n": number, "text": "small"} for number in range(9_000)], {"deep": [BIG, 1]}]


@pytest.fixture
def system(open_any: OpenSystem) -> AgentSystem:
    return open_any(registry=REGISTRY, limits=LIMITS)


def kept(system: AgentSystem) -> int:
    return len(system.log.contents.list(PATH))


def again(system: AgentSystem, work: Any, open_next: Callable[[], AgentSystem]) -> AgentHandle:
    """The agent on another host, where its handler runs from its log."""
    system.close()
    other = open_next()
    other.register("worker", worker(work))
    return other.agent(PATH)


def test_results_of_steps_are_handed_over_and_logged_whatever_their_size(system: AgentSystem) -> None:
    async def make(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def work(self: Any, message: Job) -> Any:
        given = [await self.step("thread", lambda value=value: value) for value in VALUES]
        given += [await self.step("loop", make, 3), await self.step("loop", make_large)]
        return given == [*VALUES, 3, BIG]

    async def make_large() -> str:
        return BIG

    assert spawn_worker(system, work).ask(Job()) is True
    results = [event.data["result"] for event in system.events(PATH) if event.type == "work_continued"]
    assert [type(result) for result in results] == [type(None), *[Content] * 4, int, Content]
    assert kept(system) == 4, "each once"
    assert drop_orphans(AgentLog(system.log, PATH, LIMITS), 0) == 0, "the events refer to them"
    assert system.verify(PATH).ok


def test_a_result_over_the_limit_of_contents_is_a_failure_and_not_a_second_run(system: AgentSystem) -> None:
    ran: list[int] = []

    async def work(self: Any, message: Job) -> Any:
        with pytest.raises(StepFailed) as failed:
            await self.step("huge", lambda: ran.append(1) or BIG * 9)
        return failed.value.kind

    assert spawn_worker(system, work).ask(Job()) == "TooLarge"
    assert (ran, kept(system)) == ([1], 0)


@pytest.mark.slow
def test_a_run_from_the_log_gets_the_results_again(open_any: OpenSystem) -> None:
    ran: list[str] = []

    async def work(self: Any, message: Job) -> Any:
        given = [await self.step("make", lambda value=value: ran.append("made") or value) for value in VALUES]
        self.set("written", {"text": BIG, "n": 1})
        self.append("list", BIG * 2)
        verdict = await self.wait_for("go")
        return [given == VALUES, verdict, self.get("written/n")]

    system = open_any(registry=REGISTRY, limits=LIMITS)
    receipt = spawn_worker(system, work).send(Job())
    eventually(lambda: "go" in str(system.agent(PATH).unfinished()[0].waits_for))
    alice = again(system, work, lambda: open_any(registry=REGISTRY, limits=LIMITS))
    alice.answer("go", "gone")
    assert alice.result(receipt) == [True, "gone", 1]
    assert ran == ["made"] * 4
    assert alice.get() == {"written": {"text": BIG, "n": 1}, "list": [BIG * 2]}


@pytest.mark.slow
@pytest.mark.parametrize("is_run_again", [False, True])
def test_a_result_that_comes_while_the_agent_is_paused_is_kept(open_any: OpenSystem, is_run_again: bool) -> None:
    gate, begun = threading.Event(), threading.Event()

    def make() -> list[Any]:
        begun.set()
        gate.wait(30)
        return VALUES

    async def work(self: Any, message: Job) -> Any:
        return await self.step("make", make)

    system = open_any(registry=REGISTRY, limits=LIMITS)
    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    assert begun.wait(30)
    alice.pause()
    gate.set()
    eventually(lambda: types_of(system)[-1] == "work_done")
    if is_run_again:
        alice = again(system, work, lambda: open_any(registry=REGISTRY, limits=LIMITS))
    alice.resume()
    assert alice.result(receipt) == VALUES


def test_answers_are_handed_over_and_checked_whatever_their_size(open_any: OpenSystem) -> None:
    seen: list[Any] = []

    async def work(self: Any, message: Job) -> Any:
        early = await self.wait_for("early")
        await self.wait_for("go")
        checked = await self.wait_for("checked", accepts=lambda value: seen.append(value) or value["text"] == BIG)
        last = await self.wait_for("last")
        return [early, checked, last]

    system = open_any(registry=REGISTRY, limits=LIMITS)
    alice = spawn_worker(system, work)
    alice.answer("early", [BIG])
    receipt = alice.send(Job())
    alice.answer("go")
    eventually(lambda: "checked" in str(alice.unfinished()[0].waits_for))
    with pytest.raises(AnswerRefused):
        alice.answer("checked", {"text": BIG[1:]})
    alice.answer("checked", {"text": BIG})
    assert seen[0] == {"text": BIG[1:]}
    eventually(lambda: "last" in str(alice.unfinished()[0].waits_for))
    alice = again(system, work, lambda: open_any(registry=REGISTRY, limits=LIMITS))
    alice.answer("last", BIG.encode())
    assert alice.result(receipt) == [[BIG], {"text": BIG}, BIG.encode()]


@pytest.mark.slow
def test_durable_messages_and_their_replies_may_be_large(open_any: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.wait_for("go")
        return [message.name, VALUES]

    def open_next() -> AgentSystem:
        return open_any(registry=REGISTRY, limits=LIMITS)

    system = open_next()
    alice = spawn_worker(system, work)
    first = alice.send(Job(BIG), command_id="first")
    assert alice.send(Job(BIG), command_id="first") == first
    asked = alice.ask(Job(BIG[::-1]), block=False)
    for _ in range(2):
        alice.answer("go")
    assert asked.get(timeout=30) == [BIG[::-1], VALUES]
    assert alice.result(first) == [BIG, VALUES]
    third = alice.send(Job(BIG))
    alice = again(system, work, open_next)
    assert alice.result(first) == [BIG, VALUES], "from the log"
    assert asyncio.run(alice.aio.result(first)) == [BIG, VALUES]
    alice.answer("go")
    assert alice.result(third) == [BIG, VALUES], "of a handler that began elsewhere"


@pytest.mark.slow
def test_other_hosts_get_large_replies(open_server: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        return VALUES

    host, other = (open_server(registry=REGISTRY, limits=LIMITS) for _ in range(2))
    spawn_worker(host, work)
    assert other.agent(PATH).ask(Job(BIG[:3_000])) == VALUES
    receipt = other.agent(PATH).send(Job(BIG))
    assert other.agent(PATH).result(receipt) == VALUES


def test_a_handler_gets_large_replies_of_other_agents(system: AgentSystem) -> None:
    bob = system.spawn("acme/bob")
    bob.set("doc", BIG)

    async def work(self: Any, message: Job) -> Any:
        return [await self.ask("acme/bob", Get("doc")), await self.ask("acme/bob", Get("doc"))] == [BIG, BIG]

    assert spawn_worker(system, work).ask(Job()) is True


@pytest.mark.slow
def test_forks_and_session_files_have_large_results(system: AgentSystem, open_any: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        made = await self.step("make", lambda: VALUES)
        await self.wait_for("go")
        return made

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    eventually(lambda: bool(alice.unfinished()[0].waits_for))
    eventually(lambda: alice.unfinished()[0].waits_for[0]["kind"] == "wait")
    fork = system.fork(PATH, to="acme/fork", continue_work=True)
    file = BytesIO()
    alice.answer("go")
    assert alice.result(receipt) == VALUES
    system.export_session(PATH, file)
    system.erase(PATH)
    assert kept(system) == 0
    fork.answer("go")
    assert fork.result(receipt) == VALUES
    file.seek(0)
    system.import_session(file)
    assert system.agent(PATH).result(receipt) == VALUES
    assert system.verify().ok


def test_work_whose_results_are_missing_is_parked_and_told_of(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        made = await self.step("make", lambda: VALUES)
        return [made, await self.wait_for("go")]

    system = open_system(registry=REGISTRY, limits=LIMITS)
    receipt = spawn_worker(system, work).send(Job())
    eventually(lambda: "go" in str(system.agent(PATH).unfinished()[0].waits_for))
    contents = system.log.contents
    assert contents.drop(PATH, [each.digest for each in contents.list(PATH)], 0) == 1
    (problem,) = system.verify(PATH).problems
    assert problem.kind == "content"
    alice = again(system, work, lambda: open_system(registry=REGISTRY, limits=LIMITS))
    alice.answer("go")
    eventually(lambda: alice.unfinished()[0].parked is not None)
    parked = alice.unfinished()[0].parked
    assert parked is not None
    assert parked["kind"] == CorruptEvent.__name__
    assert alice.unfinished()[0].work == receipt.seq


@pytest.mark.slow
def test_twenty_megabytes_go_every_way(open_any: OpenSystem) -> None:
    text = "0123456789" * 2_000_000

    async def work(self: Any, message: Job) -> Any:
        made = await self.step("make", lambda: [text, list(range(100_000))])
        self.set("written", made[0])
        self.append("list", message.name)
        answered = await self.wait_for("go")
        return [made[0] == text, len(made[1]), message.name == text, answered == text, text]

    def open_next() -> AgentSystem:
        return open_any(registry=REGISTRY)

    system = open_next()
    system.register("worker", worker(work))
    alice = system.spawn(PATH, agent_type="worker", initial_state={"first": {"text": text}})
    alice.tell(Set("told", text))
    assert alice.ask(Append("told_too", text), block=False).get(timeout=30).seq == 3
    receipt = alice.send(Job(text))
    eventually(lambda: "go" in str(alice.unfinished()[0].waits_for))
    alice = again(system, work, open_next)
    alice.answer("go", text)
    assert alice.result(receipt) == [True, 100_000, True, True, text]
    held = alice.get()
    assert held == {"first": {"text": text}, "told": text, "told_too": [text], "written": text, "list": [text]}
