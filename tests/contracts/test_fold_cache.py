"""States kept for the next read: brought up to date by one exchange, and compared with what was known before."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from attrs import evolve

from contracts.authors import head_of
from contracts.places import Place
from duramen.actors import AgentHandle, AgentSystem, Retention, Settings
from duramen.events import AgentNotFound, CorruptEvent, DataLoss, Diverged, DuramenError, Limits
from duramen.events.log.event_log import EventLog
from duramen.events.memory.log import MemoryLog
from duramen.projections import AgentState
from duramen.projections.recovery import AgentLog, FoldCache, rebuild
from takeover import give_up

PATH = "acme/alice"


class Asked:
    """A log that notes the questions it is asked, in order."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.questions: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._log, name)
        if not callable(found) or name.endswith("_key"):
            return found

        def ask(*arguments: Any, **options: Any) -> Any:
            self.questions.append(name)
            return found(*arguments, **options)

        return ask

    def count(self, action: Callable[[], object]) -> list[str]:
        """The questions that an action asks."""
        self.questions.clear()
        action()
        return list(self.questions)


@pytest.fixture
def asked(log: EventLog) -> Asked:
    return Asked(log)


@pytest.fixture
def cache(asked: Any) -> FoldCache:
    return FoldCache(asked, Limits())


@pytest.fixture
def writer(log: EventLog) -> Iterator[AgentSystem]:
    with AgentSystem.open(log=log, settings=Settings(snapshot_every=50)) as system:
        yield system


@pytest.fixture
def alice(writer: AgentSystem) -> AgentHandle:
    return writer.spawn(PATH, initial_state={"list": []})


def seq_and_memory(cache: FoldCache, agent: str = PATH) -> tuple[int, Any]:
    return cache.read(agent, lambda state, codec: (state.seq, codec.copy(state.memory)))


def dumped(state: AgentState) -> dict[str, Any]:
    return {**state.dump(), "commands": None}


def put_back(place: Place, log: EventLog, seq: int) -> None:
    """Make the server one that has lost the events after `seq`."""
    items, head = place.items(log, PATH)[:seq], head_of(log, PATH)
    place.keep(log, PATH, items)
    place.write_head(log, PATH, evolve(head, seq=seq, digest=items[-1][:16]))


# -- up to date --------------------------------------------------------------------------------------------------------


def test_every_read_shows_all_that_was_acknowledged_before(cache: FoldCache, alice: AgentHandle) -> None:
    for number in range(60):
        receipt = alice.append("list", number)
        assert seq_and_memory(cache) == (receipt.seq, {"list": list(range(number + 1))})
        assert seq_and_memory(cache) == (receipt.seq, {"list": list(range(number + 1))})


def test_the_state_is_that_of_a_rebuild(log: EventLog, cache: FoldCache, alice: AgentHandle) -> None:
    for action in (
        lambda: alice.set("plan", {"steps": [1, 2]}, command_id="c-1"),
        lambda: alice.pause("lunch"),
        lambda: alice.resume("lunch"),
        lambda: alice.merge("plan", {"steps": None, "title": "t"}),
        lambda: alice.terminate().raise_for_failure(),
    ):
        action()
        expected = rebuild(AgentLog(log, PATH, Limits())).state
        assert cache.read(PATH, lambda state, _: dumped(state)) == dumped(expected)


@pytest.mark.slow
@pytest.mark.parametrize("new", [0, 1, 10])
def test_a_kept_state_costs_one_exchange(asked: Asked, cache: FoldCache, alice: AgentHandle, new: int) -> None:
    seq_and_memory(cache)
    for number in range(new):
        alice.append("list", number)
    assert asked.count(lambda: seq_and_memory(cache)) == ["read"]


def test_what_is_far_behind_is_rebuilt_from_the_snapshot(asked: Asked, cache: FoldCache, alice: AgentHandle) -> None:
    seq_and_memory(cache)
    for _ in range(30):
        with alice.batch() as batch:
            for number in range(50):
                batch.set("n", number)
    assert "load" in asked.count(lambda: seq_and_memory(cache))
    assert seq_and_memory(cache) == (1_501, {"list": [], "n": 49})


def test_an_agent_that_is_trimmed_further_than_the_state_is_rebuilt(
    writer: AgentSystem, cache: FoldCache, alice: AgentHandle
) -> None:
    seq_and_memory(cache)
    alice.set_retention(Retention(events=3))
    for number in range(120):
        alice.append("list", number)
    writer.trim(PATH)
    base = head_of(writer.log, PATH).base
    assert base > 1
    assert seq_and_memory(cache) == (122, {"list": list(range(120))})


