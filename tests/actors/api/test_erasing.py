"""Erasing an agent: no byte of what it held is left, and who follows agents goes on without it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from duramen.actors import AgentSystem, Record
from duramen.events import AgentNotFound, Erased, Granularity, InvalidPath, Limits, Unavailable
from duramen.events.log import BegunErasure
from duramen.projections import KeyedProjection
from duramen.projections.episodes import hash_of_text
from duramen.projections.sessions import finish_erasures
from servers import valkey_server
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"
SECRETS = [f"planted-{number:04}" for number in range(200)]


class Texts(KeyedProjection[list[Any]]):
    version = 1

    def key(self, event: Any) -> str:
        return str(event.agent)

    def apply(self, entry: list[Any] | None, event: Any) -> list[Any]:
        return [*(entry or []), repr(event.data)]


def plant(system: AgentSystem, path: str = PATH, *, trim: bool = True) -> None:
    """Put secrets wherever an agent keeps something."""
    secrets = iter(SECRETS)
    agent = system.spawn(path, initial_state={next(secrets): next(secrets)}, metadata={"a": next(secrets)})
    for number in range(40):
        agent.set(f"k{number}", next(secrets), metadata={"by": next(secrets)})
    agent.append("l", next(secrets), command_id=next(secrets))
    agent.ask(Record("note", next(secrets), Granularity.ACTIVITY))
    agent.pause(next(secrets), ttl=None, metadata={"m": next(secrets)}, reason=next(secrets))
    agent.resume()
    child = agent.spawn_child("child", initial_state={"c": next(secrets)})
    child.set("d", next(secrets))
    system.keep_keyframes(path)
    if trim:
        system.trim(path, keep_events=10)
    agent.terminate(task_description=next(secrets), lessons_learned=[next(secrets)], outcome_details=next(secrets))
    system.spawn(path, session_id=next(secrets), initial_state={"again": next(secrets)}).set("z", next(secrets))


@pytest.mark.slow
def test_no_byte_of_it_is_left_on_the_server(valkey_url: str, open_server: OpenSystem) -> None:
    system = open_server()
    plant(system)
    other = system.spawn("acme/bob", initial_state={"n": 1})
    system.spawn("acme/bob/kid", parent="acme/bob")
    fork = system.fork(PATH, to="other/fork")
    file = BytesIO()
    system.export_session("acme/bob", file)

    def found(secrets: list[str]) -> set[bytes]:
        client = server_of(system)
        keys = list(client.scan_iter(match=f"*{namespace_of(system)}*", count=1_000))
        return {key for key in keys for secret in secrets if secret.encode() in key + stored_in(client, key)}

    planted = [secret for secret in SECRETS if found([secret])]
    assert len(planted) > 40, "control: they are found before"
    system.fork(PATH, to="acme/fork")
    erasure = system.erase(PATH)
    for path in ("other/fork", "acme/fork"):
        assert system.agent(path).get("z"), "forks stand by themselves"
        system.erase(path)
    assert erasure.agents == (PATH, f"{PATH}/child")
    assert (erasure.checkpoints, erasure.episodes) == (1, 2)
    assert found(planted) == set()
    assert found([PATH]) == set()
    assert other.get() == {"n": 1}
    assert system.verify().ok
    with pytest.raises(AgentNotFound):
        fork.get()


def server_of(system: AgentSystem) -> redis.Redis:
    return redis.Redis(connection_pool=system.log._server.pool)  # type: ignore[attr-defined]


def stored_in(client: Any, key: bytes) -> bytes:
    """All that a key holds; DUMP would compress it."""
    kind = client.type(key)
    if kind == b"string":
        return client.get(key) or b""
    if kind == b"hash":
        return b"".join(part for pair in client.hgetall(key).items() for part in pair)
    return b"".join(client.lrange(key, 0, -1) if kind == b"list" else client.zrange(key, 0, -1))


def namespace_of(system: AgentSystem) -> str:
    return str(system.log._keys.namespace)[9:-1]  # type: ignore[attr-defined]


def test_its_episodes_are_forgotten_by_every_process(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    for path in (PATH, "acme/bob"):
        agent = first.spawn(path)
        agent.terminate(task_description="about trains")
    [mine] = [episode for episode in second.episodes.list(project="acme") if episode.agent == PATH]
    assert len(first.episodes.search("trains", project="acme")) == 2
    second.erase(PATH)
    for system in (first, second):
        assert [episode.agent for episode in system.episodes.list(project="acme")] == ["acme/bob"]
        assert [found.episode.agent for found in system.episodes.search("trains", project="acme")] == ["acme/bob"]
        assert system.episodes.get(mine.id) is None
    first.spawn(PATH).terminate(task_description="about trains again")
    assert len(second.episodes.list(project="acme")) == 2
    assert first.verify().ok


def test_its_vectors_are_removed_and_those_of_others_stay(open_any: OpenSystem) -> None:
    system = open_any()
    texts: list[str] = []

    def embed(found: list[str]) -> list[list[float]]:
        texts.extend(found)
        return [[float(len(text)), 1.0] for text in found]

    system.episodes.use_embedding(embed, name="lengths")
    for path in (PATH, "acme/bob"):
        system.spawn(path).terminate(task_description=f"about {path}")
    assert len(system.episodes.search("x", by="meaning")) == 2
    mine, others = ([text for text in texts if path in text] for path in (PATH, "acme/bob"))
    cache = system.log.embeddings("lengths")
    fields = [hash_of_text(text) for text in (*mine, *others)]
    assert len(fields) == 2 and None not in cache.load(fields)
    system.erase(PATH)
    assert [stored is None for stored in cache.load(fields)] == [True, False]


def test_subscriptions_go_on_and_follow_the_next_agent_of_its_path(open_any: OpenSystem) -> None:
    system = open_any()
    seen: list[tuple[str, int]] = []
    with system.subscribe("acme/**", lambda change: seen.append((change.agent, change.seq))) as subscription:
        for _ in range(3):
            agent = system.spawn(PATH)
            agent.set("n", 1)
            system.spawn("acme/bob", exist_ok=True).set("n", 1)
            system.erase(PATH)
        last = system.agent("acme/bob").set("last", 1).seq
        eventually(lambda: ("acme/bob", last) in seen)
        assert subscription.error is None
    assert [change for change in seen if change[0] == "acme/bob"] == [("acme/bob", seq) for seq in range(1, last + 1)]
    mine = [seq for agent, seq in seen if agent == PATH]
    assert all(seq in (0, before + 1) for before, seq in pairwise([0, *mine])), (
        "each from its beginning, as far as read, and then told of"
    )


@pytest.mark.slow
def test_consumers_rebuild_their_views_without_it(open_any: OpenSystem) -> None:
    system = open_any()
    with system.attach(Texts(), name="texts") as runner:
        plant(system, trim=False)
        receipt = system.spawn("acme/bob").set("n", 1)
        runner.wait_for(receipt, timeout=20)
        assert PATH in runner.state
        assert system.erase(PATH).rebuilt == ("texts",)
        eventually(lambda: sorted(runner.state) == ["acme/bob"])
        assert "planted" not in repr(dict(runner.state))
        runner.wait_for(system.spawn(PATH).set("n", 1), timeout=20)
        assert sorted(runner.state) == ["acme/alice", "acme/bob"]


def test_a_view_that_cannot_be_rebuilt_is_named(open_server: OpenSystem) -> None:
    system = open_server()
    with system.attach(Texts(), name="texts") as runner:
        plant(system, trim=False)
        runner.wait_for(system.agent(PATH).set("n", 1), timeout=20, saved=True)
    plant(system, "acme/other")
    system.trim(PATH, keep_events=1)
    while system._trimmer.trim_feed(system.log.partition_of(PATH)):
        pass
    erasure = system.erase(PATH)
    assert erasure.rebuilt == ()
    assert any("consumer texts" in text for text in erasure.unreached)


def test_an_agent_that_is_written_to_all_the_time_is_erased(open_any: OpenSystem) -> None:
    host, other = open_any(), open_any()
    agent = host.spawn(PATH)
    ended: list[BaseException] = []

    def write() -> None:
        try:
            while True:
                agent.set("n", 1)
        except BaseException as error:
            ended.append(error)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    eventually(lambda: agent.status().seq > 20)
    erasure = other.erase(PATH)
    writer.join(20)
    assert [type(error) for error in ended] == [Erased]
    assert erasure.events > 20 and list(host.agents()) == []
    assert host.verify().ok


@pytest.mark.parametrize("size", [1, 10_000])
def test_who_asks_an_agent_that_another_host_has_erased_is_told_so(open_any: OpenSystem, size: int) -> None:
    host, other = (open_any(limits=Limits(event_bytes=4_096, batch_bytes=16_384)) for _ in range(2))
    agent = host.spawn(PATH)
    other.erase(PATH)
    with pytest.raises(Erased):
        agent.set("text", "x" * size)
    assert host.log.contents.list(PATH) == []
    assert host.spawn(PATH).set("text", "x" * size).seq == 2


def test_what_a_dead_host_has_begun_to_erase_is_finished_by_the_next_look(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    plant(first)
    second.spawn("acme/bob").set("n", 1)
    second.spawn("acme/carol")
    archive = second.log.archive
    archive.begin_erasure(PATH, "a-host-that-never-was")
    archive.begin_erasure("acme/bob", second.host)
    first._finder.look()
    eventually(lambda: sorted(entry.agent for entry in first.agents()) == ["acme/bob", "acme/carol"])
    eventually(lambda: archive.begun_erasures() == [("acme/bob", BegunErasure(second.host))])
    assert second.agent("acme/bob").get() == {"n": 1}, "control: its host lives"
    assert archive.end_erasure("acme/bob", BegunErasure(second.host))
    assert second.spawn(PATH).get() == {}
    assert first.verify().ok


def test_an_erasure_is_taken_over_once(open_any: OpenSystem) -> None:
    # Hosts that live: what a dead one has begun is finished by each system's own look, at any moment.
    first, one, two = open_any(), open_any(), open_any()
    archive = first.log.archive
    first.spawn(PATH)
    archive.begin_erasure(PATH, first.host)
    taken = [archive.take_erasure(PATH, first.host, system.host) for system in (one, two, one)]
    assert (taken, archive.begun_erasures()) == ([True, False, False], [(PATH, BegunErasure(one.host))])
    assert archive.end_erasure(PATH, BegunErasure(one.host))
    assert not archive.take_erasure(PATH, one.host, two.host)


def bytes_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def calls(client: redis.Redis, command: str) -> int:
    found: Any = client.info("commandstats").get(f"cmdstat_{command}", {})
    return int(found.get("calls", 0))


@pytest.mark.slow
def test_the_append_only_file_is_rewritten_without_what_is_gone(tmp_path: Path) -> None:
    with AgentSystem.open(data_dir=tmp_path / "data") as system:
        for path in (PATH, "acme/bob"):
            system.spawn(path).set("secret", f"planted for {path}")
        kept = system.erase(PATH, rewrite=False)
        assert "the server's append-only file, until it is rewritten" in kept.unreached
        assert b"planted for acme/alice" in bytes_in(tmp_path / "data"), "control"
        erasure = system.erase("acme/bob")
        assert any("rewriting, which has begun" in what for what in erasure.unreached)
        eventually(lambda: b"planted" not in bytes_in(tmp_path / "data"), what="a file without the secrets")


def test_a_file_that_may_not_be_rewritten_is_said_and_not_asked_for() -> None:
    user = ("alice", "on", ">secret", "~*", "&*", "+@all", "-bgrewriteaof")
    with valkey_server(tcp=True, aof=True) as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", *user)
        url = server.tcp_url.replace("redis://", "redis://alice:secret@")
        with AgentSystem.open(url) as system:
            system.spawn(PATH)
            assert "the server's append-only file, until it is rewritten" in system.erase(PATH).unreached
        assert client.acl_log() == []
        assert calls(client, "bgrewriteaof") == 0


def test_of_a_server_without_a_file_and_of_no_server_none_is_named(valkey_url: str) -> None:
    for url in (valkey_url, "memory://"):
        with AgentSystem.open(url, namespace=uuid4().hex) as system:
            system.spawn(PATH)
            assert not any("append-only" in what for what in system.erase(PATH).unreached)


def test_a_branch_is_erased_alone(open_any: OpenSystem) -> None:
    system = open_any()
    plant(system)
    erasure = system.erase(f"{PATH}/child")
    assert erasure.agents == (f"{PATH}/child",)
    assert any("parent" in text for text in erasure.unreached)
    assert system.agent(PATH).get("z")
    assert system.verify().ok


def test_asyncio_erases_too(any_system: AgentSystem) -> None:
    any_system.spawn(PATH)
    assert asyncio.run(any_system.aio.erase(PATH)).agents == (PATH,)
    with pytest.raises(AgentNotFound):
        asyncio.run(any_system.aio.erase("acme/none"))
    for wrong in ("", "acme", None, 5):
        with pytest.raises(InvalidPath):
            any_system.erase(wrong)


def test_an_agent_spawned_anew_outlives_an_erasure_that_was_taken_over(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_system, other = open_any(), open_any()  # both live: the looks of the systems themselves leave it alone
    log = any_system.log
    any_system.spawn(PATH).set("n", 1)
    log.archive.begin_erasure(PATH, any_system.host)
    episodes, ended = log.archive.episodes, list[tuple[str, ...]]()

    def end_first(starts: Any) -> Any:
        if not ended:  # the first host goes on meanwhile, ends it, and its caller begins anew
            ended.append(())
            ended[0] = any_system.erase(PATH).agents
            any_system.spawn(PATH).set("new", True)
        return episodes(starts)

    monkeypatch.setattr(log.archive, "episodes", end_first)
    finish_erasures(log, Limits(), other.host, lambda host: host == any_system.host, set())
    assert ended == [(PATH,)]
    assert any_system.agent(PATH).set("newer", True).seq == 3
    assert any_system.agent(PATH).get() == {"new": True, "newer": True}
    assert log.archive.begun_erasures() == []


def test_an_erasure_that_fails_keeps_neither_others_nor_itself_from_being_finished(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = open_any(), open_any()  # both live: the looks of the systems themselves leave these alone
    log, paths = first.log, [f"acme/agent-{number}" for number in range(4)]
    for path in paths:
        first.spawn(path)
        log.archive.begin_erasure(path, first.host)
    erase, taken = log.archive.erase, set[str]()

    def refuse(root: str, *rest: Any, **options: Any) -> int:
        if root == paths[1]:
            raise Unavailable("the server is lost")
        return erase(root, *rest, **options)

    def finish(taken: set[str]) -> int:
        return finish_erasures(log, Limits(), other.host, lambda host: host == first.host, taken)

    with monkeypatch.context() as patch:
        patch.setattr(log.archive, "erase", refuse)
        with pytest.raises(Unavailable):
            finish(taken)
    assert taken == {paths[1]}
    assert log.archive.begun_erasures() == [(paths[1], BegunErasure(other.host))]
    assert finish(set()) == 0, "control: it may be at it"
    assert finish(taken) == 1
    assert (log.archive.begun_erasures(), taken) == ([], set())
