"""The record of a piece of work: each thing that its handler has begun, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentSystem, Retry
from duramen.actors.inspector import endpoints
from duramen.actors.inspector.history import read_work, work_record
from duramen.events import PathNotFound, WorkParked
from duramen.projections.recovery import AgentLog
from inspecting import Asker, inspecting
from reading_pages import read_node
from waiting import eventually


async def plan(order: str) -> dict[str, Any]:
    return {"order": order, "long": "x" * 2_000}


async def pay() -> None:
    raise TimeoutError("the bank did not answer")


async def wait_for_go(self: Any, message: Job) -> Any:
    return await self.wait_for("go", about={"order": message.name})


def record_of(system: AgentSystem, work: int = 2) -> dict[str, Any]:
    return read_work(AgentLog(system.log, PATH, system.limits, system.registry), work)


def ends(record: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(step["kind"], step["name"], step["how"]) for step in record["steps"]]


def notes(record: dict[str, Any]) -> list[str]:
    return [note["what"] for note in record["notes"]]


def test_each_step_has_its_attempts_and_result(open_system: Callable[..., AgentSystem]) -> None:
    async def refund(self: Any, message: Job) -> None:
        await self.step("plan", plan, message.name)
        try:
            await self.step("pay", pay, retry=Retry(times=2, backoff=0.001))
        except Exception:
            await self.sleep(0.001)
        await wait_for_go(self, message)

    system = open_system(registry=REGISTRY)
    spawn_worker(system, refund).send(Job("o-1"), command_id="c-1")
    eventually(lambda: types_of(system).count("work_begun") == 4, what="the handler waits")
    record = record_of(system)
    assert (record["message_type"], read_node(record["data"]), record["command"]) == ("job", {"name": "o-1"}, "c-1")
    assert ends(record) == [
        ("step", "plan", "done"),
        ("step", "pay", "failed"),
        ("sleep", "sleep", "done"),
        ("wait", "go", None),
    ]
    planned, paid, slept, waits = record["steps"]
    assert planned["result"]["c"][0][:2] == ["order", "o-1"]
    assert planned["result"]["c"][1][1]["n"] == 2_000, "of a long text the beginning is there"
    assert (paid["attempts"], [each["text"] for each in paid["failures"]]) == (1, ["the bank did not answer"])
    assert (paid["error"]["kind"], paid["result"]) == ("TimeoutError", None)
    assert read_node(waits["about"]) == {"order": "o-1"}
    assert (waits["end"], waits["ended"]) == (None, None)
    for step in (planned, paid, slept):
        assert (step["seq"] < step["end"], step["time"] <= step["ended"]) == (True, True)


def test_what_is_given_up_asked_or_left_by_a_process_is_in_it(open_system: Callable[..., AgentSystem]) -> None:
    async def look_around(self: Any, message: Job) -> None:
        waiting = asyncio.ensure_future(self.wait_for("never"))
        await self.sleep(0.001)
        waiting.cancel()
        await self.ask("acme/bob", Job("question"))
        await wait_for_go(self, message)

    async def reply(self: Any, message: Job) -> str:
        return f"answer to {message.name}"

    async def differ(self: Any, message: Job) -> None:
        await self.wait_for("something else")

    first = open_system(registry=REGISTRY, agents={"replying": worker(reply)})
    first.spawn("acme/bob", agent_type="replying")
    receipt = spawn_worker(first, look_around).send(Job())
    eventually(lambda: types_of(first).count("work_begun") == 4, what="the handler waits")
    record = record_of(first)
    assert ends(record) == [
        ("sleep", "sleep", "done"),
        ("wait", "never", "given up"),
        ("ask", "acme/bob", "done"),
        ("wait", "go", None),
    ]
    assert record["steps"][2]["result"] == "answer to question"
    first.close()
    second = open_system(registry=REGISTRY, agents={"worker": worker(differ)})
    second.agent(PATH).answer("go", work=receipt)
    with pytest.raises(WorkParked):
        second.agent(PATH).result(receipt)
    assert notes(record_of(second)) == ["taken up", "parked"]
    second.agent(PATH).retry(receipt)
    eventually(lambda: types_of(second).count("work_parked") == 2, what="it is parked again")
    second.agent(PATH).cancel(receipt)
    eventually(lambda: "work_ended" in types_of(second), what="the work has ended")
    assert [what for what in notes(record_of(second)) if what != "taken up"] == ["parked", "retried", "parked", "ended"]


def test_of_very_much_the_last_part_is_there(
    open_system: Callable[..., AgentSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def many(self: Any, message: Job) -> None:
        for number in range(6):
            await self.step(f"step-{number}", plan, "x")
        await wait_for_go(self, message)

    system = open_system(registry=REGISTRY)
    spawn_worker(system, many).send(Job())
    eventually(lambda: types_of(system).count("work_begun") == 7, what="the handler waits")
    whole = record_of(system)
    assert (len(whole["steps"]), whole["left_out"], whole["from"]) == (7, 0, 3)
    monkeypatch.setattr(work_record, "_MOST_STEPS", 3)
    record = record_of(system)
    assert ([each[1] for each in ends(record)], record["left_out"]) == (["step-4", "step-5", "go"], 4)
    monkeypatch.setattr(work_record, "_MOST_EVENTS", 3)
    record = record_of(system)
    assert (record["from"], [each[1] for each in ends(record)]) == (whole["steps"][-1]["seq"] - 2, ["step-5", "go"])


@pytest.mark.parametrize("seq", [0, 1, 3, 99])
def test_what_is_no_work_has_no_record(open_system: Callable[..., AgentSystem], seq: int) -> None:
    system = open_system(registry=REGISTRY)
    spawn_worker(system, wait_for_go).send(Job())
    eventually(lambda: "work_begun" in types_of(system), what="the handler waits")
    with pytest.raises(PathNotFound, match=f"no work {seq}"):
        record_of(system, seq)


def test_an_answer_is_refused_where_the_work_waits_for_something_else_by_then(
    open_system: Callable[..., AgentSystem],
) -> None:
    async def wait_twice(self: Any, message: Job) -> Any:
        first = await wait_for_go(self, message)
        return [first, await wait_for_go(self, message)]

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, wait_twice)
    receipt = alice.send(Job())
    with inspecting(system, allow_actions=True) as asker:
        wait = eventually(lambda: waits_at(asker), what="it waits")
        fields = {"agent": PATH, "work": receipt.seq, "name": "go", "wait": wait, "value": 1, "command": "a"}
        assert asker.post("/api/actions/answer", fields).status == 200
        later = eventually(lambda: waits_at(asker) not in (None, fields["wait"]) and waits_at(asker), what="it waits")
        refused = asker.post("/api/actions/answer", {**fields, "command": "b"})
        assert (refused.status, "does not wait for go there" in refused.data["message"]) == (400, True)
        fields = {**fields, "command": "b", "wait": later, "value": 2}
        assert asker.post("/api/actions/answer", fields).status == 200
    assert alice.result(receipt) == [1, 2]


def waits_at(asker: Asker) -> Any:
    """The seq at which the only work waits; None: it runs."""
    [work] = eventually(lambda: asker.ask("/api/work")["work"], what="there is work")
    return next((item["seq"] for item in work["waits"] if item["kind"] == "wait"), None)


def test_more_work_than_is_read_is_said(
    open_system: Callable[..., AgentSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "_MOST_WORK_READ", 2)
    system = open_system(registry=REGISTRY, agents={"worker": worker(wait_for_go)})
    accepted = [system.spawn(f"acme/{name}", agent_type="worker").send(Job()) for name in ("a", "b")]
    with inspecting(system) as asker:
        answer = asker.ask("/api/work")
        assert (answer["total"], answer["more"], len(answer["work"])) == (2, False, 2)
        assert answer["oldest"] == min(work["since"] for work in answer["work"])
        system.spawn("acme/c", agent_type="worker").send(Job())
        answer = asker.ask("/api/work")
        assert (answer["total"], answer["more"], len(accepted)) == (2, True, 2)
        assert (asker.ask("/api/work?most=1")["total"], asker.ask("/api/work?agent=acme/c")["more"]) == (1, False)
