"""What a subscription wants to hear of: a pattern of paths, levels of detail, types of events."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, cast

from attrs import frozen

from duramen.events import Granularity, InvalidMessage, InvalidPath, PathPattern
from duramen.events.codec import RawEvent
from duramen.events.log import EventLog

__all__ = ["Category", "Interest", "interest_in"]

Category = str | Granularity
"""A level by itself: `"lifecycle"`, `"state"`, `"activity"`, `"trace"`, or the `Granularity`."""

_ANY: Final = "**"
_LEVELS: Final = {level.name.lower(): level for level in Granularity}


@frozen(eq=False)
class Interest:
    """Checked and ready to be asked, of raw events."""

    pattern: PathPattern
    levels: frozenset[int]
    types: frozenset[str] | None
    fixed: int
    """How many segments of the pattern stand before its first "**": up to there it names one depth only."""

    @property
    def level(self) -> int:
        """The highest level that is wanted."""
        return max(self.levels)

    def takes(self, raw: RawEvent) -> bool:
        """Whether level and type are wanted; the pattern is asked elsewhere, for all subscriptions at once."""
        return raw[2] in self.levels and (self.types is None or raw[0] in self.types)

    def partitions(self, log: EventLog) -> list[int]:
        """Where the agents are that the pattern can stand for: one partition if it names the root agent."""
        root = self.pattern.segments[:2]
        if self.fixed >= 2 and "*" not in root:
            return [log.partition_of("/".join(root))]
        return list(range(log.partitions))


def interest_in(
    pattern: str | PathPattern,
    granularity: Granularity,
    categories: Iterable[Category] | None,
    types: Iterable[str] | None,
) -> Interest:
    """Check what a user asks for. Raises InvalidPath, InvalidMessage."""
    parsed = PathPattern.parse(pattern)
    segments = parsed.segments
    fixed = segments.index(_ANY) if _ANY in segments else len(segments)
    if fixed == len(segments) < 2:
        raise InvalidPath(f"no agent matches '{parsed}': a path begins with project/agent; '{parsed}/**' has them all")
    most = _level(granularity)
    levels = [level for level in Granularity if level <= most]
    if categories is not None:
        levels = [_level(category) for category in _several(categories, "categories")]
    names = None if types is None else frozenset(_several(types, "types"))
    if not levels or (names is not None and (not names or not all(type(name) is str for name in names))):
        raise InvalidMessage("name at least one category, and types of events by their names")
    return Interest(parsed, frozenset(map(int, levels)), names, fixed)


def _several(given: Iterable[Any], what: str) -> Collection[Any]:
    if isinstance(given, str) or not isinstance(cast("object", given), Iterable):
        raise InvalidMessage(f"{what} takes several: a set, a list or a tuple", actual=type(given).__name__)
    return list(given)


def _level(given: object) -> Granularity:
    try:
        return _LEVELS[given] if isinstance(given, str) else Granularity(cast("int", given))
    except (KeyError, ValueError):
        known = ", ".join(repr(name) for name in _LEVELS)
        raise InvalidMessage(f"a category or granularity is a Granularity, or one of {known}") from None
