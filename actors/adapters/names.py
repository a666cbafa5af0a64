"""Ids of other frameworks as segments of agent paths."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

_OTHER: Final = re.compile(rb"[^A-Za-z0-9.-]")
_WRITTEN: Final = re.compile(rb"_([0-9A-F]{2})")
_BEGIN: Final = "x__"
"""Before an id that does not begin with a letter or digit. No escaped text has two of these in a row."""
_HASHED: Final = "h__"
"""Before the hash of an id that is too long."""
_MOST: Final = 128


def segment_of(id: str) -> str:
    """Write an id as one segment of an agent path; different ids give different segments.

    Letters, digits, "." and "-" stay; other characters are written as the bytes of their UTF-8, "_3A". An id that would
    be longer than a segment may be is hashed. Raises UnicodeEncodeError for a lone surrogate.
    """
    text = _OTHER.sub(lambda found: b"_%02X" % found[0][0], id.encode()).decode()
    if not text[:1].isalnum():
        text = _BEGIN + text
    return text if len(text) <= _MOST else _HASHED + sha256(id.encode()).hexdigest()


def id_of(segment: str) -> str | None:
    """The id that a segment was written for; None for a hashed one."""
    if segment.startswith(_HASHED):
        return None
    text = segment.removeprefix(_BEGIN).encode()
    return _WRITTEN.sub(lambda found: bytes((int(found[1], 16),)), text).decode()
