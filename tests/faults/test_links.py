"""Rows between hosts arrive once and in order while connections, subscriptions and servers break under them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from duramen.events import MailboxFull
from faults.proxy import FaultProxy
from linked_hosts import LinkedHost, store_of
from servers import Server

_ROWS = 3_000


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind: Literal["valkey", "redis"] = request.param
    with Server(kind=kind, tcp=True, aof=True).start() as running:
        yield running


@contextmanager
def exchange(a: LinkedHost, b: LinkedHost) -> Iterator[None]:
    """Let both hosts send to one another all the while; then compare what has arrived."""
    ended = threading.Event()
    sent: dict[str, int] = {}

    def send_all(host: LinkedHost, peer: LinkedHost) -> None:
        number = 0
        while not ended.is_set() or number < _ROWS:
            try:
                host.send(peer, ["row", number])
                number += 1
            except MailboxFull:
                ended.wait(0.01)
            if number % 20 == 0:
                ended.wait(0.001)
        sent[host.host] = number

    threads = [threading.Thread(target=send_all, args=pair) for pair in ((a, b), (b, a))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    for host, peer in ((a, b), (b, a)):
        count = sent[peer.host]
        assert host.wait_for(count) == [["row", number] for number in range(count)]
    assert a.links.wait_until_heard(30.0) and b.links.wait_until_heard(30.0)


def pass_some_rows(host: LinkedHost) -> None:
    host.wait_for(len(host.rows) + 200)


def wait_for_more(proxy: FaultProxy, name: str, before: int) -> None:
    """Wait until a count of the proxy's has grown: rows may also come from what is under way since before."""
    proxy.wait_until(lambda counts: getattr(counts, name) > before, 60.0)


def test_killed_subscriptions_lose_and_repeat_no_row(server: Server) -> None:
    with LinkedHost(store_of(server.url)) as a, LinkedHost(store_of(server.url)) as b, exchange(a, b):
        killed = 0
        for _ in range(10):
            pass_some_rows(b)
            killed += server.client().client_kill_filter(_type="pubsub")
        assert killed >= 10


def test_killed_publishers_lose_and_repeat_no_row(server: Server) -> None:
    with LinkedHost(store_of(server.url)) as a, LinkedHost(store_of(server.url)) as b, exchange(a, b):
        killed = 0
        for _ in range(10):
            pass_some_rows(b)
            killed += server.client().client_kill_filter(_type="normal", skipme=True)
        assert killed >= 10


def test_a_server_that_stands_still_loses_and_repeats_no_row(server: Server) -> None:
    with LinkedHost(store_of(server.url)) as a, LinkedHost(store_of(server.url)) as b, exchange(a, b):
        for _ in range(3):
            pass_some_rows(b)
            server.pause()
            with pytest.raises(AssertionError):
                b.wait_for(len(b.rows) + 100_000, timeout=0.3)
            server.resume()
        pass_some_rows(b)


def test_a_server_that_is_killed_and_started_again_loses_and_repeats_no_row(server: Server) -> None:
    with LinkedHost(store_of(server.url)) as a, LinkedHost(store_of(server.url)) as b, exchange(a, b):
        for _ in range(3):
            pass_some_rows(b)
            server.kill9()
            server.start()
        pass_some_rows(b)


def test_severed_connections_lose_and_repeat_no_row(server: Server) -> None:
    with (
        FaultProxy(server.address) as proxy,
        LinkedHost(store_of(server.url)) as a,
        LinkedHost(store_of(proxy.url)) as b,
        exchange(a, b),
    ):
        connections = proxy.counts.connections
        for _ in range(10):
            pass_some_rows(b)
            before = proxy.counts.connections
            proxy.sever()
            wait_for_more(proxy, "connections", before)
        pass_some_rows(b)
        assert proxy.counts.connections >= connections + 10


def test_publishes_that_were_carried_out_but_not_answered_repeat_no_row(server: Server) -> None:
    with (
        FaultProxy(server.address) as proxy,
        LinkedHost(store_of(server.url)) as a,
        LinkedHost(store_of(proxy.url)) as b,
        exchange(a, b),
    ):
        for dropped in range(5):
            pass_some_rows(a)
            proxy.drop_reply(containing=b"PUBLISH")
            wait_for_more(proxy, "replies_dropped", dropped)
            pass_some_rows(a)
            proxy.drop_request(containing=b"PUBLISH")
            wait_for_more(proxy, "requests_dropped", dropped)
        pass_some_rows(a)


def test_a_subscriber_cut_off_for_its_full_buffer_loses_and_repeats_no_row(server: Server) -> None:
    client = server.client()
    client.config_set("client-output-buffer-limit", "pubsub 100000 0 0")
    blocked, goes_on = threading.Event(), threading.Event()

    def stand_still(host: LinkedHost, peer: str, row: Any) -> None:
        if not goes_on.is_set():
            blocked.set()
            assert goes_on.wait(60.0)

    text = "x" * 10_000
    with LinkedHost(store_of(server.url)) as a, LinkedHost(store_of(server.url), answer=stand_still) as b:
        a.send(b, [0, text])
        assert blocked.wait(60.0)
        channel = f"duramen:{{default:h:{b.host}}}:in"
        number = 0
        while client.pubsub_numsub(channel)[0][1]:
            number += 1
            a.send(b, [number, text])
            assert number < 5_000
            if number % 100 == 0:  # what strangers publish fills the buffer, too
                client.publish(channel, b"x" * 90_000)
        goes_on.set()
        assert b.wait_for(number + 1) == [[one, text] for one in range(number + 1)]


def test_two_processes_exchange_20_000_rows_each_way(server: Server) -> None:
    rows = 20_000
    with started(server.url, rows) as one, started(server.url, rows) as two:
        names = [process.stdout.readline().strip() for process in (one, two)]
        for process, peer in ((one, names[1]), (two, names[0])):
            process.stdin.write(peer + "\n")
            process.stdin.flush()
        for process in (one, two):
            count, in_place, dropped = json.loads(process.stdout.readline())
            assert (count, in_place, dropped) == (rows, True, {})


@contextmanager
def started(url: str, rows: int) -> Iterator[Any]:
    program = Path(__file__).with_name("linked_process.py")
    tests = str(program.parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-P", str(program), url, str(rows)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": tests},
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60.0) == 0
