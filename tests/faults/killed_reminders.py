"""A process whose agent is reminded several times a second, until somebody kills it."""

from __future__ import annotations

import sys
import threading

from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.events import message_type

__all__ = ["EVERY", "PATH", "Tick"]

PATH = "acme/ticker"
EVERY = 0.1


@message_type("tick-of-a-killed-process", durable=True)
@frozen
class Tick:
    pass


class Ticker(Agent):
    async def on_receive(self, message: Tick) -> None:
        self.append("ticks", await self.step("tick", int))


if __name__ == "__main__":
    url, namespace = sys.argv[1:]
    system = AgentSystem.open(url, namespace=namespace, partitions=2, agents={"ticker": Ticker})
    ticker = system.spawn(PATH, agent_type="ticker", exist_ok=True)
    if not ticker.reminders():
        ticker.remind("tick", Tick(), every=EVERY, missed="all")
    threading.Event().wait()
