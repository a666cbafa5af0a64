"""How much of a log is retained, and the result of trimming it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, cast

from attrs import field, frozen

from duramen.events import InvalidMessage

_MOST_DAYS: Final = 36_500


def _check_events(_instance: object, _attribute: object, value: Any) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidMessage("a retention keeps 1 event or more, or None for no such rule", actual=value)


def _check_days(_instance: object, _attribute: object, value: Any) -> None:
    if value is not None and (type(value) not in (int, float) or not 0 < value <= _MOST_DAYS):
        raise InvalidMessage(f"a retention keeps days, up to {_MOST_DAYS}, or None for no such rule", actual=value)


@frozen(kw_only=True)
class Retention:
    """The least that is kept of an agent's log: all events that either rule keeps; without a rule, everything.

    More stays while a checkpoint or a consumer needs it, and until the agent's next snapshot.
    """

    events: int | None = field(default=None, validator=_check_events)
    """Keep at least this many of the last events."""
    days: float | None = field(default=None, validator=_check_days)
    """Keep the events of this many days, by their own time."""

    @property
    def keeps_all(self) -> bool:
        """Whether no event is ever trimmed."""
        return self.events is None and self.days is None

    def cutoff(self, now: int) -> int | None:
        """The time, in µs since the epoch, of the oldest event to keep; None without `days`."""
        if self.days is None:
            return None
        return now - timedelta(days=self.days) // timedelta(microseconds=1)


KEEP_ALL: Final = Retention()


@frozen
class Need:
    """The part of an agent's log, from `seq` on, that `what` still needs."""

    seq: int
    what: str


Needs = Callable[[str], "Need | None"]
"""Finds the part of an agent's log that is still needed, None if none is. Called from any thread; may block."""


@frozen
class TrimResult:
    """The result of trimming one agent, or of a dry run."""

    agent: str
    base: int
    """Events up to this seq are removed."""
    removed: int
    """Number of events removed this time."""
    held_by: str | None
    """What kept more from being removed, such as `checkpoint 'lunch'`; None: the retention alone."""


def parse_retention(events: object, days: object) -> tuple[Retention | None, bool]:
    """The retention of two arguments (None for none), and whether they keep nothing. Raises InvalidMessage."""
    if events is None and days is None:
        return None, False
    if type(events) is int and events == 0:
        return (None, True) if days is None else (Retention(days=cast("float", days)), False)
    return Retention(events=cast("int | None", events), days=cast("float | None", days)), False


def retention_to_data(value: object) -> dict[str, Any] | None:
    """The retention as plain data, for an event. Raises InvalidMessage for a value of another type."""
    if value is None:
        return None
    if type(value) is not Retention:
        raise InvalidMessage("a retention is a Retention, or None for the system's own", actual=type(value).__name__)
    return {"events": value.events, "days": value.days}


def retention_from_data(stored: Mapping[str, Any] | None) -> Retention | None:
    """The retention of an event's plain data."""
    return None if stored is None else Retention(events=stored["events"], days=stored["days"])
