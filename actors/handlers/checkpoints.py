"""Finding checkpoints and what they would restore."""

from __future__ import annotations

from typing import Any, Final, cast

from duramen.events import CheckpointNotFound, CorruptEvent, TooLarge
from duramen.events.codec import to_datetime
from duramen.events.logging import get_logger
from duramen.projections.recovery import AgentLog, rebuild
from duramen.projections.state import difference, overlay, split_ops

from ..commands import Checkpoint, Resume, Resumed, plain_id
from .turn import Turn

__all__ = ["find_checkpoint", "list_checkpoints"]

_GROUP: Final = 192 * 1024
"""Bytes of changes in one event of a resume, well under the limit of an event."""


def list_checkpoints(turn: Turn) -> list[Checkpoint]:
    """Those that are still there, newest first. The log knows all that were taken; the server, which have expired."""
    state, services = turn.state, turn.runtime.services
    ids = list(reversed(state.checkpoints))
    there = services.log.exists([services.log.checkpoint_key(turn.runtime.path, name) for name in ids])
    return [_checkpoint(turn, name, state.checkpoints[name]) for name, exists in zip(ids, there, strict=True) if exists]


def _checkpoint(turn: Turn, name: str, entry: list[Any]) -> Checkpoint:
    seq, time, keys, expires, metadata, _ = entry
    return Checkpoint(
        checkpoint_id=name,
        timestamp=to_datetime(time),
        keys_count=keys,
        seq=seq,
        expires_at=None if expires is None else to_datetime(expires),
        metadata=turn.codec.copy(metadata),
    )


def find_checkpoint(turn: Turn, message: Resume) -> Resumed:
    """The checkpoint a resume names, or the latest, and what restoring it changes. Raises CheckpointNotFound."""
    if _expired_meanwhile(turn, message):
        return Resumed(None, None, None, 0, [])
    name, entry, stored = _stored(turn, message.checkpoint_id)
    memory = _memory(turn, name, entry, stored)
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
    changes = split_ops(ops, lambda value: len(codec.pack(value)), _GROUP)
    return Resumed(name, entry[0], entry[1], len(memory), changes)


def _expired_meanwhile(turn: Turn, message: Resume) -> bool:
    """Whether the agent is to go on from where it is paused, and the checkpoint of that moment is no more.

    Nothing has changed since, so the state itself is the checkpoint.
    """
    name, log, path = turn.state.paused_at, turn.runtime.services.log, turn.runtime.path
    return message.checkpoint_id is None and name is not None and not log.exists([log.checkpoint_key(path, name)])[0]


def _stored(turn: Turn, wanted: str | None) -> tuple[str, list[Any], bytes]:
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


def _memory(turn: Turn, name: str, entry: list[Any], stored: bytes) -> dict[str, Any]:
    """The checkpoint's working memory; from the log itself where the stored copy cannot be believed."""
    services, path = turn.runtime.services, turn.runtime.path
    agent_log = AgentLog(services.log, path, services.limits, services.registry, turn.codec)
    try:
        record = agent_log.unpack_snapshot(stored)
        if (record.seq, record.digest) == (entry[0] - 1, entry[5]):
            return cast("dict[str, Any]", record.state["agent"]["memory"])
    except (CorruptEvent, KeyError, TypeError):
        pass_to_log = get_logger("agent")
        pass_to_log.warning("checkpoint_unreadable", agent=path, checkpoint_id=name, seq=entry[0])
    return rebuild(agent_log, to_seq=entry[0] - 1).state.memory
