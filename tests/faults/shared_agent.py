"""A process that shares agents with others: reads commands as lines of JSON, and answers each with a line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.events import DuramenError, message_type
from waiting import eventually


@message_type("shared_work")
@frozen
class Work:
    """Take some time, then note a name."""

    name: str
    seconds: float = 0.0
    gate: str = ""
    """A folder, in which the handler makes `begun`, and then waits until there is `open`."""


class Worker(Agent):
    def on_receive(self, message: Any) -> Any:
        if message.gate:
            gate = Path(message.gate)
            (gate / "begun").touch()
            eventually((gate / "open").exists, 60, what="an open gate")
        time.sleep(message.seconds)
        self.append("done", message.name)
        return message.name


def run(system: AgentSystem, command: list[Any]) -> Any:
    name, *arguments = command
    if name == "set":
        path, key, value = arguments
        return system.agent(path).set(key, value).seq
    if name == "pop":
        return system.agent(arguments[0]).pop(arguments[1], 0, None)
    if name == "get":
        return system.agent(arguments[0]).get()
    if name == "poll":
        return poll(system, *arguments)
    if name == "spawn":
        system.spawn(arguments[0], agent_type=arguments[1], exist_ok=True)
        return True
    if name == "work":
        path, text, seconds, command_id, *gate = arguments
        return system.agent(path).ask(Work(text, seconds, *gate), command_id=command_id, timeout=60)
    raise ValueError(name)


def poll(system: AgentSystem, path: str, least: int, until: int) -> int:
    """Read an agent's state and status as fast as it goes, so often at least, and until so much is done."""
    agent, count = system.agent(path), 0
    while count < least or len(agent.get("done")) < until:
        agent.status()
        count += 1
    return count


def main() -> None:
    url, namespace, has_class = sys.argv[1:]
    agents = {"worker": Worker} if has_class == "class" else None
    with AgentSystem.open(url, namespace=namespace, agents=agents) as system:
        print(json.dumps(["ready"]), flush=True)
        for line in sys.stdin:
            try:
                outcome = ["ok", run(system, json.loads(line))]
            except DuramenError as error:
                outcome = [type(error).__name__, str(error)]
            print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
