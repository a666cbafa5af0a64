"""A consumer for which another process reads gets what it would read itself, whatever happens to that process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from attrs import define, evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import environment
from contracts.authors import Author
from contracts.feeds import CODEC, agents_of, all_facts, body
from duramen.actors import AgentSystem
from duramen.events import CorruptEvent, Diverged, DuramenError, Event, MemoryLog, Trimmed, Unavailable
from duramen.events.feed.reader import EVERY_LEVEL, FeedReader
from duramen.events.feed.window_loader import WindowLoader
from duramen.events.helper_process import HelperGone
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Base, Status
from duramen.events.model.cursor import Cursor, Mark
from duramen.events.prefetch.borrowed_feed import BorrowedFeed
from duramen.events.prefetch.client import PrefetchClient
from duramen.events.prefetch.protocol import DONE, FREE, WINDOW
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.log import RedisLog
from duramen.projections import Projection, Runner
from duramen.projections.consumers import prefetching
from following import Count
from prefetch_spy import Spy, spy_on
from servers import valkey_server
from waiting import eventually, process_ends

pytestmark = pytest.mark.slow  # each test starts a process that reads ahead

KEY = bytes(range(32))
PROCESS = Path(__file__).with_name("prefetch_process.py")
EVENTS = 2_000
"""Of a log: several windows of each partition, the first of which are small."""


class Order(Projection[list[list[Any]]]):
    """Agent and seq of all events, in the order in which they came."""

    def __init__(self, poison: Sequence[Any] = ()) -> None:
        self.poison = poison

    def initial(self) -> list[list[Any]]:
        return []

    def apply(self, state: list[list[Any]], event: Event) -> list[list[Any]]:
        if [event.agent, event.seq] == self.poison:
            raise ZeroDivisionError
        return [*state, [event.agent, event.seq]]


@define
class Logs:
    """Logs in namespaces of one server."""

    url: str
    namespace: str = ""

    def new(self, partitions: int) -> RedisLog:
        self.namespace = f"p{uuid4().hex}"
        return RedisLog(pool_of_url(self.url), namespace=self.namespace, partitions=partitions)

    def filled(self, partitions: int = 3, events: int = EVENTS) -> dict[int, list[Author]]:
        """By partition, authors who have taken turns to write so many events in all."""
        log = self.new(partitions)
        authors = {partition: agents_of(log, 4, partition) for partition in range(partitions)}
        for partition, several in authors.items():
            for _ in range(events // partitions // 40):
                write(log, partition, [(author, (2,) * 10) for author in several])
        return authors

    def system(self) -> AgentSystem:
        return AgentSystem.open(self.url, namespace=self.namespace)


@pytest.fixture
def logs(valkey_url: str) -> Logs:
    return Logs(valkey_url)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Of consumers for which a process reads however little there is."""
    monkeypatch.setattr(prefetching, "LEAST_LAG", 1)
    monkeypatch.setattr(prefetching, "usable_cores", lambda: 2)
    return spy_on(monkeypatch.setattr)


@pytest.fixture
def closing() -> Iterator[list[Any]]:
    """What is to be closed when the test ends."""
    found: list[Any] = []
    yield found
    for one in reversed(found):
        one.close()


def write(log: EventLog, partition: int, batch: list[tuple[Author, tuple[int, ...]]]) -> None:
    """One append of each author, with events of these levels."""
    appends = [
        author.append(*[body(author.seq, level=level) for level in levels], levels=bytes(levels))
        for author, levels in batch
    ]
    for (author, _), append, answer in zip(batch, appends, log.commit(partition, appends), strict=True):
        assert answer.status is Status.COMMITTED
        author.settle(append, answer)


def settled(runner: Runner[Any]) -> None:
    eventually(lambda: runner.status in ("live", "parked"), 30, what=runner.status)


@define
class Outcome:
    """What a consumer came to: its events by partition, in their order, and the error it is parked with."""

    events: dict[int, list[Any]]
    error: DuramenError | None
    position: int

    @property
    def wrong(self) -> tuple[Any, ...]:
        error = self.error
        return (type(error), getattr(error, "agent", None), getattr(error, "seq", None), str(error))


def outcome(logs: Logs, name: str, projection: Order | None = None, **options: Any) -> Outcome:
    with logs.system() as system:
        runner = system.attach(projection or Order(), name, **options)
        settled(runner)
        if runner.status == "live":
            runner.wait_for()
        events: dict[int, list[Any]] = {}
        for agent, seq in runner.state:
            events.setdefault(system.log.partition_of(agent), []).append((agent, seq))
        return Outcome(events, runner.error, runner.progress.position)


