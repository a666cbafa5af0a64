"""What a durable handler asks of other agents happens once, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from actors.work.test_recovery import index_of
from duramen.actors import Agent, AgentSystem, Append, Get, GetMany, GetStatus, Set, WorkCancelled
from duramen.actors.commands import CancelAsked
from duramen.actors.work.execution import execution as execution_module
from duramen.actors.work.execution.step import Begun
from duramen.events import DuramenError, HandlerRaised, InvalidMessage, NewEvent, TooLarge, Unavailable, log_id
from duramen.events.codec import CONTENT_MARK
from duramen.projections.state import NEVER
from takeover import give_up
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


class Counter(Agent):
    """Counts the messages that it has handled, in its log."""

    async def on_receive(self, message: Any) -> Any:
        if message == "bad":
            raise LookupError("no such order")
        count = self.get("count", 0) + 1
        self.set("count", count)
        if isinstance(message, Job):
            return await self.wait_for("approval")
        return {"count": count}


@pytest.fixture
def system(open_system: OpenSystem) -> AgentSystem:
    found = open_system(registry=REGISTRY, agents={"counter": Counter})
    found.spawn("acme/bob", agent_type="counter")
    return found


def test_a_handler_gets_the_reply_of_another_agent(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        receipt = await self.ask("acme/bob", Append("list", 1))
        with pytest.raises(LookupError):
            await self.ask("acme/bob", "bad")
        return [receipt.agent, await self.ask("acme/bob", {"a": 1}), await self.ask("acme/bob", Get("list"))]

    alice = spawn_worker(system, work)
    assert alice.ask(Job()) == ["acme/bob", {"count": 1}, [1]]


def stored_items(system: AgentSystem, path: str) -> list[bytes]:
    return [item for page in system.log.pages(path, 1, None) for item in page.items]


def test_the_log_of_who_asks_does_not_tell_the_paths_of_whom_it_asks(system: AgentSystem) -> None:
    """Not in what is begun, in replies and errors of duramen's own, or in causes; the handler gets all as it was."""
    told: list[Any] = []

    async def work(self: Any, message: Job) -> Any:
        told.append(await self.ask("acme/bob", Append("list", 1)))
        told.append(await self.send("acme/bob", Job("sent")))
        told.append(await self.ask("acme/bob", GetStatus()))
        for path in ("acme/bob", "acme/bob/nobody"):
            with pytest.raises(DuramenError) as caught:
                await self.ask(path, "bad")
            told.append(caught.value)
        await self.wait_for("go")

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    eventually(lambda: [item["kind"] for each in alice.unfinished() for item in each.waits_for] == ["wait"])
    for reply in told:
        assert reply.agent.startswith("acme/bob"), "control: it was told"
    assert "acme/bob/nobody" in str(told[-1])
    assert not [item for item in stored_items(system, PATH) if b"bob" in item]
    alice.answer("go")
    alice.result(receipt)


