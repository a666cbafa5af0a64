"""Automatic snapshots, written along with an append every so many events, and keyframes among them."""

from __future__ import annotations

from duramen.events import TooLarge, ValueRefused
from duramen.events.log import Put
from duramen.events.logging import get_logger
from duramen.projections.recovery import EVERY, KeyframeSchedule

from ...handlers import Turn


class Snapshots(KeyframeSchedule):
    """Writes one agent's snapshots and keyframes when they are due.

    `Runtime` inherits it: a separate object for each agent would cost memory and work of the collector.
    """

    __slots__ = ("_last",)

    def __init__(self, last: int) -> None:
        # The latest keyframe is assumed at a multiple of EVERY instead of asking the server: so an agent that is
        # activated often does not start counting from zero each time.
        super().__init__(last - last % EVERY)
        self._last = last  # seq of the latest snapshot, written or tried

    def add_snapshot(self, turn: Turn) -> None:
        """Add a snapshot to a turn's append if one is due."""
        services, path, seq = turn.runtime.services, turn.agent, turn.state.seq
        self.weight += turn.size
        if seq - self._last < services.settings.snapshot_every or not turn.items:
            return
        try:
            snapshot = turn.snapshot()
        except (TooLarge, ValueRefused) as error:
            get_logger("agent").warning("no_snapshot", agent=path, seq=seq, reason=str(error))
            self._last = seq  # the next try is as many events away
            return
        if turn.size + len(snapshot) > services.limits.snapshot_bytes:
            return  # too much for one command; the next turn tries again
        self._last = seq
        turn.puts += (Put(services.log.snapshot_key(path), snapshot),)
        turn.size += len(snapshot)
        if self.is_due(seq, len(snapshot)):
            self.restart(seq)
            turn.effects += (lambda: services.log.archive.keep_keyframe(path, seq, snapshot),)
        if services.trimmer.is_trimmed(turn.state):
            turn.effects += (lambda: services.trimmer.request(path),)
