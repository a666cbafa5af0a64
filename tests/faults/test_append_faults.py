"""Lost, late and repeated requests: every event stands once in the raw list, and its caller hears the truth."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.authors import Author, commit_one
from duramen.actors import AgentHandle, AgentSystem, Set
from duramen.events.errors import CommandConflict, OutcomeUnknown, Unavailable, Unconfirmed
from duramen.events.log.durability import Durability
from duramen.events.log.records import Answer, Status
from duramen.events.redis.client.connection import pool_of_client
from duramen.events.redis.log import RedisLog
from faults.evidence import Evidence
from faults.proxy import FaultProxy
from servers import Server, valkey_server
from waiting import eventually

AGENT = "acme/alice"
SHORT = 0.3
"""Seconds a client of these tests waits for a reply."""
# The bytes of an append of these tests and of nothing else.
APPEND = b"memory_set"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with valkey_server(tcp=True) as running:
        yield running


@pytest.fixture
def evidence(server: Server) -> Evidence:
    return Evidence(server)


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.address) as running:
        yield running


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


Open = Callable[..., AgentSystem]


@pytest.fixture
def open_system(proxy: FaultProxy, evidence: Evidence, cleanup: ExitStack) -> Open:
    """Opens systems through the proxy, with a stock client as users have it; `options` are the client's."""

    def open_one(**options: Any) -> AgentSystem:
        host, port = proxy.address
        client = cleanup.enter_context(redis.Redis(host, port, **options))
        system = AgentSystem.open(client=client, namespace=evidence.namespace)
        cleanup.callback(system.close, timeout=5)
        return system

    return open_one


@pytest.fixture
def open_log(proxy: FaultProxy, evidence: Evidence, cleanup: ExitStack) -> Callable[..., RedisLog]:
    """Opens logs through the proxy, that wait and try for as long as the test says."""

    def open_one(*, socket_timeout: float = SHORT, **options: Any) -> RedisLog:
        host, port = proxy.address
        client = cleanup.enter_context(redis.Redis(host, port, socket_timeout=socket_timeout))
        log = RedisLog(pool_of_client(client), namespace=evidence.namespace, **options)
        cleanup.callback(log.close)
        return log

    return open_one


@pytest.fixture
def agent(open_system: Open) -> AgentHandle:
    return open_system().spawn(AGENT)


# -- lost ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", ["drop_request", "drop_reply"])
def test_an_append_whose_request_or_reply_is_lost_stands_once(
    proxy: FaultProxy, evidence: Evidence, agent: AgentHandle, fault: str, times: int
) -> None:
    getattr(proxy, fault)(containing=APPEND, times=times)
    receipt = agent.set("a", 1)
    assert proxy.counts.requests_dropped + proxy.counts.replies_dropped == times
    assert (receipt.first_seq, receipt.seq) == (2, 2)
    assert evidence.sets(AGENT) == [("a", 1)]
    assert receipt.digest == evidence.events(AGENT)[-1].digest
    assert agent.get() == {"a": 1}
    assert agent.set("b", 2).seq == 3


@pytest.mark.parametrize("times", [1, 3])
def test_a_spawn_whose_reply_is_lost_starts_one_session(
    proxy: FaultProxy, evidence: Evidence, open_system: Open, times: int
) -> None:
    system = open_system()
    proxy.drop_reply(containing=b"spawned", times=times)
    system.spawn(AGENT, session_id="s-1", initial_state={"goal": "x"})
    assert [event.type for event in evidence.events(AGENT)] == ["spawned"]


def test_a_batch_whose_reply_is_lost_is_whole_and_once(
    proxy: FaultProxy, evidence: Evidence, agent: AgentHandle
) -> None:
    proxy.drop_reply(containing=APPEND, times=2)
    with agent.batch() as batch:
        for number in range(50):
            batch.set(f"k{number}", number)
    assert evidence.sets(AGENT) == [(f"k{number}", number) for number in range(50)]


