"""Who may write: sleepers that wake up, agents that others deleted, servers that forgot, forks, and the end."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from duramen.actors import AgentSystem, Set
from duramen.events.errors import AgentNotFound, CorruptEvent, DataLoss, DuramenError, SystemClosed
from faults.evidence import Evidence
from faults.programs import running
from faults.proxy import FaultProxy
from servers import Server, valkey_server
from waiting import eventually

AGENT = "acme/alice"


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


# -- the zombie -----------------------------------------------------------------------------------------------------


ZOMBIE = """\
import json, sys
from duramen.actors import AgentSystem, Get, Set
from duramen.events import DuramenError

url, namespace = sys.argv[1:]

def outcome(reply):
    try:
        return reply.get(timeout=60).seq
    except DuramenError as error:
        return type(error).__name__

with AgentSystem.open(url, namespace=namespace) as system:
    agent = system.spawn("acme/alice")
    agent.set("mine", 0)
    print("spawned", flush=True)
    sys.stdin.readline()
    replies = [agent.ask(Set("zombie-0", 0), block=False)]
    print("under way", flush=True)
    sys.stdin.readline()
    replies += [agent.ask(Set(f"zombie-{n}", n), block=False) for n in range(1, 20)]
    read = agent.ask(Get(), block=False)  # asked before it was stopped
    print("stop me", flush=True)
    sys.stdin.readline()
    print(json.dumps([outcome(reply) for reply in replies]), flush=True)
    print(json.dumps(read.get(timeout=60)), flush=True)
    print(json.dumps(agent.get()), flush=True)
    sys.stdin.readline()
    print(agent.set("back", True).seq, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["the reply is under way", "the request is under way"])
def test_what_an_owner_that_slept_had_queued_is_done_once_by_the_one_that_took_its_agent(
    server: Server, evidence: Evidence, proxy: FaultProxy, fault: str
) -> None:
    with (
        running(ZOMBIE, proxy.url, evidence.namespace) as zombie,
        AgentSystem.open(server.url, namespace=evidence.namespace) as system,
    ):
        zombie.expect("spawned")
        reply = fault == "the reply is under way"
        if reply:
            proxy.hold_replies(containing=b"zombie-0")
        else:
            proxy.black_hole()
        zombie.say("begin")
        zombie.expect("under way")
        proxy.wait_until(lambda counts: bool(counts.replies_held if reply else counts.requests_swallowed))
        zombie.say("queue")
        zombie.expect("stop me")
        zombie.stop()
        thief = system.agent(AGENT)
        for number in range(100):
            thief.set(f"thief-{number}", number)
        proxy.release()
        zombie.say("go on")
        zombie.wake()
        outcomes = json.loads(zombie.hear())
        # What was in the log before the other came is acknowledged; the rest was sent on, and stands behind it.
        paths = [path for path, _ in evidence.sets(AGENT)]
        assert [path for path in paths if path.startswith("zombie-")] == [f"zombie-{n}" for n in range(20)]
        assert paths.index("zombie-1") > paths.index("thief-99")
        assert (paths.index("zombie-0") < paths.index("thief-0")) is reply
        first = paths.index("zombie-0") + 2
        assert outcomes == [first, *range(paths.index("zombie-1") + 2, len(paths) + 2)]
        # Its reads show what the other wrote, also one that was asked before.
        expected = evidence.memory(AGENT)
        assert expected["thief-99"] == 99
        assert json.loads(zombie.hear()) == expected
        assert json.loads(zombie.hear()) == expected
        # Asked again, it has the other do it.
        zombie.say("set")
        assert zombie.hear() == str(len(evidence.events(AGENT)))
        assert thief.get("back") is True
        assert thief.set("last", 1).seq == len(evidence.events(AGENT))


