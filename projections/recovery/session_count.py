"""What a session did, counted over its events: as they pass, and where the first of them were trimmed."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from duramen.events import CorruptEvent, EventRegistry, Limits, Trimmed
from duramen.events.codec import NO_DIGEST, Codec, RawEvent, build_valid_event
from duramen.events.log import EventLog, digest_at, raw_events
from duramen.events.logging import get_logger
from duramen.events.model import ACTIVITY_RECORDED, OWN_TYPES, SPAWNED

from .session_totals import SessionActivity, SessionTotals
from .trim_base import load_base

__all__ = ["SessionCount", "count_session"]

_TRIES: Final = 5
_VIEW: Final = SessionActivity()


class SessionCount:
    """Counts the session that the events shown to it belong to, from `totals` on; begins anew with each `spawned`."""

    def __init__(self, agent: str, registry: EventRegistry, totals: SessionTotals | None = None) -> None:
        self._agent = agent
        self._registry = registry
        self._totals = totals or _VIEW.initial()
        self._events = self._totals.events
        self.anew = False
        """Whether the session began while it counted."""
        self.own_events = False
        """Whether events of the user's own types were among those of the session."""

    @property
    def totals(self) -> SessionTotals:
        return evolve(self._totals, events=self._events)

    def see(self, seq: int, raw: RawEvent, digest: bytes) -> None:
        """Count the next event. Raises CorruptEvent."""
        kind = raw[0]
        if kind == SPAWNED:
            self._totals, self._events = _VIEW.initial(), 0
            self.anew, self.own_events = True, False
        self._events += 1
        if kind == ACTIVITY_RECORDED:  # all else is only counted
            self._totals = _VIEW.apply(self._totals, build_valid_event(self._agent, seq, raw, digest, self._registry))
        elif kind not in OWN_TYPES:
            self.own_events = True


def count_session(
    log: EventLog, agent: str, codec: Codec, limits: Limits, registry: EventRegistry, *, from_seq: int, to_seq: int
) -> SessionTotals:
    """What the session has done that began at `from_seq`, up to `to_seq`.

    What its first events have done is known from the base where they were trimmed. If that is damaged, only what is
    left counts: a session must be able to end. Raises AgentNotFound, CorruptEvent, Trimmed.
    """
    after, totals = from_seq - 1, None
    for _ in range(_TRIES):
        digest = None
        try:
            digest = digest_at(log, agent, after)
        except Trimmed as trimmed:  # only now: most sessions are whole
            after, totals = _trimmed_part(log, agent, codec, limits, from_seq=from_seq, trimmed=trimmed)
            continue
        count = SessionCount(agent, registry, totals)
        try:
            for seq, raw, own in raw_events(
                log, agent, codec, after=after, digest=digest or NO_DIGEST, to_seq=max(to_seq, after)
            ):
                count.see(seq, raw, own)
        except Trimmed as trimmed:
            after, totals = _trimmed_part(log, agent, codec, limits, from_seq=from_seq, trimmed=trimmed)
        else:
            return count.totals
    raise Trimmed(f"{agent} is trimmed faster than it can be read; try again", agent=agent)


def _trimmed_part(
    log: EventLog, agent: str, codec: Codec, limits: Limits, *, from_seq: int, trimmed: Trimmed
) -> tuple[int, SessionTotals | None]:
    """The last seq that is gone, and what the session had done up to it."""
    try:
        base = load_base(log, agent, codec, limits)
    except (CorruptEvent, Trimmed) as error:
        get_logger("retention").warning("session_counted_in_part", agent=agent, reason=str(error))
        base = None
    if base is None:
        return int(trimmed.actual) - 1, None
    return base.state.seq, base.totals if base.state.session_first_seq == from_seq else None
