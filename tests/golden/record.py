"""Write the golden log of this release: `python tests/golden/record.py`, once before each; an old file never changes.

The log has every type of event that a system writes, values of every kind, and events of a user's own in an old
version and in today's. `claims.py` is that user's code: it changes with the years, the files do not.
"""

from __future__ import annotations

import contextlib
import math
import sys
from datetime import UTC, datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attrs import frozen

from actors.work.whole_life import Runner, work_for_life
from duramen.actors import Agent, AgentSystem, Record, Retention, Strategy, Supervision
from duramen.events import EventRegistry, Granularity, MemoryLog, event_type
from duramen.projections.recorded import RecordedLog, record_log, save_log
from golden.claims import REGISTRY, ClaimFound, Claims

PATH = "golden/alice"
OLD = EventRegistry()


@event_type("claim_found", version=1, registry=OLD)
@frozen
class OldClaimFound:
    text: str
    source: str


class Researcher(Agent):
    supervision = Supervision(strategy=Strategy.STOP)

    def on_receive(self, message: Any) -> None:
        if message == "ghosts":
            raise LookupError(message)
        self.emit(message)
        self.append("claims", message.text)


VALUES: dict[str, Any] = {
    "nothing": None,
    "flags": [True, False],
    "numbers": [0, -1, 2**63 - 1, -(2**63), 2**64 - 1],
    "floats": [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan],
    "texts": ["", "é", "🧠", "a/b~c", "\x00"],
    "bytes": b"\x00\xff",
    "times": [datetime(2024, 1, 1, tzinfo=UTC), datetime(1969, 7, 20, 20, 17, tzinfo=timezone(timedelta(hours=5.5)))],
    "deep": {"": {"a": [{"b": [[]]}]}},
}


def live(log: MemoryLog) -> None:
    """One agent's life: two processes of two versions of its code."""
    agents = {"researcher": Researcher}
    with AgentSystem.open(log=log, registry=OLD, agents=agents) as system:
        alice = system.spawn(PATH, session_id="s-1", agent_type="researcher", initial_state={"goal": "why?"})
        alice.ask(OldClaimFound("it rains", "newspaper"), command_id="c-1")
        alice.set("values", VALUES, command_id="c-2")
        alice.merge("values", {"nothing": 1, "flags": None})
        alice.append("values/numbers", 7)
        alice.ask(Record("tool_output", {"tool": "search", "tokens_used": 12}))
        alice.pause("lunch", metadata={"by": "bob"}, reason="hungry")
    with AgentSystem.open(log=log, registry=REGISTRY, agents=agents) as system:
        alice = system.agent(PATH)
        alice.resume("lunch")
        alice.ask(ClaimFound("it rains", ["window", "roof"]))
        alice.delete("values/deep")
        alice.set_granularity(Granularity.TRACE, levels={"note": Granularity.ACTIVITY})
        alice.set_retention(Retention(events=1_000, days=30))
        with alice.batch() as batch:
            batch.set("plan/steps", ["read"])
            batch.append("plan/steps", "think")
            batch.record("thought", "hm", level=Granularity.TRACE)
        alice.spawn_child("helper", outlives_parent=True)
        with contextlib.suppress(LookupError):
            alice.ask("ghosts")
        alice.restart()
        alice.resume("lunch", clear_current=False)
        alice.terminate(task_description="rain", lessons_learned=["look up"])
    work_for_life(lambda kinds: AgentSystem.open(log=log, registry=REGISTRY, agents=agents | kinds), PATH, REGISTRY)
    with AgentSystem.open(log=log, registry=REGISTRY, agents=agents | {"runner": Runner}) as system:
        system.spawn(PATH, session_id="s-2", agent_type="researcher", initial_state={"goal": "and now?"})


def record() -> RecordedLog:
    """The golden log of today."""
    log = MemoryLog()
    live(log)
    return record_log(log, PATH, {"Claims": Claims()}, registry=REGISTRY)


if __name__ == "__main__":
    file = Path(__file__).with_name(f"{version('duramen')}.jsonl")
    if file.exists():
        sys.exit(f"{file.name} is there already, and golden logs never change")
    save_log(record(), file)
