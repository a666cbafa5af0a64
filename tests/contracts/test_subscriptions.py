"""Nobody misses an event: subscriptions over all logs, as users make them."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from duramen.actors import AgentHandle, AgentSystem
from duramen.events import (
    Cursor,
    Diverged,
    Granularity,
    InvalidMessage,
    InvalidPath,
    MemoryLog,
    SystemClosed,
    UnknownEventType,
)
from duramen.events.log.event_log import EventLog
from duramen.projections import MISSING, Change, Subscription
from waiting import eventually

SECONDS = 30.0


class Meanwhile:
    """A log that lets something happen right before or right after one of its methods does its work."""

    def __init__(self, log: EventLog) -> None:
        self._inner = log
        self._planned: dict[tuple[str, str], Callable[[], None]] = {}

    def plan(self, when: str, method: str, what: Callable[[], None]) -> None:
        self._planned[when, method] = what

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        planned = [self._planned.pop((when, name), None) for when in ("before", "after")]
        if planned == [None, None]:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            if planned[0] is not None:
                planned[0]()
            result = found(*arguments, **options)
            if planned[1] is not None:
                planned[1]()
            return result

        return call


class Gathered:
    """A callback that keeps what it is given."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.changes: list[Change] = []

    def __call__(self, change: Change) -> None:
        with self._changed:
            self.changes.append(change)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[Change]:
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.changes) >= count, SECONDS)
            assert enough, f"{len(self.changes)} of {count}"
            return list(self.changes)

    def seqs(self, count: int) -> list[int]:
        return [change.seq for change in self.wait_for(count)]


@pytest.fixture
def opened(log: EventLog) -> Meanwhile:
    return Meanwhile(log)


@pytest.fixture
def system(opened: Meanwhile) -> Iterator[AgentSystem]:
    with AgentSystem.open(log=opened) as running:  # type: ignore[arg-type]
        yield running


@pytest.fixture
def other(opened: Meanwhile) -> Iterator[AgentSystem]:
    """Another process, as far as the log can tell."""
    with AgentSystem.open(log=opened._inner) as running:
        yield running


@pytest.fixture
def alice(system: AgentSystem) -> AgentHandle:
    return system.spawn("acme/alice", initial_state={"plan": {"steps": []}})


def taken(subscription: Subscription, count: int) -> list[Change]:
    found: list[Change] = []
    while len(found) < count:
        changes = subscription.take(timeout=SECONDS)
        assert changes, f"{len(found)} of {count}"
        found += changes
    return found


# -- what is delivered -------------------------------------------------------------------------------------------------


def test_a_callback_gets_agent_seq_event_and_paths(system: AgentSystem, alice: AgentHandle) -> None:
    seen = Gathered()
    with system.subscribe("acme/*/plan/**", seen):
        alice.set("goal", 1)
        receipt = alice.append("plan/steps", "read")
        (change,) = seen.wait_for(1)
    assert (change.agent, change.seq, change.paths) == ("acme/alice", receipt.seq, ("plan/steps",))
    assert change.event == next(system.events("acme/alice", from_seq=receipt.seq))
    assert change.values is None


def test_another_process_is_told(system: AgentSystem, other: AgentSystem, alice: AgentHandle) -> None:
    with other.subscribe("acme/alice/**") as changes:
        alice.set("goal", 1)
        assert [change.paths for change in taken(changes, 1)] == [("goal",)]


def test_each_event_comes_once_and_in_the_order_of_its_agent(system: AgentSystem) -> None:
    seen = Gathered()
    with system.subscribe("acme/**", seen):
        agents = [system.spawn(f"acme/a{number}") for number in range(5)]
        for value in range(20):
            for agent in agents:
                agent.set("n", value)
        found = seen.wait_for(5 * 21)
    for agent in agents:
        assert [change.seq for change in found if change.agent == str(agent.path)] == list(range(1, 22))


def test_lifecycle_and_activity_are_categories(system: AgentSystem, alice: AgentHandle) -> None:
    with (
        system.subscribe("acme/alice", categories={"lifecycle"}) as lifecycle,
        system.subscribe("acme/alice/**", categories=[Granularity.ACTIVITY]) as activity,
        system.subscribe("acme/alice/**", types=["paused"]) as paused,
    ):
        alice.set("x", 1)
        alice.record("tool_output", {"tool": "search"})
        alice.pause(checkpoint_id="lunch")
        assert [change.event.type for change in taken(lifecycle, 1)] == ["paused"]
        assert [change.event.type for change in taken(activity, 1)] == ["activity_recorded"]
        assert [change.event.type for change in taken(paused, 1)] == ["paused"]


