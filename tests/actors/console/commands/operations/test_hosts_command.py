"""`duramen hosts`: the processes that run agents, as the log knows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Duramen
from duramen.actors import AgentSystem
from duramen.events.log import HostRecord, HostStore

FIRST, SECOND, THIRD = ("a" * 32, "b" * 32, "c" * 32)


@pytest.fixture
def hosts(data_dir: Path) -> Iterator[HostStore]:
    """The hosts of the store that the command uses."""
    with AgentSystem.open(data_dir=data_dir) as system:
        yield system.log.hosts


def listed(duramen: Duramen, *words: str) -> list[tuple[str, str]]:
    """State and id of each host that the command lists as one that the tests have added."""
    data = duramen("hosts", "--json", *words).data
    return [(row["state"], row["host"]) for row in data if row["host"] in (FIRST, SECOND, THIRD)]


def test_a_host_is_listed_with_all_that_is_known_of_it(duramen: Duramen, hosts: HostStore) -> None:
    machine = ("boot", 1, 4711, 3)
    hosts.join(HostRecord(FIRST, machine=machine, agent_types=("shop", "till"), message_types=("order",)))
    hosts.beat(FIRST, 12)
    [row] = [row for row in duramen("hosts", "--json").data if row["host"] == FIRST]
    assert row == {
        "host": FIRST,
        "state": "up",
        "pid": 4711,
        "agents_in_memory": 12,
        "agent_types": ["shop", "till"],
        "message_types": ["order"],
        "protocol": 1,
        "beat": 1,
    }
    ran = duramen("hosts")
    assert (ran.code, ran.err) == (0, "")
    [line] = [line for line in ran.out.splitlines() if FIRST in line]
    assert line.split() == [FIRST, "up", "4711", "12", "shop,", "till"]


def test_those_that_have_ended_are_left_out_unless_all_are_asked_for(duramen: Duramen, hosts: HostStore) -> None:
    for host in (FIRST, SECOND, THIRD):
        hosts.join(HostRecord(host))
    hosts.set_state(FIRST, "closed")
    hosts.set_state(SECOND, "draining")
    assert listed(duramen) == [("up", THIRD), ("draining", SECOND)]
    assert listed(duramen, "--all") == [("up", THIRD), ("draining", SECOND), ("closed", FIRST)]
    assert hosts.bury(SECOND, 0)
    assert listed(duramen, "--all") == [("up", THIRD), ("closed", FIRST), ("buried", SECOND)]


def test_looking_adds_no_host_that_stays(duramen: Duramen, hosts: HostStore) -> None:
    before = {record.host for record in hosts.hosts()}
    assert duramen("hosts", "--json").code == 0
    assert {record.host for record in hosts.hosts() if not record.has_ended} <= before


def test_where_no_store_is_none_is_made(duramen: Duramen, data_dir: Path) -> None:
    assert duramen("hosts").code == 1
    assert not data_dir.exists()
