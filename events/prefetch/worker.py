"""A process that reads feeds for another one: it fetches windows, checks their digests, and hands them over.

It reads over connections that it was lent, so it needs no address and no password; and it runs no code of users. What
it finds to be odd in a partition it does not tell, but leaves to the process that asked, which finds it again.
"""

from __future__ import annotations

import gc
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

from attrs import define

from ..codec import Codec
from ..errors import DuramenError
from ..feed import FeedReader
from ..helper_process import end_with
from ..log import FeedAccess, FeedSource
from ..model import Limits, Mark, PathPattern
from .borrowed_feed import BorrowedFeed
from .protocol import AT_A_TIME, DONE, FREE, READ, TROUBLE, WINDOW, hear, say, write_slot
from .window_codec import pack_window

__all__ = ["main"]


def main() -> NoReturn:
    """Read as long as somebody asks, and end this process."""
    connection = socket.socket(fileno=os.dup(0))
    end_with(connection.fileno(), "duramen-prefetch-end")
    code = 0
    try:
        setup = hear(connection)
        if setup is not None:
            gc.freeze()  # what is there now stays
            access, pattern, level, slots = setup
            _PrefetchWorker(connection, BorrowedFeed(FeedAccess(*access)), pattern, level, slots).serve()
    except OSError:
        code = 1  # the process that asked has ended
    os._exit(code)


@define(eq=False)
class _Part:
    """A partition that is being read."""

    partition: int
    reader: FeedReader
    until: int


class _PrefetchWorker:
    def __init__(
        self, connection: socket.socket, source: FeedSource, pattern: str | None, level: int, slots: Sequence[int]
    ) -> None:
        self._connection = connection
        self._source = source
        self._codec = Codec(Limits())
        self._matches = None if pattern is None else PathPattern.parse(pattern).matches
        self._level = level
        self._free = deque(slots)
        self._asked: deque[_Part] = deque()
        self._before: FeedReader | None = None
        """That has read some windows, so that it knows how large they should be."""

    def serve(self) -> None:
        """Raises OSError when the other process has ended."""
        turns: deque[_Part] = deque()
        while True:
            while self._asked and len(turns) < AT_A_TIME:
                turns.append(self._asked.popleft())
            if turns:
                part = turns.popleft()
                if self._read_on(part):
                    turns.append(part)
                self._listen(wait=False)
            else:
                self._listen(wait=True)

    def _listen(self, *, wait: bool) -> None:
        """Take what has been said; with `wait`, something at least."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while wait or poll.poll(0):
            message = hear(self._connection)
            if message is None:
                raise OSError("nobody asks any more")
            wait = False
            what, *details = message
            if what == FREE:
                self._free.append(details[0])
            elif what == READ:
                partition, until, mark = details
                reader = FeedReader(
                    self._source, self._codec, partition, Mark(*mark), level=self._level, wants=self._wants()
                )
                if self._before is not None:
                    reader.size_as(self._before)
                self._asked.append(_Part(partition, reader, until))

    def _wants(self) -> Callable[[str], bool] | None:
        matches = self._matches
        return None if matches is None else lambda agent: matches(agent.split("/"))

    def _read_on(self, part: _Part) -> bool:
        """Hand the next window of a partition over; whether there is more."""
        reader, before = part.reader, part.reader.mark
        try:
            window = reader.window() if before.position < part.until else None
            if window is None:
                reader.settle()
        except DuramenError:
            return self._end(part, TROUBLE)
        if window is None:
            return self._end(part, DONE)
        if window.problem is not None or (window.count and not window.ready):
            return self._end(part, TROUBLE)
        packed = pack_window(before, window, reader.end)
        while not self._free:
            self._listen(wait=True)
        slot = self._free.popleft()
        write_slot(slot, packed)
        say(self._connection, WINDOW, part.partition, slot, len(packed))
        return True

    def _end(self, part: _Part, how: str) -> bool:
        self._before = part.reader
        part.reader.rest()
        say(self._connection, how, part.partition)
        return False
