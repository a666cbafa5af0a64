"""Whatever happens to a subscription, its stream says "go and look" afterwards, and hears what comes next."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
import redis

import msgpack
from contracts.authors import Author
from contracts.feeds import CODEC, all_facts, body, places_of
from duramen.events.errors import Unavailable
from duramen.events.feed.reader import FeedReader
from duramen.events.log.event_log import EventLog
from duramen.events.log.keys import Keys
from duramen.events.log.notices import NoticeStream
from duramen.events.model.event import Granularity
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.client.requests import RedisClient
from duramen.events.redis.log import RedisLog
from duramen.events.redis.notices import RedisNotices
from faults.proxy import FaultProxy
from servers import Server, redis_server, valkey_server
from waiting import eventually

LONG = 20.0
"""More than anything here takes; nothing waits for it to pass."""
LIMIT = "client-output-buffer-limit"


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    start = valkey_server if request.param == "valkey" else redis_server
    with start(tcp=True, aof=True) as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.address) as running:
        yield running


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def namespace() -> str:
    return f"notices-{uuid4().hex}"


@pytest.fixture
def open_log(namespace: str, cleanup: ExitStack) -> Callable[..., RedisLog]:
    def open_one(url: str, **options: Any) -> RedisLog:
        log = RedisLog(pool_of_url(url), namespace=namespace, partitions=2, **options)
        cleanup.callback(log.close)
        return log

    return open_one


@pytest.fixture
def log(server: Server, open_log: Callable[..., RedisLog]) -> RedisLog:
    """Straight to the server: who writes has no trouble."""
    return open_log(server.url)


def followed(log: EventLog, cleanup: ExitStack) -> NoticeStream:
    """A stream that follows both partitions and is up to date."""
    stream = log.notices()
    cleanup.callback(stream.close)
    stream.follow({0, 1}, 4)
    looked(stream)
    return stream


def looked(stream: NoticeStream) -> None:
    """Wait until the stream has said of both partitions that one has to look."""
    until(stream, lambda hints: hints.get(0) == 0 and hints.get(1) == 0)


def until(stream: NoticeStream, enough: Callable[[dict[int, int]], bool]) -> None:
    """Receive until that is so of all hints together, of which 0 counts more than any position."""
    found: dict[int, int] = {}
    deadline = monotonic() + LONG
    while not enough(found):
        assert monotonic() < deadline, f"only {found} was heard"
        for partition, position in stream.receive(1.0).items():
            found[partition] = 0 if position == 0 else position


def heard(stream: NoticeStream, log: EventLog) -> None:
    """Write an event, and wait until the stream hints at it."""
    author = Author(log, f"acme/{uuid4().hex}")
    author.write(body(1), level=Granularity.LIFECYCLE)
    partition = log.partition_of(author.agent)
    end = log.positions()[partition]
    until(stream, lambda hints: hints.get(partition, -1) >= end)


def test_after_its_connection_was_killed_a_stream_says_look_and_hears_again(
    server: Server, log: RedisLog, cleanup: ExitStack
) -> None:
    stream = followed(log, cleanup)
    for _ in range(3):
        with server.client() as client:
            assert client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        looked(stream)
        heard(stream, log)


def test_a_stream_that_the_server_has_dropped_for_its_backlog_says_look(
    server: Server, log: RedisLog, namespace: str, cleanup: ExitStack
) -> None:
    stream = followed(log, cleanup)
    channel = Keys(namespace).channel(0, Granularity.STATE)
    with server.client() as client:
        client.config_set(LIMIT, "pubsub 1mb 1mb 60")
        # Small ones: a Valkey shares large messages among subscribers, and does not count them against any.
        payload: Any = msgpack.packb([0, 1, "x" * 1_000, 0, 4])
        lost = False
        for _ in range(20):  # nobody receives meanwhile
            pipeline = client.pipeline(transaction=False)
            for _ in range(500):
                pipeline.publish(channel, payload)
            lost = pipeline.execute()[-1] == 0
            if lost:
                break
        assert lost, "the server did not drop the subscriber"
        client.config_set(LIMIT, "pubsub 32mb 8mb 60")
    looked(stream)
    heard(stream, log)


def test_after_a_restart_of_the_server_a_stream_says_look_and_hears_again(
    server: Server, log: RedisLog, cleanup: ExitStack
) -> None:
    stream = followed(log, cleanup)
    heard(stream, log)
    server.kill9()
    assert stream.receive(0.1) == {}  # nothing to say, and nothing to raise
    server.start()
    looked(stream)
    heard(stream, log)


def test_a_stream_of_a_server_that_is_down_does_not_raise_and_ends_when_told(
    server: Server, log: RedisLog, cleanup: ExitStack
) -> None:
    stream = followed(log, cleanup)
    server.stop()
    assert stream.receive(0.3) == {}
    for end in (stream.wake, stream.close):
        found: list[dict[int, int]] = []
        thread = threading.Thread(target=lambda sink=found: sink.append(stream.receive(None)), daemon=True)
        thread.start()
        end()
        thread.join(LONG)
        assert found == [{}]


def test_the_server_is_revived_by_a_stream_that_finds_it_gone(
    server: Server, open_log: Callable[..., RedisLog], cleanup: ExitStack
) -> None:
    revived: list[bool] = []

    def ensure_server() -> None:
        if not revived:
            revived.append(True)
            raise Unavailable("not yet")
        if not server.running:
            server.start()

    log = open_log(server.url, ensure_server=ensure_server)
    stream = followed(log, cleanup)
    server.kill9()
    looked(stream)
    assert revived
    heard(stream, log)


def test_a_connection_that_is_silent_is_asked_and_then_replaced(
    server: Server, proxy: FaultProxy, open_log: Callable[..., RedisLog], log: RedisLog, cleanup: ExitStack
) -> None:
    behind = open_log(f"{proxy.url}?socket_timeout=2")
    stream = followed(behind, cleanup)
    connections = proxy.counts.connections
    # Alive, only quiet: it is asked, it answers, and stays.
    asked = proxy.counts.requests
    deadline = monotonic() + LONG
    while proxy.counts.requests < asked + 2:
        assert stream.receive(0.2) == {}
        assert monotonic() < deadline
    assert proxy.counts.connections == connections
    # Dead without a word: nothing closes, nothing comes.
    proxy.black_hole()
    while proxy.counts.connections == connections:
        assert stream.receive(0.2) == {}
        assert monotonic() < deadline
    proxy.release()
    looked(stream)
    heard(stream, log)


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply"])
def test_a_subscription_that_is_lost_on_its_way_is_made_again(
    server: Server,
    proxy: FaultProxy,
    open_log: Callable[..., RedisLog],
    log: RedisLog,
    cleanup: ExitStack,
    fault: str,
) -> None:
    behind = open_log(proxy.url)
    getattr(proxy, fault)(containing=b"subscribe", times=2)
    stream = followed(behind, cleanup)
    counts = proxy.counts
    assert counts.requests_dropped == (2 if fault == "drop_request" else 0)
    heard(stream, log)


def test_held_messages_are_hints_when_they_come(
    server: Server, proxy: FaultProxy, open_log: Callable[..., RedisLog], log: RedisLog, cleanup: ExitStack
) -> None:
    behind = open_log(proxy.url)
    stream = followed(behind, cleanup)
    connections = proxy.counts.connections
    proxy.black_hole()
    author = Author(log, "acme/alice")
    author.fill(3)
    assert stream.receive(0.2) == {}
    assert proxy.counts.connections == connections
    proxy.release()
    partition = log.partition_of(author.agent)
    until(stream, lambda hints: hints.get(partition) == 1)


def test_a_message_cut_in_the_middle_neither_blocks_nor_confuses(
    server: Server, proxy: FaultProxy, open_log: Callable[..., RedisLog], log: RedisLog, cleanup: ExitStack
) -> None:
    behind = open_log(proxy.url)
    stream = followed(behind, cleanup)
    inject(proxy, b"*3\r\n$7\r\nmessage\r\n$50\r\nduramen:")
    assert stream.receive(0.2) == {}
    stream.wake()
    assert stream.receive(None) == {}
    proxy.sever()
    looked(stream)
    heard(stream, log)


def test_an_unsubscribe_that_nobody_asked_for_means_look_and_is_undone(
    server: Server,
    proxy: FaultProxy,
    open_log: Callable[..., RedisLog],
    log: RedisLog,
    namespace: str,
    cleanup: ExitStack,
) -> None:
    behind = open_log(proxy.url)
    stream = followed(behind, cleanup)
    asked, connections = subscribes(server), proxy.counts.connections
    channel = Keys(namespace).channel(0, Granularity.STATE).encode()
    inject(proxy, b"*3\r\n$11\r\nunsubscribe\r\n$%d\r\n%b\r\n:7\r\n" % (len(channel), channel))
    until(stream, lambda hints: hints == {0: 0})
    until(stream, lambda hints: hints == {0: 0})  # and once more behind the new subscription
    assert subscribes(server) == asked + 1
    assert proxy.counts.connections == connections
    heard(stream, log)


def test_bytes_that_are_no_protocol_end_the_connection_and_a_new_one_is_made(
    server: Server, proxy: FaultProxy, open_log: Callable[..., RedisLog], log: RedisLog, cleanup: ExitStack
) -> None:
    behind = open_log(proxy.url)
    stream = followed(behind, cleanup)
    inject(proxy, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    looked(stream)
    heard(stream, log)


def subscribes(server: Server) -> int:
    """How often the server was asked for a subscription; a PING in between, of a stream that is quiet, is none."""
    with server.client() as client:
        found: Any = client.info("commandstats")
        return int(found["cmdstat_subscribe"]["calls"])


def inject(proxy: FaultProxy, data: bytes) -> None:
    """Say something to the subscriber in the server's name."""
    with proxy._changed:
        subscribers = [connection for connection in proxy._connections if connection.subscribed]
    assert len(subscribers) == 1
    subscribers[0].client.sendall(data)


