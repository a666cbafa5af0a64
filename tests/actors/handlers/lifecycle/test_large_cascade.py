"""A tree of a thousand agents under constant writes: paused as one, and brought back to exactly that point."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from duramen.actors import AgentHandle, AgentSystem
from duramen.events import AgentPaused

TEAMS = 9
MEMBERS = 110
AGENTS = 1 + TEAMS + TEAMS * MEMBERS
WRITERS = 6
TRANSFERS = 1_500
"""By all writers, before the tree is paused, and again after it has resumed: each edge has its turn in both."""
SECONDS = 60.0

Edge = tuple[AgentHandle, AgentHandle]
Cut = dict[str, dict[str, Any]]


@pytest.fixture
def system(valkey_url: str) -> Iterator[AgentSystem]:
    with AgentSystem.open(valkey_url, namespace=f"t{uuid4().hex}") as found:
        yield found


def plant(system: AgentSystem) -> tuple[list[AgentHandle], list[Edge]]:
    """All agents, parents first, and every parent with each of its children."""
    root = system.spawn("acme/root", initial_state={"sent": {}, "back": {}})
    agents, edges = [root], deque[Edge]()

    def below(parent: AgentHandle, name: str) -> AgentHandle:
        child = parent.spawn_child(name, initial_state={"got": 0, "gave": 0, "sent": {}, "back": {}})
        agents.append(child)
        edges.append((parent, child))
        return child

    teams = [below(root, f"team-{number}") for number in range(TEAMS)]
    for team in teams:
        for number in range(MEMBERS):
            below(team, f"member-{number}")
    return agents, list(edges)


class Writers:
    """Threads that pass counters down and up their own edges of the tree, one step after the other, until told to end.

    A step that meets a paused agent is tried again: what was under way goes on where the tree has resumed.
    """

    def __init__(self, edges: list[Edge]) -> None:
        self._stop = threading.Event()
        self._done = threading.Semaphore(0)
        self._met_pause = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(edges[number::WRITERS],)) for number in range(WRITERS)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(SECONDS)
        assert not self._errors, self._errors

    def go_on(self) -> None:
        """Return when so many more transfers were completed."""
        for _ in range(TRANSFERS):
            assert self._done.acquire(timeout=SECONDS)

    def wait_for_pause(self) -> None:
        assert self._met_pause.wait(SECONDS)

    def _run(self, edges: list[Edge]) -> None:
        try:
            number = 0
            while not self._stop.is_set():
                number += 1
                for parent, child in edges:
                    self._pass(parent, child, number)
        except BaseException as error:
            self._errors.append(error)

    def _pass(self, parent: AgentHandle, child: AgentHandle, number: int) -> None:
        name = child.path.text.rpartition("/")[2]
        steps: tuple[Callable[[], object], ...] = (
            lambda: parent.set(f"sent/{name}", number),
            lambda: child.set("got", number),
            lambda: child.set("gave", number),
            lambda: parent.set(f"back/{name}", number),
        )
        for step in steps:
            while not self._stop.is_set():
                try:
                    step()
                    break
                except AgentPaused:
                    self._met_pause.set()
        self._done.release()


def states(agents: list[AgentHandle]) -> Cut:
    return {agent.path.text: agent.get() for agent in agents}


def on_their_way(cut: Cut, edges: list[Edge]) -> int:
    """Counters that have left one side and not come back; fails for one that arrived before it was sent."""
    count = 0
    for parent, child in edges:
        above, below = cut[parent.path.text], cut[child.path.text]
        name = child.path.text.rpartition("/")[2]
        sent, back = above["sent"].get(name, 0), above["back"].get(name, 0)
        assert sent >= below["got"] >= below["gave"] >= back >= sent - 1, f"{child.path.text} does not balance"
        count += sent - back
    return count


@pytest.mark.slow
def test_a_thousand_agents_under_constant_writes_pause_at_one_consistent_cut_and_resume_to_it(
    system: AgentSystem,
) -> None:
    agents, edges = plant(system)
    assert len(agents) == AGENTS == 1_000
    with Writers(edges) as writers:
        writers.go_on()
        paused = agents[0].pause("cut", cascade=True)
        assert paused.success
        assert paused.data["agents"] == AGENTS
        cut = states(agents)
        writers.wait_for_pause()
        assert states(agents) == cut  # nobody writes into a paused tree
        assert agents[0].resume("cut", cascade=True).success
        writers.go_on()
    assert on_their_way(cut, edges) <= WRITERS  # each writer has one counter under way at most
    assert sum(len(values["sent"]) for values in cut.values()) > 0

    later = states(agents)
    assert later != cut
    # Negative control: a cut that is of two moments, as one taken agent after agent would be, does not balance.
    with pytest.raises(AssertionError, match="does not balance"):
        on_their_way({**later, "acme/root": cut["acme/root"]}, edges)

    assert agents[0].resume("cut", cascade=True).data["agents"] == AGENTS
    assert states(agents) == cut
    assert {path: system.peek(path).memory for path in cut} == cut  # and so do their logs
