"""Whatever comes between reading, handing out, delivering and writing: each event is delivered once, in order.

The hub's thread and the pool's are played by the test, one step at a time, in an order that hypothesis chooses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.authors import Author
from contracts.feeds import CODEC
from duramen.events import Granularity, Limits, MemoryLog
from duramen.events.codec.event_codec import NO_DIGEST, chain
from duramen.events.log.notices import Notice
from duramen.events.log.records import FeedPage
from duramen.events.model.cursor import START, Mark
from duramen.events.model.registry import DECLARED
from duramen.projections.notifications.event_filter import EventFilter
from duramen.projections.notifications.pacing import Pacer
from duramen.projections.state.missing import MISSING
from duramen.projections.subscriptions import intake as intake_module
from duramen.projections.subscriptions import partitions as partitions_module
from duramen.projections.subscriptions.change import Change, Source
from duramen.projections.subscriptions.delivery import Delivery
from duramen.projections.subscriptions.follower import Follower
from duramen.projections.subscriptions.intake import Intake

AGENTS = ("acme/alice", "acme/bob", "globex/grace")
"""The last one's partition is another."""
NEVER = 1e9
STATE = Granularity.STATE


class TrappedLog(MemoryLog):
    """Somebody writes in the very moment in which the feed is read: right before, or right after."""

    def __init__(self) -> None:
        super().__init__(partitions=2)
        self.before: deque[Callable[[], None]] = deque()
        self.after: deque[Callable[[], None]] = deque()

    def feed_page(self, partition: int, position: int, limit: int) -> FeedPage:
        if self.before:
            self.before.popleft()()
        page = super().feed_page(partition, position, limit)
        if self.after:
            self.after.popleft()()
        return page


@define
class Seen:
    """What one subscription was given, by agent; `first` is what it has to begin with."""

    intake: Intake
    first: dict[str, int]
    values: bool
    changes: list[Change] = field(factory=list)
    in_hand: deque[Any] = field(factory=deque)

    def take(self, count: int) -> None:
        if not self.in_hand:
            with self.intake.changed:
                self.in_hand.extend(self.intake.buffer.pop())
        for _ in range(min(count, len(self.in_hand))):
            item = self.in_hand.popleft()
            self.changes.append(item.change)
            self.intake.confirm([item])


