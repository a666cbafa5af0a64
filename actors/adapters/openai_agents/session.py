"""A session of OpenAI's Agents SDK that is an agent. It needs nothing of the SDK but its shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

from duramen.actors import AgentSystem, Batch, Extend, Get, Merge, Pop, Set, Slice, Spawn
from duramen.events import (
    AgentAlreadyRunning,
    AgentNotFound,
    AgentNotRunning,
    AgentPath,
    Erased,
    PathNotFound,
    PropertyPath,
)

from ..names import name_of
from ..parts import Leaf, merges_of
from ..parts import join as join_parts
from ..steps import Ask, Steps, run_async

R = TypeVar("R")

_LARGE: Final = 128 * 1024
"""Bytes of an item that is kept in parts, beside the list."""
_EVENT: Final = 192 * 1024
_BATCH: Final = 800 * 1024
_GONE: Final = (AgentNotFound, AgentNotRunning, Erased)


class DuramenSession:
    """A session of OpenAI's Agents SDK: its history is a list in the working memory of an agent of `project`.

    What one call adds is one commit, up to 800 KiB. Calls that change the session wait for their outcome, also when
    they are cancelled. Sessions of one id may be open many times, in any process. Raises the errors of the system.
    """

    def __init__(
        self,
        session_id: str,
        system: AgentSystem,
        *,
        project: str = "openai-agents",
        session_settings: Any = None,
        durability: str | None = None,
    ) -> None:
        """`session_settings` are the SDK's, of which `limit` counts. Raises InvalidPath for the project."""
        self.session_id = session_id
        self.session_settings = session_settings
        self.path: Final = AgentPath.of(project, name_of(session_id))
        """The path of the agent that holds the session."""
        self._system = system
        self._durability = durability

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """The latest `limit` items, oldest first; by default as many as the settings say, or all."""
        most = _limit_of(self.session_settings) if limit is None else limit
        if most == 0:
            return []
        start = None if most is None or most < 0 else -most
        return await run_async(self._system, self._read(start))

    async def add_items(self, items: list[Any]) -> None:
        """Add items, in their order."""
        if items:
            await _settle(run_async(self._system, self._add([_text_of(item) for item in items])))

    async def pop_item(self) -> Any | None:
        """Remove the latest item and return it; None if there is none."""
        return await _settle(run_async(self._system, self._pop()))

    async def clear_session(self) -> None:
        """Remove all items. They stay in the log, until it is trimmed."""
        await _settle(run_async(self._system, self._clear()))

    # -- steps -------------------------------------------------------------------------------------------------------

    def _read(self, start: int | None) -> Steps[list[Any]]:
        try:
            entries: list[Any] = yield Ask(self.path.text, Slice("items", start))
        except (*_GONE, PathNotFound):
            return []
        items: list[Any] = []
        for entry in entries:
            item = yield from self._load(entry)
            if item is not None:
                items.append(item)
        return items

    def _load(self, entry: Any) -> Steps[Any]:
        """The item of an entry; None for a large one that was removed meanwhile."""
        if isinstance(entry, str):
            return json.loads(entry)
        leaf = yield Ask(self.path.text, Get(PropertyPath.of("large", entry["large"]), None))
        return None if leaf is None else json.loads(join_parts(leaf))

    def _add(self, texts: Sequence[str]) -> Steps[None]:
        entries: list[str | dict[str, Any]] = []
        leaves: list[Leaf] = []
        for text in texts:
            if len(text) * 4 > _LARGE and len(text.encode()) > _LARGE:
                key = uuid4().hex
                leaves.append((("large", key), text.encode()))
                entries.append({"large": key})
            else:
                entries.append(text)
        for merges in merges_of(leaves) if leaves else ():
            yield from self._write(Batch(merges, durability=self._durability))
        for extends in _batches_of(entries):
            yield from self._write(Batch(extends, durability=self._durability))

    def _write(self, message: Batch) -> Steps[None]:
        path = self.path.text
        try:
            yield Ask(path, message)
        except _GONE:
            result = yield Ask(path, Spawn(metadata={"session_id": self.session_id}))
            if not isinstance(result.error, AgentAlreadyRunning):
                result.raise_for_failure()
            yield Ask(path, message)

    def _pop(self) -> Steps[Any]:
        try:
            entry = yield Ask(self.path.text, Pop("items", -1, None, durability=self._durability))
        except (*_GONE, PathNotFound):
            return None
        if entry is None:
            return None
        item = yield from self._load(entry)
        if not isinstance(entry, str):
            yield Ask(self.path.text, Merge("large", {entry["large"]: None}))
        return item

    def _clear(self) -> Steps[None]:
        try:
            yield Ask(
                self.path.text, Batch([Set("items", []), Merge("", {"large": None})], durability=self._durability)
            )
        except _GONE:
            return


def _text_of(item: Any) -> str:
    text = json.dumps(item, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which has no encoding but as an escape
        return json.dumps(item)
    return text


def _batches_of(entries: Sequence[str | dict[str, Any]]) -> Iterator[list[Extend]]:
    """Extensions of the list, each of the size of an event, in batches; one in one batch, unless they are large."""
    batch: list[Extend] = []
    values: list[Any] = []
    size = total = 0
    for entry in entries:
        length = len(entry.encode()) + 8 if isinstance(entry, str) else 64
        if values and size + length > _EVENT:
            batch.append(Extend("items", values))
            total += size
            values, size = [], 0
            if total + _EVENT > _BATCH:
                yield batch
                batch, total = [], 0
        values.append(entry)
        size += length
    yield [*batch, Extend("items", values)]


def _limit_of(settings: Any) -> int | None:
    if isinstance(settings, Mapping):
        return cast("Mapping[str, int | None]", settings).get("limit")
    limit: int | None = getattr(settings, "limit", None)
    return limit


async def _settle(mutation: Coroutine[Any, Any, R]) -> R:
    """Await a mutation to its end, however often this is cancelled meanwhile; then raise the cancellation."""
    task = asyncio.ensure_future(mutation)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    if cancelled is not None:
        task.exception()  # seen, though the cancellation is what the caller gets
        raise cancelled
    return task.result()
