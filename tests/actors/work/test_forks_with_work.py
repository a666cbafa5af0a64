"""A fork leaves unfinished work behind, or carries it on: under keys of its own, or with other results."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, worker
from duramen.actors import AgentSystem
from duramen.events import AnswerRefused, InvalidMessage, Limits, TooLarge, ValueRefused, WorkParked, log_id
from duramen.projections import WorkingMemory
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
FORK = "acme/fork"


class Shop:
    """The world outside of one test: what was called in it, and a gate at which payments wait."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.gate = threading.Event()

    def look_up(self, order: str) -> dict[str, int]:
        self.calls.append(("look up", order))
        return {"price": 40}

    def pay(self, price: int, key: str) -> str:
        self.calls.append(("pay", key))
        self.gate.wait(60)
        return f"paid {price}"

    def keys(self) -> list[str]:
        return [what for name, what in self.calls if name == "pay"]

    async def work(self, agent: Any, message: Job) -> Any:
        found = await agent.step("look up", self.look_up, message.name)
        agent.set("found", found)
        agent.set("path", agent.path)
        paid = await agent.step("pay", self.pay, found["price"], key="key")
        agent.set("paid", paid)
        verdict = await agent.wait_for("approval")
        return [paid, verdict, agent.path, str(agent.uuid())]


@pytest.fixture
def shop() -> Iterator[Shop]:
    found = Shop()
    yield found
    found.gate.set()


def begin(system: AgentSystem, shop: Shop) -> Any:
    """An agent whose payment is under way."""
    alice = spawn_worker(system, shop.work)
    receipt = alice.send(Job("o-17"))
    eventually(lambda: len(shop.keys()) == 1)
    return receipt


def events_of(system: AgentSystem, path: str) -> list[Any]:
    """All events that an agent's log has."""
    head = system._services.log.head(path)
    assert head is not None
    return list(system.events(path, from_seq=head.base + 1))


def seq_of(system: AgentSystem, name: str, path: str = PATH) -> int:
    """Where a step, or a wait, has begun."""
    return next(event.seq for event in events_of(system, path) if event.data.get("name") in (name, log_id(name)))


def waits(system: AgentSystem, path: str) -> list[str]:
    return [each["name"] for work in system.agent(path).unfinished() for each in work.waits_for]


def test_a_fork_goes_on_with_its_work_and_repeats_only_what_was_under_way(open_any: OpenSystem, shop: Shop) -> None:
    system = open_any(registry=REGISTRY)
    receipt = begin(system, shop)
    fork = system.fork(PATH, to=FORK, continue_work=True)
    shop.gate.set()
    eventually(lambda: len(shop.keys()) == 2)
    fork.answer("approval", "in the fork", work=receipt)
    assert fork.result(receipt)[:3] == ["paid 40", "in the fork", FORK]
    assert [name for name, _ in shop.calls] == ["look up", "pay", "pay"]
    eventually(lambda: waits(system, PATH) == ["approval"])  # that answer was none for the origin
    system.agent(PATH).answer("approval", "at home")
    first, second = system.agent(PATH).result(receipt), fork.result(receipt)
    assert first[:3] == ["paid 40", "at home", PATH]
    assert first[3] != second[3] and len(set(shop.keys())) == 2  # ids and keys are its own
    assert fork.get("path") == PATH  # what was set before the fork is what it was
    assert system.verify().ok


def test_a_fork_that_leaves_its_work_behind_begins_nothing(open_system: OpenSystem, shop: Shop) -> None:
    system = open_system(registry=REGISTRY)
    receipt = begin(system, shop)
    fork = system.fork(PATH, to=FORK)
    assert fork.unfinished() == [] and fork.get("path") == PATH
    with pytest.raises(InvalidMessage):
        fork.result(receipt)
    with pytest.raises(AnswerRefused):
        fork.answer("approval", 1, work=receipt)
    shop.gate.set()
    system.agent(PATH).answer("approval")
    system.agent(PATH).result(receipt)
    assert len(shop.keys()) == 1
    assert [event.type for event in events_of(system, FORK)] == ["forked"]


