"""A process of the battery: a host or a client, whose threads call agents and note what becomes of it.

SIGTERM ends it as a program ends: its callers finish, it drains and closes.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from battery import clock
from battery.history import IDENTIFIED, History
from battery.naive import use_naive_lease
from duramen.actors import Agent, AgentSystem, Reply, Settings
from duramen.actors.commands import Spawn
from duramen.events import AskTimeout, DuramenError, OutcomeUnknown, Unavailable, message_type
from leftovers import threads_left, where_threads_are

GIL_SECONDS = 13
SECONDS = 20.0
"""How long a call waits for its reply."""
_TRIES = 4
_IN_TURN = 0.6
"""Share of the operations on the agent whose turn it is; the others are on few agents."""
_AT_ONCE = 256
"""Agents made at a time."""
_PATIENCE = 120.0
_EMPTY: dict[str, Any] = {"l": [], "done": []}
_SHARES = {"set": 5, "append": 4, "batch": 2, "work": 5, "lone_work": 2, "get": 4}


@message_type("battery_work")
@frozen
class Work:
    name: str
    seconds: float = 0.0


class Worker(Agent):
    """Notes each message that it has handled, and replies with its place among them."""

    def on_receive(self, message: Any) -> Any:
        time.sleep(message.seconds)
        place = len(self.get("done"))
        self.append("done", message.name)
        return place


@frozen
class Place:
    """What a member is told."""

    url: str
    namespace: str
    name: str
    agents: int
    callers: int
    seed: int
    history: str
    turns: str
    """The file of `Turns`."""
    is_host: bool = True
    naive: str | None = None
    """A control that must be found. `callers`: it is impatient, and then asks again without a command id; otherwise
    the lease by which it judges other hosts."""

    @property
    def is_impatient(self) -> bool:
        return self.naive == "callers"


def path_of(number: int) -> str:
    """Every tenth is a sub-agent of the one before."""
    return f"p{(number - 1) % 7}/a{number - 1}/sub" if number % 10 == 9 else f"p{number % 7}/a{number}"


def pick_popular(chance: random.Random, count: int) -> int:
    """One of a few that many ask."""
    return min(int(chance.paretovariate(0.5)) - 1, 1_000_000) % count


class Turns:
    """Numbers from 0 on that all processes of a battery take in turns, a byte of a common file each.

    A number that a process has taken when it is killed is taken by nobody else. Not thread-safe.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def take(self) -> int:
        os.write(self._file, b".")  # which leaves the position behind this byte, whoever else has written meanwhile
        return os.lseek(self._file, 0, os.SEEK_CUR) - 1


def is_there_early(number: int) -> bool:
    """Whether an agent is made before any fault; the others, sub-agents among them, by their first caller."""
    return number % 10 < 8


def spawn_early(system: AgentSystem, count: int) -> None:
    """Make the agents that are there before any fault."""
    waiting: deque[Reply] = deque()
    for number in filter(is_there_early, range(count)):
        message = Spawn(agent_type="worker", initial_state=_EMPTY)
        waiting.append(system.agent(path_of(number)).ask(message, block=False))
        if len(waiting) > _AT_ONCE:
            waiting.popleft().get(timeout=_PATIENCE).raise_for_failure()
    for reply in waiting:
        reply.get(timeout=_PATIENCE).raise_for_failure()


def spawn(system: AgentSystem, number: int) -> None:
    """Have an agent there, and its parent."""
    if number % 10 == 9:
        spawn(system, number - 1)
        parent = system.agent(path_of(number - 1))
        parent.spawn_child("sub", exist_ok=True, agent_type="worker", initial_state=_EMPTY)
    else:
        system.spawn(path_of(number), exist_ok=True, agent_type="worker", initial_state=_EMPTY)


