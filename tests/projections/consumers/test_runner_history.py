"""The log is not what the consumer has read, or some of it is gone; and whatever happens in between, it is the fold."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from duramen.actors import AgentSystem
from duramen.events import DataLoss, Diverged, DuramenError, InvalidMessage, MemoryLog, Trimmed
from duramen.events.model.cursor import Cursor, Mark
from duramen.projections import Runner
from following import Count, LastSeqs, OpenSystem, PerAgent, expected_seqs, parked, seqs_of
from waiting import eventually


def test_a_consumer_that_begins_behind_a_trimmed_log_is_told_so(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    for number in range(20):
        alice.set("n", number)
    assert system.trim("acme/alice", keep_events=5).base > 0
    runner = system.attach(LastSeqs(), "seqs")
    parked(runner)
    assert isinstance(runner.error, Trimmed)
    with pytest.raises(Trimmed):
        runner.wait_for()
    with pytest.raises(InvalidMessage):
        runner.skip()
    eventually(lambda: system.consumers.get("seqs").error is not None)
    info = system.consumers.get("seqs")
    assert info.error is not None
    assert (info.error.error, info.applied) == ("Trimmed", 0)


def test_a_consumer_that_is_to_begin_now_needs_nothing_of_what_was_trimmed(open_any: OpenSystem) -> None:
    system = open_any()
    alice, bob = system.spawn("acme/alice"), system.spawn("other/bob")
    for number in range(20):
        alice.set("n", number)
    assert system.trim("acme/alice", keep_events=5).base > 0
    here = system.cursor()
    runner = system.attach(LastSeqs(), "seqs", after=here)
    runner.wait_for()
    assert runner.state == {}
    runner.wait_for([alice.set("n", 20), bob.set("n", 1)], saved=True)
    expected = {"acme/alice": [22], "other/bob": [2]}
    assert runner.state == expected
    runner.close()
    again = open_any().attach(LastSeqs(), "seqs", after=system.cursor())
    again.wait_for()
    assert again.state == expected, "it goes on where it was stored, and not where it was told to begin"
    with system.subscribe("**", after=here) as changes:
        assert next(iter(changes)).event.seq in (22, 2)


def test_what_a_consumer_has_not_read_is_not_trimmed(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    parked_at_two = system.attach(Count(("acme/alice", 2)), "count")
    for number in range(20):
        alice.set("n", number)
    parked(parked_at_two)
    eventually(lambda: system.consumers.get("count").status == "parked")
    assert system.trim("acme/alice", keep_events=5).base <= 1
    parked_at_two.skip()
    parked_at_two.wait_for(saved=True)
    assert parked_at_two.state == 20
    assert system.trim("acme/alice", keep_events=5).base > 5


@pytest.mark.parametrize(
    ("mark", "error"),
    [
        (Mark(2, 0, "acme/alice", 2, b"another digest.."), Diverged),
        (Mark(40, 0, "acme/alice", 40, b"d" * 16), DataLoss),
    ],
)
def test_a_log_that_is_not_the_one_that_was_read_is_never_mixed_in(
    open_any: OpenSystem, mark: Mark, error: type[DuramenError]
) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    for number in range(9):
        alice.set("n", number)
    cursor = Cursor(system.log.identity, {system.log.partition_of("acme/alice"): mark})
    runner = system.attach(LastSeqs(), "seqs", after=cursor)
    parked(runner)
    assert type(runner.error) is error
    assert runner.state == {}
    runner.retry()
    parked(runner)
    assert type(runner.error) is error


def test_a_view_of_a_lost_log_is_right_again_after_a_rebuild(open_any: OpenSystem) -> None:
    """The stored view is ahead of the log, as after a restore from a backup."""
    system = open_any()
    alice = system.spawn("acme/alice")
    with system.attach(LastSeqs(), "seqs") as runner:
        runner.wait_for(alice.set("a", 1), saved=True)
    views = system.log.consumer_store()
    (record,) = views.records()
    partition = system.log.partition_of("acme/alice")
    ahead = Cursor(system.log.identity, {partition: Mark(9, 0, "acme/alice", 9, b"d" * 16)})
    assert views.save(evolve(record, cursor=ahead)).current
    again = open_any().attach(LastSeqs(), "seqs")
    parked(again)
    assert isinstance(again.error, DataLoss)
    again.rebuild()
    eventually(lambda: again.status == "live")
    again.wait_for()
    assert seqs_of(again.state) == {"acme/alice": [1, 2]}


class Story:
    """What may happen to a consumer, in any order."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.system = AgentSystem.open(log=log)
        self.agents = [self.system.spawn(f"p{number}/a") for number in range(3)]
        self.runner: Runner[Any] | None = None
        self.poison: set[tuple[str, int]] = set()

    def tell(self, step: str, number: int) -> None:
        getattr(self, step)(number)

    def write(self, number: int) -> None:
        with self.agents[number % 3].batch() as batch:
            for item in range(number + 1):
                batch.set("n", item)

    def attach(self, number: int) -> None:
        if self.runner is None or self.runner.ended:
            self.runner = self.system.attach(PerAgent() if self.keyed else LastSeqs(), "view")

    def close(self, number: int) -> None:
        if self.runner is not None:
            self.runner.close()

    def kill(self, number: int) -> None:
        """Taken over by another process, which stores nothing."""
        self.close(number)
        self.attach(number)
        assert self.runner is not None
        self.runner._consumer.abandon()
        self.runner.close()

    def rebuild(self, number: int) -> None:
        if self.runner is not None and not self.runner.ended:
            self.runner.rebuild()

    def wait(self, number: int) -> None:
        if self.runner is not None and not self.runner.ended:
            self.runner.wait_for(saved=number % 2 == 0)

    keyed = False


steps = st.sampled_from(["write", "write", "write", "attach", "close", "kill", "rebuild", "wait"])


@settings(max_examples=25)
@given(st.lists(st.tuples(steps, st.integers(0, 6)), max_size=20), st.booleans())
def test_whatever_happens_in_whatever_order_the_view_is_the_fold(story: list[tuple[str, int]], keyed: bool) -> None:
    told = Story(MemoryLog(partitions=2))
    told.keyed = keyed
    try:
        for step, number in story:
            told.tell(step, number)
        told.attach(0)
        assert told.runner is not None
        told.runner.wait_for()
        assert seqs_of(told.runner.state) == expected_seqs(told.system)
        assert told.runner.error is None
    finally:
        told.system.close()


def test_names_of_consumers_are_apart_from_each_other(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    runners = [system.attach(LastSeqs(), f"n{uuid4().hex}") for _ in range(5)]
    receipt = alice.set("a", 1)
    for runner in runners:
        runner.wait_for(receipt, saved=True)
    assert [info.applied for info in system.projections()] == [2] * 5
