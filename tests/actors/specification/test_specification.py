"""The specification kit says yes to what an agent does, no to what it does not, and shows the difference."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import (
    Agent,
    Append,
    Batch,
    Delete,
    Get,
    Merge,
    Pause,
    Record,
    Resume,
    Set,
    Spawn,
    Strategy,
    Supervision,
    Terminate,
)
from duramen.actors.dispatch import Envelope
from duramen.actors.specification import NotAsSpecified, spec
from duramen.events import (
    AgentPaused,
    CheckpointNotFound,
    EventRegistry,
    InvalidMessage,
    UnknownEventType,
    ValueRefused,
    event_type,
)

REGISTRY = EventRegistry()


@event_type("claim_found", registry=REGISTRY)
@frozen
class ClaimFound:
    text: str
    source: str = "web"


@event_type("claim_doubted", registry=REGISTRY)
@frozen
class ClaimDoubted:
    text: str


@frozen
class NotDeclared:
    text: str


@frozen
class Find:
    question: str


@frozen
class Doubt:
    text: str


class Researcher(Agent):
    supervision = Supervision(strategy=Strategy.STOP)

    def on_receive(self, message: Any) -> Any:
        match message:
            case Find("nothing"):
                return None
            case Find("ghosts"):
                self.set("started", True)
                raise LookupError("no such thing")
            case Find(question):
                self.emit(ClaimFound(question))
                self.append("claims", question)
                self.record("tool_output", {"tool": "search"})
                return f"found {question}"
            case Doubt(text) if text not in self.state["claims"]:
                raise InvalidMessage("doubt what was found")
            case Doubt(text):
                self.emit(ClaimDoubted(text))
                return len(self.state["claims"])
            case _:
                return super().on_receive(message)

    def initial(self) -> Any:
        return {"claims": []}

    def apply(self, state: Any, event: Any) -> Any:
        match event:
            case ClaimFound(text):
                return {"claims": [*state["claims"], text]}
            case ClaimDoubted(text):
                return {"claims": [claim for claim in state["claims"] if claim != text]}
        return state


researcher = spec(Researcher, registry=REGISTRY)


def failure_of(check: Any) -> str:
    with pytest.raises(NotAsSpecified) as failed:
        check()
    return str(failed.value)


def test_what_a_message_causes_is_told_in_order() -> None:
    came = researcher.when(Find("why"))
    came.then(ClaimFound("why"), Append("claims", "why"), Record("tool_output", {"tool": "search"}))
    came.replies("found why").remembers({"claims": ["why"]}).has_state({"claims": ["why"]})


def test_what_was_given_is_the_agents_past() -> None:
    past = researcher.given(ClaimFound("why"), ClaimFound("how"))
    past.when(Doubt("how")).then(ClaimDoubted("how")).replies(1).has_state({"claims": ["why"]})
    past.given(ClaimDoubted("how")).when(Doubt("how")).raises(InvalidMessage, "doubt what was found")


def test_given_says_nothing_about_what_follows() -> None:
    researcher.given(ClaimFound("why")).when(Find("nothing")).nothing().has_state({"claims": ["why"]})


def test_messages_of_duramens_own_can_be_given_and_sent() -> None:
    past = researcher.given(Spawn(initial_state={"goal": 1}, session_id="s-9"), Batch([Set("a/b", 1), Set("c", [1])]))
    past.when(Merge("a", {"d": 2})).then(Merge("a", {"d": 2})).remembers({"goal": 1, "a": {"b": 1, "d": 2}, "c": [1]})
    past.when(Batch([Append("c", 2), Delete("a")])).then(Batch([Append("c", 2), Delete("a")]))
    past.when(Get("a/b")).nothing().replies(1)
    past.given(Pause(checkpoint_id="x")).when(Set("a", 1)).raises(AgentPaused)
    past.given(Pause(checkpoint_id="x")).when(Resume(checkpoint_id="x")).then("resumed")
    past.given(Pause(checkpoint_id="x"), Resume(checkpoint_id="x"), Set("c", 2)).when(Resume(checkpoint_id="x")).then(
        "memory_restored", "resumed"
    )
    past.when(Terminate()).then("episode_recorded", "terminated").remembers({})


def test_an_event_can_be_named_by_type_and_data() -> None:
    came = researcher.when(Set("a", 1))
    came.then(("memory_set", {"path": "a", "value": 1}))
    assert "True" in failure_of(lambda: came.then(("memory_set", {"path": "a", "value": True})))


def test_a_lifecycle_result_that_is_no_success_is_an_error() -> None:
    researcher.when(Resume(checkpoint_id="lunch")).raises(CheckpointNotFound)


def test_an_error_leaves_no_event() -> None:
    researcher.when(Find("ghosts")).raises(LookupError, "no such thing").remembers({})


def test_another_event_is_shown_beside_the_expected_one() -> None:
    said = failure_of(lambda: researcher.when(Find("why")).then(ClaimFound("how"), "memory_appended"))
    assert "- ClaimFound(text='how', source='web')" in said
    assert "+ ClaimFound(text='why', source='web')" in said
    assert "  memory_appended" in said
    assert "+ activity_recorded {'data': {'tool': 'search'}, 'kind': 'tool_output'}" in said


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (lambda: researcher.when(Find("why")).nothing(), "+ ClaimFound(text='why', source='web')"),
        (lambda: researcher.when(Find("nothing")).then(ClaimFound("a")), "- ClaimFound(text='a', source='web')"),
        (lambda: researcher.when(Find("why")).raises(LookupError), "did not raise LookupError"),
        (lambda: researcher.when(Find("ghosts")).nothing(), "raised LookupError: no such thing"),
        (lambda: researcher.when(Find("ghosts")).raises(ValueError), "instead of ValueError"),
        (lambda: researcher.when(Find("ghosts")).raises(LookupError, "dragon"), "with 'dragon'"),
        (lambda: researcher.when(Find("why")).replies("other"), "+ 'found why'"),
        (lambda: researcher.when(Set("a", 1)).remembers({"a": 1.0}), "- 'a': 1.0"),
        (lambda: researcher.when(Find("why")).has_state({"claims": []}), "+ {'claims': ['why']}"),
        (lambda: researcher.when(Find("why")).then("memory_appended"), "- memory_appended"),
    ],
)
def test_what_is_not_so_fails(check: Any, told: str) -> None:
    assert told in failure_of(check)


def test_a_past_that_cannot_have_been_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="NotDeclared cannot be given"):
        researcher.given(NotDeclared("a")).when(Find("why"))
    with pytest.raises(ValueRefused):
        researcher.given(ClaimFound(("a", "tuple"))).when(Find("why"))  # type: ignore[arg-type]
    with pytest.raises(AgentPaused):
        researcher.given(Pause(checkpoint_id="x"), ClaimFound("why")).when(Find("why"))
    with pytest.raises(InvalidMessage, match="no single event"):
        researcher.when(Find("nothing")).then(Pause(checkpoint_id="x"))
    with pytest.raises(InvalidMessage, match="takes an Agent subclass"):
        spec(42)  # type: ignore[arg-type]


class Careless(Researcher):
    def on_receive(self, message: Any) -> Any:
        match message:
            case "undeclared":
                self.emit(NotDeclared("a"))
            case "tuple":
                self.emit(ClaimFound(("a", "b")))  # type: ignore[arg-type]


def test_what_could_not_be_stored_is_refused_as_it_would_be_by_a_system() -> None:
    careless = spec(Careless, registry=REGISTRY)
    careless.when("undeclared").raises(UnknownEventType)
    careless.when("tuple").raises(ValueRefused)


class Impure(Researcher):
    handled = 0

    def on_receive(self, message: Any) -> Any:
        self.handled += 1
        return super().on_receive(message)

    def apply(self, state: Any, event: Any) -> Any:
        return {**super().apply(state, event), "handled": self.handled}  # of the object, not of the log


def test_state_that_no_replay_would_give_is_found() -> None:
    said = failure_of(lambda: spec(Impure, registry=REGISTRY).when(Find("why")))
    assert "+ live     {'claims': ['why'], 'handled': 1}" in said


class Patient(Agent):
    async def on_receive(self, message: Any) -> Any:
        await asyncio.sleep(0)
        self.set("asked", message)
        return f"{message}: done"


def test_asynchronous_handlers_are_awaited() -> None:
    spec(Patient).when("tea").then(Set("asked", "tea")).replies("tea: done")


def test_an_agent_is_made_by_a_function_and_its_effects_are_done_in_the_end() -> None:
    sent: list[str] = []

    class Sender(Agent):
        def __init__(self, outbox: list[str]) -> None:
            super().__init__()
            self.outbox = outbox

        def on_receive(self, message: Any) -> None:
            self.set("sent", message)
            self.after_commit(lambda: self.outbox.append(message))

    spec(lambda: Sender(sent)).when("hello").then(Set("sent", "hello"))
    assert sent == ["hello"]


def test_a_command_id_goes_with_the_message() -> None:
    assert not researcher.when(Doubt("x"), command_id="c-1").raises(InvalidMessage).events
    came = researcher.given(ClaimFound("x")).when(Doubt("x"), command_id="c-1")
    assert [event.command_id for event in came.events] == ["c-1"]


class Restless(Agent):
    """Goes on by itself after each message, in every way there is."""

    def initial(self) -> Any:
        return {"claims": []}

    def apply(self, state: Any, event: Any) -> Any:
        return {"claims": [*state["claims"], event.text]}

    def on_receive(self, message: Any) -> Any:
        match message:
            case "quiet":
                self._go_on()
            case ("loud", text):
                self.emit(ClaimFound(text))
                self.set("loud", text)
                self._go_on()
            case "by itself":
                self.emit(ClaimDoubted("by itself"))
                self.set("alone", True)
                self._go_on()
        return message

    def _go_on(self) -> None:
        self.actor_runtime().services.actors.send(self.path, Envelope("by itself"))
        self.schedule_once(0.0, "by itself")
        self.after_commit(lambda: self.actor_runtime().services.actors.send(self.path, Envelope("by itself")))


class RestlessLater(Restless):
    async def on_receive(self, message: Any) -> Any:
        await asyncio.sleep(0)
        return super().on_receive(message)


@pytest.mark.slow
@pytest.mark.parametrize("agent", [Restless, RestlessLater])
def test_a_message_has_its_own_events_however_the_agent_goes_on_by_itself(agent: type[Agent]) -> None:
    restless = spec(agent, registry=REGISTRY)
    for _ in range(10):
        restless.when("quiet").nothing().replies("quiet").remembers({}).has_state({"claims": []})
        then = restless.given(Set("before", 1)).when(("loud", "a"))
        then.then(ClaimFound("a"), Set("loud", "a")).remembers({"before": 1, "loud": "a"}).has_state({"claims": ["a"]})
        assert {event.causation_id for event in then.events} == {None}
        restless.when(Set("x", 1)).then(Set("x", 1)).remembers({"x": 1})
        restless.when(("loud", "a"), command_id="c-1").then(ClaimFound("a"), Set("loud", "a"))
    alone = spec(agent, registry=REGISTRY).when("by itself")
    alone.then(ClaimDoubted("by itself"), Set("alone", True)).remembers({"alone": True})


def test_what_a_message_did_not_do_is_still_seen_of_an_agent_that_goes_on() -> None:
    """Control: the events of the message are compared, and not only some of them."""
    told = failure_of(lambda: spec(Restless, registry=REGISTRY).when(("loud", "a")).then(ClaimFound("a")))
    assert "memory_set" in told and "by itself" not in told


def test_a_handler_that_does_not_end_fails_within_the_time_out(gate: threading.Event) -> None:
    class Stuck(Agent):
        def on_receive(self, message: Any) -> None:
            gate.wait(30)

    spec(Stuck, timeout=0.05).when("anything").raises(TimeoutError)
    assert not gate.is_set()
