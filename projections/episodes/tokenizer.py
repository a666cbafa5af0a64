"""Splitting text into words without case, accents and punctuation, alike for episodes and for queries."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final

_ACCENTS: Final = re.compile("[\u0300-\u036f]")

# Scripts without spaces between words. Each character counts as a word, and a run of them as a phrase.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # Japanese kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)


def split_words(text: str) -> list[list[str]]:
    """Split a text into words, each a phrase of one; a run of a script without spaces is a phrase of its characters.

    Accents of Latin, Greek and Cyrillic letters, case and width are ignored. Underscores and every character that is
    neither letter nor digit separate words.
    """
    if text.isascii():
        return [[word] for word in _ascii().findall(text.lower())]
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    found = _words().finditer(_ACCENTS.sub("", folded))
    return [[run[0]] if run["spaced"] else list(run[0]) for run in found]


@cache
def _ascii() -> re.Pattern[str]:
    return re.compile("[a-z0-9]+")


@cache
def _words() -> re.Pattern[str]:
    """A pattern of words: letters, digits and marks of letters; scripts without spaces are matched apart."""
    letter = rf"[^\W_{_UNSPACED}]"
    marks = re.escape("".join(map(chr, _marks())))
    return re.compile(rf"[{_UNSPACED}]+|(?P<spaced>{letter}(?:{letter}|[{marks}])*)")


def _marks() -> list[int]:
    """Vowel signs and other marks of Hebrew, Arabic and Indic scripts, which are part of their words."""
    return [code for code in range(0x0483, 0x1D00) if unicodedata.category(chr(code)).startswith("M")]
