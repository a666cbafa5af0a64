"""Writing a file atomically."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copymode
from typing import IO
from uuid import uuid4


@contextmanager
def open_atomically(path: Path) -> Generator[IO[bytes]]:
    """Open a temporary file that replaces `path` at the end, synced to disk; an exception leaves `path` as it was.

    A symbolic link stays, and its target is replaced; permissions of an existing file stay as well. Anything else than
    a regular file, such as a device or a pipe, is opened and written to as it is.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with path.open("wb") as file:
            yield file
        return
    temporary = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
