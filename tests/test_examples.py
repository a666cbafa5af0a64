"""The programs in `examples/` run as their first lines say, and print what a reader is meant to see."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from postgres import postgres_server

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

SHOWN = {
    "research_agent.py": [
        "answer: The old, dead wood inside a tree.",
        "committed: Another word for heartwood.",
        "answer: None",
        "open: ['Who is asking?']",
        "claims: 2",
        "episode: partial, 9 tokens, learned ['ask fewer questions at once']",
    ],
    "pause_and_resume.py": [
        "acknowledged seq 5, fsync; now this process is killed",
        "found 2 paragraphs, status running",
        "checkpoint 'before lunch' at seq 3",
        "went back: 2 items, 1 paragraph",
        "finished at seq 9",
        "session ended in success",
        "the log has 11 events, the wrong paragraph among them",
    ],
    "view_in_sqlite.py": [
        "read: 2 calls, 1800 tokens",
        "search: 4 calls, 400 tokens",
        "status closed, lag 0",
    ],
    "view_in_postgres.py": [
        "read: 2 calls, 1800 tokens",
        "search: 4 calls, 400 tokens",
        "status closed, lag 0",
    ],
    "research_tree.py": [
        "{'lead': 'paused', 'books': 'paused', 'letters': 'paused', 'maps': 'paused'}",
        "read over lunch: []",
        "answer: where is the whale? 2 pages of books, 2 pages of letters, 2 pages of maps",
        "searched: 3 times",
        "stopped with the whole tree",
        "{'lead': 'terminated', 'books': 'terminated', 'letters': 'terminated', 'maps': 'terminated'}",
        "unfinished: []",
    ],
    "changed_tool.py": [
        "then: it is on its way, 3 days late",
        "called: look up order, ask model",
        "recorded: {'look up order': {'price': 40, 'days late': 3}, 'ask model': 'angry'}",
        "again: it is on its way, 3 days late",
        "had it been 9 days: sorry, 40 would be paid",
        "what it did: look up order, ask model, pay",
        "the fork: sorry, 40 paid back",
        "called by it: ask model, pay",
    ],
    "budget.py": [
        "result: 12 chapters",
        "chapters: 12, each asked for once: True",
        "paused by the budget: ",
    ],
    "support_agent.py": [
        "the first process ended with -9",
        "result: paid 40",
        "memory: {'o-17': 'paid 40'}",
        "unfinished: []",
        "the model was asked about o-17",
        "the bank paid 40",
        "the customer was told: paid 40",
    ],
    "langgraph_time_travel.py": [
        "messages: 4",
        "rewound: ['hello', \"You said 'hello'.\", 'something else', \"You said 'something else'.\"]",
        "agent: langgraph/user:42",
        "before that: ['hello', \"You said 'hello'.\", 'what is heartwood?', \"You said 'what is heartwood?'.\"]",
        "intact: True",
    ],
    "fastapi_service.py": [
        'token: "Heart"',
        'token: "wood "',
        'token: "is old "',
        'token: "wood."',
        "messages: 2",
        "closed",
    ],
    "async_agents.py": [
        "agents: 200, steps: 1000",
        "pauses that the hook heard of: 200",
        "episodes: 200, tokens: 10000",
        "events: 3000, in ",
    ],
}
"""What each one prints, in this order; the rest of a line may differ from run to run."""

# Lines of an effect, which comes after the commit, at a moment of its own.
ANYWHERE = ("committed: ",)


def run(example: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", str(EXAMPLES / example), *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DURAMEN_")}
    return subprocess.run(line, cwd=folder, env=environ, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted(SHOWN))
def test_an_example_ends_well_and_prints_what_it_is_about(example: str, tmp_path: Path) -> None:
    with postgres_server() if "postgres" in example else nullcontext() as url:
        done = run(example, tmp_path, *([url] if url else []))
    assert (done.returncode, done.stderr) == (0, "")
    printed = iter([line for line in done.stdout.splitlines() if not line.startswith(ANYWHERE)])
    for wanted in SHOWN[example]:
        lines = done.stdout.splitlines() if wanted.startswith(ANYWHERE) else printed
        assert any(line.startswith(wanted) for line in lines), f"{wanted!r} is not in\n{done.stdout}"
    assert list(tmp_path.iterdir()) == [], "an example leaves nothing behind where it is run"


@pytest.mark.slow
def test_pause_and_resume_carries_on_in_a_second_run_by_hand(tmp_path: Path) -> None:
    first = run("pause_and_resume.py", tmp_path, "kept")
    second = run("pause_and_resume.py", tmp_path, "kept")
    assert (first.returncode, second.returncode, second.stderr) == (-9, 0, "")
    assert "went back" not in first.stdout
    assert "went back: 2 items, 1 paragraph" in second.stdout


def test_every_example_is_run_here() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(SHOWN)


@pytest.mark.parametrize("example", sorted(SHOWN))
def test_an_example_says_how_to_run_it(example: str) -> None:
    said = ast.get_docstring(ast.parse((EXAMPLES / example).read_text(encoding="utf-8"))) or ""
    assert f"python examples/{example}" in said
