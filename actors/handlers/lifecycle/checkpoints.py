"""Finding a checkpoint, and the changes that restoring it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from duramen.events import CheckpointNotFound, CorruptEvent, TooLarge
from duramen.events.logging import get_logger
from duramen.projections import AgentState
from duramen.projections.recovery import AgentLog, rebuild
from duramen.projections.state import PAUSED_STATUS, difference, overlay, split_ops

from ...commands import Resume, Resumed, plain_id
from ..turn import Turn

IN_PLACE: Final = Resumed(None, None, None, 0, [])
"""What a resume without a checkpoint restores: nothing. The agent goes on with the state it has."""

_FIELDS: Final = 7
"""Of a checkpoint in the state, if a cascade took it."""
_EVENT_BYTES: Final = 192 * 1024
"""Changes in one event of a resume; well under the limit of an event."""


def find_checkpoint(turn: Turn, message: Resume) -> Resumed:
    """The checkpoint that a resume names, or the latest, with the changes. Raises CheckpointNotFound, TooLarge."""
    if _is_paused_without_checkpoint(turn, message):
        return IN_PLACE
    name, entry, stored = _load(turn, message.checkpoint_id)
    memory = _memory_of(turn, name, entry, stored)
    current = turn.state.memory
    ops = difference(current, memory) if message.clear_current else overlay(current, memory)
    limits, codec = turn.runtime.services.limits, turn.codec
    total = sum(len(codec.pack(op)) for op in ops)
    if total > limits.restore_bytes:
        raise TooLarge(
            f"resuming {turn.runtime.path} from {name!r} would change {total} bytes, over the limit of "
            f"{limits.restore_bytes}; raise Limits.restore_bytes",
            agent=turn.runtime.path,
            expected=limits.restore_bytes,
            actual=total,
        )
    changes = split_ops(ops, lambda value: len(codec.pack(value)), _EVENT_BYTES)
    return Resumed(name, entry[0], entry[1], len(memory), changes)


def _is_paused_without_checkpoint(turn: Turn, message: Resume) -> bool:
    """Whether the resume names no checkpoint, and the one of the current pause has expired.

    Nothing has changed since the pause, so the state itself is the checkpoint.
    """
    name, log, path = turn.state.paused_at, turn.runtime.services.log, turn.runtime.path
    return message.checkpoint_id is None and name is not None and not log.exists([log.checkpoint_key(path, name)])[0]


def _load(turn: Turn, wanted: str | None) -> tuple[str, list[Any], bytes]:
    state, log, path = turn.state, turn.runtime.services.log, turn.runtime.path
    name_wanted = plain_id(wanted, "checkpoint_id")
    names = list(reversed(state.checkpoints)) if name_wanted is None else [name_wanted]
    for name in names:
        entry = state.checkpoints.get(name)
        stored = None if entry is None else log.load([log.checkpoint_key(path, name)])[0]
        if entry is not None and stored is not None:
            return name, entry, stored
    if wanted is None:
        raise CheckpointNotFound(f"{path} has no checkpoint that has not expired; pause it to take one", agent=path)
    raise CheckpointNotFound(
        f"{path} has no checkpoint {str(wanted)[:80]!r}, or it has expired; `checkpoints` lists those there are",
        agent=path,
    )


def _memory_of(turn: Turn, name: str, entry: list[Any], stored: bytes) -> dict[str, Any]:
    """The checkpoint's working memory; rebuilt from the log if the stored copy is damaged or of another log."""
    services, path = turn.runtime.services, turn.runtime.path
    agent_log = AgentLog(services.log, path, services.limits, services.registry, turn.codec)
    try:
        record = agent_log.unpack_snapshot(stored)
        if (record.seq, record.digest) == (entry[0] - 1, entry[5]):
            return cast("dict[str, Any]", record.state["agent"]["memory"])
    except (CorruptEvent, KeyError, TypeError):
        get_logger("agent").warning("checkpoint_unreadable", agent=path, checkpoint_id=name, seq=entry[0])
    return rebuild(agent_log, to_seq=entry[0] - 1).state.memory


# -- trees -------------------------------------------------------------------------------------------------------------


def find_paused(state: AgentState, path: str, others: Mapping[str, AgentState]) -> list[str]:
    """The sub-agents whose pause a resume of the tree at `path` ends, if it names no checkpoint.

    These are the sub-agents that a cascade has paused which began here or above, also one that was cut off. A
    sub-agent that was paused alone stays paused, and one that runs keeps what it has done since. Raises
    CheckpointNotFound if neither they nor the agent itself are paused.
    """
    depth = path.count("/")
    own = _cascade_of(state, state.paused_at)
    found: list[str] = []
    for member, other in others.items():
        if other.status != PAUSED_STATUS:
            continue
        cascade = _cascade_of(other, other.paused_at)
        if cascade is None:  # by an older version of duramen, which has noted the name alone
            ended = state.status == PAUSED_STATUS and own is None and other.paused_at == state.paused_at
        else:
            ended = cascade[1] >= member.count("/") - depth
        if ended:
            found.append(member)
    if not found and state.status != PAUSED_STATUS:
        raise CheckpointNotFound(
            f"nothing of the tree of {path} is paused; name the checkpoint that the tree is to go back to", agent=path
        )
    return found


def require_one_cut(state: AgentState, path: str, others: Mapping[str, AgentState], name: str | None) -> None:
    """Raise CheckpointNotFound if sub-agents have a checkpoint of this name that another pause has taken."""
    own = _cascade_of(state, name)
    for member, other in others.items():
        if name in other.checkpoints and (_cascade_of(other, name) or [None])[0] != (own or [None])[0]:
            raise CheckpointNotFound(
                f"checkpoint {name!r} of {member} is of another pause than that of {path}; resume the tree without a "
                "checkpoint to end its pauses, or pause it again",
                agent=member,
            )


def _cascade_of(state: AgentState, name: str | None) -> list[Any] | None:
    """The cascade that took a checkpoint: its id, and how many levels above the agent it began."""
    entry = state.checkpoints.get(name or "")
    return None if entry is None or len(entry) < _FIELDS else entry[_FIELDS - 1]
