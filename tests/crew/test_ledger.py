"""Control of the crew's judge: what was done again, never done, or done with another key is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crew.hosts import Crew, Errand, Notes, partner_of, registry_of, reply_of
from crew.ledger import Line, check_keys, check_steps, read_ledger
from duramen.actors import AgentSystem
from duramen.events import Event

AGENT = "p1/a1"
PLACE = (AGENT, "e1", "four")


@pytest.fixture
def done(tmp_path: Path) -> tuple[list[Event], dict[Any, list[Line]]]:
    """The log and the ledger of one errand that nothing has disturbed."""
    notes = Notes.open(str(tmp_path / "ledger"))
    crew = type("Crew", (Crew,), {"ledger": notes})
    with AgentSystem.open("memory://", agents={"crew": crew}, registry=registry_of(2)) as system:
        system.spawn(partner_of(AGENT), initial_state={"errands": []})
        agent = system.spawn(AGENT, agent_type="crew")
        receipt = agent.send(Errand("e1"))
        agent.answer("approval", "by e1")
        assert agent.result(receipt) == reply_of(AGENT, "e1", 2)
        events = list(system.events(AGENT))
    notes.close()
    return events, read_ledger(tmp_path / "ledger")


def test_an_undisturbed_errand_has_no_problem(done: Any) -> None:
    events, ledger = done
    assert check_steps(AGENT, events, ledger) == (6, [])
    assert check_keys(ledger) == []


def test_a_step_that_is_done_again_after_it_was_logged_is_found(done: Any) -> None:
    events, ledger = done
    ledger[PLACE].append(ledger[PLACE][0]._replace(time=ledger[PLACE][0].time + 1_000_000))
    assert check_steps(AGENT, events, ledger)[1] == [f"{AGENT}: e1 four was done again after it was logged"]


def test_a_step_that_was_never_done_is_found(done: Any) -> None:
    events, ledger = done
    del ledger[PLACE]
    assert check_steps(AGENT, events, ledger)[1] == [f"{AGENT}: e1 four is logged, and was not done"]


def test_a_key_that_is_another_or_another_steps_is_found(done: Any) -> None:
    _, ledger = done
    ledger[PLACE].append(ledger[PLACE][0]._replace(key=ledger[AGENT, "e1", "five"][0].key))
    problems = check_keys(ledger)
    assert f"{AGENT} e1 four had several keys" in problems
    assert any("had the key of" in problem for problem in problems)
