"""Agents that come into memory at the same time are read and claimed together, and each fails alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, Set
from duramen.actors.dispatch import Reply
from duramen.actors.runtime import Activation, activation_queue
from duramen.events import AgentFailed, AgentNotFound, MemoryLog
from waiting import eventually

PATHS = [f"acme/agent-{number}" for number in range(40)]


class Failing(Agent):
    def __init__(self) -> None:
        raise ZeroDivisionError


def left_agents(**types: type[Agent]) -> MemoryLog:
    """A log with agents of one partition, of the type that a word of the path says, which no living host has."""
    log = MemoryLog(partitions=1)
    with AgentSystem.open(log=log, agents=dict.fromkeys(types, Agent)) as system:
        for number, path in enumerate(PATHS):
            kind = next(iter(types)) if types and number == 7 else None
            system.spawn(path, agent_type=kind, initial_state={"number": number})
    return log


def watch_claims(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many agents each claim of several has had, from now on."""
    claimed: list[int] = []
    claim_all = log.hosts.claim_all

    def counted(claims: Any, *rest: Any) -> Any:
        claimed.append(len(claims))
        return claim_all(claims, *rest)

    monkeypatch.setattr(log.hosts, "claim_all", counted)
    monkeypatch.setattr(activation_queue, "_MOST_SECONDS", 60.0)  # however slow the machine is
    return claimed


def ask_together(system: AgentSystem, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Reply]:
    """Ask for a change in each agent; no thread activates any before all of them wait."""
    pool, held = system._services.activations, list[Callable[[], None]]()
    with monkeypatch.context() as patch:
        patch.setattr(pool, "submit", held.append)
        replies = [system.agent(path).ask(Set("asked", True), block=False) for path in paths]
        eventually(lambda: all(_is_waiting(system, path) for path in paths))
    for work in held:
        pool.submit(work)
    return replies


def _is_waiting(system: AgentSystem, path: str) -> bool:
    mailbox = system._actors.find(path)
    return mailbox is not None and mailbox.phase != 0 and bool(mailbox.waiting)


def test_agents_that_are_asked_together_are_claimed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    log = left_agents()
    claimed = watch_claims(log, monkeypatch)
    with AgentSystem.open(log=log) as system:
        for reply in ask_together(system, PATHS, monkeypatch):
            assert reply.get(timeout=30).seq == 2
        assert claimed == [len(PATHS)]
        assert [system.agent(path).get() for path in PATHS] == [
            {"number": number, "asked": True} for number in range(len(PATHS))
        ]
        assert all(system.verify(path).ok for path in PATHS)


def test_an_agent_that_is_asked_alone_is_claimed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    log = left_agents()
    claimed = watch_claims(log, monkeypatch)
    with AgentSystem.open(log=log) as system:
        (reply,) = ask_together(system, PATHS[:1], monkeypatch)
        assert reply.get(timeout=30).seq == 2
        assert claimed == []


def test_an_agent_whose_class_fails_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    log = left_agents(failing=Failing)
    claimed = watch_claims(log, monkeypatch)
    with AgentSystem.open(log=log, agents={"failing": Failing}) as system:
        replies = ask_together(system, [*PATHS, "acme/nobody"], monkeypatch)
        with pytest.raises(AgentFailed, match="ZeroDivisionError"):
            replies.pop(7).get(timeout=30)
        with pytest.raises(AgentNotFound):
            replies.pop().get(timeout=30)
        assert all(reply.get(timeout=30).seq == 2 for reply in replies)
        assert claimed == [len(PATHS) - 1]
        assert system.agent(PATHS[7]).get("number") == 7


def test_agents_that_another_host_has_are_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    log = left_agents()
    with AgentSystem.open(log=log) as other, AgentSystem.open(log=log) as system:
        theirs, claimed = PATHS[:5], watch_claims(log, monkeypatch)
        for path in theirs:
            other.agent(path).set("here", True)
        replies = ask_together(system, PATHS[:10], monkeypatch)
        assert [reply.get(timeout=30).seq for reply in replies] == [3] * 5 + [2] * 5
        assert claimed == [5]
        assert all(other._actors.has_mailbox(path) for path in theirs)
        assert log.hosts.owner(theirs[0])[0].host == other._services.owner


def test_a_long_log_is_read_from_its_snapshot_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    log = left_agents()
    with AgentSystem.open(log=log) as system:
        for _ in range(3):
            with system.agent(PATHS[3]).batch() as batch:
                for number in range(200):
                    batch.set("number", number)
    claimed = watch_claims(log, monkeypatch)
    with AgentSystem.open(log=log) as system:
        replies = ask_together(system, PATHS, monkeypatch)
        assert [reply.get(timeout=30).seq for reply in replies] == [2] * 3 + [602] + [2] * 36
        assert claimed == [len(PATHS) - 1]
        assert system.agent(PATHS[3]).get("number") == 199


def test_a_class_may_wait_for_an_agent_that_comes_into_memory_with_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    log, systems = left_agents(asking=Agent), list[AgentSystem]()

    class Asking(Agent):
        def __init__(self) -> None:
            for path in (PATHS[0], PATHS[-1], "acme/nobody"):
                with suppress(AgentNotFound):
                    systems[0].agent(path).ask(Set("seen", True), timeout=20)

    with AgentSystem.open(log=log, agents={"asking": Asking}) as system:
        systems.append(system)
        replies = ask_together(system, [*PATHS, "acme/nobody"], monkeypatch)
        with pytest.raises(AgentNotFound):
            replies.pop().get(timeout=30)
        assert [reply.get(timeout=30).seq for reply in replies] == [2] * len(PATHS)
        for path in (PATHS[0], PATHS[-1]):
            assert system.agent(path).get("seen") is True


@pytest.mark.provokes_defects
def test_one_that_cannot_begin_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    log = left_agents()
    start = Activation.start

    def fail(activation: Activation, runtime: Any) -> None:
        start(activation, runtime)
        if activation.path == PATHS[3]:
            raise ZeroDivisionError

    monkeypatch.setattr(Activation, "start", fail)
    with AgentSystem.open(log=log) as system:
        replies = ask_together(system, PATHS, monkeypatch)
        assert [reply.get(timeout=20).seq for reply in replies] == [2] * len(PATHS)
