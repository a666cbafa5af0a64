"""A primary that sentinels name: found, followed when it changes, and left when it is deposed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis
from redis.sentinel import Sentinel

from duramen.actors import AgentSystem
from duramen.events import DataLoss, Diverged, InvalidMessage, NotPermitted, Unavailable, UnsafeServer
from duramen.events.redis.client.connection import pool_of_url
from sentinels import NAME, Sentinels
from servers import Server, redis_server
from takeover import give_up
from waiting import eventually

WATCHER = "watcher"
"""The user that sentinels log in as."""

pytestmark = pytest.mark.slow


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def primary(cleanup: ExitStack) -> Server:
    return cleanup.enter_context(redis_server(tcp=True, config={"repl-diskless-sync-delay": "0"}))


@pytest.fixture
def replica(primary: Server, cleanup: ExitStack) -> Server:
    link = {"replicaof": f"127.0.0.1 {primary.port}"}
    running = cleanup.enter_context(redis_server(tcp=True, config=link))
    with primary.client() as client:
        eventually(lambda: client.info("replication").get("slave0", {}).get("state") == "online")
    return running


def allow_sentinels(server: Server) -> None:
    with server.client() as client:
        client.acl_setuser(WATCHER, enabled=True, passwords=[f"+{WATCHER}"], commands=["+@all"], keys="*", channels="*")


def role_of(server: Server) -> bytes | None:
    """The server's role; None while it closes connections, as it does when its role changes."""
    try:
        with server.client() as client:
            return bytes(client.role()[0])
    except redis.ConnectionError:
        return None


def open_system(url: str, cleanup: ExitStack, **options: str) -> AgentSystem:
    system = AgentSystem.open(url, **options)
    cleanup.callback(system.close, timeout=1)
    return system


