"""A terminal in raw mode: keys one by one, and a screen to draw on. It is restored at the end."""

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

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
"""Switch to the alternate screen and hide the cursor."""
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_KEY: Final = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_PREFIXES: Final = (b"\x1b", b"\x1b[", b"\x1bO")
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
_KEY_TIMEOUT: Final = 0.05
"""Seconds within which the remaining bytes of a key must arrive, over a slow line."""


class Terminal:
    """Keys from standard input, a screen on standard output."""

    def __init__(self) -> None:
        self._in = sys.stdin.fileno()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of the window now."""
        with suppress(OSError):  # the terminal is gone, and the next key is `escape`
            size = os.get_terminal_size(sys.stdout.fileno())
            return max(size.columns, 20), max(size.lines, 5)
        return 80, 24

    def keys(self, timeout: float) -> Iterator[str]:
        """The keys pressed, after at most `timeout` seconds. `escape` is that key, or the end of input."""
        if not select.select([self._in], [], [], timeout)[0]:
            return
        read = self._read()
        if read.endswith(_PREFIXES) and select.select([self._in], [], [], _KEY_TIMEOUT)[0]:
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
        """Fill the screen with these lines. They may have colours; each must fit."""
        body = "\n".join(f"{line}\x1b[0m\x1b[K" for line in lines)
        sys.stdout.write(f"\x1b[H{body}\x1b[J")
        sys.stdout.flush()


def _name(key: bytes) -> str:
    if len(key) > 2:
        return _NAMES.get(key[2:], "")
    return "escape" if key == b"\x1b" else key.decode("ascii", "replace")


@contextmanager
def terminal() -> Generator[Terminal]:
    """Put the terminal into raw mode, and restore it at the end or at an error. For the main thread.

    Ctrl-C and Ctrl-Z arrive as keys. SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt.
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
        for number in handlers:  # a second signal must not interrupt the restoring
            signal.signal(number, signal.SIG_IGN)
        with suppress(OSError, ValueError, termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
        with suppress(OSError, ValueError):
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
