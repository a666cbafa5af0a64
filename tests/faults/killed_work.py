"""A program whose children do one piece of work, and are killed at one of their appends.

    python killed_work.py URL LEDGER

Reads orders, a line of JSON each: namespace, the number of the append to die at (0: at none), and when: "before" it is
sent, when it was "sent", or when it was "committed" and its reply did not leave yet. A child is forked from a process
that has imported everything and has one thread. Answers with a line: how the child ended.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import traceback
from typing import Any

from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.actors.dispatch import Journal
from duramen.events import message_type

__all__ = ["PATH", "STEPS", "Crew", "Errand"]

PATH = "acme/crew"
STEPS = ("one", "two", "three", "four", "five")


@message_type("errand-to-be-killed", durable=True)
@frozen
class Errand:
    name: str


class Crew(Agent):
    ledger = ""

    async def on_receive(self, message: Any) -> Any:
        one = await self.step("one", self._do, "one", key="key")
        self.set("one", one)
        pair = await asyncio.gather(*(self.step(name, self._do, name, key="key") for name in ("two", "three")))
        self.append("pairs", pair)
        verdict = await self.wait_for("approval")
        await self.sleep(0.005)
        four = await self.step("four", self._again, "four", key="key")
        self.set("drawn", [self.random(), str(self.uuid()), self.get("pairs")])
        return [one, pair, verdict, four, await self.step("five", self._do, "five", key="key")]

    def _do(self, name: str, key: str) -> str:
        file = os.open(type(self).ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{name} {key}\n".encode())
        os.close(file)
        return f"did {name}"

    async def _again(self, name: str, key: str) -> str:
        return self._do(name, key)


class Appends:
    """Counts the batches that this process sends, and kills it at one of them."""

    def __init__(self, at: int, when: str) -> None:
        self.count = 0
        flush, settle = Journal.flush, Journal.settle

        def counted(journal: Journal) -> None:
            if journal._pending:
                self.count += 1
            if self.count == at and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            flush(journal)
            if self.count == at and when == "sent":
                os.kill(os.getpid(), signal.SIGKILL)

        def settled(journal: Journal, answers: Any) -> None:
            if self.count == at and when == "committed":
                journal._settle = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
            settle(journal, answers)

        setattr(Journal, "flush", counted)
        setattr(Journal, "settle", settled)


def run(url: str, order: dict[str, Any]) -> None:
    """In a child: the work, from its start or from where it was left; its end is the process's."""
    Crew.ledger = order["ledger"]
    appends = Appends(order["at"], order["when"])
    try:
        with AgentSystem.open(url, namespace=order["namespace"], partitions=2, agents={"crew": Crew}) as system:
            crew = system.spawn(PATH, agent_type="crew", session_id="s", exist_ok=True)
            receipt = crew.send(Errand("x"), command_id="errand")
            crew.answer("approval", "yes", command_id="answer")
            crew.result(receipt, timeout=60)
            del appends
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    url = sys.argv[1]
    AgentSystem.open("memory://").close()  # imports what is imported at the first use, once and not in each child
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(url, json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
