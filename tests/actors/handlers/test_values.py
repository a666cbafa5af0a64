"""Values are those of the call, whatever becomes of them before they are handled; what is given out is a copy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import MappingProxyType
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import (
    Agent,
    AgentHandle,
    AgentSystem,
    Append,
    Batch,
    Merge,
    Pause,
    Record,
    Set,
    Settings,
    Spawn,
    Terminate,
)
from duramen.events import EventRegistry, TooLarge, event_type

OpenSystem = Callable[..., AgentSystem]
REGISTRY = EventRegistry()


@event_type("noted", registry=REGISTRY)
@frozen
class Noted:
    rows: list[Any]


class Worker(Agent):
    """Handles nothing before its gate is open; keeps the messages that it was sent."""

    gate: threading.Event

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Any] = []
        self.all_here = threading.Event()

    def on_receive(self, message: Any) -> Any:
        match message:
            case "wait":
                assert self.gate.wait(10)
            case "messages":
                return self.messages
            case "ref":
                return self.actor_ref
            case "state":
                return self.state
            case "memory":
                return self.get()
            case "emit":
                rows: list[Any] = []
                for number in range(3):
                    rows.append(number)
                    self.emit(Noted(rows))
            case "write":
                row = {"n": 0}
                for number in range(3):
                    row["n"] = number
                    self.append("rows", row)
                    self.record("seen", row)
                    self.set("row", row)
                    self.merge("merged", row)
                row["n"] = -1
            case "timer":
                due = ["due"]
                self.schedule_once(0.01, due)
                due.append("changed")
            case _:
                self.messages.append(message)
                self.all_here.set()
                return message
        return None

    def initial(self) -> Any:
        return []

    def apply(self, state: Any, event: Any) -> Any:
        state.append(event.rows)  # in place: its argument is a copy
        return state


@pytest.fixture
def agent(open_any: OpenSystem, gate: threading.Event) -> AgentHandle:
    Worker.gate = gate
    return open_any(agents={"worker": Worker}, registry=REGISTRY).spawn("p/a", agent_type="worker")


MESSAGES: dict[str, tuple[Callable[[Any], Any], Callable[[AgentHandle], Any]]] = {
    "set": (lambda rows: Set("x", rows), lambda agent: agent.get("x")),
    "set, nested": (lambda rows: Set("x", {"a": [rows]}), lambda agent: agent.get("x/a/0")),
    "append": (lambda rows: Append("x", rows), lambda agent: agent.get("x/0")),
    "merge": (lambda rows: Merge("", {"x": rows}), lambda agent: agent.get("x")),
    "record": (lambda rows: Record("seen", rows), lambda agent: last_event(agent)["data"]),
    "batch": (lambda rows: Batch([Set("x", rows)]), lambda agent: agent.get("x")),
    "pause": (lambda rows: Pause(metadata={"x": rows}), lambda agent: agent.checkpoints()[0].metadata["x"]),
    "terminate": (
        lambda rows: Terminate(outcome_details=rows, lessons_learned=rows),
        lambda agent: same(agent_system(agent).episodes.list()[0]),
    ),
}


def same(episode: Any) -> Any:
    assert episode.lessons_learned == episode.outcome_details
    return episode.outcome_details


def agent_system(agent: AgentHandle) -> Any:
    return agent._system


def last_event(agent: AgentHandle) -> dict[str, Any]:
    return list(agent_system(agent).events("p/a"))[-1].data


def change(rows: list[Any]) -> None:
    rows.append("changed")


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_that_waits_keeps_the_value_it_was_made_with(
    agent: AgentHandle, gate: threading.Event, kind: str
) -> None:
    make, stored = MESSAGES[kind]
    agent.tell("wait")
    rows = ["a"]
    reply = agent.ask(make(rows), block=False)
    change(rows)
    gate.set()
    reply.get(timeout=10)
    assert stored(agent) == ["a"]


def test_a_batch_keeps_the_values_of_its_calls(agent: AgentHandle) -> None:
    row: dict[str, Any] = {}
    with agent.batch() as batch:
        for number in range(3):
            row["n"] = number
            batch.append("appended", row)
            batch.set("set", row)
            batch.merge("merged", row)
        row["n"] = -1
    expected = {"appended": [{"n": 0}, {"n": 1}, {"n": 2}], "set": {"n": 2}, "merged": {"n": 2}}
    assert agent.get() == expected


def test_a_spawn_that_waits_keeps_its_values(open_system: OpenSystem) -> None:
    system = open_system(agents={"worker": Worker})
    state, metadata = {"rows": ["a"]}, {"tags": ["b"]}
    message = Spawn(agent_type="worker", initial_state=state, metadata=MappingProxyType(metadata))
    change(state["rows"])
    change(metadata["tags"])
    agent = system.agent("p/b")
    agent.ask(message)
    assert (agent.get(), dict(agent.status().metadata)) == ({"rows": ["a"]}, {"tags": ["b"]})


ASYNC: dict[str, tuple[Callable[[AgentSystem, Any], Coroutine[Any, Any, Any]], str]] = {
    "set": (lambda system, rows: system.agent("p/a").aio.set("x", rows), "x"),
    "append": (lambda system, rows: system.agent("p/a").aio.append("x", rows), "x/0"),
    "merge": (lambda system, rows: system.agent("p/a").aio.merge("", {"x": rows}), "x"),
    "ask": (lambda system, rows: system.agent("p/a").aio.ask(Set("x", rows)), "x"),
    "spawn": (lambda system, rows: system.aio.spawn("p/b", initial_state={"x": rows}), "x"),
    "spawn_child": (lambda system, rows: system.agent("p/a").aio.spawn_child("b", initial_state={"x": rows}), "x"),
}


@pytest.mark.parametrize("call", ASYNC)
def test_an_asyncio_call_keeps_the_value_it_was_called_with(open_system: OpenSystem, call: str) -> None:
    system = open_system()
    system.spawn("p/a")
    make, path = ASYNC[call]

    async def main() -> None:
        rows = ["a"]
        task = asyncio.ensure_future(make(system, rows))
        change(rows)  # before the task has run at all
        await task

    asyncio.run(main())
    agent = {"spawn": "p/b", "spawn_child": "p/a/b"}.get(call, "p/a")
    assert system.agent(agent).get(path) == ["a"]


def test_messages_of_ones_own_that_are_plain_data_are_those_of_the_call(
    agent: AgentHandle, gate: threading.Event
) -> None:
    ref = agent.ask("ref")
    agent.tell("wait")
    asked, told, proxied, awaited = (["a"] for _ in range(4))
    replies = [agent.ask(asked, block=False), ref.ask(proxied, block=False)]
    agent.tell(told)

    async def main() -> None:
        task = asyncio.ensure_future(agent.aio.ask(awaited))
        change(awaited)
        await asyncio.sleep(0)
        gate.set()
        await task

    for rows in (asked, told, proxied):
        change(rows)
    asyncio.run(main())
    for reply in replies:
        reply.get(timeout=10)
    assert agent.ask("messages") == [["a"], ["a"], ["a"], ["a"]]


@pytest.mark.slow
def test_a_timers_message_is_that_of_the_call(open_system: OpenSystem) -> None:
    made: list[Worker] = []

    def make() -> Worker:
        made.append(Worker())
        return made[-1]

    agent = open_system(agents={"worker": make}).spawn("p/a", agent_type="worker")
    agent.ask("timer")
    assert made[0].all_here.wait(10)
    assert agent.ask("messages") == [["due"]]


def test_each_ring_of_a_timer_has_a_message_of_its_own(open_system: OpenSystem) -> None:
    rings: list[list[str]] = []
    twice = threading.Event()

    class Clock(Agent):
        def on_receive(self, message: Any) -> Any:
            if message == "wind up":
                self.schedule_every(0.01, ["ring"])
            elif len(rings) < 2:
                rings.append(list(message))
                message.append("heard")
            else:
                twice.set()

    open_system(agents={"clock": Clock}).spawn("p/a", agent_type="clock").ask("wind up")
    assert twice.wait(10)
    assert rings == [["ring"], ["ring"]]


def test_what_a_handler_writes_is_the_value_of_its_call(agent: AgentHandle) -> None:
    agent.ask("write")
    assert agent.get() == {"rows": [{"n": 0}, {"n": 1}, {"n": 2}], "row": {"n": 2}, "merged": {"n": 2}}
    records = [event.data["data"] for event in agent_system(agent).events("p/a") if event.type == "activity_recorded"]
    assert records == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_an_emitted_event_is_folded_as_it_was_when_it_was_emitted(agent: AgentHandle, open_any: OpenSystem) -> None:
    agent.ask("emit")
    assert agent.ask("state") == [[0], [0, 1], [0, 1, 2]]
    assert [event.data["rows"] for event in agent_system(agent).events("p/a", from_seq=2)] == agent.ask("state")
    again = open_any(agents={"worker": Worker}, registry=REGISTRY).agent("p/a")
    assert again.ask("state") == [[0], [0, 1], [0, 1, 2]]


def test_what_a_caller_does_to_a_reply_changes_nothing(open_any: OpenSystem) -> None:
    options: dict[str, Any] = {
        "agents": {"worker": Worker},
        "registry": REGISTRY,
        "settings": Settings(snapshot_every=2),
    }
    system = open_any(**options)
    agent = system.spawn("p/a", agent_type="worker", initial_state={"l": ["a"]}, metadata={"m": ["b"]})
    agent.ask("emit")
    agent.ask(["kept"])
    for reply in (
        agent.ask("state"),
        agent.ask("memory")["l"],
        agent.ask("messages"),
        agent.get("l"),
        agent.get()["l"],
        agent.keys(),
        agent.status().metadata["m"],
    ):
        change(reply)
    expected = [[0], [0, 1], [0, 1, 2]]
    assert (agent.get(), agent.keys(), agent.status().metadata) == ({"l": ["a"]}, ["l"], {"m": ["b"]})
    assert (agent.ask("state"), agent.ask("messages")) == (expected, [["kept"]])
    agent.ask("emit")  # takes a snapshot
    assert system.verify("p/a").ok
    assert open_any(**options).agent("p/a").ask("state") == expected * 2


def test_what_a_handler_does_to_the_state_it_was_given_changes_nothing(open_system: OpenSystem) -> None:
    class Careless(Worker):
        def on_receive(self, message: Any) -> Any:
            if message == "change":
                self.state.append("changed")
                self.get("l").append("changed")
                return [self.state, self.get("l")]
            return super().on_receive(message)

    agent = open_system(agents={"worker": Careless}, registry=REGISTRY).spawn(
        "p/a", agent_type="worker", initial_state={"l": []}
    )
    assert agent.ask("change") == [[], []]


@pytest.mark.slow
def test_values_that_refer_to_themselves_or_are_too_deep_are_still_refused(open_system: OpenSystem) -> None:
    agent = open_system().spawn("p/a")
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    wide: list[Any] = ["x"] * 10
    for _ in range(20):
        wide = [wide] * 10
    for value in (endless, deep, wide):
        with pytest.raises(TooLarge):
            agent.set("x", value)
    assert agent.get() == {}
