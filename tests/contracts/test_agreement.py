"""Let hypothesis look for a sequence of calls that the log in memory answers otherwise than the one on a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from attrs import evolve
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from contracts.authors import FENCE, linked
from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.events.codec.event_codec import NO_DIGEST
from duramen.events.errors import DuramenError
from duramen.events.log.event_log import EventLog
from duramen.events.log.notices import Notice
from duramen.events.log.records import Answer, Append, Put, Status
from duramen.events.model.event import Granularity
from duramen.events.model.limits import Limits

AGENTS = [f"acme/root/{name}" for name in ("a", "b", "c")]
NAMES = ["one", "two"]
LIMITS = Limits(page_events=5, page_bytes=300, notice_bytes=200)

agents = st.sampled_from(AGENTS)
numbers = st.integers(0, 12)
bodies = st.lists(st.binary(max_size=120), max_size=4)
levels = st.lists(st.sampled_from(list(Granularity)), min_size=4, max_size=4)
entries = st.sampled_from([None, b"\x93\xa7running\xc0\xa2s1", b"\x93\xa6paused\xa4type\xc0"])
puts = st.lists(st.tuples(st.sampled_from(["snapshot", *NAMES]), st.binary(max_size=5)), max_size=2)
# How an append can be wrong; most are right.
mistakes = st.sampled_from(
    [None] * 3 + ["expected+", "expected-", "previous", "fence", "old fence", "create", "no create"]
)


class TwoLogs(RuleBasedStateMachine):
    """Each rule asks both logs the same and demands the same answer."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.cleanup = ExitStack()
        self.places: list[Place] = [MemoryPlace(), ServerPlace(url)]
        for place in self.places:
            self.cleanup.callback(place.close)
        self.logs = [place.open(partitions=3, limits=LIMITS) for place in self.places]
        self.partition = self.logs[0].partition_of(AGENTS[0])
        self.hearing: list[Callable[[], list[Notice]]] = [
            self.cleanup.enter_context(place.notices(log, self.partition))
            for place, log in zip(self.places, self.logs, strict=True)
        ]
        self.sent: list[Append] = []
        self.fences: list[str] = [FENCE, "2:somebody"]
        self.time = 1_700_000_000_000_000

    def teardown(self) -> None:
        self.cleanup.close()

    def both(self, ask: Callable[[EventLog], Any]) -> Any:
        memory, server = (_answer(ask, log) for log in self.logs)
        assert memory == server
        return memory

    def make(self, agent: str, given: list[bytes], wrong: str | None, **rest: Any) -> Append:
        head = self.logs[0].head(agent)
        seq, digest = (0, NO_DIGEST) if head is None else (head.seq, head.digest)
        if wrong == "expected+":
            seq += 1
        elif wrong == "expected-":
            seq = max(0, seq - 1)
        elif wrong == "previous":
            digest = b"another  history"
        fence = FENCE if head is None else head.fence
        if wrong == "fence":
            fence = "7:nobody"
        elif wrong == "old fence":
            fence = self.fences[0]
        create = (head is None) != (wrong in ("create", "no create"))
        items = linked(digest, given)
        self.time += 1
        return Append(agent, "", seq, digest, fence, items, b"", updated_at=self.time, create=create, **rest)

    def commit(self, batch: list[Append]) -> list[Answer]:
        self.sent += [append for append in batch if append.items]

        def ask(log: EventLog) -> list[Answer]:
            return log.commit(self.partition, [_addressed(append, log) for append in batch])

        answers: list[Answer] = self.both(ask)
        self.fences += [answer.fence for answer in answers if answer.status is Status.FENCED]
        return answers

    @initialize(count=st.integers(1, 6))
    def begin(self, count: int) -> None:
        batch = [self.make(agent, [b"%d" % n for n in range(count)], None) for agent in AGENTS[:2]]
        for append in batch:
            append.levels = b"\x02" * count
        assert {answer.status for answer in self.commit(batch)} == {Status.COMMITTED}

    @rule(chosen=st.lists(st.tuples(agents, bodies, mistakes, levels, entries, puts), min_size=1, max_size=3))
    def append(self, chosen: list[Any]) -> None:
        batch: list[Append] = []
        for agent, given, wrong, granularity, entry, values in chosen:
            if any(append.agent == agent for append in batch):
                continue  # an agent has one append in a batch
            append = self.make(agent, given, wrong, entry=entry)
            append.levels = bytes(granularity[: len(given)])
            append.puts = tuple(Put(name, value) for name, value in values)
            batch.append(append)
        self.commit(batch)

    @rule(number=numbers, claimed=st.booleans())
    def send_again(self, number: int, claimed: bool) -> None:
        append = self.sent[-1 - number % len(self.sent)]
        if claimed:  # as one would who has it from somewhere else
            append = evolve(append, fence=self.fences[number % len(self.fences)])
        before = [self.logs[0].head(agent) for agent in AGENTS]
        answer = self.commit([append])[0]
        if answer.status is Status.DUPLICATE:
            assert [self.logs[0].head(agent) for agent in AGENTS] == before

    @rule(asked=st.lists(st.sampled_from([*AGENTS, "acme/nobody"]), max_size=4), owner=st.sampled_from("xy"))
    def claim(self, asked: list[str], owner: str) -> None:
        self.time += 1
        time = self.time
        self.both(lambda log: log.claim(sorted(set(asked)), owner, time))

    @rule(agent=agents, seq=st.integers(-1, 15), limit=st.integers(-1, 8))
    def read(self, agent: str, seq: int, limit: int) -> None:
        self.both(lambda log: log.read(agent, seq, limit))

    @rule(position=numbers, limit=st.integers(0, 20))
    def feed(self, position: int, limit: int) -> None:
        self.both(lambda log: log.feed_page(self.partition, position, limit).entries)

    @rule(agent=agents)
    def load(self, agent: str) -> None:
        def keys(log: EventLog) -> list[str]:
            return [log.snapshot_key(agent), *(log.checkpoint_key(agent, name) for name in NAMES)]

        self.both(lambda log: (log.load(keys(log)), log.exists(keys(log))))

    @rule(agent=agents, count=st.integers(0, 4))
    def lose_the_end(self, agent: str, count: int) -> None:
        """A server that lost events: list and head fit together, but others remember more."""
        head = self.logs[0].head(agent)
        items = self.places[0].items(self.logs[0], agent)
        if head is None or head.base + len(items) != head.seq or not 0 < count < len(items):
            return
        left = items[:-count]
        self.put_back(agent, left, evolve(head, seq=head.base + len(left), digest=left[-1][:16]))

    @rule(agent=agents, count=st.integers(1, 3))
    def trim(self, agent: str, count: int) -> None:
        head = self.logs[0].head(agent)
        items = self.places[0].items(self.logs[0], agent)
        if head is not None and head.base + len(items) == head.seq and len(items) >= count:
            self.put_back(agent, items[count:], evolve(head, base=head.base + count))

    @rule(agent=agents, keep_head=st.booleans())
    def delete(self, agent: str, keep_head: bool) -> None:
        self.put_back(agent, [], self.logs[0].head(agent) if keep_head else None)

    def put_back(self, agent: str, items: list[bytes], head: Any) -> None:
        for place, log in zip(self.places, self.logs, strict=True):
            place.keep(log, agent, items)
            place.write_head(log, agent, head)

    @invariant()
    def they_look_alike(self) -> None:
        self.both(lambda log: [log.head(agent) for agent in AGENTS])
        self.both(lambda log: sorted(log.directory(), key=lambda entry: entry.agent))
        memory, server = (
            [place.items(log, agent) for agent in AGENTS] for place, log in zip(self.places, self.logs, strict=True)
        )
        assert memory == server

    @invariant()
    def they_announced_the_same(self) -> None:
        memory, server = (sorted(map(repr, take())) for take in self.hearing)
        assert memory == server