def test_another_result_stands_in_for_a_step_that_is_not_called(open_any: OpenSystem, shop: Shop) -> None:
    system = open_any(registry=REGISTRY)
    receipt = begin(system, shop)
    shop.gate.set()
    system.agent(PATH).answer("approval", "at home")
    assert system.agent(PATH).result(receipt)[0] == "paid 40"
    at = seq_of(system, "look up")
    fork = system.fork(PATH, at, to=FORK, continue_work=True, instead={"look up": {"price": 7}})
    fork.answer("approval", "in the fork")
    assert fork.result(receipt)[:2] == ["paid 7", "in the fork"]
    assert [name for name, _ in shop.calls] == ["look up", "pay", "pay"]
    [done] = [event for event in events_of(system, FORK) if event.type == "work_done"]
    assert (done.data["result"], done.seq) == ({"price": 7}, at + 2)
    assert fork.get("found") == {"price": 7} and system.agent(PATH).get("found") == {"price": 40}
    assert system.verify().ok


def test_other_results_are_refused_before_anything_is_written(open_system: OpenSystem, shop: Shop) -> None:
    system = open_system(registry=REGISTRY, limits=Limits(event_bytes=8_192))
    receipt = begin(system, shop)
    with pytest.raises(InvalidMessage) as unknown:
        system.fork(PATH, to=FORK, continue_work=True, instead={"look up": 1})
    assert (unknown.value.actual, unknown.value.expected) == (["look up"], ["pay"])
    with pytest.raises(InvalidMessage):
        system.fork(PATH, to=FORK, instead={"pay": 1})
    for wrong in ([("pay", 1)], "pay"):
        with pytest.raises(InvalidMessage):
            system.fork(PATH, to=FORK, continue_work=True, instead=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidMessage):
        system.fork(PATH, to=FORK, continue_work=1)  # type: ignore[arg-type]
    with pytest.raises(ValueRefused):
        system.fork(PATH, to=FORK, continue_work=True, instead={"pay": object()})
    with pytest.raises(TooLarge):
        system.fork(PATH, to=FORK, continue_work=True, instead={"pay": "x" * 8_000})
    assert system._services.log.head(FORK) is None
    fork = system.fork(PATH, to=FORK, continue_work=True, instead={"pay": "paid by hand"})
    fork.answer("approval")
    assert fork.result(receipt)[0] == "paid by hand"
    assert len(shop.keys()) == 1


def test_a_moment_in_the_middle_of_an_append_is_refused(open_system: OpenSystem, shop: Shop) -> None:
    system = open_system(registry=REGISTRY)
    begin(system, shop)
    begun, continued = seq_of(system, "pay"), seq_of(system, "look up") + 1
    for at in range(continued, begun):
        with pytest.raises(InvalidMessage) as refused:
            system.fork(PATH, at, to=FORK, continue_work=True)
        assert refused.value.expected == continued - 1
    for number, at in enumerate((continued - 1, begun)):
        assert waits(system, system.fork(PATH, at, to=f"{FORK}-{number}", continue_work=True).path.text) != []
    assert system.fork(PATH, continued, to=FORK).unfinished() == []  # a fork without work may begin anywhere


def test_work_that_has_not_begun_begins_in_both(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> str:
        return f"{message.name} at {self.path}"

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, work)
    receipt = alice.send(Job("o-17"))
    alice.result(receipt)
    fork = system.fork(PATH, receipt.seq, to=FORK, continue_work=True)
    assert fork.result(receipt) == f"o-17 at {FORK}"


