"""Which events a durable consumer takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import frozen

from duramen.events import Granularity, PathPattern
from duramen.events.log import EventLog

from .interest import Category, interest_in

__all__ = ["Scope", "partitions_of", "scope_of"]

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
    interest = interest_in(agents, granularity, categories, types)
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
    return interest_in(pattern, Granularity.TRACE, None, None).partitions(log)
