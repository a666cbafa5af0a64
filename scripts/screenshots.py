"""Take the pictures of the inspector in docs/pictures: `python scripts/screenshots.py`, with the Python of .venv.

The agents in them are made here: a support desk with tools, one that fails, and an approval that waits for a person.
Needs chromium and chromedriver. The pictures are not compared by a test, since no two machines draw the same letters.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem
from duramen.actors.inspector import InspectorServer
from duramen.events import message_type

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
TURN_SECONDS = 0.05

QUESTIONS = (
    "Hi! I need to change my flight to Boston to an earlier one.",
    "It is OBUT9V, and my user id is sofia_kim_7287.",
    "Please use gift card 7091239 for the difference.",
    "Then take the credit card ending in **9725**.",
    "Yes, go on with the **earlier flight** in business.",
)


@message_type("picture_refund", durable=True)
@frozen
class Refund:
    reservation: str


class Refunds(Agent):
    """An agent that asks a person before it pays."""

    async def on_receive(self, message: Any) -> Any:
        return await self.wait_for("approval", about={"reservation": message.reservation, "amount": 1286})


def main() -> int:
    sys.path.insert(0, str(ROOT / "tests"))
    from browser import Browser

    with (
        AgentSystem.open("memory://", agents={"refunds": Refunds}) as system,
        InspectorServer(system) as server,
        Browser() as browser,
    ):
        browser.open(server.url)
        fill(system)  # while it looks, so that its charts have something to show
        browser.wait("return document.querySelectorAll('.agent-row').length > 8")
        take(browser, "inspector-agents.png")
        browser.run("location.hash = '#/agent/airline/desk-3'")
        browser.wait("return document.querySelector('.message') && document.querySelector('.right dl')")
        browser.press("E")  # the last error, and the step after it
        browser.wait("return document.querySelector('.as-of') !== null")
        browser.press("ArrowRight")
        take(browser, "inspector.png")
    return 0


def take(browser: Any, name: str) -> None:
    time.sleep(1)  # for what fades, and for the answers that a resting playhead asks for
    browser.save_picture(PICTURES / name)
    print(f"docs/pictures/{name}")


def fill(system: AgentSystem) -> None:
    for number in (3, 8, 9, 12, 17):
        desk = system.spawn(
            f"airline/desk-{number}",
            agent_type="support",
            session_id=f"call-{number}",
            initial_state={"goal": "help one customer within policy", "status": "starting"},
        )
        for turn, question in enumerate(QUESTIONS):
            take_turn(desk, number, turn, question)
        if number == 3:
            desk.spawn_child("ledger").set("total", 1286)
        if number == 8:
            desk.pause(checkpoint_id="over-night")
        if number == 12:
            desk.terminate(task_description=QUESTIONS[0], lessons_learned=["Ask for the card before the search"])
    system.spawn("airline/refunds", agent_type="refunds").send(Refund("OBUT9V"))
    atlas = system.spawn("research/atlas", agent_type="planner", initial_state={"plan": {"at": 0}})
    for number in (1, 2):
        atlas.spawn_child(f"reader-{number}").append("claims", {"text": "fens recover in 30 years", "source": "p-17"})


def take_turn(desk: AgentHandle, number: int, turn: int, question: str) -> None:
    """A question, a call of a tool with its result, and an answer."""
    call_id, failed = f"call_{number}_{turn}", turn == 2
    tool = "update_reservation" if turn >= 2 else "get_reservation"
    arguments = {"reservation_id": "OBUT9V", "cabin": "business", "payment_id": f"gift_card_{turn}"}
    function = {"name": tool, "arguments": json.dumps(arguments)}
    with desk.batch() as batch:
        batch.append("messages", {"role": "user", "content": question})
        batch.set("status", "asking the model")
    time.sleep(TURN_SECONDS)
    with desk.batch() as batch:
        call = {"id": call_id, "type": "function", "function": function}
        batch.append("messages", {"role": "assistant", "content": None, "tool_calls": [call]})
        batch.record("completion", {"content": None, "usage": {"total_tokens": 700 + turn}})
        batch.record("tool_call", {"tool": tool, "tool_call_id": call_id, "arguments": function["arguments"]})
        batch.merge("usage", {"tokens": 700 * (turn + 1), "turns": turn + 1})
    time.sleep(TURN_SECONDS)
    flight = {"number": f"HAT{turn}7", "from": "LGA", "to": "BOS"}
    result = "Error: gift card balance is not enough" if failed else json.dumps({"OBUT9V": flight})
    with desk.batch() as batch:
        batch.append("messages", {"role": "tool", "tool_call_id": call_id, "content": result})
        batch.record("tool_output", {"tool": tool, "tool_call_id": call_id, "result": result})
        batch.set("status", "the payment was refused" if failed else "answering")
        batch.merge("reservations", {"OBUT9V": {"cabin": "business", "price": 1286, "flight": flight}})
    time.sleep(TURN_SECONDS)
    said = "The gift card does not cover it. Would you like to use a **credit card**?" if failed else "Here it is."
    desk.append("messages", {"role": "assistant", "content": said})
    if turn == 2:
        desk.pause(checkpoint_id="before-payment")
        desk.resume()


if __name__ == "__main__":
    raise SystemExit(main())
