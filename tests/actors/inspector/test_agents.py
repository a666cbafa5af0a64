"""What the list of agents costs: to open it, and when something changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentSystem, Spawn
from duramen.actors.commands import unfinished_of
from duramen.actors.inspector import agents
from duramen.actors.inspector.agent_query import Query
from duramen.actors.inspector.agents import WORK_CHANGES, AgentList, most_urgent
from duramen.events import WorkParked
from duramen.events.model import EXPIRED
from duramen.projections import AgentState
from duramen.projections.recovery import AgentLog, rebuild
from duramen.projections.state import advance
from inspecting import inspecting
from waiting import eventually

MANY = 240


@pytest.fixture
def system() -> Iterator[AgentSystem]:
    with AgentSystem.open("memory://") as opened:
        spawn(opened, range(MANY))
        yield opened


def spawn(system: AgentSystem, numbers: range) -> None:
    replies = [system.agent(f"p{each % 3}/agent-{each:03}").ask(Spawn(), block=False) for each in numbers]
    for reply in replies:
        reply.get(timeout=30)


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """The first argument of each call from now on."""
    calls: list[Any] = []
    original: Callable[..., Any] = getattr(owner, name)

    def counted(*given: Any, **named: Any) -> Any:
        calls.append(given[0])
        return original(*given, **named)

    monkeypatch.setattr(owner, name, counted)
    return calls


@pytest.mark.slow
def test_an_agent_that_is_erased_leaves_the_list_at_once(system: AgentSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_FRESH_SECONDS", 3_600.0)  # so that the directory is not read again
    path = "p0/agent-000"
    with inspecting(system) as asker:
        eventually(lambda: asker.ask("/api/agents?count=1")["counts"]["all"] == MANY, what="all agents are read")
        system.agent(path).set("n", 1)
        eventually(lambda: asker.ask("/api/agents?count=2")["rows"][1]["seq"] == 2, what="its change is seen")
        system.erase(path)
        eventually(lambda: asker.ask("/api/agents?count=1")["counts"]["all"] == MANY - 1, what="it is gone")
        assert path not in str(asker.ask("/api/agents?count=100")["rows"])


@pytest.mark.slow
def test_the_first_view_does_not_grow_with_the_agents(system: AgentSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    read = count_calls(monkeypatch, agents, "Span")
    with inspecting(system) as asker:
        eventually(lambda: asker.ask("/api/agents?count=1")["counts"]["all"] == MANY, what="all agents are read")
        few = asker.get("/api/agents?first=0&count=100")
        assert len(read) == 98, "the last event of each agent in sight is read, and of no other; two rows are projects"
        spawn(system, range(MANY, 2 * MANY))
        eventually(lambda: asker.ask("/api/agents?count=1")["counts"]["all"] == 2 * MANY, what="all agents are told")
        many = asker.get("/api/agents?first=0&count=100")
    assert (len(few.data["rows"]), len(many.data["rows"])) == (100, 100)
    assert len(read) <= 98 + 99, "of those in sight, what was told since is known"
    assert len(many.body) < 1.1 * len(few.body)


def test_a_directory_that_is_read_is_shown_in_few_parts_and_sorted_once(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "_PART", 10)
    monkeypatch.setattr(agents, "_PART_SECONDS", 0.0)
    shown = count_calls(monkeypatch, AgentList, "_publish")
    keys = count_calls(monkeypatch, agents, "sort_key")
    AgentList(system).load()
    assert len(shown) == 6, "at 10, 20, 40, 80 and 160 agents, and at the end"
    assert len(keys) == MANY


def test_a_page_that_opens_finds_its_rows_made(system: AgentSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = AgentList(system)
    listed.load()
    made = count_calls(monkeypatch, agents, "open_tree")
    first = listed.rows(Query(), 0, 100)
    assert (first["total"], first["counts"]["running"], made) == (MANY + 3, MANY, [])


def test_a_new_status_is_counted_without_making_the_rows_anew(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = AgentList(system)
    listed.load()
    made = count_calls(monkeypatch, agents, "open_tree")
    system.agent("p0/agent-000").pause()
    for event in system.events("p0/agent-000"):
        listed.note(event)
    counts = listed.rows(Query(), 0, 100)["counts"]
    assert (counts["paused"], counts["running"], made) == (1, MANY - 1, [])
    assert listed.rows(Query(status="paused"), 0, 100)["total"] == 2
    assert len(made) == 1
    [born] = system.events(system.spawn("p9/new").path)
    listed.note(born)
    assert listed.rows(Query(), 0, 100)["total"] == MANY + 5
    assert len(made) == 2


def test_what_is_closed_hides_what_is_below(system: AgentSystem) -> None:
    system.agent("p1/agent-001").spawn_child("below").spawn_child("deeper")
    system.spawn("p1/agent-0010")
    listed = AgentList(system)
    listed.load()

    def paths(*closed: str) -> list[str]:
        rows = listed.rows(Query("agent-001", closed=frozenset(closed)), 0, 100)["rows"]
        return [row["path"] for row in rows]

    whole = ["p1/agent-001", "p1/agent-001/below", "p1/agent-001/below/deeper"]
    assert paths() == ["p1", *whole, "p1/agent-0010"]
    assert paths("p1/agent-001/below") == ["p1", *whole[:2], "p1/agent-0010"]
    assert paths("p1/agent-001") == ["p1", whole[0], "p1/agent-0010"]
    assert paths("p1") == ["p1"]


async def wait_twice(self: Any, message: Job) -> None:
    await self.sleep(0.001)
    await self.wait_for("go")
    await self.wait_for("end")


async def wait_otherwise(self: Any, message: Job) -> None:
    await self.wait_for("other")


def state_at(system: AgentSystem, seq: int, path: str = PATH) -> AgentState:
    agent_log = AgentLog(system.log, path, system.limits, system.registry)
    return rebuild(agent_log, to_seq=seq, use_snapshot=False).state


def said_of_work(system: AgentSystem, seq: int, path: str = PATH) -> tuple[int, str] | None:
    """What a row says of the work that an agent had after the event at a seq."""
    found = unfinished_of(state_at(system, seq, path), path)
    return most_urgent(found) if found else None


def changed_row(system: AgentSystem, path: str = PATH) -> set[str]:
    """The types of the events after which a row says something else of the agent's work than before."""
    found = list(system.events(path))
    said = {event.seq: said_of_work(system, event.seq, path) for event in found}
    return {event.type for event in found if event.seq - 1 in said and said[event.seq] != said[event.seq - 1]}


