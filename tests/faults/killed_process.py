"""A program whose children do one operation each, and are killed at one of their requests to the server.

    python killed_process.py URL

Reads orders, a line of JSON each: name of the operation, namespace, file, the number of the request to die at (0: at
none), and how much of that request is sent: nothing, half, or all. A child is forked from a process that has imported
everything and has one thread. Answers with a line: how the child ended, and how many requests it made if it was not
killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from duramen.actors import AgentSystem, Settings
from duramen.events.redis.client.wire import Wire
from duramen.projections import Projection

__all__ = ["CHILDREN", "OPERATIONS", "ROOT", "TREE", "Count", "opened"]

ROOT = "acme/root"
CHILDREN = ("acme/root/a", "acme/root/b")
TREE = (ROOT, *CHILDREN)


class Count(Projection[int]):
    version = 1

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Any) -> int:
        return state + 1


def opened(url: str, namespace: str) -> AgentSystem:
    return AgentSystem.open(url, namespace=namespace, partitions=2, settings=Settings(snapshot_every=10))


def fill(system: AgentSystem) -> None:
    root = system.spawn(ROOT, initial_state={"list": []})
    for child in CHILDREN:
        root.spawn_child(child.rpartition("/")[2])
    for number in range(8):
        for path in TREE:
            if path == ROOT:
                root.append("list", number)
            else:
                system.agent(path).set(f"notes/{number}", number)
    root.pause(checkpoint_id="kept", cascade=True).raise_for_failure()
    root.resume("kept", cascade=True).raise_for_failure()
    for path in TREE:
        system.agent(path).set("since", True)


def batch(system: AgentSystem, file: str) -> None:
    with system.agent(ROOT).batch() as batch:
        for number in range(20):
            batch.set(f"batch/{number}", number)


def attach(system: AgentSystem, file: str) -> None:
    with system.attach(Count(), name="count") as runner:
        runner.wait_for(system.agent(ROOT).set("last", True), timeout=20, saved=True)


def rebuild(system: AgentSystem, file: str) -> None:
    with system.attach(Count(), name="count") as runner:
        runner.rebuild()
        runner.wait_for(system.agent(ROOT).set("last", True), timeout=20, saved=True)


def done(result: Any) -> None:
    result.raise_for_failure()


OPERATIONS: dict[str, Callable[[AgentSystem, str], object]] = {
    "fill": lambda system, file: fill(system),
    "pause the tree": lambda system, file: done(system.agent(ROOT).pause(checkpoint_id="now", cascade=True)),
    "resume the tree": lambda system, file: done(system.agent(ROOT).resume("kept", cascade=True, clear_current=True)),
    "terminate the tree": lambda system, file: done(system.agent(ROOT).terminate(outcome="success", cascade=True)),
    "export": lambda system, file: system.export_session(ROOT, file, tree=True),
    "import": lambda system, file: system.import_session(file),
    "import to another path": lambda system, file: system.import_session(file, to="acme/copy"),
    "fork": lambda system, file: system.fork(ROOT, at=5, to="acme/fork"),
    "fork the tree": lambda system, file: system.fork(ROOT, to="acme/fork", tree=True),
    "trim": lambda system, file: system.trim(ROOT, keep_events=1),
    "batch": batch,
    "pause": lambda system, file: done(system.agent(CHILDREN[0]).pause(checkpoint_id="now")),
    "resume": lambda system, file: done(system.agent(CHILDREN[0]).resume("kept", clear_current=True)),
    "terminate": lambda system, file: done(system.agent(CHILDREN[0]).terminate(outcome="success")),
    "spawn a sub-agent": lambda system, file: system.agent(ROOT).spawn_child("c"),
    "attach a consumer": attach,
    "rebuild a consumer": rebuild,
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
                    send(wire, data if sent == "all" else data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(Wire, "send", counted)


def run(url: str, order: dict[str, Any]) -> None:
    """In a child: the operation; its end is the process's."""
    code = 0
    system = opened(url, order["namespace"])
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
