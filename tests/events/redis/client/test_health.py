"""What is said of a server, and when it is refused; on a real Valkey and a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from duramen.actors import AgentSystem
from duramen.events import InvalidPath, NotPermitted, Unavailable, UnsafeServer
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.client.health import Finding, RunCommand, check_server, command_runner, eviction_policy
from servers import Server, redis_server, valkey_server
from waiting import eventually

ALL = (
    "+evalsha +evalsha_ro +script|load +hmget +hset +hscan +hdel +llen +rpush +lrange +lset +ltrim +set +get "
    "+exists +unlink +rename +zadd +zrange +zrem +zrank +pexpire +time +publish +subscribe +unsubscribe +ping"
)
WANTED = (
    "+hscan +lset +ltrim +hdel +unlink +rename +zadd +zrange +zrem +zrank +pexpire +time "
    "+publish +subscribe +unsubscribe +ping"
)
NEEDED = [word for word in ALL.split() if word not in WANTED.split()]
LOOKING = "+info +config|get +acl|whoami"
LETHAL = ["allkeys-lru", "allkeys-lfu", "allkeys-random"]


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Durable, and set up well; a test that changes a setting puts it back."""
    with (valkey_server if request.param == "valkey" else redis_server)(aof=True) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """To change settings and users, which are as before afterwards."""
    with server.client() as client:
        settings = ("maxmemory", "maxmemory-policy", "appendfsync", "min-replicas-to-write")
        before = {name: client.config_get(name)[name] for name in settings}
        yield client
        for name, value in before.items():
            client.config_set(name, value)
        client.execute_command("ACL SETUSER me reset")


def asking(url: str) -> RunCommand:
    return command_runner(pool_of_url(url))


def check(server: Server, user: str = "") -> list[Finding]:
    return check_server(asking(server.url.replace("unix://", f"unix://{user}")))


def said(findings: list[Finding], level: str) -> str:
    return "\n".join(f"{finding.what}: {finding.advice}" for finding in findings if finding.level == level)


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


def let(client: redis.Redis, rules: str, keys: str = "~duramen:*", channels: str = "&duramen:*") -> str:
    """A user with these permissions; what stands before the host in its url."""
    client.execute_command(f"ACL SETUSER me reset on >pw {keys} resetchannels {channels} nocommands {rules}")
    return "me:pw@"


# -- a server that is as it should be ---------------------------------------------------------------------------------


def test_a_good_server_is_good_in_everything(server: Server) -> None:
    findings = check(server)
    assert levels(findings) == {"ok"}
    passed = said(findings, "ok")
    assert ("Valkey 9." if server.kind == "valkey" else "Redis ") in passed
    for words in ("appendfsync always", "noeviction", "memory in use", "'default' has every permission", "clock"):
        assert words in passed
    assert all(finding.advice == "" for finding in findings)


def test_looking_changes_nothing(server: Server, client: redis.Redis) -> None:
    before = client.info("keyspace"), client.config_get("*")
    check(server)
    assert (client.info("keyspace"), client.config_get("*")) == before


def test_what_is_wrong_comes_with_what_to_do(server: Server, client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("appendfsync", "everysec")
    client.config_set("min-replicas-to-write", 2)
    findings = check(server)
    assert {"problem", "warning"} <= levels(findings)
    assert all(finding.advice for finding in findings if finding.level != "ok")


def test_a_namespace_that_cannot_be_is_refused(server: Server) -> None:
    with pytest.raises(InvalidPath):
        check_server(asking(server.url), namespace="a b")


# -- persistence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "level", "words"),
    [
        ({"appendonly": "yes", "appendfsync": "everysec"}, "warning", "appendfsync everysec"),
        ({"appendonly": "yes", "appendfsync": "no"}, "warning", "appendfsync no"),
        ({"appendonly": "no", "save": "3600 1"}, "warning", "no append-only file"),
        ({"appendonly": "no", "save": ""}, "problem", "nothing is written to disk"),
    ],
    ids=["everysec", "no fsync", "snapshots", "nothing"],
)
def test_a_server_that_can_lose_acknowledged_events_is_reported(config: dict[str, str], level: str, words: str) -> None:
    with redis_server(config=config) as server:
        findings = check(server)
    assert words in said(findings, level)
    assert "set append" in said(findings, level)


def test_a_server_that_cannot_write_to_its_disk_is_a_problem() -> None:
    with redis_server(config={"save": "", "appendonly": "no"}) as server, server.client() as client:
        client.set("a", 1)
        (Path(client.config_get("dir")["dir"]) / "dump.rdb").mkdir()  # where the snapshot is to go
        client.bgsave()
        eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed snapshot")
        assert "fails to write to its disk" in said(check(server), "problem")


# -- eviction ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", LETHAL)
def test_a_policy_that_can_remove_logs_is_a_problem_and_is_refused_by_name(
    server: Server, client: redis.Redis, policy: str
) -> None:
    client.config_set("maxmemory-policy", policy)
    assert policy in said(check(server), "problem")
    with pytest.raises(UnsafeServer, match=f"maxmemory-policy {policy}.*noeviction") as refused:
        AgentSystem.open(server.url)
    assert (refused.value.expected, refused.value.actual) == ("noeviction", policy)


