"""A cluster: keys on several nodes, a primary that dies, slots that move, while agents work."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from certificates import Authority
from clusters import Cluster, slot_of
from duramen.actors import AgentHandle, AgentSystem, Set
from duramen.events import (
    DataLoss,
    Diverged,
    DuramenError,
    Event,
    InvalidMessage,
    Unavailable,
    Unconfirmed,
    UnsafeServer,
)
from duramen.events.log import Keys
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.log import RedisLog
from duramen.projections import KeyedProjection
from faults.proxy import FaultProxy
from servers import Server, redis_server
from waiting import eventually

FAILOVERS = int(os.environ.get("DURAMEN_TEST_FAILOVERS", "2"))
"""Primaries that are killed, one after the other."""

pytestmark = pytest.mark.slow


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module", params=["redis", "valkey"])
def still(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three primaries, for tests that kill none."""
    with Cluster(kind=request.param) as cluster:
        yield cluster


def open_system(url: str, cleanup: ExitStack, **options: str) -> AgentSystem:
    system = AgentSystem.open(url, **options)
    cleanup.callback(system.close, timeout=1)
    return system


def test_agents_of_all_nodes_are_written_read_followed_and_listed(still: Cluster, cleanup: ExitStack) -> None:
    system = open_system(still.url, cleanup, namespace="all")
    seen: set[str] = set()
    paths = [f"acme/agent-{number}" for number in range(40)]
    with system.subscribe("acme/*/**", lambda change: seen.add(change.agent)):
        for number, path in enumerate(paths):
            assert system.spawn(path).set("n", number).seq == 2
        eventually(lambda: len(seen) == len(paths), what=f"{len(seen)} agents")
    assert [system.agent(path).get("n") for path in paths] == list(range(40))
    assert sorted(entry.agent for entry in system.agents()) == sorted(paths)
    used = [int(still.call(node, "DBSIZE")) for node in still.nodes]
    assert min(used) > 0, f"keys on the three nodes: {used}"


def test_live_output_of_all_nodes_is_followed_from_another_process(still: Cluster, cleanup: ExitStack) -> None:
    writer, reader = (open_system(still.url, cleanup, namespace="live") for _ in range(2))
    agents = [writer.spawn(f"acme/agent-{number}") for number in range(10)]
    followers = [reader.follow(agent.path, "answer") for agent in agents]
    for agent in agents:
        with agent.stream("answer") as out:
            for token in "abc":
                out.write(token)
    assert ["".join(follower) for follower in followers] == ["abc"] * 10
    assert "".join(writer.follow(agents[0].path, "answer", after=1)) == "bc"


def test_two_processes_send_each_other_what_is_for_their_agents(still: Cluster, cleanup: ExitStack) -> None:
    one, two = (open_system(still.url, cleanup, namespace="two") for _ in range(2))
    mine = [one.spawn(f"acme/one-{number}") for number in range(10)]
    for number, agent in enumerate(mine):
        other = two.agent(str(agent.path))
        assert other.set("n", number).seq == 2
        other.set("large", "x" * 200_000)
        assert (agent.get("n"), len(agent.get("large"))) == (number, 200_000)
    assert [one.log.hosts.owner(str(agent.path))[0].host for agent in mine] == [one.host] * 10


def test_a_client_of_redis_py_is_taken_with_its_password(cleanup: ExitStack) -> None:
    cluster = cleanup.enter_context(Cluster(password="secret-17"))
    client = cleanup.enter_context(cluster.client(password="secret-17"))
    with AgentSystem.open(client=client) as system:
        assert system.spawn("acme/alice").set("a", 1).seq == 2
    with AgentSystem.open(f"redis+cluster://:secret-17@{cluster.hosts}") as system:
        assert system.agent("acme/alice").get() == {"a": 1}


def test_what_is_no_cluster_and_what_is_one_are_told_apart_at_once(still: Cluster) -> None:
    with pytest.raises(UnsafeServer, match=r"write redis\+cluster://"):
        AgentSystem.open(still.nodes[0].tcp_url)
    with redis_server(tcp=True) as single, pytest.raises(InvalidMessage, match="write redis://"):
        AgentSystem.open(single.tcp_url.replace("redis:", "redis+cluster:"))