def test_each_event_that_changes_what_a_row_says_of_work_has_it_counted_again(
    open_system: Callable[..., AgentSystem],
) -> None:
    first = open_system(registry=REGISTRY)
    receipt = spawn_worker(first, wait_twice).send(Job())
    eventually(lambda: types_of(first).count("work_begun") == 2, what="the handler waits")
    first.agent(PATH).answer("go", work=receipt)
    eventually(lambda: types_of(first).count("work_begun") == 3, what="the handler waits again")
    first.close()
    second = open_system(registry=REGISTRY, agents={"worker": worker(wait_otherwise)})
    parked = second.agent(PATH)
    parked.answer("end", work=receipt)
    with pytest.raises(WorkParked):
        parked.result(receipt)
    parked.retry(receipt)
    eventually(lambda: types_of(second).count("work_parked") == 2, what="it is parked again")
    parked.terminate()
    changes = changed_row(second)
    assert changes <= WORK_CHANGES
    assert changes >= {
        "work_accepted",
        "work_begun",
        "work_continued",
        "work_answered",
        "work_parked",
        "work_retried",
        "terminated",
    }


def test_what_is_given_up_and_what_ends_while_paused_is_counted_again(open_system: Callable[..., AgentSystem]) -> None:
    entered, gate = threading.Event(), threading.Event()

    async def hold() -> None:
        entered.set()
        await asyncio.to_thread(gate.wait, 60)

    async def change_its_mind(self: Any, message: Job) -> None:
        waiting = asyncio.ensure_future(self.wait_for("go"))
        await self.sleep(0.001)
        waiting.cancel()
        await asyncio.gather(self.step("hold", hold), self.sleep(3_600))

    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, change_its_mind)
    try:
        alice.send(Job())
        assert entered.wait(60)
        alice.pause(checkpoint_id="c")
    finally:
        gate.set()
    eventually(lambda: "work_done" in types_of(system), what="the step has ended")
    assert {"work_given_up", "work_done"} <= changed_row(system) <= WORK_CHANGES


