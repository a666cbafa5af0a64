"""A support agent that survives: its process is killed in the middle of a refund, and the refund is made once.

Run it with `python examples/support_agent.py`. It needs no server and no model: the agent's log is an embedded Valkey
in a temporary folder, and the "model" and the "bank" are functions that write down what they were asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from attrs import frozen

from duramen.actors import Agent, AgentSystem, Retry
from duramen.events import message_type


@message_type("refund", durable=True)
@frozen
class Refund:
    order: str


class Support(Agent):
    async def on_receive(self, message: Any) -> Any:
        plan = await self.step("plan", ask_model, message.order)
        verdict = await self.wait_for("approval", about=plan)
        if not verdict["ok"]:
            return "refused"
        paid = await self.step("pay", pay, plan["amount"], key="key", retry=Retry(times=3, backoff=0.5))
        self.set(f"refunds/{message.order}", paid)
        await self.step("tell", tell_customer, paid)
        return paid


# -- the world outside -------------------------------------------------------------------------------------------------


async def ask_model(order: str) -> dict[str, int]:
    note(f"the model was asked about {order}")
    return {"amount": 40}


def pay(amount: int, key: str) -> str:
    note(f"the bank paid {amount}")
    return f"paid {amount}"


def tell_customer(paid: str) -> None:
    if "--die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)  # after the bank has paid, and before anybody was told
    note(f"the customer was told: {paid}")


def note(what: str) -> None:
    with Path("ledger.txt").open("a", encoding="utf-8") as ledger:
        print(what, file=ledger)


# -- the programs ------------------------------------------------------------------------------------------------------


def work() -> None:
    """Ask for the refund and approve it; asked again, it is the same refund."""
    with AgentSystem.open(data_dir="store", agents={"support": Support}) as system:
        alice = system.spawn("acme/alice", agent_type="support", exist_ok=True)
        receipt = alice.send(Refund("o-17"), command_id="refund-o-17")
        alice.answer("approval", {"ok": True, "by": "kim"}, work=receipt, command_id="kim-approves")
        print("result:", alice.result(receipt))
        print("memory:", alice.get("refunds"))
        print("unfinished:", system.unfinished())


def main() -> None:
    if "--work" in sys.argv:
        work()
        return
    program = [sys.executable, str(Path(__file__).resolve()), "--work"]
    with tempfile.TemporaryDirectory() as folder:
        died = subprocess.run([*program, "--die"], cwd=folder, check=False)
        print("the first process ended with", died.returncode)
        subprocess.run(program, cwd=folder, check=True)
        print((Path(folder) / "ledger.txt").read_text(encoding="utf-8").strip())


if __name__ == "__main__":
    main()
