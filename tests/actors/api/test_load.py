"""The counts that a system gives for metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from duramen.actors import Agent, AgentSystem, Settings
from duramen.events import Unavailable
from servers import redis_server
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


class Waiting(Agent):
    begun: ClassVar[threading.Event]
    gate: ClassVar[threading.Event]

    def on_receive(self, message: Any) -> None:
        self.begun.set()
        self.gate.wait(60)


def test_agents_messages_and_appends_are_counted(open_system: OpenSystem, gate: threading.Event) -> None:
    Waiting.begun, Waiting.gate = threading.Event(), gate
    system = open_system(agents={"waiting": Waiting})
    empty = system.load()
    assert (empty.agents_in_memory, empty.messages_waiting, empty.appends_total) == (0, 0, 0)

    busy, idle = system.spawn("p/busy", agent_type="waiting"), system.spawn("p/idle")
    idle.set("a", 1)
    busy.tell("begin")
    assert Waiting.begun.wait(60)
    for _ in range(3):
        busy.tell("more")
    load = system.load()
    assert (load.agents_in_memory, load.messages_waiting, load.longest_mailbox) == (2, 3, 3)
    assert (load.appends_total, load.append_failures_total) == (3, 0)
    assert 1 <= load.append_batches_total <= 3
    gate.set()
    eventually(lambda: system.load().messages_waiting == 0)


def test_an_agent_that_leaves_memory_is_not_counted(open_system: OpenSystem) -> None:
    system = open_system(settings=Settings(passivate_after=0.05))
    system.spawn("p/a")
    eventually(lambda: system.load().agents_in_memory == 0)


@pytest.mark.slow  # the append is tried for ten seconds
def test_appends_that_the_log_could_not_take_are_counted() -> None:
    with redis_server(aof=True) as server, AgentSystem.open(server.url) as system:
        agent = system.spawn("p/a")
        server.kill9()
        with pytest.raises(Unavailable):
            agent.set("a", 1)
        assert system.load().append_failures_total == 1
        server.restart()
