"""An ADK memory service whose memories are episodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, cast
from uuid import uuid4

from google.adk.events.event import Event
from google.adk.memory.base_memory_service import BaseMemoryService, SearchMemoryResponse
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.sessions.session import Session
from google.genai.types import Content

from duramen.actors import AgentSystem, Spawn, Terminate
from duramen.events import AgentAlreadyRunning, AgentNotFound, AgentNotRunning, AgentPath, CommandConflict
from duramen.projections import Episode

from ..common import Ask, Steps, run_async, settle
from .paths import memory_path

_AT_ONCE: Final = 32
"""Memories that are stored at the same time."""
_LARGEST: Final = 128 * 1024
"""Characters of the JSON of a memory; of a larger one only the text is kept, up to so many characters."""
_FIRST: Final = 500
"""Characters of the description of an episode, and of each of its lessons: what is searched."""
_LINE: Final = 1_000
_SEARCHED: Final = 90_000


class DuramenMemoryService(BaseMemoryService):
    """An ADK memory service: each event with content is an episode, which `search_memory` finds by words or meaning.

    Those of a user are the episodes of one project. With an embedding (`system.episodes.use_embedding`) they are
    searched by meaning. An event that is added again, also at the same time elsewhere, is in memory once. Raises the
    errors of the system.
    """

    def __init__(self, system: AgentSystem, *, project: str = "adk-memory", limit: int = 10) -> None:
        """`limit` is how many memories a search returns at most. Raises InvalidPath for the project."""
        self._system = system
        self._project = AgentPath.of(project, "memory").project
        self._limit = limit

    async def add_session_to_memory(self, session: Session) -> None:
        """Add the events of a session that are not in memory yet."""
        await self.add_events_to_memory(app_name=session.app_name, user_id=session.user_id, events=session.events)

    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Add events that are not in memory yet. Metadata has to be plain data."""
        memories = [
            MemoryEntry(
                id=event.id,
                content=event.content,
                author=event.author,
                timestamp=datetime.fromtimestamp(event.timestamp).isoformat(),
            )
            for event in events
            if event.content and event.content.parts
        ]
        await self.add_memory(app_name=app_name, user_id=user_id, memories=memories, custom_metadata=custom_metadata)

    async def add_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        memories: Sequence[MemoryEntry],
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Add memories that are not there yet, by id. Metadata has to be plain data."""
        project = self._path(app_name, user_id, "-").project
        episodes = await self._system.aio.episodes.list(project=project)
        known = {_details(episode)["id"] for episode in episodes}
        new = [
            memory.model_copy(
                update={
                    "id": memory.id or uuid4().hex,
                    "custom_metadata": {**memory.custom_metadata, **(custom_metadata or {})},
                }
            )
            for memory in memories
            if memory.id not in known
        ]
        for start in range(0, len(new), _AT_ONCE):
            await settle(self._add_all(app_name, user_id, new[start : start + _AT_ONCE]))

    async def search_memory(self, *, app_name: str, user_id: str, query: str) -> SearchMemoryResponse:
        """The memories of a user that match best."""
        if not query.strip():
            return SearchMemoryResponse()
        project = self._path(app_name, user_id, "-").project
        found = await self._system.aio.episodes.search(query, project=project, limit=self._limit)
        return SearchMemoryResponse(
            memories=[MemoryEntry.model_validate_json(_details(hit.episode)["memory"]) for hit in found]
        )

    async def delete_memory(self, *, app_name: str, user_id: str, memory_id: str | None = None) -> None:
        """Erase a memory from the server. It comes back if its event is added again."""
        if memory_id:
            with suppress(AgentNotFound):
                await settle(self._system.aio.erase(self._path(app_name, user_id, memory_id), rewrite=False))

    def _path(self, app: str, user: str, memory: str) -> AgentPath:
        return memory_path(self._project, app, user, memory)

    async def _add_all(self, app: str, user: str, memories: Iterable[MemoryEntry]) -> None:
        steps = [_add(self._path(app, user, str(memory.id)).text, memory) for memory in memories]
        await asyncio.gather(*[run_async(self._system, each) for each in steps])


def _add(path: str, memory: MemoryEntry) -> Steps[None]:
    """Make an episode. The ids of the commands let several callers make it once."""
    text = _text_of(memory)
    end = Terminate(
        task_description=text[:_FIRST] or "(no text)",
        lessons_learned=[text[at : at + _LINE] for at in range(_FIRST, min(len(text), _SEARCHED), _LINE)],
        outcome_details={"id": str(memory.id), "memory": _json_of(memory, text)},
        command_id="end",
    )
    try:
        result = yield Ask(path, Spawn(command_id="begin"))
        if not isinstance(result.error, AgentAlreadyRunning):
            result.raise_for_failure()
        result = yield Ask(path, end)
    except CommandConflict:  # it was added with other content, which stays
        return
    if not isinstance(result.error, AgentNotRunning):
        result.raise_for_failure()


def _details(episode: Episode) -> dict[str, str]:
    return cast("dict[str, str]", episode.outcome_details)


def _text_of(memory: MemoryEntry) -> str:
    return " ".join(part.text for part in memory.content.parts or () if part.text)


def _json_of(memory: MemoryEntry, text: str) -> str:
    found: str = memory.model_dump_json(exclude_none=True)
    if len(found) <= _LARGEST:
        return found
    content = Content.model_validate({"role": memory.content.role, "parts": [{"text": text[: _LARGEST // 8]}]})
    shortened: str = memory.model_copy(update={"content": content}).model_dump_json(exclude_none=True)
    return shortened
