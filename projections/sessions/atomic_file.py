"""Writing a file atomically."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copymode
from typing import IO, BinaryIO
from uuid import uuid4


@contextmanager
def open_atomically(path: Path) -> Generator[IO[bytes]]:
    """Open a temporary file that replaces `path` at the end, synced to disk; an exception leaves `path` as it was.

    A symbolic link stays, and its target is replaced; permissions of an existing file stay as well. Anything else than
    a regular file, such as a device or a pipe, is opened and written to as it is. Raises OSError, of `path`.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with path.open("wb") as file:
            yield file
        return
    temporary = target.with_name(f".{target.name[:40]}.{uuid4().hex}")  # a name has room for 255 bytes
    try:
        with _create(temporary, path) as file:
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


def _create(temporary: Path, path: Path) -> BinaryIO:
    try:
        return temporary.open("xb")
    except OSError as error:
        error.filename = str(path)  # the temporary name is none that the caller knows
        raise
