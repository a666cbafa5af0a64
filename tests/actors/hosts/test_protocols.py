"""Hosts of different releases: what would not be understood is refused before it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from duramen.actors import Agent, AgentSystem
from duramen.actors.hosts import PROTOCOL
from duramen.events import NoHost
from duramen.events.log import HostRecord
from duramen.events.memory import MemoryLog

PATH = "acme/alice"
OTHER = "f" * 32
PROTOCOLS = [PROTOCOL - 1, PROTOCOL + 1]


class Writer(Agent):
    """Does nothing of its own."""


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def give_to(log: MemoryLog, path: str, protocol: int) -> None:
    """Have a host of this protocol own a tree."""
    log.hosts.join(HostRecord(OTHER, 0, "up", None, protocol, ("writer",)))
    owner, _ = log.hosts.owner(path)
    assert log.hosts.take(path, owner, OTHER).host == OTHER


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_message_to_an_agent_of_a_host_of_another_protocol_is_refused_and_reads_work(
    log: MemoryLog, stack: ExitStack, protocol: int
) -> None:
    with AgentSystem.open(log=log) as first:
        first.spawn(PATH, initial_state={"n": 1})
    give_to(log, PATH, protocol)
    second = stack.enter_context(AgentSystem.open(log=log))
    with pytest.raises(NoHost, match=f"version {protocol} of") as caught:
        second.agent(PATH).set("n", 2)
    assert (caught.value.expected, caught.value.actual) == (PROTOCOL, protocol)
    assert second.agent(PATH).get() == {"n": 1}
    log.hosts.set_state(OTHER, "closed")
    third = stack.enter_context(AgentSystem.open(log=log))
    assert third.agent(PATH).set("n", 3).seq == 2, "the one refused was not begun"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_host_of_another_protocol_is_given_no_agent(log: MemoryLog, stack: ExitStack, protocol: int) -> None:
    log.hosts.join(HostRecord(OTHER, 0, "up", None, protocol, ("writer",)))
    client = stack.enter_context(AgentSystem.open(log=log, host=False))
    with pytest.raises(NoHost, match="no host that is up"):
        client.spawn(PATH, agent_type="writer")
    host = stack.enter_context(AgentSystem.open(log=log, agents={"writer": Writer}, placement="spread"))
    for number in range(20):
        client.spawn(f"acme/{number}", agent_type="writer")
    assert {log.hosts.owner(f"acme/{number}")[0].host for number in range(20)} == {host.host}
    assert host.drain()
    assert host.agent("acme/1").set("n", 1).seq == 2, "nobody else can have it, so it is here again"
