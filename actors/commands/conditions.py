"""What a message is refused for, whichever it is: the agent's status and seq, ids and metadata. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from uuid import UUID

from duramen.events import (
    AgentFailed,
    AgentNotFound,
    AgentNotRunning,
    AgentPaused,
    InvalidMessage,
    Limits,
    NewEvent,
    VersionConflict,
)
from duramen.events.model import check_value, describe_type, printable
from duramen.projections import AgentState
from duramen.projections.state import ABSENT, FAILED_STATUS, PAUSED_STATUS, RUNNING, TERMINATED_STATUS

_TEXT: Final = 200
_OWN_METADATA: Final = frozenset(("asked_by", "reply", "reply_type"))
"""Of events: who has sent a mutation on, and the reply of a command."""
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def require_running(state: AgentState, agent: str) -> None:
    """Raise AgentPaused, AgentFailed, AgentNotFound or AgentNotRunning unless the agent takes mutations."""
    if state.status == RUNNING:
        return
    if state.status == PAUSED_STATUS:
        raise AgentPaused(f"{agent} is paused; resume it first", agent=agent, seq=state.seq)
    require_not_failed(state, agent)
    require_alive(state, agent)


def require_known(state: AgentState, agent: str) -> None:
    """Raise AgentNotFound if there never was such an agent."""
    if state.status == ABSENT:
        raise AgentNotFound(f"there is no agent {agent}; spawn it first", agent=agent)


def require_not_failed(state: AgentState, agent: str) -> None:
    """Raise AgentFailed if supervision has stopped the agent."""
    if state.status == FAILED_STATUS:
        raise AgentFailed(
            f"{agent} was stopped after a failure; see its log, then restart it", agent=agent, seq=state.seq
        )


def require_alive(state: AgentState, agent: str) -> None:
    """Raise AgentNotFound or AgentNotRunning unless the agent has a session that has not ended."""
    require_known(state, agent)
    if state.status == TERMINATED_STATUS:
        raise AgentNotRunning(f"{agent} is terminated; spawn it again for a new session", agent=agent, seq=state.seq)


def require_seq(state: AgentState, expected: object, agent: str) -> None:
    """Raise VersionConflict unless the agent is at the seq that a mutation is for, InvalidMessage for no seq."""
    if type(expected) is not int or expected < 0:
        raise InvalidMessage("expected_seq is a whole number, from 0 on", agent=agent)
    if expected != state.seq:
        require_known(state, agent)
        raise VersionConflict(
            f"{agent} is at seq {state.seq}, not at {expected}; read it again and decide anew",
            agent=agent,
            seq=state.seq,
            expected=expected,
            actual=state.seq,
        )


def parse_metadata(metadata: object, limits: Limits) -> dict[str, Any] | None:
    """The metadata that a caller has given; None: none. Raises InvalidMessage, ValueRefused, TooLarge."""
    if metadata is None:
        return None
    own, _ = plain_dict(metadata, "metadata", limits)
    taken = _OWN_METADATA.intersection(own)
    if taken:
        raise InvalidMessage(f"the key {min(taken)!r} of metadata is used by duramen itself; choose another")
    return own


def with_metadata(events: Sequence[NewEvent], metadata: object, limits: Limits) -> Sequence[NewEvent]:
    """The events with metadata of a caller. Raises InvalidMessage for keys that are ours, ValueRefused, TooLarge."""
    own = parse_metadata(metadata, limits) or {}
    return [event._replace(metadata={**(event.metadata or {}), **own}) for event in events]


def plain_id(value: object, what: str) -> str | None:
    """An id of an agent platform: text or UUID."""
    if value is None:
        return None
    if not isinstance(value, (str, UUID)):
        found = f"the class {printable(value.__qualname__)}" if isinstance(value, type) else f"a {describe_type(value)}"
        raise InvalidMessage(f"{what} is a name, as text or UUID, and not {found}", actual=describe_type(value))
    text = str(value)
    if not text or len(text) > _TEXT or _UNPRINTABLE.search(text):
        raise InvalidMessage(f"{what} must be a UUID or 1 to {_TEXT} printable characters", actual=len(text))
    return text


def plain_dict(value: object, what: str, limits: Limits) -> tuple[dict[str, Any], int]:
    """A copy of a mapping, and how many values it has. Raises InvalidMessage, ValueRefused, TooLarge."""
    if not isinstance(value, Mapping):
        raise InvalidMessage(f"{what} must be a mapping with text keys", actual=type(value).__name__)
    plain = dict(cast("Mapping[str, Any]", value))
    return plain, check_value(plain, limits, what)
