from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from clusters import Cluster
from command_line import Duramen
from duramen.events.embedded.server import EmbeddedServer
from servers import redis_server


def levels(data: Any) -> set[str]:
    return {finding["level"] for finding in data["findings"]}


def test_the_embedded_server_is_well(duramen: Duramen, data_dir: Path) -> None:
    duramen("run")
    ran = duramen("doctor", "--json")
    assert ran.code == 0
    assert set(ran.data) == {"ok", "findings"}
    assert ran.data["ok"] is True
    assert all(set(finding) == {"level", "what", "advice"} for finding in ran.data["findings"])
    assert levels(ran.data) == {"ok"}
    told = " ".join(finding["what"] for finding in ran.data["findings"])
    for words in (str(data_dir), "Valkey 9.", "appendfsync always", "16 partitions"):
        assert words in told
    assert "all is well" in duramen("doctor").out


def test_a_server_of_another_process_is_left_alone(duramen: Duramen, data_dir: Path) -> None:
    with EmbeddedServer.open(data_dir) as server:
        ran = duramen("doctor", "--json")
        assert ran.code == 0
        # In this process there is only one owner; what counts is that its server lives on.
        assert server.ensure() == server.socket_path
        assert str(server.pid) in ran.out


def test_a_problem_is_exit_code_3_and_comes_with_what_to_do(duramen: Duramen) -> None:
    with redis_server(config={"maxmemory-policy": "allkeys-lru"}) as server:
        ran = duramen("doctor", "--url", server.url, "--json")
        shown = duramen("doctor", "--url", server.url)
    assert (ran.code, shown.code) == (3, 3)
    assert ran.data["ok"] is False
    problems = [finding for finding in ran.data["findings"] if finding["level"] == "problem"]
    assert any("allkeys-lru" in problem["what"] and "noeviction" in problem["advice"] for problem in problems)
    assert "2 problems" in shown.out
    assert "set maxmemory-policy noeviction" in shown.out


def test_a_user_who_is_refused_at_open_is_still_told_why(duramen: Duramen) -> None:
    with redis_server(aof=True) as server:
        server.client().execute_command("ACL SETUSER me on >pw ~* &* +@all -hset")
        url = server.url.replace("unix://", "unix://me:pw@")
        assert duramen("agents", "--url", url).code == 3
        ran = duramen("doctor", "--url", url)
    assert ran.code == 3
    assert "'me' may not run HSET" in ran.out
    assert "grant +hset" in ran.out


def test_a_warning_alone_is_exit_code_0(duramen: Duramen) -> None:
    with redis_server(aof=True, config={"appendfsync": "everysec"}) as server:
        ran = duramen("doctor", "--url", server.url, "--json")
    assert (ran.code, levels(ran.data)) == (0, {"ok", "warning"})


def test_a_server_that_is_not_there_is_exit_code_3(duramen: Duramen) -> None:
    ran = duramen("doctor", "--url", "unix:///nowhere.sock")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.count("\n") == 1


def test_looking_makes_no_namespace(duramen: Duramen) -> None:
    with redis_server(aof=True) as server:
        assert "not in use yet" in duramen("doctor", "--url", server.url).out
        assert server.client().dbsize() == 0


def test_memory_has_nothing_to_look_at(duramen: Duramen) -> None:
    ran = duramen("doctor", "--url", "memory://")
    assert ran.code == 0
    assert "memory://" in ran.out


def test_little_room_on_the_disk_is_told(duramen: Duramen, monkeypatch: pytest.MonkeyPatch) -> None:
    duramen("run")
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20 * 1024 * 1024))
    ran = duramen("doctor", "--json")
    assert (ran.code, levels(ran.data)) == (0, {"ok", "warning"})
    assert "only 20 MiB are free" in ran.out


@pytest.mark.slow
def test_a_cluster_is_looked_at_node_by_node(duramen: Duramen) -> None:
    with Cluster(config={"appendonly": "yes", "appendfsync": "always"}) as cluster:
        well = duramen("doctor", "--url", cluster.url)
        _, full, dead = cluster.nodes
        cluster.call(full, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        dead.kill9()
        ran = duramen("doctor", "--url", cluster.url, "--json")
    assert well.code == 0
    assert "a cluster of 3 primaries and 3 nodes: all slots are served" in " ".join(well.out.split())
    assert ran.code == 3
    problems = [finding["what"] for finding in ran.data["findings"] if finding["level"] == "problem"]
    assert any(f"127.0.0.1:{full.port}: maxmemory-policy allkeys-lru" in problem for problem in problems)
    assert any(f"127.0.0.1:{dead.port}: does not answer" in problem for problem in problems)
