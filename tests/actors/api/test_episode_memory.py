"""Long-term memory of a system: what has ended can be listed and found at once, and lasts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from duramen.actors import AgentSystem, Outcome
from duramen.events import (
    AskTimeout,
    Cursor,
    DataLoss,
    Diverged,
    EmbeddingFailed,
    EpisodeNotFound,
    Fenced,
    InvalidMessage,
    Limits,
    MemoryLog,
    NotInstalled,
    SystemClosed,
    Trimmed,
    agent_path,
)
from duramen.events.codec import Codec
from duramen.events.feed import FeedReader
from duramen.events.log import LIVE, ConsumerRecord
from duramen.events.log.keys import Keys
from duramen.projections.episodes import ExactVectors, word_index
from duramen.projections.episodes.migration import OLD_VIEW
from hashing import Recorder, hashed

OpenSystem = Callable[..., AgentSystem]


def ended(system: AgentSystem, path: str, text: str, outcome: Outcome = Outcome.SUCCESS, **given: Any) -> str:
    """A session of its own, from spawn to terminate; the id of its episode."""
    agent = system.spawn(path)
    result = agent.terminate(outcome, task_description=text, **given)
    assert result.success
    episode_id: str = result.data["episode_id"]
    return episode_id


def told(system: AgentSystem) -> None:
    ended(system, "acme/alice", "Explained the refund policy")
    ended(system, "acme/bob", "Sent a kettle back", lessons_learned=["a refund takes a week"])
    ended(system, "acme/bob", "Booked a train", Outcome.FAILURE)
    ended(system, "beta/carol", "Asked about a refund", Outcome.PARTIAL)


def found(system: AgentSystem, text: str, **given: Any) -> list[str]:
    return [one.episode.task_description for one in system.episodes.search(text, **given)]


# -- by words ----------------------------------------------------------------------------------------------------------


def test_the_best_fitting_episodes_are_found_with_their_scores(any_system: AgentSystem) -> None:
    told(any_system)
    hits = any_system.episodes.search("refund policy", project="acme", limit=5)
    assert [episode.task_description for episode, _ in hits] == ["Explained the refund policy", "Sent a kettle back"]
    assert hits[0].score > hits[1].score > 0
    assert hits[0].episode == any_system.episodes.get(hits[0].episode.id)


def test_filters_are_applied_before_the_limit(system: AgentSystem) -> None:
    told(system)
    for number in range(20):
        ended(system, "noise/x", f"refund refund refund {number}")
    assert found(system, "refund", limit=1, agent="acme/bob") == ["Sent a kettle back"]
    assert found(system, "refund", limit=1, agent=agent_path("acme/bob")) == ["Sent a kettle back"]
    assert found(system, "refund", limit=1, outcome="partial") == ["Asked about a refund"]
    assert found(system, "refund", limit=1, outcome=Outcome.PARTIAL) == ["Asked about a refund"]
    assert found(system, "refund", project="acme", outcome="failure") == []
    assert found(system, "refund", project="nobody") == []
    future = datetime.now(UTC) + timedelta(days=1)
    assert found(system, "refund", since=future) == []
    assert len(found(system, "refund", since=future - timedelta(days=2), limit=100)) == 23


def test_listing_takes_the_same_filters(system: AgentSystem) -> None:
    told(system)
    descriptions = [one.task_description for one in system.episodes.list(project="acme")]
    assert descriptions == ["Booked a train", "Sent a kettle back", "Explained the refund policy"]
    assert [one.agent for one in system.episodes.list(outcome=Outcome.PARTIAL)] == ["beta/carol"]
    assert len(system.episodes.list(limit=2)) == 2
    assert system.episodes.list(limit=0) == []
    third = system.episodes.list()[2]
    assert len(system.episodes.list(since=third.created_at)) == 3


def test_words_may_be_asked_for_all_at_once_or_by_their_beginnings(system: AgentSystem) -> None:
    told(system)
    assert found(system, "refund kettle", match="all") == ["Sent a kettle back"]
    assert len(found(system, "refund kettle")) == 3
    assert found(system, "kett") == []
    assert found(system, "KETT", prefix=True) == ["Sent a kettle back"]


def test_what_has_ended_is_found_at_once_here_and_in_another_process(open_any: OpenSystem) -> None:
    here, there = open_any(), open_any()
    for number in range(5):
        episode_id = ended(here, f"acme/a{number}", f"number{number}")
        for system in (here, there):
            assert [one.id for one in system.episodes.list(limit=1)] == [episode_id]
            assert found(system, f"number{number}") == [f"number{number}"]


def test_an_episode_leads_back_to_the_events_of_its_session(any_system: AgentSystem) -> None:
    agent = any_system.spawn("acme/a")
    agent.set("x", 1)
    agent.terminate()
    episode_id = ended(any_system, "acme/a", "second")
    events = list(any_system.episodes.events(episode_id))
    assert [event.type for event in events] == ["spawned", "episode_recorded", "terminated"]
    assert events == [event for event in any_system.events("acme/a") if event.seq >= events[0].seq]
    assert events[0].seq == 5


def test_an_episode_that_is_not_there_is_none_and_has_no_events(system: AgentSystem) -> None:
    assert system.episodes.get("nothing") is None
    with pytest.raises(EpisodeNotFound):
        system.episodes.events("nothing")


@pytest.mark.parametrize(
    "given",
    [
        {"text": ""},
        {"text": "  \n"},
        {"text": 7},
        {"text": "\ud800"},
        {"limit": 0},
        {"limit": -1},
        {"limit": True},
        {"limit": 10**9},
        {"outcome": "won"},
        {"since": "yesterday"},
        {"since": datetime(2024, 1, 1)},
        {"by": "magic"},
        {"by": "meaning"},
        {"match": "some"},
        {"timeout": 0},
        {"timeout": "soon"},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
    ],
)
def test_bad_arguments_of_a_search_are_refused(system: AgentSystem, given: dict[str, Any]) -> None:
    told(system)
    with pytest.raises(InvalidMessage):
        system.episodes.search(**{"text": "refund", **given})
    assert system.episodes.search("refund")


def test_a_text_without_a_word_finds_nothing(system: AgentSystem) -> None:
    told(system)
    assert system.episodes.search("!!! …") == []


def test_without_fts5_a_search_by_words_says_so_and_by_meaning_works(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(system)
    monkeypatch.setattr(word_index, "_TABLE", "CREATE VIRTUAL TABLE texts USING no_such_module(words)")
    with pytest.raises(NotInstalled, match="FTS5"):
        system.episodes.search("refund")
    system.episodes.use_embedding(hashed, name="hashed")
    assert found(system, "refund", limit=3)


# -- by meaning --------------------------------------------------------------------------------------------------------


async def hashed_async(texts: list[str]) -> object:
    await asyncio.sleep(0)
    return hashed(texts)


@pytest.mark.parametrize("embed", [hashed, hashed_async])
def test_with_an_embedding_episodes_are_found_by_it(any_system: AgentSystem, embed: Any) -> None:
    told(any_system)
    any_system.episodes.use_embedding(embed, name="hashed")
    hits = any_system.episodes.search("the refund policy", project="acme", limit=5)
    assert hits[0].episode.task_description == "Explained the refund policy"
    assert len(hits) == 3
    assert 1 >= hits[0].score > hits[1].score
    assert found(any_system, "train", by="words") == ["Booked a train"]
    ended(any_system, "acme/dave", "the refund policy")
    assert found(any_system, "the refund policy")[0] == "the refund policy"


def test_filters_hold_for_meaning_too(system: AgentSystem) -> None:
    told(system)
    system.episodes.use_embedding(hashed, name="hashed")
    assert found(system, "refund", agent="beta/carol") == ["Asked about a refund"]
    assert found(system, "refund", outcome="failure") == ["Booked a train"]
    assert found(system, "refund", project="nobody") == []


def test_another_process_does_not_embed_anew(open_any: OpenSystem) -> None:
    first, calls = open_any(), Recorder()
    told(first)
    first.episodes.use_embedding(calls, name="hashed", batch=2)
    before = first.episodes.search("refund")
    assert len(calls.texts) == 5
    assert max(len(call) for call in calls.calls) == 2
    second, again = open_any(), Recorder()
    second.episodes.use_embedding(again, name="hashed")
    assert second.episodes.search("refund") == before
    assert again.texts == ["refund"]
    third, other = open_any(), Recorder()
    third.episodes.use_embedding(other, name="other")  # the control: another model
    third.episodes.search("refund")
    assert len(other.texts) == 5


def test_no_text_of_a_user_stands_in_a_key(open_server: OpenSystem, valkey_url: str) -> None:
    system = open_server()
    told(system)
    system.episodes.use_embedding(hashed, name="my model")
    system.episodes.search("refund")
    server: Any = system.log
    keys = server._server.execute("list keys", b"KEYS", b"duramen:*")
    ours = [key.decode() for key in keys if server._keys.namespace[9:-1] in key.decode()]
    assert any("embeddings" in key for key in ours)
    assert not any("model" in key or "refund" in key for key in ours)
    assert Keys("x").embeddings("my model") in {key.replace(server._keys.namespace, "duramen:{x}") for key in ours}


@pytest.mark.parametrize("bad", [RuntimeError("hunter2"), None])
def test_a_failing_embedding_loses_nothing_and_may_recover(system: AgentSystem, bad: Exception | None) -> None:
    told(system)
    calls = Recorder() if bad else Recorder(lambda _: [[float("nan")]])
    calls.fail = bad
    system.episodes.use_embedding(calls, name="hashed")
    for _ in range(2):
        with pytest.raises(EmbeddingFailed) as caught:
            system.episodes.search("refund")
        assert "hunter2" not in str(caught.value)
    assert len(system.episodes.list()) == 4
    assert len(found(system, "refund", by="words")) == 3
    calls.fail, calls.embed = None, hashed
    assert len(system.episodes.search("refund")) == 4


def test_a_function_that_hangs_ends_in_a_time_out_and_its_work_is_not_lost(
    system: AgentSystem, gate: threading.Event
) -> None:
    told(system)
    calls = Recorder()

    def slow(texts: list[str]) -> object:
        assert gate.wait(30)
        return hashed(texts)

    calls.embed = slow
    system.episodes.use_embedding(calls, name="slow")
    for _ in range(3):
        with pytest.raises(AskTimeout, match="ask again"):
            system.episodes.search("refund", timeout=0.01)
    assert len(system.episodes.list()) == 4
    gate.set()
    assert len(system.episodes.search("refund")) == 4
    assert len(calls.texts) == len(set(calls.texts)) <= 5


def test_a_coroutine_that_hangs_is_given_up(system: AgentSystem) -> None:
    told(system)
    cancelled = threading.Event()

    async def never(texts: list[str]) -> object:
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    system.episodes.use_embedding(never, name="never", timeout=0.05)
    with pytest.raises(EmbeddingFailed, match="TimeoutError"):
        system.episodes.search("refund")
    assert cancelled.wait(10)


def test_the_function_is_called_in_one_thread_at_a_time_and_never_in_a_callers(system: AgentSystem) -> None:
    told(system)
    inside, most, threads = 0, 0, set[str]()

    def embed(texts: list[str]) -> object:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threads.add(threading.current_thread().name)
        inside -= 1
        return hashed(texts)

    system.episodes.use_embedding(embed, name="m", batch=1)
    askers = [threading.Thread(target=system.episodes.search, args=(f"refund {n}",)) for n in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(30)
    assert most == 1
    assert all(name.startswith("duramen-embedding") for name in threads)


def test_another_embedding_takes_the_place_of_the_first(system: AgentSystem) -> None:
    told(system)
    system.episodes.use_embedding(hashed, name="a")
    assert system.episodes.search("refund")
    calls = Recorder(lambda texts: hashed(texts, 16))
    system.episodes.use_embedding(calls, name="b")
    assert len(system.episodes.search("refund")) == 4
    assert len(calls.texts) == 5


def test_a_changed_model_under_the_same_name_is_told_so(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    told(first)
    first.episodes.use_embedding(hashed, name="m")
    first.episodes.search("refund")
    second.episodes.use_embedding(lambda texts: hashed(texts, 16), name="m")
    with pytest.raises(EmbeddingFailed, match="another name"):
        second.episodes.search("refund")


def test_the_index_may_be_the_users_own(system: AgentSystem) -> None:
    told(system)
    made: list[int] = []

    def make(dimensions: int) -> ExactVectors:
        made.append(dimensions)
        return ExactVectors(dimensions)

    system.episodes.use_embedding(hashed, name="m", index=make)
    assert system.episodes.search("refund")
    assert made == [128]


@pytest.mark.parametrize(
    "given",
    [
        {"embed": "hashed"},
        {"name": ""},
        {"name": " "},
        {"name": 7},
        {"name": "a\nb"},
        {"name": "x" * 201},
        {"batch": 0},
        {"batch": 10**6},
        {"batch": 1.5},
        {"timeout": 0},
        {"timeout": "1"},
        {"index": 7},
    ],
)
def test_bad_arguments_of_an_embedding_are_refused(system: AgentSystem, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        system.episodes.use_embedding(**{"embed": hashed, "name": "m", **given})
    system.episodes.use_embedding(hashed, name="m")


def test_a_closed_system_does_not_embed(system: AgentSystem) -> None:
    told(system)
    calls = Recorder()
    system.episodes.use_embedding(calls, name="m")
    system.close()
    with pytest.raises(SystemClosed):
        system.episodes.search("refund")
    assert calls.calls == []


_WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from duramen.actors import AgentSystem
from duramen.events import NotInstalled
with AgentSystem.open("memory://") as system:
    system.spawn("acme/a").terminate(task_description="refund")
    assert len(system.episodes.list()) == 1
    calls = {
        "numpy": lambda: system.episodes.use_embedding(len, name="m"),
        "sqlite3": lambda: system.episodes.search("refund"),
    }
    try:
        calls[sys.argv[1]]()
    except NotInstalled as error:
        print(error)
    if sys.argv[1] == "numpy":
        assert len(system.episodes.search("refund")) == 1
"""


