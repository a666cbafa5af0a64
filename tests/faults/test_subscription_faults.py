"""Subscriptions over a network and servers that misbehave: each still gets its exact suffix, or is told why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

import msgpack
from duramen.actors import AgentHandle, AgentSystem
from duramen.events import Cursor, DataLoss, Diverged, Granularity, Limits, SystemClosed
from duramen.events.codec.event_codec import Codec, chain
from duramen.events.log.event_log import EventLog
from duramen.events.log.keys import Keys
from duramen.projections import Change, Subscription
from faults.backups import copied, restored
from faults.proxy import FaultProxy
from following import LastSeqs
from servers import Server, redis_server, valkey_server
from takeover import give_up
from waiting import eventually

AGENT = "acme/alice"
SECONDS = 20.0


class Gathered:
    """A callback that keeps seqs, and complains at once about one that is not the next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.seqs: list[int] = []

    def __call__(self, change: Change) -> None:
        with self._changed:
            self.seqs.append(change.seq)
            self._changed.notify_all()

    def wait_until(self, seq: int) -> None:
        with self._changed:
            there = self._changed.wait_for(lambda: self.seqs and self.seqs[-1] >= seq, SECONDS)
            assert there, f"waited for {seq}, the last is {self.seqs[-1:]}"

    def is_exactly(self, first: int, last: int) -> bool:
        return self.seqs == list(range(first, last + 1))


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    start = valkey_server if request.param == "valkey" else redis_server
    with start(aof=True, tcp=True) as running:
        yield running


@pytest.fixture
def namespace() -> str:
    return f"t{uuid4().hex}"


@pytest.fixture
def writer(server: Server, namespace: str) -> Iterator[AgentHandle]:
    """An agent in a system of its own, as in another process."""
    with AgentSystem.open(server.url, namespace=namespace) as system:
        yield system.spawn(AGENT)


@pytest.fixture
def reader(server: Server, namespace: str, writer: AgentHandle) -> Iterator[AgentSystem]:
    with AgentSystem.open(server.url, namespace=namespace) as system:
        yield system


def streamed(agent: AgentHandle, rounds: int, each: Callable[[int], None]) -> int:
    """Write batches of ten, with something happening after each; the last seq."""
    last = 0
    for number in range(rounds):
        with agent.batch() as batch:
            for item in range(10):
                batch.set(f"k{item}", number)
        each(number)
        last = agent.set("n", number).seq
    return last


# -- the connection ----------------------------------------------------------------------------------------------------


