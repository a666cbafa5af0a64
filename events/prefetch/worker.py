"""The helper process: it fetches windows of feeds, checks their digests, and passes them to its parent.

It reads over connections that it was lent, so it needs no address and no password; and it runs no code of users. An
error in a partition is not reported in detail: the parent meets it when it reads on there.
"""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

from attrs import define

from ..errors import DuramenError
from ..feed import WindowLoader
from ..helper_process import Connection, connect_to_parent
from ..log import FeedAccess, FeedSource
from ..model import Mark, PathPattern, agent_segments
from .borrowed_feed import BorrowedFeed
from .protocol import AT_A_TIME, DONE, FAILED, FREE, READ, WINDOW, write_slot
from .window_codec import pack_window


def main() -> NoReturn:
    """Read until the parent ends, then end this process."""
    connection = connect_to_parent("duramen-prefetch-end")
    code = 0
    try:
        setup = connection.receive()
        if setup is not None:
            gc.freeze()  # objects that exist now stay
            access, pattern, level, slots = setup
            _PrefetchWorker(connection, BorrowedFeed(FeedAccess(*access)), pattern, level, slots).run()
    except OSError:
        code = 1  # the parent has ended
    os._exit(code)


@define(eq=False)
class _Part:
    """A partition that is being read."""

    partition: int
    loader: WindowLoader
    mark: Mark
    until: int


class _PrefetchWorker:
    def __init__(
        self, connection: Connection, source: FeedSource, pattern: str | None, level: int, slots: Sequence[int]
    ) -> None:
        self._connection = connection
        self._source = source
        self._matches = None if pattern is None else PathPattern.parse(pattern).matches
        self._level = level
        self._free = deque(slots)
        self._waiting: deque[_Part] = deque()
        self._finished: WindowLoader | None = None
        """One that has read windows, and so knows how large they should be."""

    def run(self) -> None:
        """Raises OSError when the parent has ended."""
        turns: deque[_Part] = deque()
        while True:
            while self._waiting and len(turns) < AT_A_TIME:
                turns.append(self._waiting.popleft())
            if turns:
                part = turns.popleft()
                if self._read_window(part):
                    turns.append(part)
                self._receive(wait=False)
            else:
                self._receive(wait=True)

    def _receive(self, *, wait: bool) -> None:
        """Receive the messages that are there; with `wait`, one at least."""
        while wait or self._connection.has_message(0):
            message = self._connection.receive()
            if message is None:
                raise OSError("the parent has ended")
            wait = False
            what, *details = message
            if what == FREE:
                self._free.append(details[0])
            elif what == READ:
                partition, until, mark = details
                loader = WindowLoader(self._source, partition, level=self._level, wants=self._wants())
                if self._finished is not None:
                    loader.start_sized_like(self._finished)
                self._waiting.append(_Part(partition, loader, Mark(*mark), until))

    def _wants(self) -> Callable[[str], bool] | None:
        matches = self._matches
        return None if matches is None else lambda agent: matches(agent_segments(agent))

    def _read_window(self, part: _Part) -> bool:
        """Pass the next window of a partition to the parent; whether there is more."""
        loader, before = part.loader, part.mark
        try:
            window = loader.load(before, ahead=True) if before.position < part.until else None
            if window is None:
                loader.finish(before)
        except DuramenError:
            return self._end(part, FAILED)
        if window is None:
            return self._end(part, DONE)
        if window.problem is not None or (window.count and not window.ready):
            return self._end(part, FAILED)
        part.mark = window.end_mark(before) if window.ready == window.count else window.mark(window.ready - 1)
        loader.send_all()
        packed = pack_window(before, window, loader.end)
        while not self._free:
            self._receive(wait=True)
        slot = self._free.popleft()
        write_slot(slot, packed)
        self._connection.send(WINDOW, part.partition, slot, len(packed))
        return True

    def _end(self, part: _Part, how: str) -> bool:
        self._finished = part.loader
        part.loader.drop()
        part.loader.release()
        self._connection.send(how, part.partition)
        return False
