"""The core goes on whatever raises in it, and wherever the handler of a signal raises."""

from __future__ import annotations

import logging
import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, Append, Set
from duramen.events import Limits, MemoryLog, OutcomeUnknown

PATH = "acme/alice"
ROUNDS = 3_000


class Interrupted(Exception):
    pass


class Appends(Agent):
    def on_receive(self, message: Any) -> Any:
        self.append("numbers", message)
        return message


@pytest.fixture
def interrupting() -> Iterator[Callable[[float], None]]:
    """Have the handler of a signal raise once, so many seconds from now; 0: not any more."""

    def handle(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handle)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_handlers_of_signals_that_raise_anywhere_lose_and_lock_nothing(
    interrupting: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "duramen.system")
    chance, answered, sent, interrupts = random.Random(7), set[int](), set[int](), 0
    with AgentSystem.open("memory://", agents={"appends": Appends}, limits=Limits(state_nodes=10**6)) as system:
        agent = system.spawn(PATH, agent_type="appends", initial_state={"numbers": []})
        calls: list[Callable[[int], Any]] = [
            lambda number: agent.append("numbers", number),
            lambda number: agent.ask(number, timeout=10),
            lambda number: agent.ask(Append("numbers", number), block=False).get(timeout=10),
            lambda number: agent.tell(number),
            lambda number: agent.get("numbers/0", None),
            lambda number: system.agent(f"acme/new{number}").tell(Set("n", 1)),
        ]
        for number in range(ROUNDS):
            kind = chance.randrange(len(calls))
            try:
                interrupting(chance.choice((3e-5, 1e-4, 3e-4)) * chance.random() + 1e-6)
                calls[kind](number)
                interrupting(0)
            except Interrupted:
                interrupts += 1
            else:
                (answered if kind < 3 else sent if kind == 3 else set()).add(number)
        interrupting(0)
        numbers = agent.get("numbers")
    assert interrupts > ROUNDS / 20, "control: it did interrupt calls"
    assert len(numbers) == len(set(numbers))
    assert answered | sent <= set(numbers)
    assert [record for record in caplog.records if record.name == "duramen.system"] == [], "it was closed in time"


def test_a_listener_of_the_log_that_raises_fails_no_append(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "duramen.notices")
    log, heard = MemoryLog(), threading.Semaphore(0)
    with AgentSystem.open(log=log) as system:
        agent = system.spawn(PATH)
        log.listen(lambda notice: 1 / 0)
        log.listen(lambda notice: heard.release())
        assert agent.set("n", 1).seq == 2
        assert agent.ask(Set("n", 2), block=False).get(timeout=10).seq == 3
    assert heard.acquire(timeout=10)
    assert heard.acquire(timeout=10), "the listener after it hears of both"
    assert "listener_failed" in caplog.text


@pytest.mark.provokes_defects
def test_a_defect_in_sending_fails_its_appends_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with AgentSystem.open("memory://") as system:
        agent, other = system.spawn(PATH), system.spawn("acme/bob")
        writer = system._services.dispatcher._journal._writer
        with monkeypatch.context() as patch:
            patch.setattr(writer, "send", lambda batches: 1 / 0)
            with pytest.raises(OutcomeUnknown):
                agent.ask(Set("n", 1), timeout=10)
            with pytest.raises(OutcomeUnknown):
                other.ask(Set("n", 1), block=False).get(timeout=10)
        assert agent.set("n", 2).seq == 2
        assert other.get("n", None) is None


@pytest.mark.provokes_defects
def test_a_defect_in_the_core_is_logged_and_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "duramen.dispatcher")
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH)
        journal = system._services.dispatcher._journal
        flush, failed = journal.flush, threading.Event()

        def fail() -> None:
            if not failed.is_set():
                failed.set()
                raise RuntimeError
            flush()

        monkeypatch.setattr(journal, "flush", fail)
        assert agent.ask(Set("n", 1), block=False).get(timeout=10).seq == 2
        assert failed.is_set()
    assert "core_failed" in caplog.text
