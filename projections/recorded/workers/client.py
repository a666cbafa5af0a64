"""The near end of a process that folds recorded logs."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final, cast

from .fold_server import receive, send
from .worker import BEGIN, END, FILE, ITEMS

__all__ = ["HelperGone", "WorkerClient"]

_SECONDS: Final = 300.0
"""Without any sign of it, after which a process is given up: it folds a page, or reads a file, in less."""

# Where this process finds modules comes behind where any process does: a folder of scripts may have a `types.py`.
_PROGRAM: Final = """
import sys
sys.path += [entry for entry in sys.argv[1:] if entry not in sys.path]
from duramen.projections.recorded.workers.worker import main
main()
"""


class HelperGone(Exception):
    """The process has ended, or was given up. For who works with it: no user sees it."""


class WorkerClient:
    """One process, which is started here. Used by one thread at a time, but for `kill`; raises HelperGone."""

    def __init__(self, setup: Any) -> None:
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, *sys.path],
                stdin=its.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this process, which ends it
            )
        ours.settimeout(_SECONDS)
        self._connection = ours
        self._stream = cast("BinaryIO", ours.makefile("rwb"))
        self._setup = setup

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_ready(self) -> bool:
        """Tell it what to import; whether it knows the same types then. Comes first, and takes what imports take."""
        self._send(self._setup)
        return bool(self._receive()[1])

    def begin(self, agent: str, begin: bytes | None, states: Sequence[tuple[int, bytes]]) -> None:
        """Let it fold a piece that begins with this state, packed, and leads to these, at their seqs."""
        self._send([BEGIN, agent, begin, states])

    def send_items(self, items: Sequence[bytes]) -> None:
        """The next events of the piece. Waits where it is far behind."""
        self._send([ITEMS, items])

    def end(self, seq: int) -> int | None:
        """How many events the piece had; None if it is not as it was recorded, or does not end at `seq`."""
        self._send([END, seq])
        found: int | None = self._receive()[1]
        return found

    def fold_file(self, file: str, progress: Callable[[int], object]) -> int | None:
        """As `end`, of a whole file. `progress` is called with the number of events since the last call."""
        self._send([FILE, file])
        told = 0
        while True:
            kind, events = self._receive()
            if kind != ITEMS:
                progress((events or told) - told)
                return cast("int | None", events)
            progress(events - told)
            told = events

    def kill(self) -> None:
        """End it, whatever it does. From any thread."""
        self._process.kill()

    def close(self) -> None:
        """End it, and let go of everything."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _send(self, message: Any) -> None:
        try:
            send(self._stream, message)
        except OSError as error:
            raise HelperGone(type(error).__name__) from None

    def _receive(self) -> Any:
        try:
            answer = receive(self._stream.read)
        except OSError as error:
            raise HelperGone(type(error).__name__) from None
        if answer is None:
            raise HelperGone("it has ended")
        return answer
