"""Values larger than an event: their texts and bytes stand beside the log, and are read back as they were."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
import redis

from duramen.actors import Agent, AgentHandle, AgentSystem, Append, Extend, Get, Merge, Retention, Set, Settings
from duramen.events import (
    AgentAlreadyRunning,
    AgentNotFound,
    AgentPaused,
    CommandConflict,
    Content,
    CorruptEvent,
    Limits,
    NotPermitted,
    TooLarge,
    Trimmed,
    ValueRefused,
    VersionConflict,
)
from duramen.events.codec import Codec
from duramen.events.model import contents_in
from duramen.projections.recovery import drop_orphans, orphans
from duramen.projections.recovery.agent_log import AgentLog
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"
LIMITS = Limits(event_bytes=4_096, batch_bytes=16_384, content_bytes=200_000, text_bytes=50_000)
BIG, BYTES = "ä€𝄞x" * 9_000, bytes(range(256)) * 100


@pytest.fixture
def system(open_any: OpenSystem) -> AgentSystem:
    return open_any(limits=LIMITS)


def base_of(system: AgentSystem) -> int:
    head = system.log.head(PATH)
    assert head is not None
    return head.base


def kept(system: AgentSystem, path: str = PATH) -> int:
    return len(system.log.contents.list(path))


@pytest.mark.slow
def test_a_value_of_twenty_megabytes_is_read_back_in_all_ways(open_any: OpenSystem) -> None:
    system, big = open_any(), "0123456789" * 2_000_000
    alice = system.spawn(PATH)
    alice.set("doc", {"text": big, "title": "t"})
    assert alice.get("doc/text") == big
    assert alice.get("doc/title") == "t"
    assert open_any().agent(PATH).get() == {"doc": {"text": big, "title": "t"}}
    assert system.peek(PATH).memory["doc"]["text"].size == 20_000_000
    assert system.verify().ok


def test_each_call_takes_and_gives_large_values(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    alice.set("a", BIG)
    alice.append("l", BIG)
    alice.extend("l", [BYTES, "small"])
    alice.merge("m", {"deep": {"text": BIG}, "n": 1})
    alice.record("tool_output", {"tool": "search", "result": BIG})
    with alice.batch() as batch:
        batch.set("b", BYTES)
        batch.set("c", 1)
    expected = {"a": BIG, "l": [BIG, BYTES, "small"], "m": {"deep": {"text": BIG}, "n": 1}, "b": BYTES, "c": 1}
    assert alice.get() == expected
    assert alice.get_many(["a", "l/1", "c"]) == [BIG, BYTES, 1]
    assert alice.get_many(["l/0", "x"], None) == [BIG, None]
    assert alice.slice("l", -2) == [BYTES, "small"]
    assert alice.ask(Get("m/deep"), block=False).get() == {"text": BIG}
    assert alice.pop("l", 0) == BIG
    assert alice.get("l") == [BYTES, "small"]
    recorded = [event for event in system.events(PATH) if event.type == "activity_recorded"]
    (content,) = contents_in(recorded[0].data)
    assert system.load_content(PATH, content) == BIG
    assert kept(system) == 2, "each once"


def test_asyncio_takes_and_gives_large_values(system: AgentSystem) -> None:
    async def use() -> None:
        alice = await system.aio.spawn(PATH)
        await alice.set("a", BIG)
        async with alice.batch() as batch:
            batch.append("l", BYTES)
            batch.append("l", BIG)
        assert await alice.get("a") == BIG
        assert await alice.slice("l") == [BYTES, BIG]
        assert await alice.pop("l") == BIG
        content = system.peek(PATH).memory["a"]
        assert await system.aio.load_content(PATH, content) == BIG

    asyncio.run(use())


def test_a_repeated_command_is_the_first_one(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    receipt = alice.set("a", BIG, command_id="set")
    assert alice.set("a", BIG, command_id="set") == receipt
    with pytest.raises(CommandConflict):
        alice.set("a", BIG + "!", command_id="set")
    alice.append("l", BIG)
    assert [alice.pop("l", command_id="pop") for _ in range(2)] == [BIG, BIG]
    assert alice.length("l") == 0


def test_other_hosts_take_and_give_large_values(open_server: OpenSystem) -> None:
    host, other = open_server(limits=LIMITS), open_server(limits=LIMITS)
    alice, remote = host.spawn(PATH), other.agent(PATH)
    remote.set("a", {"text": BIG})
    remote.append("l", BYTES)
    assert alice.get() == remote.get() == {"a": {"text": BIG}, "l": [BYTES]}
    assert remote.pop("l") == BYTES


def test_sessions_with_large_values_are_paused_resumed_and_looked_back_at(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    alice.set("a", BIG)
    alice.pause(checkpoint_id="before")
    alice.resume("before")
    alice.set("a", BIG[::-1])
    alice.resume("before", clear_current=True)
    assert alice.get("a") == BIG
    past = system.state_at(PATH, seq=2).memory["a"]
    assert isinstance(past, Content)
    assert (past.size, past.is_text) == (len(BIG.encode()), True)
    assert str(past) == f"<text of {len(BIG.encode()):,} bytes>"
    assert list(system.diff(PATH, 1, 2).added) == ["a"]
    assert [event.seq for event, *_ in system.history(PATH, "a")] == [2, 5, 6]


def test_a_fork_has_contents_of_its_own(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    alice.set("a", BIG)
    alice.set("later", BYTES)
    fork = system.fork(PATH, at=2, to="acme/fork")
    assert kept(system, "acme/fork") == 1
    system.erase(PATH)
    assert fork.get() == {"a": BIG}
    assert system.verify().ok


def test_a_session_file_has_the_contents(system: AgentSystem, open_any: OpenSystem) -> None:
    alice = system.spawn(PATH)
    alice.set("a", BIG)
    alice.set("b", BYTES)
    alice.pause(checkpoint_id="c", ttl=None)
    alice.resume("c")
    assert system.trim(PATH, keep_events=1).removed == 3
    file = BytesIO()
    system.export_session(PATH, file)
    for to in ("acme/copy", PATH):
        if to == PATH:
            system.erase(PATH)
        file.seek(0)
        system.import_session(file, to=to)
        assert system.agent(to).get() == {"a": BIG, "b": BYTES}
        assert kept(system, to) == 2
    assert system.verify().ok


def test_an_export_of_missing_content_is_refused(system: AgentSystem) -> None:
    system.spawn(PATH).set("a", BIG)
    log = system.log
    digests = [each.digest for each in log.contents.list(PATH)]
    log.contents.drop(PATH, digests, 0)
    with pytest.raises(CorruptEvent):
        system.export_session(PATH, BytesIO())
    with pytest.raises(CorruptEvent):
        system.fork(PATH, to="acme/fork")
    with pytest.raises(CorruptEvent):
        system.agent(PATH).get("a")
    (problem,) = system.verify(PATH).problems
    assert (problem.kind, problem.seq) == ("content", 2)
    assert "missing" in str(problem)


def test_verify_finds_damaged_content(open_server: OpenSystem) -> None:
    system = open_server(limits=LIMITS)
    system.spawn(PATH).set("a", BIG)
    assert system.verify(PATH).ok, "control"
    log: Any = system.log
    (listed,) = log.contents.list(PATH)
    key = log._keys.chunks(log.partition_of(PATH), PATH, listed.digest).encode()
    log._server.execute("damage", b"LSET", key, b"0", BIG.encode()[:-1] + b"!")
    (problem,) = system.verify(PATH).problems
    assert (problem.kind, problem.seq) == ("content", 2)
    assert "damaged" in str(problem)
    with pytest.raises(CorruptEvent):
        system.agent(PATH).get("a")


def test_erasing_removes_the_contents(system: AgentSystem) -> None:
    system.spawn(PATH).set("a", BIG)
    system.spawn("acme/bob").set("a", BIG)
    system.erase(PATH)
    assert (kept(system), kept(system, "acme/bob")) == (0, 1)
    with pytest.raises(AgentNotFound):
        system.agent(PATH).set("a", BIG)
    assert kept(system) == 0


def test_trimming_removes_what_nothing_refers_to_once_it_is_a_day_old(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    for text in (BIG, BIG[::-1], BIG[1:]):
        alice.set("a", text)
    alice.append("b", BYTES)
    alice.pop("b")
    agent_log = AgentLog(system.log, PATH, LIMITS)
    assert drop_orphans(agent_log, 0) == 0, "control: the events refer to them"
    assert system.trim(PATH).removed == 0
    system.trim(PATH, keep_events=0)
    assert kept(system) == 4, "control: they are young"
    assert drop_orphans(agent_log) == 0
    assert drop_orphans(agent_log, 0) == 3
    assert alice.get() == {"a": BIG[1:], "b": []}
    assert system.verify().ok


def test_a_trim_is_done_though_somebody_trims_further_meanwhile(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alice = system.spawn(PATH)
    alice.set("b", 1)
    alice.set("a", BIG)
    load, looked = orphans.load_base, list[int]()

    def load_old(agent_log: AgentLog) -> Any:
        monkeypatch.undo()
        base = load(agent_log)
        looked.append(system.trim(PATH, keep_events=0).base)
        return base

    monkeypatch.setattr(drop_orphans, "__defaults__", (0,))
    monkeypatch.setattr(orphans, "load_base", load_old)
    assert system.trim(PATH, keep_events=1).base == 2
    assert looked == [3]
    assert "contents_not_removed" in caplog.text
    with pytest.raises(Trimmed):
        system.log.feed_page(system.log.partition_of(PATH), 0, 1)
    assert alice.get() == {"a": BIG, "b": 1}


def test_a_user_who_may_not_ask_for_the_time_can_trim(valkey_url: str, caplog: pytest.LogCaptureFixture) -> None:
    namespace, user = f"t{uuid4().hex}", uuid4().hex
    with redis.Redis.from_url(valkey_url) as client:
        client.execute_command("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all", "-time")
        try:
            limited = valkey_url.replace("unix://", f"unix://{user}:secret@")
            with AgentSystem.open(limited, namespace=namespace, limits=LIMITS) as system:
                with pytest.raises(NotPermitted):
                    system.spawn(PATH).set("a", BIG)
                with AgentSystem.open(valkey_url, namespace=namespace, limits=LIMITS) as other:
                    other.agent(PATH).set("a", BIG)
                assert system.trim(PATH, keep_events=0).removed == 2
                with pytest.raises(Trimmed):
                    system.log.feed_page(system.log.partition_of(PATH), 0, 1)
            assert "contents_not_removed" in caplog.text
        finally:
            client.execute_command("ACL", "DELUSER", user)


def test_automatic_trims_seldom_look_for_orphans(open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    system = open_system(limits=LIMITS, settings=Settings(snapshot_every=10, retention=Retention(events=1)))
    alice, looks = system.spawn(PATH), list[int]()
    contents: Any = system.log.contents
    list_them = contents.list

    def count(agent: str) -> Any:
        looks.append(base_of(system))
        return list_them(agent)

    def count_up(alice: AgentHandle) -> None:
        before = base_of(system)
        for number in range(20):
            alice.set("n", number)
        eventually(lambda: base_of(system) > before, what="trimmed")

    monkeypatch.setattr(contents, "list", count)
    for _ in range(3):
        count_up(alice)
    system.close()
    assert len(looks) == 1


def test_only_events_that_may_refer_to_contents_are_decoded(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = system.spawn(PATH)
    alice.set("a", BIG)
    alice.set("b", BYTES)
    for number in range(20):
        alice.set("n", number)
    agent_log, decoded = AgentLog(system.log, PATH, LIMITS), list[bytes]()
    decode = agent_log.codec.decode

    def count(body: bytes) -> Any:
        decoded.append(body)
        return decode(body)

    monkeypatch.setattr(Codec, "decode", lambda _, body: count(body))
    assert drop_orphans(agent_log, 0) == 0
    assert len(decoded) == 2


NEARLY = "x" * (LIMITS.event_bytes - 300)
LONG = {"trace": "t" * 1_500}


@pytest.mark.parametrize("size", range(len(NEARLY) - 200, len(NEARLY) + 300, 100))
@pytest.mark.parametrize("metadata", [None, {"user": "kim"}, LONG])
def test_values_that_nearly_fill_an_event_are_taken_with_all_that_stands_beside_them(
    system: AgentSystem, size: int, metadata: dict[str, Any] | None
) -> None:
    text, path = "x" * size, "k" * 200
    alice = system.spawn(PATH)
    alice.set("a", text, metadata=metadata)
    alice.set(path, text, metadata=metadata, command_id="i" * 200)
    alice.record("tool_output", {"result": text}, metadata=metadata)
    with alice.batch(metadata=metadata) as batch:
        batch.set("b", text)
        batch.set("c", BIG)
    assert alice.get() == {"a": text, path: text, "b": text, "c": BIG}


@pytest.mark.parametrize("count", [4, 5, 6])
def test_a_batch_that_is_too_large_as_a_whole_is_taken(system: AgentSystem, count: int) -> None:
    alice, text = system.spawn(PATH), "x" * (LIMITS.batch_bytes // 4 - 700)
    with alice.batch(metadata={"trace": "t" * 500}) as batch:
        for number in range(count):
            batch.set(f"a/{number}", text)
    assert alice.get("a") == {str(number): text for number in range(count)}


def test_what_is_too_large_all_the_same_is_refused(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    with pytest.raises(TooLarge) as refused:
        alice.set("a", [BIG] * 5)
    assert refused.value.expected == LIMITS.content_bytes
    with pytest.raises(TooLarge):
        alice.set("a", list(range(5_000)))
    with pytest.raises(TooLarge):
        alice.ask(Set("a", list(range(5_000))), block=False).get(timeout=10)
    with pytest.raises(TooLarge):
        alice.set("k" * 5_000, BIG)
    assert alice.get() == {}
    assert kept(system) == 0


def test_large_values_that_nobody_waits_for_are_taken_in_their_order(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    sent = [alice.ask(Append("l", text), block=False) for text in ("first", BIG, "third", BYTES)]
    for text in ("fifth", BIG, "last"):
        alice.tell(Append("l", text))
    assert alice.get("l") == ["first", BIG, "third", BYTES, "fifth", BIG, "last"]
    assert [reply.get(timeout=10).seq for reply in sent] == [2, 3, 4, 5]
    assert kept(system) == 2


def test_what_is_told_and_too_large_all_the_same_is_only_logged(
    system: AgentSystem, caplog: pytest.LogCaptureFixture
) -> None:
    alice = system.spawn(PATH)
    alice.tell(Set("a", list(range(5_000))))
    assert alice.get() == {}
    assert "TooLarge" in caplog.text


def test_what_is_refused_for_another_reason_is_refused_for_that(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    deep: list[Any] = []
    deep.append(deep)
    for refused in (lambda: alice.set("a", 1, metadata={"deep": deep}), lambda: alice.pause(metadata={"deep": deep})):
        with pytest.raises(TooLarge, match="deep"):
            refused()
    with pytest.raises(ValueRefused):
        alice.set("a", BIG + "\ud800")
    with pytest.raises(ValueRefused):
        alice.set("a", [object(), BIG])
    with pytest.raises(VersionConflict):
        alice.set("a", BIG, expected_seq=7)
    alice.pause()
    with pytest.raises(AgentPaused):
        alice.set("a", BIG)
    assert kept(system) == 0


def test_a_reference_is_no_value(system: AgentSystem) -> None:
    alice = system.spawn(PATH)
    alice.set("a", BIG)
    reference = system.peek(PATH).memory["a"]
    bob = system.spawn("acme/bob")
    for message in (
        Set("b", reference),
        Append("b", [reference]),
        Extend("b", [reference]),
        Merge("", {"b": reference}),
    ):
        for agent in (alice, bob):
            with pytest.raises(ValueRefused, match="load_content"):
                agent.ask(message)
    with pytest.raises(CorruptEvent):
        system.load_content("acme/bob", reference)
    with pytest.raises(ValueError, match="Content"):
        system.load_content(PATH, BIG)


FIRST = {"doc": {"text": BIG, "n": 1}, "bytes": [BYTES], "small": "x"}


def test_agents_begin_with_large_values(open_any: OpenSystem) -> None:
    system = open_any(limits=LIMITS)
    alice = system.spawn(PATH, initial_state=FIRST, command_id="first")
    assert system.spawn(PATH, initial_state=FIRST, command_id="first").path == alice.path
    assert alice.get() == FIRST
    assert kept(system) == 2
    assert drop_orphans(AgentLog(system.log, PATH, LIMITS), 0) == 0
    child = alice.spawn_child("child", initial_state=FIRST)
    assert child.get("doc/text") == BIG
    alice.terminate()
    system.spawn(PATH, initial_state={"again": BIG})
    assert open_any(limits=LIMITS).agent(PATH).get() == {"again": BIG}
    assert system.verify().ok
    system.erase(PATH)
    assert kept(system) == kept(system, child.path.text) == 0


def test_a_client_begins_agents_with_large_values(open_server: OpenSystem) -> None:
    host, client = open_server(limits=LIMITS), open_server(limits=LIMITS, host=False)
    alice = client.spawn(PATH, initial_state=FIRST)
    assert alice.get() == FIRST
    alice.set("more", BIG[::-1])
    assert host.agent(PATH).get() == {**FIRST, "more": BIG[::-1]}
    log: Any = host.log
    key = log._keys.contents(log.partition_of(PATH), PATH).encode()
    assert int(log._server.execute("look", b"TTL", key)) > 31_536_000, "what was staged by the client stays"
    assert host.verify(PATH).ok


def test_a_handler_begins_children_with_large_values(system: AgentSystem) -> None:
    class Parent(Agent):
        def on_receive(self, message: Any) -> Any:
            self.spawn_child("child", initial_state=FIRST)

    system.register("parent", Parent)
    system.spawn(PATH, agent_type="parent").ask("begin")
    assert system.agent(f"{PATH}/child").get() == FIRST


def test_asyncio_begins_agents_with_large_values(system: AgentSystem) -> None:
    alice = asyncio.run(system.aio.spawn(PATH, initial_state=FIRST))
    assert system.agent(alice.path.text).get() == FIRST


def test_the_first_state_of_an_agent_stays_and_one_that_was_refused_goes(open_server: OpenSystem) -> None:
    system = open_server(limits=LIMITS)
    system.spawn(PATH, initial_state=FIRST)
    log: Any = system.log
    partition = log.partition_of(PATH)
    keys = [log._keys.contents(partition, PATH)]
    keys += [log._keys.chunks(partition, PATH, each.digest) for each in log.contents.list(PATH)]
    assert len(keys) == 3

    def seconds_left(key: str) -> int:
        return int(log._server.execute("look", b"TTL", key.encode()))

    assert all(seconds_left(key) > 31_536_000 or seconds_left(key) == -1 for key in keys)
    with pytest.raises(AgentAlreadyRunning):
        system.spawn(PATH, initial_state={"doc": BIG[::-1]})
    assert kept(system) == 2, "nothing is stored for a spawn that is refused"
    log.contents.write("acme/nobody", b"d" * 32, BYTES, staged=True)
    assert 0 < seconds_left(log._keys.contents(log.partition_of("acme/nobody"), "acme/nobody")) <= 86_400, "control"


def test_a_first_state_that_is_gone_before_the_append_is_stored_once_more(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents: Any = system.log.contents
    write, erased = contents.write, list[str]()

    def write_and_lose(agent: str, digest: bytes, data: bytes, *, staged: bool = False) -> None:
        write(agent, digest, data, staged=staged)
        if not erased:
            erased.append(agent)
            assert contents.drop(agent, [digest], 0) == 1

    monkeypatch.setattr(contents, "write", write_and_lose)
    alice = system.spawn(PATH, initial_state={"doc": BIG})
    assert erased == [PATH]
    assert alice.get() == {"doc": BIG}
    assert system.verify(PATH).ok
