"""An agent whose event module was loaded again comes back with the state it had, or says why it cannot."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duramen.actors import AgentSystem, Settings
from duramen.events import MemoryLog, UnknownEventType

EVENTS = """
from attrs import frozen
from duramen.events import event_type

@event_type("reloaded_claim")
@frozen
class Claim:
    text: str
"""
AGENTS = """
from duramen.actors import Agent
from reloaded_claims import Claim

class Counting(Agent):
    def on_receive(self, message):
        if message != "count":
            self.set("last", message)
            self.emit(Claim(message))
        return self.state

    def initial(self):
        return 0

    def apply(self, state, event):
        return state + isinstance(event, Claim)
"""

Load = Callable[[str, str], Any]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Writes a module and imports it, or loads it again."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names: set[str] = set()

    def load_module(name: str, text: str) -> Any:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        known = name in names
        names.add(name)
        return importlib.reload(sys.modules[name]) if known else importlib.import_module(name)

    yield load_module
    for name in names:
        sys.modules.pop(name, None)


def opened(log: MemoryLog, agents: Any, every: int = 1) -> AgentSystem:
    return AgentSystem.open(log=log, agents={"counting": agents.Counting}, settings=Settings(snapshot_every=every))


def test_an_agent_comes_back_the_same_when_its_event_module_was_loaded_again(load: Load) -> None:
    load("reloaded_claims", EVENTS)
    agents, log = load("counting_agents", AGENTS), MemoryLog()
    with opened(log, agents) as system:
        alice = system.spawn("acme/alice", agent_type="counting")
        alice.ask("rain")
        load("reloaded_claims", EVENTS)
        assert alice.ask("snow") == 2  # the agent in memory goes on
    load("reloaded_claims", "# an edit elsewhere in the file\n" + EVENTS)
    with opened(log, agents) as system:
        assert system.agent("acme/alice").ask("count") == 2
        assert system.agent("acme/alice").ask("hail") == 3
        assert system.verify().ok


@pytest.mark.slow
def test_an_agent_that_would_ignore_its_events_after_a_change_is_refused_and_nothing_is_stored(load: Load) -> None:
    load("reloaded_claims", EVENTS)
    agents, log = load("counting_agents", AGENTS), MemoryLog()
    with opened(log, agents, every=1000) as system:
        alice = system.spawn("acme/alice", agent_type="counting")
        alice.ask("rain")
        alice.ask("snow")
        load("reloaded_claims", EVENTS + '    source: str = ""\n')
        with pytest.raises(UnknownEventType, match=r"before reloaded_claims\.Claim was defined again"):
            alice.ask("hail")
    with opened(log, agents) as system:
        for call in (lambda a: a.ask("count"), lambda a: a.set("last", "hail"), lambda a: a.pause()):
            with pytest.raises(UnknownEventType, match="counting_agents still holds"):
                call(system.agent("acme/alice"))
    agents = load("counting_agents", AGENTS)
    with opened(log, agents) as system:
        assert system.agent("acme/alice").ask("count") == 2, "no snapshot was made of a state without its events"
