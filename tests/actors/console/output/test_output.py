from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from typing import Any

import pytest

from duramen.actors import Outcome
from duramen.actors.console.exit_codes import ExitCode, exit_code_of
from duramen.actors.console.output.as_json import to_json
from duramen.actors.console.output.output import Output, text
from duramen.actors.console.output.printable import clean, shorten
from duramen.events import DuramenError, errors


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2025, 1, 2, 3, 4, 5, 6, UTC), "2025-01-02T03:04:05.000006+00:00"),
        (datetime(2025, 1, 2, tzinfo=timezone(timedelta(hours=2))), "2025-01-02T00:00:00+02:00"),
        (b"\x00\xff", {"$bytes": "AP8="}),
        (float("nan"), {"$float": "nan"}),
        (float("-inf"), {"$float": "-inf"}),
        ({"a": [b"", None, True, 1.5, 2**64 - 1]}, {"a": [{"$bytes": ""}, None, True, 1.5, 2**64 - 1]}),
        ((1, (2,)), [1, [2]]),
        (Outcome.PARTIAL, "partial"),
    ],
)
def test_what_json_has_no_form_for_is_told_in_one_that_it_has(value: Any, expected: Any) -> None:
    assert json.loads(to_json(value)) == expected


def test_json_for_programs_is_ascii() -> None:
    assert to_json("é\x85\u202e").isascii()


@pytest.mark.parametrize("character", ["\x1b", "\r", "\b", "\x00", "\x7f", "\x9b", "\u202e", "\u2066", "\u2028"])
def test_nothing_that_is_shown_can_drive_the_terminal(character: str) -> None:
    assert character not in clean(f"a{character}b")
    assert character not in clean(f"a{character}b", lines=True)
    assert character not in text(f"a{character}b").plain


def test_line_breaks_stay_only_where_they_are_asked_for() -> None:
    assert clean("a\nb") == "a\\u000ab"
    assert clean("a\nb\t", lines=True) == "a\nb\\u0009"


def test_markup_in_a_text_is_text() -> None:
    assert text("[bold]x[/bold]").plain == "[bold]x[/bold]"


def test_what_is_cut_ends_in_an_ellipsis() -> None:
    assert (shorten("abc", 3), shorten("abcd", 3)) == ("abc", "ab…")


CODES = {
    ExitCode.USAGE: {
        *{"InvalidPath", "InvalidMessage", "ValueRefused", "TooLarge", "WrongKey", "ParentRequired"},
        *{"DurabilityUnavailable", "UnknownMessageType"},
    },
    ExitCode.SERVER: {
        *{"Unavailable", "OutcomeUnknown", "NotPermitted", "UnsafeServer", "AskTimeout", "Unconfirmed"},
        "SystemClosed",
    },
    ExitCode.CORRUPT: {"CorruptEvent", "DataLoss", "Diverged", "UnknownEventType"},
}


@pytest.mark.parametrize("name", errors.__all__)
def test_every_typed_error_has_an_exit_code(name: str) -> None:
    expected = next((code for code, names in CODES.items() if name in names), ExitCode.FAILED)
    error: DuramenError = getattr(errors, name)("x")
    assert exit_code_of(error) is expected


NESTED = {"messages": [{"role": "user", "content": " ".join(f"word-{number}" for number in range(60))}]}


class ATerminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 120])
def test_a_long_value_goes_on_below_its_own_beginning(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    stream = ATerminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    Output(as_json=False).value(NESTED)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    first = next(at for at, line in enumerate(lines) if line.lstrip().startswith('"content"'))
    assert lines[first + 1].startswith(" " * 10 + "word-"), "4 columns deeper than the 6 of its first line"
    assert json.loads(" ".join(map(str.strip, lines))) == NESTED, "broken between words only"


def test_a_value_that_goes_to_a_file_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).value(NESTED)
    assert json.loads(capsys.readouterr().out) == NESTED
    long = NESTED["messages"][0]["content"]
    Output(as_json=False).value(long)
    assert capsys.readouterr().out == f"{long}\n"
