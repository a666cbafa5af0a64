"""A program whose children are hosts of a crew, to be started and killed quickly: they are forked.

    python -m crew.hosts {"url": …, "namespace": …, "ledger": …}

Reads orders, a line each: `start ID VERSION`, `kill ID`. Answers each with a line: `ready ID`, `killed ID`, or `failed
ID`. What the steps of the agents do outside is a line in the ledger when they begin, and one when they end.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

from attrs import define, field, frozen

from duramen.actors import Agent, AgentSystem, Append
from duramen.events import EventRegistry, message_type

__all__ = ["PARTNERS", "Crew", "Errand", "Notes", "partner_of", "registry_of", "reply_of"]

PARTNERS = tuple(f"partners/a{number}" for number in range(4))
STEPS = ("one", "two", "three", "four", "five")
_LATER = ("six",)
"""What the second version of the code does besides."""


@frozen
class Errand:
    name: str
    seconds: float = 0.0
    """How long each step takes."""


def partner_of(agent: str) -> str:
    """The agent that an agent tells of each errand."""
    return PARTNERS[sum(agent.encode()) % len(PARTNERS)]


def registry_of(version: int) -> EventRegistry:
    registry = EventRegistry()
    message_type("crew_errand", durable=True, version=version, registry=registry)(Errand)
    return registry


def result_of(agent: str, errand: str, step: str) -> str:
    return f"{agent} {errand} {step}"


def reply_of(agent: str, errand: str, version: int) -> list[Any]:
    """The reply of a run that nothing disturbs."""
    one, two, three, four, five = (result_of(agent, errand, step) for step in STEPS)
    later = [result_of(agent, errand, step) for step in _LATER] if version > 1 else []
    return [one, [two, three], f"by {errand}", four, five, *later]


@define
class Notes:
    """The ledger, a file outside of duramen; each line is one write."""

    file: int

    @classmethod
    def open(cls, path: str) -> Notes:
        return cls(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT))

    def note(self, *words: object) -> None:
        os.write(self.file, (" ".join(map(str, words)) + "\n").encode())

    def close(self) -> None:
        os.close(self.file)


class Crew(Agent):
    """A handler of steps, one after another and side by side, of waits, of changes of memory, and of another agent."""

    ledger: Notes

    async def on_receive(self, message: Any) -> Any:
        one = await self._do(message, "one")
        self.set("one", one)
        pair = await asyncio.gather(self._do(message, "two"), self._do(message, "three"))
        self.append("pairs", pair)
        await self.ask(partner_of(self.path), Append("errands", f"{self.path} {message.name}"))
        verdict = await self.wait_for("approval", about=message.name)
        await self.sleep(0.01)
        four = await self._do(message, "four")
        self.set("drawn", [self.random(), str(self.uuid())])
        with_five = [one, pair, verdict, four, await self._do(message, "five")]
        self.append("done", message.name)
        return with_five + [await self._do(message, step) for step in _LATER if self.version > 1]

    async def _do(self, message: Any, step: str) -> str:
        work = self._wait if step in ("two", "four") else self._block
        return await self.step(step, work, self.path, message.name, step, message.seconds, key="key")

    def _block(self, agent: str, errand: str, step: str, seconds: float, key: str) -> str:
        self.ledger.note(time.time_ns() // 1_000, "begin", agent, errand, step, key)
        threading.Event().wait(seconds)
        self.ledger.note(time.time_ns() // 1_000, "end", agent, errand, step, key)
        return result_of(agent, errand, step)

    async def _wait(self, agent: str, errand: str, step: str, seconds: float, key: str) -> str:
        self.ledger.note(time.time_ns() // 1_000, "begin", agent, errand, step, key)
        await asyncio.sleep(seconds)
        self.ledger.note(time.time_ns() // 1_000, "end", agent, errand, step, key)
        return result_of(agent, errand, step)


@frozen
class Place:
    url: str
    namespace: str
    ledger: str


def run_host(place: Place, name: str, version: int) -> None:
    """In a child: be a host until it is killed."""
    try:
        Crew.ledger = Notes.open(place.ledger)
        with AgentSystem.open(
            place.url, namespace=place.namespace, agents={"crew": Crew}, registry=registry_of(version)
        ):
            print("ready", name, flush=True)
            threading.Event().wait()
    except BaseException:
        traceback.print_exc()
        print("failed", name, flush=True)
    finally:
        os._exit(1)


@define
class Children:
    place: Place
    pids: dict[str, int] = field(factory=dict[str, int])

    def obey(self, order: list[str]) -> None:
        kind, name = order[:2]
        if kind == "start":
            child = os.fork()
            if child == 0:
                run_host(self.place, name, int(order[2]))
            self.pids[name] = child
        else:
            pid = self.pids.pop(name)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            print("killed", name, flush=True)

    def end(self) -> None:
        for pid in self.pids.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def main() -> None:
    children = Children(Place(**json.loads(sys.argv[1])))
    AgentSystem.open("memory://").close()  # imports what is imported at the first use, once and not in each child
    gc.freeze()
    try:
        for line in sys.stdin:
            children.obey(line.split())
    finally:
        children.end()


if __name__ == "__main__":
    main()
