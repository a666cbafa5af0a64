"""Side effects of code, seen through Python's audit events."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

_ACTS: Final = frozenset(
    ("open", "subprocess.Popen", "time.sleep", "sqlite3.connect", "_thread.start_new_thread", "webbrowser.open")
)
_ACTING: Final = ("os.", "socket.", "shutil.", "urllib.", "http.", "smtplib.", "ftplib.", "tempfile.", "signal.")


class _Watch(threading.local):
    seen: list[str] | None = None


@contextmanager
def watch_side_effects() -> Generator[list[str]]:
    """Collect the names of this thread's audit events for files, sockets, programs, threads and sleep.

    Not seen: writes to files and connections that are open already, printing, and what an extension does without an
    audit event.
    """
    watch = _watch()
    before, watch.seen = watch.seen, []
    try:
        yield watch.seen
    finally:
        watch.seen = before


@cache
def _watch() -> _Watch:
    """Install the audit hook, once: it cannot be removed, and does nothing while nothing is watched."""
    watch = _Watch()

    def hook(name: str, _arguments: tuple[Any, ...]) -> None:
        seen = watch.seen
        if seen is not None and (name in _ACTS or name.startswith(_ACTING)):
            seen.append(name)

    sys.addaudithook(hook)
    return watch
