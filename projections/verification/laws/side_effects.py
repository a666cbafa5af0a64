"""What a piece of code does to the world, as Python's audit events tell it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

__all__ = ["watched"]

_ACTS: Final = frozenset(
    ("open", "subprocess.Popen", "time.sleep", "sqlite3.connect", "_thread.start_new_thread", "webbrowser.open")
)
_ACTING: Final = ("os.", "socket.", "shutil.", "urllib.", "http.", "smtplib.", "ftplib.", "tempfile.", "signal.")


class _Watch(threading.local):
    seen: list[str] | None = None


@contextmanager
def watched() -> Generator[list[str]]:
    """The names of the audit events of what this thread does meanwhile: files, sockets, programs, threads, sleep.

    Not seen: what is written to a file or connection that is open already, printing, and what an extension does
    without telling Python.
    """
    watch = _watch()
    before, watch.seen = watch.seen, []
    try:
        yield watch.seen
    finally:
        watch.seen = before


@cache
def _watch() -> _Watch:
    """An audit hook cannot be taken away again, so there is one, which does nothing while nobody watches."""
    watch = _Watch()

    def hook(name: str, _arguments: tuple[Any, ...]) -> None:
        seen = watch.seen
        if seen is not None and (name in _ACTS or name.startswith(_ACTING)):
            seen.append(name)

    sys.addaudithook(hook)
    return watch
