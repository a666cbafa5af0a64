"""A budget that pauses agents who have spent it, and a reminder that gives them another each night.

Run it with `python examples/budget.py`. It needs no server and no model: the log is in memory, the model is a function
with a price, and a night comes every 0.3 s.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import frozen

from duramen.actors import Agent, AgentSystem, Reaction, Resume
from duramen.events import Event, message_type

BUDGET = 100
PRICE = 30
OFFICE = "acme/office"
NIGHT = timedelta(seconds=0.3)


@message_type("write_book", durable=True)
@frozen
class WriteBook:
    chapters: int


@message_type("new_day", durable=True)
@frozen
class NewDay:
    pass


class Writer(Agent):
    async def on_receive(self, message: Any) -> Any:
        for number in range(1, message.chapters + 1):
            chapter = await self.step("ask model", ask_model, number)
            self.append("chapters", chapter)
            self.set("spent", number * PRICE)
        return f"{message.chapters} chapters"


class Office(Agent):
    """Knows who is paused, and lets them go on when a new day begins."""

    async def on_receive(self, message: Any) -> Any:
        paused = self.get("paused", [])
        self.set("paused", [])
        for path in paused:
            await self.ask(path, Resume())
            self.append("resumed", path)


def ask_model(number: int) -> str:
    time.sleep(0.05)
    return f"chapter {number}"


def pause_spenders(event: Event, reaction: Reaction) -> None:
    """Called for each event of these agents, once in effect, whoever dies meanwhile."""
    if event.data["path"] == "spent" and event.data["value"] % BUDGET < PRICE:  # another budget is spent
        reaction.agent(event.agent).pause(reason="over budget")
        reaction.agent(OFFICE).append("paused", event.agent)


def main() -> None:
    with AgentSystem.open("memory://", agents={"writer": Writer, "office": Office}) as system:
        office = system.spawn(OFFICE, agent_type="office", initial_state={"paused": [], "resumed": []})
        office.remind("new day", NewDay(), at=datetime.now(UTC) + NIGHT, every=NIGHT)
        with system.react("budget", pause_spenders, pattern="acme/*", types=["memory_set"]):
            writer = system.spawn("acme/ann", agent_type="writer", initial_state={"chapters": []})
            book = writer.send(WriteBook(12))
            print("result:", writer.result(book, timeout=60))
        chapters = writer.get("chapters")
        print(f"chapters: {len(chapters)}, each asked for once: {len(set(chapters)) == len(chapters)}")
        events = [event.type for event in system.events("acme/ann")]
        print("paused by the budget:", events.count("paused"), "times, let go on by night:", events.count("resumed"))


if __name__ == "__main__":
    main()
