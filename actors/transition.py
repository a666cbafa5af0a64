"""A lifecycle transition on its way: what its caller gets, and what its hooks are told, once it is committed."""

from __future__ import annotations

from time import time
from typing import Any, cast

from attrs import define

from duramen.events.codec import instant
from duramen.projections.tree import copy_tree

from .results import LifecycleEvent, LifecycleResult

__all__ = ["Transition"]


@define(eq=False)
class Transition:
    """Kept as one object until it is told: most are told once, to the caller, since there are no hooks."""

    event_type: str
    message: str
    data: dict[str, Any]
    agent: str
    seq: int
    time: int
    """µs since the epoch."""
    session_id: str | None
    agent_type: str | None
    metadata: dict[str, Any]
    """The agent's own: not to be changed, nor handed out."""

    def result(self, sent_at: float) -> LifecycleResult:
        """For the caller, whose message was sent at `sent_at` (seconds since the epoch)."""
        return LifecycleResult(
            success=True,
            event_type=self.event_type,
            message=self.message,
            data=self.data,
            duration_ms=(time() - sent_at) * 1000,
        )

    def event(self) -> LifecycleEvent:
        """For hooks."""
        return LifecycleEvent(
            event_type=self.event_type,
            agent=self.agent,
            session_id=self.session_id,
            agent_type=self.agent_type,
            seq=self.seq,
            time=instant(self.time),
            data=self.data,
            metadata=cast("dict[str, Any]", copy_tree(self.metadata)),
        )