def test_two_systems_that_take_an_agent_from_one_another_lose_and_repeat_nothing(
    server: Server, evidence: Evidence
) -> None:
    with (
        AgentSystem.open(server.url, namespace=evidence.namespace) as one,
        AgentSystem.open(server.url, namespace=evidence.namespace) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        one.spawn(AGENT)
        acknowledged: dict[str, list[int]] = {"one": [], "other": []}

        def write(name: str, system: AgentSystem) -> None:
            agent = system.agent(AGENT)
            for number in range(60):
                try:
                    agent.set(f"{name}-{number}", number)
                except DuramenError:
                    continue
                acknowledged[name].append(number)

        for done in [pool.submit(write, "one", one), pool.submit(write, "other", other)]:
            done.result(60)
        paths = [path for path, _ in evidence.sets(AGENT)]
        for name, numbers in acknowledged.items():
            assert [path for path in paths if path.startswith(f"{name}-")] == [f"{name}-{n}" for n in numbers]
        assert len(paths) == sum(map(len, acknowledged.values())) > 0
        assert one.agent(AGENT).get() == other.agent(AGENT).get() == evidence.memory(AGENT)


# -- deleted, forgotten, damaged ------------------------------------------------------------------------------------


def test_an_agent_that_another_process_deleted_is_not_written_again(server: Server, evidence: Evidence) -> None:
    with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
        agent = system.spawn(AGENT)
        agent.set("a", 1)
        client = evidence.client
        client.delete(evidence.key(AGENT))
        client.hdel(evidence.key(AGENT, "heads"), AGENT)
        for _ in range(2):
            with pytest.raises(AgentNotFound) as caught:
                agent.set("a", 2)
            assert caught.value.agent == AGENT
        with pytest.raises(AgentNotFound):
            agent.get()
        assert evidence.items(AGENT) == []
        assert evidence.head(AGENT) is None
        # Whoever wants it anew says so.
        system.spawn(AGENT, initial_state={"new": True})
        assert agent.get() == {"new": True}
        assert [event.type for event in evidence.events(AGENT)] == ["spawned"]


def test_an_agent_whose_list_alone_was_deleted_is_corrupt_and_stays_as_it_is(
    server: Server, evidence: Evidence
) -> None:
    with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
        agent = system.spawn(AGENT)
        agent.set("a", 1)
        head = evidence.head(AGENT)
        assert head is not None
        evidence.client.delete(evidence.key(AGENT))
        for call in (lambda: agent.set("a", 2), agent.get, lambda: system.spawn(AGENT)):
            with pytest.raises(CorruptEvent) as caught:
                call()
            assert caught.value.agent == AGENT
        assert evidence.items(AGENT) == []
        left = evidence.head(AGENT)
        assert left is not None
        assert left[:3] == head[:3]


def test_a_server_that_forgot_everything_is_not_filled_from_memory() -> None:
    """Without a file, as servers are by default: nothing is made again by who remembers it."""
    with valkey_server() as server:
        evidence = Evidence(server)
        with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
            agent = system.spawn(AGENT)
            agent.set("a", 1)
            server.kill9()
            server.start()
            with pytest.raises(AgentNotFound):
                agent.set("a", 2)
        assert evidence.client.keys("*") == []


def test_a_server_that_comes_back_with_older_data_is_told_and_not_filled_up(tmp_path: Any) -> None:
    with valkey_server(directory=tmp_path) as server:
        evidence = Evidence(server)
        with AgentSystem.open(server.url, namespace=evidence.namespace) as system:
            agent = system.spawn(AGENT)
            agent.set("a", 1)
            evidence.client.save()
            agent.set("b", 2)
            agent.set("c", 3)
            server.kill9()
            server.start()
            with pytest.raises(DataLoss) as caught:
                agent.set("d", 4)
            assert (caught.value.agent, caught.value.expected, caught.value.actual) == (AGENT, 4, 2)
            assert evidence.sets(AGENT) == [("a", 1)]
            # Told once, it goes on from what there is.
            assert agent.get() == {"a": 1}
            assert agent.set("e", 5).seq == 3
        assert evidence.memory(AGENT) == {"a": 1, "e": 5}


# -- forks ----------------------------------------------------------------------------------------------------------


FORKING = """\
import asyncio, json, os, sys, time
from duramen.actors import AgentSystem, Set
from duramen.events import DuramenError

url, namespace = sys.argv[1:]
options = {} if url == "memory://" else {"namespace": namespace}

def tried(call):
    began = time.monotonic()
    try:
        call()
        name = "returned"
    except BaseException as error:
        name = type(error).__name__
    return [name, time.monotonic() - began < 20]

with AgentSystem.open(url, **options) as system:
    agent = system.spawn("acme/alice")
    agent.set("before", 1)
    system.hooks.on_pause(lambda event: None)
    if os.fork() == 0:
        calls = {
            "set": lambda: agent.set("child", 1),
            "get": lambda: agent.get(),
            "ask": lambda: agent.ask(Set("child", 1), block=False).get(timeout=30),
            "tell": lambda: agent.tell(Set("child", 1)),
            "spawn": lambda: system.spawn("acme/bob"),
            "pause": lambda: agent.pause(),
            "aio": lambda: asyncio.run(agent.aio.set("child", 1)),
        }
        print(json.dumps({name: tried(call) for name, call in calls.items()}), flush=True)
        print(json.dumps(tried(system.close)), flush=True)
        with AgentSystem.open(url, **options) as own:
            mine = own.spawn("acme/child")
            mine.set("a", 1)
            print(json.dumps(mine.get()), flush=True)
        sys.exit(0)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    print(json.dumps([status, agent.set("after", 2).seq, agent.get()]), flush=True)
print("closed", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "server"])
def test_a_forked_child_is_refused_at_once_and_its_parent_goes_on(
    server: Server, evidence: Evidence, kind: str
) -> None:
    url = "memory://" if kind == "memory" else server.url
    with running(FORKING, url, evidence.namespace) as program:
        refused = json.loads(program.hear())
        assert refused == {name: ["SystemClosed", True] for name in refused}
        assert len(refused) == 7
        assert json.loads(program.hear()) == ["returned", True]
        assert json.loads(program.hear()) == {"a": 1}
        assert json.loads(program.hear()) == [0, 3, {"before": 1, "after": 2}]
        program.expect("closed")
        assert program.process.wait(20) == 0
    if kind == "server":
        assert evidence.sets(AGENT) == [("before", 1), ("after", 2)]
        assert evidence.sets("acme/child") == [("a", 1)]


# -- the end --------------------------------------------------------------------------------------------------------


def outcome(call: Any) -> Any:
    """The seq of what was acknowledged, or the error; fails for what is neither."""
    try:
        return call().seq
    except DuramenError as error:
        return error


@pytest.mark.parametrize("answered", [True, False], ids=["a server that answers", "a server that does not"])
def test_every_command_under_way_at_the_end_is_acknowledged_or_a_typed_error(
    evidence: Evidence, proxy: FaultProxy, answered: bool
) -> None:
    system = AgentSystem.open(proxy.url, namespace=evidence.namespace)
    agents = [system.spawn(f"acme/agent-{number}") for number in range(20)]
    proxy.hold_replies(containing=b"memory_set")
    replies = [(agent, agent.ask(Set(f"k{n}", n), block=False)) for n in range(5) for agent in agents]
    proxy.wait_until(lambda counts: counts.replies_held > 0)
    began = time.monotonic()
    closing = threading.Thread(target=system.close, args=(1.0,))
    closing.start()
    if answered:
        proxy.release()
    closing.join(30)
    assert not closing.is_alive()
    assert time.monotonic() - began < 20
    assert all(reply.done for _, reply in replies)
    outcomes = [(agent, outcome(lambda reply=reply: reply.get(timeout=0))) for agent, reply in replies]
    if answered:
        assert all(isinstance(result, int) for _, result in outcomes)
    else:
        assert any(isinstance(result, DuramenError) for _, result in outcomes)
    proxy.release()
    for agent in agents:
        events = evidence.events(agent.path.text)
        acknowledged = [result for other, result in outcomes if other is agent and isinstance(result, int)]
        assert len(set(acknowledged)) == len(acknowledged)
        assert all(1 < seq <= len(events) for seq in acknowledged)
    with pytest.raises(SystemClosed):
        agents[0].set("late", 1)


def test_callers_in_threads_at_the_end_are_acknowledged_or_get_a_typed_error(
    server: Server, evidence: Evidence
) -> None:
    system = AgentSystem.open(server.url, namespace=evidence.namespace)
    agents = [system.spawn(f"acme/agent-{number}") for number in range(10)]
    started = threading.Barrier(101)

    def write(number: int) -> list[Any]:
        agent, results = agents[number % 10], []
        started.wait(20)
        for item in range(1_000):
            result = outcome(lambda item=item: agent.set(f"k{number}-{item}", item))
            results.append((f"k{number}-{item}", result))
            if isinstance(result, DuramenError):
                break
        return results

    with ThreadPoolExecutor(100) as pool:
        writing = [pool.submit(write, number) for number in range(100)]
        started.wait(20)
        eventually(lambda: len(evidence.items("acme/agent-0")) > 20)
        system.close(timeout=10)
        results = [result for done in writing for result in done.result(30)]
    acknowledged = {path for path, result in results if isinstance(result, int)}
    stored = {path for agent in agents for path, _ in evidence.sets(agent.path.text)}
    assert acknowledged <= stored
    assert {type(result) for _, result in results} == {int, SystemClosed}
    assert stored == acknowledged


TERMINATED = """\
import json, signal, sys, threading
from duramen.actors import AgentSystem
from duramen.events import DuramenError

def end(*_):
    sys.exit(3)

signal.signal(signal.SIGTERM, end)
results, lock = [], threading.Lock()

def write(agent, number):
    for item in range(100_000):
        path = f"k{number}-{item}"
        try:
            result = agent.set(path, item).seq
        except DuramenError as error:
            result = type(error).__name__
        with lock:
            results.append([path, result])
        if isinstance(result, str):
            return

threads = []
try:
    with AgentSystem.open(sys.argv[1], namespace=sys.argv[2]) as system:
        agents = [system.spawn(f"acme/agent-{number}") for number in range(10)]
        threads = [threading.Thread(target=write, args=(agents[n % 10], n)) for n in range(100)]
        for thread in threads:
            thread.start()
        print("running", flush=True)
        threading.Event().wait()
finally:
    for thread in threads:
        thread.join(20)
    print(json.dumps([results, [thread.name for thread in threads if thread.is_alive()]]), flush=True)
"""


@pytest.mark.slow
def test_a_hundred_callers_at_sigterm_are_acknowledged_or_get_a_typed_error(server: Server, evidence: Evidence) -> None:
    with running(TERMINATED, server.url, evidence.namespace) as program:
        program.expect("running")
        eventually(lambda: len(evidence.items("acme/agent-9")) > 20)
        program.process.send_signal(signal.SIGTERM)
        results, alive = json.loads(program.hear())
        assert program.process.wait(20) == 3
    assert alive == []
    stored = {path for number in range(10) for path, _ in evidence.sets(f"acme/agent-{number}")}
    acknowledged = {path for path, result in results if isinstance(result, int)}
    assert len(acknowledged) > 20
    assert acknowledged == stored
    assert {result for _, result in results if isinstance(result, str)} <= {"SystemClosed", "OutcomeUnknown"}