def test_values_are_those_before_and_after_and_equal_the_fold(system: AgentSystem, alice: AgentHandle) -> None:
    alice.set("plan/title", "old")
    with system.subscribe("acme/alice/plan/**", values=True) as changes:
        alice.set("plan/title", "new")
        alice.record("note", 1)
        alice.set("elsewhere", 1)
        alice.append("plan/steps", "read")
        alice.set("plan", 5)
        alice.delete("plan")
        found = taken(changes, 4)
    assert [dict(change.values or {}) for change in found] == [
        {"plan/title": ("old", "new")},
        {"plan/steps": ([], ["read"])},
        {"plan": ({"steps": ["read"], "title": "new"}, 5)},
        {"plan": (5, MISSING)},
    ]
    for change in found:
        for path, (old, new) in (change.values or {}).items():
            for seq, value in ((change.seq - 1, old), (change.seq, new)):
                memory = system.state_at("acme/alice", seq).memory
                for segment in path.split("/"):
                    memory = memory.get(segment, MISSING)
                assert memory == value


# -- from where --------------------------------------------------------------------------------------------------------


def test_without_a_cursor_it_starts_now(system: AgentSystem, alice: AgentHandle) -> None:
    alice.set("before", 1)
    with system.subscribe("acme/**") as changes:
        alice.set("after", 1)
        assert [change.paths for change in taken(changes, 1)] == [("after",)]