def test_a_lost_reply_to_a_claim_costs_an_epoch_and_nothing_else(
    proxy: FaultProxy, evidence: Evidence, agent: AgentHandle, open_system: Open
) -> None:
    agent.set("a", 1)
    other = open_system()
    proxy.drop_reply(n=1, times=2)
    assert other.agent(AGENT).get() == {"a": 1}
    other.agent(AGENT).set("b", 2)
    assert evidence.sets(AGENT) == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(("times", "copies"), [(1, 2), (3, 4)])
def test_a_bare_push_through_the_same_fault_is_stored_more_than_once(
    proxy: FaultProxy, evidence: Evidence, times: int, copies: int
) -> None:
    """Negative control: this is what the append script is for."""
    host, port = proxy.address
    proxy.drop_reply(containing=APPEND, times=times)
    with redis.Redis(host, port) as client:
        client.rpush(f"bare-{evidence.namespace}", APPEND)
    assert evidence.client.llen(f"bare-{evidence.namespace}") == copies


# -- late ----------------------------------------------------------------------------------------------------------


def test_an_append_whose_reply_is_later_than_the_time_out_stands_once(
    proxy: FaultProxy, evidence: Evidence, open_system: Open, workers: ThreadPoolExecutor
) -> None:
    agent = open_system(socket_timeout=SHORT).spawn(AGENT)
    proxy.hold_replies(containing=APPEND)
    waiting = workers.submit(agent.set, "a", 1)
    proxy.wait_until(lambda counts: counts.replies_held >= 2)  # so the first was given up and sent again
    proxy.release()
    assert waiting.result(20).seq == 2
    assert evidence.sets(AGENT) == [("a", 1)]


def test_a_bare_push_whose_reply_is_late_is_stored_twice(
    proxy: FaultProxy, evidence: Evidence, workers: ThreadPoolExecutor
) -> None:
    """Negative control."""
    host, port = proxy.address
    proxy.hold_replies(containing=APPEND)
    with redis.Redis(host, port, socket_timeout=SHORT) as client:
        waiting = workers.submit(client.rpush, f"bare-{evidence.namespace}", APPEND)
        proxy.wait_until(lambda counts: counts.replies_held >= 2)
        proxy.release()
        waiting.result(20)
    assert evidence.client.llen(f"bare-{evidence.namespace}") >= 2


def test_requests_that_arrive_long_after_they_were_given_up_change_nothing(
    proxy: FaultProxy, evidence: Evidence, open_system: Open, workers: ThreadPoolExecutor
) -> None:
    """The network keeps the copies back, and lets all of them go at once."""
    agent = open_system(socket_timeout=SHORT).spawn(AGENT)
    proxy.black_hole()
    waiting = workers.submit(agent.set, "a", 1)
    proxy.wait_until(lambda counts: counts.requests_swallowed >= 2)
    proxy.release()
    assert waiting.result(20).seq == 2
    assert agent.set("a", 2).seq == 3
    assert evidence.sets(AGENT) == [("a", 1), ("a", 2)]


def test_a_server_paused_past_the_time_out_gets_one_copy(
    server: Server,
    evidence: Evidence,
    cleanup: ExitStack,
    caplog: pytest.LogCaptureFixture,
    workers: ThreadPoolExecutor,
) -> None:
    host, port = server.address
    client = cleanup.enter_context(redis.Redis(host, port, socket_timeout=SHORT))
    system = cleanup.enter_context(AgentSystem.open(client=client, namespace=evidence.namespace))
    agent = system.spawn(AGENT)
    server.pause()
    cleanup.callback(server.resume)
    waiting = workers.submit(agent.set, "a", 1, command_id="c-1")
    eventually(lambda: "server_unreachable" in caplog.text)  # so more than twice the time-out is over
    server.resume()
    receipt = waiting.result(20)
    assert agent.set("a", 1, command_id="c-1") == receipt
    assert evidence.sets(AGENT) == [("a", 1)]


