"""How much of a log is kept, and what came of trimming it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, cast

from attrs import field, frozen

from duramen.events import InvalidMessage

__all__ = ["KEEP_ALL", "Need", "Needs", "Retention", "TrimResult", "keeping", "plain_retention", "retention_of"]

_MOST_DAYS: Final = 36_500


def _check_events(_instance: object, _attribute: object, value: Any) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidMessage("a retention keeps 1 event or more, or None for no such rule", actual=value)


def _check_days(_instance: object, _attribute: object, value: Any) -> None:
    if value is not None and (type(value) not in (int, float) or not 0 < value <= _MOST_DAYS):
        raise InvalidMessage(f"a retention keeps days, up to {_MOST_DAYS}, or None for no such rule", actual=value)


@frozen(kw_only=True)
class Retention:
    """The least that is kept of an agent's log. With both rules, what either wants is kept; with none, everything.

    What a rule lets go may stay all the same: while a checkpoint or a consumer needs it, and until the agent
    takes its next snapshot.
    """

    events: int | None = field(default=None, validator=_check_events)
    """At least the last so many events."""
    days: float | None = field(default=None, validator=_check_days)
    """All events that are not older, by their own time."""

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever trimmed."""
        return self.events is None and self.days is None

    def cutoff(self, now: int) -> int | None:
        """The time, in µs, from which on events stay; None without a rule about time."""
        if self.days is None:
            return None
        return now - timedelta(days=self.days) // timedelta(microseconds=1)


KEEP_ALL: Final = Retention()


@frozen
class Need:
    """A part of an agent's log that is still needed: from `seq` on, for `what`."""

    seq: int
    what: str


Needs = Callable[[str], "Need | None"]
"""What somebody still needs of an agent's log; None: nothing of what is there. Called from any thread; may block."""


@frozen
class TrimResult:
    """What trimming has done to one agent, or would do."""

    agent: str
    base: int
    """Events up to this seq are gone; the first that is left is the next."""
    removed: int
    """How many went this time."""
    held_by: str | None
    """What kept more from going, such as `checkpoint 'lunch'`; None: the retention alone."""


def keeping(events: object, days: object) -> tuple[Retention | None, bool]:
    """The retention that arguments ask for (None: none), and whether nothing has to stay. Raises InvalidMessage."""
    if events is None and days is None:
        return None, False
    if type(events) is int and events == 0:
        return (None, True) if days is None else (Retention(days=cast("float", days)), False)
    return Retention(events=cast("int | None", events), days=cast("float | None", days)), False


def plain_retention(value: object) -> dict[str, Any] | None:
    """As plain data, for an event. Raises InvalidMessage for what is none."""
    if value is None:
        return None
    if type(value) is not Retention:
        raise InvalidMessage("a retention is a Retention, or None for the system's own", actual=type(value).__name__)
    return {"events": value.events, "days": value.days}


def retention_of(stored: Mapping[str, Any] | None) -> Retention | None:
    """From plain data."""
    return None if stored is None else Retention(events=stored["events"], days=stored["days"])