def test_deadlines_and_early_answers_are_the_same_in_a_fork(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        first = await self.wait_for("first", timeout=timedelta(days=2), about="a")
        return [first, await self.wait_for("second")]

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    alice.answer("second", "early")
    eventually(lambda: waits(system, PATH) == ["first"])
    fork = system.fork(PATH, to=FORK, continue_work=True)
    [ours], [theirs] = fork.unfinished(), alice.unfinished()
    assert ours.waits_for == theirs.waits_for and ours.since == theirs.since
    fork.answer("first", 1, about="a")
    assert fork.result(receipt) == [1, "early"]
    assert waits(system, PATH) == ["first"]


def test_a_fork_of_a_fork_goes_on_too(open_system: OpenSystem, shop: Shop) -> None:
    system = open_system(registry=REGISTRY)
    receipt = begin(system, shop)
    at = seq_of(system, "pay")
    system.fork(PATH, to="acme/second", continue_work=True)
    eventually(lambda: len(shop.keys()) == 2)
    system.fork("acme/second", to="acme/third", continue_work=True)
    system.fork("acme/second", at, to="acme/fourth", continue_work=True)  # of what it has from its origin
    eventually(lambda: len(shop.keys()) == 4)
    shop.gate.set()
    for path in ("acme/third", "acme/fourth", "acme/second", PATH):
        system.agent(path).answer("approval", path)
        assert system.agent(path).result(receipt)[:3] == ["paid 40", path, path]
    assert len(set(shop.keys())) == 4
    assert [origin.agent for path in ("third", "fourth") if (origin := system.origin(f"acme/{path}"))] == [
        "acme/second",
        "acme/second",
    ]
    assert system.verify().ok


def test_another_host_goes_on_with_a_fork(open_any: OpenSystem, shop: Shop) -> None:
    first = open_any(registry=REGISTRY)
    receipt = begin(first, shop)
    shop.gate.set()
    eventually(lambda: waits(first, PATH) == ["approval"])
    first.fork(PATH, to=FORK, continue_work=True)
    first.close()
    second = open_any(registry=REGISTRY, agents={"worker": worker(shop.work)})
    second.agent(FORK).answer("approval", "after a restart")
    assert second.agent(FORK).result(receipt)[1] == "after a restart"
    assert len(shop.calls) == 2


def test_what_an_agent_outside_of_the_fork_is_asked_is_asked_again(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        if message.name == "inner":
            return await self.wait_for("approval")
        return await self.ask("acme/bob", Job("inner"))

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, work)
    bob = system.spawn("acme/bob", agent_type="worker")
    receipt = alice.send(Job())
    eventually(lambda: len(bob.unfinished()) == 1)
    fork = system.fork(PATH, to=FORK, continue_work=True)
    eventually(lambda: len(bob.unfinished()) == 2)
    other = system.fork(PATH, seq_of(system, "acme/bob"), to=f"{FORK}-2", continue_work=True, instead={"acme/bob": "x"})
    assert other.result(receipt) == "x"
    for answer in ("one", "two"):
        bob.answer("approval", answer)
    assert {alice.result(receipt), fork.result(receipt)} == {"one", "two"}


def test_in_a_forked_tree_what_was_asked_within_it_is_done_once(open_system: OpenSystem) -> None:
    began: list[str] = []

    async def work(self: Any, message: Job) -> Any:
        if message.name == "inner":
            began.append(self.path)
            return [self.path, await self.wait_for("approval")]
        return await self.ask(f"{self.path}/helper", Job("inner"))

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, work)
    alice.spawn_child("helper", agent_type="worker")
    receipt = alice.send(Job())
    eventually(lambda: waits(system, f"{PATH}/helper") == ["approval"])
    fork = system.fork(PATH, to=FORK, tree=True, continue_work=True)
    assert len(system.agent(f"{FORK}/helper").unfinished()) == 1
    system.agent(f"{FORK}/helper").answer("approval", "in the fork")
    assert fork.result(receipt) == [PATH + "/helper", "in the fork"]  # a path that was read before the fork
    assert len(began) == 2 and waits(system, f"{PATH}/helper") == ["approval"]
    system.agent(f"{PATH}/helper").answer("approval", "at home")
    assert alice.result(receipt) == [PATH + "/helper", "at home"]
    assert system.agent(f"{FORK}/helper").unfinished() == []


def test_who_follows_agents_gets_no_event_twice(open_any: OpenSystem, shop: Shop) -> None:
    system = open_any(registry=REGISTRY)
    begin(system, shop)
    seen = []
    with system.subscribe("acme/**", lambda change: seen.append((change.agent, change.seq))):
        runner = system.attach(WorkingMemory(), name="memory")
        at = seq_of(system, "pay")
        fork = system.fork(PATH, to=FORK, continue_work=True)
        receipt = fork.set("last", True)
        runner.wait_for(receipt)
        eventually(lambda: (FORK, receipt.seq) in seen)
    with system.subscribe("acme/fork/**", lambda change: seen.append(change.seq), from_start=True):
        eventually(lambda: receipt.seq in seen)
    assert min(seq for agent, seq in (each for each in seen if type(each) is tuple) if agent == FORK) == at + 1
    assert next(each for each in seen if type(each) is int) == at + 1
    assert system.verify().ok