class World:
    def __init__(self) -> None:
        self.log = TrappedLog()
        self.authors = [Author(self.log, agent) for agent in AGENTS]
        self.jobs: deque[Callable[[], None]] = deque()
        self.source = Source(self.log, DECLARED, Limits())
        self.follower = Follower(self.source, self.jobs.append, NEVER)
        self.seen: list[Seen] = []
        self.reading_alone = False
        self.told: list[Notice] = []
        self.log.listen(self.told.append)

    def write(self, agent: int, count: int, *, levels: bytes = b"\2") -> None:
        author = self.authors[agent]
        levels = (levels * count)[:count]
        rows = [
            ["memory_set", 1, level, 0, {"path": "n", "value": author.seq + number}, *[None] * 5]
            for number, level in enumerate(levels, 1)
        ]
        author.write(*map(CODEC.pack, rows), levels=levels)

    def lie(self, kind: str, agent: int) -> None:
        """Somebody publishes what the log does not say."""
        author = self.authors[agent]
        partition = self.log.partition_of(author.agent)
        end = self.log.positions()[partition]
        events = [(author.agent, author.seq + 1, [b"d" * 16 + CODEC.pack(["memory_set"] * 10)])]
        match kind:
            case "again":
                self.log._storage.publish(self.told[-3:])
            case "chain":
                self.log._storage.publish([Notice(partition, STATE, end, end + 1, events, end, 4)])
            case "birth":
                events = [("acme/nobody", 1, [chain(NO_DIGEST, b"x") + b"x"])]
                self.log._storage.publish([Notice(partition, STATE, end, end + 1, events, end, 4)])
            case _:
                self.log._storage.publish([Notice(partition, STATE, 1 << 60, 1 << 61, events, 1 << 60, 4)])

    def lose(self, agent: int) -> None:
        """Somebody writes, and what is told of it never arrives."""
        stream: Any = self.follower._listener._stream
        kept = list(stream._waiting), dict(stream._positions)
        self.write(agent, 1)
        stream._waiting, stream._positions = kept

    def calm(self, agents: list[int]) -> None:
        """The hub has time for everything that is written."""
        for agent in [None, *agents]:
            if agent is not None:
                self.write(agent, 1)
            for _ in range(6):
                self.follower.turn(wait=False)
                while self.jobs:
                    self.jobs.popleft()()

    def meanwhile(self, agent: int) -> None:
        """Somebody writes, and the hub hears of it, if it is not the hub that reads just now."""
        self.write(agent, 1)
        if self.reading_alone:
            self.reading_alone = False
            self.follower.turn(wait=False)
            self.reading_alone = True

    def subscribe(
        self, pattern: str, *, from_start: bool, values: bool, buffer: int, marks: dict[int, Mark] | None = None
    ) -> Seen:
        event_filter = EventFilter.parse(pattern, Granularity.STATE)
        at_end = not from_start and marks is None
        if marks is None:
            ends = self.log.positions()
            marks = {p: START if from_start else Mark(ends[p]) for p in event_filter.partitions(self.log)}
        first = {author.agent: 1 if from_start else author.seq + 1 for author in self.authors}
        delivery = Delivery(values=values, buffer=buffer)
        intake = Intake(self.source, event_filter, delivery, marks, at_end=at_end)
        intake._pacer = Pacer(0.0)  # time stands still here
        self.follower.add(intake)
        seen = Seen(intake, first, values)
        self.seen.append(seen)
        return seen

    def resume(self, number: int) -> None:
        """End one, and let another go on from its cursor."""
        old = self.seen[number]
        cursor = old.intake.cursor()
        old.intake.end()
        self.follower.remove(old.intake)
        pattern = old.intake.event_filter.pattern.text
        buffer = old.intake.buffer.capacity
        new = self.subscribe(pattern, from_start=False, values=old.values, buffer=buffer, marks=dict(cursor.marks))
        self.seen.pop()
        new.first, new.changes = old.first, old.changes
        self.seen[number] = new

    def settle(self) -> None:
        self.follower._beat_at = 0.0  # a heartbeat, for what was lost
        for _ in range(10_000):
            before = sum(len(seen.changes) for seen in self.seen)
            for _ in range(3):
                self.follower.turn(wait=False)
                while self.jobs:
                    self.jobs.popleft()()
            for seen in self.seen:
                seen.take(100)
            idle = sum(len(seen.changes) for seen in self.seen) == before
            if idle and not self.jobs and not self.follower._requests and not self.follower._partitions._moved:
                return
        raise AssertionError("it never comes to rest")

    def judge(self) -> None:
        for seen in self.seen:
            assert seen.intake.error is None
            for author in self.authors:
                wanted = seen.intake.event_filter.pattern.matches((*author.agent.split("/"), "n"))
                seqs = [change.seq for change in seen.changes if change.agent == author.agent]
                assert seqs == (list(range(seen.first[author.agent], author.seq + 1)) if wanted else [])
            for change in seen.changes if seen.values else ():
                assert change.values == {"n": (change.seq - 1 if change.seq > 1 else MISSING, change.seq)}
            assert seen.intake.lag() == 0


numbers = st.integers(0, 3)
patterns = st.sampled_from(["acme/**", "**/n", "globex/grace/n"])
wishes = st.tuples(st.just("subscribe"), patterns, st.booleans(), st.booleans(), st.sampled_from([3, 100]))
steps = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2), st.integers(1, 6)),
    st.tuples(st.just("write both"), st.integers(0, 2), st.integers(2, 4)),
    st.tuples(st.just("lie"), st.sampled_from(["again", "chain", "birth", "future"]), st.integers(0, 2)),
    st.tuples(st.just("lose"), st.integers(0, 2)),
    st.tuples(st.just("calm"), st.lists(st.integers(0, 2), min_size=1, max_size=6)),
    st.tuples(st.just("turn")),
    st.tuples(st.just("heartbeat")),
    st.tuples(st.just("job")),
    st.tuples(st.just("take"), numbers, st.integers(1, 5)),
    st.tuples(st.just("trap"), st.booleans(), st.integers(0, 2), st.integers(1, 5)),
    wishes,
    st.tuples(st.just("resume"), numbers),
    st.tuples(st.just("reconnect")),
    st.tuples(st.just("fail")),
)


