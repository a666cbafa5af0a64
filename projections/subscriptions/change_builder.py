"""From an event as it was read to what is delivered of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from duramen.events import EventRegistry, Granularity, Limits
from duramen.events.codec import build_valid_event
from duramen.events.feed import FeedEvent
from duramen.events.log import EventLog

from .change import Change
from .state_cache import StateCache, value_at

__all__ = ["ChangeBuilder", "Source"]

_CHANGES_STATE: Final = int(Granularity.STATE)


@frozen
class Source:
    """What is read, and how."""

    log: EventLog
    registry: EventRegistry
    limits: Limits


class ChangeBuilder:
    """Makes changes of events. Used by one thread at a time; with values, show it every event up to `level`."""

    def __init__(self, source: Source, *, values: bool) -> None:
        self._registry = source.registry
        self._remembered = StateCache(source.log, source.limits) if values else None
        self.level = _CHANGES_STATE if values else 0

    def tell(self, fact: FeedEvent, paths: Sequence[str] | None) -> Change | None:
        """What to deliver of an event that concerns the subscription by these paths; None if it does not.

        Raises UnknownEventType, CorruptEvent, and with values what `rebuild` raises.
        """
        if paths is None and (self._remembered is None or fact.raw[2] > _CHANGES_STATE):
            return None
        event = build_valid_event(fact.agent, fact.seq, fact.raw, fact.digest, self._registry)
        if self._remembered is None:
            return Change(fact.agent, fact.seq, event, tuple(paths or ()))
        before, after = self._remembered.show(event)
        if paths is None:
            return None
        values = {path: (value_at(before, path), value_at(after, path)) for path in paths}
        return Change(fact.agent, fact.seq, event, tuple(paths), values)
