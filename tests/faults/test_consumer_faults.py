"""Consumers under kill -9, lost connections and restarted servers: the view is the fold of the log, always."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from duramen.actors import AgentSystem
from duramen.events import Fenced
from duramen.projections import Runner
from faults.proxy import Counts, FaultProxy
from following import LastSeqs, PerAgent, expected_seqs, seqs_of
from postgres import postgres_server
from servers import Server, redis_server, valkey_server
from sinks import sink_of
from waiting import eventually

AGENTS = [f"project-{number}/agent" for number in range(4)]
PROCESS = Path(__file__).with_name("consumer_process.py")
ROUNDS = 5


@pytest.fixture(params=[valkey_server, redis_server], ids=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with request.param(aof=True) as found:
        yield found


@pytest.fixture
def system(server: Server) -> Iterator[AgentSystem]:
    with AgentSystem.open(server.url, namespace=f"n{uuid4().hex}") as found:
        yield found


class Writers:
    """Write to all agents until they are told to stop."""

    def __init__(self, system: AgentSystem) -> None:
        self._system = system
        self._stop = threading.Event()
        self.written = 0
        self._threads = [threading.Thread(target=self._write, args=(path,)) for path in AGENTS]

    def __enter__(self) -> Writers:
        for path in AGENTS:
            self._system.spawn(path)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for_more(self, batches: int) -> None:
        enough = self.written + batches
        eventually(lambda: self.written >= enough, 30)

    def _write(self, path: str) -> None:
        agent = self._system.agent(path)
        number = 0
        while not self._stop.is_set():
            number += 1
            with agent.batch() as batch:
                for item in range(number % 3 + 1):
                    batch.set("n", item)
            self.written += 1
            self._stop.wait(0.002)


def has_decided(runner: Runner[Any]) -> bool:
    return runner.status in ("live", "fenced")


class Consumers:
    """Processes that keep the view, one after the other."""

    def __init__(self, server: Server, system: AgentSystem, kind: str, **more: Any) -> None:
        namespace = str(system.log.log_key("a/b")).partition("{")[2].partition(":")[0]
        self._told = {"url": server.url, "namespace": namespace, "kind": kind, **more}
        self._running: list[subprocess.Popen[str]] = []

    def start(self, die: str | None = None, after: int = 1) -> subprocess.Popen[str]:
        told = json.dumps({**self._told, "die": die, "after": after})
        environ = {**os.environ, "PYTHONPATH": str(PROCESS.parents[1])}
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(PROCESS), told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        self._running.append(process)
        return process

    def run_to_death(self, die: str, after: int) -> None:
        process = self.start(die, after)
        assert process.wait(60) == -signal.SIGKILL

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait(30)
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()


def stored_seqs(system: AgentSystem, kind: str) -> dict[str, list[int]]:
    """What a fresh look at the store gives, without applying anything."""
    if kind not in ("whole", "keyed"):
        sink = sink_of(kind)
        try:
            return sink.rows()
        finally:
            sink.close()
    runner: Runner[Any] = system.attach(LastSeqs() if kind == "whole" else PerAgent(), "view")
    try:
        runner.wait_for(saved=True)
        return seqs_of(runner.state)
    finally:
        runner.close()


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture
def place_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    def place(kind: str) -> str:
        if kind == "sqlite":
            return str(tmp_path / "view.db")
        if kind == "postgres":
            url = str(request.getfixturevalue("postgres_url"))
            sink = sink_of(url)
            sink.reset("view")
            sink.close()
            return url
        return kind

    return place


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("server", "kind", "places"),
    [
        (valkey_server, "whole", ["apply", "dump"]),
        (redis_server, "whole", ["apply", "dump"]),
        (valkey_server, "keyed", ["apply", "dump"]),
        (redis_server, "keyed", ["apply", "dump"]),
        # What these store does not stand on the server.
        (valkey_server, "sqlite", ["before commit", "after commit"]),
        (valkey_server, "postgres", ["before commit", "after commit"]),
    ],
    indirect=["server"],
)
def test_a_consumer_that_is_killed_again_and_again_counts_each_event_once(
    server: Server, system: AgentSystem, kind: str, places: list[str], place_of: Callable[[str], str]
) -> None:
    chance = random.Random(7)
    kind = place_of(kind)
    consumers = Consumers(server, system, kind)
    try:
        with Writers(system) as writers:
            for number in range(ROUNDS):
                most = 300 if places[number % 2] == "apply" else 5
                consumers.run_to_death(places[number % 2], chance.randint(1, most))
            assert writers.written > ROUNDS
        last = consumers.start()
        assert last.stdout is not None
        assert last.stdout.readline() == "live\n"
        if kind not in ("whole", "keyed"):
            assert stored_seqs(system, kind) == expected_seqs(system)
    finally:
        consumers.close()
    assert stored_seqs(system, kind) == expected_seqs(system)


@pytest.mark.parametrize("keyed", [False, True], ids=["whole", "keyed"])
def test_control_a_store_of_two_writes_counts_twice_under_the_same_kill(
    server: Server, system: AgentSystem, keyed: bool
) -> None:
    consumers = Consumers(server, system, "two writes", keyed=keyed)
    try:
        with Writers(system):
            for number in range(3):
                consumers.run_to_death("between", number + 2)
    finally:
        consumers.close()
    assert stored_seqs(system, "keyed" if keyed else "whole") != expected_seqs(system)


@pytest.mark.parametrize("kind", ["whole", "keyed"])
def test_killed_from_outside_at_any_moment(server: Server, system: AgentSystem, kind: str) -> None:
    chance = random.Random(11)
    consumers = Consumers(server, system, kind)
    never = threading.Event()
    try:
        with Writers(system):
            for _ in range(ROUNDS // 2):
                process = consumers.start()
                assert process.stdout is not None
                assert process.stdout.readline() == "live\n"
                never.wait(chance.random() * 0.2)
                process.kill()
                process.wait(30)
    finally:
        consumers.close()
    assert stored_seqs(system, kind) == expected_seqs(system)


def test_processes_that_take_the_name_from_each_other_lose_and_double_nothing(
    server: Server, system: AgentSystem
) -> None:
    with Writers(system) as writers:
        systems = [AgentSystem.open(server.url, namespace=_namespace(system)) for _ in range(3)]
        try:
            runners = [found.attach(LastSeqs(), "view") for found in systems]
            for number in range(30):
                writers.wait_for_more(1)
                found = systems[number % 3]
                runner = runners[number % 3]
                if runner.ended:
                    runners[number % 3] = found.attach(LastSeqs(), "view")
                else:
                    eventually(partial(has_decided, runner))
            statuses = {runner.status for runner in runners}
            eventually(lambda: [runner.status for runner in runners].count("fenced") >= 2)
            assert statuses <= {"live", "fenced", "catching_up"}
            assert all(isinstance(runner.error, Fenced) for runner in runners if runner.status == "fenced")
        finally:
            for found in systems:
                found.close()
    assert stored_seqs(system, "whole") == expected_seqs(system)


def _namespace(system: AgentSystem) -> str:
    return system.log.log_key("a/b").partition("{")[2].partition(":")[0]


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
def test_connections_that_are_killed_cost_time_and_nothing_else(server: Server, system: AgentSystem, kind: str) -> None:
    runner = system.attach(LastSeqs(), "view")
    client = server.client()
    with Writers(system) as writers:
        for _ in range(15):
            writers.wait_for_more(3)
            client.execute_command("CLIENT", "KILL", "TYPE", kind)
    client.close()
    eventually(lambda: seqs_of(runner.state) == expected_seqs(system), timeout=30)
    eventually(lambda: system.projections()[0].lag == 0, timeout=30)
    assert runner.error is None


def test_a_server_that_restarts_loses_no_view(server: Server, system: AgentSystem) -> None:
    runners: list[Runner[Any]] = [system.attach(LastSeqs(), "whole"), system.attach(PerAgent(), "keyed")]
    with Writers(system) as writers:
        for _ in range(3):
            writers.wait_for_more(11)
            server.kill9()
            server.start()
    for runner in runners:
        runner.wait_for(timeout=30, saved=True)
        assert seqs_of(runner.state) == expected_seqs(system)
        assert runner.status == "live"


def test_a_server_that_is_away_is_waited_for_and_closing_is_bounded(system: AgentSystem, server: Server) -> None:
    runner = system.attach(LastSeqs(), "view")
    runner.wait_for(system.spawn("acme/alice").set("a", 1))
    server.stop()
    assert runner.close(timeout=20) in (True, False)
    assert runner.status == "closed"
    server.start()


@pytest.fixture
def far(server: Server) -> Iterator[tuple[AgentSystem, AgentSystem, FaultProxy]]:
    """A system at the server, another one behind a network with faults."""
    namespace = f"n{uuid4().hex}"
    with (
        FaultProxy(server.socket_path) as proxy,
        AgentSystem.open(server.url, namespace=namespace) as near,
        AgentSystem.open(f"{proxy.url}?socket_timeout=1", namespace=namespace) as distant,
    ):
        yield near, distant, proxy


def has_struck(times: int, counts: Counts) -> bool:
    return counts.requests_dropped + counts.replies_dropped >= times


@pytest.mark.parametrize("kind", ["whole", "keyed"])
@pytest.mark.parametrize("fault", ["drop_request", "drop_reply"])
def test_saves_whose_question_or_answer_is_lost_are_made_once(
    far: tuple[AgentSystem, AgentSystem, FaultProxy], fault: str, kind: str
) -> None:
    near, distant, proxy = far
    runner: Runner[Any] = distant.attach(LastSeqs() if kind == "whole" else PerAgent(), "view")
    with Writers(near):
        for already in range(0, 10, 2):
            getattr(proxy, fault)(2, containing=b"live:view", times=2)
            proxy.wait_until(partial(has_struck, already + 2), 60)
    runner.wait_for(timeout=60, saved=True)
    assert seqs_of(runner.state) == expected_seqs(near)
    runner.close()
    assert stored_seqs(near, kind) == expected_seqs(near)


@pytest.mark.parametrize("fault", ["sever", "black_hole"])
def test_a_network_that_is_cut_or_goes_silent_delays_the_view_and_changes_nothing(
    far: tuple[AgentSystem, AgentSystem, FaultProxy], fault: str
) -> None:
    near, distant, proxy = far
    runner = distant.attach(LastSeqs(), "view")
    with Writers(near) as writers:
        for _ in range(3):
            getattr(proxy, fault)()
            writers.wait_for_more(21)
            proxy.release()
    runner.wait_for(timeout=60, saved=True)
    assert seqs_of(runner.state) == expected_seqs(near)
    runner.close()
    assert stored_seqs(near, "whole") == expected_seqs(near)