def test_a_read_claims_nothing_and_writes_nothing(log: EventLog, cache: FoldCache, alice: AgentHandle) -> None:
    before = head_of(log, PATH)
    seq_and_memory(cache)
    seq_and_memory(cache)
    assert head_of(log, PATH) == before


def test_an_agent_that_never_was_is_not_found_and_is_found_once_it_is(writer: AgentSystem, cache: FoldCache) -> None:
    for _ in range(2):
        with pytest.raises(AgentNotFound, match="spawn it first"):
            seq_and_memory(cache)
    writer.spawn(PATH, initial_state={"n": 1})
    assert seq_and_memory(cache) == (1, {"n": 1})


def test_what_a_look_raises_leaves_the_state_in_the_cache(asked: Asked, cache: FoldCache, alice: AgentHandle) -> None:
    seq_and_memory(cache)

    def refuse(state: AgentState, _: object) -> None:
        raise KeyError(state.seq)

    with pytest.raises(KeyError, match="1"):
        cache.read(PATH, refuse)
    assert asked.count(lambda: seq_and_memory(cache)) == ["read"]


@pytest.mark.slow
def test_many_threads_read_one_agent_while_it_is_written(cache: FoldCache, alice: AgentHandle) -> None:
    done = Event()

    def follow(_: int) -> list[int]:
        seen: list[int] = []
        while not done.is_set():
            seq, memory = seq_and_memory(cache)
            assert memory["list"] == list(range(seq - 1))
            seen.append(seq)
        return seen

    with ThreadPoolExecutor(4) as pool:
        following = [pool.submit(follow, number) for number in range(4)]
        try:
            for number in range(200):
                alice.append("list", number)
        finally:
            done.set()
        for one in following:
            assert one.result() == sorted(one.result())
    assert seq_and_memory(cache)[0] == 201


# -- loss --------------------------------------------------------------------------------------------------------------


def test_a_log_that_lost_the_last_known_event_is_told_once(
    place: Place, log: EventLog, cache: FoldCache, alice: AgentHandle
) -> None:
    for number in range(5):
        alice.append("list", number)
    seq_and_memory(cache)
    put_back(place, log, 3)
    with pytest.raises(DataLoss) as caught:
        seq_and_memory(cache)
    assert (caught.value.agent, caught.value.seq, caught.value.expected, caught.value.actual) == (PATH, 6, 6, 3)
    assert seq_and_memory(cache) == (3, {"list": [0, 1]})


def test_an_agent_whose_log_is_gone_is_a_loss_first_and_then_not_found(
    place: Place, log: EventLog, cache: FoldCache, alice: AgentHandle
) -> None:
    seq_and_memory(cache)
    place.keep(log, PATH, [])
    place.write_head(log, PATH, None)
    with pytest.raises(DataLoss):
        seq_and_memory(cache)
    with pytest.raises(AgentNotFound):
        seq_and_memory(cache)


@pytest.mark.parametrize("more", [0, 1, 1_200])
def test_a_log_with_another_event_in_the_place_of_the_known_one_has_diverged(
    place: Place,
    log: EventLog,
    cache: FoldCache,
    alice: AgentHandle,
    more: int,
    writer: AgentSystem,
) -> None:
    for number in range(5):
        alice.append("list", number)
    seq_and_memory(cache)
    put_back(place, log, 3)
    give_up(writer, PATH)
    with AgentSystem.open(log=log) as other:
        for number in range(3 + more):
            other.agent(PATH).set("other", number)
    with pytest.raises(Diverged) as caught:
        seq_and_memory(cache)
    assert (caught.value.agent, caught.value.seq) == (PATH, 6)
    assert seq_and_memory(cache) == (6 + more, {"list": [0, 1], "other": 2 + more})


@pytest.mark.parametrize(("others", "error"), [(0, DataLoss), (3, Diverged), (5, Diverged)])
def test_a_noted_event_is_compared_though_no_state_was_kept(
    place: Place,
    log: EventLog,
    cache: FoldCache,
    alice: AgentHandle,
    others: int,
    error: type[DuramenError],
    writer: AgentSystem,
) -> None:
    for number in range(5):
        receipt = alice.append("list", number)
    cache.note(PATH, receipt.seq, receipt.digest)
    put_back(place, log, 3)
    give_up(writer, PATH)
    with AgentSystem.open(log=log) as other:
        for number in range(others):
            other.agent(PATH).set("other", number)
    with pytest.raises(error):
        seq_and_memory(cache)
    assert seq_and_memory(cache)[0] == 3 + others


