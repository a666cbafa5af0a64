"""Writing a file atomically."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

__all__ = ["open_atomically"]


@contextmanager
def open_atomically(path: Path) -> Generator[IO[bytes]]:
    """Open a temporary file that replaces `path` at the end, synced to disk; an exception leaves `path` as it was."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