def carry_out(world: World, step: tuple[Any, ...]) -> None:
    match step:
        case ("write", agent, count):
            world.write(agent, count)
        case ("write both", agent, count):
            world.write(agent, count, levels=b"\2\1")
        case ("lie", kind, agent):
            world.lie(kind, agent)
        case ("lose", agent):
            world.lose(agent)
        case ("calm", agents):
            world.calm(agents)
        case ("turn",):
            world.follower.turn(wait=False)
        case ("heartbeat",):
            world.follower._beat_at = 0.0
        case ("job",) if world.jobs:
            world.reading_alone = True
            world.jobs.popleft()()
            world.reading_alone = False
        case ("take", number, count) if number < len(world.seen):
            world.seen[number].take(count)
        case ("trap", before, agent, times):
            traps = world.log.before if before else world.log.after
            traps.extend([lambda: world.meanwhile(agent)] * times)
        case ("subscribe", pattern, from_start, values, buffer) if len(world.seen) < 4:
            world.subscribe(pattern, from_start=from_start, values=values, buffer=buffer)
        case ("resume", number) if number < len(world.seen):
            world.resume(number)
        case ("reconnect",):
            world.follower._partitions.note(dict.fromkeys(range(2), 0))
        case ("fail",):
            partitions = world.follower._partitions
            for partition, part in list(partitions._parts.items()):
                partitions._moved.setdefault(partition, 0)
                partitions._give_up(partition, part, ValueError())  # type: ignore[arg-type]


def test_a_partition_whose_subscribers_are_all_behind_is_not_read_for_them() -> None:
    world = World()
    seen = world.subscribe("acme/**", from_start=False, values=False, buffer=3)
    partition = world.log.partition_of(AGENTS[0])
    world.calm([0])
    assert partition in world.follower._partitions._parts, "as long as one follows it is read"
    world.calm([0] * 6)
    assert not seen.intake.is_following(partition), "its buffer is full"
    world.follower._beat_at = 0.0  # a heartbeat: what was heard is compared with the log, for who was given it
    world.calm([0, 0])
    assert partition not in world.follower._partitions._parts
    world.settle()
    world.judge()
    world.calm([0])
    assert partition in world.follower._partitions._parts, "who has caught up brings it back"


def test_nobody_listens_where_all_are_behind_and_nothing_is_missed_by_that() -> None:
    world = World()
    seen = world.subscribe("**", from_start=False, values=False, buffer=3)
    asleep, awake = (world.log.partition_of(AGENTS[number]) for number in (0, 2))
    assert asleep != awake
    stream: Any = world.follower._listener._stream
    world.calm([0, 2])
    assert stream._partitions == {asleep, awake}, "control: who keeps up listens"
    world.calm([0] * 6)
    assert not seen.intake.is_following(asleep), "control: it is behind"
    world.follower._beat_at = 0.0
    world.calm([0])
    assert stream._partitions == {awake}
    heard = len(world.told)
    world.write(0, 1)
    assert len(world.told) > heard, "control: somebody else would have heard of it"
    assert stream._waiting == [] and stream._positions == {}
    world.settle()
    assert stream._partitions == {asleep, awake}, "it has caught up"
    world.calm([0, 2])
    seen.take(100)
    world.judge()


def test_nothing_is_read_for_nobody_though_what_was_heard_is_not_compared_yet() -> None:
    world = World()
    seen = world.subscribe("acme/**", from_start=False, values=False, buffer=3)
    partition = world.log.partition_of(AGENTS[0])
    world.calm([0] * 6)
    assert not seen.intake.is_following(partition), "control: it is behind"
    assert world.follower._partitions._parts[partition].unconfirmed.count > 0, "control: no heartbeat since"
    reads: list[int] = []
    world.log.before.extend([lambda: reads.append(1)] * 100)
    world.calm([0, 0])
    assert reads == []
    world.settle()
    assert reads != [], "control: it reads by itself"
    world.calm([0])
    seen.take(10)
    world.judge()