class Work:
    """Threads that append to lists of several agents, here and from another process, while a third one listens."""

    def __init__(self, cluster: Cluster, cleanup: ExitStack, *, durability: str = "memory") -> None:
        self.namespace = f"work-{uuid4().hex}"
        self.system, caller, listener = (self._open(cluster, cleanup) for _ in range(3))
        self.agents = [self.system.spawn(f"acme/agent-{number}") for number in range(8)]
        for agent in self.agents:
            agent.set("list", [])
        self.durability = durability
        self.heard: dict[str, list[int]] = {str(agent.path): [] for agent in self.agents}
        self.acknowledged: dict[str, list[int]] = {path: [] for path in self.heard}
        self.problems: list[DuramenError] = []
        self.subscription = cleanup.enter_context(
            listener.subscribe("acme/*/**", lambda change: self.heard[change.agent].append(change.seq))
        )
        self._stopping = threading.Event()
        cleanup.callback(self._stopping.set)
        systems = (self.system, caller)
        self._threads = [
            threading.Thread(target=self._append, args=(systems[number % 2].agent(str(agent.path)),))
            for number, agent in enumerate(self.agents)
        ]
        for thread in self._threads:
            thread.start()
        self.wait_for_progress()

    def _open(self, cluster: Cluster, cleanup: ExitStack) -> AgentSystem:
        """A system that waits for a failover that takes long, as one whose first election has failed does."""
        log = RedisLog(pool_of_url(cluster.url), namespace=self.namespace, retry_seconds=60.0)
        cleanup.callback(log.close)
        system = AgentSystem.open(log=log)
        cleanup.callback(system.close, timeout=1)
        return system

    def _append(self, agent: AgentHandle) -> None:
        done = self.acknowledged[str(agent.path)]
        while not self._stopping.is_set():
            number = len(done)
            try:
                agent.append("list", number, command_id=f"{agent.path}-{number}", durability=self.durability)
            except DuramenError as error:
                self.problems.append(error)
                self._stopping.wait(0.05)
            else:
                done.append(number)
                self._stopping.wait(0.002)  # not to keep the machine busy

    def wait_for_progress(self) -> None:
        """Wait until each agent was appended to 20 times more."""
        goals = {path: len(done) + 20 for path, done in self.acknowledged.items()}
        eventually(
            lambda: all(len(self.acknowledged[path]) >= goal for path, goal in goals.items()),
            60.0,
            what=f"progress; {self.problems[-3:]}",
        )

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def slot_of(self, agent: AgentHandle) -> int:
        return slot_of(self.system.log.log_key(str(agent.path)))

    def check(self) -> None:
        """Each append that was acknowledged is there once and in order, and the listener has heard each event once."""
        self.stop()
        for agent in self.agents:
            kept = agent.get("list")
            assert kept == list(range(len(kept)))
            assert set(self.acknowledged[str(agent.path)]) <= set(kept)
            heard = self.heard[str(agent.path)]
            seq = agent.status().seq
            eventually(partial(self._has_heard, heard, seq), 60.0, what=f"{heard[-1:]} of {seq}")
            if self._was_told_of_loss():
                continue  # it has heard what a primary had not confirmed when it died, and says so
            assert heard == list(range(heard[0], seq + 1))

    def _was_told_of_loss(self) -> bool:
        return isinstance(self.subscription.error, Diverged | DataLoss)

    def _has_heard(self, heard: list[int], seq: int) -> bool:
        return self._was_told_of_loss() or (bool(heard) and heard[-1] == seq)


def _has_subscriber(cluster: Cluster, node: Server, channel: str) -> bool:
    return bool(cluster.call(node, "PUBSUB", "SHARDNUMSUB", channel)[1] == 1)


def count_answers(cluster: Cluster, code: str) -> int:
    """How often the nodes have answered with an error since they started."""
    texts = [str(cluster.call(node, "INFO", "errorstats")) for node in cluster.running]
    return sum(int(count) for text in texts for count in re.findall(rf"errorstat_{code}\W+count\W+(\d+)", text))


def other_than(cluster: Cluster, node: Server) -> Server:
    return next(other for other in cluster.running if other is not node)


def test_a_slot_moves_with_its_keys_one_by_one_under_load(still: Cluster, cleanup: ExitStack) -> None:
    work = Work(still, cleanup)
    before = {code: count_answers(still, code) for code in ("MOVED", "ASK", "TRYAGAIN")}
    path, slot = str(work.agents[0].path), work.slot_of(work.agents[0])
    source = still.owner_of(slot)
    target = other_than(still, source)
    with still.migration(slot, target):
        heads = Keys(work.namespace).heads(work.system.log.partition_of(path))
        still.call(source, "MIGRATE", "127.0.0.1", target.port, heads, 0, 5000)
        assert work.system.log.hosts.locate(path).head is not None  # it is asked for where it is now
        assert count_answers(still, "ASK") > before["ASK"]
        eventually(lambda: count_answers(still, "TRYAGAIN") > before["TRYAGAIN"], what="an append that waits")
    work.wait_for_progress()
    work.check()
    assert not work.problems
    assert count_answers(still, "MOVED") > before["MOVED"]


def test_slots_of_all_agents_move_back_and_forth_under_load(still: Cluster, cleanup: ExitStack) -> None:
    work = Work(still, cleanup)
    for agent in work.agents[:4] * 2:
        slot = work.slot_of(agent)
        still.move(slot, other_than(still, still.owner_of(slot)))
    work.wait_for_progress()
    work.check()
    assert not work.problems


