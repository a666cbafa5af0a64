"""When a host whose beat no longer changes may be declared dead. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import frozen

from duramen.events.log import HostRecord

BEAT_SECONDS: Final = 2.5
"""Seconds between two beats of a host."""
LEASE_SECONDS: Final = 10.0
"""Seconds without a new beat after which a host is declared dead."""
SUSPENDED_SECONDS: Final = 6.0
"""Seconds without a beat of its own after which a host begins nothing: others may declare it dead soon."""
BEAT_WAIT_SECONDS: Final = 5.0
"""Seconds that what is to begin waits for a beat of this host to go through, while others may take it for dead."""
_LONGEST_GAP: Final = 2 * BEAT_SECONDS
"""Longest time between two looks, in seconds; after a longer one every host has a full lease again."""


@frozen
class _Unchanged:
    beat: int
    since: float


class LeaseJudge:
    """Counts for how long each host's beat has not changed while this host's own beats went through.

    A key with a time to live on the server would end all leases at once after a clock jump, an eviction, a slow
    restart or a failover. Here only time counts in which this host was awake and the server took its beats: after a
    look that failed, came late or lies in the past, every host has a full lease. Not thread-safe.
    """

    def __init__(self, lease: float = LEASE_SECONDS, longest_gap: float = _LONGEST_GAP) -> None:
        self._lease = lease
        self._longest_gap = longest_gap
        self._unchanged: dict[str, _Unchanged] = {}
        self._looked_at: float | None = None

    def look(self, records: Iterable[HostRecord], now: float) -> list[HostRecord]:
        """Note the beats that were read; returns the hosts whose lease has ended.

        `now` is in seconds of a clock that also counts while the machine is suspended, taken after the records were
        read, and after an own beat had gone through.
        """
        gap = None if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        if gap is None or not 0 <= gap <= self._longest_gap:
            self._unchanged = {}
        known, self._unchanged = self._unchanged, {}
        ended: list[HostRecord] = []
        for record in records:
            if record.has_ended:
                continue
            seen = known.get(record.host)
            if seen is None or seen.beat != record.beat:
                seen = _Unchanged(record.beat, now)
            elif now - seen.since >= self._lease:
                ended.append(record)
            self._unchanged[record.host] = seen
        return ended

    def interrupt(self) -> None:
        """Note that an own beat or a look has failed: every host has a full lease from the next look on."""
        self._looked_at = None
