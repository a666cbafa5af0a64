"""What the list of agents costs: to open it, and when something changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duramen.actors import AgentSystem, Spawn
from duramen.actors.inspector import agents
from duramen.actors.inspector.agents import AgentList, Query
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
    keys = count_calls(monkeypatch, agents, "_sort_key")
    AgentList(system).load()
    assert len(shown) == 6, "at 10, 20, 40, 80 and 160 agents, and at the end"
    assert len(keys) == MANY


def test_a_page_that_opens_finds_its_rows_made(system: AgentSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = AgentList(system)
    listed.load()
    made = count_calls(monkeypatch, agents, "_open_tree")
    first = listed.rows(Query(), 0, 100)
    assert (first["total"], first["counts"]["running"], made) == (MANY + 3, MANY, [])


def test_a_new_status_is_counted_without_making_the_rows_anew(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = AgentList(system)
    listed.load()
    made = count_calls(monkeypatch, agents, "_open_tree")
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
