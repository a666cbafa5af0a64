"""The calls of a system for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar, Unpack
from uuid import UUID

from attrs import evolve

from duramen.events import (
    AgentPath,
    Content,
    Cursor,
    Event,
    Granularity,
    ParentRequired,
    PathPattern,
    PropertyPath,
    Unconfirmed,
)
from duramen.events.log import Entry, HostRecord
from duramen.events.model import Seconds
from duramen.projections import PropertyChange, Runner
from duramen.projections.notifications import Category
from duramen.projections.projection import Attachable
from duramen.projections.recovery import Point

from ...commands import AdoptChild, Spawn, SpawnArguments, spawn_message
from ..arguments import parse_agent
from ..calls import Following, History, SystemCalls, Work
from ..handles import AsyncAgentHandle, require_started
from ..outputs import OutputFollower
from .consumers import AsyncConsumers
from .episodes import AsyncEpisodes
from .replay import AsyncReplay
from .twins import AsyncTwin, in_pages, twin_of

V = TypeVar("V")

_EVENTS: Final = 256
"""Events read ahead in one thread call."""
_AGENTS: Final = 256
"""Agents read ahead in one thread call."""
_CHANGES: Final = 16
"""Changes of a property read ahead in one thread call; each holds two copies of the value."""


class AsyncSystem(AsyncTwin[SystemCalls]):
    """`await system.aio.spawn(...)`: the blocking calls of `AgentSystem`, for asyncio.

    Calls that read run in a thread, and `progress` functions are called there. Cancelling a call does not stop the
    work it has started.
    """

    __slots__ = ()

    peek = twin_of(History.peek)
    state_at = twin_of(History.state_at)
    keep_keyframes = twin_of(History.keep_keyframes)
    tree_at = twin_of(History.tree_at)
    diff = twin_of(History.diff)
    blame = twin_of(History.blame)
    verify = twin_of(History.verify)
    trim = twin_of(History.trim)
    origin = twin_of(History.origin)
    erase = twin_of(History.erase)
    export_session = twin_of(History.export_session)
    import_session = twin_of(History.import_session)
    export_jsonl = twin_of(History.export_jsonl)
    subscribe = twin_of(Following.subscribe)
    cursor = twin_of(Following.cursor)
    projections = twin_of(Following.projections)
    react = twin_of(Work.react)
    unfinished = twin_of(Work.unfinished)
    reminders = twin_of(Work.reminders)
    check_work = twin_of(Work.check_work)

    async def attach(
        self,
        projection: Attachable[V],
        name: str,
        *,
        agents: str | PathPattern = "**",
        granularity: Granularity = Granularity.TRACE,
        categories: Iterable[Category] | None = None,
        types: Iterable[str] | None = None,
        after: Cursor | None = None,
        standby: bool = False,
    ) -> Runner[V]:
        """As `AgentSystem.attach`; the runner has an `aio` of its own."""
        return await asyncio.to_thread(
            self.original.attach,
            projection,
            name,
            agents=agents,
            granularity=granularity,
            categories=categories,
            types=types,
            after=after,
            standby=standby,
        )

    @property
    def consumers(self) -> AsyncConsumers:
        """The durable consumers, for inspection and repair by hand."""
        return AsyncConsumers(self.original.consumers)

    async def hosts(self) -> list[HostRecord]:
        """As `AgentSystem.hosts`."""
        return await asyncio.to_thread(self.original.hosts)

    async def drain(self, timeout: Seconds = 30.0) -> bool:
        """As `AgentSystem.drain`. Cancelling it does not stop the draining."""
        if self.original.runs_here():
            return self.original.drain(timeout)  # which refuses it
        return await asyncio.to_thread(self.original.drain, timeout)

    async def close(self, timeout: Seconds = 30.0) -> None:
        """As `AgentSystem.close`, which `async with` calls. Cancelling it does not stop the closing."""
        if self.original.runs_here():
            self.original.close(timeout)  # which does not wait here
        else:
            await asyncio.to_thread(self.original.close, timeout)

    def follow(
        self,
        path: str | AgentPath,
        name: str,
        *,
        after: int | str | None = None,
        wait: Seconds = 30.0,
        timeout: Seconds | None = 300.0,
    ) -> OutputFollower:
        """As `AgentSystem.follow`: `async for token in system.aio.follow(…)`. Does not wait."""
        return self.original.follow(path, name, after=after, wait=wait, timeout=timeout)

    async def load_content(self, path: str | AgentPath, content: Content) -> str | bytes:
        """As `AgentSystem.load_content`."""
        return await asyncio.to_thread(self.original.load_content, path, content)

    @property
    def episodes(self) -> AsyncEpisodes:
        """Long-term memory: the calls of `system.episodes` that read."""
        return AsyncEpisodes(self.original.episodes)

    def agent(
        self,
        path: str | AgentPath | None = None,
        *,
        project_id: str | UUID | None = None,
        agent_instance_id: str | UUID | None = None,
    ) -> AsyncAgentHandle:
        """As `AgentSystem.agent`, with the calls for asyncio. Does not wait."""
        return AsyncAgentHandle(self.original, parse_agent(path, project_id, agent_instance_id))

    def spawn(
        self,
        path: str | AgentPath | None = None,
        *,
        project_id: str | UUID | None = None,
        agent_instance_id: str | UUID | None = None,
        parent: str | None = None,
        exist_ok: bool = False,
        **arguments: Unpack[SpawnArguments],
    ) -> Coroutine[Any, Any, AsyncAgentHandle]:
        """As `AgentSystem.spawn`."""
        handle = self.agent(path, project_id=project_id, agent_instance_id=agent_instance_id)
        return self._spawn(handle, spawn_message(parent, **arguments), exist_ok)

    async def _spawn(self, handle: AsyncAgentHandle, message: Spawn, exist_ok: bool) -> AsyncAgentHandle:
        parent = message.parent
        try:
            if parent is None:
                require_started(await handle.ask(message), exist_ok)
                return handle
        except ParentRequired as error:
            parent = str(error.actual)
        self.original.check_spawn(handle.path.text, message)
        with suppress(Unconfirmed):  # committed; the spawn's confirmation covers it
            await self.agent(parent).ask(AdoptChild(handle.path.text, durability=message.durability))
        require_started(await handle.ask(evolve(message, parent=parent)), exist_ok)
        return handle

    async def fork(
        self,
        path: str | AgentPath,
        at: Point | None = None,
        *,
        to: str | AgentPath,
        tree: bool = False,
        session_id: str | UUID | None = None,
        continue_work: bool = False,
        instead: Mapping[str, Any] | None = None,
    ) -> AsyncAgentHandle:
        """As `AgentSystem.fork`, with the handle for asyncio."""
        forked = await asyncio.to_thread(
            self.original.fork,
            path,
            at,
            to=to,
            tree=tree,
            session_id=session_id,
            continue_work=continue_work,
            instead=instead,
        )
        return forked.aio

    async def agents(
        self,
        prefix: str = "",
        *,
        status: str | Collection[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Entry]:
        """As `AgentSystem.agents`: `async for entry in system.aio.agents()`."""
        entries = await asyncio.to_thread(self.original.agents, prefix, status=status, metadata=metadata, limit=limit)
        async for entry in in_pages(entries, _AGENTS):
            yield entry

    async def events(
        self, path: str | AgentPath, *, from_seq: int = 1, to_seq: int | None = None
    ) -> AsyncIterator[Event]:
        """As `AgentSystem.events`: `async for event in system.aio.events(…)`."""
        async for event in in_pages(self.original.events(path, from_seq=from_seq, to_seq=to_seq), _EVENTS):
            yield event

    async def history(self, path: str | AgentPath, property: str | PropertyPath) -> AsyncIterator[PropertyChange]:
        """As `AgentSystem.history`: `async for event, old, new in system.aio.history(…)`."""
        changes = await asyncio.to_thread(self.original.history, path, property)
        async for change in in_pages(changes, _CHANGES):
            yield change

    async def replay(
        self, path: str | AgentPath, from_seq: int | None = None, to_seq: int | None = None
    ) -> AsyncReplay:
        """As `AgentSystem.replay`; every move is awaited."""
        return AsyncReplay(await asyncio.to_thread(self.original.replay, path, from_seq, to_seq))
