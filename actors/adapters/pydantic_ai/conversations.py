"""A pydantic-ai conversation store whose conversations are agents."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter

from duramen.actors import AgentSystem, Batch, Delete, Get, GetStatus, Set
from duramen.events import AgentExists, AgentNotFound, AgentPath, PropertyPath, VersionConflict

from ..common import GONE, Ask, Steps, TextList, name_of, run_async, settle

_RECORDS: Final = TypeAdapter(
    list[ConversationRecord], config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
)
_BATCH: Final = 512 * 1024
"""Characters of messages in one commit."""
_SETS: Final = 256
"""Operations of one commit, of which each is an event."""
_TRIES: Final = 20
"""How often a record is written while the agent changes in ways that do not concern it."""
_HOMES: Final = 10_000
"""Entries of which it is remembered which agent has them."""
_AT_ONCE: Final = 32
"""Conversations of a list that are read at the same time."""


class DuramenConversationStore(ConversationStore):
    """A pydantic-ai conversation store: each conversation is an agent of `project`, each message one value in it.

    A record and its new messages are one commit, up to 512 KiB and 255 messages; a conflict leaves neither behind. A
    fork is a fork of the agent, whatever its length, and stands by itself. Deleting a conversation erases its agent,
    with all messages, also those of branches it has left. Calls that change something wait for their outcome, also when
    they are cancelled. Thread-safe; several stores, also in other processes, may use one conversation. Raises the
    errors of the system, besides pydantic-ai's own.
    """

    def __init__(self, system: AgentSystem, *, project: str = "pydantic-ai", durability: str | None = None) -> None:
        """`durability` is that of the stored messages, by default the system's. Raises InvalidPath for the project."""
        self._system = system
        self._project = AgentPath.of(project, "conversation").project
        self._durability = durability
        self._homes: OrderedDict[str, AgentPath] = OrderedDict()
        """By entry, an agent that has it. What is not here is looked for in all."""

    def path(self, conversation_id: str) -> AgentPath:
        """The path of the agent that holds a conversation, for `system.replay` and the console."""
        return AgentPath.of(self._project, name_of(conversation_id))

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        path = self.path(conversation_id)
        record = await run_async(self._system, _read_record(path))
        if record is None or record.conversation_id != conversation_id:  # a fork that was not finished
            return None
        self._remember(path, record)
        return record

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        """The stored records, or those of a scope, the one saved last first. Reads each conversation's record."""
        found: list[ConversationRecord] = []
        paths = await self._paths()
        for start in range(0, len(paths), _AT_ONCE):
            part = paths[start : start + _AT_ONCE]
            for path, record in zip(part, await self._read_all(part), strict=True):
                if record is not None and self.path(record.conversation_id) == path:
                    self._remember(path, record)
                    found.append(record)
        found = [record for record in found if scope is None or record.scope == scope]
        found.sort(key=lambda record: record.updated_at, reverse=True)
        return found[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        new = {entry.id for entry in new_entries}
        origin = None
        if record.head_id is not None and record.head_id not in new:
            origin = await self._home_of(record.head_id)
            if origin is None:
                raise ConversationConflict(record.conversation_id)
        elif new_entries and new_entries[0].parent_id is not None:
            origin = await self._home_of(new_entries[0].parent_id)
        await settle(run_async(self._system, self._write(record, new_entries, expected_revision, origin)))
        self._remember(self.path(record.conversation_id), record)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Erase a conversation with its messages from the server. Forks of it stay."""
        await settle(self._delete(conversation_id, expected_revision))

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """The entry of an id. Raises LookupError. One that this store has not seen is looked for in all agents."""
        path = await self._home_of(entry_id)
        entry = None if path is None else await run_async(self._system, _read_entry(path, entry_id))
        if entry is None:
            raise LookupError(f"there is no entry {entry_id!r}")
        return entry

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        if head_id is None or limit == 0:
            return []
        path = await self._home_of(head_id)
        if path is None:
            raise LookupError(f"there is no entry {head_id!r}")
        return await run_async(self._system, _read_history(path, head_id, limit))

    # -- where entries are -------------------------------------------------------------------------------------------

    def _remember(self, path: AgentPath, record: ConversationRecord) -> None:
        for entry_id in (record.head_id, *record.branches):
            if entry_id is not None:
                self._homes[entry_id] = path
                self._homes.move_to_end(entry_id)
        while len(self._homes) > _HOMES:
            self._homes.popitem(last=False)

    async def _home_of(self, entry_id: str) -> AgentPath | None:
        """An agent that has an entry."""
        known = self._homes.get(entry_id)
        if known is not None and await run_async(self._system, _has_entry(known, entry_id)):
            return known
        for path in await self._paths():
            if await run_async(self._system, _has_entry(path, entry_id)):
                self._homes[entry_id] = path
                return path
        return None

    async def _paths(self) -> list[AgentPath]:
        prefix = AgentPath.of(self._project, "-").text.removesuffix("-")
        paths = [AgentPath.parse(entry.agent) async for entry in self._system.aio.agents(prefix)]
        return [path for path in paths if path.is_root]

    async def _read_all(self, paths: Sequence[AgentPath]) -> list[ConversationRecord | None]:
        return await asyncio.gather(*[run_async(self._system, _read_record(path)) for path in paths])

    # -- changes -----------------------------------------------------------------------------------------------------

    def _write(
        self,
        record: ConversationRecord,
        new_entries: Sequence[ConversationEntry],
        expected_revision: str | None,
        origin: AgentPath | None,
    ) -> Steps[None]:
        agent = TextList(
            self.path(record.conversation_id), {"conversation_id": record.conversation_id}, self._durability
        )
        if expected_revision is None:
            yield from self._begin(agent, origin)
        yield from _seq_at(agent.path, record, expected_revision)
        sets = yield from _sets_of(agent, new_entries)
        entries = yield from agent.make_entries([_RECORDS.dump_json([record]).decode()])
        *before, last = _batches_of([*sets, Set("record", entries[0])])
        for batch in before:  # nothing leads to them before the record does
            yield Ask(agent.path.text, Batch(batch, durability=self._durability))
        for tries_left in reversed(range(_TRIES)):
            seq = yield from _seq_at(agent.path, record, expected_revision)
            if record.head_id is not None and not (yield from _has_entry(agent.path, record.head_id, last)):
                raise ConversationConflict(record.conversation_id)
            try:
                yield Ask(agent.path.text, Batch(last, durability=self._durability, expected_seq=seq))
            except VersionConflict:
                if not tries_left:
                    raise
            except GONE:
                raise ConversationConflict(record.conversation_id) from None
            else:
                return

    def _begin(self, agent: TextList, origin: AgentPath | None) -> Steps[None]:
        """Let the agent of a new conversation be there: as a fork of the one that has what its history begins with."""
        if origin is None or origin == agent.path:
            yield from agent.spawn()
            return
        with suppress(AgentExists):  # the revision says whether it is a conversation already
            yield lambda: self._system.fork(origin, to=agent.path)

    async def _delete(self, conversation_id: str, expected_revision: str) -> None:
        path = self.path(conversation_id)
        record = await self.read_record(conversation_id)
        if record is None or record.revision != expected_revision:
            raise ConversationConflict(conversation_id)
        await run_async(self._system, _remove_record(path, record))
        with suppress(AgentNotFound):
            await self._system.aio.erase(path, rewrite=False)


def _remove_record(path: AgentPath, record: ConversationRecord) -> Steps[None]:
    """Remove the record, if it is still this one, so that nobody saves to a conversation that is being erased."""
    for tries_left in reversed(range(_TRIES)):
        seq = yield from _seq_at(path, record, record.revision)
        try:
            yield Ask(path.text, Delete("record", expected_seq=seq))
        except VersionConflict:
            if not tries_left:
                raise
        except GONE:
            raise ConversationConflict(record.conversation_id) from None
        else:
            return


def _seq_at(path: AgentPath, record: ConversationRecord, revision: str | None) -> Steps[int]:
    """The seq of the agent, whose record has this revision, or None for no record. Raises ConversationConflict."""
    try:
        seq: int = (yield Ask(path.text, GetStatus())).seq
    except GONE:
        raise ConversationConflict(record.conversation_id) from None
    stored = yield from _read_record(path)
    if stored is not None and stored.conversation_id != record.conversation_id:  # a fork that was not finished
        stored = None
    if (None if stored is None else stored.revision) != revision:
        raise ConversationConflict(record.conversation_id)
    return seq


def _read_record(path: AgentPath) -> Steps[ConversationRecord | None]:
    try:
        entry = yield Ask(path.text, Get("record", None))
    except GONE:
        return None
    text = None if entry is None else (yield from TextList(path, {}).load(entry))
    return None if text is None else _RECORDS.validate_json(text)[0]


def _sets_of(agent: TextList, entries: Sequence[ConversationEntry]) -> Steps[list[Set]]:
    """The operations that store entries. Large messages are stored now, beside them."""
    texts = [ModelMessagesTypeAdapter.dump_json([entry.message]).decode() for entry in entries]
    messages = yield from agent.make_entries(texts)
    return [
        Set(PropertyPath.of("entries", entry.id), {"parent": entry.parent_id, "kind": entry.kind, "message": message})
        for entry, message in zip(entries, messages, strict=True)
    ]


def _batches_of(sets: Sequence[Set]) -> list[list[Set]]:
    """The operations in batches that fit into one append each."""
    batches: list[list[Set]] = [[]]
    size = 0
    for each in sets:
        length = len(repr(each.value))
        if batches[-1] and (size + length > _BATCH or len(batches[-1]) == _SETS):
            batches.append([])
            size = 0
        batches[-1].append(each)
        size += length
    return batches


def _has_entry(path: AgentPath, entry_id: str, new: Sequence[Set] = ()) -> Steps[bool]:
    """Whether an agent has an entry, or will have it by new operations."""
    where = PropertyPath.of("entries", entry_id)
    if any(each.path == where for each in new):
        return True
    try:
        return (yield Ask(path.text, Get(where, None))) is not None
    except GONE:
        return False


def _read_entry(path: AgentPath, entry_id: str) -> Steps[ConversationEntry | None]:
    try:
        stored = yield Ask(path.text, Get(PropertyPath.of("entries", entry_id), None))
    except GONE:
        return None
    return None if stored is None else (yield from _load(path, entry_id, stored))


def _read_history(path: AgentPath, head_id: str, limit: int | None) -> Steps[list[ConversationEntry]]:
    """The entries up to one of them. Raises LookupError where one is missing."""
    try:
        stored: dict[str, dict[str, Any]] = yield Ask(path.text, Get("entries", {}))
    except GONE:
        stored = {}
    history: list[ConversationEntry] = []
    entry_id: str | None = head_id
    while entry_id is not None and (limit is None or len(history) < limit):
        history.append((yield from _load(path, entry_id, stored[entry_id])))
        entry_id = history[-1].parent_id
    return history[::-1]


def _load(path: AgentPath, entry_id: str, stored: Mapping[str, Any]) -> Steps[ConversationEntry]:
    text = yield from TextList(path, {}).load(stored["message"])
    if text is None:
        raise LookupError(f"the message of entry {entry_id!r} is gone")
    message = ModelMessagesTypeAdapter.validate_json(text)[0]
    return ConversationEntry(id=entry_id, parent_id=stored["parent"], message=message, kind=stored["kind"])
