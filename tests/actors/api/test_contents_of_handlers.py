"""What handlers write may be larger than an event: it stands beside the log when their batch is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.events import Content, EventRegistry, Limits, TooLarge, Unavailable, event_type
from duramen.events.model import contents_in
from duramen.projections.recovery import drop_orphans
from duramen.projections.recovery.agent_log import AgentLog

OpenSystem = Callable[..., AgentSystem]
Handler = Callable[[Any], Any]
PATH = "acme/alice"
REGISTRY = EventRegistry()
LIMITS = Limits(event_bytes=4_096, batch_bytes=16_384, content_bytes=200_000, text_bytes=50_000)
BIG, BYTES = "ä€𝄞x" * 9_000, bytes(range(256)) * 100


class Scripted(Agent):
    """Does what it is asked to."""

    def on_receive(self, message: Any) -> Any:
        return message(self)


class Awaiting(Agent):
    """Does what it is asked to, on the event loop."""

    async def on_receive(self, message: Any) -> Any:
        await asyncio.sleep(0)
        return message(self)


AGENTS = {"scripted": Scripted, "awaiting": Awaiting}


@pytest.fixture
def system(open_any: OpenSystem) -> AgentSystem:
    return open_any(limits=LIMITS, agents=AGENTS)


def kept(system: AgentSystem) -> int:
    return len(system.log.contents.list(PATH))


def write_all(agent: Any) -> str:
    agent.set("a", BIG)
    agent.append("l", BIG)
    agent.extend("l", [BYTES, "small"])
    agent.merge("m", {"deep": {"text": BIG}, "n": 1})
    agent.record("tool_output", {"tool": "search", "result": BIG})
    agent.set("n", 1)
    return "written"


@pytest.mark.parametrize("kind", AGENTS)
def test_handlers_write_large_values_in_all_ways(system: AgentSystem, kind: str) -> None:
    alice = system.spawn(PATH, agent_type=kind)
    assert alice.ask(write_all) == "written"
    assert alice.get() == {"a": BIG, "l": [BIG, BYTES, "small"], "m": {"deep": {"text": BIG}, "n": 1}, "n": 1}
    (recorded,) = [event for event in system.events(PATH) if event.type == "activity_recorded"]
    (content,) = contents_in(recorded.data)
    assert system.load_content(PATH, content) == BIG
    assert kept(system) == 2, "each once"
    assert system.verify(PATH).ok


def test_a_handler_reads_what_it_has_written(system: AgentSystem) -> None:
    def write(agent: Any) -> list[Any]:
        agent.extend("l", [BIG, BYTES])
        held = agent.get("l")
        assert {type(each) for each in held} == {Content}
        return [agent.system.load_content(PATH, each) for each in [*held, agent.pop("l")]]

    alice = system.spawn(PATH, agent_type="scripted")
    assert alice.ask(write) == [BIG, BYTES, BYTES]
    assert alice.get("l") == [BIG]
    assert alice.ask(lambda agent: agent.system.load_content(PATH, agent.get("l/0"))) == BIG


@pytest.mark.parametrize("kind", AGENTS)
def test_a_handler_that_raises_stores_nothing(system: AgentSystem, kind: str) -> None:
    def fail(agent: Any) -> None:
        agent.set("a", BIG)
        raise ZeroDivisionError

    alice = system.spawn(PATH, agent_type=kind)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        alice.ask(fail)
    assert (alice.get(), kept(system)) == ({}, 0)


def test_a_handler_goes_on_after_a_value_that_is_too_large_all_the_same(system: AgentSystem) -> None:
    def write(agent: Any) -> str:
        with pytest.raises(TooLarge):
            agent.set("a", list(range(5_000)))
        with pytest.raises(TooLarge):
            agent.set("a", [BIG] * 5)
        agent.set("a", BIG)
        return "done"

    alice = system.spawn(PATH, agent_type="scripted")
    assert alice.ask(write) == "done"
    assert alice.get() == {"a": BIG}
    assert kept(system) == 1


def test_a_store_that_fails_before_the_commit_leaves_nothing_that_nobody_removes(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = system.spawn(PATH, agent_type="scripted")
    contents: Any = system.log.contents
    write = contents.write

    def fail(*given: Any, **how: Any) -> None:
        write(*given, **how)
        raise Unavailable("the server went away after it had stored the content")

    monkeypatch.setattr(contents, "write", fail)
    with pytest.raises(Unavailable):
        alice.ask(write_all)
    with pytest.raises(Unavailable):
        alice.set("a", BIG)
    monkeypatch.undo()
    assert (alice.get(), kept(system)) == ({}, 1), "it stands there, and nothing refers to it"
    assert drop_orphans(AgentLog(system.log, PATH, LIMITS), 0) == 1
    assert kept(system) == 0
    alice.set("a", BIG)
    assert drop_orphans(AgentLog(system.log, PATH, LIMITS), 0) == 0, "control: an event refers to it"
    assert alice.get("a") == BIG


def test_what_handlers_have_written_is_there_for_other_hosts(open_server: OpenSystem) -> None:
    host, other = (open_server(limits=LIMITS, agents=AGENTS) for _ in range(2))
    host.spawn(PATH, agent_type="scripted").ask(write_all)
    assert other.agent(PATH).get("a") == BIG
    assert other.agent(PATH).slice("l") == [BIG, BYTES, "small"]


@event_type("doc_found", registry=REGISTRY)
@frozen
class DocFound:
    name: str
    text: str | Content


@event_type("note_found", registry=REGISTRY)
@frozen
class NoteFound:
    text: str


class Finder(Agent):
    """Folds its events to the texts by name."""

    def initial(self) -> Any:
        return {}

    def apply(self, state: Any, event: Any) -> Any:
        return {**state, getattr(event, "name", "note"): event.text}

    def on_receive(self, message: Any) -> Any:
        self.emit(message)
        return self.state


def test_events_of_an_agents_own_are_stored_beside_the_log_where_their_fields_say_so(open_any: OpenSystem) -> None:
    def open_next() -> AgentSystem:
        return open_any(limits=LIMITS, agents={"finder": Finder}, registry=REGISTRY)

    system = open_next()
    alice = system.spawn(PATH, agent_type="finder")
    assert alice.ask(DocFound("small", "text"))["small"] == "text"
    content = alice.ask(DocFound("large", BIG))["large"]
    assert system.load_content(PATH, content) == BIG
    with pytest.raises(TooLarge, match=r"str \| Content"):
        alice.ask(NoteFound(BIG))
    assert kept(system) == 1
    assert drop_orphans(AgentLog(system.log, PATH, LIMITS), 0) == 0
    assert system.verify(PATH).ok
    system.close()
    other = open_next()
    assert other.agent(PATH).ask(NoteFound("x")) == {"small": "text", "large": content, "note": "x"}
    assert other.verify(PATH).ok
