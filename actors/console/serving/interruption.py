"""Ending a command at Ctrl-C between two results, and not in the middle of one."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from attrs import define

_MOST: Final = 64
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@define
class Interruption:
    """Whether a signal has asked the command to end."""

    arrivals: int
    """File descriptor on which a byte arrives with each signal."""
    asked: bool = False

    def wait(self) -> None:
        """Block until a signal has asked, and return at once from then on. For the main thread.

        A signal that arrives just before a thread blocks on a lock would not wake it; a byte to read does.
        """
        while not self.asked:
            select.select([self.arrivals], [], [])
            os.read(self.arrivals, _MOST)  # and then its handler is called

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the second one raises KeyboardInterrupt. The handler of both signals."""
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interruption() -> Generator[Interruption]:
    """Note the first SIGINT or SIGTERM instead of ending. For the main thread. Ignored signals stay ignored."""
    with _wakeup() as arrivals:
        noted = Interruption(arrivals)
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        for number in ours:
            signal.signal(number, noted.ask)
        try:
            yield noted
        finally:
            for number in ours:
                signal.signal(number, before[number])


@contextmanager
def _wakeup() -> Generator[int]:
    """Have the interpreter write a byte for each signal; yields where it can be read."""
    arrivals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)  # as `set_wakeup_fd` wants it
    before = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    try:
        yield arrivals
    finally:
        signal.set_wakeup_fd(before)
        os.close(arrivals)
        os.close(wakeup)
