"""The reading process: it starts the helper, requests partitions, and receives their windows."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import astuple, frozen

from ..helper_process import HelperGone, HelperProcess
from ..model import Mark
from .protocol import CONNECTIONS, DONE, FAILED, FREE, READ, WINDOW, read_slot
from .window_codec import Fetched, unpack_window

if TYPE_CHECKING:
    from ..log import FeedSources, LentConnections

_SLOTS: Final = 4
"""Windows that wait to be received, at most: about as many as are read while this process reads one."""
_SECONDS: Final = 5.0
"""For a message of a few bytes to be sent: more than a socket holds are never under way."""
_STANDARD: Final = 2
"""The last descriptor that means something else in the other process."""
_SECRETS: Final = "DURAMEN_"
"""Names in the environment that may hold a url or a key begin with this."""


@frozen(eq=False, repr=False)
class Ready:
    """The next window of a partition."""

    partition: int
    fetched: Fetched


@frozen(eq=False, repr=False)
class Done:
    """No more windows of a partition come: all was read, or something is wrong there, which the next reader finds."""

    partition: int
    failed: bool


class PrefetchClient:
    """One helper, which is started here. Used by one thread at a time, except `kill`; raises HelperGone."""

    def __init__(self, lent: LentConnections, slots: list[int], helper: HelperProcess) -> None:
        self._lent = lent
        self._slots = slots
        self._helper = helper

    @classmethod
    def start(cls, log: FeedSources, pattern: str | None, level: int) -> PrefetchClient | None:
        """For agents that match a pattern (None: all), and events up to a level.

        None where that is not possible, or not now: the log lends no connections, or no such process can be started.
        """
        if not _can_start():
            return None
        lent = log.lend(CONNECTIONS)
        if lent is None:
            return None
        with ExitStack() as stack:
            stack.callback(lent.close)
            try:
                slots = [_slot(stack) for _ in range(_SLOTS)]
                passed = [*slots, *lent.access.descriptors]
                if min(passed) <= _STANDARD:
                    return None
                helper = HelperProcess(
                    "duramen.events.prefetch.worker",
                    timeout=_SECONDS,
                    descriptors=passed,
                    environment={name: text for name, text in os.environ.items() if not name.startswith(_SECRETS)},
                    quiet=True,
                )
                stack.callback(helper.close)
                helper.send(astuple(lent.access), pattern, level, slots)
            except (OSError, HelperGone):
                return None
            stack.pop_all()
        return cls(lent, slots, helper)

    @property
    def pid(self) -> int:
        return self._helper.pid

    def read(self, partition: int, mark: Mark, until: int) -> None:
        """Let the helper read a partition from a mark up to a position, after those requested before."""
        self._helper.send(READ, partition, until, astuple(mark))

    def next(self, timeout: float) -> Ready | Done | None:
        """The next window or end, in the order of reading; None if nothing comes within `timeout` seconds."""
        if not self._helper.connection.has_message(timeout):
            return None
        try:
            what, partition, *details = self._helper.receive()
            if what in (DONE, FAILED):
                return Done(partition, what == FAILED)
            if what != WINDOW:
                raise HelperGone("it sent an unknown message")
            slot, size = details
            fetched = unpack_window(read_slot(slot, size))
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise HelperGone(type(error).__name__) from None
        self._helper.send(FREE, slot)
        return Ready(partition, fetched)

    def kill(self) -> None:
        """End the helper, whatever it does. Callable from any thread."""
        self._helper.kill()

    def close(self) -> None:
        """End the helper, whatever it does, and release everything."""
        self._helper.close()
        for slot in self._slots:
            os.close(slot)
        self._lent.close()

    def after_fork(self) -> None:
        """In a forked child: close what would keep the helper from seeing that its parent has ended."""
        self._helper.after_fork()


def _can_start() -> bool:
    """Whether there is shared memory without a name, and a Python to start: not a program it is built into."""
    python = Path(sys.executable or "").name
    return hasattr(os, "memfd_create") and python.startswith("python") and not getattr(sys, "frozen", False)


def _slot(stack: ExitStack) -> int:
    descriptor = os.memfd_create("duramen-window")
    stack.callback(os.close, descriptor)
    return descriptor
