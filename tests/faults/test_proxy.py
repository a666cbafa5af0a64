from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from faults.proxy import FaultProxy
from servers import Server, valkey_server

KEY = "log"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with valkey_server(tcp=True) as running:
        yield running


@pytest.fixture
def direct(server: Server) -> Iterator[redis.Redis]:
    with server.client(decode_responses=True) as client:
        client.delete(KEY)
        yield client


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.socket_path) as running:
        yield running


def client_without_retries(proxy: FaultProxy, **options: Any) -> redis.Redis:
    return redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0), decode_responses=True, **options)


def test_without_a_fault_everything_passes(proxy: FaultProxy, direct: redis.Redis) -> None:
    with client_without_retries(proxy) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(100):
            pipeline.rpush(KEY, f"{number}\r\n*1\r\n$4\r\nPING\r\n")
        pipeline.hset("hash", mapping={"a": "1"})
        pipeline.hgetall("hash")
        answers = pipeline.execute()
        assert answers[99] == 100
        assert answers[-1] == {"a": "1"}
        assert client.get("nothing") is None
        with pytest.raises(redis.ResponseError):
            client.incr(KEY)
    assert direct.llen(KEY) == 100
    assert proxy.counts.requests_dropped == proxy.counts.replies_dropped == 0


def test_the_target_may_be_a_tcp_port(server: Server, direct: redis.Redis) -> None:
    with FaultProxy(server.address) as proxy, client_without_retries(proxy) as client:
        client.rpush(KEY, "a")
    assert direct.lrange(KEY, 0, -1) == ["a"]


@pytest.mark.parametrize("protocol", [2, 3])
def test_notifications_pass_and_are_not_taken_for_replies(
    proxy: FaultProxy, direct: redis.Redis, protocol: int
) -> None:
    with client_without_retries(proxy, protocol=protocol) as client, client.pubsub() as subscription:
        subscription.subscribe("channel")
        assert subscription.get_message(timeout=30) is not None
        direct.publish("channel", "hello")
        message = subscription.get_message(timeout=30)
    assert message is not None
    assert message["data"] == "hello"


def test_a_dropped_request_never_reaches_the_server(proxy: FaultProxy, direct: redis.Redis) -> None:
    proxy.drop_request(containing=b"RPUSH")
    with client_without_retries(proxy) as client:
        with pytest.raises(redis.ConnectionError):
            client.rpush(KEY, "a")
        assert direct.llen(KEY) == 0
        assert client.rpush(KEY, "b") == 1
    assert proxy.counts.requests_dropped == 1


def test_a_dropped_reply_is_one_of_a_command_that_ran(proxy: FaultProxy, direct: redis.Redis) -> None:
    proxy.drop_reply(containing=b"rpush")
    with client_without_retries(proxy) as client:
        with pytest.raises(redis.ConnectionError):
            client.rpush(KEY, "a")
        assert direct.lrange(KEY, 0, -1) == ["a"]
        assert client.rpush(KEY, "b") == 2
    assert proxy.counts.replies_dropped == 1


def test_the_nth_request_that_fits_is_struck_and_no_other(proxy: FaultProxy, direct: redis.Redis) -> None:
    proxy.drop_request(3, containing=b"RPUSH")
    with client_without_retries(proxy) as client:
        for value in ("a", "b"):
            client.rpush(KEY, value)
            client.ping()
        with pytest.raises(redis.ConnectionError):
            client.rpush(KEY, "c")
        client.rpush(KEY, "d")
    assert direct.lrange(KEY, 0, -1) == ["a", "b", "d"]


def test_a_reply_in_the_middle_of_a_pipeline_can_be_lost(proxy: FaultProxy, direct: redis.Redis) -> None:
    proxy.drop_reply(2, containing=b"RPUSH")
    with client_without_retries(proxy) as client:
        pipeline = client.pipeline(transaction=False)
        for value in ("a", "b"):
            pipeline.rpush(KEY, value)
        with pytest.raises(redis.ConnectionError):
            pipeline.execute()
    assert direct.lrange(KEY, 0, -1) == ["a", "b"]
    assert proxy.counts.replies_dropped == 1


@pytest.mark.parametrize(("lost", "copies"), [(1, 2), (3, 4)])
def test_a_bare_push_is_stored_more_than_once_when_replies_are_lost(
    proxy: FaultProxy, direct: redis.Redis, lost: int, copies: int
) -> None:
    """The negative control of everything that is said about appending: redis-py's defaults duplicate."""
    proxy.drop_reply(containing=b"RPUSH", times=lost)
    host, port = proxy.address
    with redis.Redis(host, port) as client:
        assert client.rpush(KEY, "once") == copies
    assert direct.lrange(KEY, 0, -1) == ["once"] * copies
    assert proxy.counts.replies_dropped == lost


