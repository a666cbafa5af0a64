"""Agents are listed in pages: the first comes after one of them, each comes once, with its session's metadata."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
import redis

from duramen.actors import AgentSystem, Spawn
from duramen.events import InvalidMessage
from duramen.events.codec import Codec
from duramen.events.log import Line, pack_line, unpack_line
from duramen.events.model import Limits

OpenSystem = Callable[..., AgentSystem]

COUNT = 2_000


def requests_until(monitor: Any, word: str) -> Counter[str]:
    """What was asked of heads and lines up to a word that was echoed. A host's beats ask for other keys meanwhile."""
    found: Counter[str] = Counter()
    for entry in monitor.listen():
        name, *words = entry["command"].split(" ")
        if (name, words) == ("ECHO", [word]):
            break
        found[name] += bool(words) and words[0].endswith((":heads", ":directory"))
    return +found


@pytest.mark.slow
def test_the_first_agent_comes_after_one_page_and_each_comes_once(valkey_url: str) -> None:
    client = redis.Redis.from_url(valkey_url)
    with AgentSystem.open(valkey_url, namespace=f"t{uuid4().hex}", partitions=1) as system:
        paths = [f"acme/a{number:05}" for number in range(COUNT)]
        for reply in [system.agent(path).ask(Spawn(), block=False) for path in paths]:
            reply.get(timeout=60).raise_for_failure()
        with client.monitor() as monitor:
            agents = system.agents()
            first = next(agents)
            client.echo("first")
            assert sorted(entry.agent for entry in (first, *agents)) == paths
            client.echo("all")
            assert requests_until(monitor, "first") == {"HSCAN": 1, "HMGET": 1}
            assert requests_until(monitor, "all")["HSCAN"] > 1, "control: there were more pages"


# -- which ones --------------------------------------------------------------------------------------------------------


def found(system: AgentSystem, *arguments: Any, **options: Any) -> list[str]:
    return sorted(entry.agent for entry in system.agents(*arguments, **options))


def test_agents_are_chosen_by_path_status_and_metadata(any_system: AgentSystem) -> None:
    for path, user in (("acme/a", 1), ("acme/b", 2), ("acme/a/c", 1), ("acme/ab", 1), ("other/a", 1)):
        any_system.spawn(path, metadata={"user": user, "path": [path]})
    any_system.agent("acme/b").pause()
    any_system.agent("other/a").terminate()
    assert found(any_system) == ["acme/a", "acme/a/c", "acme/ab", "acme/b", "other/a"]
    assert found(any_system, "acme/a") == ["acme/a", "acme/a/c", "acme/ab"]
    assert found(any_system, "acme/a/") == found(any_system, "acme/a/c") == ["acme/a/c"]
    assert found(any_system, "no") == found(any_system, "acme/a/c/d") == []
    assert found(any_system, status="paused") == ["acme/b"]
    assert found(any_system, status=["paused", "terminated"]) == ["acme/b", "other/a"]
    assert found(any_system, "acme/", metadata={"user": 1}) == ["acme/a", "acme/a/c", "acme/ab"]
    assert found(any_system, metadata={"user": 1, "path": ["acme/ab"]}) == ["acme/ab"]
    assert found(any_system, metadata={"user": True}) == found(any_system, metadata={"none": None}) == []
    assert len(found(any_system, metadata={"user": 1}, limit=2)) == 2
    assert any_system.verify().ok


def test_asyncio_chooses_alike(any_system: AgentSystem) -> None:
    for number in range(4):
        any_system.spawn(f"acme/a{number}", metadata={"even": number % 2 == 0})

    async def run() -> list[str]:
        entries = any_system.aio.agents("acme/", status="running", metadata={"even": True}, limit=9)
        return sorted([entry.agent async for entry in entries])

    assert asyncio.run(run()) == ["acme/a0", "acme/a2"]


@pytest.mark.parametrize(
    "wrong", [{"prefix": 1}, {"status": "asleep"}, {"status": 5}, {"metadata": [1]}, {"limit": 0}, {"limit": True}]
)
def test_what_no_agent_can_be_is_refused(system: AgentSystem, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        system.agents(**wrong)


# -- metadata ----------------------------------------------------------------------------------------------------------

METADATA = {"user": "kim", "at": datetime(2026, 1, 2, tzinfo=UTC), "photo": b"x", "deep": {"a": [1, None]}}


def metadata_of(system: AgentSystem, path: str) -> Any:
    [entry] = [entry for entry in system.agents() if entry.agent == path]
    return entry.metadata


def test_a_listed_agent_has_the_metadata_of_its_session(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn("acme/a", metadata=METADATA)
    agent.set("n", 1)
    agent.pause()
    agent.resume()
    assert metadata_of(open_any(), "acme/a") == METADATA
    agent.spawn_child("c")
    assert metadata_of(system, "acme/a/c") == {}
    agent.terminate()
    system.spawn("acme/a", metadata={"user": "eve"})
    assert metadata_of(system, "acme/a") == {"user": "eve"}


def test_large_metadata_is_read_from_the_log(open_any: OpenSystem) -> None:
    large = {"text": "x" * 5_000, "user": "kim"}
    system = open_any()
    system.spawn("acme/a", metadata=large)
    system.spawn("acme/b", metadata={"user": "kim"})
    assert [entry.packed_metadata for entry in system.log.directory() if entry.agent == "acme/a"] == [None], "control"
    assert metadata_of(system, "acme/a") == large
    assert found(system, metadata={"user": "kim"}) == ["acme/a", "acme/b"]
    assert system.verify().ok


def test_forks_and_imports_are_listed_with_metadata(any_system: AgentSystem) -> None:
    any_system.spawn("acme/a", metadata=METADATA)
    any_system.fork("acme/a", to="acme/fork")
    file = BytesIO()
    any_system.export_session("acme/a", file)
    file.seek(0)
    any_system.import_session(file, to="acme/copy")
    assert metadata_of(any_system, "acme/fork") == metadata_of(any_system, "acme/copy") == METADATA
    assert any_system.verify().ok


def test_lines_of_before_are_read_without_metadata() -> None:
    codec = Codec(Limits())
    assert unpack_line(codec.pack(["running", "t", "s"])) == Line("running", "t", "s")
    assert unpack_line(codec.pack(["paused", None, "s", True])) == Line("paused", None, "s", True)
    line = Line("running", "t", "s", False, codec.pack(METADATA))
    assert unpack_line(pack_line(line, codec)) == line


def test_another_metadata_in_the_directory_is_found(valkey_url: str) -> None:
    namespace = f"t{uuid4().hex}"
    with AgentSystem.open(valkey_url, namespace=namespace, partitions=1) as system:
        system.spawn("acme/a", session_id="s", metadata={"user": "kim"})
        codec = Codec(Limits())
        key = f"duramen:{{{namespace}:00}}:directory"
        for metadata, is_sound in ((b"\x80", False), (codec.pack({"user": "kim"}), True)):
            forged = pack_line(Line("running", None, "s", False, metadata), codec)
            redis.Redis.from_url(valkey_url).hset(key, "acme/a", forged)
            assert system.verify().ok is is_sound