# -- hostile messages ---------------------------------------------------------------------------------------------

GARBAGE = [
    b"",
    b"hello",
    b"\xc1",
    b"\x95",
    b"\x95\x01",
    b"\x95\xcf\xff",
    b"\x95\x05\x04\xc2\x04\x04",
    b"\x95\xff\x01\xc2\x00\x04",
    b"\x93\x00\x01\xc2",
    b"\xdd\xff\xff\xff\xff",
    b"\x95\xcb" + bytes(8) + b"\x01",
    b"\x95\x00\xa9999999999\xc2",
    bytes(100_000),
]


def test_messages_that_mean_nothing_are_counted_and_cause_next_to_no_work(
    server: Server, log: RedisLog, namespace: str, cleanup: ExitStack
) -> None:
    stream = followed(log, cleanup)
    channel = Keys(namespace).channel(1, Granularity.TRACE)
    rounds = 200
    with server.client() as client:
        for _ in range(rounds):
            for payload in GARBAGE:
                assert client.publish(channel, payload) == 1
    received = 0
    deadline = monotonic() + LONG
    began = monotonic()
    while stream.unexpected < rounds * len(GARBAGE):
        assert monotonic() < deadline
        found = stream.receive(0.2)
        assert found in ({}, {1: 0})
        received += bool(found)
    assert received <= monotonic() - began + 1  # one look a second at most
    heard(stream, log)


