"""Ending a command at Ctrl-C between two results, and not in the middle of one."""

from __future__ import annotations

import signal
from _thread import allocate_lock
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from attrs import define, field

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@define
class Interruption:
    """Whether a signal has asked the command to end."""

    asked: bool = False
    _latch: Any = field(factory=allocate_lock)

    def __attrs_post_init__(self) -> None:
        self._latch.acquire()

    def wait(self) -> None:
        """Block until a signal has asked, and return at once from then on. For the main thread."""
        if not self.asked:
            self._latch.acquire()  # a bare lock: a handler may interrupt an Event in the middle of its own lock

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the second one raises KeyboardInterrupt. The handler of both signals."""
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._latch.release()


@contextmanager
def interruption() -> Generator[Interruption]:
    """Note the first SIGINT or SIGTERM instead of ending. For the main thread. Ignored signals stay ignored."""
    noted = Interruption()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in ours:
        signal.signal(number, noted.ask)
    try:
        yield noted
    finally:
        for number in ours:
            signal.signal(number, before[number])