def test_a_slot_that_valkey_moves_as_a_whole_is_followed_under_load(cleanup: ExitStack) -> None:
    cluster = cleanup.enter_context(Cluster(kind="valkey"))
    work = Work(cluster, cleanup)
    slot = work.slot_of(work.agents[0])
    source = cluster.owner_of(slot)
    target = other_than(cluster, source)
    cluster.call(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.id_of(target))
    assert cluster.wait_for_failover(slot, source) is target
    work.wait_for_progress()
    work.check()
    assert not work.problems
    assert count_answers(cluster, "TRYAGAIN") == 0


def test_a_process_is_heard_when_the_slot_of_its_channel_has_moved(still: Cluster, cleanup: ExitStack) -> None:
    names = {"namespace": f"channel-{uuid4().hex}"}
    host, caller = (open_system(still.url, cleanup, **names) for _ in range(2))
    alice = host.spawn("acme/alice")
    other = caller.agent("acme/alice")
    assert other.set("n", 0).seq == 2
    channel = Keys(names["namespace"]).host_channel(host.host)
    for number in (1, 2):
        slot = slot_of(channel)
        target = other_than(still, still.owner_of(slot))
        still.move(slot, target)
        assert other.set("n", number).seq == 2 + number
        eventually(partial(_has_subscriber, still, target, channel))
    assert alice.get() == {"n": 2}


class Appended(KeyedProjection[list[int]]):
    """By agent: what was appended to its list."""

    def key(self, event: Event) -> str:
        return event.agent

    def apply(self, entry: list[int] | None, event: Event) -> list[int]:
        return [*(entry or []), *(event.data["values"] if event.type == "memory_appended" else [])]


@pytest.mark.timeout(300)
def test_primaries_are_killed_in_turn_under_load_and_their_replicas_go_on(cleanup: ExitStack) -> None:
    cluster = cleanup.enter_context(Cluster(replicas=True))
    work = Work(cluster, cleanup, durability="replicas:1")
    follower = open_system(cluster.url, cleanup, namespace=work.namespace)
    view = follower.attach(Appended(), "appended")
    for number in range(FAILOVERS):
        slot = work.slot_of(work.agents[number % len(work.agents)])
        old = cluster.owner_of(slot)
        cluster.expect_failures(True)
        old.kill9()
        cluster.wait_for_failover(slot, old)
        cluster.expect_failures(False)  # no other one loses what is written from now on without a replica
        work.durability = "memory"  # the one that was promoted has none
        work.wait_for_progress()
        old.start()  # and is the replica of the one that was promoted
        cluster.expect_failures(False)
        cluster.wait_until_ready()
        work.durability = "replicas:1"
        work.wait_for_progress()
    work.check()
    # What the dead ones had taken and not confirmed is told, and no other failure.
    assert {type(problem) for problem in work.problems} <= {Unconfirmed, DataLoss}
    lists = {str(agent.path): agent.get("list") for agent in work.agents}

    def is_exact() -> bool:
        if view.status == "parked":  # so are consumers that had read it, at once or later
            assert isinstance(view.error, DataLoss | Diverged)
            view.rebuild()
        return dict(view.state) == lists

    eventually(is_exact, 60.0, what="a view that is the fold of the log")


def test_a_primary_that_hangs_is_left_when_its_replica_is_promoted(cleanup: ExitStack) -> None:
    cluster = cleanup.enter_context(Cluster(replicas=True))
    work = Work(cluster, cleanup, durability="replicas:1")
    slot = work.slot_of(work.agents[0])
    old = cluster.owner_of(slot)
    old.pause()
    cleanup.callback(old.resume)
    cluster.wait_for_failover(slot, old)
    work.durability = "memory"
    work.wait_for_progress()  # while it hangs
    old.resume()
    eventually(lambda: cluster.call(old, "ROLE")[0] == b"slave", 30.0)
    work.check()
    assert {type(problem) for problem in work.problems} <= {Unconfirmed, DataLoss}


def test_each_node_is_spoken_to_over_tls(tmp_path: Path, cleanup: ExitStack) -> None:
    authority = Authority.make(tmp_path / "ca")
    own = authority.sign("127.0.0.1", "127.0.0.1")
    files = {"tls-cert-file": own.certificate, "tls-key-file": own.key, "tls-ca-cert-file": authority.file}
    config = {"tls-auth-clients": "no", **{name: str(file) for name, file in files.items()}}
    cluster = cleanup.enter_context(Cluster(config=config, with_tls=True))
    system = open_system(f"{cluster.tls_url}?ssl_ca_certs={authority.file}", cleanup)
    seen: set[str] = set()
    with system.subscribe("acme/*/**", lambda change: seen.add(change.agent)):
        for number in range(12):
            assert system.spawn(f"acme/agent-{number}").set("n", number).seq == 2
        eventually(lambda: len(seen) == 12)
    clients = [str(cluster.call(node, "CLIENT", "LIST")) for node in cluster.nodes]
    assert all(node.config["tls-port"] in text for node, text in zip(cluster.nodes, clients, strict=True))
    with pytest.raises(Unavailable, match="not signed by a CA"):
        AgentSystem.open(cluster.tls_url)


