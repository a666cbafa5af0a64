"""Let hypothesis look for a sequence of calls that the log in memory answers otherwise than the one on a server.

Two processes make the calls: each has a log of its own on the same server.
"""

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
from duramen.events.log.records import Adoption, Answer, Append, Base, Put, Status
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
needs = st.none() | st.tuples(agents, st.booleans())
puts = st.lists(st.tuples(st.sampled_from(["snapshot", *NAMES]), st.binary(max_size=5)), max_size=2)
# How an append can be wrong; most are right.
mistakes = st.sampled_from(
    [None] * 3
    + ["expected+", "expected-", "previous", "fence", "old fence", "fence and previous", "create", "no create"]
)
IMPORTED = [f"acme/root/{name}" for name in ("c", "d", "e")]
SESSION = linked(NO_DIGEST, [b"event %d" % number for number in range(6)])
"""The log that imports bring."""


class TwoLogs(RuleBasedStateMachine):
    """Each rule asks both logs the same and demands the same answer."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.cleanup = ExitStack()
        self.places: list[Place] = [MemoryPlace(), ServerPlace(url)]
        for place in self.places:
            self.cleanup.callback(place.close)
        self.processes = [[place.open(partitions=3, limits=LIMITS) for place in self.places] for _ in range(2)]
        self.logs = self.processes[0]
        self.partition = self.logs[0].partition_of(AGENTS[0])
        self.hearing: list[Callable[[], list[Notice]]] = [
            self.cleanup.enter_context(place.notices(log, self.partition))
            for place, log in zip(self.places, self.logs, strict=True)
        ]
        self.sent: list[Append] = []
        self.fences: list[str] = [FENCE, "2:somebody"]
        self.time = 1_700_000_000_000_000
        self.beside: set[tuple[str, str]] = set()
        """Agents and tokens for which a checkpoint and keyframes are staged."""
        self.imports = 0

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
        elif wrong in ("previous", "fence and previous"):
            digest = b"another  history"
        fence = FENCE if head is None else head.fence
        if wrong in ("fence", "fence and previous"):
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

    @rule(chosen=st.lists(st.tuples(agents, bodies, mistakes, levels, entries, puts, needs), min_size=1, max_size=3))
    def append(self, chosen: list[Any]) -> None:
        batch: list[Append] = []
        for agent, given, wrong, granularity, entry, values, required in chosen:
            if any(append.agent == agent for append in batch):
                continue  # an agent has one append in a batch
            requires = () if entry is None or required is None else (required,)
            append = self.make(agent, given, wrong, entry=entry, requires=requires)
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

    @rule(process=st.integers(0, 1))
    def go_on_in_a_process(self, process: int) -> None:
        self.logs = self.processes[process]

    # -- moving whole logs -------------------------------------------------------------------------------------------

    @rule(agent=st.sampled_from(IMPORTED), token=st.sampled_from("st"), at=st.integers(0, 5), count=st.integers(1, 6))
    def stage(self, agent: str, token: str, at: int, count: int) -> None:
        previous = SESSION[at - 1][:16] if at else NO_DIGEST
        self.both(lambda log: log.archive.stage(agent, token, at, previous, SESSION[at : at + count]))

    @rule(agent=st.sampled_from(IMPORTED), token=st.sampled_from("st"), number=st.integers(0, 2))
    def stage_beside(self, agent: str, token: str, number: int) -> None:
        def ask(log: EventLog) -> None:
            log.archive.stage_value(agent, token, log.checkpoint_key(agent, "one"), b"checkpoint %d" % number)
            log.archive.stage_keyframe(agent, token, 1 + number, b"keyframe %d" % number)

        self.both(ask)
        self.beside.add((agent, token))

    @rule(
        chosen=st.sets(st.sampled_from(IMPORTED), min_size=1, max_size=2),
        token=st.sampled_from("st"),
        seq=st.sampled_from([6, 6, 6, 3, 1]),
        base=st.sampled_from([0, 0, 0, 2, 6]),
        again=st.booleans(),
    )
    def adopt(self, chosen: set[str], token: str, seq: int, base: int, again: bool) -> None:
        """Import what was staged, or what was not, or what exists; and the same once more."""
        fence = f"1:import of {sorted(chosen)} {token} {seq} {base}"
        seq = max(seq, base)
        head = {"seq": seq, "base": base, "digest": SESSION[seq - 1][:16], "fence": fence}
        before = SESSION[base - 1][:16] if base else NO_DIGEST
        largest = max(map(len, SESSION))
        line = b"\x93\xa7running\xc0\xc0"

        def ask(log: EventLog) -> str | None:
            return log.archive.adopt(
                [
                    Adoption(
                        agent,
                        **head,
                        before=before,
                        updated_at=5,
                        entry=line,
                        largest=largest,
                        levels=4,
                        puts=(Put(log.snapshot_key(agent), b"state"),),
                        staged_values=((log.checkpoint_key(agent, "one"), 0),) if (agent, token) in self.beside else (),
                        has_keyframes=(agent, token) in self.beside,
                    )
                    for agent in sorted(chosen)
                ],
                token,
            )

        for _ in range(1 + again):
            if self.both(ask) is None:
                self.beside -= {(agent, token) for agent in chosen}
                self.imports += 1

    @rule(agent=st.sampled_from([*AGENTS, *IMPORTED]), at=st.integers(0, 7), count=st.integers(0, 8))
    def export(self, agent: str, at: int, count: int) -> None:
        self.both(lambda log: log.archive.raw(agent, at, count))
        self.both(lambda log: log.archive.heads([agent]))

    # -- states beside the log ---------------------------------------------------------------------------------------

    @rule(agent=agents, name=st.sampled_from(["snapshot", *NAMES]), value=st.binary(max_size=5))
    def put(self, agent: str, name: str, value: bytes) -> None:
        self.both(lambda log: log.archive.put([Put(_key(log, agent, name), value)]))

    @rule(agent=agents, name=st.sampled_from(["snapshot", *NAMES]))
    def erase(self, agent: str, name: str) -> None:
        """Somebody deletes a snapshot or a checkpoint."""
        for place, log in zip(self.places, self.logs, strict=True):
            place.erase(log, _key(log, agent, name))

    @rule(
        agent=agents, seq=st.integers(0, 8), value=st.binary(max_size=5), drop=st.lists(st.integers(0, 8), max_size=3)
    )
    def keyframes(self, agent: str, seq: int, value: bytes, drop: list[int]) -> None:
        self.both(lambda log: log.archive.keep_keyframe(agent, seq, value))
        self.both(lambda log: log.archive.keep_setters(agent, seq, value[1:]))
        self.both(lambda log: log.archive.keep_setters(agent, seq + 1, value))
        self.both(lambda log: log.archive.drop_keyframes(agent, drop))
        self.both(lambda log: (log.archive.setters_before(agent, seq), log.archive.setters(agent, seq + 1)))
        self.both(lambda log: [log.archive.keyframe_before(agent, at) for at in range(14)])

    @rule(agent=agents, seq=st.integers(0, 8), wrong=st.booleans())
    def trim_up_to(self, agent: str, seq: int, wrong: bool) -> None:
        head, items = self.logs[0].head(agent), self.places[0].items(self.logs[0], agent)
        at = 0 if head is None else seq - head.base - 1
        digest = items[at][:16] if 0 <= at < len(items) and not wrong else b"another  history"
        self.both(lambda log: log.trim(agent, Base(seq, digest), b"state at %d" % seq))
        self.both(lambda log: (log.base(agent), log.load([log.base_key(agent)])))

    @rule(position=numbers)
    def trim_the_feed(self, position: int) -> None:
        self.both(lambda log: log.trim_feed(self.partition, position))

    # -- damage ------------------------------------------------------------------------------------------------------

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
        self.both(lambda log: [log.head(agent) for agent in (*AGENTS, *IMPORTED)])
        self.both(lambda log: [log.archive.keyframes(agent) for agent in (*AGENTS, *IMPORTED)])
        self.both(lambda log: log.positions())
        self.both(lambda log: sorted(log.directory(), key=lambda entry: entry.agent))
        memory, server = (
            [place.items(log, agent) for agent in AGENTS] for place, log in zip(self.places, self.logs, strict=True)
        )
        assert memory == server

    @invariant()
    def they_announced_the_same(self) -> None:
        memory, server = (sorted(map(repr, take())) for take in self.hearing)
        assert memory == server


def _key(log: EventLog, agent: str, name: str) -> str:
    return log.snapshot_key(agent) if name == "snapshot" else log.checkpoint_key(agent, name)


def _addressed(append: Append, log: EventLog) -> Append:
    """The same append with the keys of this log."""
    named = tuple(evolve(put, key=_key(log, append.agent, put.key)) for put in append.puts)
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
    imports: list[int] = []

    class Counting(TwoLogs):
        def commit(self, batch: list[Append]) -> list[Answer]:
            answers = super().commit(batch)
            met.update(answer.status for answer in answers)
            return answers

        def teardown(self) -> None:
            super().teardown()
            imports.append(self.imports)

    search(lambda: Counting(valkey_url), 160, 40, derandomize=True, phases=[Phase.generate])
    assert set(met) == set(Status) - {Status.ERASED}, "that one has tests of its own"
    assert sum(imports) > 10


@pytest.mark.slow
def test_the_search_finds_a_log_that_differs(valkey_url: str) -> None:
    """Control: a log in memory that takes any bytes at an old place for a duplicate is found out."""

    class Forgetful(TwoLogs):
        def __init__(self, url: str) -> None:
            super().__init__(url)
            log: Any = self.logs[0]
            log._appends._holds = lambda head, append: bool(append.items) and append.expected < head.seq

    with pytest.raises(AssertionError):
        search(lambda: Forgetful(valkey_url), 200, 40, derandomize=True, database=None, phases=[Phase.generate])