def test_a_call_given_up_on_a_paused_server_can_be_repeated_with_its_command_id(
    server: Server, evidence: Evidence, cleanup: ExitStack
) -> None:
    host, port = server.address
    client = cleanup.enter_context(redis.Redis(host, port, socket_timeout=SHORT))
    log = RedisLog(pool_of_client(client), namespace=evidence.namespace, retry_seconds=0.5)
    system = cleanup.enter_context(AgentSystem.open(log=log))
    agent = system.spawn(AGENT)
    agent.set("before", 0)
    server.pause()
    cleanup.callback(server.resume)
    with pytest.raises(OutcomeUnknown) as caught:
        agent.set("a", 1, command_id="c-1")
    assert caught.value.agent == AGENT
    server.resume()
    receipt = agent.set("a", 1, command_id="c-1")
    assert receipt.seq == 3
    assert agent.set("a", 1, command_id="c-1") == receipt
    assert evidence.sets(AGENT) == [("before", 0), ("a", 1)]
    assert agent.get() == {"before": 0, "a": 1}


# -- given up ------------------------------------------------------------------------------------------------------


def test_a_server_that_takes_connections_and_answers_nothing_is_given_up(
    proxy: FaultProxy, evidence: Evidence, open_log: Callable[..., RedisLog]
) -> None:
    """Connecting succeeds again and again: that must not keep a call for ever."""
    log = open_log(retry_seconds=1.5)  # time for a second try, also on a busy machine
    author = Author(log, AGENT).fill(1)
    proxy.hold_replies(containing=b"lost word")
    append = author.append(b"lost word")
    with pytest.raises(OutcomeUnknown):
        commit_one(log, append)
    assert proxy.counts.replies_held >= 2
    proxy.release()
    assert commit_one(log, append).status is Status.DUPLICATE
    assert len(evidence.items(AGENT)) == 2


def test_a_server_that_drops_every_reply_is_given_up(
    proxy: FaultProxy, evidence: Evidence, open_log: Callable[..., RedisLog]
) -> None:
    log = open_log(retry_seconds=1.5)  # time for a second try, also on a busy machine
    author = Author(log, AGENT).fill(1)
    proxy.drop_reply(containing=b"lost word", times=1_000_000)
    with pytest.raises(OutcomeUnknown):
        commit_one(log, author.append(b"lost word"))
    assert len(evidence.items(AGENT)) == 2
    # With a pause between its tries: a busy loop would have made thousands.
    assert 2 <= proxy.counts.replies_dropped <= 60


def test_what_was_never_sent_is_not_called_unknown() -> None:
    with valkey_server(tcp=True) as server:
        host, port = server.address
        with redis.Redis(host, port, socket_timeout=SHORT) as client:
            log = RedisLog(pool_of_client(client), retry_seconds=0.3)
            author = Author(log, AGENT).fill(1)
            server.kill9()
            with pytest.raises(Unavailable) as caught:
                commit_one(log, author.append(b"x"))
            assert type(caught.value) is Unavailable
            log.close()


def test_a_login_that_is_withdrawn_while_a_reply_is_lost_leaves_the_outcome_unknown(
    evidence: Evidence, workers: ThreadPoolExecutor
) -> None:
    """The server refuses the retry, but the first copy is in the log: nobody may say that nothing was written."""
    with valkey_server(tcp=True) as server, FaultProxy(server.address) as proxy:
        host, port = proxy.address
        with redis.Redis(host, port) as client, server.client() as direct:
            log = RedisLog(pool_of_client(client), retry_seconds=5)
            author = Author(log, AGENT).fill(1)
            proxy.hold_replies(containing=b"lost word")
            waiting = workers.submit(commit_one, log, author.append(b"lost word"))
            proxy.wait_until(lambda counts: counts.replies_held == 1)
            direct.config_set("requirepass", "s3cr3t")
            proxy.sever()
            with pytest.raises(OutcomeUnknown):
                waiting.result(20)
            assert direct.llen(log.log_key(AGENT)) == 2
            log.close()