def _addressed(append: Append, log: EventLog) -> Append:
    """The same append with the keys of this log."""

    def key(name: str) -> str:
        snapshot = name == "snapshot"
        return log.snapshot_key(append.agent) if snapshot else log.checkpoint_key(append.agent, name)

    named = tuple(evolve(put, key=key(put.key)) for put in append.puts)
    return evolve(append, log_key=log.log_key(append.agent), puts=named)


def _answer(ask: Callable[[EventLog], Any], log: EventLog) -> Any:
    """What a log answers; an error by its type and facts, for the words may differ."""
    try:
        return ask(log)
    except DuramenError as error:
        return type(error), error.agent, error.seq, error.expected, error.actual


def search(machine: Any, examples: int, steps: int, **options: Any) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None, **options)
    )


@pytest.mark.slow
def test_memory_and_server_agree_on_every_sequence_of_calls(valkey_url: str) -> None:
    search(lambda: TwoLogs(valkey_url), 60, 40)


@pytest.mark.slow
def test_the_search_meets_every_answer(valkey_url: str) -> None:
    """Control of the search: with too few mistakes in it, agreement would say nothing."""
    met: Counter[Status] = Counter()

    class Counting(TwoLogs):
        def commit(self, batch: list[Append]) -> list[Answer]:
            answers = super().commit(batch)
            met.update(answer.status for answer in answers)
            return answers

    search(lambda: Counting(valkey_url), 80, 40, derandomize=True, phases=[Phase.generate])
    assert set(met) == set(Status)


@pytest.mark.slow
def test_the_search_finds_a_log_that_differs(valkey_url: str) -> None:
    """Control: a log in memory that takes any bytes at an old place for a duplicate is found out."""

    class Forgetful(TwoLogs):
        def __init__(self, url: str) -> None:
            super().__init__(url)
            log: Any = self.logs[0]
            log._holds = lambda head, append: bool(append.items) and append.expected < head.seq

    with pytest.raises(AssertionError):
        search(lambda: Forgetful(valkey_url), 200, 40, derandomize=True, database=None, phases=[Phase.generate])
