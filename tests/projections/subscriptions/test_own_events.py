"""Whatever a reader does to the events that it is given, no other reader sees."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from duramen.actors import AgentSystem
from duramen.events import Event
from duramen.projections import Change, Projection
from following import OpenSystem
from sinks import SqliteSeen
from waiting import eventually

WRITTEN: list[Any] = [1, {"a": [2]}]


def spoil(event: Event) -> None:
    event.data["value"][1]["a"].append("mine")
    event.data["path"] = "mine"


class SpoilingCallback:
    def __init__(self) -> None:
        self.seqs: list[int] = []

    def __call__(self, found: Change | list[Change]) -> None:
        for change in found if isinstance(found, list) else [found]:
            spoil(change.event)
            self.seqs.append(change.seq)


def have_spoilt(calls: list[SpoilingCallback], seq: int) -> bool:
    return all(call.seqs[-1:] == [seq] for call in calls)


@pytest.fixture
def system(open_any: OpenSystem) -> AgentSystem:
    return open_any()


def test_what_one_subscription_does_to_its_events_no_other_sees(system: AgentSystem) -> None:
    alice = system.spawn("acme/alice")
    calls = [SpoilingCallback() for _ in range(4)]
    spoilers = [
        system.subscribe("acme/**", calls[0]),
        system.subscribe("**/n", calls[1]),
        system.subscribe("acme/alice/n/**", calls[2], batches=True),
        system.subscribe("acme/**", calls[3], latest_only=True),
    ]
    plain, batched = system.subscribe("acme/**"), system.subscribe("**/n")
    with plain, batched:
        for seq in range(2, 7):
            alice.set("n", WRITTEN)
            eventually(partial(have_spoilt, calls, seq))
            for change in [next(plain), *batched.take()]:
                assert (change.seq, change.event.data) == (seq, {"path": "n", "value": WRITTEN})
                spoil(change.event)
                assert change.event.data["path"] == "mine", "control: it is its own"
    assert [one.failures for one in spoilers] == [0] * 4
    for one in spoilers:
        one.close()


def test_old_and_new_values_cannot_be_changed_and_go_on_being_right(system: AgentSystem) -> None:
    alice = system.spawn("acme/alice", initial_state={"l": [[0]]})
    with system.subscribe("acme/alice/l", values=True) as changes:
        for number in range(1, 4):
            alice.append("l", [number])
            change = next(changes)
            assert change.values is not None
            old, new = change.values["l"]
            assert (old, new) == ([[n] for n in range(number)], [[n] for n in range(number + 1)])
            with pytest.raises(AttributeError):
                new.append("mine")
            with pytest.raises(AttributeError):
                new[0].append("mine")
            copied = new.plain()
            copied[0].append("mine")
            change.event.data["values"][0].append("mine")
            assert alice.get("l") == new


class Spoiler(Projection[int]):
    """Breaks the promise of `apply`."""

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        if event.type == "memory_set":
            spoil(event)
        return state + 1


class Values(Projection[list[Any]]):
    def initial(self) -> list[Any]:
        return []

    def apply(self, state: list[Any], event: Event) -> list[Any]:
        return [*state, event.data["value"]] if event.type == "memory_set" else state


def test_what_one_consumer_does_to_its_events_no_other_sees(system: AgentSystem) -> None:
    alice = system.spawn("acme/alice")
    with (
        system.attach(Spoiler(), "spoiler") as spoiler,
        system.attach(Values(), "values") as values,
        system.subscribe("acme/**") as changes,
    ):
        receipts = [alice.set("n", WRITTEN) for _ in range(5)]
        spoiler.wait_for(receipts)
        values.wait_for(receipts)
        assert (spoiler.state, values.state) == (6, [WRITTEN] * 5)
        assert [next(changes).event.data["value"] for _ in range(5)] == [WRITTEN] * 5


class Failing(SqliteSeen):
    """Spoils the events that it is to write, and fails at the first attempts."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.failures = 2
        self.written: list[Any] = []

    def write(self, name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        values = [event.data["value"][1] for event in events if event.type == "memory_set"]
        for event in events:
            if event.type == "memory_set":
                spoil(event)
        if values and self.failures:
            self.failures -= 1
            raise RuntimeError("a deadlock")
        super().write(name, events, after=after, cursor=cursor)
        self.written += values


def test_a_sink_is_given_the_same_events_when_it_is_called_again(system: AgentSystem, tmp_path: Path) -> None:
    alice = system.spawn("acme/alice")
    sink = Failing(str(tmp_path / "seen.db"))
    with system.attach(sink, "sink") as runner:
        for _ in range(3):
            runner.wait_for(alice.set("n", [1, {"a": [2]}]))
        assert (sink.failures, runner.error) == (0, None)
        assert sink.rows() == {"acme/alice": [1, 2, 3, 4]}
        assert sink.written == [{"a": [2, "mine"]}] * 3, "each was spoilt once"


def test_a_replay_gives_the_same_events_when_it_goes_back(system: AgentSystem) -> None:
    alice = system.spawn("acme/alice")
    for _ in range(3):
        alice.set("n", WRITTEN)
    with_state = system.replay("acme/alice", from_seq=2)
    for event, state in with_state:
        spoil(event)
        assert with_state.event is not None
        spoil(with_state.event)
        assert state.get("n") == WRITTEN
    for _ in range(3):
        found = with_state.back()
        assert found is not None
        assert found[0].data == {"path": "n", "value": WRITTEN}
        spoil(found[0])
    assert [event.data["value"] for event, _ in with_state] == [WRITTEN] * 3