def test_who_wants_values_takes_what_comes_within_a_while_in_one_reading() -> None:
    world = World()
    seen = world.subscribe("acme/**", from_start=False, values=True, buffer=100)
    world.calm([0, 0])
    seen.take(10)
    assert [change.seq for change in seen.changes] == [1, 2]
    intake = seen.intake
    intake._pacer.longest = 1e9
    intake._pacer.begin(1.0)
    intake._pacer.until += 1e6
    world.calm([0, 0, 0])
    seen.take(10)
    assert len(seen.changes) == 2, "it rests"
    assert [call for _, _, call in world.follower._timers._timers] == [intake._end_pause]
    intake._pacer.longest = intake._pacer.until = 0.0
    intake._end_pause()
    world.settle()
    world.judge()
    assert len(seen.changes) == 5


def test_a_batch_of_several_levels_is_taken_as_it_was_told() -> None:
    world = World()
    seen = world.subscribe("acme/**", from_start=False, values=False, buffer=100)
    world.calm([0, 0])
    reads: list[int] = []
    world.log.before.extend([lambda: reads.append(1)] * 100)
    for levels in (b"\2\1", b"\1\2\2\1", b"\1"):
        world.write(0, len(levels), levels=levels)
        world.follower.turn(wait=False)
    seen.take(100)
    assert [change.seq for change in seen.changes] == list(range(1, 10))
    assert reads == []
    world.write(0, 2, levels=b"\1\4")  # one of them on a channel that nobody follows
    world.follower.turn(wait=False)
    assert reads == []
    world.follower.turn(wait=False)
    assert reads != [], "control: what is not heard is read"


def test_a_hub_that_cannot_listen_polls_and_misses_nothing() -> None:
    world = World()
    seen = world.subscribe("acme/**", from_start=False, values=False, buffer=100)
    world.calm([0])
    listener = world.follower._listener
    listener._overload.until = listener._poll_at = NEVER * NEVER
    world.follower.turn(wait=False)
    world.calm([0, 1, 0])
    seen.take(100)
    assert len(seen.changes) == 1, "control: it hears nothing"
    listener._poll_at = 0.0
    world.settle()
    assert len(seen.changes) == 4
    listener._overload.until = 0.0
    world.calm([0, 1])
    seen.take(100)
    assert len(seen.changes) == 6, "it listens again"
    world.judge()


def test_nothing_is_read_twice_for_who_is_behind_everywhere() -> None:
    world = World()
    slow = world.subscribe("acme/alice/**", from_start=False, values=False, buffer=2)
    world.subscribe("globex/**", from_start=False, values=False, buffer=100)
    world.calm([0, 2])
    assert world.follower._partitions._distributor.wants("acme/alice"), "control: it is live"
    world.calm([0] * 5)
    assert not any(slow.intake.is_live(partition) for partition in slow.intake.partitions), "control: it is behind"
    world.follower._beat_at = 0.0
    world.follower.turn(wait=False)
    assert not world.follower._partitions._distributor.wants("acme/alice")
    assert world.follower._partitions._distributor.wants("globex/grace")
    world.settle()
    assert world.follower._partitions._distributor.wants("acme/alice"), "it joins again"
    world.judge()


LAST_ONE_IS_LOST: list[tuple[Any, ...]] = [("write", 0, 1)] * 12 + [("calm", [0]), ("write", 1, 2), ("lose", 0)]
"""Behind a place that is known of and not read yet: what one heartbeat finds has to be read, too."""


@settings(max_examples=150)
@example([("subscribe", "acme/**", False, False, 100)], LAST_ONE_IS_LOST)
@given(st.lists(wishes, min_size=1, max_size=3), st.lists(steps, min_size=15, max_size=80))
def test_each_subscription_gets_its_exact_suffix_whatever_happens_in_between(
    first: list[tuple[Any, ...]], then: list[tuple[Any, ...]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (partitions_module, intake_module):
            patch.setattr(module, "PAGE", 2)  # so that readers read ahead
        world = World()
        for agent in range(len(AGENTS)):
            world.write(agent, 2)
        for step in [*first, *then]:
            carry_out(world, step)
        world.settle()
        world.judge()
