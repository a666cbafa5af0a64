"""The errors that callers get when an append was not committed, or nothing was begun."""

from __future__ import annotations

from typing import Any

from duramen.events import (
    AgentNotFound,
    AgentNotRunning,
    CorruptEvent,
    DataLoss,
    DuramenError,
    Erased,
    Fenced,
    ParentRequired,
    Unavailable,
    VersionConflict,
)
from duramen.events.log import Answer, Status, diverged_from_known


def append_error(agent: str, expected: int, previous: bytes, answer: Answer) -> DuramenError:
    """The error for an answer of the log that is neither a commit nor a fence."""
    facts: dict[str, Any] = {"agent": agent, "seq": expected, "expected": expected, "actual": answer.head}
    if answer.status is Status.BEHIND:
        return DataLoss(
            f"the server lost events of {agent} that it had acknowledged; check its persistence and failovers", **facts
        )
    if answer.status is Status.DIVERGED:
        return diverged_from_known(agent, expected, previous, None)
    if answer.status is Status.ERASED:
        return Erased(f"{agent} was erased; nothing was written. Spawn it anew to go on under this path", agent=agent)
    if answer.status is Status.GONE:
        return AgentNotFound(f"the log of {agent} is gone; nothing was written", agent=agent)
    if answer.status is Status.CONFLICT:
        return VersionConflict(f"the log of {agent} has moved on; ask again", **facts)
    return CorruptEvent(f"head and list of {agent} do not fit together; restore them from a backup", **facts)


def fenced(agent: str, expected: int, fence: str, answer: Answer) -> Fenced:
    """The error for a command that was sent before another process claimed the agent."""
    return Fenced(
        f"another process took {agent} over; nothing was written: ask again to take it back",
        agent=agent,
        seq=expected,
        expected=fence,
        actual=answer.fence,
    )


def unmet(agent: str, expected: int, required: tuple[str, bool]) -> DuramenError:
    """The error for an append that requires another agent to live, or not to live, which is not so."""
    other, lives = required
    if lives:
        return AgentNotRunning(f"{other} has ended, and {agent} was not spawned; spawn its parent again", agent=other)
    if agent.startswith(f"{other}/"):
        return ParentRequired(
            f"{other} lives, and would not know of {agent}: use spawn_child, or name the parent",
            agent=agent,
            actual=other,
        )
    return VersionConflict(
        f"{other} was spawned meanwhile, and {agent} has not ended; ask again", agent=agent, seq=expected
    )


def not_begun(agent: str) -> Unavailable:
    """The error for a message that was held back in vain until a beat of this host goes through."""
    return Unavailable(
        f"nothing is begun for {agent}: this host has not reached the server for so long that others may take its "
        "agents over; ask again",
        agent=agent,
    )


def for_agent(error: DuramenError, agent: str, seq: int) -> DuramenError:
    """The same error for one agent: each caller gets an exception of its own, unless it is of a class of the user's."""
    try:
        return type(error)(str(error), agent=agent, seq=seq, expected=error.expected, actual=error.actual)
    except Exception:  # it is made from other arguments
        return error