@pytest.mark.slow
@pytest.mark.parametrize(("module", "says"), [("numpy", "duramen[search]"), ("sqlite3", "sqlite3")])
def test_what_is_not_installed_is_named_and_the_rest_works(module: str, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, module], capture_output=True, text=True, timeout=60, check=True
    )
    assert says in done.stdout


# -- what lasts --------------------------------------------------------------------------------------------------------


def test_episodes_outlast_the_events_they_were_made_from(open_any: OpenSystem) -> None:
    first = open_any()
    behind = open_any()
    told(first)
    assert len(behind.episodes.list()) == 4
    ended(first, "acme/alice", "Second refund")
    kept = first.episodes.list()
    for path in ("acme/alice", "acme/bob", "beta/carol"):
        assert first.trim(path, keep_events=0).removed > 0
    fresh = open_any()
    for system in (first, behind, fresh):
        assert system.episodes.list() == kept
        assert len(found(system, "refund")) == 4
    with pytest.raises(Trimmed):
        list(fresh.episodes.events(kept[0].id))
    ended(first, "acme/alice", "Third refund")
    assert [len(system.episodes.list()) for system in (first, behind, fresh, open_any())] == [6] * 4


def test_a_cold_list_reads_no_event_and_no_feed() -> None:
    class WithoutEvents(MemoryLog):
        """A log whose events cannot be read once it is locked."""

        locked = False

        def feed_pages(self, requests: Any) -> Any:
            assert not self.locked, "the feed was read"
            return super().feed_pages(requests)

        def read(self, agent: str, from_seq: int, limit: int, **options: Any) -> Any:
            assert not self.locked, "events were read"
            return super().read(agent, from_seq, limit, **options)

    log = WithoutEvents()
    with AgentSystem.open(log=log) as system:
        told(system)
        log.locked = True
        with AgentSystem.open(log=log) as fresh:
            assert len(fresh.episodes.list()) == 4
            assert fresh.episodes.list() == system.episodes.list()
            assert len(found(fresh, "refund")) == 3
            with pytest.raises(AssertionError):  # the control
                list(fresh.episodes.events(fresh.episodes.list()[0].id))


