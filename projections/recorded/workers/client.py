"""The process that has logs folded: its end of one helper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from duramen.events.helper_process import HelperProcess

from .worker import BEGIN, END, FILE, ITEMS

_SECONDS: Final = 300.0
"""Without an answer, after which a helper is given up: it folds a page, or reads a file, in less."""


class WorkerClient:
    """One helper, which is started here. Used by one thread at a time, except `kill`; raises HelperGone."""

    def __init__(self, setup: Sequence[Any]) -> None:
        self._helper = HelperProcess("duramen.projections.recorded.workers.worker", timeout=_SECONDS)
        self._setup = setup

    @property
    def pid(self) -> int:
        return self._helper.pid

    def is_ready(self) -> bool:
        """Send what to import; whether the helper knows the same types then. To be called first."""
        self._helper.send(*self._setup)
        return bool(self._helper.receive()[1])

    def begin(self, agent: str, begin: bytes | None, states: Sequence[tuple[int, bytes]]) -> None:
        """Begin a segment that starts with this packed state and has these ones at their seqs."""
        self._helper.send(BEGIN, agent, begin, states)

    def send_items(self, items: Sequence[bytes]) -> None:
        """Send the next events of the segment. Blocks while the helper is far behind."""
        self._helper.send(ITEMS, items)

    def end(self, seq: int) -> int | None:
        """How many events the segment had; None if it is not as it was recorded, or does not end at `seq`."""
        self._helper.send(END, seq)
        events: int | None = self._helper.receive()[1]
        return events

    def fold_file(self, file: str, progress: Callable[[int], object]) -> int | None:
        """As `end`, of a whole file. `progress` is called with the number of events since the last call."""
        self._helper.send(FILE, file)
        reported = 0
        while True:
            kind, events = self._helper.receive()
            if kind != ITEMS:
                progress((events or reported) - reported)
                return cast("int | None", events)
            progress(events - reported)
            reported = events

    def kill(self) -> None:
        """End the helper, whatever it does. Callable from any thread."""
        self._helper.kill()

    def close(self) -> None:
        """End the helper, and close the connection."""
        self._helper.close()