def test_a_noted_event_that_the_log_still_has_is_no_loss(asked: Asked, cache: FoldCache, alice: AgentHandle) -> None:
    seq_and_memory(cache)
    for number in range(5):
        receipt = alice.append("list", number)
    cache.note(PATH, receipt.seq, receipt.digest)
    alice.append("list", 5)
    assert seq_and_memory(cache) == (7, {"list": [0, 1, 2, 3, 4, 5]})
    assert asked.count(lambda: seq_and_memory(cache)) == ["read"]
    assert cache.position(PATH) == (7, cache.read(PATH, lambda state, _: state.digest))


def test_an_older_note_does_not_hide_what_is_known(cache: FoldCache, alice: AgentHandle) -> None:
    alice.set("n", 1)
    seq_and_memory(cache)
    known = cache.position(PATH)
    cache.note(PATH, 1, b"\0" * 16)
    assert cache.position(PATH) == known


def test_the_last_known_event_outlives_the_state(place: Place, log: EventLog, asked: Any, alice: AgentHandle) -> None:
    cache = FoldCache(asked, Limits(), most_bytes=1)
    alice.set("n", 1)
    seq_and_memory(cache)
    assert PATH not in cache
    put_back(place, log, 1)
    with pytest.raises(DataLoss):
        seq_and_memory(cache)


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_damaged_event_is_corrupt_until_it_is_mended(
    place: Place, log: EventLog, cache: FoldCache, alice: AgentHandle, is_kept: bool
) -> None:
    if is_kept:
        seq_and_memory(cache)
    for number in range(3):
        alice.append("list", number)
    items = place.items(log, PATH)
    place.keep(log, PATH, [*items[:2], items[2][:-1] + bytes([items[2][-1] ^ 1]), items[3]])
    for _ in range(2):
        with pytest.raises(CorruptEvent) as caught:
            seq_and_memory(cache)
        assert caught.value.seq == 3
    place.keep(log, PATH, items)
    assert seq_and_memory(cache) == (4, {"list": [0, 1, 2]})


def test_a_list_that_lost_events_is_corrupt(place: Place, log: EventLog, cache: FoldCache, alice: AgentHandle) -> None:
    alice.set("n", 1)
    seq_and_memory(cache)
    place.keep(log, PATH, place.items(log, PATH)[:1])
    with pytest.raises(CorruptEvent):
        seq_and_memory(cache)


# -- room --------------------------------------------------------------------------------------------------------------


def test_the_states_read_longest_ago_leave(writer: AgentSystem, asked: Any) -> None:
    paths = [f"acme/a{number}" for number in range(10)]
    for path in paths:
        writer.spawn(path, initial_state={"text": "x" * 100_000})
    cache = FoldCache(asked, Limits(), most_bytes=550_000)
    for path in paths:
        seq_and_memory(cache, path)
    seq_and_memory(cache, paths[5])
    assert [path in cache for path in paths] == [False] * 5 + [True] * 5
    seq_and_memory(cache, paths[0])
    assert [path in cache for path in paths] == [True] + [False] * 4 + [True] + [False] + [True] * 3
    assert cache.size <= 550_000


def test_a_state_that_grows_is_counted(writer: AgentSystem, cache: FoldCache, alice: AgentHandle) -> None:
    seq_and_memory(cache)
    before = cache.size
    alice.set("text", "x" * 100_000)
    seq_and_memory(cache)
    assert cache.size >= before + 100_000
    for _ in range(10):
        alice.set("text", "y" * 100_000)
        seq_and_memory(cache)
    assert cache.size < before + 400_000
    cache.forget(PATH)
    assert cache.size == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        "x" * 200_000,
        list(range(1_000, 9_000)),
        [{"id": str(number), "done": False, "weight": number / 7} for number in range(1_500)],
        {f"key {number}": f"value {number}" for number in range(4_000)},
        [[] for _ in range(5_000)],
    ],
    ids=["a text", "numbers", "rows", "texts", "empty lists"],
)
def test_the_estimate_is_near_the_memory_that_is_taken(value: Any) -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log) as system:
        for number in range(10):
            system.spawn(f"acme/a{number}", initial_state={"value": value})
        cache = FoldCache(log, Limits())
        seq_and_memory(cache, "acme/a0")
        tracemalloc.start()
        try:
            before, counted = tracemalloc.get_traced_memory()[0], cache.size
            for number in range(1, 10):
                cache.read(f"acme/a{number}", lambda state, _: state.seq)
            taken, estimated = tracemalloc.get_traced_memory()[0] - before, cache.size - counted
        finally:
            tracemalloc.stop()
    assert taken / 2 < estimated < 2 * taken