@pytest.fixture
def proxied(cleanup: ExitStack) -> FaultProxy:
    """A cluster of one node, to which everybody connects through a proxy, since that is the address it tells."""
    cluster = cleanup.enter_context(Cluster(primaries=1))
    proxy = cleanup.enter_context(FaultProxy(cluster.nodes[0].address))
    cluster.call(cluster.nodes[0], "CONFIG", "SET", "cluster-announce-port", proxy.address[1])
    return proxy


def test_an_append_whose_reply_was_lost_is_there_once(proxied: FaultProxy, cleanup: ExitStack) -> None:
    system = open_system(f"redis+cluster://127.0.0.1:{proxied.address[1]}", cleanup)
    alice = system.spawn("acme/alice")
    alice.set("list", [])
    for number in range(3):
        proxied.drop_reply(containing=b"EVALSHA", times=2)
        assert alice.append("list", number).seq == 3 + number
    assert alice.get("list") == [0, 1, 2]
    assert proxied.counts.replies_dropped == 6
    # The control: what a client sends again by itself stands in the list more than once.
    host, port = proxied.address
    with redis.RedisCluster(host=host, port=port) as client:
        proxied.drop_reply(containing=b"RPUSH", times=2)
        client.rpush("bare", "once")
        assert client.llen("bare") > 1


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://127.0.0.1:x",
        "redis+cluster://127.0.0.1:0",
        "redis+cluster://127.0.0.1:7000/3",
        "redis+cluster://127.0.0.1:7000?db=3",
        "redis+cluster://127.0.0.1:7000#x",
        "redis+cluster://127.0.0.1:7000?x=1",
        "redis+cluster://[127.0.0.1:7000",
    ],
)
def test_a_url_of_a_cluster_that_is_not_well_formed_is_refused(url: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        pool_of_url(url)
    assert "127.0.0.1" not in str(caught.value)


def test_a_cluster_on_another_machine_needs_tls() -> None:
    with pytest.raises(UnsafeServer):
        pool_of_url("redis+cluster://127.0.0.1,db.example.com")
    pool_of_url("redis+cluster://127.0.0.1,db.example.com", insecure=True)
    pool_of_url("rediss+cluster://user:p%40ss@db.example.com:7000,[::1]?socket_timeout=2")


def test_only_what_waits_for_a_missing_replica_waits(cleanup: ExitStack) -> None:
    """And it waits once, however many slots of its node were written: `WAIT` takes its time whenever it is asked."""
    cluster = cleanup.enter_context(Cluster(replicas=True))
    cluster.expect_failures(False)
    client = cleanup.enter_context(cluster.client(socket_timeout=60))  # WAIT takes half of it, which no test waits for
    system = AgentSystem.open(client=client)
    cleanup.callback(system.close, timeout=1)
    agents = [system.spawn(f"acme/agent-{number}") for number in range(40)]
    slots = {agent: slot_of(system.log.log_key(str(agent.path))) for agent in agents}
    lone = cluster.owner_of(slots[agents[0]])
    there = [agent for agent in agents if cluster.owner_of(slots[agent]) is lone]
    elsewhere = [agent for agent in agents if agent not in there]
    assert len({slots[agent] for agent in there}) > 2, "control: the node has several slots that are used"
    for agent in agents:
        assert agent.set("n", 0, durability="replicas:1").durability == "replicas:1"
    before = waits_of(cluster, lone)
    replica = cluster.replica_of(lone)
    replica.pause()
    waiting = [agent.ask(Set("n", 1, durability="replicas:1"), block=False) for agent in there]
    for agent in elsewhere:
        assert agent.set("n", 1, durability="replicas:1").durability == "replicas:1"
    for agent in agents:
        assert agent.get("n") == 1
        assert agent.set("n", 2).durability == "memory"
    assert not any(reply.done for reply in waiting), "control: the replica is missing still"
    replica.resume()
    assert {reply.get(timeout=60).durability for reply in waiting} == {"replicas:1"}
    assert waits_of(cluster, lone) - before <= 4, "two were under way, and all others shared the next"


def waits_of(cluster: Cluster, node: Server) -> int:
    """How often a node was asked to wait for its replicas."""
    found: dict[str, dict[str, int]] = cluster.call(node, "INFO", "commandstats")
    return found.get("cmdstat_wait", {"calls": 0})["calls"]
