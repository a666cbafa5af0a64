"""A cluster: keys on several nodes, a primary that dies, slots that move, while agents work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from clusters import Cluster
from duramen.actors import AgentSystem
from duramen.events import InvalidMessage, UnsafeServer
from duramen.events.redis.client.connection import pool_of_url
from servers import redis_server
from waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def still() -> Iterator[Cluster]:
    """Three primaries, for tests that change nothing about the nodes."""
    with Cluster() as cluster:
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