def test_a_waiting_writer_can_be_woken_and_told_to_give_up_from_another_thread(
    proxy: FaultProxy, evidence: Evidence, open_log: Callable[..., RedisLog], workers: ThreadPoolExecutor
) -> None:
    log = open_log(socket_timeout=30)
    author = Author(log, AGENT).fill(1)
    proxy.hold_replies(containing=b"lost word")
    writer = log.writer()
    try:
        append = author.append(b"lost word")
        writer.send([(log.partition_of(AGENT), [append])])
        waiting = workers.submit(writer.receive, None)
        proxy.wait_until(lambda counts: counts.replies_held == 1)
        assert not waiting.done()
        writer.wake()
        assert waiting.result(10) == []
        waiting = workers.submit(writer.receive, None)
        writer.give_up()
        answered = waiting.result(10) or writer.receive(None)
        assert [(batch, type(result)) for batch, result in answered] == [([append], OutcomeUnknown)]
        assert writer.in_flight == 0
    finally:
        writer.close()
    assert len(evidence.items(AGENT)) == 2


# -- many at once --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(
        st.tuples(st.sampled_from(["drop_request", "drop_reply"]), st.integers(1, 40), st.integers(1, 4)),
        min_size=1,
        max_size=5,
    )
)
def test_any_losses_among_many_appends_under_way_leave_each_once_and_in_order(
    server: Server, faults: list[tuple[str, int, int]]
) -> None:
    evidence = Evidence(server)
    with FaultProxy(server.address) as proxy:
        host, port = proxy.address
        with redis.Redis(host, port) as client, AgentSystem.open(client=client, namespace=evidence.namespace) as system:
            agents = [system.spawn(f"acme/agent-{number}") for number in range(12)]
            for fault, n, times in faults:
                getattr(proxy, fault)(n, containing=APPEND, times=times)
            replies = [
                (agent, number, agent.ask(Set(f"k{number}", number), block=False))
                for number in range(8)
                for agent in agents
            ]
            receipts = [(agent.path.text, number, reply.get(timeout=30)) for agent, number, reply in replies]
    for agent in agents:
        assert evidence.sets(agent.path.text) == [(f"k{number}", number) for number in range(8)]
        events = evidence.events(agent.path.text)
        for name, number, receipt in receipts:
            if name == agent.path.text:
                assert events[receipt.seq - 1].data["path"] == f"k{number}"


# -- command ids ---------------------------------------------------------------------------------------------------


def test_a_command_id_again_gives_the_first_receipt_and_writes_nothing(
    evidence: Evidence, agent: AgentHandle, open_system: Open
) -> None:
    first = agent.set("a", 1, command_id="c-1")
    agent.set("b", 2)
    assert agent.set("a", 1, command_id="c-1") == first
    assert open_system().agent(AGENT).set("a", 1, command_id="c-1") == first
    assert evidence.sets(AGENT) == [("a", 1), ("b", 2)]


def test_a_command_id_with_another_payload_is_a_conflict_and_writes_nothing(
    evidence: Evidence, agent: AgentHandle, open_system: Open
) -> None:
    agent.set("a", 1, command_id="c-1")
    for handle in (agent, open_system().agent(AGENT)):
        for other in (lambda one: one.set("a", 2, command_id="c-1"), lambda one: one.delete("a", command_id="c-1")):
            with pytest.raises(CommandConflict):
                other(handle)
    assert evidence.sets(AGENT) == [("a", 1)]
    assert agent.get() == {"a": 1}


def test_one_command_id_from_many_threads_at_once_is_carried_out_once(
    evidence: Evidence, agent: AgentHandle, workers: ThreadPoolExecutor
) -> None:
    receipts = [workers.submit(agent.append, "list", 1, command_id="c-1") for _ in range(50)]
    assert len({(r.result(20).first_seq, r.result(20).seq) for r in receipts}) == 1
    assert agent.get("list") == [1]
    assert len(evidence.events(AGENT)) == 2


