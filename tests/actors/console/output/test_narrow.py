"""The command on a terminal of 80 columns: nothing is cut, whole values can be seen, and hints are true."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Duramen, command, environment
from duramen.actors import AgentSystem
from duramen.actors.console.output.output import text
from duramen.actors.console.output.printable import shorten
from duramen.actors.console.output.step_view import StepView
from duramen.actors.console.output.table import Table
from duramen.events.embedded.server import EmbeddedServer
from duramen.events.model import count_of

COLUMNS = 80
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
LONG = " ".join(f"word-{number}" for number in range(120))


def on_a_terminal(folder: Path, *words: str) -> str:
    """What is printed on a terminal of 80 columns, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    with subprocess.Popen(
        command(*words),
        cwd=folder,
        env=environment(TERM="xterm", PYTHONIOENCODING="utf-8"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,  # where bars are drawn once a command has taken a second
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                read = os.read(ours, 65_536)
            except OSError:  # the other side is closed
                break
            shown += read
        assert process.wait(60) == 0, shown
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    data = tmp_path / ".duramen"
    with EmbeddedServer.open(data):
        with AgentSystem.open(data_dir=data) as system:
            alice = system.spawn("acme/alice-in-the-warehouse", agent_type="researcher", initial_state={"goal": LONG})
            alice.pause("the-checkpoint-before-lunch", metadata={"why": LONG})
            alice.resume()
            alice.terminate(task_description=LONG)
        yield tmp_path


def narrow(shown: str) -> list[str]:
    lines = shown.splitlines()
    assert all(len(line.rstrip()) <= COLUMNS for line in lines)
    return lines


@pytest.mark.slow
def test_ids_dates_and_texts_are_whole(folder: Path, duramen: Duramen) -> None:
    words = ("--data-dir", str(folder / ".duramen"))
    [entry] = duramen("agents", "--json", *words).data
    [episode] = duramen("episodes", "--json", *words).data
    agents = narrow(on_a_terminal(folder, "agents"))
    assert any(entry["session_id"] in line for line in agents)
    assert any(re.search(TIME, line) for line in agents)
    episodes = narrow(on_a_terminal(folder, "episodes"))
    assert any(re.search(rf"{TIME}  {episode['id']}", line) for line in episodes)
    checkpoints = narrow(on_a_terminal(folder, "checkpoints", "acme/alice-in-the-warehouse"))
    assert "the-checkpoint-before-lunch" in checkpoints
    assert sum(len(re.findall(TIME, line)) for line in checkpoints) == 2
    log = narrow(on_a_terminal(folder, "log", "acme/alice-in-the-warehouse"))
    assert sum(bool(re.search(TIME, line)) for line in log) == 5
    for lines in (episodes, checkpoints, log):
        for word in " ".join(lines).replace("…", " … ").split():
            assert not re.search(r"\bword-?$|^\d+$|^-\d", word) or word.isdecimal(), f"{word} was cut"


@pytest.mark.slow
def test_whole_values_can_be_looked_at(folder: Path) -> None:
    path = "acme/alice-in-the-warehouse"
    said = LONG.split()
    assert "word-119" not in on_a_terminal(folder, "log", path, "--from", "1", "--limit", "1")
    for words in (("show", path, "--at", "1"), ("log", path, "--full", "--from", "1", "--limit", "1")):
        shown = " ".join(narrow(on_a_terminal(folder, *words))).replace('"', " ").split()
        assert [word for word in shown if word.startswith("word-")][-len(said) :] == said, words


@pytest.mark.slow
def test_the_log_says_what_memory_a_session_began_with(folder: Path) -> None:
    first = on_a_terminal(folder, "log", "acme/alice-in-the-warehouse", "--limit", "1", "--from", "1")
    assert "spawned" in first
    assert '{"goal": "word-0 word-1' in " ".join(first.split())


@pytest.mark.slow
def test_the_hints_are_whole_lines_and_true_at_every_run(tmp_path: Path) -> None:
    with EmbeddedServer.open(tmp_path / ".duramen"):
        for _ in range(3):  # the hints of the first run start a session: those of the second must not do it again
            shown = on_a_terminal(tmp_path, "run")
            assert f"the folder {tmp_path / '.duramen'}" in shown.replace("\n          ", "")
            hints = re.findall(r"^ +duramen (.+)$", shown.partition("what to try next")[2], re.MULTILINE)
            hints = hints or re.findall(r"console (.+)$", shown.partition("what to try next")[2], re.MULTILINE)
            assert len(hints) >= 4, shown
            for hint in hints:
                assert on_a_terminal(tmp_path, *hint.split())
        assert not any(hint.startswith("spawn") for hint in hints)


def test_a_table_that_fits_has_columns_and_one_that_does_not_has_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    table = Table("name", "id", "note", texts=["note"])
    table.add_row(text("a"), text("x" * 40), text(LONG[:60]))
    table.add_row(text("b"), text(""), text(""))
    Console(width=80, markup=False).print(table)
    wide = capsys.readouterr().out
    assert "name" in wide.splitlines()[0]
    Console(width=60, markup=False).print(table)
    small = capsys.readouterr().out
    assert small.splitlines()[0].strip() == "a"
    assert "id " + "x" * 40 in small
    for shown in (wide, small):
        assert "x" * 40 in shown
        assert "word-5" in shown


def test_one_is_singular_and_a_text_is_cut_between_words() -> None:
    assert [count_of(number, "event") for number in (0, 1, 2_000)] == ["0 events", "1 event", "2,000 events"]
    assert shorten("one two three", 10) == "one two…"
    assert shorten("o" * 20, 10) == "o" * 9 + "…"


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["spawn", "acme/bob", "--session-id", ""], "--session-id"),
        (["spawn", "acme/bob", "--agent-type", ""], "--agent-type"),
        (["spawn", "acme/bob", "--set", f"x={2**70}"], "--set"),
        (["spawn", "acme/bob", "--metadata", f"x={2**70}"], "--metadata"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_names_the_option_as_it_was_typed(duramen: Duramen, words: list[str], option: str) -> None:
    ran = duramen(*words)
    assert ran.code == 2
    assert option in ran.err
    assert not re.search(r"session_id|agent_type|initial_state", ran.err)


def test_a_second_session_is_refused_without_a_word_of_python(duramen: Duramen) -> None:
    duramen("spawn", "acme/bob")
    ran = duramen("spawn", "acme/bob")
    assert ran.code == 1
    assert "handle" not in ran.err


def test_verify_and_export_count_one_event_as_one(duramen: Duramen, tmp_path: Path) -> None:
    duramen("spawn", "acme/bob")
    shown: Any = [duramen("verify").out, duramen("export", "acme/bob", str(tmp_path / "bob")).out]
    assert "1 event of 1 agent" in shown[0]
    assert "1 event written" in shown[1]


def test_the_whole_event_can_be_seen_while_stepping() -> None:
    with AgentSystem.open("memory://") as system:
        system.spawn("acme/alice", initial_state={"goal": "short"}).set("goal", LONG)
        past = system.replay("acme/alice", from_seq=2)
        before = past.state
        event, after = next(past)
        view = StepView(event, before, after, 2, 2)

    def seen() -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "\n".join(view.lines(COLUMNS, 24)))

    assert "w whole values" in seen()
    assert "word-119" not in seen()
    view.toggle_whole()
    found = seen()
    while "word-119" not in found:
        view.scroll(1)
        found += seen()
        assert view.scrolled is not None
        assert view.scrolled < 60
    assert {f"word-{number}" for number in range(120)} <= set(re.findall(r"word-\d+", found))
    view.toggle_whole()
    assert "word-119" not in seen()
