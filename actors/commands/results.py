"""The results of messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from attrs import field, frozen

from duramen.events import DuramenError, Granularity


def nothing() -> dict[str, Any]:
    """Make an empty mapping, as a field's default."""
    return {}


class Outcome(StrEnum):
    """How a session ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    PARTIAL = "partial"


@frozen(kw_only=True)
class LifecycleResult:
    """Outcome of a lifecycle message.

    An expected failure (no such checkpoint, agent not running) is `success=False` with a message; misuse and lost
    servers raise instead. `event_type` is `spawn`, `pause`, `resume` or `terminate`. `data` holds, by type: spawn
    `session_id, initial_items`; pause `checkpoint_id, items_saved, timestamp`; resume `checkpoint_id,
    items_restored, checkpoint_timestamp`; terminate `episode_id, state_items_consolidated, items_cleared, outcome`;
    each also `seq`, and `hook_errors` where a hook failed. `duration_ms` is from the message's arrival to its reply.
    """

    success: bool
    event_type: str
    message: str
    data: Mapping[str, Any] = field(factory=nothing)
    duration_ms: float = 0.0
    error: DuramenError | None = field(default=None, repr=False, eq=False)

    def raise_for_failure(self) -> LifecycleResult:
        """Return this result if it is a success; else raise its typed error."""
        if self.error is not None:
            raise self.error
        return self


@frozen(kw_only=True)
class LifecycleEvent:
    """A committed transition of an agent, as hooks get it.

    `data` is that of the `LifecycleResult`, without `hook_errors`. `metadata` is the agent's own, with `checkpoint_id`
    of a pause or a resume and `episode_id` of an end.
    """

    event_type: str
    agent: str
    session_id: str | None
    agent_type: str | None
    seq: int
    time: datetime
    data: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def project_id(self) -> str:
        """The first segment of the agent path."""
        return self.agent.partition("/")[0]

    @property
    def agent_instance_id(self) -> str:
        """The agent path after the project."""
        return self.agent.partition("/")[2]

    @property
    def agent_type_id(self) -> str | None:
        """The agent type, by the name that agent platforms use."""
        return self.agent_type

    @property
    def timestamp(self) -> datetime:
        """The time of the transition, by the name that agent platforms use."""
        return self.time


@frozen(kw_only=True)
class Checkpoint:
    """A named snapshot to resume from. `keys_count` is the number of items; `expires_at` None: never."""

    checkpoint_id: str
    timestamp: datetime
    keys_count: int
    seq: int
    expires_at: datetime | None
    metadata: Mapping[str, Any]


@frozen(kw_only=True)
class AgentStatus:
    """The state of an agent's session. `status` is `running`, `paused`, `failed` or `terminated`."""

    agent: str
    status: str
    agent_type: str | None
    session_id: str | None
    seq: int
    digest: bytes
    updated_at: datetime
    items: int
    granularity: Granularity
    metadata: Mapping[str, Any]