@define
class Caller:
    """One thread of calls, one after the other."""

    system: AgentSystem
    place: Place
    name: str
    history: History
    stop: threading.Event
    chance: random.Random
    turns: Turns = field(init=False)
    spawned: set[int] = field(factory=set[int])
    count: int = 0

    def __attrs_post_init__(self) -> None:
        self.turns = Turns(self.place.turns)

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.step()
        except Exception as error:
            self.history.note("problem", f"{self.name} ended with {type(error).__name__}: {error}")

    def step(self) -> None:
        number = self.pick_agent()
        if not is_there_early(number) and number not in self.spawned:
            try:
                spawn(self.system, number)
            except DuramenError:
                self.stop.wait(0.1)
                return
            self.spawned.add(number)
        self.count += 1
        name, agent = f"{self.name}.{self.count}", path_of(number)
        [kind] = self.chance.choices(list(_SHARES), list(_SHARES.values()))
        self.history.call(name, kind, agent)
        try:
            result = self.call(kind, agent, name)
        except DuramenError as error:
            self.history.end(name, type(error).__name__, None)
            self.stop.wait(0.05)
        else:
            self.history.end(name, None, result)

    def pick_agent(self) -> int:
        """The one whose turn it is, so that all agents are called, or one of a few that many ask."""
        if self.chance.random() < _IN_TURN:
            return self.turns.take() % self.place.agents
        return pick_popular(self.chance, self.place.agents)

    def call(self, kind: str, agent: str, name: str) -> Any:
        """Carry one operation out; one with a command id again while its outcome is unknown."""
        operation = self.operation(kind, agent, name)  # once: an id means one payload
        again = kind in IDENTIFIED or (self.place.is_impatient and kind == "lone_work")
        for _ in range(_TRIES if again else 1):
            try:
                return operation()
            except (OutcomeUnknown, Unavailable, AskTimeout) as error:
                failure = error
        raise failure

    def operation(self, kind: str, agent: str, name: str) -> Callable[[], Any]:
        handle = self.system.agent(agent)
        match kind:
            case "set":
                return lambda: list(handle.set(f"s-{self.name}", name)[1:3])
            case "append":
                return lambda: list(handle.append("l", name, command_id=name)[1:3])
            case "batch":
                return lambda: self.batch(agent, name)
            case "get":
                return lambda: self.read(agent)
            case _:
                command_id = name if kind == "work" else None
                work = Work(name, self.chance.choice((0.0, 0.0, 0.01, 0.2)))
                seconds = 0.1 if self.place.is_impatient and kind == "lone_work" else SECONDS
                return lambda: handle.ask(work, command_id=command_id, timeout=seconds)

    def batch(self, agent: str, name: str) -> list[int]:
        batch = self.system.agent(agent).batch(command_id=name)
        with batch:
            for part in range(3):
                batch.append("l", f"{name}/{part}")
        assert batch.receipt is not None
        return list(batch.receipt[1:3])

    def read(self, agent: str) -> list[Any]:
        memory = self.system.agent(agent).get()
        return [len(memory["l"]), len(memory["done"]), {key: memory[key] for key in memory if key.startswith("s-")}]


def hold_gil(seconds: int) -> None:
    """Stop all Python code of this process, as a call into a library that keeps the interpreter's lock does."""
    ctypes.PyDLL(None).sleep(seconds)


def open_system(place: Place) -> AgentSystem:
    """Open it, however long the server is away."""
    while True:
        try:
            return AgentSystem.open(
                place.url,
                namespace=place.namespace,
                agents={"worker": Worker} if place.is_host else None,
                host=place.is_host,
                placement="spread",
                settings=Settings(passivate_after=3.0),
            )
        except DuramenError:
            time.sleep(0.2)


def main() -> None:
    place = Place(**json.loads(sys.argv[1]))
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    assert clock.is_settable()
    history, stop = History(Path(place.history)), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGUSR1, lambda *_: hold_gil(GIL_SECONDS))
    system = open_system(place)
    host = system.host
    if place.naive is not None and not place.is_impatient:
        use_naive_lease(system, place.naive, place.url)
    print("ready", flush=True)
    callers = [
        Caller(
            system, place, f"{place.name}-{number}", history, stop, random.Random(f"{place.seed}/{place.name}/{number}")
        )
        for number in range(place.callers)
    ]
    threads = [threading.Thread(target=caller.run, daemon=True) for caller in callers]
    for thread in threads:
        thread.start()
    while not stop.wait(0.5):
        if system.host != host:
            history.note("buried", host)
            host = system.host
    for thread in threads:
        thread.join(_TRIES * (SECONDS + 15))
    if any(thread.is_alive() for thread in threads):
        history.note("problem", "a call has no outcome long after its time-out")
    system.drain(10)
    system.close(20)
    left = threads_left(5.0)
    if left:
        history.note("problem", f"threads are left after close: {left}, {where_threads_are()}")


if __name__ == "__main__":
    main()
