"""Strategies for agent paths and property paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from duramen.events import AgentPath, PropertyPath

NAMES: Final = ("a", "b", "c", "0", "1")
"""Few names, some of them list positions, so that steps read, change and delete what others wrote."""

ODD_KEYS: Final = (
    "",
    ".",
    "..",
    "*",
    "**",
    "a*b",
    "a/b",
    "/",
    "~",
    "~1",
    "~u000A",
    "\x00",
    "\n",
    "e\u0301",
    "-1",
    "00",
)
"""Keys that a path writes with escapes, or that look as if it did."""

_FIRST: Final = "abcxyzABC0129"
_MORE: Final = f"{_FIRST}._-"


def agent_paths(*, max_segments: int = 4) -> SearchStrategy[AgentPath]:
    """Valid agent paths: root agents and, with three segments or more, their children."""
    name = st.builds(str.__add__, st.sampled_from(_FIRST), st.text(st.sampled_from(_MORE), max_size=6))
    segments = st.uuids().map(str) | name
    return st.lists(segments, min_size=2, max_size=max(2, max_segments)).map(lambda found: AgentPath(tuple(found)))


def property_paths(*, min_segments: int = 0, max_segments: int = 4) -> SearchStrategy[PropertyPath]:
    """Property paths of any keys, some escaped; the empty path is the root."""
    written = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    segment = written | st.sampled_from((*NAMES, *ODD_KEYS))
    return st.lists(segment, min_size=min_segments, max_size=max_segments).map(lambda found: PropertyPath.of(*found))


def paths(names: Sequence[str] = NAMES, *, min_segments: int = 1, max_segments: int = 3) -> SearchStrategy[str]:
    """Property paths as text, made of few names, so that many meet."""
    return st.lists(st.sampled_from(names), min_size=min_segments, max_size=max_segments).map("/".join)
