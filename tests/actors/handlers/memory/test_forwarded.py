"""The marks of mutations that another host has sent on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duramen.actors import AgentHandle, AgentSystem
from duramen.events import Event

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"


def gather(agent: AgentHandle) -> None:
    with agent.batch() as batch:
        batch.set("n", 7)
        batch.append("l", 8)


MUTATIONS: dict[str, Callable[[AgentHandle], Any]] = {
    "set": lambda agent: agent.set("n", 1),
    "set_below": lambda agent: agent.set("d/a/b", {"c": [1]}),
    "delete": lambda agent: agent.delete("l/0"),
    "append": lambda agent: agent.append("l", 5),
    "extend": lambda agent: agent.extend("l", [5, 6]),
    "merge": lambda agent: agent.merge("d", {"b": 1}),
    "batch": gather,
}


def events_of(system: AgentSystem, call: Callable[[], Any]) -> list[Event]:
    before = system.agent(PATH).status().seq
    call()
    return list(system.events(PATH, from_seq=before + 1))


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_last_event_of_a_mutation_says_which_other_host_has_sent_it(open_system: OpenSystem, name: str) -> None:
    owner, elsewhere = open_system(), open_system()
    agent = owner.spawn(PATH, initial_state={"l": [1, 2, 3], "d": {"a": {}}, "n": 0})
    for _ in range(2):
        *others, last = events_of(owner, lambda: MUTATIONS[name](elsewhere.agent(PATH)))
        asker, _, count = (last.metadata or {})["asked_by"]
        assert (asker, count) == (elsewhere.host, len(others) + 1)
        assert all(event.metadata is None for event in others)
    assert all(event.metadata is None for event in events_of(owner, lambda: MUTATIONS[name](agent)))
    assert owner.verify(PATH).ok
