"""A terminal that is ours for a while: keys one by one, a screen to draw on, and all as it was at the end."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

__all__ = ["Terminal", "terminal"]

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
"""The other screen, without a cursor."""
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_KEY: Final = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_BEGUN: Final = (b"\x1b", b"\x1b[", b"\x1bO")
_NAMES: Final = {
    b"C": "right",
    b"D": "left",
    b"A": "up",
    b"B": "down",
    b"H": "home",
    b"1~": "home",
    b"7~": "home",
    b"F": "end",
    b"4~": "end",
    b"8~": "end",
    b"5~": "page up",
    b"6~": "page down",
}
_REST_OF_A_KEY: Final = 0.05
"""Seconds: how much later the rest of a key's bytes may come, over a slow line."""


class Terminal:
    """Keys from standard input, a screen on standard output."""

    def __init__(self) -> None:
        self._in = sys.stdin.fileno()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines as they are now."""
        with suppress(OSError):  # the terminal is gone, which the next key tells
            size = os.get_terminal_size(sys.stdout.fileno())
            return max(size.columns, 20), max(size.lines, 5)
        return 80, 24

    def keys(self, timeout: float) -> Iterator[str]:
        """What was pressed; waits at most `timeout` seconds. `escape` for that key, and for the end of input."""
        if not select.select([self._in], [], [], timeout)[0]:
            return
        read = self._read()
        if read.endswith(_BEGUN) and select.select([self._in], [], [], _REST_OF_A_KEY)[0]:
            read += self._read()
        if not read:
            yield "escape"
        for found in _KEY.findall(read):
            yield _name(found)

    def _read(self) -> bytes:
        with suppress(OSError):  # the terminal is gone
            return os.read(self._in, 1024)
        return b""

    def draw(self, lines: list[str]) -> None:
        """Show these lines, and nothing else. They may hold colours; each must fit."""
        body = "\n".join(f"{line}\x1b[0m\x1b[K" for line in lines)
        sys.stdout.write(f"\x1b[H{body}\x1b[J")
        sys.stdout.flush()


def _name(key: bytes) -> str:
    if len(key) > 2:
        return _NAMES.get(key[2:], "")
    return "escape" if key == b"\x1b" else key.decode("ascii", "replace")


@contextmanager
def terminal() -> Generator[Terminal]:
    """Take the terminal over, and give it back whatever happens but SIGKILL. For the main thread.

    Ctrl-C and Ctrl-Z come as keys. SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt.
    """
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _interrupt) for number in _ENDING}
    try:
        changed = termios.tcgetattr(descriptor)
        changed[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
        sys.stdout.write(_ENTER)
        sys.stdout.flush()
        yield Terminal()
    finally:
        for number in handlers:  # a second signal must not come in between
            signal.signal(number, signal.SIG_IGN)
        with suppress(OSError, ValueError, termios.error):  # where the terminal is gone there is nothing to give back
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
        with suppress(OSError, ValueError):
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
