"""A process that writes a stream of events at a steady pace over many agents: run by `nemesis`.

    python paced_writer.py '{"url": …, "socket": …, "namespace": …, "agents": […], "rate": 5000, "seed": 1}'

It says `writing` when all agents are there. At the end of its input it kills all connections of subscribers, writes
one last event an agent, whose notices so reach nobody, and says what it has done as a line of JSON.
"""

from __future__ import annotations

import json
import random
import select
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from time import monotonic
from typing import Any

import redis
from attrs import define, field

from duramen.actors import AgentHandle, AgentSystem
from duramen.actors.commands.messages import Batch, Record, Set, Spawn
from duramen.events import DuramenError, Receipt

TICK = 0.01
MOST_DEBT = 2.0
"""Seconds of the stream that are made up for after the server was away."""
MOST_IN_BATCH = 8
REPLY_SECONDS = 60.0


@define(eq=False)
class Stream:
    handles: Mapping[str, AgentHandle]
    chance: random.Random
    number: int = 0
    events: int = 0
    last: dict[str, int] = field(factory=dict[str, int])
    """By agent: the last seq that was acknowledged."""
    at: float = 0.0
    """When the last acknowledgement came."""
    errors: Counter[str] = field(factory=Counter[str])

    def write(self, count: int) -> None:
        """So many events, in batches of several agents, all of them in flight."""
        sent: list[tuple[str, Any, int]] = []
        agents = list(self.handles)
        while count > 0:
            size = min(count, self.chance.randint(1, MOST_IN_BATCH))
            sent.append(self._send(self.chance.choice(agents), size))
            count -= size
        self._gather(sent)

    def write_each(self) -> None:
        """One event of each agent."""
        self._gather([self._send(agent, 1) for agent in self.handles])

    def _send(self, agent: str, size: int) -> tuple[str, Any, int]:
        batch = Batch([self._operation() for _ in range(size)])
        return agent, self.handles[agent].ask(batch, block=False), size

    def _operation(self) -> Set | Record:
        self.number += 1
        draw = self.chance.random()
        if draw < 0.4:
            return Set(f"plan/step-{self.chance.randrange(5)}", self.number)
        if draw < 0.5:
            return Set("status", f"status {self.number}")
        if draw < 0.8:
            return Set("note", f"{self.number:060d}")
        return Record("tool_output", {"tool": "search", "number": self.number})

    def _gather(self, sent: list[tuple[str, Any, int]]) -> None:
        for agent, reply, size in sent:
            try:
                receipt: Receipt = reply.get(timeout=REPLY_SECONDS)
            except DuramenError as error:
                self.errors[type(error).__name__] += 1
            else:
                self.events += size
                self.last[agent] = max(self.last.get(agent, 0), receipt.seq)
                self.at = monotonic()


def pace(stream: Stream, rate: int) -> float:
    """Write until the input ends; for how many seconds that was."""
    began = due = monotonic()
    never = threading.Event()
    while not select.select([sys.stdin], [], [], 0)[0]:
        now = monotonic()
        due = max(due, now - MOST_DEBT)
        count = int((now - due) * rate)
        if count:
            stream.write(min(count, rate))
            due += min(count, rate) / rate
        never.wait(max(0.0, TICK - (monotonic() - now)))
    return monotonic() - began


def kill_subscribers(socket_path: str) -> int:
    with redis.Redis(unix_socket_path=socket_path) as opened:
        client: Any = opened
        return int(client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))


def main() -> None:
    told: Mapping[str, Any] = json.loads(sys.argv[1])
    state: dict[str, Any] = {"plan": {}, "status": "", "note": ""}
    with AgentSystem.open(told["url"], namespace=told["namespace"]) as system:
        handles = {agent: system.agent(agent) for agent in told["agents"]}
        for reply in [handle.ask(Spawn(initial_state=state), block=False) for handle in handles.values()]:
            assert reply.get(timeout=REPLY_SECONDS).success
        stream = Stream(handles, random.Random(told["seed"]))
        print("writing", flush=True)
        seconds = pace(stream, told["rate"])
        killed = kill_subscribers(told["socket"])
        stream.write_each()
    done = {
        "events": stream.events,
        "seconds": seconds,
        "at": stream.at,
        "last": stream.last,
        "errors": stream.errors,
        "killed": killed,
    }
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
