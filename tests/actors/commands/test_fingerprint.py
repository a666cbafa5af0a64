"""Fingerprints of commands: stored ones stay valid, and a declared name outlives the name of its class."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve, frozen, make_class

from duramen.actors import (
    Agent,
    AgentSystem,
    Append,
    Batch,
    Delete,
    Extend,
    Merge,
    Pause,
    Pop,
    Record,
    Resume,
    Set,
    Spawn,
    Terminate,
)
from duramen.actors.commands import (
    Accept,
    Answer,
    CancelWork,
    Remind,
    RemoveReminder,
    RetryWork,
    fingerprint,
    former_fingerprints,
)
from duramen.actors.handlers import turn
from duramen.events import CommandConflict, EventRegistry, Limits, PropertyPath
from duramen.events.codec import Codec

OpenSystem = Callable[..., AgentSystem]
CODEC = Codec(Limits())


@frozen
class Refund:
    order: str
    amount: object = None


STORED = {
    "17227f778a570d02": Set("a/b", {"x": [1, 2.5, b"z", None, True]}),
    "7ad6120122a180fa": Delete("a"),
    "5695742d4f8344dd": Append(PropertyPath.parse("l"), 1),
    "0c73ab6d8ce7cff8": Extend("l", [1, 2], expected_seq=3, metadata={"by": "kim"}),
    "f1412f02ba975d9f": Pop("l"),
    "254df33d8ba24220": Pop("d", "k", None),
    "401322059bb2eb7a": Merge("a", {"b": None}),
    "ae2ac6c40068f6d5": Record("tool_output", {"n": 1}),
    "bfcd5bd5bd69b751": Batch([Set("a", 1), Delete("b")]),
    "4f8c48376d1971c2": Pause(checkpoint_id="lunch", ttl=timedelta(hours=1)),
    "1f8cb60adeb18433": Resume(checkpoint_id="lunch"),
    "94d9b6f6b10dd138": Terminate(outcome="failure"),
    "f1d955bf5c8f9165": Spawn(session_id=UUID(int=7)),
    "808e4f294896cb9a": Refund("o-17", {"at": datetime(2026, 1, 2, tzinfo=UTC)}),
    "9a10b46692c6c250": [Refund("x")],
    "5207c364c47128fb": {"do": "it"},
}
"""Messages by the fingerprints that stand in logs of earlier releases."""

STORED_OF_WORK: dict[str, Any] = {
    "3f7f0ea8f110efe4": Accept("job", 3, {"name": "x"}),
    "dcba93ae68a867bd": Answer("go", 1),
    "ad02756b4696bcb7": CancelWork(2),
    "ba066a16df220c0d": RetryWork(2),
    "38fd2f9cf2de708b": Remind("r", "job", 3, {}, None, 60_000_000),
    "d7cbc3d27dbe9a25": RemoveReminder("r"),
}
STORED_WITH_OPTIONS: dict[str, Any] = {
    "a41b23a5a3f6ff6f": Accept("job", 3, {"name": "x"}, "c-1", "fsync"),
    "8cd18426da393693": Answer("go", 1, None, "c-1", "fsync", about={"a": 1}),
    "a46231c9338200f0": CancelWork(2, 30.0, "c-1", "fsync"),
    "83bbf7964289b97d": RetryWork(2, "c-1", "fsync"),
    "77de1fefd4e79e72": Remind("r", "job", 3, {}, None, 60_000_000, durability="fsync"),
    "acec8624889bf222": RemoveReminder("r", durability="memory"),
    "80806cec80443eba": RemoveReminder("r", expected_seq=7, metadata={"by": "kim"}),
}
"""The same of messages about work, of which earlier releases counted the options."""


@pytest.mark.parametrize("stored", STORED)
def test_a_fingerprint_in_a_log_is_that_of_its_message_for_ever(stored: str) -> None:
    for registry in (None, EventRegistry()):
        assert fingerprint(STORED[stored], CODEC, registry).hex() == stored


@pytest.mark.parametrize("registry", [None, EventRegistry()])
def test_a_message_about_work_has_the_fingerprint_in_a_log_whatever_its_options(registry: EventRegistry | None) -> None:
    for stored, message in STORED_OF_WORK.items():
        with_options = evolve(message, durability="fsync", expected_seq=7, metadata={"by": "kim"})
        assert {fingerprint(each, CODEC, registry).hex() for each in (message, with_options)} == {stored}
    for stored, message in STORED_WITH_OPTIONS.items():
        assert fingerprint(message, CODEC, registry).hex() not in STORED_WITH_OPTIONS
        assert bytes.fromhex(stored) in former_fingerprints(message, CODEC, registry)
        other = evolve(message, durability="replicas:1")
        assert bytes.fromhex(stored) not in former_fingerprints(other, CODEC, registry)
        if message.metadata is None:  # repeated by a caller that now sends its trace, too
            traced = evolve(message, metadata={"by": "lee"})
            assert bytes.fromhex(stored) in former_fingerprints(traced, CODEC, registry)


def test_a_command_about_work_that_an_earlier_release_has_logged_is_the_same_command(
    open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_system(registry=EventRegistry()) as system:
        agent = system.spawn("p/a")
        with monkeypatch.context() as earlier:
            earlier.setattr(turn, "fingerprint", partial(fingerprint, unset=()))
            first = agent.answer("go", 1, command_id="c-1", durability="memory")
        for _ in range(2):
            assert agent.answer("go", 1, command_id="c-1", durability="memory").seq == first.seq
        with pytest.raises(CommandConflict):
            agent.answer("go", 2, command_id="c-1", durability="memory")
        assert agent.status().seq == first.seq


def declared(name: str, class_name: str) -> tuple[type[Any], EventRegistry]:
    """A class of this name that is declared as the message type `name`."""
    registry = EventRegistry()
    return registry.register_message(make_class(class_name, ["order"], frozen=True), name), registry


def test_a_renamed_class_has_the_fingerprint_of_its_declared_name() -> None:
    (before, old), (after, new) = declared("refund", "Refund"), declared("refund", "MoneyBack")
    assert fingerprint(before("x"), CODEC, old) == fingerprint(after("x"), CODEC, new)
    assert fingerprint([before("x")], CODEC, old) == fingerprint([after("x")], CODEC, new)
    assert fingerprint(before("x"), CODEC, None) != fingerprint(after("x"), CODEC, None)
    other, others = declared("claim", "Refund")
    assert fingerprint(other("x"), CODEC, others) != fingerprint(before("x"), CODEC, old)


class Counting(Agent):
    def on_receive(self, message: Any) -> Any:
        self.append("handled", message.order)
        return self.length_of_handled()

    def length_of_handled(self) -> int:
        return len(self.get("handled"))


def handled(open_system: OpenSystem, message: Any, registry: EventRegistry, first: bool = False) -> tuple[int, int]:
    """The reply to a message with the same command id as ever, and how many messages were handled by then."""
    with open_system(agents={"counting": Counting}, registry=registry) as system:
        agent = system.spawn("p/a", agent_type="counting") if first else system.agent("p/a")
        return agent.ask(message, command_id="c-1"), len(agent.get("handled"))


def test_a_command_whose_class_was_renamed_is_the_same_command(open_system: OpenSystem) -> None:
    (before, old), (after, new) = declared("refund", "Refund"), declared("refund", "MoneyBack")
    assert handled(open_system, before("x"), old, first=True) == (1, 1)
    assert handled(open_system, after("x"), new) == (1, 1)
    with pytest.raises(CommandConflict):
        handled(open_system, after("y"), new)


def test_without_a_declared_name_a_renamed_class_is_another_command(open_system: OpenSystem) -> None:
    before, after = declared("refund", "Refund")[0], declared("refund", "MoneyBack")[0]
    assert handled(open_system, before("x"), EventRegistry(), first=True) == (1, 1)
    with pytest.raises(CommandConflict):
        handled(open_system, after("x"), EventRegistry())


def test_a_command_from_before_its_class_was_declared_is_the_same_command(open_system: OpenSystem) -> None:
    cls, registry = declared("refund", "Refund")
    assert handled(open_system, cls("x"), EventRegistry(), first=True) == (1, 1)
    assert handled(open_system, cls("x"), registry) == (1, 1)
