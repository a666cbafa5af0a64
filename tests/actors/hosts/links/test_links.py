"""Links over a real store: rows arrive once and in order, strangers' messages do nothing, and closing is bounded."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from duramen.actors.hosts.links import FRAME_BYTES, Links
from duramen.events import MailboxFull, SystemClosed, Unavailable, ValueRefused
from duramen.events.log import HostStore
from linked_hosts import LinkedHost, store_of
from servers import valkey_server
from waiting import eventually


@pytest.fixture(params=["memory", "valkey", "redis"])
def store(request: pytest.FixtureRequest) -> HostStore:
    url = "memory://" if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    return store_of(url)


def test_rows_arrive_once_and_in_order_both_ways(store: HostStore) -> None:
    with LinkedHost(store) as a, LinkedHost(store) as b:
        for number in range(500):
            a.send(b, ["to b", number])
            b.send(a, ["to a", number])
        assert b.wait_for(500) == [["to b", number] for number in range(500)]
        assert a.wait_for(500) == [["to a", number] for number in range(500)]
        assert a.links.wait_until_heard(10.0) and b.links.wait_until_heard(10.0)


def test_rows_of_many_threads_arrive_in_the_order_of_each(store: HostStore) -> None:
    with LinkedHost(store) as a, LinkedHost(store) as b:
        threads = [
            threading.Thread(target=lambda name=name: [a.send(b, [name, number]) for number in range(200)])
            for name in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = b.wait_for(1600)
    for name in range(8):
        assert [number for sender, number in rows if sender == name] == list(range(200))


def test_a_row_larger_than_a_frame_keeps_its_place(store: HostStore) -> None:
    large = ["x" * (3 * FRAME_BYTES)]
    with LinkedHost(store) as a, LinkedHost(store) as b:
        a.send(b, ["before"], large, ["after"])
        assert b.wait_for(3) == [["before"], large, ["after"]]
        a.send(b, large, large)
        assert b.wait_for(5)[3:] == [large, large]


def test_a_row_that_is_no_plain_data_is_refused_and_disturbs_nothing(store: HostStore) -> None:
    with LinkedHost(store) as a, LinkedHost(store) as b:
        with pytest.raises(ValueRefused):
            a.links.add(b.host, [object()])
        a.send(b, ["good"])
        assert b.wait_for(1) == [["good"]]


def test_a_delivery_that_raises_keeps_nothing_later_from_arriving(store: HostStore) -> None:
    raised = threading.Event()

    def answer(host: LinkedHost, peer: str, row: list[Any]) -> None:
        if row == ["bad"]:
            raised.set()
            raise RuntimeError("a defect")

    with LinkedHost(store) as a, LinkedHost(store, answer=answer) as b:
        a.send(b, ["bad"])
        assert raised.wait(60)
        a.send(b, ["good"])
        assert b.wait_for(1) == [["good"]]


def test_a_forgotten_host_can_neither_send_nor_be_sent_to(store: HostStore) -> None:
    with LinkedHost(store) as a, LinkedHost(store) as b, LinkedHost(store) as c:
        a.send(b, [1])
        b.wait_for(1)
        b.links.forget(a.host)
        with pytest.raises(Unavailable, match="has ended"):
            b.send(a, [2])
        a.send(b, [3])
        c.send(b, ["from c"])
        assert b.wait_for(2) == [[1], ["from c"]]
        eventually(lambda: b.links.counters.get("forgotten"))


@pytest.mark.slow
def test_sending_to_a_host_that_never_reads_ends_with_mailbox_full(store: HostStore) -> None:
    with LinkedHost(store) as a, pytest.raises(MailboxFull):
        for _ in range(20_000):  # the window takes about a thousand of them, the queue ten thousand
            a.links.add("0" * 32, ["x" * 1_000])
            a.links.flush()


def test_closed_links_refuse_rows_and_leave_no_thread(store: HostStore) -> None:
    before = set(threading.enumerate())
    with LinkedHost(store) as a, LinkedHost(store) as b:
        b.links.close(10.0)
        b.links.close(10.0)
        with pytest.raises(SystemClosed):
            b.send(a, [1])
    left = set(threading.enumerate()) - before
    assert not [thread.name for thread in left if thread.name == "duramen-links"]


def test_what_is_queued_is_sent_before_links_close(store: HostStore) -> None:
    with LinkedHost(store) as b:
        with LinkedHost(store) as a:
            a.links.add(b.host, ["last"])
        assert b.wait_for(1) == [["last"]]


def test_links_that_were_never_started_can_be_closed(store: HostStore) -> None:
    Links("0" * 32, store, 1, print).close(1.0)


def test_a_forked_child_cannot_use_the_links_of_its_parent(valkey_url: str) -> None:
    with LinkedHost(store_of(valkey_url)) as a, LinkedHost(store_of(valkey_url)) as b:
        a.send(b, ["before"])
        b.wait_for(1)
        child = os.fork()
        if not child:
            status = 1
            try:
                a.links.add(b.host, ["from the child"])
            except SystemClosed:
                a.links.flush()
                a.links.close(1.0)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        a.send(b, ["after"])
        assert b.wait_for(2) == [["before"], ["after"]]
        b.send(a, ["back"])
        assert a.wait_for(1) == [["back"]]


def test_closing_does_not_wait_for_a_server_that_hangs() -> None:
    with valkey_server() as server:
        # Whoever waits for this server waits for an hour.
        with LinkedHost(store_of(f"{server.url}?socket_timeout=3600")) as a:
            a.send(a, ["connects the publisher"])
            server.pause()
            a.links.add("0" * 32, ["cannot be sent"])
            closing = threading.Thread(target=a.links.close, args=(0.5,))
            closing.start()
            closing.join(60)
            is_closed = not closing.is_alive()
            server.resume()
        assert is_closed


@pytest.fixture(params=["valkey", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


class Outsider:
    """Somebody who may subscribe and publish, and does not know the key."""

    def __init__(self, url: str, host: str) -> None:
        import redis

        self._client = redis.Redis.from_url(url)
        self.channel = f"duramen:{{default:h:{host}}}:in"
        self._stream = self._client.pubsub(ignore_subscribe_messages=True)
        self._stream.subscribe(self.channel)
        eventually(lambda: self._client.pubsub_numsub(self.channel)[0][1] == 2, what="both listen")

    def overhear(self) -> bytes:
        return bytes(eventually(lambda: self._stream.get_message(timeout=0.1), what="a message")["data"])

    def publish(self, *messages: bytes) -> None:
        for message in messages:
            self._client.publish(self.channel, message)

    def close(self) -> None:
        self._stream.close()
        self._client.close()


def test_what_an_outsider_publishes_does_nothing_and_is_counted(url: str) -> None:
    with LinkedHost(store_of(url)) as a, LinkedHost(store_of(url)) as b:
        outsider = Outsider(url, b.host)
        a.send(b, ["one"])
        frame = outsider.overhear()
        b.wait_for(1)
        changed = frame.replace(b"one", b"two")
        truncated = frame[:-1]
        zeros, noise = frame[:-16] + bytes(16), os.urandom(1000)
        outsider.publish(frame, frame, changed, truncated, zeros, b"\x96 is no frame", noise)
        a.send(b, ["last"])
        assert b.wait_for(2) == [["one"], ["last"]]
        outsider.close()
        assert b.links.counters["repeated"] == 2
        assert b.links.counters["forged"] >= 3
        assert sum(b.links.counters.values()) == 7


@pytest.mark.slow
def test_what_was_heard_told_again_by_an_outsider_disturbs_nothing(url: str) -> None:
    with LinkedHost(store_of(url)) as a, LinkedHost(store_of(url)) as b:
        outsider = Outsider(url, a.host)
        a.send(b, [0])
        b.wait_for(1)
        heard = outsider.overhear()
        for number in range(1, 200):
            a.send(b, [number])
            outsider.publish(heard, heard)
        assert b.wait_for(200) == [[number] for number in range(200)]
        outsider.close()
        assert a.links.wait_until_heard(10.0) and not b.links.counters
