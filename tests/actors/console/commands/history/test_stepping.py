"""`duramen replay --step`: keys on a terminal, which is given back as it was whatever happens."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from command_line import command, environment
from duramen.actors import AgentSystem
from duramen.actors.console.output.step_view import StepView
from duramen.events.embedded.server import EmbeddedServer
from duramen.events.log.keys import Keys, partition_of
from streaming import Stream

RIGHT, LEFT, DOWN, HOME, END, PAGE_DOWN = "\x1b[C", "\x1b[D", "\x1b[B", "\x1b[H", "\x1bOF", "\x1b[6~"
LEAVE = "\x1b[?25h\x1b[?1049l"
EVENTS = 30


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with EmbeddedServer.open(tmp_path / ".duramen"):
        with AgentSystem.open(data_dir=tmp_path / ".duramen") as system:
            alice = system.spawn("acme/alice", initial_state={"steps": []})
            for number in range(EVENTS - 1):
                alice.append("steps", f"step-{number}")
        yield tmp_path


class Stepping:
    """The command on a terminal of ours."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int, theirs: int) -> None:
        self.process = process
        self.screen = Stream(ours)
        self._ours, self._theirs = ours, theirs

    def press(self, *keys: str) -> None:
        os.write(self._ours, "".join(keys).encode())

    def shows(self, title: str) -> str:
        """The screen that has this title, to its last line."""
        self.screen.until(title)
        return plain(self.screen.until("\x1b[J"))

    def hang_up(self) -> None:
        """As when the window is closed."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, self._ours)
        os.dup2(null, self._theirs)
        os.close(null)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def mode(self) -> list[object]:
        return termios.tcgetattr(self._theirs)


@contextmanager
def stepping(folder: Path, *words: str) -> Generator[Stepping]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    try:
        with subprocess.Popen(
            command("replay", "acme/alice", "--step", *words),
            cwd=folder,
            env=environment(TERM="xterm-256color", PYTHONIOENCODING="utf-8"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            try:
                yield Stepping(process, ours, theirs)
            finally:
                process.kill()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.slow
def test_the_arrows_step_forward_and_back_and_the_terminal_is_given_back(folder: Path) -> None:
    with stepping(folder) as shown:
        before = shown.mode
        first = shown.shows("1 of 1…30")
        assert "+ steps: []" in first
        assert shown.mode != before
        shown.press(RIGHT)
        second = shown.shows("2 of 1…30")
        assert "appended 1 to steps" in second
        assert '+ 0: "step-0"' in second
        shown.press(RIGHT, "n", " ")
        assert '+ 3: "step-3"' in shown.shows("5 of 1…30")
        shown.press(LEFT)
        assert '+ 2: "step-2"' in shown.shows("4 of 1…30")
        shown.press(PAGE_DOWN)
        assert '+ 12: "step-12"' in shown.shows("14 of 1…30")
        shown.press(END)
        assert "steps (29)" in shown.shows("30 of 1…30")
        shown.press(RIGHT, HOME)  # there is nothing behind the end
        shown.shows("1 of 1…30")
        shown.press(LEFT, DOWN, "x", "\x1b[15~", RIGHT)  # nor before the start; other keys do nothing
        shown.shows("2 of 1…30")
        shown.resize(60, 10)
        small = shown.shows("2 of 1…30").split("\n")
        assert len(small) <= 10
        assert all(len(line.rstrip()) <= 60 for line in small)
        shown.press("q")
        shown.screen.until(LEAVE)
        assert shown.process.wait(30) == 0
        assert shown.mode == before


@pytest.mark.slow
@pytest.mark.parametrize("key", ["\x1b", "\x03", "q"], ids=["Esc", "Ctrl-C", "q"])
def test_it_is_left_by_a_key(folder: Path, key: str) -> None:
    with stepping(folder, "--from", "3", "--to", "4") as shown:
        before = shown.mode
        shown.shows("3 of 3…4")
        shown.press(LEFT, RIGHT)
        shown.shows("4 of 3…4")
        shown.press(key)
        shown.screen.until(LEAVE)
        assert shown.process.wait(30) == 0
        assert shown.mode == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_given_back(folder: Path, number: signal.Signals) -> None:
    with stepping(folder) as shown:
        before = shown.mode
        shown.shows("1 of 1…30")
        shown.process.send_signal(number)
        shown.screen.until(LEAVE)
        shown.screen.until("duramen: interrupted")
        assert shown.process.wait(30) == 130
        assert shown.mode == before


@pytest.mark.slow
def test_it_ends_when_its_terminal_is_gone(folder: Path) -> None:
    with stepping(folder) as shown:
        shown.shows("1 of 1…30")
        shown.hang_up()
        shown.process.wait(30)


@pytest.mark.slow
def test_damage_that_is_come_to_is_told_on_the_terminal_as_it_was(folder: Path) -> None:
    with EmbeddedServer.open(folder / ".duramen") as server:
        client = redis.Redis(unix_socket_path=str(server.socket_path))
        key = Keys("default").log(partition_of("acme/alice", 16), "acme/alice")
        client.execute_command("LSET", key, 4, b"\x00" * 64)
        client.close()
    with stepping(folder, "--to", "6") as shown:
        before = shown.mode
        shown.shows("1 of 1…6")
        shown.press(*[RIGHT] * 5)
        shown.screen.until(LEAVE)
        shown.screen.until("duramen: event 5 of acme/alice")
        assert shown.process.wait(30) == 4
        assert shown.mode == before


# -- the screen, without a terminal ------------------------------------------------------------------------------------


def views(system: AgentSystem) -> list[StepView]:
    past = system.replay("acme/alice")
    found: list[StepView] = []
    before = past.state
    for event, after in past:
        found.append(StepView(event, before, after, past.from_seq, past.to_seq))
        before = after
    return found


@pytest.fixture
def system() -> Iterator[AgentSystem]:
    with AgentSystem.open("memory://") as found:
        yield found


@pytest.mark.parametrize("size", [(20, 5), (80, 24), (300, 90), (21, 6)])
def test_a_screen_never_has_more_lines_than_there_is_room_for(system: AgentSystem, size: tuple[int, int]) -> None:
    alice = system.spawn("acme/alice", initial_state={"a": {"b": [{"c": "漢" * 200}] * 20}})
    alice.set("a/b/7/c", "x" * 500)
    for view in views(system):
        lines = view.lines(*size)
        assert len(lines) == size[1]
        assert all("\n" not in line for line in lines)


def test_what_changed_is_in_sight_however_long_the_state_is(system: AgentSystem) -> None:
    alice = system.spawn("acme/alice", initial_state={f"k{number:03}": number for number in range(500)})
    alice.set("k250", "here")
    alice.merge("", {"k400": None})
    _, changed, removed = (plain("\n".join(view.lines(100, 24))) for view in views(system))
    assert '~ k250: 250 → "here"' in changed
    assert "k251: 251" in changed
    assert "k100:" not in changed
    assert "- k400: 400" in removed


def test_the_state_is_scrolled_within_its_bounds(system: AgentSystem) -> None:
    system.spawn("acme/alice", initial_state={f"k{number}": number for number in range(10)})
    (view,) = views(system)
    top = plain("\n".join(view.lines(100, 10)))
    assert "k0: 0" in top
    assert "k9: 9" not in top
    for _ in range(50):
        view.scroll(1)
    assert "k9: 9" in plain("\n".join(view.lines(100, 10)))
    for _ in range(50):
        view.scroll(-1)
    assert plain("\n".join(view.lines(100, 10))) == top


def test_nothing_in_a_state_can_drive_the_terminal(system: AgentSystem) -> None:
    system.spawn("acme/alice", initial_state={"k\u2028": "\x1b]0;title\x07", "b": b"\x1b"})
    (view,) = views(system)
    shown = "\n".join(view.lines(100, 30))
    assert "\x07" not in shown
    assert "\x1b]" not in shown
    assert "\\u001b]0;title" in shown