def alone(logs: Logs, monkeypatch: pytest.MonkeyPatch, projection: Order | None = None, **options: Any) -> Outcome:
    """The same of a consumer that reads all by itself."""
    with monkeypatch.context() as patch:
        patch.setattr(prefetching, "LEAST_LAG", 1 << 60)
        return outcome(logs, "alone", projection, **options)


def helped(logs: Logs, spy: Spy, projection: Order | None = None, **options: Any) -> Outcome:
    """The same of one for which another process reads, which is gone at the end."""
    before = spy.windows
    found = outcome(logs, "helped", projection, **options)
    assert spy.windows > before
    assert all(process_ends(near.pid, 0) for near in spy.started)
    return found


# -- the same, in the same order ---------------------------------------------------------------------------------------

_LEVELS = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@settings(max_examples=12)
@given(data=st.data(), partitions=st.integers(1, 4))
def test_who_is_helped_takes_the_same_events_in_the_same_order(
    valkey_url: str, data: st.DataObject, partitions: int
) -> None:
    logs = Logs(valkey_url)
    log = logs.new(partitions)
    shapes = data.draw(st.lists(st.tuples(st.integers(0, 2), _LEVELS), min_size=1, max_size=12))
    for partition in range(partitions):
        authors = agents_of(log, 3, partition)
        for _ in range(30):
            for number, levels in shapes:
                write(log, partition, [(authors[number], levels)])
    agents = ["**", "acme/*", "*/agent-1", f"{authors[0].agent}", "nobody/here"]
    options = {"agents": data.draw(st.sampled_from(agents)), "granularity": data.draw(st.integers(1, 4))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetching, "LEAST_LAG", 1)
        patch.setattr(prefetching, "usable_cores", lambda: 2)
        spy = spy_on(patch.setattr)
        found = outcome(logs, "helped", **options)
        assert spy.started
        assert found == alone(logs, patch, **options)


