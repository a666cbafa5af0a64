"""A tree of agents does research: paused as one in the middle, resumed, and another time ended in the middle.

Run it with `python examples/research_tree.py`. It needs no server and no model: the log is in memory, and what searches
and reads are functions. The lead asks three readers at once; each of them does steps of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from attrs import field, frozen

from duramen.actors import Agent, AgentSystem
from duramen.events import WorkStopped, message_type

LEAD = "acme/lead"
SOURCES = ["books", "letters", "maps"]


@message_type("research", durable=True)
@frozen
class Research:
    question: str
    sources: list[str] = field(factory=list[str])


@message_type("read", durable=True)
@frozen
class Read:
    source: str


class Lead(Agent):
    async def on_receive(self, message: Any) -> Any:
        for source in message.sources:
            self.spawn_child(source, agent_type="reader")  # unless it is there already
        notes = await asyncio.gather(*(self.ask(f"{self.path}/{source}", Read(source)) for source in message.sources))
        self.set("notes", notes)
        return await self.step("sum up", sum_up, message.question, notes)


class Reader(Agent):
    async def on_receive(self, message: Any) -> Any:
        pages = await self.step("search", search, message.source)
        self.set("pages", pages)
        return await self.step("read", read, message.source, pages)


# -- the world outside -------------------------------------------------------------------------------------------------

searching = threading.Semaphore(0)
"""One more for each search that has begun."""
found = threading.Event()
"""Until it is set, no search comes to an end."""
done: list[str] = []


def search(source: str) -> list[str]:
    searching.release()
    found.wait(60)
    done.append(f"searched {source}")
    return [f"{source}, page {number}" for number in (1, 2)]


def read(source: str, pages: list[str]) -> str:
    done.append(f"read {source}")
    return f"{len(pages)} pages of {source}"


def sum_up(question: str, notes: list[str]) -> str:
    return f"{question} {', '.join(notes)}"


# -- the program -------------------------------------------------------------------------------------------------------


def wait_for_searches(count: int) -> None:
    for _ in range(count):
        searching.acquire(timeout=60)


def wait_for_results(system: AgentSystem) -> None:
    while any(work.waits_for for work in system.unfinished() if work.message_type == "read"):
        time.sleep(0.01)


def show_tree(system: AgentSystem) -> None:
    paths = [LEAD, *(f"{LEAD}/{source}" for source in SOURCES)]
    print({path.rpartition("/")[2]: system.agent(path).status().status for path in paths})


def main() -> None:
    with AgentSystem.open("memory://", agents={"lead": Lead, "reader": Reader}) as system:
        lead = system.spawn(LEAD, agent_type="lead")
        research = lead.send(Research("where is the whale?", SOURCES))
        wait_for_searches(3)
        lead.pause("lunch", cascade=True)  # while three searches are under way
        show_tree(system)
        found.set()
        wait_for_results(system)  # they are kept in the log, and nobody goes on to read
        print("read over lunch:", [what for what in done if what.startswith("read")])
        lead.resume("lunch", cascade=True)
        print("answer:", lead.result(research))
        print("searched:", sum(what.startswith("searched") for what in done), "times")

        found.clear()
        research = lead.send(Research("and the captain?", SOURCES))
        wait_for_searches(3)
        lead.terminate(cascade=True)
        found.set()
        try:
            lead.result(research)
        except WorkStopped:
            print("stopped with the whole tree")
        show_tree(system)
        print("unfinished:", system.unfinished())


if __name__ == "__main__":
    main()