def test_the_primary_is_found_and_followed_when_another_is_promoted(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    sentinels = cleanup.enter_context(Sentinels(primary.address))
    sentinels.wait_until_ready()
    system = open_system(sentinels.url, cleanup, durability="replicas:1")
    alice = system.spawn("acme/alice")
    seen: list[int] = []
    with system.subscribe("acme/*/**", lambda change: seen.append(change.seq)):
        assert alice.set("a", 1).durability == "replicas:1"
        primary.kill9()
        sentinels.wait_for_failover(primary.address)
        receipt = alice.set("b", 2, durability="memory")
        assert receipt.seq == 3
        assert alice.get() == {"a": 1, "b": 2}
        eventually(lambda: len(seen) == 2, 30.0, what=f"{seen}")
    assert seen == [2, 3]
    with replica.client() as client:
        assert client.role()[0] == b"master"
        assert client.llen(system.log.log_key("acme/alice")) == 3


def test_who_wrote_to_a_deposed_primary_is_told_and_writes_to_it_no_more(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    for server in (primary, replica):
        allow_sentinels(server)
    sentinels = cleanup.enter_context(Sentinels(primary.address, user=WATCHER))
    sentinels.wait_until_ready()
    lost = open_system(sentinels.url, cleanup)
    alice, bob, carol = lost.spawn("acme/alice"), lost.spawn("acme/bob"), lost.spawn("acme/carol")
    alice.set("a", 1)
    with replica.client() as client:
        eventually(lambda: client.llen(lost.log.log_key("acme/alice")) == 2)
        with primary.client() as old:
            old.acl_setuser(WATCHER, commands=["-ping", "-info"])  # down, to the sentinels; clients go on with it
        sentinels.wait_for_failover(primary.address)
        eventually(lambda: client.role()[0] == b"master")
    for agent in (alice, bob):
        agent.set("lost", True)  # acknowledged by a server that is the primary no more
    other = open_system(sentinels.url, cleanup)
    assert other.agent("acme/alice").get() == {"a": 1}
    give_up(other, "acme/alice")  # else the one that has it would be asked, and tell of the loss
    assert other.agent("acme/alice").set("b", 2).seq == 3
    allow_sentinels(primary)
    eventually(lambda: role_of(primary) == b"slave", 60.0)
    with pytest.raises(Diverged):
        alice.set("again", 1)
    with pytest.raises(DataLoss):
        bob.set("again", 1)
    assert alice.get() == {"a": 1, "b": 2}
    assert bob.get() == {}
    assert carol.set("a", 1).seq == 2  # has lost nothing
    with primary.client() as client, pytest.raises(redis.ReadOnlyError):
        client.set("x", 1)


def test_a_client_of_sentinels_gives_its_servers(primary: Server, replica: Server, cleanup: ExitStack) -> None:
    sentinels = cleanup.enter_context(Sentinels(primary.address))
    sentinels.wait_until_ready()
    theirs = Sentinel([("127.0.0.1", port) for port in sentinels.ports], socket_timeout=1)
    with AgentSystem.open(client=theirs.master_for(NAME)) as system:
        alice = system.spawn("acme/alice")
        primary.kill9()
        sentinels.wait_for_failover(primary.address)
        assert alice.set("a", 1).seq == 2


def test_sentinels_of_which_two_are_gone_or_asleep_are_not_needed(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    sentinels = cleanup.enter_context(Sentinels(primary.address))
    sentinels.wait_until_ready()
    for process in sentinels._processes[:2]:
        process.stop(10.0)
    with AgentSystem.open(sentinels.url) as system:
        assert system.spawn("acme/alice").set("a", 1).seq == 2


def test_a_name_or_login_that_the_sentinels_do_not_know_is_told_at_once(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    sentinels = cleanup.enter_context(Sentinels(primary.address, password="secret-17"))
    eventually(lambda: sentinels.primary() is not None, 30.0)
    login = "sentinel_password=secret-17"
    with pytest.raises(NotPermitted, match="sentinel_password"):
        AgentSystem.open(sentinels.url)
    with pytest.raises(InvalidMessage, match="no primary of this name"):
        AgentSystem.open(f"redis+sentinel://{sentinels.hosts}/other?{login}")
    with pytest.raises(InvalidMessage, match="no sentinel"):
        AgentSystem.open(f"redis+sentinel://127.0.0.1:{primary.port}/{NAME}")
    with AgentSystem.open(f"{sentinels.url}?{login}") as system:
        assert system.spawn("acme/alice").set("a", 1).seq == 2


def test_a_replica_that_a_late_sentinel_names_is_not_written_to(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    sentinels = cleanup.enter_context(Sentinels(primary.address))
    sentinels.wait_until_ready()
    with replica.client() as one, primary.client() as two:  # behind the sentinels' back
        one.replicaof("NO", "ONE")
        two.replicaof("127.0.0.1", str(replica.port))
        pool = pool_of_url(sentinels.url)
        with pytest.raises(redis.ConnectionError, match="no primary"):
            pool.get_connection()
        pool.disconnect()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel://127.0.0.1:26379/",
        "redis+sentinel:///main",
        "redis+sentinel://127.0.0.1:x/main",
        "redis+sentinel://127.0.0.1:0/main",
        "redis+sentinel://127.0.0.1:26379/main/0/1",
        "redis+sentinel://127.0.0.1:26379/main/x",
        "redis+sentinel://127.0.0.1:26379/main#x",
        "redis+sentinel://127.0.0.1:26379/main?x=1",
        "redis+sentinel://127.0.0.1:26379/main?sentinel_password=a&sentinel_password=b",
        "redis+sentinel://[127.0.0.1:26379/main",
    ],
)
def test_a_url_of_sentinels_that_is_not_well_formed_is_refused(url: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        pool_of_url(url)
    assert "127.0.0.1" not in str(caught.value)


def test_sentinels_on_another_machine_need_tls() -> None:
    with pytest.raises(UnsafeServer):
        pool_of_url("redis+sentinel://127.0.0.1,db.example.com/main")
    pool_of_url("redis+sentinel://127.0.0.1,db.example.com/main", insecure=True)
    pool_of_url("rediss+sentinel://user:p%40ss@db.example.com:26380,[::1]/main/3?socket_timeout=2")


def test_sentinels_that_do_not_answer_are_said_to_be_so() -> None:
    with pytest.raises(Unavailable, match="no sentinel answers"):
        AgentSystem.open("redis+sentinel://127.0.0.1:1/main")