def test_a_message_of_many_megabytes_is_not_kept_in_memory(
    server: Server, log: RedisLog, namespace: str, cleanup: ExitStack
) -> None:
    stream = followed(log, cleanup)
    channel = Keys(namespace).channel(1, Granularity.TRACE)
    payload = b"\x95\x00\x07" + bytes(24 * 1024 * 1024)
    with server.client() as client:
        assert client.publish(channel, payload) == 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        until(stream, lambda hints: hints.get(1) == 7)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    heard(stream, log)
    assert grown < 8 * 1024


def test_lying_messages_change_nothing_that_is_read(
    server: Server, log: RedisLog, namespace: str, cleanup: ExitStack
) -> None:
    author, other = Author(log, "acme/alice"), Author(log, "acme/bob")
    author.write(body(1))
    partition = log.partition_of(author.agent)
    stream = followed(log, cleanup)
    channel = Keys(namespace).channel(partition, Granularity.STATE)
    forged = author.append(body(666)).items[0]
    lies: list[Any] = [
        [0, 2**60, False, 0, 4],
        [1, 2, [[author.agent, 2, [forged]]], 1, 4],
        [0, 1, [[other.agent, 1, [forged]]], 0, 4],
        [0, 1, [[author.agent, 2**62, [b""]]], 0, 4],
    ]
    with server.client() as client:
        for lie in lies:
            packed: Any = msgpack.packb(lie)
            assert client.publish(channel, packed) == 1
    until(stream, lambda hints: hints.get(partition) == 2**60)
    reader = FeedReader(log, CODEC, partition)
    assert places_of(all_facts(reader)) == [(author.agent, 1)]
    assert reader.mark.position == 1
    author.write(body(2))
    assert [fact.raw[4]["number"] for fact in reader.read(10)] == [2]


