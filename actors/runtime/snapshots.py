"""Snapshots that agents take along with an append every so many events, and those of them that stay."""

from __future__ import annotations

from duramen.events import TooLarge, ValueRefused
from duramen.events.log import Put
from duramen.events.logging import get_logger
from duramen.projections.recovery import EVERY, KeyframeSchedule

from ..handlers import Turn

__all__ = ["Snapshots"]


class Snapshots(KeyframeSchedule):
    """When one agent's state is written, as its latest snapshot and, in the rhythm of keyframes, to stay.

    A `Runtime` is one: an object more for each agent would have to be looked at by the collector.
    """

    __slots__ = ("_last",)

    def __init__(self, last: int) -> None:
        # Where the latest keyframe is would have to be asked. Taken for one in each thousand, an agent that comes back
        # often does not begin to count anew each time.
        super().__init__(last - last % EVERY)
        self._last = last  # seq of the latest one, written or tried

    def add_snapshot(self, turn: Turn) -> None:
        """Let a turn write a snapshot if it is time for one."""
        services, path, seq = turn.runtime.services, turn.agent, turn.state.seq
        self.weight += turn.size
        if seq - self._last < services.settings.snapshot_every or not turn.items:
            return
        try:
            snapshot = turn.snapshot()
        except (TooLarge, ValueRefused) as error:
            get_logger("agent").warning("no_snapshot", agent=path, seq=seq, reason=str(error))
            self._last = seq  # tried again when as many events have come once more
            return
        if turn.size + len(snapshot) > services.limits.snapshot_bytes:
            return  # with what else the turn writes it would be too much for one command: the next one takes it along
        self._last = seq
        turn.puts += (Put(services.log.snapshot_key(path), snapshot),)
        turn.size += len(snapshot)
        if self.is_due(seq, len(snapshot)):
            self.restart(seq)
            turn.after += (lambda: services.log.archive.keep_keyframe(path, seq, snapshot),)
        if services.trimmer.wants(turn.state):
            turn.after += (lambda: services.trimmer.request(path),)
