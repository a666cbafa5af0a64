"""The values of a JSON file with their positions. The content decides between a document and JSON Lines."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from attrs import frozen

from ..errors import InvalidRecording
from ..output import clean
from .strict_json import parse

_LINE_SUFFIXES: Final = (".jsonl", ".ndjson")
_MOST_BYTES: Final = 64 * 1024 * 1024
"""Largest document or line; parsed, it takes up to ten times as much memory."""


@frozen
class Source:
    """A recording: `name` is for messages, `stem` names the project, `open` can be called several times."""

    name: str
    stem: str
    in_lines: bool
    open: Callable[[], BinaryIO]


@frozen
class Item:
    """A value and its position: `place` is the file, with the line in JSON Lines; `where` is the path inside it."""

    place: str
    where: str
    value: Any

    def refuse(self, what: str, *below: object) -> InvalidRecording:
        """An error about this value, or about one below it."""
        where = self.at(*below)
        return InvalidRecording(f"{self.place}: {where or 'this'} {what}")

    def at(self, *below: object) -> str:
        return "/".join((self.where, *map(str, below)))


def file_source(path: str) -> Source:
    """A file of the user. Raises InvalidRecording for what is not a readable regular file."""
    file = Path(path)
    name = clean(file.name) or "."
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:
        raise InvalidRecording(f"{clean(path)}: {_reason(error)}") from None
    if not stat.S_ISREG(mode):
        raise InvalidRecording(f"{clean(path)}: not a file; give a file, which is read twice")

    def opened() -> BinaryIO:
        try:
            return file.open("rb")
        except OSError as error:
            raise InvalidRecording(f"{clean(path)}: {_reason(error)}") from None

    return Source(name, file.stem, file.suffix.lower() in _LINE_SUFFIXES, opened)


def sample_source() -> Source:
    """The recording that is part of the package."""
    sample = files(__package__ or "").joinpath("sample", "sessions.json")
    return Source("sample", "sample", False, lambda: cast("BinaryIO", sample.open("rb")))


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read: {reason or type(error).__name__}"


def read_items(source: Source) -> Iterator[Item]:
    """The entries of a list, or the values of the lines, in order; a document that is no list is one value.

    Raises InvalidRecording with file and position for a source that is not JSON, not UTF-8, empty or too large.
    """
    with source.open() as file:
        number, line = _next_line(file, source.name, 0)
        if not line:
            raise InvalidRecording(f"{source.name}: empty; there is nothing to take in")
        if source.in_lines:
            yield from _lines(source, file, number, line)
            return
        value, whole = None, False
        with suppress(InvalidRecording):  # a document may continue in the next line
            value, whole = parse(line, source.name), True
        if not whole:
            more = file.read(_MOST_BYTES + 1 - len(line))
            if len(line) + len(more) > _MOST_BYTES:
                raise _too_large(source.name, "the document")
            value = parse(line + more, source.name, first_line=number)
        elif _next_line(file, source.name, number)[1]:
            file.seek(0)
            number, line = _next_line(file, source.name, 0)
            yield from _lines(source, file, number, line)
            return
        yield from _entries(source, value)


def _entries(source: Source, value: Any) -> Iterator[Item]:
    if not isinstance(value, list):
        yield Item(source.name, "", value)
        return
    entries = cast("list[Any]", value)
    if not entries:
        raise InvalidRecording(f"{source.name}: an empty list; there is nothing to take in")
    for index, entry in enumerate(entries):
        yield Item(source.name, f"/{index}", entry)


def _lines(source: Source, file: BinaryIO, number: int, line: bytes) -> Iterator[Item]:
    while line:
        yield Item(f"{source.name}:{number}", "", parse(line.rstrip(), source.name, first_line=number))
        number, line = _next_line(file, source.name, number)


def _next_line(file: BinaryIO, name: str, number: int) -> tuple[int, bytes]:
    """The next line that is not blank, and its number; empty at the end."""
    while True:
        line = file.readline(_MOST_BYTES + 1)
        number += 1
        if len(line) > _MOST_BYTES:
            raise _too_large(name, f"line {number}")
        if not line or line.strip():
            return number, line


def _too_large(name: str, what: str) -> InvalidRecording:
    most = _MOST_BYTES // (1024 * 1024)
    return InvalidRecording(f"{name}: {what} is larger than {most} MiB; write it as JSON Lines, one session a line")
