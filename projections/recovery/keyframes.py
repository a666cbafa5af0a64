"""States kept along a log, so that any seq is a short replay away from one of them.

A keyframe is a snapshot that stays. It is kept when at least `EVERY` events have come since the one before, and these
events weigh at least as much as it does: all keyframes of a log together take no more room than the log itself, and to
get to any seq takes one keyframe and about as many bytes of events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import define

from duramen.events import CorruptEvent, Limits, TooLarge, ValueRefused
from duramen.events.codec import PLAIN, Codec, DigestChain, SnapshotRecord, pack_snapshot, unpack_snapshot
from duramen.events.log import EventLog

from ..state import SCHEMA
from .agent_log import AgentLog
from .rebuild import FoldOf, Rebuilt, rebuild
from .state_fold import StateFold

__all__ = ["EVERY", "KeyframeSchedule", "keep_keyframes", "snapshot_of", "state_before", "stored_before"]

EVERY: Final = 1_000
"""The least number of events between two keyframes."""


@define
class KeyframeSchedule:
    """When a keyframe is due. For who writes a log, or reads all of it."""

    keyframe_seq: int = 0
    """Of the latest keyframe."""
    weight: int = 0
    """Bytes of the events since."""

    def is_due(self, seq: int, size: int) -> bool:
        """Whether a snapshot of `size` bytes at `seq` is worth keeping."""
        return seq - self.keyframe_seq >= EVERY and self.weight >= size

    def kept(self, seq: int) -> None:
        """One was kept there."""
        self.keyframe_seq, self.weight = seq, 0


def _nearest(log: EventLog, agent: str, codec: Codec, limits: Limits, seq: int) -> tuple[int, bytes] | None:
    """Seq and bytes of the last keyframe, or the automatic snapshot, that is no later than `seq`.

    Not checked: `rebuild` does.
    """
    found = log.archive.keyframe_before(agent, seq)
    if found is not None and seq - found[0] < 2 * EVERY:
        return found
    latest = log.load([log.snapshot_key(agent)])[0]
    try:
        own = None if latest is None else unpack_snapshot(latest, agent, codec, limits, log.chain).seq
    except CorruptEvent:
        own = None
    if latest is None or own is None or own > seq or (found is not None and found[0] >= own):
        return found
    return own, latest


def stored_before(
    log: EventLog, agent: str, codec: Codec, limits: Limits, *, seq: int, base: int, fold_of: FoldOf | None = None
) -> Rebuilt:
    """The last state that is kept no later than `seq`: a keyframe, the snapshot, or the base of a trimmed log."""
    kept = _nearest(log, agent, codec, limits, seq)
    if kept is None or kept[0] <= base:
        return rebuild(log, agent, codec, limits, fold_of=fold_of, to_seq=base, use_snapshot=False)
    return rebuild(log, agent, codec, limits, fold_of=fold_of, to_seq=kept[0], snapshot=kept[1])


def state_before(
    log: EventLog, agent: str, codec: Codec, limits: Limits, *, seq: int, fold_of: FoldOf | None = None
) -> Rebuilt:
    """The state at `seq`, folded from the nearest that is kept. Raises what `rebuild` raises."""
    kept = log.archive.keyframe_before(agent, seq)
    stored = None if kept is None else kept[1]
    return rebuild(log, agent, codec, limits, fold_of=fold_of, to_seq=seq, snapshot=stored)


def snapshot_of(
    agent: str, folding: StateFold, codec: Codec, limits: Limits, chain: DigestChain = PLAIN
) -> bytes | None:
    """A snapshot of a state, as an agent's own turn makes them; None where it would be too large."""
    state = folding.state
    fields = {"agent": state.dump(), "custom": folding.custom, "custom_version": folding.custom_version or ""}
    record = SnapshotRecord(agent, state.seq, state.digest, state.updated_at, SCHEMA, fields)
    try:
        return pack_snapshot(record, codec, limits, chain)
    except (TooLarge, ValueRefused):
        return None


def keep_keyframes(subject: AgentLog, fold_of: FoldOf | None) -> Iterator[int]:
    """Keep what an agent's log has no keyframes for yet; the seq of each that is kept. Reads all behind the last one.

    For logs that were written without: imported ones, and those of agents whose process kept none.
    """
    log, agent, codec, limits, head = subject.log, subject.agent, subject.codec, subject.limits, subject.head()
    start = stored_before(log, agent, codec, limits, seq=head.seq, base=head.base, fold_of=fold_of)
    kept = log.archive.keyframe_before(agent, start.state.seq)
    known = 0 if kept is None else kept[0]
    if kept is None or known < head.base:
        start = rebuild(log, agent, codec, limits, fold_of=fold_of, to_seq=head.base, use_snapshot=False)
    elif known != start.state.seq:
        start = state_before(log, agent, codec, limits, seq=known, fold_of=fold_of)
    folding, rhythm = StateFold(agent, limits, fold_of, start), KeyframeSchedule(start.state.seq)
    for seq, raw, digest in subject.after(start.state, head.seq):
        rhythm.weight += len(codec.pack(raw))
        folding.take(raw, digest)
        if seq - rhythm.keyframe_seq < EVERY:
            continue
        stored = snapshot_of(agent, folding, codec, limits, log.chain)
        if stored is None or not rhythm.is_due(seq, len(stored)):
            rhythm.keyframe_seq = seq  # looked at again when as many events have come once more
            continue
        log.archive.keep_keyframe(agent, seq, stored)
        rhythm.kept(seq)
        yield seq
