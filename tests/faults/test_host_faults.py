"""Hosts and owners on a server that is full, loses replies and connections, or gives a user few rights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis

from contracts.authors import Author, commit_one, head_of
from duramen.events.errors import NotPermitted, Unavailable
from duramen.events.log.host_store import HostRecord, Owner
from duramen.events.log.records import Status
from duramen.events.redis.client.connection import pool_of_client, pool_of_url
from duramen.events.redis.log import RedisLog
from duramen.events.redis.stores.message_stream import RedisMessages
from faults.proxy import FaultProxy
from servers import Server, redis_server, valkey_server
from waiting import eventually

ALICE = "acme/alice"
A, B = "a" * 32, "b" * 32
NO_REPLY_SECONDS = 0.3


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with (valkey_server if request.param == "valkey" else redis_server)(tcp=True) as running:
        yield running


@pytest.fixture
def log(server: Server) -> Iterator[RedisLog]:
    log = RedisLog(pool_of_url(server.url))
    yield log
    log.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.address) as running:
        yield running


@pytest.fixture
def far(proxy: FaultProxy) -> Iterator[RedisLog]:
    """A log whose replies can be lost."""
    log = RedisLog(pool_of_client(redis.Redis.from_url(proxy.url, socket_timeout=NO_REPLY_SECONDS)))
    yield log
    log.close()


def test_hosts_live_and_agents_change_hands_when_memory_is_full(server: Server, log: RedisLog) -> None:
    author = Author(log, fence=f"1:{A}").fill(2)
    log.hosts.join(HostRecord(A))
    server.client().config_set("maxmemory", 1)
    with pytest.raises(Unavailable, match="OOM"):
        commit_one(log, author.append(b"more"))
    assert log.hosts.beat(A, 1) == 1
    log.hosts.join(HostRecord(B))
    assert log.hosts.beat(B, 0) == 1
    assert log.hosts.bury(A, 1)
    assert log.hosts.claim(ALICE, Owner(1, A), head_of(log, ALICE), B, 5).claimed
    assert log.hosts.release(ALICE, Owner(2, B))
    assert log.hosts.set_state(B, "closed")
    log.hosts.forget([A, B])
    assert log.hosts.hosts() == []
    with pytest.raises(Unavailable, match="OOM"):
        log.hosts.put_content(b"x" * 100_000, 1000)


@pytest.mark.parametrize("times", [1, 2])
def test_a_claim_whose_reply_is_lost_costs_one_epoch(
    log: RedisLog, far: RedisLog, proxy: FaultProxy, times: int
) -> None:
    Author(log, fence=f"1:{A}").fill(2)
    proxy.drop_reply(containing=ALICE.encode(), times=times)
    answer = far.hosts.claim(ALICE, Owner(1, A), head_of(log, ALICE), B, 5)
    assert proxy.counts.replies_dropped == times
    assert (answer.claimed, answer.owner, answer.head) == (True, Owner(2, B), head_of(log, ALICE))
    assert head_of(log, ALICE).fence == f"2:{B}"


def test_changes_of_hosts_and_owners_whose_replies_are_lost_are_made_once(
    log: RedisLog, far: RedisLog, proxy: FaultProxy
) -> None:
    proxy.drop_reply(containing=b"host_joins")
    far.hosts.join(HostRecord(A, agent_types=("host_joins",)))
    proxy.drop_reply(containing=b"acme/taken")
    assert far.hosts.take("acme/taken", Owner(), A) == Owner(1, A)
    proxy.drop_reply(containing=b"acme/taken")
    assert far.hosts.release("acme/taken", Owner(1, A))
    proxy.drop_reply(containing=b"buried")
    assert far.hosts.bury(A, 0)
    assert proxy.counts.replies_dropped == 4
    found = log.hosts.find(A)
    assert found is not None and found.state == "buried"
    assert log.hosts.owner("acme/taken")[0] == Owner(1)


def test_a_create_whose_reply_is_lost_is_not_refused_as_somebody_elses(
    log: RedisLog, far: RedisLog, proxy: FaultProxy
) -> None:
    Author(far, "acme/bob", fence=f"1:{A}").fill(1)  # which loads the script
    proxy.drop_reply(containing=b"made once")
    answer = commit_one(far, Author(far, fence=f"1:{A}").append(b"made once"))
    assert proxy.counts.replies_dropped == 1
    assert answer.status is Status.DUPLICATE
    assert log.hosts.owner(ALICE)[0] == Owner(1, A)


def test_a_stream_says_that_it_has_subscribed_again_after_a_lost_connection(server: Server, log: RedisLog) -> None:
    stream = log.hosts.listen(A)
    try:
        stream.receive(10)
        log.hosts.publish(A, b"before the connection is lost")
        assert stream.receive(10) == [b"before the connection is lost"]
        cast("Any", server.client()).client_kill_filter(_type="pubsub")
        while stream.subscriptions < 2:
            assert stream.receive(10) == []
        log.hosts.publish(A, b"after the connection was lost")
        assert stream.receive(10) == [b"after the connection was lost"]
    finally:
        stream.close()


def test_a_stream_that_does_not_hear_its_own_beat_subscribes_on_a_new_connection(server: Server, log: RedisLog) -> None:
    log.hosts.join(HostRecord(A))
    stream = cast("RedisMessages", log.hosts.listen(A))
    try:
        stream.receive(10)
        log.hosts.beat(A, 0)
        stream.receive(3)
        assert stream.subscriptions == 1, "control: a beat that is heard"
        stream.expect_beat()  # and none is published
        while stream.subscriptions < 2:
            assert stream.receive(30) == []
        assert log.hosts.publish(A, b"over the new connection") == 1
        assert stream.receive(10) == [b"over the new connection"]
    finally:
        stream.close()


def test_each_script_touches_keys_of_one_slot(server: Server, log: RedisLog) -> None:
    """In a cluster a script may only have keys of one slot: one hash tag."""
    calls: list[list[str]] = []
    with redis.Redis.from_url(server.url).monitor() as monitor:
        hosts = log.hosts
        hosts.join(HostRecord(A))
        hosts.beat(A, 0)
        hosts.set_state(A, "draining")
        hosts.take(ALICE, Owner(), A)
        author = Author(log, fence=f"1:{A}").fill(1)
        Author(log, f"{ALICE}/helper", fence=f"1:{A}").fill(1)
        hosts.claim(ALICE, Owner(1, A), head_of(log, ALICE), A, 1)
        hosts.release(ALICE, Owner(1, A))
        hosts.bury(A, 0)
        assert len(hosts.secret) == 32
        assert author.seq == 1
        server.client().echo("the end")
        for entry in monitor.listen():
            words = entry["command"].split(" ")
            if words[0] == "EVALSHA":
                calls.append(words[3 : 3 + int(words[2])])
            if words[0] == "ECHO":
                break
    tags = [{key[key.index("{") : key.index("}")] for key in keys} for keys in calls]
    assert all(len(found) == 1 for found in tags), tags
    owners = {tuple(keys) for keys in calls if any(key.endswith(":owners") for key in keys)}
    assert len(owners) == 4, "take and release, two creates, claim"
    assert len({tag for found in tags for tag in found}) == 2, "the namespace, and the partition"


def test_a_user_of_the_documented_rights_can_be_a_host(server: Server, log: RedisLog) -> None:
    rights = (
        "+evalsha +evalsha_ro +script|load +hmget +hset +hscan +hdel +llen +rpush +lrange +ltrim +set +get +exists "
        "+unlink +rename +zadd +zrange +zrem +zrank +publish +subscribe +unsubscribe +ping"
    )
    server.client().execute_command("ACL", "SETUSER", "few", *f"reset on nopass ~duramen:* &duramen:* {rights}".split())
    url = server.tcp_url.replace("redis://", "redis://few:any@")
    few = RedisLog(pool_of_url(url))
    try:
        stream = few.hosts.listen(A)
        stream.receive(10)
        few.hosts.join(HostRecord(A))
        assert few.hosts.beat(A, 0) == 1
        few.hosts.publish(A, b"a frame with its seal")
        assert stream.receive(10) == [b"a frame with its seal"]
        stream.close()
        assert few.hosts.take(ALICE, Owner(), A) == Owner(1, A)
        Author(few, fence=f"1:{A}").fill(1)
        assert few.hosts.claim(ALICE, Owner(1, A), head_of(few, ALICE), A, 1).claimed
        content = few.hosts.put_content(b"large", 60_000)
        assert few.hosts.get_content(content) == b"large"
        few.hosts.set_state(A, "closed")
        few.hosts.forget([A])
        assert few.hosts.hosts() == []
        server.client().execute_command("ACL", "SETUSER", "few", "-hscan")
        with pytest.raises(NotPermitted):
            few.hosts.hosts()
        server.client().execute_command("ACL", "SETUSER", "few", "-publish")
        few.hosts.join(HostRecord(B))
        with pytest.raises(NotPermitted):
            few.hosts.publish(B, b"x")
        heard = few.hosts.listen(B)
        heard.receive(10)
        eventually(lambda: few.hosts.beat(B, 0) is not None, 10)
        heard.close()
    finally:
        few.close()