def test_work_that_ends_with_a_resume_a_fork_or_an_expiry_is_counted_again(
    open_system: Callable[..., AgentSystem],
) -> None:
    system = open_system(registry=REGISTRY)
    alice = spawn_worker(system, wait_otherwise)
    alice.pause(checkpoint_id="before")
    alice.resume()
    alice.send(Job())
    eventually(lambda: "work_begun" in types_of(system), what="the handler waits")
    waiting = alice.status().seq
    system.fork(PATH, waiting, to="acme/fork")
    assert (said_of_work(system, waiting), said_of_work(system, waiting + 1, "acme/fork")) == (
        (1, "waits for you"),
        None,
    )
    alice.resume("before")
    assert said_of_work(system, alice.status().seq) is None
    assert {"resumed", "forked"} <= WORK_CHANGES
    assert "resumed" in changed_row(system) <= WORK_CHANGES
    state = state_at(system, waiting)
    advance(state, [EXPIRED, 1, 0, state.updated_at, {}, state.session_id, None, None, None, None], b"", 1)
    assert (unfinished_of(state, PATH), EXPIRED in WORK_CHANGES) == ([], True)


def test_work_that_was_answered_does_not_wait_for_somebody_any_more(open_system: Callable[..., AgentSystem]) -> None:
    gate = threading.Event()

    async def hold() -> None:
        await asyncio.to_thread(gate.wait, 60)

    async def go_on(self: Any, message: Job) -> None:
        await self.wait_for("go")
        await self.step("hold", hold)

    system = open_system(registry=REGISTRY)
    receipt = spawn_worker(system, go_on).send(Job())
    eventually(lambda: "work_begun" in types_of(system), what="the handler waits")
    listed = AgentList(system)
    listed.load()
    try:
        assert listed.rows(Query(), 0, 9)["rows"][1]["work"] == (1, "waits for you")
        answered = system.agent(PATH).answer("go", work=receipt)
        listed.note(next(iter(system.events(PATH, from_seq=answered.seq))))
        assert listed.rows(Query(), 0, 9)["rows"][1]["work"] == (1, "runs")
    finally:
        gate.set()
    system.agent(PATH).result(receipt)


def test_the_work_of_an_agent_that_is_erased_does_not_stay(open_system: Callable[..., AgentSystem]) -> None:
    system = open_system(registry=REGISTRY)
    spawn_worker(system, wait_twice).send(Job())
    eventually(lambda: types_of(system).count("work_begun") == 2, what="the handler waits")
    listed = AgentList(system)
    listed.load()
    assert listed.rows(Query(), 0, 9)["counts"]["unfinished"] == 1
    system.agent(PATH).terminate()
    [ended] = [event for event in system.events(PATH) if event.type == "terminated"]
    system.erase(PATH)
    listed.note(ended)
    shown = listed.rows(Query(), 0, 9)
    assert (shown["rows"][1]["work"], "unfinished" in shown["counts"]) == (None, False)


def test_more_work_than_is_counted_is_said_and_what_was_seen_of_it_stays(
    open_system: Callable[..., AgentSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "_MOST_WORK", 2)
    monkeypatch.setattr(agents, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(agents, "_LOAD_SHARE", 0)
    system = open_system(registry=REGISTRY, agents={"worker": worker(wait_twice)})
    listed = AgentList(system)

    def begin(path: str) -> None:
        system.spawn(path, agent_type="worker").send(Job())
        eventually(lambda: [each.type for each in system.events(path)].count("work_begun") == 2, what="it waits")

    def shown() -> tuple[int, bool]:
        found = listed.rows(Query("status:unfinished"), 0, 9)
        return found["counts"]["unfinished"], found["more"]

    begin("acme/one")
    begin("acme/two")
    listed.load()
    assert shown() == (2, False)
    begin("acme/three")
    listed.load()
    [unseen] = {row["path"] for row in listed.rows(Query(), 0, 9)["rows"] if row.get("work", 1) is None}
    assert shown() == (2, True)
    answered = system.agent(unseen).answer("go")
    listed.note(next(iter(system.events(unseen, from_seq=answered.seq))))
    assert shown() == (3, True), "an agent whose work changes is counted when it is asked for"
    listed.load()
    assert listed.rows(Query(), 0, 0)["counts"]["unfinished"] == 3
    assert shown() == (3, True), "and stays so when all is read once more"
    system.agent(unseen).terminate()
    listed.load()
    assert shown() == (2, False), "until it has ended, also if nothing was heard of that"