def test_subscribers_that_are_killed_in_the_middle_of_a_stream_miss_nothing(
    server: Server, writer: AgentHandle, reader: AgentSystem
) -> None:
    seen, values = Gathered(), Gathered()
    killed: list[int] = []
    with reader.subscribe("acme/**", seen), reader.subscribe("acme/**", values, values=True), server.client() as client:
        last = streamed(writer, 40, lambda _: killed.append(client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")))
        seen.wait_until(last)
        values.wait_until(last)
    assert sum(killed) > 0, "nobody was killed"
    assert seen.is_exactly(2, last)
    assert values.is_exactly(2, last)


def test_a_subscriber_whose_server_restarts_goes_on(server: Server, writer: AgentHandle, reader: AgentSystem) -> None:
    seen = Gathered()
    with reader.subscribe("acme/**", seen) as subscription:
        before = writer.set("n", 1).seq
        seen.wait_until(before)
        server.kill9()
        server.start()
        last = streamed(writer, 3, lambda _: None)
        seen.wait_until(last)
        assert seen.is_exactly(2, last)
        assert subscription.error is None


def test_a_subscription_that_has_gone_silent_is_noticed(server: Server, namespace: str, writer: AgentHandle) -> None:
    """The proxy holds what is published, and closes nothing: for the client, nothing seems to happen."""
    with FaultProxy(server.address) as proxy:
        seen = Gathered()
        with AgentSystem.open(proxy.url, namespace=namespace) as system, system.subscribe("acme/**", seen):
            seen.wait_until(writer.set("n", 1).seq)
            proxy.hold_replies(containing=b"SUBSCRIBE")
            proxy.sever()
            proxy.wait_until(lambda counts: counts.replies_held == 1)
            last = writer.set("n", 2).seq
            seen.wait_until(last)
            assert seen.is_exactly(2, last)
            proxy.release()


class Deaf:
    """A log whose notices never arrive."""

    def __init__(self, log: EventLog) -> None:
        self._inner = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def notices(self, *, events: bool = False) -> Any:
        stream = self._inner.notices(events=events)
        hear = stream.receive

        class Stream:
            unexpected = received = 0
            follow, wake, close = stream.follow, stream.wake, stream.close

            def receive(self, timeout: float | None) -> dict[int, int]:
                hear(timeout)
                return {}

            def take_notices(self) -> list[Any]:
                return []

        return Stream()


def test_the_last_event_is_found_though_its_message_was_lost_and_no_other_follows(
    reader: AgentSystem, writer: AgentHandle
) -> None:
    with AgentSystem.open(log=Deaf(reader.log)) as system:  # type: ignore[arg-type]
        seen = Gathered()
        with system.subscribe("acme/**", seen):
            seen.wait_until(writer.set("n", 1).seq)
            assert seen.is_exactly(2, 2)


def test_hostile_messages_change_nothing_and_are_counted(
    server: Server, namespace: str, writer: AgentHandle, reader: AgentSystem
) -> None:
    keys, seen = Keys(namespace), Gathered()
    partition = reader.log.partition_of(AGENT)
    channel = keys.channel(partition, Granularity.STATE)
    with reader.subscribe("acme/**", seen), server.client() as client:
        with client.pubsub() as spy:
            spy.subscribe(channel)
            assert spy.get_message(timeout=10) is not None
            seen.wait_until(writer.set("n", 1).seq)
            replayed = spy.get_message(timeout=10, ignore_subscribe_messages=True)
            assert replayed is not None
        junk = [
            b"",
            b"garbage",
            b"\xc1",
            b"\x95\x01\xcf" + b"\xff" * 8 + b"\xc0",
            b"\x95\xff\xff\xc0",
            b"x" * 1_000_000,
        ]
        for message in [*junk, replayed["data"], *junk, replayed["data"]]:
            client.publish(channel, message)
        last = writer.set("n", 2).seq
        seen.wait_until(last)
        assert seen.is_exactly(2, last)
        eventually(lambda: reader.sharing_status().strange_messages > 0)


def forged(log: EventLog, agent: str, previous: bytes, *, seq: int, number: int) -> bytes:
    """A message as the append of one more event would make it, with the digest that continues `previous`."""
    end = log.positions()[log.partition_of(agent)]
    data = {"path": "n", "value": number}
    body = Codec(Limits()).pack(["memory_set", 1, int(Granularity.STATE), 0, data, *[None] * 5])
    row = [agent, seq, [chain(previous, body) + body]]
    message: Any = msgpack.packb([end, end + 1, [row], end, 1 << Granularity.STATE], use_bin_type=False)
    return message


def is_published(client: Any, channel: str, message: bytes) -> bool:
    return client.publish(channel, message) == 1


def has_met(system: AgentSystem, strange: int) -> bool:
    return system.sharing_status().strange_messages >= strange


def test_messages_that_claim_to_be_the_next_and_are_not_change_nothing_and_are_counted(
    server: Server, namespace: str, writer: AgentHandle, reader: AgentSystem
) -> None:
    """Of the right form and at the right place, they lack what only a reader knows."""
    log, seen = reader.log, Gathered()
    channel = Keys(namespace).channel(log.partition_of(AGENT), Granularity.STATE)
    with reader.subscribe("acme/**", seen) as subscription, server.client() as client:
        last = writer.set("n", 1).seq
        seen.wait_until(last)
        head = log.head(AGENT)
        assert head is not None
        lies = [
            (AGENT, bytes(16), last + 1),
            (AGENT, head.digest, last + 1_000_000),
            (AGENT, head.digest, last),
            ("acme/nobody", bytes(16), 1),
            ("acme/nobody", head.digest, 2),
        ]
        for round_, (agent, previous, seq) in enumerate(lies, 1):
            eventually(lambda: subscription.lag == 0)
            lie = forged(log, agent, previous, seq=seq, number=666)
            eventually(partial(is_published, client, channel, lie))  # as soon as it listens
            eventually(partial(has_met, reader, round_))
        last = writer.set("n", 2).seq
        seen.wait_until(last)
        assert seen.is_exactly(2, last)
        assert subscription.error is None


def test_a_forger_who_knows_what_comes_next_is_found_out_and_changes_no_view(
    server: Server, namespace: str, writer: AgentHandle, reader: AgentSystem
) -> None:
    """Who reads along and may publish can make a live subscription hear what is not so; not for long, not unseen."""
    log = reader.log
    channel = Keys(namespace).channel(log.partition_of(AGENT), Granularity.STATE)
    runner = reader.attach(LastSeqs(), name="seqs")
    values: list[Any] = []
    apart = Gathered()
    valued = reader.subscribe("acme/**", apart, values=True)
    subscription = reader.subscribe("acme/**", lambda change: values.append(change.event.data["value"]))
    with server.client() as client:
        eventually(lambda: client.pubsub_numsub(channel)[0][1] == 2)  # the subscriptions together, and the runner
        told = 0
        while 666 not in values and subscription.error is None:  # it is taken where the hub has read all
            told += 1
            writer.set("n", told)
            eventually(lambda: told in values or subscription.error is not None)
            head = log.head(AGENT)
            assert head is not None
            client.publish(channel, forged(log, AGENT, head.digest, seq=head.seq + 1, number=666))
            eventually(lambda: 666 in values or reader.sharing_status().strange_messages >= told)
    assert isinstance(ended(subscription), DataLoss | Diverged)
    assert 666 in values
    receipt = writer.set("n", -1)
    apart.wait_until(receipt.seq)
    assert apart.is_exactly(2, receipt.seq)
    assert valued.error is None
    runner.wait_for(receipt, timeout=SECONDS)
    assert runner.state == {AGENT: list(range(1, receipt.seq + 1))}
    fresh = Gathered()
    with reader.subscribe("acme/**", fresh):
        last = writer.set("n", -2).seq
        fresh.wait_until(last)
        assert fresh.is_exactly(last, last)


def test_a_subscriber_that_sleeps_is_not_cut_off_by_the_servers_buffer(
    server: Server, writer: AgentHandle, reader: AgentSystem
) -> None:
    """It reads on all the same, and keeps no more than its buffer: what it slept through is in the log."""
    gate, seen = threading.Event(), Gathered()

    def sleepy(change: Change) -> None:
        assert gate.wait(SECONDS)
        seen(change)

    with server.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 262144 131072 1")
        try:
            with reader.subscribe("acme/**", sleepy, buffer=20) as subscription:
                for number in range(40):
                    with writer.batch() as batch:
                        for item in range(10):
                            batch.set(f"k{item}", [number, "x" * 2_000])
                last = writer.set("n", 1).seq
                eventually(lambda: subscription.lag > 20)
                assert len(subscription._intake.buffer) <= 20
                gate.set()
                seen.wait_until(last)
                assert seen.is_exactly(2, last)
        finally:
            gate.set()


# -- the log -----------------------------------------------------------------------------------------------------------


def ended(subscription: Subscription) -> BaseException | None:
    eventually(lambda: subscription.closed, SECONDS)
    return subscription.error


@pytest.mark.parametrize("values", [False, True])
def test_a_log_that_has_become_shorter_ends_its_subscriptions_with_data_loss(
    server: Server, namespace: str, writer: AgentHandle, reader: AgentSystem, values: bool
) -> None:
    told: list[BaseException] = []
    seen = Gathered()
    backup = copied(server, namespace)
    subscription = reader.subscribe("acme/**", seen, values=values, on_error=lambda error, _: told.append(error))
    iterated = reader.subscribe("acme/**", values=values)
    for number in range(5):
        writer.set("n", number)
    seen.wait_until(6)
    assert [next(iterated).seq for _ in range(5)] == [2, 3, 4, 5, 6]
    restored(server, namespace, backup)
    assert isinstance(ended(subscription), DataLoss)
    eventually(lambda: told == [subscription.error])
    with pytest.raises(DataLoss):
        list(iterated)
    assert seen.is_exactly(2, 6)


def test_a_log_with_another_history_ends_its_subscriptions_when_they_look(
    server: Server, namespace: str, writer: AgentHandle, reader: AgentSystem
) -> None:
    backup = copied(server, namespace)
    with reader.subscribe("acme/**") as changes:
        for number in range(5):
            writer.set("n", number)
        for change in changes:
            if change.seq == 6:
                break
        cursor = changes.cursor
    restored(server, namespace, backup)
    with AgentSystem.open(server.url, namespace=namespace) as system:
        give_up(system, AGENT)
        for number in range(8):
            system.agent(AGENT).set("n", -number)
        subscription = system.subscribe("acme/**", after=cursor)
        assert isinstance(ended(subscription), Diverged)
        with pytest.raises(Diverged):
            next(subscription)


# -- processes ---------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from duramen.actors import AgentSystem

with AgentSystem.open(sys.argv[1], namespace=sys.argv[2]) as system:
    agent = system.agent("acme/alice")
    for number in range(100_000):
        with agent.batch() as batch:
            batch.set("a", number)
            batch.set("b", number)
        print(agent.set("c", number).seq, flush=True)
"""

FOLLOWER = """
import sys
from duramen.actors import AgentSystem
from duramen.events import Cursor

with AgentSystem.open(sys.argv[1], namespace=sys.argv[2]) as system:
    with system.subscribe("acme/**", after=Cursor.from_text(sys.argv[3])) as changes:
        for change in changes:
            print(change.seq, changes.cursor.to_text(), flush=True)
"""


def killed_after(program: str, lines: int, *arguments: str) -> list[str]:
    """Run a program until it has said so much, and kill it at once; all that it said."""
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        told += [line for line in process.stdout if line.endswith("\n")]
    return [line.strip() for line in told]


@pytest.mark.slow
def test_a_writer_that_is_killed_in_the_middle_is_followed_to_its_last_event(
    server: Server, namespace: str, writer: AgentHandle, reader: AgentSystem
) -> None:
    seen = Gathered()
    with reader.subscribe("acme/**", seen, granularity=Granularity.TRACE):
        for _ in range(3):
            told = killed_after(WRITER, 20, server.url, namespace)
            seen.wait_until(int(told[-1]))
        last = writer.set("n", 1).seq
        seen.wait_until(last)
        assert seen.is_exactly(2, last)


@pytest.mark.slow
def test_a_follower_that_is_killed_goes_on_behind_its_last_cursor(
    server: Server, namespace: str, writer: AgentHandle, reader: AgentSystem
) -> None:
    with reader.subscribe("acme/**", from_start=True) as changes:
        assert next(changes).seq == 1
        cursor = changes.cursor.to_text()
    last = streamed(writer, 30, lambda _: None)
    found = [1]
    while found[-1] < last:
        lines = killed_after(FOLLOWER, min(70, last - found[-1]), server.url, namespace, cursor)
        seqs = [int(line.split()[0]) for line in lines]
        found += seqs
        cursor = lines[-1].split()[1]
        assert Cursor.from_text(cursor).log == reader.log.identity
    assert found == list(range(1, last + 1))


FORKING = """
import json, os, sys
from duramen.actors import AgentSystem

def tried(call):
    try:
        call()
        return "returned"
    except BaseException as error:
        return type(error).__name__

with AgentSystem.open(sys.argv[1], namespace=sys.argv[2]) as system:
    agent = system.spawn("acme/bob")
    seen = []
    called = system.subscribe("acme/bob/**", lambda change: seen.append(change.seq))
    iterated = system.subscribe("acme/bob/**")
    agent.set("n", 1)
    assert next(iterated).seq == 2
    if os.fork() == 0:
        print(json.dumps([tried(lambda: next(iterated)), tried(lambda: system.subscribe("acme/**")),
                          tried(called.close), tried(system.close)]), flush=True)
        os._exit(0)
    os.wait()
    agent.set("n", 2)
    print(json.dumps([next(iterated).seq, iterated.error]), flush=True)
"""


@pytest.mark.slow
def test_a_forked_child_is_refused_and_its_parent_goes_on(server: Server, namespace: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, server.url, namespace],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert json.loads(lines[0]) == [SystemClosed.__name__, SystemClosed.__name__, "returned", "returned"]
    assert json.loads(lines[1]) == [3, None]