def test_the_refusal_can_be_overridden_and_is_then_logged(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    with AgentSystem.open(server.url, allow_eviction=True, namespace="overridden") as system:
        assert system.spawn("acme/alice").set("a", 1).seq == 2
    assert "logs_may_be_evicted" in caplog.text


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_a_policy_that_keeps_logs_is_not_refused(server: Server, client: redis.Redis, policy: str) -> None:
    client.config_set("maxmemory-policy", policy)
    findings = check(server)
    assert "problem" not in levels(findings)
    assert ("checkpoints may be removed" in said(findings, "warning")) == policy.startswith("volatile-")
    AgentSystem.open(server.url, namespace="kept").close()


def test_a_refused_server_was_not_written_to(server: Server, client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(UnsafeServer):
        AgentSystem.open(server.url, namespace="untouched")
    assert client.exists("duramen:{untouched}") == 0


@pytest.mark.parametrize("rules", [f"{ALL} +info", f"{ALL} +config|get"])
def test_the_policy_is_found_where_the_other_command_is_denied(server: Server, client: redis.Redis, rules: str) -> None:
    user = let(client, rules)
    client.config_set("maxmemory-policy", "allkeys-random")
    url = server.url.replace("unix://", f"unix://{user}")
    assert eviction_policy(asking(url)) == "allkeys-random"
    with pytest.raises(UnsafeServer):
        AgentSystem.open(url)


@pytest.mark.slow
def test_logs_really_are_removed_under_such_a_policy() -> None:
    """The control: what the refusal spares its users."""
    with (
        redis_server(config={"maxmemory": "3mb", "maxmemory-policy": "allkeys-lru"}) as server,
        server.client() as client,
    ):
        with AgentSystem.open(server.url, allow_eviction=True) as system:
            system.spawn("acme/alice").set("a", 1)
        ours = len(client.keys("duramen:*"))
        for number in range(20_000):
            client.set(f"other:{number}", b"x" * 20_000)
            if len(client.keys("duramen:*")) < ours:
                break
        assert len(client.keys("duramen:*")) < ours


# -- memory -----------------------------------------------------------------------------------------------------------


def test_a_server_that_is_nearly_full_is_reported(server: Server, client: redis.Redis) -> None:
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", int(used * 1.02))
    assert "raise maxmemory" in said(check(server), "warning")
    client.config_set("maxmemory", used * 20)
    findings = check(server)
    assert levels(findings) == {"ok"}
    assert "%" in said(findings, "ok")


# -- permissions ------------------------------------------------------------------------------------------------------


def test_a_user_with_what_is_needed_and_no_more_is_fine(server: Server, client: redis.Redis) -> None:
    user = let(client, f"{ALL} {LOOKING}")
    findings = check(server, user)
    assert levels(findings) == {"ok"}
    assert "user 'me' has every permission" in said(findings, "ok")
    with AgentSystem.open(server.url.replace("unix://", f"unix://{user}"), namespace="least") as system:
        agent = system.spawn("acme/alice")
        agent.set("a", 1)
        agent.pause("x")
        agent.resume("x")
        assert [checkpoint.checkpoint_id for checkpoint in agent.checkpoints()] == ["x"]
        agent.terminate()
        assert [entry.agent for entry in system.agents()] == ["acme/alice"]
        assert len(system.episodes.list()) == 1


@pytest.mark.parametrize("missing", NEEDED)
def test_a_user_who_lacks_what_is_needed_is_refused_at_open_by_name(
    server: Server, client: redis.Redis, missing: str
) -> None:
    rules = " ".join(word for word in ALL.split() if word != missing)
    user = let(client, f"{rules} {LOOKING}")
    name = missing.removeprefix("+").replace("|", " ").upper()
    findings = check(server, user)
    assert name in said(findings, "problem")
    assert missing in said(findings, "problem")
    with pytest.raises(NotPermitted):
        AgentSystem.open(
            server.url.replace("unix://", f"unix://{user}"), namespace=f"no-{missing[1:].replace('|', '-')}"
        )
    assert client.exists(f"duramen:{{no-{missing[1:].replace('|', '-')}}}") == 0


def test_a_user_without_publish_is_warned_and_appends_once(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    user = let(client, f"{ALL.replace('+publish', '')} {LOOKING}")
    findings = check(server, user)
    assert "problem" not in levels(findings)
    assert "PUBLISH" in said(findings, "warning")
    assert "+publish &duramen:*" in said(findings, "warning")
    with AgentSystem.open(server.url.replace("unix://", f"unix://{user}"), namespace="mute") as system:
        receipt = system.spawn("acme/alice").set("a", 1)
        assert [event.seq for event in system.events("acme/alice")] == [1, 2]
        assert receipt.seq == 2
    assert "notices_not_published" in caplog.text


def test_a_user_without_the_channel_is_warned(server: Server, client: redis.Redis) -> None:
    assert "PUBLISH" in said(check(server, let(client, f"{ALL} {LOOKING}", channels="&other:*")), "warning")


def test_a_user_who_cannot_list_agents_is_warned(server: Server, client: redis.Redis) -> None:
    findings = check(server, let(client, f"{ALL.replace('+hscan', '')} {LOOKING}"))
    assert "problem" not in levels(findings)
    assert "agents cannot be listed" in said(findings, "warning")


@pytest.mark.parametrize("keys", ["~other:*", "%R~duramen:*", "~duramen:{other}*"])
def test_a_user_without_the_keys_is_refused(server: Server, client: redis.Redis, keys: str) -> None:
    user = let(client, f"{ALL} {LOOKING}", keys=keys)
    assert "HSET" in said(check(server, user), "problem")
    with pytest.raises(NotPermitted, match=r"HSET|EVALSHA|run"):
        AgentSystem.open(server.url.replace("unix://", f"unix://{user}"), namespace="nokeys")


def test_what_a_user_may_not_ask_is_reported_and_nothing_fails(server: Server, client: redis.Redis) -> None:
    findings = check(server, let(client, ALL))
    assert "problem" not in levels(findings)
    warned = said(findings, "warning")
    for command in ("INFO", "CONFIG GET"):
        assert f"may not run {command}" in warned
    assert "this user has every permission" in said(findings, "ok")


def test_a_user_who_may_not_ask_for_the_time_is_warned(server: Server, client: redis.Redis) -> None:
    findings = check(server, let(client, f"{ALL.replace('+time ', '')} {LOOKING}"))
    assert "problem" not in levels(findings)
    assert "may not run TIME" in said(findings, "warning")
    assert "what is too large for an event cannot be kept" in said(findings, "warning")


def test_a_user_who_may_do_nothing_is_told_what_to_grant(server: Server, client: redis.Redis) -> None:
    assert "+script|load +evalsha" in said(check(server, let(client, "+ping")), "problem")


def test_a_wrong_password_is_an_error_and_not_a_finding(server: Server, client: redis.Redis) -> None:
    let(client, ALL)
    with pytest.raises(NotPermitted, match="user name or password"):
        check(server, "me:wrong@")


# -- replicas and clocks ----------------------------------------------------------------------------------------------


def test_a_server_that_waits_for_replicas_that_are_not_there_is_a_problem(server: Server, client: redis.Redis) -> None:
    client.config_set("min-replicas-to-write", 1)
    assert "refuses writes below 1" in said(check(server), "problem")


@pytest.mark.slow
def test_replicas_are_reported_from_both_sides() -> None:
    with redis_server(tcp=True, aof=True) as primary, redis_server(tcp=True, aof=True) as replica:
        host, port = primary.address
        with replica.client() as client:
            client.replicaof(host, port)
        with primary.client() as client:
            eventually(lambda: client.info("replication")["connected_slaves"] == 1, 30, what="the replica")
            assert "does not wait for them" in said(check(primary), "warning")
            client.config_set("min-replicas-to-write", 1)
            assert "1 replicas; writes are refused" in said(check(primary), "ok")
        assert "is a replica" in said(check(replica), "problem")


@pytest.mark.parametrize(
    ("skew", "expected"), [(0, "agrees"), (100, "100 s ahead"), (-100, "100 s behind"), (0.5, "agrees")]
)
def test_a_clock_that_disagrees_is_reported(server: Server, skew: float, expected: str) -> None:
    real = asking(server.url)

    def ask(doing: str, *command: bytes) -> Any:
        if command != (b"TIME",):
            return real(doing, *command)
        seconds, rest = divmod(time.time() + skew, 1)
        return [b"%d" % seconds, b"%d" % (rest * 1_000_000)]

    findings = check_server(ask)
    assert expected in said(findings, "ok" if expected == "agrees" else "warning")


# -- servers that cannot be asked -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "level", "words"),
    [
        (b"redis_version:6.2.14\r\n", "problem", "Redis 6.2.14 is too old"),
        (b"redis_version:7.0.0\r\n", "ok", "Redis 7.0.0"),
        (b"redis_version:10.1.0\r\n", "ok", "Redis 10.1.0"),
        (b"redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n", "ok", "Valkey 8.0.1"),
        (b"something:else\r\n", "warning", "does not tell its version"),
        (b"redis_version:7.4.0\r\ncluster_enabled:1\r\n", "problem", "node of a cluster"),
    ],
)
def test_what_a_server_says_of_itself_is_judged(server: Server, info: bytes, level: str, words: str) -> None:
    real = asking(server.url)

    def ask(doing: str, *command: bytes) -> Any:
        return info if command == (b"INFO",) else real(doing, *command)

    assert words in said(check_server(ask), level)


@pytest.mark.slow
def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        check_server(asking("unix:///nowhere/at/all.sock"))


def test_a_refused_server_leaves_no_connection_behind(server: Server, client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    before = len(client.client_list())
    for _ in range(5):
        with pytest.raises(UnsafeServer):
            AgentSystem.open(server.url)
    eventually(lambda: len(client.client_list()) <= before, what="the connections' end")
