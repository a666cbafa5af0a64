"""One agent's log, and all it takes to read it."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from duramen.events import EventRegistry, Limits
from duramen.events.codec import Codec, RawEvent
from duramen.events.log import EventLog, Head, raw_events

from ..state import AgentState
from .points import head_of
from .rebuild import Rebuilt, rebuild

__all__ = ["AgentLog"]


@frozen
class AgentLog:
    """For one thread: it has a codec."""

    log: EventLog
    agent: str
    codec: Codec
    limits: Limits
    registry: EventRegistry

    def head(self) -> Head:
        """Where the log stands. Raises AgentNotFound."""
        return head_of(self.log, self.agent)

    def base(self) -> Rebuilt:
        """The state that what is left of the log begins from, the caller's own. Raises AgentNotFound, CorruptEvent."""
        return rebuild(self.log, self.agent, self.codec, self.limits, to_seq=self.head().base, use_snapshot=False)

    def after(self, state: AgentState, to_seq: int) -> Iterator[tuple[int, RawEvent, bytes]]:
        """Seq, raw fields and digest of each event after a state, up to `to_seq`. Raises as `raw_events`."""
        return raw_events(self.log, self.agent, self.codec, after=state.seq, digest=state.digest, to_seq=to_seq)
