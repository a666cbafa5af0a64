"""Escaping text that would control a terminal."""

from __future__ import annotations

import re
import sys
from shutil import get_terminal_size
from textwrap import wrap
from typing import Final

# A recording may hold any character. C0, DEL and C1 control the terminal; bidi controls and separators make a line
# look like another one; a lone surrogate cannot be written.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_DIGITS: Final = re.compile("([0-9]{1,20})")
_UNSAFE_BUT_LINES: Final = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def clean(text: str, *, lines: bool = False) -> str:
    """The text with unsafe characters escaped as in JSON; `lines` keeps line breaks."""
    return (_UNSAFE_BUT_LINES if lines else _UNSAFE).sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def natural_key(path: str) -> tuple[list[list[str | int]], str]:
    """A sort key for paths: what is above comes first, and numbers are in their order."""
    return [
        [int(part) if at % 2 else part for at, part in enumerate(_DIGITS.split(each))] for each in path.split("/")
    ], path


def shorten(text: str, most: int) -> str:
    """The text cut to `most` characters, between two words if it can be; an ellipsis shows it."""
    if len(text) <= most:
        return text
    words = text[:most].rpartition(" ")[0]  # whole ones, unless that would leave little
    return f"{words if len(words) > most // 2 else text[: most - 1]}…"


def write_note(sentence: str) -> None:
    """Write a sentence to stderr, in lines that fit where that is a terminal. It may hold lines of its own."""
    lines = f"duramen: {sentence}".split("\n")
    if sys.stderr.isatty():
        width = max(20, get_terminal_size().columns)
        lines = [part for line in lines for part in _wrap(line, width)]
    sys.stderr.write("\n".join((*lines, "")))


def _wrap(line: str, width: int) -> list[str]:
    return wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) or [""]
