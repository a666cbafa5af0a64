"""What follows from what: events carry which event caused them, and which was the first of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.actors.commands.messages import Set, Spawn
from duramen.events import Event, EventRegistry, MemoryLog, event_id, event_type
from waiting import eventually

REGISTRY = EventRegistry()


@event_type("asked", registry=REGISTRY)
@frozen
class Asked:
    what: str


@event_type("found", registry=REGISTRY)
@frozen
class Found:
    what: str


@frozen
class Ask:
    what: str
    helper: str


class Boss(Agent):
    """Says that it asks, asks its helper, and says what came back."""

    system: AgentSystem

    def on_receive(self, message: Any) -> Any:
        self.emit(Asked(message.what))
        self.system.agent(message.helper).set("question", message.what)
        self.emit(Found(message.what))
        return self.seq


class AsyncBoss(Boss):
    async def on_receive(self, message: Any) -> Any:
        self.emit(Asked(message.what))
        await self.system.agent(message.helper).aio.set("question", message.what)
        return self.seq


class Relay(Agent):
    """Passes a question on to the next without saying anything itself, then after the commit."""

    system: AgentSystem

    def on_receive(self, message: Any) -> Any:
        if message.what == "later":
            self.emit(Asked(message.what))
            self.after_commit(lambda: self.system.agent(message.helper).set("question", "later"))
            return None
        return self.system.agent(message.helper).ask(Ask("relayed", "acme/leaf"))


@pytest.fixture
def system() -> Any:
    with AgentSystem.open(log=MemoryLog(), registry=REGISTRY) as opened:
        for kind in (Boss, AsyncBoss, Relay):
            opened.register(kind.__name__, _with(kind, opened))
        opened.spawn("acme/leaf")
        yield opened


def _with(kind: Callable[[], Any], system: AgentSystem) -> Callable[[], Any]:
    def make() -> Any:
        agent = kind()
        agent.system = system
        return agent

    return make


def told(system: AgentSystem, agent: str, kind: str) -> Event:
    return [event for event in system.events(agent) if event.type == kind][-1]


def ids(event: Event) -> tuple[str | None, str | None]:
    return event.causation_id, event.correlation_id


def test_what_comes_from_outside_names_no_cause(system: AgentSystem) -> None:
    leaf = system.agent("acme/leaf")
    leaf.set("a", 1)
    assert [ids(event) for event in system.events("acme/leaf")] == [(None, None), (None, None)]


@pytest.mark.parametrize("kind", ["Boss", "AsyncBoss"])
def test_what_a_handler_sends_names_the_event_before_it(system: AgentSystem, kind: str) -> None:
    system.spawn("acme/boss", agent_type=kind).ask(Ask("why", "acme/leaf"))

    assert ids(told(system, "acme/boss", "asked")) == (None, event_id("acme/boss", 2))
    assert ids(told(system, "acme/leaf", "memory_set")) == (event_id("acme/boss", 2), event_id("acme/boss", 2))


def test_all_events_of_one_handling_have_the_same_ids(system: AgentSystem) -> None:
    system.spawn("acme/boss", agent_type="Boss").ask(Ask("why", "acme/leaf"))
    assert ids(told(system, "acme/boss", "found")) == ids(told(system, "acme/boss", "asked"))


def test_a_relay_that_says_nothing_passes_the_first_cause_on(system: AgentSystem) -> None:
    system.spawn("acme/boss", agent_type="Boss")
    system.spawn("acme/relay", agent_type="Relay").ask(Ask("now", "acme/boss"))

    # The relay has emitted nothing: what the boss says comes from outside, as far as any log knows.
    assert ids(told(system, "acme/boss", "asked")) == (None, event_id("acme/boss", 2))
    assert ids(told(system, "acme/leaf", "memory_set")) == (event_id("acme/boss", 2), event_id("acme/boss", 2))


def test_an_effect_after_the_commit_is_caused_by_the_handling(system: AgentSystem) -> None:
    system.spawn("acme/relay", agent_type="Relay").ask(Ask("later", "acme/leaf"))

    eventually(lambda: system.agent("acme/leaf").get("question", None) == "later")
    assert ids(told(system, "acme/leaf", "memory_set")) == (event_id("acme/relay", 2), event_id("acme/relay", 2))


def test_the_next_message_from_outside_has_no_cause_again(system: AgentSystem) -> None:
    system.spawn("acme/boss", agent_type="Boss").ask(Ask("why", "acme/leaf"))
    system.agent("acme/leaf").set("own", True)
    assert ids(told(system, "acme/leaf", "memory_set")) == (None, None)


def test_the_session_that_a_handler_spawns_is_caused_by_it(system: AgentSystem) -> None:
    class Parent(Agent):
        def on_receive(self, message: Any) -> Any:
            self.emit(Asked("child"))
            return system.agent("acme/child").ask(Spawn()).success

    system.register("Parent", Parent)
    assert system.spawn("acme/parent", agent_type="Parent").ask("go")
    assert ids(told(system, "acme/child", "spawned")) == (event_id("acme/parent", 2), event_id("acme/parent", 2))


def test_messages_of_one_turn_keep_their_own_causes(system: AgentSystem) -> None:
    """A message from outside right behind one with a cause must not inherit it."""

    class Sender(Agent):
        def on_receive(self, message: Any) -> Any:
            self.emit(Asked("x"))
            leaf = system.agent("acme/leaf")
            replies = [leaf.ask(Set(f"n{number}", number), block=False) for number in range(50)]
            return [reply.get(timeout=10).seq for reply in replies]

    system.register("Sender", Sender)
    sender = system.spawn("acme/sender", agent_type="Sender")
    inside = sender.ask("go", block=False)
    outside = [system.agent("acme/leaf").ask(Set("own", number), block=False) for number in range(50)]
    own = {reply.get(timeout=10).seq for reply in outside}
    theirs = set(inside.get(timeout=10))

    for event in system.events("acme/leaf"):
        if event.seq in own:
            assert ids(event) == (None, None)
        if event.seq in theirs:
            assert ids(event) == (event_id("acme/sender", 2), event_id("acme/sender", 2))


def test_blame_follows_the_causes_to_the_first(system: AgentSystem) -> None:
    system.spawn("acme/boss", agent_type="Boss").ask(Ask("why", "acme/leaf"))
    found = system.blame("acme/leaf", "question")
    assert [(event.agent, event.seq) for event in found.causes] == [("acme/boss", 2)]
