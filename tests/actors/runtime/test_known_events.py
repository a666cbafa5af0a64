"""A process that comes back to an agent compares what it knew of the log with what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem, Retention, Settings
from duramen.events import DataLoss, Diverged, DuramenError, EventRegistry, Granularity, message_type
from takeover import give_up
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]

PATH = "acme/alice"
TOUCHES: dict[str, Callable[[AgentHandle], Any]] = {
    "get": lambda agent: agent.get(),
    "keys": lambda agent: agent.keys(),
    "status": lambda agent: agent.status(),
    "set": lambda agent: agent.set("a", 1),
    "append": lambda agent: agent.append("list", "next"),
    "pause": lambda agent: agent.pause().raise_for_failure(),
    "terminate": lambda agent: agent.terminate(outcome="success").raise_for_failure(),
}


class Backup:
    """What the server has of an agent, to be brought back later: all that it acknowledged since is lost then."""

    def __init__(self, system: AgentSystem) -> None:
        log: Any = system.log
        self._server = log._server
        self._list = log.log_key(PATH).encode()
        self._heads = log._keys.heads(log.partition_of(PATH)).encode()
        self._items = self._server.execute("read", b"LRANGE", self._list, b"0", b"-1")
        self._head = self._server.execute("read", b"HMGET", self._heads, PATH.encode())[0]

    def restore(self) -> None:
        self._server.execute("write", b"DEL", self._list)
        self._server.execute("write", b"RPUSH", self._list, *self._items)
        self._server.execute("write", b"HSET", self._heads, PATH.encode(), self._head)

    def lose_all(self) -> None:
        self._server.execute("write", b"DEL", self._list)
        self._server.execute("write", b"HDEL", self._heads, PATH.encode())


def prepared(system: AgentSystem, **options: Any) -> tuple[AgentHandle, Backup]:
    """An agent with two events that are backed up, and three more that will be lost."""
    agent = system.spawn(PATH, initial_state={"list": []}, **options)
    agent.append("list", "kept")
    backup = Backup(system)
    for number in range(3):
        agent.append("list", f"lost {number}")
    return agent, backup


def touched_elsewhere(open_server: OpenSystem, events: int) -> None:
    """Another process claims the agent, and writes."""
    system = open_server()
    give_up(system, PATH)
    elsewhere = system.agent(PATH)
    for number in range(events):
        elsewhere.append("list", f"other {number}")
    elsewhere.record("claim", level=Granularity.TRACE)  # above the agent's granularity: nothing is written


@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize(("others", "error"), [(0, DataLoss), (2, DataLoss), (3, Diverged), (4, Diverged)])
def test_a_loss_is_reported_though_another_process_has_claimed_the_agent_since(
    open_server: OpenSystem, touch: str, others: int, error: type[DuramenError]
) -> None:
    agent, backup = prepared(open_server())
    backup.restore()
    touched_elsewhere(open_server, others)
    with pytest.raises(error) as caught:
        TOUCHES[touch](agent)
    assert (caught.value.agent, caught.value.seq) == (PATH, 5)
    # Reported once, it goes on from what there is.
    assert agent.get("list") == ["kept", *(f"other {number}" for number in range(others))]
    assert agent.append("list", "next").seq == 3 + others


def test_a_claim_of_another_process_alone_is_no_loss(open_server: OpenSystem) -> None:
    agent, _ = prepared(open_server())
    touched_elsewhere(open_server, 4)
    assert len(agent.get("list")) == 8
    assert agent.append("list", "next").seq == 10


@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize(("others", "error"), [(0, DataLoss), (3, Diverged)])
def test_a_loss_is_reported_though_the_agent_had_left_memory(
    open_server: OpenSystem, touch: str, others: int, error: type[DuramenError]
) -> None:
    system = open_server(settings=Settings(passivate_after=0.02))
    agent, backup = prepared(system)
    eventually(lambda: len(system._actors) == 0)
    backup.restore()
    if others:
        touched_elsewhere(open_server, others)
    with pytest.raises(error):
        TOUCHES[touch](agent)
    assert len(agent.get("list")) == 1 + others


@pytest.mark.slow
@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize(("others", "error"), [(0, DataLoss), (3, Diverged)])
def test_a_loss_is_reported_to_who_has_only_read_the_agent(
    open_server: OpenSystem, touch: str, others: int, error: type[DuramenError]
) -> None:
    _, backup = prepared(open_server())
    reader = open_server().agent(PATH)
    assert len(reader.get("list")) == 4
    backup.restore()
    if others:
        touched_elsewhere(open_server, others)
    with pytest.raises(error) as caught:
        TOUCHES[touch](reader)
    assert (caught.value.agent, caught.value.seq) == (PATH, 5)
    assert len(reader.get("list")) == 1 + others


@pytest.mark.parametrize("read", ["get", "keys", "status"])
def test_a_read_of_another_process_takes_the_report_from_nobody(open_server: OpenSystem, read: str) -> None:
    """Whoever touches the agent first after a loss, each that knew more is told."""
    owner, backup = prepared(open_server())
    readers = [open_server().agent(PATH) for _ in range(2)]
    for reader in readers:
        reader.get()
    backup.restore()
    TOUCHES[read](open_server().agent(PATH))  # knows nothing, so has nothing to report
    for agent in (*readers, owner):
        with pytest.raises(DataLoss):
            TOUCHES[read](agent)
        assert agent.get("list") == ["kept"]


@pytest.mark.slow
def test_an_agent_that_left_memory_and_has_lost_nothing_comes_back(open_server: OpenSystem) -> None:
    system = open_server(settings=Settings(passivate_after=0.02))
    agent, _ = prepared(system)
    for wanted in (4, 8):
        eventually(lambda: len(system._actors) == 0)
        assert len(agent.get("list")) == wanted
        touched_elsewhere(open_server, 4)


class Raising(Agent):
    """Handles what it knows, and raises at anything else."""

    def on_receive(self, message: Any) -> None:
        raise RuntimeError("a defect")


def test_a_loss_is_reported_though_a_handler_that_raised_had_removed_the_state(open_server: OpenSystem) -> None:
    system = open_server(agents={"raising": Raising})
    agent, backup = prepared(system, agent_type="raising")
    with pytest.raises(RuntimeError):
        agent.ask("anything")
    backup.restore()
    with pytest.raises(DataLoss):
        agent.get()
    assert agent.get("list") == ["kept"]


@pytest.mark.parametrize("touch", ["get", "set", "spawn"])
def test_a_log_that_is_gone_is_reported_before_it_is_made_again(open_server: OpenSystem, touch: str) -> None:
    system = open_server(settings=Settings(passivate_after=0.02))
    agent, backup = prepared(system)
    eventually(lambda: len(system._actors) == 0)
    backup.lose_all()
    with pytest.raises(DataLoss) as caught:
        system.spawn(PATH) if touch == "spawn" else TOUCHES[touch](agent)
    assert (caught.value.expected, caught.value.actual) == (5, 0)
    assert system.spawn(PATH, initial_state={"new": True}).get() == {"new": True}


def test_a_trimmed_event_is_not_compared(open_server: OpenSystem) -> None:
    system = open_server(settings=Settings(passivate_after=0.02))
    agent, _ = prepared(system)
    eventually(lambda: len(system._actors) == 0)
    other = open_server(settings=Settings(snapshot_every=1, retention=Retention(events=1)))
    give_up(system, PATH)
    elsewhere = other.agent(PATH)

    def trimmed() -> int:
        elsewhere.append("list", "more")
        head = system.log.head(PATH)
        return 0 if head is None else head.base

    eventually(lambda: trimmed() > 5)
    assert agent.get("list")[-1] == "more"


REGISTRY = EventRegistry()


@message_type("later", durable=True, registry=REGISTRY)
@frozen
class Later:
    pass


@pytest.mark.parametrize("look", ["unfinished", "reminders"])
def test_a_look_over_all_agents_takes_the_report_of_a_loss_from_nobody(open_server: OpenSystem, look: str) -> None:
    """It leaves the agent out; who reads the agent itself is told."""
    system = open_server(registry=REGISTRY)
    agent = system.spawn(PATH, initial_state={"list": []})
    agent.remind("next year", Later(), every=365 * 86_400)
    backup = Backup(system)
    agent.append("list", "lost")
    reader = open_server(registry=REGISTRY)
    assert [found.name for found in reader.reminders()] == ["next year"]
    backup.restore()
    for _ in range(2):
        assert getattr(reader, look)() == []
    with pytest.raises(DataLoss):
        reader.agent(PATH).get()
    assert [found.name for found in reader.reminders()] == ["next year"]
