"""Ending a command at Ctrl-C between two results, and not in the middle of one."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from attrs import define

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@define
class Interruption:
    """Whether a signal has asked the command to end."""

    asked: bool = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the second one raises KeyboardInterrupt. The handler of both signals."""
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


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
