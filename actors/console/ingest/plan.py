"""The plan of a run: every file is read once before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from duramen.events import AgentPath, Limits

from ..errors import InvalidRecording
from .json_items import Source, file_source, sample_source
from .recordings import RecordedSession, read_sessions, slug

_NAMELESS = "recording"


@frozen
class _File:
    source: Source
    project: str
    sessions: int


@frozen
class Plan:
    """The files of a run, the agent paths of their sessions, and the number of messages in them."""

    files: tuple[_File, ...]
    paths: tuple[str, ...]
    messages: int

    @property
    def sessions(self) -> int:
        return len(self.paths)

    @property
    def projects(self) -> frozenset[str]:
        """The first segment of every agent path."""
        return frozenset(file.project for file in self.files)

    def read(self) -> Iterator[tuple[str, RecordedSession]]:
        """The sessions with their agent paths, read from the files a second time, since the plan keeps none.

        Raises InvalidRecording if a file has changed since and is no recording any more.
        """
        for file in self.files:
            for session in read_sessions(file.source, Limits(), limit=file.sessions):
                yield _path(file.project, session), session


def make_plan(files: Sequence[str], project: str | None, limit: int | None) -> Plan:
    """Read all files, or the sample. Raises InvalidRecording, InvalidPath."""
    sources = [file_source(path) for path in files] or [sample_source()]
    owners: dict[str, str] = {}
    found: list[_File] = []
    messages = 0
    for source in sources:
        left = None if limit is None else limit - len(owners)
        if left == 0:
            break
        name = project or slug(source.stem) or _NAMELESS
        before = len(owners)
        for session in read_sessions(source, Limits(), limit=left):
            _own(owners, _path(name, session), source)
            messages += len(session.messages)
        found.append(_File(source, name, len(owners) - before))
    return Plan(tuple(found), tuple(owners), messages)


def _path(project: str, session: RecordedSession) -> str:
    return AgentPath((project, session.name)).text


def _own(owners: dict[str, str], path: str, source: Source) -> None:
    if path in owners:
        raise InvalidRecording(
            f"{source.name}: gives the agent {path}, and so does {owners[path]}; run them apart, each with its own "
            "--project"
        )
    owners[path] = source.name