def test_people_see_whom_an_agent_asks_from_any_process(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.ask("acme/bob", Job("asked"))

    system, other = open_system(registry=REGISTRY, agents={"patient": Patient}), open_system(registry=REGISTRY)
    bob = system.spawn("acme/bob", agent_type="patient")
    spawn_worker(system, work).send(Job())
    eventually(lambda: bob.unfinished())
    for each in (system, other):
        [work_of_alice] = each.agent(PATH).unfinished()
        assert [item["name"] for item in work_of_alice.waits_for] == ["acme/bob"]
    system.erase("acme/bob")
    [begun] = [event for event in other.events(PATH) if event.type == "work_begun"]
    assert begun.data["name"] == log_id("acme/bob")


def test_a_reply_with_a_text_beside_the_log_is_kept_beside_that_of_who_asked(system: AgentSystem) -> None:
    bob, large = system.agent("acme/bob"), "x" * 600_000
    bob.set("report", large)
    bob.set("bytes", {"v": CONTENT_MARK + bytes(50)})  # looks like packed content, and is none

    async def work(self: Any, message: Job) -> Any:
        reads = [await self.ask("acme/bob", read) for read in (Get("report"), GetMany(["report"]), Get())]
        assert reads == [large, [large], {"report": large, "bytes": {"v": CONTENT_MARK + bytes(50)}}]
        length = await self.step("read", lambda: len(bob.get("report")))
        return [length, await self.ask("acme/bob", Get("bytes"))]

    alice = spawn_worker(system, work)
    assert alice.ask(Job()) == [600_000, {"v": CONTENT_MARK + bytes(50)}]
    reply = bob.ask(Get("report"), block=False)
    assert (reply.get(timeout=10), reply.value) == (large, large)


def test_a_handler_sends_no_message_elsewhere_that_could_not_cross_and_a_step_may(system: AgentSystem) -> None:
    bob, large = system.agent("acme/bob"), "x" * 600_000

    async def work(self: Any, message: Job) -> Any:
        await self.ask("acme/bob", Set("report", large))
        with pytest.raises(TooLarge):
            await self.ask("acme/bob", Set("more", 2 * large))
        return await self.step("set", lambda: bob.set("more", 2 * large).agent)

    assert spawn_worker(system, work).ask(Job()) == "acme/bob"
    assert bob.get() == {"report": large, "more": 2 * large}


def test_a_durable_message_is_handled_to_its_end_there(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        receipt = await self.send("acme/bob", Job("sent"))
        verdict = await self.ask("acme/bob", Job("asked"))
        return [receipt.agent, verdict]

    alice, bob = spawn_worker(system, work), system.agent("acme/bob")
    receipt = alice.send(Job())
    eventually(lambda: len(bob.unfinished()) == 2)
    sent, asked = bob.unfinished()
    bob.answer("approval", "of what was sent", work=sent.work)
    bob.answer("approval", "of what was asked", work=asked.work)
    assert alice.result(receipt) == ["acme/bob", "of what was asked"]


def test_an_agent_may_ask_itself_between_its_stretches(system: AgentSystem) -> None:
    async def work(self: Any, message: Any) -> Any:
        if message == "inner":
            return "it was me"
        return await self.ask(self.path, "inner")

    assert spawn_worker(system, work).ask(Job()) == "it was me"


def test_what_is_asked_is_done_once_though_the_asking_host_dies(open_system: OpenSystem, gate: threading.Event) -> None:
    replied = threading.Event()

    async def before(self: Any, message: Job) -> Any:
        count = await self.ask("other/bob", {"a": 1})
        await self.step("hang", hang)
        return count

    def hang() -> None:
        replied.set()
        gate.wait(10)

    async def after(self: Any, message: Job) -> Any:
        count = await self.ask("other/bob", {"a": 1})
        await self.step("hang", dict)
        return count

    other = open_system(registry=REGISTRY, agents={"counter": Counter})
    bob = other.spawn("other/bob", agent_type="counter")
    first = open_system(registry=REGISTRY)
    receipt = spawn_worker(first, before).send(Job())
    assert replied.wait(10)
    second = open_system(registry=REGISTRY, agents={"worker": worker(after)})
    give_up(first, PATH)
    assert second.agent(PATH).result(receipt) == {"count": 1}
    assert bob.get("count") == 1


def test_a_question_without_a_reply_is_asked_again_with_the_same_id(open_system: OpenSystem) -> None:
    asked = threading.Event()

    async def work(self: Any, message: Job) -> Any:
        return await self.ask("other/bob", Job("inner"))

    class Asked(Counter):
        async def on_receive(self, message: Any) -> Any:
            asked.set()
            return await super().on_receive(message)

    other = open_system(registry=REGISTRY, agents={"counter": Asked})
    bob = other.spawn("other/bob", agent_type="counter")
    first = open_system(registry=REGISTRY)
    receipt = spawn_worker(first, work).send(Job())
    assert asked.wait(10)
    give_up(first, PATH)
    second = open_system(registry=REGISTRY, agents={"worker": worker(work)})
    eventually(lambda: "work_taken_up" in types_of(second))
    bob.answer("approval", "yes")
    assert second.agent(PATH).result(receipt) == "yes"
    assert bob.get("count") == 1
    assert bob.unfinished() == []


def test_a_sub_agent_of_a_durable_handler_is_there_when_its_work_has_ended(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        helper = self.spawn_child("helper", initial_state={"task": "read"})
        return helper.path.text

    alice = spawn_worker(system, work)
    path = alice.ask(Job())
    assert system.agent(path).get() == {"task": "read"}
    assert system.peek(PATH).children == {path: False}


def test_only_durable_messages_are_sent_and_errors_come_back(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        with pytest.raises(InvalidMessage, match="durable=True"):
            await self.send("acme/bob", "plain")
        await self.ask("acme/bob", "bad")

    with pytest.raises(HandlerRaised, match="no such order"):
        spawn_worker(system, work).ask(Job())


class Patient(Agent):
    """Waits for an approval, and notes that it was cancelled."""

    async def on_receive(self, message: Any) -> Any:
        try:
            return await self.wait_for("approval")
        except WorkCancelled:
            self.append("cancelled", message.name)
            raise


@pytest.mark.parametrize("end", ["cancel", "terminate", "failure", "task"])
def test_work_that_nobody_waits_for_any_more_is_cancelled_where_it_was_asked(open_system: OpenSystem, end: str) -> None:
    system = open_system(registry=REGISTRY, agents={"patient": Patient})
    bob = system.spawn("acme/bob", agent_type="patient")

    async def work(self: Any, message: Job) -> Any:
        await self.send("acme/bob", Job("sent"))
        asked = asyncio.create_task(self.ask("acme/bob", Job("asked")))
        await self.wait_for("go")
        if end == "task":
            asked.cancel()
            return await self.wait_for("go")
        if end == "failure":
            raise LookupError("no such order")
        return await asked

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    eventually(lambda: len(bob.unfinished()) == 2 and alice.unfinished()[0].waits_for)
    if end == "terminate":
        alice.terminate(consolidate_to_episodic=False)
    elif end == "cancel":
        alice.cancel(receipt)
    else:
        alice.answer("go")
    eventually(lambda: bob.get("cancelled", []) == ["asked"])
    bob.answer("approval", 1)
    eventually(lambda: bob.unfinished() == [])
    assert bob.get("cancelled") == ["asked"]  # what was sent has ended by its answer


@pytest.mark.parametrize("end", ["cancel", "terminate", "failure", "task"])
def test_another_host_cancels_what_was_asked_if_the_first_dies_before_it_could(
    open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    async def work(self: Any, message: Job) -> Any:
        asked = asyncio.create_task(self.ask("acme/bob", Job("asked")))
        await self.wait_for("go")
        if end == "task":
            asked.cancel()
            return await self.wait_for("go")
        if end == "failure":
            raise LookupError("no such order")
        return await asked

    kinds = {"patient": Patient, "worker": worker(work)}
    first = open_system(registry=REGISTRY, agents=kinds)
    alice, bob = first.spawn(PATH, agent_type="worker"), first.spawn("acme/bob", agent_type="patient")
    receipt = alice.send(Job())
    eventually(lambda: bob.unfinished() and len(alice.unfinished()[0].waits_for) == 2)
    actors, lost = first._services.actors, threading.Event()
    send = actors.send

    def lose_cancels(path: str, envelope: Any, *more: Any) -> Any:
        return lost.set() if type(envelope.message) is CancelAsked else send(path, envelope, *more)

    monkeypatch.setattr(actors, "send", lose_cancels)
    if end == "terminate":
        alice.terminate(consolidate_to_episodic=False)
    elif end == "cancel":
        alice.cancel(receipt)
    else:
        alice.answer("go")
    assert lost.wait(10)
    assert bob.get("cancelled", []) == [] and index_of(first._services.log)[PATH] == 0
    monkeypatch.undo()  # bob lives there on
    second = open_system(registry=REGISTRY, agents=kinds)
    give_up(first, PATH)
    second._finder.look()
    eventually(lambda: second.agent("acme/bob").get("cancelled", []) == ["asked"])
    eventually(lambda: [event.type for event in second.events(PATH)].count("work_cancel_sent") == 1)
    eventually(lambda: second.agent("acme/bob").unfinished() == [])
    eventually(lambda: index_of(first._services.log).get(PATH) == (NEVER if end == "task" else None))
    assert second.verify().ok


@pytest.mark.parametrize("end", ["cancel", "terminate", "failure", "task"])
def test_what_an_earlier_release_has_asked_is_cancelled(
    open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    runs: list[str] = []

    async def work(self: Any, message: Job) -> Any:
        runs.append(message.name)
        asked = asyncio.create_task(self.ask("other/bob", Job("asked")))
        await self.wait_for("go")
        if end == "task":
            asked.cancel()
            return await self.wait_for("go")
        if end == "failure":
            raise LookupError("no such order")
        return await asked

    def begun_then(type: str, data: dict[str, Any], **more: Any) -> NewEvent:
        return NewEvent(type, {name: value for name, value in data.items() if name != "durable"}, **more)

    other = open_system(registry=REGISTRY, agents={"patient": Patient})
    bob = other.spawn("other/bob", agent_type="patient")
    first = open_system(registry=REGISTRY)
    with monkeypatch.context() as earlier:
        earlier.setattr(execution_module, "NewEvent", begun_then)
        earlier.setattr(Begun, "logged_name", property(lambda begun: begun.name))
        receipt = spawn_worker(first, work).send(Job())
        eventually(lambda: bob.unfinished() and len(first.agent(PATH).unfinished()[0].waits_for) == 2)
        first_seq = first.agent(PATH).status().seq
    second = open_system(registry=REGISTRY, agents={"worker": worker(work)})
    give_up(first, PATH)
    second._finder.look()
    eventually(lambda: len(runs) == 2)
    alice = second.agent(PATH)
    if end == "terminate":
        alice.terminate(consolidate_to_episodic=False)
    elif end == "cancel":
        alice.cancel(receipt)
    else:
        alice.answer("go")
    eventually(lambda: bob.get("cancelled", []) == ["asked"])
    eventually(lambda: bob.unfinished() == [])
    before = list(second.events(PATH, to_seq=first_seq))
    assert not any("durable" in event.data for event in before)
    assert "other/bob" in [event.data.get("name") for event in before], "control: as an earlier release named it"
    assert "work_cancel_sent" not in types_of(second)


def test_a_session_that_ends_on_another_host_cancels_what_was_asked(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.ask("acme/bob", Job("asked"))

    kinds = {"patient": Patient, "worker": worker(work)}
    first, second = open_system(registry=REGISTRY, agents=kinds), open_system(registry=REGISTRY, agents=kinds)
    alice, bob = first.spawn(PATH, agent_type="worker"), first.spawn("acme/bob", agent_type="patient")
    alice.send(Job())
    eventually(lambda: bob.unfinished())
    alice.pause("here")
    give_up(first, PATH)
    second.agent(PATH).terminate(consolidate_to_episodic=False)
    eventually(lambda: bob.get("cancelled", []) == ["asked"])
    eventually(lambda: index_of(first._services.log) == {})


def test_an_agent_that_is_not_reached_is_told_to_cancel_with_growing_pauses(
    open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.ask("acme/bob", Job("asked"))

    system = open_system(registry=REGISTRY, agents={"patient": Patient})
    bob = system.spawn("acme/bob", agent_type="patient")
    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    eventually(lambda: bob.unfinished() != [])
    actors, timers = system._services.actors, system._services.timers
    send, call_later = actors.send, timers.call_later
    tries: list[str] = []
    pauses: list[float] = []

    def fail_twelve_times(path: str, envelope: Any, *more: Any) -> Any:
        if type(envelope.message) is CancelAsked:
            tries.append(path)
            if len(tries) <= 12:
                return envelope.refuse(Unavailable("no server"))
        return send(path, envelope, *more)

    def at_once(seconds: float, call: Callable[[], None]) -> Any:
        if not getattr(call, "__qualname__", "").startswith("Cancelling."):
            return call_later(seconds, call)
        pauses.append(seconds)
        return call()

    monkeypatch.setattr(actors, "send", fail_twelve_times)
    monkeypatch.setattr(timers, "call_later", at_once)
    alice.cancel(receipt)
    eventually(lambda: bob.get("cancelled", []) == ["asked"])
    eventually(lambda: types_of(system)[-1] == "work_cancel_sent")
    assert pauses == [0.1 * 2**n for n in range(9)] + [30.0] * 3 and len(tries) == 13


def test_an_agent_that_is_gone_needs_no_cancelling(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.ask("acme/bob", Job("asked"))

    system = open_system(registry=REGISTRY, agents={"patient": Patient})
    bob = system.spawn("acme/bob", agent_type="patient")
    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    eventually(lambda: bob.unfinished())
    system.erase("acme/bob")
    alice.cancel(receipt)
    eventually(lambda: types_of(system)[-1] == "work_cancel_sent")
    assert index_of(system._services.log) == {}


def test_work_whose_reply_has_come_is_not_cancelled(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        reply = await self.ask("acme/bob", Job("asked"))
        await self.wait_for("go")
        return reply

    alice, bob = spawn_worker(system, work), system.agent("acme/bob")
    receipt = alice.send(Job())
    eventually(lambda: bob.unfinished())
    bob.answer("approval", "yes")
    eventually(lambda: any(item["kind"] == "wait" for each in alice.unfinished() for item in each.waits_for))
    alice.cancel(receipt)
    assert [event.data["how"] for event in system.events("acme/bob") if event.type == "work_ended"] == ["done"]
