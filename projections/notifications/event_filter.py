"""Which events a durable consumer takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, cast

from attrs import frozen

from duramen.events import Granularity, InvalidMessage, InvalidPath, PathPattern
from duramen.events.codec import RawEvent
from duramen.events.log import EventLog

__all__ = ["Category", "EventFilter", "Scope", "event_filter_of", "partitions_of", "scope_of"]

_REMEMBERED = 100_000


@frozen(eq=False)
class Scope:
    """Checked and ready to be asked. `text` stands for it in the store: with another one a view is built anew."""

    pattern: PathPattern
    levels: frozenset[int]
    types: frozenset[str] | None
    partitions: tuple[int, ...]
    text: str

    @property
    def level(self) -> int:
        """The highest level that is wanted."""
        return max(self.levels)

    @property
    def every_level(self) -> bool:
        """Whether all levels up to `level` are wanted."""
        return len(self.levels) == self.level

    @property
    def all_agents(self) -> bool:
        return self.pattern.segments == ("**",)

    def wants(self) -> Callable[[str], bool] | None:
        """A new function that tells of an agent; None if all are wanted. For one thread."""
        if self.all_agents:
            return None
        matches = self.pattern.matches
        known: dict[str, bool] = {}

        def wanted(agent: str) -> bool:
            found = known.get(agent)
            if found is None:
                if len(known) >= _REMEMBERED:
                    known.clear()
                found = known[agent] = matches(agent.split("/"))
            return found

        return wanted


def scope_of(
    log: EventLog,
    agents: str | PathPattern,
    *,
    granularity: Granularity,
    categories: Iterable[Category] | None,
    types: Iterable[str] | None,
    handled: frozenset[str] | None,
) -> Scope:
    """Check what a user asks for; `handled` are the types that the projection says it handles.

    Raises InvalidPath, InvalidMessage.
    """
    interest = event_filter_of(agents, granularity, categories, types)
    wanted = interest.types if handled is None else handled if interest.types is None else interest.types & handled
    names = "*" if wanted is None else ",".join(sorted(wanted))
    levels = "".join(str(level) for level in sorted(interest.levels))
    return Scope(
        interest.pattern,
        interest.levels,
        wanted,
        tuple(interest.partitions(log)),
        f"{interest.pattern} {levels} {names}",
    )


def partitions_of(log: EventLog, text: str) -> list[int]:
    """The partitions that a scope reads, from its text."""
    pattern = text.rsplit(" ", 2)[0]
    return event_filter_of(pattern, Granularity.TRACE, None, None).partitions(log)


Category = str | Granularity
"""A level by itself: `"lifecycle"`, `"state"`, `"activity"`, `"trace"`, or the `Granularity`."""

_ANY: Final = "**"
_LEVELS: Final = {level.name.lower(): level for level in Granularity}


@frozen(eq=False)
class EventFilter:
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


def event_filter_of(
    pattern: str | PathPattern,
    granularity: Granularity,
    categories: Iterable[Category] | None,
    types: Iterable[str] | None,
) -> EventFilter:
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
    return EventFilter(parsed, frozenset(map(int, levels)), names, fixed)


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
