"""What a handler writes belongs to its own turn: whatever outlives the handler writes nothing into the next."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem
from duramen.events import DuramenError, EventRegistry, HandlerEnded, InvalidMessage, event_id, event_type

OpenSystem = Callable[..., AgentSystem]
REGISTRY = EventRegistry()


@event_type("noted", registry=REGISTRY)
@frozen
class Noted:
    text: str


WRITES: dict[str, Callable[[Agent], object]] = {
    "set": lambda agent: agent.set("late", 1),
    "delete": lambda agent: agent.delete("own"),
    "append": lambda agent: agent.append("late", 1),
    "merge": lambda agent: agent.merge("", {"late": 1}),
    "record": lambda agent: agent.record("late"),
    "emit": lambda agent: agent.emit(Noted("late")),
    "after_commit": lambda agent: agent.after_commit(lambda: agent.set("late", 1)),
}
READS: dict[str, Callable[[Agent], object]] = {
    "get": lambda agent: agent.get("own"),
    "state": lambda agent: agent.state,
    "seq": lambda agent: agent.seq,
    "session_id": lambda agent: agent.session_id,
}


class Worker(Agent):
    """Its first message starts work that goes on; the second lets the work try something while it is handled."""

    def __init__(self, start: Callable[[Callable[[], None]], Any], use: Callable[[Agent], object], end: str) -> None:
        super().__init__()
        self._start, self._use, self._end = start, use, end
        self.second_begun, self.tried = threading.Event(), threading.Event()
        self.outcome: Any = None
        self.started: Any = None

    def on_receive(self, message: Any) -> Any:
        if message == "first":
            self.started = self._start(self._late)
            if self._end == "raises":
                raise ValueError("the first handler failed")
            return None
        self.set("own", 1)
        self.second_begun.set()
        assert self.tried.wait(10)
        return self.seq

    def _late(self) -> None:
        assert self.second_begun.wait(10)
        try:
            self.outcome = self._use(self)
        except DuramenError as error:
            self.outcome = error
        self.tried.set()


class AsyncWorker(Worker):
    async def on_receive(self, message: Any) -> Any:
        if message == "first":
            return super().on_receive(message)
        return await asyncio.to_thread(super().on_receive, message)


def plain_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def thread_with_context(work: Callable[[], None]) -> None:
    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()


def task(work: Callable[[], None]) -> Any:
    return asyncio.ensure_future(asyncio.to_thread(work))


STARTS = {
    "a plain thread": (Worker, plain_thread, InvalidMessage),
    "a thread with the handler's context": (Worker, thread_with_context, HandlerEnded),
    "a task": (AsyncWorker, task, HandlerEnded),
}


def open_worker(
    open_system: OpenSystem, how: str, use: Callable[[Agent], object], end: str
) -> tuple[AgentSystem, AgentHandle, Worker, type[DuramenError]]:
    kind, start, refusal = STARTS[how]
    worker = kind(start, use, end)
    system = open_system(agents={"worker": lambda: worker}, registry=REGISTRY)
    return system, system.spawn("p/a", agent_type="worker"), worker, refusal


def ask_both(agent: AgentHandle, end: str) -> Any:
    if end == "raises":
        with pytest.raises(ValueError, match="the first handler failed"):
            agent.ask("first")
    else:
        agent.ask("first", command_id="first-1")
    return agent.ask("second", command_id="second-1")


@pytest.mark.parametrize("end", ["returns", "raises"])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("how", STARTS)
def test_work_that_outlives_its_handler_writes_nothing_into_the_next_turn(
    open_system: OpenSystem, how: str, write: str, end: str
) -> None:
    system, agent, worker, refusal = open_worker(open_system, how, WRITES[write], end)

    ask_both(agent, end)

    assert type(worker.outcome) is refusal
    assert agent.get() == {"own": 1}
    assert [event.data["path"] for event in system.events("p/a") if event.type == "memory_set"] == ["own"]
    assert [event.type for event in system.events("p/a")].count("noted") == 0


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("how", ["a thread with the handler's context", "a task"])
def test_work_that_outlives_its_handler_sees_nothing_uncommitted_of_the_next_turn(
    open_system: OpenSystem, how: str, read: str
) -> None:
    _, agent, worker, refusal = open_worker(open_system, how, READS[read], "returns")
    ask_both(agent, "returns")
    assert type(worker.outcome) is refusal


def test_the_refusal_says_where_the_handler_had_ended(open_system: OpenSystem) -> None:
    _, agent, worker, _ = open_worker(open_system, "a task", WRITES["set"], "returns")
    ask_both(agent, "returns")
    assert (worker.outcome.agent, worker.outcome.seq) == ("p/a", 1)


class Parallel(Agent):
    """Writes from threads and tasks of its own, all of which it waits for."""

    async def on_receive(self, message: Any) -> Any:
        await asyncio.gather(*(asyncio.to_thread(self._write, number) for number in range(message)))
        task = asyncio.ensure_future(asyncio.sleep(0))
        await task
        return self.get("rows")

    def _write(self, number: int) -> None:
        for step in range(20):
            self.append("rows", [number, step])


def test_threads_that_a_handler_waits_for_write_into_its_batch_one_at_a_time(open_any: OpenSystem) -> None:
    system = open_any(agents={"parallel": Parallel})
    agent = system.spawn("p/a", agent_type="parallel")

    rows = agent.ask(8)

    assert sorted(rows) == [[number, step] for number in range(8) for step in range(20)]
    assert agent.get("rows") == rows
    assert system.verify("p/a").ok
    assert system.state_at("p/a").memory == {"rows": rows}


def test_a_message_that_is_sent_late_has_the_cause_of_its_own_turn(open_system: OpenSystem) -> None:
    ready, threads = threading.Event(), list[threading.Thread]()

    class Sender(Agent):
        def on_receive(self, message: Any) -> Any:
            self.set("step", message)
            if message == "first":
                threads.append(threading.Thread(target=contextvars.copy_context().run, args=(send_late,)))
                threads[0].start()

    def send_late() -> None:
        assert ready.wait(10)
        other.set("sent", True)

    system = open_system(agents={"sender": Sender})
    agent, other = system.spawn("p/a", agent_type="sender"), system.spawn("p/b")
    agent.ask("first")
    agent.ask("second")
    ready.set()
    threads[0].join()

    assert [event.causation_id for event in system.events("p/b")] == [None, event_id("p/a", 2)]


def test_an_effect_after_the_commit_cannot_write(open_system: OpenSystem) -> None:
    caught: list[BaseException] = []
    done = threading.Event()

    class Effectful(Agent):
        def on_receive(self, message: Any) -> Any:
            self.after_commit(self._effect)

        def _effect(self) -> None:
            try:
                self.set("from_effect", 1)
            except InvalidMessage as error:
                caught.append(error)
            done.set()

    agent = open_system(agents={"effectful": Effectful}).spawn("p/a", agent_type="effectful")
    agent.ask("go")
    assert done.wait(10)
    assert caught
    assert agent.get() == {}


def test_one_agents_handler_cannot_write_as_another(open_system: OpenSystem) -> None:
    made: list[Agent] = []

    class Known(Agent):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def on_receive(self, message: Any) -> Any:
            if message == "write as the first":
                made[0].set("from", self.path)

    system = open_system(agents={"known": Known})
    first, second = (system.spawn(f"p/{name}", agent_type="known") for name in "ab")
    first.ask("hello")
    with pytest.raises(InvalidMessage):
        second.ask("write as the first")
    assert (first.get(), second.get()) == ({}, {})
