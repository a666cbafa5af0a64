"""What a reply waits for: a call's own durability and nobody else's, with a real primary and its replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem, LifecycleResult, Pause, Set
from duramen.events import DurabilityUnavailable, DuramenError, Event, InvalidMessage, Receipt, Unconfirmed
from duramen.events.errors import DataLoss
from duramen.events.log.durability import Durability
from duramen.events.log.records import CommittedAppend
from duramen.events.redis.client.connection import pool_of_client
from duramen.events.redis.log import RedisLog
from duramen.projections import Projection
from servers import Server, redis_server, valkey_server
from waiting import eventually

LONG = 60.0
"""Seconds a reply may take: WAIT then takes half of it, which no test waits for."""
SHORT = 0.3
ONE = "replicas:1"


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["valkey", "redis"])
def primary(request: pytest.FixtureRequest) -> Iterator[Server]:
    start = valkey_server if request.param == "valkey" else redis_server
    with start(tcp=True, config={"repl-diskless-sync-delay": "0"}) as running:
        yield running


@pytest.fixture
def replica(primary: Server) -> Iterator[Server]:
    link = {"replicaof": f"127.0.0.1 {primary.port}"}
    start = valkey_server if primary.kind == "valkey" else redis_server
    with start(config=link) as running:
        with primary.client() as client:
            eventually(lambda: client.info("replication").get("slave0", {}).get("state") == "online")
        yield running


def client_of(server: Server, cleanup: ExitStack, timeout: float = LONG) -> redis.Redis:
    return cleanup.enter_context(server.client(socket_timeout=timeout))


def system_of(server: Server, cleanup: ExitStack, timeout: float = LONG, **options: Any) -> AgentSystem:
    system = AgentSystem.open(client=client_of(server, cleanup, timeout), **options)
    cleanup.callback(system.close, timeout=1)
    return system


def calls(server: Server, command: str) -> int:
    """How often the server was asked a command."""
    with server.client() as client:
        found: Any = client.info("commandstats").get(f"cmdstat_{command}", {})
        return int(found.get("calls", 0))


@frozen
class Note:
    text: str


class Noting(Agent):
    def on_receive(self, message: Any) -> Any:
        if not message.text:
            return "nothing"
        self.set("note", message.text)
        return message.text


class Counting(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        return state + 1


# -- nobody waits for another's confirmation ------------------------------------------------------------------------


def test_reads_and_other_agents_do_not_wait_for_what_is_not_confirmed(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    system = system_of(primary, cleanup, durability=ONE)
    alice, bob = system.spawn("acme/alice"), system.spawn("acme/bob")
    assert alice.set("a", 1).durability == ONE
    replica.pause()
    waiting = [alice.ask(Set("a", 2), block=False), alice.ask(Set("a", 3), block=False)]
    assert alice.get("a") == 3  # of the same agent: committed is seen
    assert bob.get() == {}
    assert bob.set("b", 1, durability="memory").durability == "memory"
    assert alice.set("a", 4, durability="memory").durability == "memory"
    assert not any(reply.done for reply in waiting)
    replica.resume()
    assert [reply.get(timeout=LONG).durability for reply in waiting] == [ONE, ONE]


def test_other_hosts_and_consumers_do_not_wait_for_what_is_not_confirmed(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    owner, asker = system_of(primary, cleanup, 4 * LONG), system_of(primary, cleanup, 4 * LONG)
    for path in ("acme/alice", "acme/bob"):
        owner.spawn(path)
    alice, bob = asker.agent("acme/alice"), asker.agent("acme/bob")
    runner = cleanup.enter_context(asker.attach(Counting(), name="count"))
    assert alice.set("a", 1, durability=ONE).durability == ONE
    replica.pause()
    waiting = [
        alice.ask(Set("a", 2, durability=ONE), block=False),
        owner.agent("acme/bob").ask(Set("b", 1, durability=ONE), block=False),
    ]
    eventually(lambda: owner.peek("acme/bob").memory == {"b": 1}, what="it is committed")
    for number in range(20):
        assert bob.set("b", number).durability == "memory"
        assert bob.get("b") == number
    assert alice.get("a") == 2
    eventually(lambda: runner.state == 25, what="the consumer has seen all that is committed")
    assert not any(reply.done for reply in waiting), "control: the replica is missing still"
    replica.resume()
    assert [reply.get(timeout=LONG).durability for reply in waiting] == [ONE, ONE]


def test_of_one_turn_each_caller_waits_for_what_it_asked(primary: Server, replica: Server, cleanup: ExitStack) -> None:
    system = system_of(primary, cleanup)
    alice = system.spawn("acme/alice")
    replica.pause()
    safe = alice.ask(Set("a", 1, durability=ONE), block=False)
    quick = [alice.ask(Set("b", number), block=False) for number in range(20)]  # some share an append with it
    for reply in quick:
        assert reply.get(timeout=LONG).durability == "memory"
    assert not safe.done
    replica.resume()
    assert safe.get(timeout=LONG).durability == ONE


def test_who_asks_for_one_replica_does_not_wait_for_who_asks_for_two(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    system = system_of(primary, cleanup)
    alice = system.spawn("acme/alice")
    never = [alice.ask(Set("a", number, durability="replicas:2"), block=False) for number in range(3)]
    assert alice.set("b", 1, durability=ONE).durability == ONE
    assert not any(reply.done for reply in never)


def test_what_comes_meanwhile_is_confirmed_together(primary: Server, replica: Server, cleanup: ExitStack) -> None:
    system = system_of(primary, cleanup)
    agents = [system.spawn(f"acme/agent-{number}") for number in range(50)]
    before = calls(primary, "wait")
    replica.pause()
    replies = [agent.ask(Set("a", 1, durability=ONE), block=False) for agent in agents]
    assert [agent.get("a") for agent in agents] == [1] * 50
    replica.resume()
    assert {reply.get(timeout=LONG).durability for reply in replies} == {ONE}
    assert calls(primary, "wait") - before <= 4, "two were under way, and all others shared the next"


def test_the_connection_of_appends_never_waits(primary: Server, replica: Server, cleanup: ExitStack) -> None:
    """The negative control of the tests above: a server that does block it is seen to."""
    system = system_of(primary, cleanup, durability=ONE)
    alice = system.spawn("acme/alice")
    replica.pause()
    waiting = alice.ask(Set("a", 1), block=False)
    with primary.client() as client:
        eventually(lambda: client.info("clients")["blocked_clients"] == 1)
        assert alice.get("a") == 1
        assert client.info("clients")["blocked_clients"] == 1
    assert not waiting.done
    replica.resume()
    assert waiting.get(timeout=LONG).durability == ONE


# -- committed, not confirmed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["set", "batch", "record", "pause", "message", "spawn", "aio", "aio batch"])
def test_a_call_that_is_not_confirmed_says_so_with_its_seq_and_is_done(
    primary: Server, cleanup: ExitStack, how: str
) -> None:
    system = system_of(primary, cleanup, SHORT, agents={"noting": Noting})
    alice = system.spawn("acme/alice", agent_type="noting")
    with pytest.raises(Unconfirmed) as caught:
        _call(system, alice, how)
    path = "acme/bob" if how == "spawn" else "acme/alice"
    seq = 1 if how == "spawn" else 2
    assert (caught.value.agent, caught.value.seq) == (path, seq)
    assert (caught.value.expected, caught.value.actual) == (1, 0)
    assert [event.seq for event in system.events(path)][-1] == seq


def _call(system: AgentSystem, alice: AgentHandle, how: str) -> None:
    match how:
        case "set":
            alice.set("a", 1, durability=ONE)
        case "batch":
            with alice.batch(durability=ONE) as batch:
                batch.set("a", 1)
        case "record":
            alice.record("seen", {}, durability=ONE)
        case "pause":
            alice.pause("cut", durability=ONE)
        case "message":
            alice.ask(Note("hello"), durability=ONE)
        case "spawn":
            system.spawn("acme/bob", durability=ONE)
        case "aio":
            asyncio.run(alice.aio.set("a", 1, durability=ONE))
        case _:
            asyncio.run(_batch(alice))


async def _batch(alice: AgentHandle) -> None:
    async with alice.aio.batch(durability=ONE) as batch:
        batch.set("a", 1)


def test_a_call_with_a_replica_is_confirmed_in_each_of_its_forms(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    system = system_of(primary, cleanup, agents={"noting": Noting})
    for number, how in enumerate(("set", "batch", "record", "pause", "message", "spawn", "aio", "aio batch")):
        before = calls(primary, "wait")
        alice = system.spawn(f"acme/alice-{number}", agent_type="noting")
        assert calls(primary, "wait") == before, "the system asks for no replica"
        _call(system, alice, how)
        assert calls(primary, "wait") == before + 1


def test_a_command_that_was_not_confirmed_is_confirmed_when_asked_again(
    primary: Server, cleanup: ExitStack, request: pytest.FixtureRequest
) -> None:
    system = system_of(primary, cleanup, SHORT)
    alice = system.spawn("acme/alice")
    with pytest.raises(Unconfirmed):
        alice.set("a", 1, command_id="c-1", durability=ONE)
    with pytest.raises(Unconfirmed):
        alice.set("a", 1, command_id="c-1", durability=ONE)
    assert alice.set("a", 1, command_id="c-1") == Receipt(
        "acme/alice", 2, 2, next(iter(system.events("acme/alice", from_seq=2))).digest, "memory"
    )
    system.close()
    request.getfixturevalue("replica")
    patient = system_of(primary, cleanup).agent("acme/alice")
    assert patient.set("a", 1, command_id="c-1", durability=ONE)[1:3] == (2, 2)
    assert patient.status().seq == 2


def test_a_refusal_is_told_without_waiting(primary: Server, cleanup: ExitStack) -> None:
    system = system_of(primary, cleanup, durability=ONE)
    result = system.agent("acme/nobody").ask(Pause(checkpoint_id="x"))
    assert isinstance(result, LifecycleResult)
    assert not result.success
    with pytest.raises(DuramenError, match="acme/nobody"):
        system.agent("acme/nobody").set("a", 1)
    assert calls(primary, "wait") == 0


def test_closing_tells_those_that_wait_that_they_are_not_confirmed(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    system = system_of(primary, cleanup, durability=ONE)
    alice = system.spawn("acme/alice")
    replica.pause()
    waiting = [alice.ask(Set("a", number), block=False) for number in range(3)]
    assert alice.get("a") == 2
    closing = [alice.ask(Set("b", 1, durability="replicas:2"), block=False)]
    assert alice.get("b") == 1
    system.close(timeout=1)
    replica.resume()
    for reply in (*waiting, *closing):
        with pytest.raises(Unconfirmed):
            reply.get(timeout=LONG)
            raise Unconfirmed("it was confirmed by the replica that came back")


# -- what the log confirms ---------------------------------------------------------------------------------------------


def test_an_event_that_the_server_lacks_is_not_confirmed_but_lost(
    primary: Server, replica: Server, cleanup: ExitStack
) -> None:
    client = client_of(primary, cleanup)
    log = RedisLog(pool_of_client(client), durability=Durability("replicas", 1))
    cleanup.callback(log.close)
    with AgentSystem.open(log=log) as system:
        receipt = system.spawn("acme/alice").set("a", 1)
    held = CommittedAppend("acme/alice", 2, receipt.digest)
    others = [
        CommittedAppend("acme/alice", 2, b"x" * 16),
        CommittedAppend("acme/alice", 3, receipt.digest),
        CommittedAppend("acme/nobody", 1, receipt.digest),
    ]
    found = log.confirm(Durability("replicas", 1), [held, *others])
    assert [type(problem) for problem in found] == [type(None), DataLoss, DataLoss, DataLoss]


def test_a_full_server_confirms_what_it_has(primary: Server, replica: Server, cleanup: ExitStack) -> None:
    """What is written to be waited for is written although the memory is full: WAIT would speak of nothing."""
    system = system_of(primary, cleanup)
    receipt = system.spawn("acme/alice").set("a", 1)
    log = system.log
    with primary.client() as client:
        client.config_set("maxmemory", 1)
        replica.pause()
        log_client = client_of(primary, cleanup, SHORT)
        short = RedisLog(pool_of_client(log_client))
        cleanup.callback(short.close)
        [problem] = short.confirm(Durability("replicas", 1), [CommittedAppend("acme/alice", 2, receipt.digest)])
        assert isinstance(problem, Unconfirmed)
        replica.resume()
        assert log.confirm(Durability("replicas", 1), [CommittedAppend("acme/alice", 2, receipt.digest)]) == [None]


# -- fsync ----------------------------------------------------------------------------------------------------------


EVERYSEC = {"appendonly": "yes", "appendfsync": "everysec"}


def test_a_call_can_ask_for_the_disk_where_the_system_does_not(cleanup: ExitStack) -> None:
    server = cleanup.enter_context(valkey_server(config=EVERYSEC))
    system = system_of(server, cleanup)
    alice = system.spawn("acme/alice")
    assert alice.set("a", 1).durability == "memory"
    assert calls(server, "waitaof") == 0
    assert alice.set("a", 2, durability="fsync").durability == "fsync"
    assert calls(server, "waitaof") == 1
    assert alice.pause("cut", durability="fsync").success
    assert calls(server, "waitaof") == 2


def test_a_call_can_ask_for_less_than_the_system(cleanup: ExitStack) -> None:
    server = cleanup.enter_context(valkey_server(config=EVERYSEC))
    system = system_of(server, cleanup, durability="fsync")
    alice = system.spawn("acme/alice")
    before = calls(server, "waitaof")
    assert alice.set("a", 1, durability="memory").durability == "memory"
    assert calls(server, "waitaof") == before
    assert alice.set("a", 2).durability == "fsync"
    assert calls(server, "waitaof") == before + 1


def test_nobody_else_waits_for_a_disk_that_is_slow(cleanup: ExitStack) -> None:
    server = cleanup.enter_context(valkey_server(config=EVERYSEC))
    system, other = system_of(server, cleanup), system_of(server, cleanup)
    alice, bob = system.spawn("acme/alice"), system.spawn("acme/bob")
    runner = cleanup.enter_context(other.attach(Counting(), name="count"))
    with server.client() as client:
        client.config_set("appendfsync", "no")  # nothing is known to be on the disk any more
        waiting = [agent.ask(Set("a", 1, durability="fsync"), block=False) for agent in (alice, bob)]
        for number in range(20):
            assert alice.set("b", number).durability == "memory"
            assert other.agent("acme/alice").get("b") == bob.set("b", number).seq - 3 == number
        eventually(lambda: runner.state == 44, what="the consumer has seen all that is committed")
        assert not any(reply.done for reply in waiting), "control: the disk is not done yet"
        client.config_set("appendfsync", "everysec")
    assert [reply.get(timeout=LONG).durability for reply in waiting] == ["fsync"] * 2


def test_a_server_that_always_syncs_reaches_the_disk_by_itself(cleanup: ExitStack) -> None:
    server = cleanup.enter_context(valkey_server(aof=True))
    system = system_of(server, cleanup)
    alice = system.spawn("acme/alice")
    asked: list[str | None] = [None, "memory", "fsync"]
    assert [alice.set("a", 1, durability=each).durability for each in asked] == ["fsync"] * 3
    assert calls(server, "waitaof") == 0


def test_a_disk_that_cannot_be_waited_for_is_told_before_anything_is_written(cleanup: ExitStack) -> None:
    server = cleanup.enter_context(redis_server(config=EVERYSEC))  # Redis 7.0 has no WAITAOF
    system = system_of(server, cleanup, agents={"noting": Noting})
    alice = system.spawn("acme/alice", agent_type="noting")
    for call in (
        lambda: alice.set("a", 1, durability="fsync"),
        lambda: alice.pause(durability="fsync"),
        lambda: alice.ask(Note("hello"), durability="fsync"),
        lambda: alice.spawn_child("child", durability="fsync"),
        lambda: AgentSystem.open(client=client_of(server, cleanup), durability="fsync"),
    ):
        with pytest.raises(DurabilityUnavailable) as caught:
            call()
        assert (caught.value.expected, caught.value.actual) == ("fsync", "memory")
    assert alice.status().seq == 1


# -- what is refused ------------------------------------------------------------------------------------------------


def test_memory_says_that_it_reaches_memory_and_no_more() -> None:
    for asked in ("fsync", ONE):
        with AgentSystem.open("memory://", durability="memory") as system:
            alice = system.spawn("acme/alice", durability="memory")
            assert alice.set("a", 1).durability == "memory"
            with pytest.raises(DurabilityUnavailable) as caught:
                alice.set("a", 2, durability=asked)
            assert (caught.value.expected, caught.value.actual) == (asked, "memory")
            assert alice.status().seq == 2
        with pytest.raises(DurabilityUnavailable):
            AgentSystem.open("memory://", durability=asked)


@pytest.mark.parametrize("asked", ["", "often", "replicas:0", "FSYNC", 7, True, ["fsync"]])
def test_another_durability_is_refused_and_nothing_is_written(asked: Any) -> None:
    with AgentSystem.open("memory://", agents={"noting": Noting}) as system:
        alice = system.spawn("acme/alice", agent_type="noting")
        for call in (
            lambda: alice.set("a", 1, durability=asked),
            lambda: alice.pause(durability=asked),
            lambda: alice.ask(Note("hello"), durability=asked),
            lambda: system.spawn("acme/bob", durability=asked),
        ):
            with pytest.raises(InvalidMessage):
                call()
        assert alice.status().seq == 1
        assert [entry.agent for entry in system.agents()] == ["acme/alice"]


def test_a_durability_stands_in_duramens_messages_and_beside_others() -> None:
    with AgentSystem.open("memory://", agents={"noting": Noting}) as system:
        alice = system.spawn("acme/alice", agent_type="noting")
        with pytest.raises(InvalidMessage, match="carries its durability itself"):
            alice.ask(Set("a", 1), durability="memory")
        assert alice.ask(Set("a", 1, durability="memory")).durability == "memory"
        assert alice.ask(Note("hello"), durability="memory") == "hello"
        assert alice.ask(Note(""), durability="memory") == "nothing"
