"""The kinds of messages of an agent: what handles them, and which of them wait while it is paused or busy with work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from duramen.events import EventRegistry
from duramen.projections import AgentState
from duramen.projections.state import has_expired

from ...agent import Agent
from ...commands import (
    Accept,
    AdoptChild,
    Answer,
    CancelAsked,
    CancelWork,
    ChildFailed,
    GetResult,
    Hold,
    Remind,
    RemoveReminder,
    RetryWork,
    SetGranularity,
    SetRetention,
)
from ...handlers import BLOCKING_HANDLERS, LIFECYCLE, MEMORY_HANDLERS, READS
from ...hosts import Forwarded, Repeated
from ...work import INTERNAL

type_of: Final[Callable[[object], type[Any]]] = type
"""The built-in with a narrower type, for type checkers. Unlike `__class__` and isinstance it runs no code of users."""

WORK: Final = frozenset((*INTERNAL, CancelAsked, CancelWork, GetResult))
"""What the agent's work handles, beside durable messages."""
_READS: Final = frozenset((*READS, *WORK, Hold))
_BESIDE_EXCLUSIVE: Final = frozenset(
    (
        *_READS,
        *LIFECYCLE,
        Accept,
        Answer,
        RetryWork,
        AdoptChild,
        Remind,
        RemoveReminder,
        SetGranularity,
        SetRetention,
    )
)
"""What an agent handles while it has exclusive work, beside durable messages, which it accepts."""


def is_user_message(kind: type[Any]) -> bool:
    """Whether the agent's own `on_receive` handles messages of this type."""
    return kind not in MEMORY_HANDLERS and kind not in BLOCKING_HANDLERS and kind not in WORK


def needs_class(kind: type[Any]) -> bool:
    """Whether messages of this type need the class of the agent's type."""
    return kind in INTERNAL or is_user_message(kind)


def is_answer(message: object) -> bool:
    """Whether a message, or the one that another host has sent in it, is an answer to a durable handler."""
    return _kind_of(message) is Answer


def may_block(message: Any, state: AgentState) -> bool:
    """Whether a message needs its first result from the log, other agents, or that this one is erased before."""
    return message.command_id is not None or getattr(message, "cascade", False) or has_expired(state)


def waits_for_resume(kind: type[Any], state: AgentState, agent: Agent) -> bool:
    """Whether a message of a paused agent is stashed, as the pause asked; never a read or a lifecycle message.

    A sub-agent's failure is always stashed: nobody would send it again.
    """
    if kind in _READS or kind in LIFECYCLE or (state.when_paused != "stash" and kind is not ChildFailed):
        return False
    return not (agent.on_paused == "handle" and is_user_message(kind))


def waits_for_work(message: object, registry: EventRegistry) -> bool:
    """Whether a message waits for the end of exclusive work: what would change memory, or run the agent's code."""
    kind = _kind_of(message)
    return not (kind in _BESIDE_EXCLUSIVE or registry.is_durable(kind))


def _kind_of(message: Any) -> type[Any]:
    handled: object = message.message if type_of(message) in (Forwarded, Repeated) else message
    return type_of(handled)
