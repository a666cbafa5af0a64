"""Differences between two states, by path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from duramen.events import PlainData
from duramen.events.model import join_text, same_value

from ..state import MISSING, Missing, copy_tree, read_only
from .past_state import PastState

_SHOWN: Final = 60
_LIFECYCLE: Final = ("status", "session_id", "agent_type", "paused_at", "granularity", "metadata", "parent", "children")


@frozen
class Changes:
    """The differences between two trees. Keys are property paths as text, in order; values are read-only.

    A subtree that only one of them has is one entry. Lists are compared position by position. Values are
    the same only if their types are: True is not 1.
    """

    added: Mapping[str, Any]
    removed: Mapping[str, Any]
    changed: Mapping[str, tuple[Any, Any]]
    """Old and new."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.removed or self.changed)

    def __len__(self) -> int:
        return len(self.added) + len(self.removed) + len(self.changed)

    def lines(self) -> list[str]:
        """A line a path: `+` added, `-` removed, `~` changed. Long values are shortened."""
        found = [(path, f"+ {path}: {shown(value)}") for path, value in self.added.items()]
        found += [(path, f"- {path}: {shown(value)}") for path, value in self.removed.items()]
        found += [(path, f"~ {path}: {shown(old)} → {shown(new)}") for path, (old, new) in self.changed.items()]
        return [line for _, line in sorted(found, key=lambda pair: _natural(pair[0]))]

    def as_data(self) -> dict[str, Any]:
        """A copy as plain data."""
        return {
            "added": {path: _plain(value) for path, value in self.added.items()},
            "removed": {path: _plain(value) for path, value in self.removed.items()},
            "changed": {path: [_plain(old), _plain(new)] for path, (old, new) in self.changed.items()},
        }


@frozen
class Comparison:
    """The differences between two moments, without seq, digest and time themselves. True if there are any.

    `str()` is for people: the two moments, then a line for each difference.
    """

    a: PastState
    b: PastState
    memory: Changes
    custom: Changes
    """Differences of the custom state, which the agent's class folds; a scalar has the empty path."""
    lifecycle: Mapping[str, tuple[Any, Any]]
    """Old and new of other fields that differ: status, session, metadata …"""

    @property
    def added(self) -> Mapping[str, Any]:
        """Values that only the working memory of `b` has, by property path."""
        return self.memory.added

    @property
    def removed(self) -> Mapping[str, Any]:
        """Values that only the working memory of `a` has, by property path."""
        return self.memory.removed

    @property
    def changed(self) -> Mapping[str, tuple[Any, Any]]:
        """Values that both have and that differ, by property path: old and new."""
        return self.memory.changed

    def __bool__(self) -> bool:
        return bool(self.memory or self.custom or self.lifecycle)

    def __str__(self) -> str:
        lines = [f"--- {self.a.agent} at {self.a.seq}", f"+++ {self.b.agent} at {self.b.seq}"]
        lines += [f"  {name}: {shown(old)} → {shown(new)}" for name, (old, new) in self.lifecycle.items()]
        lines += self.memory.lines()
        lines += [f"{line[0]} (custom) {line[2:]}" for line in self.custom.lines()]
        return "\n".join(lines if self else [*lines, "  no difference"])

    def as_data(self) -> dict[str, Any]:
        """A copy as plain data."""
        return {
            "a": {"agent": self.a.agent, "seq": self.a.seq},
            "b": {"agent": self.b.agent, "seq": self.b.seq},
            **self.memory.as_data(),
            "custom": self.custom.as_data(),
            "lifecycle": {name: [_plain(old), _plain(new)] for name, (old, new) in self.lifecycle.items()},
        }


def compare(a: PastState, b: PastState) -> Comparison:
    """The differences between two states, of one agent or of two."""
    lifecycle = {
        name: (getattr(a, name), getattr(b, name)) for name in _LIFECYCLE if getattr(a, name) != getattr(b, name)
    }
    return Comparison(
        a,
        b,
        _changes(a.memory.plain(), b.memory.plain()),
        _changes(_plain(a.custom), _plain(b.custom)),
        lifecycle,
    )


@frozen
class _Found:
    added: dict[str, Any] = field(factory=dict[str, Any])
    removed: dict[str, Any] = field(factory=dict[str, Any])
    changed: dict[str, tuple[Any, Any]] = field(factory=dict[str, tuple[Any, Any]])


def _changes(old: PlainData, new: PlainData) -> Changes:
    found = _Found()
    _walk((), old, new, found)
    return Changes(found.added, found.removed, found.changed)


def _walk(path: tuple[str, ...], old: PlainData | Missing, new: PlainData | Missing, found: _Found) -> None:
    if old is MISSING:
        found.added[join_text(path)] = read_only(new)
    elif new is MISSING:
        found.removed[join_text(path)] = read_only(old)
    elif type(old) is dict and type(new) is dict:
        for key in [*old, *(key for key in new if key not in old)]:
            _walk((*path, key), old.get(key, MISSING), new.get(key, MISSING), found)
    elif type(old) is list and type(new) is list:
        for index in range(max(len(old), len(new))):
            _walk((*path, str(index)), _at(old, index), _at(new, index), found)
    elif not same_value(old, new):
        found.changed[join_text(path)] = (read_only(old), read_only(new))


def _at(held: list[PlainData], index: int) -> PlainData | Missing:
    return held[index] if index < len(held) else MISSING


def _plain(value: Any) -> Any:
    inside = getattr(value, "plain", None)
    return inside() if inside is not None else copy_tree(value)


def shown(value: Any) -> str:
    """A value for people, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _natural(path: str) -> list[tuple[int, int, str]]:
    """A sort key: list positions in the order of numbers."""
    return [_part(segment) for segment in path.split("/")]


def _part(segment: str) -> tuple[int, int, str]:
    return (0, int(segment), "") if segment.isdecimal() and len(segment) < 20 else (1, 0, segment)
