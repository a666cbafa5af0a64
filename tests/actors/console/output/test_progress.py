"""How far something long has come, on a terminal and elsewhere."""

from __future__ import annotations

import sys
from io import StringIO

import pytest

from duramen.actors.console.output.progress import show_progress, show_waiting
from waiting import eventually


class Clock:
    """Goes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class ATerminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_where_no_terminal_is_a_line_comes_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with show_progress("event", bar=True, clock=clock) as advance:
        advance(1, 10)
        clock.now = 6.0
        advance(5_000, 10_000, "2 agents")
        advance(6_000, 10_000)
        clock.now = 12.0
        advance(7_000, None)
    assert capsys.readouterr().err == "5,000/10,000 events, 2 agents\n7,000 events\n"


@pytest.mark.parametrize("total", [10, None])
def test_on_a_terminal_it_is_a_bar_that_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, total: int | None
) -> None:
    stream = ATerminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with show_progress("event", bar=True, delay=0) as advance:
        advance(5, total, "[bold]2 agents")
        eventually(lambda: "2 agents" in stream.getvalue())
    shown = stream.getvalue()
    assert f"{'5/10' if total else '5'} events, [bold]2 agents" in shown
    assert "\x1b[2K" in shown.rpartition("2 agents")[2], "the bar is wiped at the end"


def test_for_programs_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ATerminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with show_progress("event", bar=False) as advance:
        advance(5, 10)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("delay", [0.0, 3_600.0])
def test_what_takes_its_time_is_told_on_a_terminal_and_what_does_not_is_not(
    monkeypatch: pytest.MonkeyPatch, delay: float
) -> None:
    stream = ATerminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with show_waiting("erasing [bold]acme/alice", bar=True, delay=delay):
        if not delay:
            eventually(lambda: "erasing [bold]acme/alice" in stream.getvalue())
    assert ("erasing" in stream.getvalue()) == (not delay)
    assert not delay or stream.getvalue() == ""


def test_where_no_terminal_is_nothing_is_told_of_waiting(capsys: pytest.CaptureFixture[str]) -> None:
    with show_waiting("erasing", bar=True, delay=0):
        pass
    assert capsys.readouterr().err == ""
