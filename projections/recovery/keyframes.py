"""States kept along a log, so that any seq is a short replay away from one of them.

A keyframe is a snapshot that stays. It is kept when at least `EVERY` events have come since the one before, and these
events weigh at least as much as it does: all keyframes of a log together take no more room than the log itself, and to
get to any seq takes one keyframe and about as many bytes of events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import define

from duramen.events import CorruptEvent, TooLarge, ValueRefused

from .agent_log import AgentLog
from .rebuild import rebuild
from .state_fold import FoldOf, Rebuilt, StateFold

EVERY: Final = 1_000
"""The least number of events between two keyframes."""


@define(eq=False, repr=False)
class KeyframeSchedule:
    """When the next keyframe is due, for code that writes a log or reads all of it."""

    keyframe_seq: int = 0
    """The seq of the latest keyframe."""
    weight: int = 0
    """Bytes of the events since then."""

    def is_due(self, seq: int, size: int) -> bool:
        """Whether a snapshot of `size` bytes at `seq` is worth keeping."""
        return seq - self.keyframe_seq >= EVERY and self.weight >= size

    def restart(self, seq: int) -> None:
        """Count from a keyframe that was kept at `seq`."""
        self.keyframe_seq, self.weight = seq, 0


def _nearest(agent_log: AgentLog, seq: int) -> tuple[int, bytes] | None:
    """Seq and bytes of the last keyframe, or the automatic snapshot, that is no later than `seq`.

    Not checked: `rebuild` does.
    """
    keyframe = agent_log.log.archive.keyframe_before(agent_log.agent, seq)
    if keyframe is not None and seq - keyframe[0] < 2 * EVERY:
        return keyframe
    snapshot = agent_log.snapshot()
    try:
        snapshot_seq = None if snapshot is None else agent_log.unpack_snapshot(snapshot).seq
    except CorruptEvent:
        snapshot_seq = None
    if snapshot is None or snapshot_seq is None or snapshot_seq > seq:
        return keyframe
    return keyframe if keyframe is not None and keyframe[0] >= snapshot_seq else (snapshot_seq, snapshot)


def stored_before(agent_log: AgentLog, *, seq: int, base: int, fold_of: FoldOf | None = None) -> Rebuilt:
    """The last stored state that is no later than `seq`: a keyframe, the snapshot, or the base of a trimmed log."""
    nearest = _nearest(agent_log, seq)
    if nearest is None or nearest[0] <= base:
        return rebuild(agent_log, fold_of=fold_of, to_seq=base, use_snapshot=False)
    return rebuild(agent_log, fold_of=fold_of, to_seq=nearest[0], snapshot=nearest[1])


def state_before(agent_log: AgentLog, *, seq: int, fold_of: FoldOf | None = None) -> Rebuilt:
    """The state at `seq`, folded from the nearest stored state. Raises what `rebuild` raises."""
    keyframe = agent_log.log.archive.keyframe_before(agent_log.agent, seq)
    return rebuild(agent_log, fold_of=fold_of, to_seq=seq, snapshot=None if keyframe is None else keyframe[1])


def snapshot_of(agent_log: AgentLog, fold: StateFold) -> bytes | None:
    """A snapshot of a state, with the fields of an automatic one; None where it would be too large."""
    try:
        return agent_log.pack_state(fold.state, {"custom": fold.custom, "custom_version": fold.custom_version or ""})
    except (TooLarge, ValueRefused):
        return None


def keep_keyframes(agent_log: AgentLog, fold_of: FoldOf | None) -> Iterator[int]:
    """Keep the keyframes that an agent's log lacks; yields the seq of each. Reads all events after the last one.

    For logs that were written without: imported ones, and those of agents whose process kept none.
    """
    archive, agent, head = agent_log.log.archive, agent_log.agent, agent_log.head()
    start = stored_before(agent_log, seq=head.seq, base=head.base, fold_of=fold_of)
    keyframe = archive.keyframe_before(agent, start.state.seq)
    known = 0 if keyframe is None else keyframe[0]
    if keyframe is None or known < head.base:
        start = rebuild(agent_log, fold_of=fold_of, to_seq=head.base, use_snapshot=False)
    elif known != start.state.seq:
        start = state_before(agent_log, seq=known, fold_of=fold_of)
    fold, schedule = StateFold(agent, agent_log.limits, fold_of, start), KeyframeSchedule(start.state.seq)
    for seq, raw, digest in agent_log.events_after(start.state, head.seq):
        schedule.weight += len(agent_log.codec.pack(raw))
        fold.apply(raw, digest)
        if seq - schedule.keyframe_seq < EVERY:
            continue
        stored = snapshot_of(agent_log, fold)
        if stored is None or not schedule.is_due(seq, len(stored)):
            schedule.keyframe_seq = seq  # tried again after as many events once more
            continue
        archive.keep_keyframe(agent, seq, stored)
        schedule.restart(seq)
        yield seq
