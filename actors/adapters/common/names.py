"""Ids of other frameworks as names of agents, which have 1 to 128 characters."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

_HASHED: Final = "sha256:"
_MOST: Final = 128


def name_of(id: str) -> str:
    """The name of the agent for an id: the id, or its hash where it is empty, too long, or looks like one."""
    if 0 < len(id) <= _MOST and not id.startswith(_HASHED):
        return id
    return _HASHED + sha256(id.encode(errors="surrogatepass")).hexdigest()


def id_of(name: str) -> str | None:
    """The id that a name stands for; None for a hashed one."""
    return None if name.startswith(_HASHED) else name