def test_the_past_of_a_fork_is_that_of_its_origin(open_system: OpenSystem, shop: Shop) -> None:
    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, shop.work)
    alice.set("found", "nothing")
    receipt = alice.send(Job("o-17"))
    eventually(lambda: len(shop.keys()) == 1)
    at = seq_of(system, "pay")
    fork = system.fork(PATH, to=FORK, continue_work=True)
    fork.set("found", "more")
    origin = system.origin(FORK)
    assert origin is not None and (origin.agent, origin.seq) == (PATH, at)
    changes = [(each.event.agent, each.event.seq) for each in system.history(FORK, "found")]
    assert changes[:-1] == [(each.event.agent, each.event.seq) for each in system.history(PATH, "found")]
    assert changes[-1][0] == FORK and len(changes) == 3
    blamed = system.blame(FORK, "path")
    assert (blamed.agent, [each.seq for each in blamed.carried_by]) == (PATH, [at + 1])
    for seq in range(1, at + 1):
        assert system.state_at(FORK, seq).get() == system.state_at(PATH, seq).get()
    shop.gate.set()
    fork.answer("approval")
    fork.result(receipt)
    system.trim(FORK, keep_events=1)
    assert events_of(system, FORK)[0].seq > at + 1 and system.verify().ok


def test_an_exported_fork_goes_on_where_it_is_imported(open_any: OpenSystem, shop: Shop) -> None:
    system = open_any(registry=REGISTRY)
    receipt = begin(system, shop)
    shop.gate.set()
    eventually(lambda: waits(system, PATH) == ["approval"])
    system.fork(PATH, to=FORK, continue_work=True)
    file = BytesIO()
    system.export_session(FORK, file)
    file.seek(0)
    system.import_session(file, to="acme/imported")
    imported = system.agent("acme/imported")
    imported.set("touched", True)
    eventually(lambda: [each.parked is not None for each in imported.unfinished()] == [True])
    imported.retry(receipt)
    imported.answer("approval", "there")
    assert imported.result(receipt)[1] == "there"
    assert len(shop.calls) == 2
    origin = system.origin("acme/imported")
    assert origin is not None and origin.agent == PATH
    assert system.verify().ok


def test_a_handler_that_differs_is_parked_in_the_fork_alone(open_system: OpenSystem, shop: Shop) -> None:
    async def other(self: Any, message: Job) -> Any:
        return await self.step("another step", shop.look_up, message.name)

    first = open_system(registry=REGISTRY)
    receipt = begin(first, shop)
    shop.gate.set()
    eventually(lambda: waits(first, PATH) == ["approval"])
    second = open_system(registry=REGISTRY, agents={"worker": worker(other)})
    first._finder.stop()  # a look of the host with the earlier code could take the fork up before the other has it
    eventually(lambda: not first._finder._is_looking)
    fork = second.fork(PATH, to=FORK, continue_work=True)
    fork.answer("approval")
    with pytest.raises(WorkParked):
        fork.result(receipt)
    assert first.agent(PATH).unfinished()[0].parked is None


def test_forks_with_work_for_asyncio(open_system: OpenSystem, shop: Shop) -> None:
    system = open_system(registry=REGISTRY)
    receipt = begin(system, shop)

    async def main() -> Any:
        fork = await system.aio.fork(PATH, to=FORK, continue_work=True, instead={"pay": "by hand"})
        await fork.answer("approval", "there")
        return await fork.result(receipt)

    assert asyncio.run(main())[:3] == ["by hand", "there", FORK]
    assert len(shop.keys()) == 1


def test_reminders_stay_with_the_origin(open_system: OpenSystem) -> None:
    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, lambda self, message: None)
    alice.remind("later", Job(), every=timedelta(days=1))
    assert system.fork(PATH, to=FORK, continue_work=True).reminders() == []
    assert [each.name for each in alice.reminders()] == ["later"]
