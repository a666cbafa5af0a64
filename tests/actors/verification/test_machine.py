"""Agents are checked: their fold by the laws, their lives by a machine that lets processes crash."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors import Agent, AgentSystem
from duramen.actors.verification import (
    LawBroken,
    agent_machine,
    agent_subject,
    check,
    check_agent,
    check_machine,
    commands,
    machine,
    verified,
)
from duramen.events import DuramenError, EventRegistry, InvalidMessage, event_type
from duramen.projections import Projection, WorkingMemory, fold
from duramen.projections.recorded import log_of
from duramen.projections.recovery.rebuild import rebuild
from duramen.projections.verification import projection_laws

REGISTRY = EventRegistry()


@event_type("claim_found", registry=REGISTRY)
@frozen
class ClaimFound:
    text: str


class Researcher(Agent):
    def on_receive(self, message: Any) -> Any:
        if message == "ghosts":
            self.set("started", True)
            raise LookupError(message)
        self.emit(ClaimFound(message))
        self.append("claims", message)
        return message

    def initial(self) -> Any:
        return {"claims": 0}

    def apply(self, state: Any, event: Any) -> Any:
        return {"claims": state["claims"] + 1}


MESSAGES = st.sampled_from(["why", "how", "ghosts"])
LAWS = [law.name for law in projection_laws()]


class CountsOnItself(Researcher):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def apply(self, state: Any, event: Any) -> Any:
        self.seen += 1
        return {"claims": self.seen}


class Mutates(Researcher):
    def apply(self, state: Any, event: Any) -> Any:
        state["claims"] += 1
        return state


class KeepsTuples(Researcher):
    def apply(self, state: Any, event: Any) -> Any:
        return {"claims": (event.text,)}


class FoldsWhatHandlersLeft(Researcher):
    """Its state depends on what its handlers have left in the object, which no log has."""

    handled = 0

    def on_receive(self, message: Any) -> Any:
        self.handled += 1
        return super().on_receive(message)

    def apply(self, state: Any, event: Any) -> Any:
        return {"claims": state["claims"] + 1 + self.handled}


@pytest.mark.slow
def test_a_sound_agent_passes_every_law_and_lives_by_them() -> None:
    report = check(Researcher, messages=MESSAGES, registry=REGISTRY, examples=30)
    assert report.held[-1] == "every life keeps the laws"
    assert set(LAWS) - set(report.held) == {"events of other types than it names change nothing"}


@pytest.mark.slow
def test_an_agent_without_a_fold_is_checked_too() -> None:
    assert check(Agent, registry=REGISTRY, examples=5).subject == "Agent"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "law"),
    [
        (CountsOnItself, "replaying again gives the same"),
        (Mutates, "apply changes neither state nor event"),
        (KeepsTuples, "stored state plus the rest gives the same"),
        (FoldsWhatHandlersLeft, "live equals full replay"),
    ],
)
def test_an_agent_with_a_fault_is_found_in_five_events_or_fewer(agent: type[Agent], law: str) -> None:
    with pytest.raises(LawBroken) as broken:
        check(agent, messages=MESSAGES, registry=REGISTRY, seed=1)
    assert broken.value.law == law
    assert len(broken.value.log or ()) <= 5
    assert broken.value.subject == agent.__qualname__


@pytest.mark.slow
def test_the_steps_of_a_life_are_told() -> None:
    with pytest.raises(LawBroken) as broken:
        check_machine(agent_machine(FoldsWhatHandlersLeft, messages=MESSAGES, registry=REGISTRY), 50, seed=1)
    told = "\n".join(getattr(broken.value, "__notes__", []))
    assert "message_of_its_own" in told


def test_a_snapshot_that_is_not_the_fold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(*arguments: Any, use_snapshot: bool = True, **named: Any) -> Any:
        found = rebuild(*arguments, use_snapshot=use_snapshot, **named)
        if use_snapshot and found.snapshot_seq:
            found.state.memory["spoilt"] = True
        return found

    monkeypatch.setattr(machine, "rebuild", spoilt)
    with pytest.raises(LawBroken) as broken:
        check_machine(agent_machine(Researcher, messages=MESSAGES, registry=REGISTRY), 50, seed=1)
    assert broken.value.law == "stored state plus the rest gives the same"
    assert len(broken.value.log or ()) <= 5


@pytest.mark.slow
def test_a_command_that_is_carried_out_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duramen.actors.handlers.turn.Turn.find_command", lambda *_: None)
    with pytest.raises(LawBroken) as broken:
        check_machine(agent_machine(Researcher, registry=REGISTRY), 100, seed=1)
    assert broken.value.law == "a command that comes again changes nothing"
    assert len(broken.value.log or ()) <= 5


@pytest.mark.parametrize("server", ["valkey_url", "redis_url"])
def test_lives_can_be_led_on_a_server(
    server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURAMEN_VERIFY_URL", request.getfixturevalue(server))
    check_machine(agent_machine(Researcher, messages=MESSAGES, registry=REGISTRY), 3, seed=1)


@pytest.mark.slow
def test_projections_are_checked_by_the_same_line() -> None:
    assert check(WorkingMemory, registry=REGISTRY, examples=3).subject == "WorkingMemory"

    class Bad(Projection[Any]):
        def initial(self) -> Any:
            return []

        def apply(self, state: Any, event: Any) -> Any:
            state.append(event.seq)
            return state

    with pytest.raises(LawBroken):

        @verified(examples=3, registry=REGISTRY)
        class _(Bad):
            pass


@pytest.mark.parametrize("given", [42, None, "Agent"])
def test_what_is_no_agent_is_refused(given: Any) -> None:
    with pytest.raises(InvalidMessage):
        check(given)
    with pytest.raises(InvalidMessage):
        check_agent(dict)
    with pytest.raises(InvalidMessage):
        agent_machine(dict)


def test_the_fold_of_an_agent_is_what_recovery_makes_of_it() -> None:
    events = log_of(
        ("spawned", {}),
        ("claim_found", {"text": "a"}),
        ("memory_set", {"path": "a", "value": 1}),
        ("terminated", {}),
        ("spawned", {"session_id": "s-2"}),
        ("claim_found", {"text": "b"}),
        registry=REGISTRY,
    )
    subject = agent_subject(Researcher, REGISTRY)
    assert fold(subject.make(), events) == {"claims": 1}
    assert fold(subject.make(), events[:3]) == {"claims": 1}


@pytest.mark.slow
@given(message=commands())
def test_commands_are_understood_or_refused_by_a_typed_error(message: Any) -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn("p/a", initial_state={"a": [1], "b": {"c": 1}})
        try:
            agent.ask(message)
        except DuramenError:
            return