# -- scripts that are forgotten ------------------------------------------------------------------------------------


def test_every_command_commits_once_though_scripts_are_flushed_before_each(
    evidence: Evidence, agent: AgentHandle, open_system: Open
) -> None:
    client = evidence.client
    for number in range(20):
        client.script_flush()
        assert agent.set(f"k{number}", number).seq == number + 2
    client.script_flush()
    other = open_system().agent(AGENT)
    client.script_flush()
    assert other.get() == {f"k{number}": number for number in range(20)}
    assert evidence.sets(AGENT) == [(f"k{number}", number) for number in range(20)]


def test_scripts_flushed_all_the_time_cost_no_append_under_way(
    evidence: Evidence, open_system: Open, workers: ThreadPoolExecutor
) -> None:
    system, client = open_system(), evidence.client
    agents = [system.spawn(f"acme/agent-{number}") for number in range(16)]
    done, flushed = threading.Event(), 0

    def flush() -> None:
        nonlocal flushed
        while not done.is_set():
            client.script_flush()
            flushed += 1

    flushing = workers.submit(flush)
    replies: list[Any] = []
    rounds = 0
    try:
        while rounds < 20 or (flushed < 3 and rounds < 2_000):
            replies += [agent.ask(Set(f"k{rounds}", rounds), block=False) for agent in agents]
            rounds += 1
        for reply in replies:
            reply.get(timeout=30)
    finally:
        done.set()
    flushing.result(20)
    assert flushed >= 3
    for agent in agents:
        assert evidence.sets(agent.path.text) == [(f"k{number}", number) for number in range(rounds)]


def test_scripts_are_loaded_again_after_a_restart() -> None:
    with valkey_server(tcp=True, aof=True) as server:
        evidence = Evidence(server)
        host, port = server.address
        with redis.Redis(host, port) as client, AgentSystem.open(client=client, namespace=evidence.namespace) as system:
            agent = system.spawn(AGENT)
            for number in range(3):
                agent.set(f"k{number}", number)
                server.restart()
            assert agent.get() == {"k0": 0, "k1": 1, "k2": 2}
            assert system.agent("acme/bob").ask(Set("a", 1), block=False) is not None
        assert evidence.sets(AGENT) == [("k0", 0), ("k1", 1), ("k2", 2)]


# -- a server that loads its data ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_append_sent_to_a_server_that_loads_its_data_gets_its_own_answer(
    caplog: pytest.LogCaptureFixture, workers: ThreadPoolExecutor
) -> None:
    """LOADING closes redis-py's connection: what was under way on it must not be taken for answered."""
    caplog.set_level("INFO", logger="duramen")
    with valkey_server(tcp=True, aof=True) as server:
        evidence = Evidence(server)
        host, port = server.address
        with redis.Redis(host, port) as client, AgentSystem.open(client=client, namespace=evidence.namespace) as system:
            agents = [system.spawn(f"acme/agent-{number}") for number in range(16)]
            with server.client() as direct:
                pipeline = direct.pipeline(transaction=False)
                for number in range(6_000):
                    pipeline.incr(f"padding-{number}")
                pipeline.execute()
            server.kill9()
            server.config["key-load-delay"] = "300"
            replies = [agent.ask(Set(f"k{number}", number), block=False) for number, agent in enumerate(agents)]
            workers.submit(server.start, 30).result(60)
            receipts = [reply.get(timeout=30) for reply in replies]
        assert "BusyLoadingError" in caplog.text
    assert [receipt.agent for receipt in receipts] == [agent.path.text for agent in agents]
    assert [receipt.seq for receipt in receipts] == [2] * len(agents)


# -- committed, but not confirmed ----------------------------------------------------------------------------------


@pytest.fixture
def lonely(open_log: Callable[..., RedisLog]) -> RedisLog:
    """A log that wants a replica, on a server that has none."""
    return open_log(durability=Durability("replicas", 1))


