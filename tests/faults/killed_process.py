"""A program whose children do one operation each, and are killed at one of their requests to the server.

    python killed_process.py URL

Reads orders, a line of JSON each: name of the operation, namespace, file, the number of the request to die at (0: at
none), and when: before it is sent ("nothing"), when "half" or "all" of it was sent, or when it was "answered" and the
reply is not read. A child is forked from a process that has imported everything and has one thread. Answers with a
line: how the child ended, and how many requests it made if it was not killed.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from duramen.actors import Agent, AgentSystem, Settings
from duramen.events.redis.client.wire import Wire
from duramen.projections import KeyedProjection, Projection
from waiting import eventually

__all__ = ["CHILD", "HELPERS", "OPERATIONS", "ROOT", "TREE", "Count", "PerAgent", "opened"]

_ANSWER_SECONDS = 0.5
"""A request that waits at the server for something to come is answered no sooner."""
ROOT = "acme/root"
CHILD = "acme/root/a"
TREE = (ROOT, CHILD, "acme/root/b", "acme/root/a/c", "acme/root/a/d")
HELPERS = ("acme/root/x", "acme/root/y")


class Lead(Agent):
    """Spawns and ends sub-agents in its handler."""

    def on_receive(self, message: Any) -> Any:
        if message == "delegate":
            for path in HELPERS:
                self.spawn_child(path.rpartition("/")[2], initial_state={"task": "read"})
            self.set("delegated", True)
        else:
            self.set("finished", True)
            self.terminate("success", task_description="all of it")


class Count(Projection[int]):
    version = 1

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Any) -> int:
        return state + 1


class CountAgain(Count):
    """A view of another form: it is built anew beside the one of before."""

    version = 2


class PerAgent(KeyedProjection[int]):
    version = 1

    def key(self, event: Any) -> str:
        return str(event.agent)

    def apply(self, entry: int | None, event: Any) -> int:
        return (entry or 0) + 1


def opened(url: str, namespace: str) -> AgentSystem:
    settings = Settings(snapshot_every=10)
    return AgentSystem.open(url, namespace=namespace, partitions=2, settings=settings, agents={"lead": Lead})


def fill(system: AgentSystem) -> None:
    system.spawn(ROOT, agent_type="lead", initial_state={"list": []})
    for path in TREE[1:]:
        parent, _, name = path.rpartition("/")
        system.agent(parent).spawn_child(name)
    for number in range(8):
        system.agent(ROOT).append("list", number)
    for path in TREE[1:]:
        with system.agent(path).batch() as notes:
            for number in range(6):
                notes.set(f"notes/{number}", number)
    root = system.agent(ROOT)
    root.pause(checkpoint_id="kept", cascade=True).raise_for_failure()
    root.resume("kept", cascade=True).raise_for_failure()
    for path in TREE:
        system.agent(path).set("since", True)


def batch(system: AgentSystem) -> None:
    with system.agent(ROOT).batch() as batch:
        for number in range(20):
            batch.set(f"batch/{number}", number)


def attach(system: AgentSystem, projection: Any) -> None:
    with system.attach(projection, name="count") as runner:
        runner.wait_for(system.agent(ROOT).set("last", True), timeout=60, saved=True)


def rebuild(system: AgentSystem) -> None:
    with system.attach(Count(), name="count") as runner:
        runner.rebuild()
        runner.wait_for(system.agent(ROOT).set("last", True), timeout=60, saved=True)


def delegate(system: AgentSystem) -> None:
    """Sub-agents of a handler are spawned after its reply has left."""
    system.agent(ROOT).ask("delegate")
    eventually(lambda: all(system.log.head(path) is not None for path in HELPERS))


def done(result: Any) -> None:
    result.raise_for_failure()


def pause_tree(system: AgentSystem, file: str) -> None:
    done(system.agent(ROOT).pause(checkpoint_id="now", cascade=True))


def end_tree(system: AgentSystem, file: str) -> None:
    done(system.agent(ROOT).terminate(outcome="success", cascade=True))


OPERATIONS: dict[str, Callable[[AgentSystem, str], object]] = {
    "fill": lambda system, file: fill(system),
    "pause a branch": lambda system, file: done(system.agent(CHILD).pause(checkpoint_id="alone")),
    "end a branch": lambda system, file: done(system.agent(CHILD).terminate(cascade=True)),
    "pause": lambda system, file: done(system.agent(CHILD).pause(checkpoint_id="now")),
    "pause the tree": pause_tree,
    "pause a tree that is paused in part": pause_tree,
    "resume": lambda system, file: done(system.agent(CHILD).resume("kept", clear_current=True)),
    "resume the tree": lambda system, file: done(system.agent(ROOT).resume("kept", cascade=True, clear_current=True)),
    "end the pause of the tree": lambda system, file: done(system.agent(ROOT).resume(cascade=True)),
    "terminate": lambda system, file: done(system.agent(CHILD).terminate(outcome="success", cascade=False)),
    "terminate the tree": end_tree,
    "terminate a tree that has ended in part": end_tree,
    "terminate in a handler": lambda system, file: system.agent(ROOT).ask("finish"),
    "spawn a sub-agent": lambda system, file: system.agent(ROOT).spawn_child("c"),
    "spawn sub-agents in a handler": lambda system, file: delegate(system),
    "export": lambda system, file: system.export_session(ROOT, file, tree=True),
    "import": lambda system, file: system.import_session(file),
    "import to another path": lambda system, file: system.import_session(file, to="acme/copy"),
    "fork": lambda system, file: system.fork(ROOT, at=5, to="acme/fork"),
    "fork the tree": lambda system, file: system.fork(ROOT, to="acme/fork", tree=True),
    "erase": lambda system, file: system.erase(ROOT),
    "erase a branch": lambda system, file: system.erase(CHILD),
    "erase what a consumer has read": lambda system, file: system.erase(ROOT),
    "trim": lambda system, file: system.trim(ROOT, keep_events=1),
    "batch": lambda system, file: batch(system),
    "attach a consumer": lambda system, file: attach(system, Count()),
    "attach a keyed consumer": lambda system, file: attach(system, PerAgent()),
    "attach a new version of a consumer": lambda system, file: attach(system, CountAgain()),
    "rebuild a consumer": lambda system, file: rebuild(system),
    "remove a consumer": lambda system, file: system.consumers.remove("count"),
}


class Requests:
    """Counts what is sent to the server, and kills this process at one of them."""

    def __init__(self, at: int, sent: str) -> None:
        self.count = 0
        self._lock = threading.Lock()
        send = Wire.send

        def counted(wire: Wire, data: bytes) -> None:
            with self._lock:
                self.count += 1
                if self.count != at:
                    send(wire, data)
                    return
                if sent != "nothing":
                    send(wire, data[: len(data) // 2] if sent == "half" else data)
                if sent == "answered" and wire.descriptor is not None:
                    select.select([wire.descriptor], [], [], _ANSWER_SECONDS)
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(Wire, "send", counted)


def run(url: str, order: dict[str, Any]) -> None:
    """In a child: the operation; its end is the process's."""
    code = 0
    system = opened(url, order["namespace"])
    eventually(
        lambda: not system._finder._is_looking, what="the look at what is unfinished, which is not the operation's"
    )
    requests = Requests(order["at"], order["sent"])
    try:
        OPERATIONS[order["operation"]](system, order["file"])
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 1
    os.write(order["answer"], str(requests.count).encode())
    system.close(timeout=10)
    os._exit(code)


def main() -> None:
    url = sys.argv[1]
    AgentSystem.open("memory://").close()  # imports what is imported at the first use, once and not in each child
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            run(url, {**order, "answer": writing})
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            count = answer.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), int(count or 0)]), flush=True)


if __name__ == "__main__":
    main()
