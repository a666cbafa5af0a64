"""Sentences on stderr, on a terminal and elsewhere."""

from __future__ import annotations

import sys
from io import StringIO

import pytest

from duramen.actors.console.output import write_note

LONG = "no message type 'hello' is declared; --import the module that declares it, or name it as it is declared"


class ATerminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_on_a_terminal_a_sentence_is_broken_between_words(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    stream = ATerminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    write_note(LONG)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    assert (len(lines) > 1) == (columns < len(f"duramen: {LONG}"))
    assert " ".join(line.strip() for line in lines) == f"duramen: {LONG}"


def test_elsewhere_a_sentence_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_note(f"{LONG}\nits log")
    assert capsys.readouterr().err == f"duramen: {LONG}\nits log\n"