def test_an_append_that_no_replica_confirms_is_committed_and_says_so(lonely: RedisLog, evidence: Evidence) -> None:
    append = Author(lonely, AGENT).append(b"one")
    for _ in range(2):
        with pytest.raises(Unconfirmed):
            commit_one(lonely, append)
    assert len(evidence.items(AGENT)) == 1


def test_an_append_that_is_refused_is_not_called_committed_for_want_of_replicas(
    lonely: RedisLog, open_log: Callable[..., RedisLog], evidence: Evidence
) -> None:
    author = Author(open_log(), AGENT).fill(1)
    author.log = lonely
    lonely.claim([AGENT], "thief", 5)
    assert commit_one(lonely, author.append(b"late")) == Answer(Status.FENCED, 1, "2:thief", 5)
    assert len(evidence.items(AGENT)) == 1


def test_of_a_batch_only_what_is_written_can_be_unconfirmed(
    lonely: RedisLog, open_log: Callable[..., RedisLog]
) -> None:
    stale, good = Author(open_log(), f"{AGENT}/a").fill(1), Author(lonely, f"{AGENT}/b")
    lonely.claim([stale.agent], "thief", 5)
    refused = [stale.append(b"late"), stale.append(agent=f"{AGENT}/c", create=False)]
    partition = lonely.partition_of(AGENT)
    assert [answer.status for answer in lonely.commit(partition, refused)] == [Status.FENCED, Status.GONE]
    with pytest.raises(Unconfirmed) as caught:
        lonely.commit(partition, [*refused, good.append(b"one")])
    assert caught.value.agent == good.agent


def test_an_agent_goes_on_after_an_unconfirmed_command_and_repeats_it_not(
    lonely: RedisLog, evidence: Evidence, cleanup: ExitStack
) -> None:
    system = cleanup.enter_context(AgentSystem.open(log=lonely))
    handle = system.agent(AGENT)
    with pytest.raises(Unconfirmed):
        system.spawn(AGENT)
    with pytest.raises(Unconfirmed) as caught:
        handle.set("a", 1, command_id="c-1")
    assert (caught.value.agent, caught.value.seq) == (AGENT, 2)
    assert handle.get() == {"a": 1}
    assert evidence.sets(AGENT) == [("a", 1)]


@pytest.mark.slow
def test_a_retry_confirms_only_what_the_replica_really_has(workers: ThreadPoolExecutor) -> None:
    """WAIT speaks of its own connection's writes, and a retry comes on another connection than the first copy."""
    with valkey_server(tcp=True) as primary, FaultProxy(primary.address) as proxy:
        link = {"replicaof": f"127.0.0.1 {primary.port}", "repl-diskless-sync-delay": "0"}
        with valkey_server(config=link) as replica:
            with primary.client() as client:
                eventually(lambda: client.info("replication").get("slave0", {}).get("state") == "online")
                # A replica that has just come online may take its time for its first answer.
                eventually(lambda: client.set("ready", 1) and client.wait(1, 900) == 1)
            host, port = proxy.address
            one = Durability("replicas", 1)
            with (
                redis.Redis(host, port, socket_timeout=60) as patient,
                redis.Redis(host, port, socket_timeout=1) as client,
            ):
                first = RedisLog(pool_of_client(patient), durability=one)
                author = Author(first, AGENT)
                author.write(b"one")  # confirmed
                first.close()
                author.log = log = RedisLog(pool_of_client(client), durability=one)
                replica.pause()
                proxy.drop_reply(containing=b"lost word")
                with pytest.raises(Unconfirmed):
                    commit_one(log, author.append(b"lost word"))
                replica.resume()
                log.close()


# -- the log of what happened --------------------------------------------------------------------------------------


def test_losses_are_logged_without_what_was_to_be_written(
    proxy: FaultProxy, agent: AgentHandle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    proxy.drop_reply(containing=APPEND, times=2)
    agent.set("sk-path", "sk-secret")
    assert "connection_lost" in caplog.text
    assert "sk-" not in caplog.text
