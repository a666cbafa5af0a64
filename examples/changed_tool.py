"""A recorded session runs again with one tool's answer changed.

Run it with `python examples/changed_tool.py`. It needs no server and no model: the log is in memory, and the model and
the tools are functions. First nothing is called: what they said is taken from the agent's log. Then a fork goes on from
where that tool was called, with another answer; from there on the model and the tools are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.actors.specification import spec
from duramen.events import message_type

PATH = "acme/support"


@message_type("complaint", durable=True)
@frozen
class Complaint:
    order: str


class Support(Agent):
    async def on_receive(self, message: Any) -> str:
        order = await self.step("look up order", look_up_order, message.order)
        mood = await self.step("ask model", ask_model, message.order)
        self.set("mood", mood)
        if order["days late"] > 7:
            refund = await self.step("pay", pay, order["price"])
            return f"sorry, {refund}"
        return f"it is on its way, {order['days late']} days late"


calls: list[str] = []


def look_up_order(order: str) -> dict[str, int]:
    calls.append("look up order")
    return {"price": 40, "days late": 3}


def ask_model(order: str) -> str:
    calls.append("ask model")
    return "angry"


def pay(amount: int) -> str:
    calls.append("pay")
    return f"{amount} paid back"


def recorded_steps(system: AgentSystem, path: str) -> Mapping[str, Any]:
    """What each step of the session came to, by name, from the log."""
    names: dict[int, str] = {}
    results: dict[str, Any] = {}
    for event in system.events(path):
        if event.type == "work_begun" and event.data["kind"] == "step":
            names[event.data["number"]] = event.data["name"]
        elif event.type == "work_continued" and event.data["number"] in names:
            results[names[event.data["number"]]] = event.data["result"]
    return results


def main() -> None:
    with AgentSystem.open("memory://", agents={"support": Support}) as system:
        support = system.spawn(PATH, agent_type="support")
        print("then:", support.result(support.send(Complaint("o-17"))))
        recorded = recorded_steps(system, PATH)
        work = next(event.seq for event in system.events(PATH) if event.type == "work_accepted")
        print("called:", ", ".join(calls))
        ask_again_without_calling(recorded)
        calls.clear()
        asked = next(event.seq for event in system.events(PATH) if event.data.get("name") == "look up order")
        late = {"look up order": {"price": 40, "days late": 9}}
        fork = system.fork(PATH, asked, to=f"{PATH}-late", continue_work=True, instead=late)
        print("the fork:", fork.result(work))
        print("called by it:", ", ".join(calls))


def ask_again_without_calling(recorded: Mapping[str, Any]) -> None:
    """Run the handler with recorded results, and with one of them changed."""
    print("recorded:", dict(recorded))

    again = spec(Support).steps(recorded).when(Complaint("o-17"))
    print("again:", again.reply)
    changed = {
        **recorded,
        "look up order": {"price": 40, "days late": 9},
        "pay": lambda amount: f"{amount} would be paid",
    }
    other = spec(Support).steps(changed).when(Complaint("o-17"))
    print("had it been 9 days:", other.reply)
    print("what it did:", ", ".join(other.begun))


if __name__ == "__main__":
    main()