@pytest.mark.parametrize("method", ["positions", "notices", "feed_page"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_is_lost_between_reading_and_subscribing(
    system: AgentSystem, other: AgentSystem, opened: Meanwhile, method: str, when: str
) -> None:
    """The window is forced open: somebody commits while `subscribe` is at work, and right after it."""
    author = other.spawn("acme/alice")
    inside: list[int] = []
    opened.plan(when, method, lambda: inside.append(author.set("inside", 1).seq))
    with system.subscribe("acme/**") as changes:
        outside = author.set("outside", 1).seq
        found: list[int] = []
        while outside not in found:
            found += [change.seq for change in taken(changes, 1)]
        last = author.set("last", 1).seq
        while last not in found:
            found += [change.seq for change in taken(changes, 1)]
    if method == "notices" or (method, when) == ("positions", "after"):
        assert inside, "the window was not open"
        assert set(inside) <= set(found)  # it was committed after the positions that this subscription begins at
    assert found == sorted(set(found))
    assert {outside, last} <= set(found)


def test_from_start_replays_first_and_then_goes_on(system: AgentSystem, alice: AgentHandle) -> None:
    alice.set("a", 1)
    seen = Gathered()
    with system.subscribe("acme/**", seen, from_start=True):
        assert seen.seqs(2) == [1, 2]
        alice.set("b", 1)
        assert seen.seqs(3) == [1, 2, 3]


def test_a_cursor_continues_with_the_very_next_event(system: AgentSystem, alice: AgentHandle) -> None:
    for value in range(10):
        alice.set("n", value)
    with system.subscribe("acme/**", from_start=True) as changes:
        for change in changes:
            if change.seq == 4:
                break
        cursor = Cursor.from_text(changes.cursor.to_text())
    with system.subscribe("acme/**", after=cursor) as changes:
        assert [change.seq for change in taken(changes, 7)] == list(range(5, 12))


def test_a_cursor_continues_inside_one_append_of_several_events(system: AgentSystem, alice: AgentHandle) -> None:
    with system.subscribe("acme/**") as live:
        with alice.batch() as batch:
            for number in range(6):
                batch.set(f"k{number}", number)
        assert [change.seq for change in (next(live), next(live))] == [2, 3]
        cursor = live.cursor
    with system.subscribe("acme/**", after=cursor) as changes:
        assert [change.seq for change in taken(changes, 4)] == [4, 5, 6, 7]


def test_the_cursor_passes_what_did_not_concern_it(system: AgentSystem, alice: AgentHandle) -> None:
    with system.subscribe("acme/alice/rare") as changes:
        for value in range(20):
            alice.set("often", value)
        partition = system.log.partition_of("acme/alice")
        end = system.log.positions()[partition]
        eventually(lambda: changes.cursor.marks[partition].position == end)
        assert changes.lag == 0


def test_a_cursor_of_another_log_is_refused(system: AgentSystem) -> None:
    with pytest.raises(Diverged):
        system.subscribe("acme/**", after=Cursor("another"))


# -- how it is delivered -----------------------------------------------------------------------------------------------


def test_a_callback_that_blocks_delays_no_other_and_no_writer(system: AgentSystem, alice: AgentHandle) -> None:
    gate, slow, quick = threading.Event(), Gathered(), Gathered()

    def block(change: Change) -> None:
        assert gate.wait(SECONDS)
        slow(change)

    try:
        with system.subscribe("acme/**", block) as blocked, system.subscribe("acme/**", quick):
            for value in range(50):
                alice.set("n", value)
            assert quick.seqs(50) == list(range(2, 52))
            assert slow.changes == []
            assert blocked.lag >= 49
            gate.set()
            assert slow.seqs(50) == list(range(2, 52))
            eventually(lambda: blocked.lag == 0)
    finally:
        gate.set()


@pytest.mark.slow
def test_whoever_is_slower_than_the_buffer_catches_up_and_joins_again(system: AgentSystem, alice: AgentHandle) -> None:
    gate, seen = threading.Event(), Gathered()

    def block(change: Change) -> None:
        assert gate.wait(SECONDS)
        seen(change)

    try:
        with system.subscribe("acme/**", block, buffer=5) as subscription:
            for value in range(100):
                alice.set("n", value)
            eventually(lambda: subscription.lag >= 100)
            gate.set()
            assert seen.seqs(100) == list(range(2, 102))
            eventually(lambda: subscription.lag == 0)
            alice.set("n", "live again")
            assert seen.seqs(101)[-1] == 102
    finally:
        gate.set()


def test_a_callback_that_raises_is_told_of_and_the_next_change_comes(system: AgentSystem, alice: AgentHandle) -> None:
    seen, told = Gathered(), []

    def fail(change: Change) -> None:
        seen(change)
        if change.seq == 3:
            raise SystemExit("even this")

    def on_error(error: BaseException, change: Change | None) -> None:
        told.append((type(error), change.seq if change else None))

    with system.subscribe("acme/**", fail, on_error=on_error) as subscription:
        for value in range(4):
            alice.set("n", value)
        assert seen.seqs(4) == [2, 3, 4, 5]
        assert told == [(SystemExit, 3)]
        assert subscription.failures == 1
        assert subscription.error is None


def test_on_request_a_failure_stops_it_before_the_change_that_failed(system: AgentSystem, alice: AgentHandle) -> None:
    def fail(change: Change) -> None:
        if change.seq == 3:
            raise ValueError("not now")

    subscription = system.subscribe("acme/**", fail, stop_on_failure=True)
    for value in range(4):
        alice.set("n", value)
    eventually(lambda: subscription.closed)
    assert isinstance(subscription.error, ValueError)
    with system.subscribe("acme/**", after=subscription.cursor) as again:
        assert [change.seq for change in taken(again, 3)] == [3, 4, 5]


def test_an_async_callback_runs_on_a_loop_one_call_at_a_time(system: AgentSystem, alice: AgentHandle) -> None:
    seen = Gathered()
    running = 0

    async def on_change(change: Change) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        seen(change)

    with system.subscribe("acme/**", on_change) as subscription:
        for value in range(20):
            alice.set("n", value)
        assert seen.seqs(20) == list(range(2, 22))
        assert subscription.failures == 0


def test_a_callback_takes_lists_on_request(system: AgentSystem, alice: AgentHandle) -> None:
    lists: list[list[Change]] = []
    with system.subscribe("acme/**", lists.append, batches=True):
        for value in range(20):
            alice.set("n", value)
        eventually(lambda: sum(map(len, lists)) == 20)
    assert [change.seq for batch in lists for change in batch] == list(range(2, 22))


def test_an_iteration_ends_when_it_is_closed(system: AgentSystem, alice: AgentHandle) -> None:
    subscription = system.subscribe("acme/**")
    alice.set("n", 1)
    assert next(subscription).seq == 2
    closer = threading.Timer(0.0, subscription.close)
    closer.start()
    assert list(subscription) == []
    closer.join()
    assert subscription.error is None


def test_async_iteration_needs_no_thread_and_ends_with_close(system: AgentSystem, alice: AgentHandle) -> None:
    async def follow() -> tuple[list[int], list[int]]:
        async with await system.aio.subscribe("acme/**") as changes:
            waiting = asyncio.ensure_future(anext(changes))
            await alice.aio.set("n", 0)
            found = [(await waiting).seq]
            for value in range(1, 5):
                await alice.aio.set("n", value)
            async for change in changes:
                found.append(change.seq)
                if change.seq == 6:
                    break
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(changes)
            await alice.aio.set("n", "after a wait that was cancelled")
            batch = [change.seq for change in await anext(changes.batches())]
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            await changes.aclose()
            with pytest.raises(StopAsyncIteration):
                await waiting
            return found, batch

    assert asyncio.run(follow()) == ([2, 3, 4, 5, 6], [7])


def test_latest_only_keeps_the_newest_of_a_path_for_who_is_slow(system: AgentSystem, alice: AgentHandle) -> None:
    with system.subscribe("acme/**", latest_only=True, buffer=10) as changes:
        for value in range(100):
            alice.set("a", value)
            alice.set("b", value)
        partition = system.log.partition_of("acme/alice")
        end = system.log.positions()[partition]
        eventually(lambda: changes.lag == 2 and system._hub._follower.mark_of(partition).position == end)
        assert [(change.seq, change.paths) for change in taken(changes, 2)] == [(200, ("a",)), (201, ("b",))]


def test_every_delivers_in_bursts_without_losing_any(system: AgentSystem, alice: AgentHandle) -> None:
    lists: list[list[Change]] = []
    with system.subscribe("acme/**", lists.append, every=0.2, batches=True) as subscription:
        for value in range(50):
            alice.set("n", value)
        eventually(lambda: sum(map(len, lists)) == 50)
        eventually(lambda: subscription.lag == 0)
    assert [change.seq for batch in lists for change in batch] == list(range(2, 52))
    assert len(lists) <= 1 + 50 * 0.2 * 2  # far fewer than changes, however slow this machine is


# -- the end -----------------------------------------------------------------------------------------------------------


def test_an_event_that_cannot_be_told_ends_who_wanted_it_and_nobody_else(
    system: AgentSystem, opened: Meanwhile, alice: AgentHandle
) -> None:
    from attrs import frozen

    from duramen.events import EventRegistry

    @frozen
    class Claim:
        text: str

    old, new = EventRegistry(), EventRegistry()
    old.register(Claim, "claim_made", 1)
    new.register(Claim, "claim_made", 2)
    author = make_claims(opened, old)
    with AgentSystem.open(log=opened._inner, registry=new) as reader:
        told: list[tuple[type, Any]] = []
        wanted = reader.subscribe("acme/claims/**", from_start=True)
        other = reader.subscribe("acme/**", types=["memory_set"], from_start=True)
        author()
        assert [change.seq for change in taken(wanted, 1)] == [1]
        with pytest.raises(UnknownEventType):
            taken(wanted, 1)
        assert isinstance(wanted.error, UnknownEventType)
        assert wanted.closed
        assert reader.sharing_status().errors == {"acme/claims/**": "UnknownEventType"}
        again = reader.subscribe(
            "acme/claims/**",
            print,
            after=wanted.cursor,
            on_error=lambda error, change: told.append((type(error), change)),
        )
        eventually(lambda: told == [(UnknownEventType, None)])
        assert again.closed
        assert [change.agent for change in taken(other, 1)] == ["acme/claims"]
        assert other.error is None


def make_claims(opened: Meanwhile, registry: Any) -> Callable[[], None]:
    """A way to let an agent emit an event of an old version, and then set something."""
    from duramen.actors import Agent

    claim = next(iter(registry.types().values()))

    class Claims(Agent):
        def on_receive(self, message: Any) -> None:
            self.emit(claim("x"))
            self.set("n", 1)

    def author() -> None:
        with AgentSystem.open(log=opened._inner, registry=registry, agents={"claims": Claims}) as writer:
            writer.spawn("acme/claims", agent_type="claims").ask("go")

    return author


def test_the_systems_end_is_the_subscriptions_end(opened: Meanwhile) -> None:
    gate, entered = threading.Event(), threading.Event()

    def block(change: Change) -> None:
        entered.set()
        gate.wait(SECONDS)

    system = AgentSystem.open(log=opened._inner)
    alice = system.spawn("acme/alice")
    blocked, iterated = system.subscribe("acme/**", block), system.subscribe("acme/**")
    alice.set("n", 1)
    alice.set("n", 2)
    assert entered.wait(SECONDS)
    gate.set()
    system.close()
    assert list(iterated) == []
    assert blocked.closed
    assert blocked.error is None
    with pytest.raises(SystemClosed):
        system.subscribe("acme/**")


def test_a_callback_may_close_its_own_subscription(system: AgentSystem, alice: AgentHandle) -> None:
    seen = Gathered()

    def once(change: Change) -> None:
        subscription.close()
        seen(change)

    subscription = system.subscribe("acme/**", once)
    alice.set("n", 1)
    alice.set("n", 2)
    assert seen.seqs(1) == [2]
    assert subscription.close()
    assert len(seen.changes) == 1


def test_the_hub_is_there_while_somebody_subscribes(system: AgentSystem, alice: AgentHandle) -> None:
    def hubs() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "duramen-hub"]

    before = len(hubs())
    subscriptions = [system.subscribe(f"acme/alice/k{number}") for number in range(20)]
    assert len(hubs()) == before + 1
    assert system.sharing_status().subscriptions == 20
    for subscription in subscriptions:
        subscription.close()
    eventually(lambda: len(hubs()) == before)
    with system.subscribe("acme/**") as changes:
        alice.set("n", 1)
        assert taken(changes, 1)


# -- misuse ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"callback": 5},
        {"after": "text"},
        {"after": Cursor("x"), "from_start": True},
        {"every": 0},
        {"every": "1"},
        {"buffer": 0},
        {"granularity": 9},
        {"categories": "state"},
        {"types": [1]},
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with AgentSystem.open(log=MemoryLog()) as system, pytest.raises(InvalidMessage):
        system.subscribe("acme/**", **arguments)


def test_a_bad_pattern_is_refused_and_a_subscription_with_a_callback_is_not_iterated() -> None:
    with AgentSystem.open(log=MemoryLog()) as system:
        with pytest.raises(InvalidPath):
            system.subscribe("acme//x")
        with system.subscribe("acme/**", print) as subscription, pytest.raises(InvalidMessage):
            next(subscription)


@pytest.fixture
def garbage_of_others() -> None:
    """Collect what earlier tests have left, whose warnings are not of the test that takes place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("garbage_of_others")
def test_a_closed_system_ends_its_subscriptions_without_a_warning(
    opened: Meanwhile, caplog: pytest.LogCaptureFixture, values: bool
) -> None:
    close_busy_system(opened, values)
    gc.collect()
    about = [record for record in caplog.records if "subscription" in record.name or record.name == "asyncio"]
    failed = [record for record in caplog.records if "_failed" in record.getMessage()]
    assert [record.getMessage() for record in about + failed] == []


def close_busy_system(log: Meanwhile, values: bool) -> None:
    """Callbacks of each kind run, iterators wait, and events keep coming while it is closed."""
    ends: list[BaseException] = []
    rounds, ended = threading.Semaphore(0), list[Subscription]()

    follows = threading.Event()

    async def follow(system: AgentSystem) -> None:
        subscription = await system.aio.subscribe("acme/**", values=values)
        follows.set()
        async for _ in subscription:
            rounds.release()

    def iterate(subscription: Subscription) -> None:
        for _ in subscription:
            rounds.release()
        ended.append(subscription)

    async def call(_: Change) -> None:
        await asyncio.sleep(0)
        rounds.release()

    def note(error: BaseException, change: Change | None) -> None:
        ends.append(error)

    system = AgentSystem.open(log=log)  # type: ignore[arg-type]
    alice = system.spawn("acme/alice")
    subscriptions = [
        system.subscribe("acme/**", call, values=values, on_error=note),
        system.subscribe("acme/**", lambda _: rounds.release(), values=values, on_error=note, buffer=2),
        system.subscribe("acme/**", lambda _: rounds.release(), batches=True, every=0.01, on_error=note),
    ]
    iterated = system.subscribe("acme/**", values=values)
    threads = [
        threading.Thread(target=iterate, args=(iterated,)),
        threading.Thread(target=lambda: asyncio.run(follow(system))),
        threading.Thread(target=write_until_closed, args=(alice,)),
    ]
    for thread in threads:
        thread.start()
    assert follows.wait(SECONDS)
    for _ in range(100):
        assert rounds.acquire(timeout=SECONDS)
    system.close()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert ended == [iterated]
    assert all(one.closed and one.error is None for one in [*subscriptions, iterated])
    assert ends == []
    with pytest.raises(SystemClosed):
        system.subscribe("acme/**")


def write_until_closed(agent: AgentHandle) -> None:
    with suppress(SystemClosed):
        while True:
            agent.set("n", 1)
