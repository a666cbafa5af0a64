"""The tutorials are followed word for word, in an empty folder: files are saved, commands are typed in order."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from docs.pages import ROOT, Block, blocks
from docs.running import Failed, console_commands, environ_of_reader, run_command

TUTORIALS = ROOT / "docs" / "tutorial"
TUTORIAL = TUTORIALS / "first-agent.md"

ACTIVATE = ". .venv/bin/activate"
STAYS = "duramen serve "


def save(block: Block, folder: Path) -> None:
    """Save a block as the file that its first line names."""
    name = block.text.splitlines()[0].removeprefix("# ")
    (folder / name).write_text(block.text, encoding="utf-8")


@contextmanager
def second_terminal(line: str, folder: Path) -> Generator[None]:
    """Run a command that stays, from the line that says it is ready on; it ends well when it is interrupted."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {line} --inspect-port 0"],
        cwd=folder,
        env=environ_of_reader(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if "http://127.0.0.1:" not in said:
            raise Failed(f"{line}\n{said}{process.stdout.read()}")
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def follow(shown: list[Block], folder: Path) -> list[str]:
    """Do what the blocks say, in order; the commands that were run. Raises Failed where a page is wrong."""
    done: list[str] = []
    with ExitStack() as terminals:
        for block in shown:
            if block.language == "python":
                save(block, folder)
            for command in console_commands(block) if block.language == "console" else ():
                if command.line.startswith(STAYS):
                    terminals.enter_context(second_terminal(command.line, folder))
                elif command.line != ACTIVATE:
                    run_command(command, block, folder)
                done.append(command.line)
    return done


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_works_word_for_word_in_an_empty_folder(tmp_path: Path) -> None:
    shown = blocks(TUTORIAL)
    done = follow(shown, tmp_path)
    assert [line.split()[:2] for line in done if line.startswith(("python", STAYS))] == [
        ["python", "reader.py"],
        ["python", "reader.py"],
        ["duramen", "serve"],
    ]
    assert sum(block.text.count("\n$ ") + 1 for block in shown if block.language == "console") == len(done)
    assert {*os.listdir(tmp_path)} - {"__pycache__"} == {".duramen", "reader.py"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_of_an_approval_works_word_for_word_in_an_empty_folder(tmp_path: Path) -> None:
    done = follow(blocks(TUTORIALS / "approval.md"), tmp_path)
    assert [line for line in done if line.startswith("python")] == [
        "python support.py",
        "python support.py",
        'python support.py approve crash || echo "exit code $?"',
        "python support.py",
        "python test_support.py",
    ]
    left = {*os.listdir(tmp_path)} - {"__pycache__", ".hypothesis"}
    assert left == {".duramen", "bank.txt", "support.py", "test_support.py"}


def test_a_command_that_prints_something_else_than_the_tutorial_shows_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\n# one.py\nprint('one')\n```\n\n```console check\n$ python one.py\ntwo\n```\n")
    with pytest.raises(Failed, match=r"shown:\ntwo\n\nprinted:\none"):
        follow(blocks(page), tmp_path)
    assert (tmp_path / "one.py").exists()
