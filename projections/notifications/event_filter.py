"""Which events a subscription or a durable consumer wants: agents by a pattern, levels, types."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Self, cast

from attrs import evolve, frozen

from duramen.events import Granularity, InvalidMessage, InvalidPath, PathPattern
from duramen.events.codec import RawEvent
from duramen.events.log import EventLog
from duramen.events.model import Wildcard, agent_segments, join_text

Category = str | Granularity
"""A level by itself: `"lifecycle"`, `"state"`, `"activity"`, `"trace"`, or the `Granularity`."""

_ANY: Final = "**"
_LEVELS: Final = {level.name.lower(): level for level in Granularity}
_REMEMBERED: Final = 100_000


@frozen(eq=False)
class EventFilter:
    """Made by `parse` from what a user asks for, by `from_text` from what a consumer has stored."""

    pattern: PathPattern
    levels: frozenset[int]
    types: frozenset[str] | None
    """None: all types."""
    fixed: int
    """Segments of the pattern before its first "**": up to there it names one depth only."""

    @classmethod
    def parse(
        cls,
        pattern: str | PathPattern,
        granularity: Granularity = Granularity.TRACE,
        categories: Iterable[Category] | None = None,
        types: Iterable[str] | None = None,
    ) -> Self:
        """Check the arguments of `subscribe` and `attach`. Raises InvalidPath, InvalidMessage."""
        parsed = PathPattern.parse(pattern)
        segments = parsed.segments
        fixed = next((at for at, step in enumerate(segments) if step is Wildcard.ANY), len(segments))
        if fixed == len(segments) < 2:
            raise InvalidPath(
                f"no agent matches '{parsed}': a path begins with project/agent; '{parsed}/**' has them all"
            )
        most = _level(granularity)
        levels = [level for level in Granularity if level <= most]
        if categories is not None:
            levels = [_level(category) for category in _several(categories, "categories")]
        names = None if types is None else frozenset(_several(types, "types"))
        if not levels or (names is not None and (not names or not all(type(name) is str for name in names))):
            raise InvalidMessage("name at least one category, and types of events by their names")
        return cls(parsed, frozenset(map(int, levels)), names, fixed)

    @classmethod
    def from_text(cls, text: str) -> EventFilter:
        """The filter of a `text`; one that wants everything where the text is of no filter."""
        pattern, levels, types = [*text.rsplit(" ", 2), "", ""][:3]
        try:
            return cls.parse(
                pattern,
                categories=[Granularity(int(level)) for level in levels],
                types=None if types == "*" else types.split(","),
            )
        except (InvalidPath, InvalidMessage, ValueError):
            return cls.parse(_ANY)

    @property
    def text(self) -> str:
        """The filter as it is stored: a view that was built with another one is rebuilt."""
        names = "*" if self.types is None else ",".join(sorted(self.types))
        return f"{self.pattern} {''.join(map(str, sorted(self.levels)))} {names}"

    @property
    def level(self) -> int:
        """The highest level that is wanted."""
        return max(self.levels)

    @property
    def has_every_level(self) -> bool:
        """Whether all levels up to `level` are wanted."""
        return len(self.levels) == self.level

    @property
    def has_all_agents(self) -> bool:
        return self.pattern.text == _ANY

    def only(self, types: frozenset[str] | None) -> EventFilter:
        """The same, without events of other types than these. None: all types."""
        if types is None:
            return self
        return evolve(self, types=types if self.types is None else self.types & types)

    def accepts(self, raw: RawEvent) -> bool:
        """Whether level and type are wanted. `SubscriptionMatcher` compares the pattern, for all filters at once."""
        return raw[2] in self.levels and (self.types is None or raw[0] in self.types)

    def partitions(self, log: EventLog) -> list[int]:
        """The partitions of the agents that the pattern can match: one if it names the root agent."""
        root = self.pattern.segments[:2]
        if self.fixed >= 2 and not any(isinstance(step, Wildcard) for step in root):
            return [log.partition_of(join_text(root))]
        return list(range(log.partitions))

    def agent_matcher(self) -> Callable[[str], bool] | None:
        """A new function that says whether an agent matches; None if all do. It caches, for one thread."""
        if self.has_all_agents:
            return None
        matches = self.pattern.matches
        known: dict[str, bool] = {}

        def is_wanted(agent: str) -> bool:
            found = known.get(agent)
            if found is None:
                if len(known) >= _REMEMBERED:
                    known.clear()
                found = known[agent] = matches(agent_segments(agent))
            return found

        return is_wanted


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