def test_a_bare_push_is_stored_twice_when_its_reply_is_late(proxy: FaultProxy, direct: redis.Redis) -> None:
    proxy.hold_replies(containing=b"RPUSH")
    host, port = proxy.address
    with ThreadPoolExecutor(1) as pool, redis.Redis(host, port, socket_timeout=0.5) as client:
        pushed = pool.submit(client.rpush, KEY, "once")
        proxy.wait_until(lambda counts: counts.replies_held >= 2)
        proxy.release()
        pushed.result(10)
    assert set(direct.lrange(KEY, 0, -1)) == {"once"}
    assert direct.llen(KEY) >= 2


def test_a_held_reply_arrives_when_it_is_released(proxy: FaultProxy, direct: redis.Redis) -> None:
    proxy.hold_replies(containing=b"RPUSH")
    with ThreadPoolExecutor(1) as pool, client_without_retries(proxy) as client:
        pushed = pool.submit(client.rpush, KEY, "a")
        proxy.wait_until(lambda counts: counts.replies_held == 1)
        assert direct.llen(KEY) == 1
        assert not pushed.done()
        proxy.release()
        assert pushed.result(10) == 1


def test_a_client_gives_up_on_a_held_reply_after_its_time_out(proxy: FaultProxy, direct: redis.Redis) -> None:
    proxy.hold_replies(containing=b"RPUSH")
    # A second, and no less: within it the connection has to be made, and the request to reach the server.
    with client_without_retries(proxy, socket_timeout=1) as client, pytest.raises(redis.TimeoutError):
        client.rpush(KEY, "a")
    with client_without_retries(proxy) as other:
        assert other.ping()
    assert direct.llen(KEY) == 1


def test_nothing_passes_a_black_hole_until_it_is_released(proxy: FaultProxy, direct: redis.Redis) -> None:
    with client_without_retries(proxy) as client, ThreadPoolExecutor(1) as pool:
        client.ping()
        passed = proxy.counts
        proxy.black_hole()
        pushed = pool.submit(client.rpush, KEY, "a")
        swallowed = proxy.wait_until(lambda counts: counts.requests_swallowed == 1)
        assert (swallowed.requests, swallowed.replies) == (passed.requests, passed.replies)
        assert direct.llen(KEY) == 0
        assert not pushed.done()
        proxy.release()
        assert pushed.result(10) == 1


def test_severed_connections_are_closed_and_new_ones_are_taken(proxy: FaultProxy, direct: redis.Redis) -> None:
    with client_without_retries(proxy, single_connection_client=True) as client:
        client.ping()
        proxy.sever()
        with pytest.raises(redis.ConnectionError):
            client.rpush(KEY, "a")
        client.rpush(KEY, "b")
    assert proxy.counts.connections == 2
    assert direct.lrange(KEY, 0, -1) == ["b"]


def test_waiting_for_what_does_not_happen_ends_with_an_error(proxy: FaultProxy) -> None:
    with pytest.raises(AssertionError, match="replies_dropped=0"):
        proxy.wait_until(lambda counts: counts.replies_dropped == 1, timeout=0.05)


def test_what_is_published_to_a_subscriber_is_held_with_the_answer_to_its_subscription(
    server: Server, proxy: FaultProxy
) -> None:
    proxy.hold_replies(containing=b"SUBSCRIBE")
    with client_without_retries(proxy) as client, server.client() as publisher:
        subscriber = client.pubsub()
        subscriber.subscribe("news")
        proxy.wait_until(lambda counts: counts.replies_held == 1)
        assert client.ping(), "control: other connections are served"
        publisher.publish("news", b"something")
        assert subscriber.get_message(timeout=0.2) is None
        proxy.release()
        assert [subscriber.get_message(timeout=10)["type"] for _ in range(2)] == ["subscribe", "message"]
        subscriber.close()


def test_closing_leaves_no_thread_whatever_is_held(server: Server) -> None:
    before = set(threading.enumerate())
    with FaultProxy(server.socket_path) as proxy, ThreadPoolExecutor(2) as pool:
        proxy.hold_replies(containing=b"HELD")
        held = pool.submit(redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)).get, "held")
        proxy.wait_until(lambda counts: counts.replies_held == 1)
        proxy.black_hole()
        swallowed = pool.submit(redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)).get, "dark")
        proxy.wait_until(lambda counts: counts.requests_swallowed == 1)
        proxy.close()
        for waiting in (held, swallowed):
            with pytest.raises(redis.ConnectionError):
                waiting.result(10)
        assert {thread for thread in threading.enumerate() if thread.name == "duramen-fault-proxy"} <= before


def test_a_server_that_is_gone_closes_the_clients_connection() -> None:
    with (
        valkey_server() as server,
        FaultProxy(server.socket_path) as proxy,
        client_without_retries(proxy) as client,
    ):
        client.ping()
        server.kill9()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert client.ping()