def test_there_are_as_many_episodes_as_events_that_record_one(open_any: OpenSystem) -> None:
    """Also where two processes take an agent from each other, and appends are refused."""
    systems = [open_any(), open_any()]

    def end(system: AgentSystem) -> None:
        with suppress(Fenced):
            system.agent("acme/alice").terminate(task_description="ended")

    for number in range(6):
        systems[number % 2].spawn("acme/alice")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(end, systems * 2))
        end(systems[0])
    recorded = [event for event in systems[0].events("acme/alice") if event.type == "episode_recorded"]
    listed = open_any().episodes.list()
    assert [one.id for one in reversed(listed)] == [event.data["episode"]["id"] for event in recorded]
    assert len(recorded) == 6


# -- namespaces of older code ------------------------------------------------------------------------------------------


def as_older_code_left_it(system: AgentSystem) -> None:
    """Take away what appends of today keep besides the events."""
    server: Any = system.log
    keys = [server._keys.episodes(partition).encode() for partition in range(server.partitions)]
    server._server.execute("test", b"DEL", *keys)
    server._server.execute("test", b"HDEL", server._keys.namespace.encode(), b"episodes")


def test_a_namespace_of_older_code_lists_its_episodes(open_server: OpenSystem) -> None:
    first = open_server()
    told(first)
    expected = first.episodes.list()
    assert len(expected) == 4
    as_older_code_left_it(first)
    ended(first, "acme/alice", "Written by today's code")
    processes = [open_server() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        listed = list(pool.map(lambda system: system.episodes.list(), processes))
    for episodes in listed:
        assert [one.task_description for one in episodes[:1]] == ["Written by today's code"]
        assert episodes[1:] == expected
    assert open_server().episodes.list() == listed[0]
    assert first.log.archive.has_all_episodes()


def test_episodes_of_older_code_outlast_their_events(open_server: OpenSystem) -> None:
    first = open_server()
    told(first)
    expected = first.episodes.list()
    as_older_code_left_it(first)
    trimming = open_server()
    for path in ("acme/alice", "acme/bob", "beta/carol"):
        assert trimming.trim(path, keep_events=0).removed > 0
    assert open_server().episodes.list() == expected


def test_the_view_of_older_code_is_taken_over_and_holds_no_feed_any_more(open_server: OpenSystem) -> None:
    first = open_server()
    told(first)
    expected = first.episodes.list()
    store, log = first.log.consumer_store(), first.log
    fresh = ConsumerRecord(
        name=OLD_VIEW, slot=LIVE, kind="keyed", version=1, scope="** 1 episode_recorded", cursor=Cursor(log.identity)
    )
    record = store.claim(fresh, "older")
    assert record is not None
    marks = {}
    for partition in range(log.partitions):
        reader = FeedReader(log, Codec(Limits()), partition)
        while reader.read(100):
            pass
        marks[partition] = reader.mark
    entries: dict[str, bytes | None] = {one.id: Codec(Limits()).pack(one.as_data()) for one in expected}
    assert store.save(evolve(record, cursor=Cursor(log.identity, marks)), changes=entries).current
    for path in ("acme/alice", "acme/bob", "beta/carol"):
        assert first.trim(path, keep_events=0).removed > 0
    as_older_code_left_it(first)
    assert open_server().episodes.list() == expected
    assert store.find(OLD_VIEW).live is None and store.records() == []


def test_an_agent_that_is_damaged_keeps_no_other_agents_episodes_from_the_list(open_server: OpenSystem) -> None:
    first = open_server()
    told(first)
    as_older_code_left_it(first)
    server: Any = first.log
    heads = server._keys.heads(server.partition_of("beta/carol")).encode()
    whole = server._server.execute("test", b"HMGET", heads, b"beta/carol")[0]
    item = server._server.execute("test", b"LRANGE", server.log_key("beta/carol").encode(), b"1", b"1")[0]
    server._server.execute("test", b"LSET", server.log_key("beta/carol").encode(), b"1", b"damaged")
    left = {one.agent for one in open_server().episodes.list()}
    assert left == {"acme/alice", "acme/bob"}
    server._server.execute("test", b"LSET", server.log_key("beta/carol").encode(), b"1", item)
    assert whole is not None
    assert {one.agent for one in open_server().episodes.list()} == {*left, "beta/carol"}, "once it can be read again"


def test_a_damaged_item_of_a_list_is_left_out(open_server: OpenSystem) -> None:
    first = open_server()
    told(first)
    server: Any = first.log
    key = server._keys.episodes(server.partition_of("beta/carol")).encode()
    server._server.execute("test", b"LSET", key, b"0", b"damaged")
    assert {one.agent for one in open_server().episodes.list()} < {"acme/alice", "acme/bob", "beta/carol"}


def test_many_processes_may_trim_at_once(open_any: OpenSystem) -> None:
    systems = [open_any() for _ in range(3)]
    for number in range(12):
        ended(systems[0], f"acme/a{number}", f"number{number}")
    with ThreadPoolExecutor(36) as pool:
        trimmed = [
            pool.submit(system.trim, f"acme/a{number}", keep_events=0) for number in range(12) for system in systems
        ]
        assert {one.result(60).base for one in trimmed} == {3}
    for system in (*systems, open_any()):
        assert len(system.episodes.list()) == 12


def test_a_log_that_lost_its_end_is_told_once_and_then_read_anew() -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log) as system:
        told(system)
        assert len(system.episodes.list()) == 4
        log._storage.lists[log.episodes_key("beta/carol")].clear()
        with pytest.raises(DataLoss):
            system.episodes.list()
        left = {one.agent for one in system.episodes.list()}
        assert "beta/carol" not in left
        assert left <= {"acme/alice", "acme/bob"}
        ended(system, "acme/alice", "after")
        lists = log._storage.lists[log.episodes_key("acme/alice")]
        assert system.episodes.list()[0].task_description == "after"
        lists[-1] = lists[0]
        with pytest.raises(Diverged):
            system.episodes.list()
        assert "after" not in {one.task_description for one in system.episodes.list()}


# -- asyncio -----------------------------------------------------------------------------------------------------------


def test_the_twins_for_asyncio_answer_alike_and_do_not_block_the_loop(any_system: AgentSystem) -> None:
    told(any_system)

    async def ask() -> None:
        episodes = any_system.aio.episodes
        loop = asyncio.get_running_loop()
        turned = threading.Event()

        def embed(texts: list[str]) -> object:
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(10), "the loop is blocked"
            return hashed(texts)

        any_system.episodes.use_embedding(embed, name="m")
        hits = await episodes.search("refund", project="acme", limit=5)
        assert hits == any_system.episodes.search("refund", project="acme", limit=5)
        assert await episodes.list(limit=2) == any_system.episodes.list(limit=2)
        one = hits[0].episode
        assert await episodes.get(one.id) == one
        assert [event async for event in episodes.events(one.id)] == list(any_system.episodes.events(one.id))
        with pytest.raises(InvalidMessage):
            await episodes.search("")

    asyncio.run(ask())
