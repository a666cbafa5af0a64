"""The process that is read for: it starts the one that reads, tells it what, and takes windows from it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import astuple, frozen

from ..model import Mark
from .protocol import CONNECTIONS, DONE, FREE, READ, TROUBLE, WINDOW, hear, read_slot, say
from .window_codec import Fetched, unpack_window

if TYPE_CHECKING:
    from ..log import EventLog, LentConnections

__all__ = ["Done", "HelperGone", "PrefetchClient", "Ready"]

_SLOTS: Final = 4
"""Windows that wait to be taken, at most: about as many as are read while this process reads one."""
_SECONDS: Final = 5.0
"""For a message of a few bytes to be sent: more than a socket holds are never under way."""
_STANDARD: Final = 2
"""The last descriptor that means something else in the other process."""
_SECRETS: Final = "DURAMEN_"
"""What names in the environment begin with that may hold a url or a key."""

# Where this process finds modules comes behind where any process does: a folder of scripts may have a `types.py`.
_PROGRAM: Final = """
import sys
sys.path += [entry for entry in sys.argv[1:] if entry not in sys.path]
from duramen.events.prefetch.worker import main
main()
"""


class HelperGone(Exception):
    """The process has ended, or says what is not understood. For who works with it: no user sees it."""


@frozen
class Ready:
    """The next window of a partition."""

    partition: int
    fetched: Fetched


@frozen
class Done:
    """No more windows of a partition come: all was read, or there is something odd, which whoever reads on finds."""

    partition: int
    odd: bool


class PrefetchClient:
    """One process, which is started here. Used by one thread at a time; raises HelperGone."""

    def __init__(
        self, lent: LentConnections, slots: list[int], connection: socket.socket, process: subprocess.Popen[bytes]
    ) -> None:
        self._lent = lent
        self._slots = slots
        self._connection = connection
        self._process = process
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @classmethod
    def start(cls, log: EventLog, pattern: str | None, level: int) -> PrefetchClient | None:
        """For agents that match a pattern (None: all), and events up to a level.

        None where it cannot be, or not now: no connections are lent, or this system or program knows no such processes.
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
                ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                stack.callback(ours.close)
                passed = [*slots, *lent.access.descriptors]
                if min(passed) <= _STANDARD:
                    return None
                ours.settimeout(_SECONDS)
                with its:
                    process = _start(its.fileno(), passed)
                stack.callback(_kill, process)
                say(ours, astuple(lent.access), pattern, level, slots)
            except OSError:
                return None
            stack.pop_all()
        return cls(lent, slots, ours, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self, partition: int, mark: Mark, until: int) -> None:
        """Let it read a partition from a mark up to a position, behind those it was told before."""
        self._say(READ, partition, until, astuple(mark))

    def next(self, timeout: float) -> Ready | Done | None:
        """What comes next, in the order in which it was read; None if nothing comes within so many seconds."""
        if not self._poll.poll(max(0.0, timeout) * 1000):
            return None
        try:
            message = hear(self._connection)
            if message is None:
                raise HelperGone("it has ended")
            what, partition, *details = message
            if what in (DONE, TROUBLE):
                return Done(partition, what == TROUBLE)
            if what != WINDOW:
                raise HelperGone("it says what nobody understands")
            slot, size = details
            fetched = unpack_window(read_slot(slot, size))
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise HelperGone(type(error).__name__) from None
        self._say(FREE, slot)
        return Ready(partition, fetched)

    def kill(self) -> None:
        """End it, whatever it does. From any thread."""
        _kill(self._process)

    def close(self) -> None:
        """End it, whatever it does, and let go of everything."""
        _kill(self._process)
        self._connection.close()
        for slot in self._slots:
            os.close(slot)
        self._lent.close()

    def after_fork(self) -> None:
        """In a forked child: let go of what would keep it from seeing that this process' parent has ended."""
        self._connection.close()
        self._process.poll()  # it is no child of this process, and that is noted

    def _say(self, *message: Any) -> None:
        try:
            say(self._connection, *message)
        except OSError as error:
            raise HelperGone(type(error).__name__) from None


def _can_start() -> bool:
    """Whether there is shared memory without a name, and a Python to start: not a program it is built into."""
    python = Path(sys.executable or "").name
    return hasattr(os, "memfd_create") and python.startswith("python") and not getattr(sys, "frozen", False)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _slot(stack: ExitStack) -> int:
    descriptor = os.memfd_create("duramen-window")
    stack.callback(os.close, descriptor)
    return descriptor


def _start(channel: int, descriptors: list[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM, *sys.path],
        stdin=channel,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        env={name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)},
        start_new_session=True,  # Ctrl-C is for this process, which ends it
    )
