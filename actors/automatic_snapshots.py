"""Snapshots that agents take along with an append every so many events."""

from __future__ import annotations

from duramen.events import TooLarge, ValueRefused
from duramen.events.log import Put
from duramen.events.logs import get_logger

from .turn import Turn

__all__ = ["add_snapshot"]


def add_snapshot(turn: Turn, last: int) -> int:
    """Let a turn write a snapshot if it is time for one; the seq of the latest one, which was at `last` so far."""
    services, path, seq = turn.runtime.services, turn.agent, turn.state.seq
    if seq - last < services.settings.snapshot_every or not turn.items:
        return last
    try:
        snapshot = turn.snapshot()
    except (TooLarge, ValueRefused) as error:
        get_logger("agent").warning("no_snapshot", agent=path, seq=seq, reason=str(error))
        return seq  # tried again when as many events have come once more
    if turn.size + len(snapshot) > services.limits.snapshot_bytes:
        return last  # with what else the turn writes it would be too much for one command: the next turn takes it along
    turn.puts += (Put(services.log.snapshot_key(path), snapshot),)
    turn.size += len(snapshot)
    return seq