# -- who may not ---------------------------------------------------------------------------------------------------


def test_a_user_that_may_not_subscribe_gets_no_hints_and_no_error(
    server: Server, namespace: str, open_log: Callable[..., RedisLog], log: RedisLog, cleanup: ExitStack
) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "resetchannels", "+@all")
    host, port = server.address
    deaf = open_log(f"redis://deaf:pw@{host}:{port}")
    stream = deaf.notices()
    cleanup.callback(stream.close)
    stream.follow({0, 1}, 4)
    assert stream.receive(0.3) == {}
    assert stream.unexpected == 0
    with server.client() as client:
        kinds = [line for line in client.execute_command("CLIENT", "LIST") if "user=deaf" in str(line)]
        assert len(kinds) <= 2  # it does not try again and again


def test_a_server_that_refuses_to_answer_is_not_silent(
    server: Server, open_log: Callable[..., RedisLog], log: RedisLog, cleanup: ExitStack
) -> None:
    host, port = server.address
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "mute", "on", ">pw", "~*", "&*", "+@all", "-ping")

        def subscriber() -> tuple[str, ...]:
            return tuple(one["id"] for one in client.client_list(_type="pubsub"))

        stream = followed(open_log(f"redis://mute:pw@{host}:{port}"), cleanup)
        before = subscriber()
        deadline = monotonic() + LONG
        refused: Any = {}
        while refused.get("cmdstat_ping", {}).get("rejected_calls", 0) < 2:
            assert stream.receive(0.2) == {}
            assert monotonic() < deadline
            refused = client.info("commandstats")
        assert subscriber() == before
    heard(stream, log)


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_versions_of_the_protocol_are_understood(
    server: Server, namespace: str, log: RedisLog, cleanup: ExitStack, protocol: int
) -> None:
    pool = redis.ConnectionPool.from_url(server.tcp_url, protocol=protocol)
    cleanup.callback(pool.disconnect)
    stream = RedisNotices(RedisClient(pool), Keys(namespace))
    cleanup.callback(stream.close)
    stream.follow({0, 1}, 4)
    looked(stream)
    heard(stream, log)
    with server.client() as client:
        assert client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
    looked(stream)
    heard(stream, log)
    eventually(lambda: stream.receive(0.3) == {}, what="quiet")
