"""Listening to the channels of a log, or polling its feeds while there is too much to listen to."""

from __future__ import annotations

from collections.abc import Collection
from time import monotonic
from typing import Final

from duramen.events import DuramenError
from duramen.events.feed import complete_batches
from duramen.events.log import EventLog, Notice

from .overload import Overload

_POLL_SECONDS: Final = 0.2
"""Between two polls. A reader that reads in rounds pauses about as long."""
_FEW: Final = 10
"""Appends between two polls up to which listening costs less."""


class Listener:
    """Says which partitions may have moved. Not thread-safe; only `wake` may be called from other threads.

    While polling it follows no channel, so the server sends it nothing. A poll finds every append, and the
    partition of a channel that is followed again is read at first, so nothing is missed in between.
    """

    def __init__(self, log: EventLog, *, events: bool) -> None:
        self._log = log
        self._stream = log.notices(events=events)
        self._overload = Overload()
        self._wanted: tuple[frozenset[int], int] = (frozenset(), 0)
        self._followed: tuple[frozenset[int], int] = (frozenset(), 0)
        self._received = 0
        self._poll_at = 0.0
        self._ends: dict[int, int] = {}
        """Where feeds ended at the last poll; empty before the first one."""

    @property
    def strange(self) -> int:
        """As `NoticeStream.unexpected`."""
        return self._stream.unexpected

    @property
    def is_polling(self) -> bool:
        return self._overload.lasts

    def follow(self, partitions: Collection[int], level: int) -> None:
        """As `NoticeStream.follow`. While it polls, that comes into force afterwards."""
        self._wanted = frozenset(partitions), level
        self._update_channels()

    def receive(self, timeout: float | None) -> tuple[dict[int, int], list[list[Notice]]]:
        """Partitions that may have moved, as `NoticeStream.receive`, and the batches whose notices are complete."""
        self._update_channels()
        if self.is_polling:
            return self._poll(timeout), []
        moved = self._stream.receive(timeout)
        before, self._received = self._received, self._stream.received
        if self._overload.note(self._received - before):
            self._poll_at, self._ends = 0.0, {}
        return moved, complete_batches(self._stream.take_notices())

    def wake(self) -> None:
        """End a `receive` that waits, or the next one. Callable from any thread."""
        self._stream.wake()

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def _update_channels(self) -> None:
        channels = (frozenset[int](), self._wanted[1]) if self.is_polling else self._wanted
        if channels != self._followed:
            self._followed = channels
            self._stream.follow(*channels)

    def _poll(self, timeout: float | None) -> dict[int, int]:
        """Wait until the next poll, at most `timeout` seconds or until `wake`; what has moved since the last one."""
        pause = max(0.0, self._poll_at - monotonic())
        moved = self._stream.receive(pause if timeout is None else min(timeout, pause))
        if moved or monotonic() < self._poll_at:
            return moved
        self._poll_at = monotonic() + _POLL_SECONDS
        try:
            ends = self._log.positions()
        except DuramenError:
            self._overload.end()  # the stream connects again by itself
            return {}
        before, self._ends = self._ends, {partition: ends[partition] for partition in self._wanted[0]}
        grown = {partition: end - before.get(partition, 0) for partition, end in self._ends.items()}
        if before and sum(map(abs, grown.values())) <= _FEW:
            self._overload.end()
        # A feed that has become shorter was replaced: how far to read is unknown.
        return {partition: self._ends[partition] if more > 0 else 0 for partition, more in grown.items() if more}
