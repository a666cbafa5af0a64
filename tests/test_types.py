"""What a user misspells is found by a type checker: names of arguments, and texts of which there are few."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WRONG = """
system.spawn("a/b", initial_stat={})
system.spawn("a/b", agent_typ="x")
system.spawn("a/b", exists_ok=True)
system.spawn("a/b", granularity="state")
handle.spawn_child("c", initial_stat={})
handle.spawn_child("c", outlives_parents=True)
handle.pause(when_paused="stsh")
handle.terminate("succes")
handle.resume(clear=True)
handle.set("a", 1, comand_id="x")
system.trim("a/b", keep_event=1)
system.subscribe("**", latest=True)
system.close(timeout="1")
handle.ask(Get("x"), timeout="1")
handle.get(1)
Pause(when_paused="stsh")
Terminate(outcome="succes")
Spawn(initial_stat={})
Supervision(strategy="restrt")
Settings(passivate="1")
Limits(mailbox=1)
await system.aio.spawn("a/b", initial_stat={})
await system.aio.trim("a/b", keep_event=1)
await system.aio.subscribe("**", latest=True)
await system.aio.fork("a/b", 1, to_="a/c")
await handle.aio.spawn_child("c", initial_stat={})
await handle.aio.terminate("succes")
await handle.aio.pause(when_paused="stsh")
await handle.aio.set("a", 1, comand_id="x")
(await system.aio.spawn("a/b")).get("a").upper()
print(duramen.Agnt)
""".strip().splitlines()

RIGHT = """
system.spawn("a/b", initial_state={"a": 1}, agent_type="x", exist_ok=True)
handle.spawn_child("c", initial_state={}, outlives_parent=True, exist_ok=True)
handle.pause(when_paused="stash", ttl=60)
handle.terminate("failure")
handle.terminate(Outcome.PARTIAL)
Supervision(strategy="restart", first_pause=timedelta(seconds=1))
handle.ask(Get("x"), timeout=timedelta(seconds=1))
(await system.aio.spawn("a/b", metadata={})).path.text.upper()
(await system.aio.fork("a/b", 1, to="a/c")).aio.path.text.upper()
await system.aio.subscribe("**", latest_only=True)
(await handle.aio.spawn_child("c", initial_state={})).path.text.upper()
print(duramen.__version__.upper())
""".strip().splitlines()

AGENTS = """from typing import Any, TypedDict

from duramen.actors import Agent
from duramen.actors.specification import spec


class Found(TypedDict):
    sources: dict[str, int]


class Researcher(Agent[Found]):
    supervision = "restart"  # wrong
    on_paused = "handel"  # wrong

    def on_receive(self, message: Any) -> int:
        print(self.state["source"])  # wrong
        print(self.state.sources)  # wrong
        self.spawn_child("c", initial_stat={})  # wrong
        self.spawn_child("c", outlives_parents=True)  # wrong
        self.spawn_child("c", initial_state={}, agent_type="x", outlives_parent=True)
        self.pause(when_paused="stsh")  # wrong
        self.pause(when_paused="stash", ttl=60)
        self.terminate("succes")  # wrong
        self.terminate("success")
        return self.state["sources"]["a"] + 1

    def initial(self) -> Found:
        return {"sources": {}}

    def apply(self, state: Found, event: Any) -> Found:
        return {"source": {**state["sources"], "b": 1}}  # wrong


class Mistaken(Agent[int]):
    def initial(self) -> str:  # wrong
        return ""

    def apply(self, state: int, event: Any) -> int:
        return state + len(state)  # wrong


class AnyEvent(Agent[int]):
    on_paused = "handle"

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: int | str) -> int:
        return state + 1


class OfAnyState(Agent):
    def on_receive(self, message: Any) -> Any:
        return self.state["anything"] + self.apply(self.state, message)

    def initial(self) -> Any:
        return {"anything": 0}

    def apply(self, state: Any, event: Any) -> Any:
        return {**state, "more": event}


def take(agent: Agent) -> type[Agent]:
    spec(Researcher)
    spec(lambda: AnyEvent())
    spec(OfAnyState)
    taken: list[Agent] = [agent, Researcher(), AnyEvent()]
    return type(taken[0])
"""

HEAD = """from datetime import timedelta
import duramen
from duramen import AgentSystem
from duramen.actors import AgentHandle, Get, Outcome, Pause, Settings, Spawn, Supervision, Terminate
from duramen.events import Limits


async def tried(system: AgentSystem, handle: AgentHandle) -> None:
"""


def lines_with_errors(checker: str, program: Path) -> set[int]:
    arguments = {
        "mypy": ["mypy", "--config-file=", "--strict", f"--cache-dir={ROOT / '.mypy_cache' / 'types'}"],
        "pyright": ["pyright", "--pythonpath", sys.executable, "--project", str(program.parent)],
    }[checker]
    (program.parent / "pyrightconfig.json").write_text(
        f'{{"extraPaths": ["{ROOT / "scripts" / "typing"}"], "typeCheckingMode": "strict"}}'
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", *arguments, str(program)],
        env={"MYPYPATH": str(ROOT / "scripts" / "typing"), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        cwd=program.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(rf"{program.name}:(\d+)(?::\d+)?(?: -)? ?:?\s*error", done.stdout)
    return {int(line) for line in found}


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_type_checker_finds_each_misspelt_argument_and_no_other(checker: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(HEAD + "".join(f"    {line}\n" for line in (*RIGHT, *WRONG)))
    first = HEAD.count("\n") + 1
    errors = lines_with_errors(checker, program)
    lines = dict(enumerate((*RIGHT, *WRONG), first))
    assert [lines.get(number, number) for number in sorted(errors - set(lines))] == []
    assert [line for number, line in lines.items() if number not in errors] == RIGHT


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_type_checker_knows_the_state_of_an_agent(checker: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(AGENTS)
    lines = dict(enumerate(AGENTS.splitlines(), 1))
    wrong = [line for line in lines.values() if line.endswith("# wrong")]
    assert [lines[number] for number in sorted(lines_with_errors(checker, program))] == wrong