def test_most_is_read_by_the_other_process(logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.filled()
    assert helped(logs, spy) == alone(logs, monkeypatch)
    assert spy.events > EVENTS // 3
    assert len(spy.started) == 1


def test_who_goes_on_from_a_cursor_is_helped_from_there(logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    authors = logs.filled()
    with logs.system() as system:
        cursor = system.cursor()
        for partition, several in authors.items():
            write(system.log, partition, [(author, (1, 2)) for author in several] * 20)
    found = helped(logs, spy, after=cursor)
    assert found == alone(logs, monkeypatch, after=cursor)
    assert sum(map(len, found.events.values())) == 3 * 4 * 2 * 20


def test_few_appends_start_no_process(logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.filled()
    monkeypatch.setattr(prefetching, "LEAST_LAG", EVENTS + 1)
    outcome(logs, "few")
    assert not spy.started


def test_one_processor_starts_no_process(logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.filled()
    monkeypatch.setattr(prefetching, "usable_cores", lambda: 1)
    outcome(logs, "slow")
    assert not spy.started


# -- what may happen to it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("windows", [1, 2, 5])
def test_where_the_other_process_is_killed_nothing_is_lost_and_nothing_comes_twice(
    logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch, windows: int
) -> None:
    logs.filled()
    spy.at[windows] = lambda near: os.kill(near.pid, signal.SIGKILL)
    assert helped(logs, spy) == alone(logs, monkeypatch)
    assert len(spy.started) == 1


def test_where_the_other_process_falls_silent_it_is_given_up(
    logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.filled(events=3 * EVENTS)

    def silence(near: PrefetchClient) -> None:
        monkeypatch.setattr(prefetching, "_PATIENCE", 0.2)  # not before: its start may take longer
        os.kill(near.pid, signal.SIGSTOP)

    spy.at[1] = silence
    assert helped(logs, spy) == alone(logs, monkeypatch)
    assert len(spy.started) == 1


def test_where_its_connections_are_lost_the_build_reads_on(
    logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.filled(events=3 * EVENTS)
    spy.at[1] = lambda near: near._lent.close()
    assert helped(logs, spy) == alone(logs, monkeypatch)


def test_what_nobody_understands_ends_it(logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.filled()
    spy.at[1] = lambda near: os.truncate(near._slots[0], 0) or os.truncate(near._slots[1], 0)  # type: ignore[func-returns-value]
    assert helped(logs, spy) == alone(logs, monkeypatch)


# -- what is wrong with a log ------------------------------------------------------------------------------------------


def damaged(logs: Logs, author: Author, seq: int) -> None:
    with logs.system() as system:
        key = system.log.log_key(author.agent)
        client: Any = system.log._server  # type: ignore[attr-defined]
        item = bytearray(client.execute("read", b"LINDEX", key.encode(), b"%d" % (seq - 1)))
        item[-1] ^= 1
        client.execute("damage", b"LSET", key.encode(), b"%d" % (seq - 1), bytes(item))


@pytest.mark.parametrize("seq", [1, 70, 150])
def test_a_corrupt_event_is_found_at_the_same_place(
    logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch, seq: int
) -> None:
    author = logs.filled(partitions=1)[0][2]
    damaged(logs, author, seq)
    expected = alone(logs, monkeypatch)
    found = outcome(logs, "helped")
    assert spy.started
    assert found.wrong == expected.wrong
    assert found.wrong[:3] == (CorruptEvent, author.agent, seq)
    assert found.events == expected.events
    assert found.position == expected.position


def test_a_feed_that_was_trimmed_is_found_to_be(logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.filled(partitions=1)
    with logs.system() as system:
        assert system.log.trim_feed(0, 5) == 5
    found = outcome(logs, "helped")
    assert spy.started
    assert found.wrong == alone(logs, monkeypatch).wrong
    assert found.wrong[0] is Trimmed


def test_an_agent_that_was_trimmed_is_found_to_be(logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    author = logs.filled(partitions=1)[0][1]
    with logs.system() as system:
        page = system.log.read(author.agent, 100, 1)
        assert page is not None
        system.log.trim(author.agent, Base(100, page.items[0][:16]), b"a state")
    expected, found = alone(logs, monkeypatch), outcome(logs, "helped")
    assert spy.started
    assert found.wrong == expected.wrong
    assert found.wrong[:2] == (Trimmed, author.agent)
    assert found.events == expected.events


def test_a_log_that_diverged_is_found_to_have(logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    author = logs.filled(partitions=1)[0][0]
    with logs.system() as system:
        cursor = Cursor(system.log.identity, {0: Mark(1, 0, author.agent, 10, b"another digest!!")})
    expected, found = alone(logs, monkeypatch, after=cursor), outcome(logs, "helped", after=cursor)
    assert spy.started
    assert found.wrong == expected.wrong
    assert found.wrong[0] is Diverged


def test_an_event_that_is_refused_parks_the_consumer_there_and_can_be_skipped(
    logs: Logs, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = logs.filled(partitions=2)[0][1]
    place = [author.agent, 150]
    with logs.system() as system:
        runner = system.attach(Order(place), "poisoned")
        eventually(lambda: runner.status == "parked", 30)
        assert place not in runner.state
        assert [author.agent, 149] in runner.state
        assert [author.agent, 151] not in runner.state
        assert all(process_ends(near.pid, 0) for near in spy.started)
        runner.skip()
        runner.wait_for()
        seen = [tuple(one) for one in runner.state]
    expected = alone(logs, monkeypatch)
    assert sorted(seen) == sorted(one for part in expected.events.values() for one in part if list(one) != place)


# -- what it is told, and what it takes --------------------------------------------------------------------------------


def test_no_more_windows_are_under_way_than_there_is_room_for(logs: Logs, spy: Spy, closing: list[Any]) -> None:
    logs.filled(partitions=4, events=8_000)
    system = logs.system()
    closing.append(system)
    near = PrefetchClient.start(system.log, None, 4)
    assert near is not None
    closing.append(near)
    for partition in range(4):
        near.read(partition, Mark(), 1 << 30)
    full: list[int] = []
    windows = done = 0
    while done < 4:
        assert near._helper.connection.has_message(30)
        what, _, *slot = near._helper.receive()
        assert what in (WINDOW, DONE)
        done += what == DONE
        if what == WINDOW:
            windows += 1
            assert slot[0] not in full
            full.append(slot[0])
        if len(full) == len(near._slots):
            near._helper.send(FREE, full.pop(0))
    assert windows > len(near._slots)


def test_it_knows_no_address_and_no_password(monkeypatch: pytest.MonkeyPatch, spy: Spy) -> None:
    with valkey_server() as server:
        server.client().config_set("requirepass", "swordfish")
        url = f"unix://:swordfish@{server.socket_path}?db=3"
        monkeypatch.setenv("DURAMEN_URL", url)
        monkeypatch.setenv("ANOTHER_SETTING", "herring")
        logs = Logs(url)
        logs.filled()
        told: list[bytes] = []

        def look(near: PrefetchClient) -> None:
            told.extend(Path(f"/proc/{near.pid}/{name}").read_bytes() for name in ("environ", "cmdline"))

        spy.at[1] = look
        helped(logs, spy)
        assert len(told) == 2
        assert b"herring" in told[0]
        assert not any(secret in text for text in told for secret in (b"swordfish", b"server.sock", b"DURAMEN_URL"))


def test_a_log_with_a_key_and_one_in_memory_start_no_process(valkey_url: str, spy: Spy, closing: list[Any]) -> None:
    keyed = RedisLog(pool_of_url(valkey_url), namespace=f"k{uuid4().hex}", partitions=1, integrity_key=KEY)
    for log in (keyed, MemoryLog(partitions=1)):
        assert log.lend(1) is None
        with AgentSystem.open(log=log) as system:
            agent = system.spawn("acme/alice")
            for number in range(50):
                agent.set("n", number)
            runner = system.attach(Count(), "count")
            runner.wait_for()
            assert runner.state == 51
    assert not spy.started


def test_a_log_lends_to_one_process_at_a_time_and_none_of_few_connections(valkey_url: str) -> None:
    few = RedisLog(pool_of_url(f"{valkey_url}?max_connections=10"), namespace=f"f{uuid4().hex}")
    assert few.lend(1) is None
    many = RedisLog(pool_of_url(valkey_url), namespace=f"f{uuid4().hex}")
    lent = many.lend(1)
    assert lent is not None
    assert many.lend(1) is None
    lent.close()
    again = many.lend(1)
    assert again is not None
    again.close()


def test_nobody_else_is_given_a_connection_that_is_lent(logs: Logs) -> None:
    logs.filled(partitions=1)
    log = RedisLog(pool_of_url(logs.url), namespace=logs.namespace)
    lent = log.lend(2)
    assert lent is not None
    feed = BorrowedFeed(evolve(lent.access, descriptors=[os.dup(one) for one in lent.access.descriptors]))
    loader, other = WindowLoader(feed, 0, level=EVERY_LEVEL), FeedReader(log, CODEC, 0)
    found: list[tuple[str, int]] = []
    mark = Mark()
    while (window := loader.load(mark, ahead=True)) is not None:
        mark = window.end_mark(mark)
        loader.send_all()
        found += zip(window.agents, window.seqs, strict=True)
        other.read(10)  # what was asked for ahead is under way meanwhile
    assert found == [(fact.agent, fact.seq) for fact in all_facts(FeedReader(log, CODEC, 0))]
    lent.close()
    lent.close()
    with pytest.raises(Unavailable):
        feed.feed_page(0, 0, 1)
    assert log.positions() == [EVENTS // 10]


# -- its end -----------------------------------------------------------------------------------------------------------


def test_no_process_is_left_where_the_consumer_is_closed_early(logs: Logs, spy: Spy, gate: threading.Event) -> None:
    logs.filled()
    reached: list[bool] = []
    with logs.system() as system:
        projection = Count(hold=gate, at=1)
        runner = system.attach(projection, "count")
        assert projection.reached.wait(30)
        runner.stop()
        gate.set()
        assert runner.close()
        reached.append(runner.state < EVENTS)
    assert spy.started
    assert all(process_ends(near.pid, 0) for near in spy.started)


def test_no_process_is_left_where_the_code_of_a_projection_hangs(logs: Logs, spy: Spy, gate: threading.Event) -> None:
    logs.filled()
    with logs.system() as system:
        projection = Count(hold=gate, at=1)
        runner = system.attach(projection, "count")
        assert projection.reached.wait(30)
        assert not runner.close(timeout=0.1)
        assert spy.started
        assert all(process_ends(near.pid, 30) for near in spy.started)
        gate.set()


@pytest.mark.parametrize("fork", [False, True])
def test_no_process_is_left_where_the_consumers_is_killed(logs: Logs, fork: bool) -> None:
    logs.filled()
    told = json.dumps({"url": logs.url, "namespace": logs.namespace, "fork": fork})
    tests = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, str(PROCESS), told], stdout=subprocess.PIPE, text=True, env=environment(PYTHONPATH=tests)
    )
    forked = 0
    try:
        assert process.stdout is not None
        helper, forked = map(int, process.stdout.readline().split())
        assert not process_ends(helper, 0)
        process.kill()
        assert process_ends(helper)
        assert not forked or not process_ends(forked, 0)
    finally:
        if forked:
            os.kill(forked, signal.SIGKILL)
        process.kill()
        process.communicate()


def test_who_asks_a_process_that_has_ended_is_told_so(logs: Logs, closing: list[Any]) -> None:
    logs.filled()
    system = logs.system()
    closing.append(system)
    near = PrefetchClient.start(system.log, None, 4)
    assert near is not None
    closing.append(near)
    near.kill()
    with pytest.raises(HelperGone):
        near.next(10)
    with pytest.raises(HelperGone):
        near.read(0, Mark(), 1)
