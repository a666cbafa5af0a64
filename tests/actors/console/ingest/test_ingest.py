from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from duramen.actors import AgentSystem
from duramen.actors.console.ingest.ingestion import Ingestion, Totals
from duramen.actors.console.ingest.recordings import RecordedSession
from duramen.actors.console.ingest.steps import steps_of
from duramen.events import AgentAlreadyRunning, MemoryLog, SystemClosed

MESSAGES = [{"role": "user", "content": f"message {number}"} for number in range(6)]


def session(name: str = "s", *, content: str = "1") -> RecordedSession:
    return RecordedSession(name, f"{name}-{content}", MESSAGES, 1.0, {})


def ingest(system: AgentSystem, *sessions: RecordedSession, parallel: int = 4) -> Totals:
    known = {entry.agent: entry for entry in system.agents()}
    seen: list[tuple[int, int]] = []
    ingestion = Ingestion(system, known, lambda totals: seen.append((totals.sessions, totals.messages)))
    asyncio.run(ingestion.run(((f"p/{one.name}", one) for one in sessions), parallel))
    assert seen == sorted(seen), "progress only grows"
    return ingestion.totals


@pytest.fixture
def system() -> Iterator[AgentSystem]:
    with AgentSystem.open("memory://") as system:
        yield system


def events(system: AgentSystem, path: str = "p/s") -> list[Any]:
    return [(event.type, event.data, event.command_id) for event in system.events(path)]


def test_what_was_added_is_counted(system: AgentSystem) -> None:
    totals = ingest(system, *[session(f"s{number}") for number in range(5)])
    assert totals == Totals(
        sessions=5, messages=30, known_sessions=0, added_messages=30, events=5 * 11, checkpoints=5, episodes=5
    )
    assert sum(entry.head.seq for entry in system.agents()) == 5 * 11


def test_a_second_run_adds_nothing(system: AgentSystem) -> None:
    ingest(system, session())
    before = events(system)
    assert ingest(system, session()) == Totals(sessions=1, messages=6, known_sessions=1)
    assert events(system) == before


@pytest.mark.parametrize("done", range(len(steps_of(session()))))
def test_a_session_that_stopped_after_any_step_is_carried_on(system: AgentSystem, done: int) -> None:
    steps = steps_of(session())
    for step in steps[:done]:
        system.agent("p/s").ask(step.message)
    before = len(events(system)) if done else 0
    totals = ingest(system, session())
    assert totals.events == 11 - before
    assert totals.messages == 6
    with AgentSystem.open("memory://") as other:
        ingest(other, session())
        undisturbed = [(kind, command) for kind, _, command in events(other)]
    assert [(kind, command) for kind, _, command in events(system)] == undisturbed


def test_two_runs_at_the_same_time_add_each_message_once() -> None:
    log = MemoryLog()

    async def both(one: AgentSystem, other: AgentSystem) -> None:
        runs = [Ingestion(system, {}, lambda totals: None) for system in (one, other)]
        await asyncio.gather(*(run.run(iter([("p/s", session())]), 1) for run in runs))

    with AgentSystem.open(log=log) as one, AgentSystem.open(log=log) as other:
        asyncio.run(both(one, other))
        assert len(events(one)) == 11
        assert [episode.agent_instance_id for episode in one.episodes.list()] == ["s"]


def test_a_recording_that_has_changed_is_a_new_session_of_the_agent(system: AgentSystem) -> None:
    ingest(system, session(content="1"))
    assert ingest(system, session(content="2")).events == 11
    assert ingest(system, session(content="1")).events == 0
    assert ingest(system, session(content="2")).events == 0
    assert len(system.episodes.list()) == 2


def test_an_agent_with_a_session_of_its_own_is_left_alone_and_told(system: AgentSystem) -> None:
    system.spawn("p/s", session_id="mine").set("a", 1)
    totals = ingest(system, session(), session("other"))
    ((path, error),) = totals.failures
    assert path == "p/s"
    assert isinstance(error, AgentAlreadyRunning)
    assert len(events(system)) == 2
    assert totals.episodes == 1, "the other session is taken in all the same"


def test_an_agent_that_got_another_session_in_between_is_left_alone(system: AgentSystem) -> None:
    steps = steps_of(session())
    for step in steps[:4]:
        system.agent("p/s").ask(step.message)
    system.agent("p/s").terminate()
    system.spawn("p/s", session_id="mine")
    before = events(system)
    ((_, error),) = ingest(system, session()).failures
    assert "another session (mine)" in str(error)
    assert events(system) == before


def test_a_session_that_was_ended_by_hand_stays_ended(system: AgentSystem) -> None:
    for step in steps_of(session())[:4]:
        system.agent("p/s").ask(step.message)
    system.agent("p/s").terminate()
    assert ingest(system, session()).events == 0


def test_a_system_that_cannot_be_used_ends_the_run() -> None:
    system = AgentSystem.open("memory://")
    system.close()
    ingestion = Ingestion(system, {}, lambda totals: None)
    with pytest.raises(SystemClosed):
        asyncio.run(ingestion.run(iter([("p/s", session())]), 3))


def test_sessions_are_asked_for_only_when_they_are_needed(system: AgentSystem) -> None:
    asked: list[str] = []

    def sessions() -> Iterator[tuple[str, RecordedSession]]:
        for number in range(10):
            asked.append(f"s{number}")
            yield f"p/s{number}", session(f"s{number}")

    behind: list[int] = []
    ingestion = Ingestion(system, {}, lambda totals: behind.append(len(asked) - totals.sessions))
    asyncio.run(ingestion.run(sessions(), 2))
    assert max(behind) <= 3
