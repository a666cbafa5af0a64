"""A list of texts of any length in the working memory of an agent: what the histories of other frameworks need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from attrs import frozen

from duramen.actors import Batch, Delete, Extend, Get, GetStatus, Merge, Pop, Set, Slice, Spawn
from duramen.events import (
    AgentAlreadyRunning,
    AgentNotFound,
    AgentNotRunning,
    AgentPath,
    Erased,
    PathNotFound,
    PropertyPath,
    VersionConflict,
)

from .parts import Leaf, join_parts, merges_of
from .steps import Ask, Steps

GONE: Final = (AgentNotFound, AgentNotRunning, Erased)
"""What is raised where an agent has never been spawned, has ended, or was erased."""

Entry = str | dict[str, Any]
"""A text as it stands in a list: itself, or the key of its parts."""

_LARGE: Final = 128 * 1024
"""Bytes of a text that is kept in parts, beside the list."""
_EVENT: Final = 192 * 1024
_BATCH: Final = 800 * 1024
_DELETIONS: Final = 64
"""Texts that are removed from the end one by one; where there are more, the list is stored anew."""
_TRIES: Final = 20
"""How often a list is looked at again while others change it."""


@frozen
class TextList:
    """The texts at `items` in the working memory of the agent at `path`, which is spawned when the first are added.

    What one call adds is one commit, up to 800 KiB. `metadata` is that of the spawn.
    """

    path: AgentPath
    metadata: Mapping[str, Any]
    durability: str | None = None
    expires_after: timedelta | None = None
    """How long the agent stays without a change, before it erases itself."""

    def read(self, start: int | None = None, stop: int | None = None) -> Steps[list[str]]:
        """The texts from `start` up to, not with, `stop`, as Python slices; none where there is no agent."""
        entries = yield from self.entries(start, stop)
        return (yield from self.load_all(entries or []))

    def entries(self, start: int | None = None, stop: int | None = None) -> Steps[list[Entry] | None]:
        """The entries of the list, or of a part of it; None where there is no agent."""
        try:
            entries: list[Entry] = yield Ask(self.path.text, Slice("items", start, stop))
        except PathNotFound:
            return []
        except GONE:
            return None
        return entries

    def load_all(self, entries: Sequence[Entry]) -> Steps[list[str]]:
        """The texts of entries, without those that were removed meanwhile."""
        texts: list[str] = []
        for entry in entries:
            text = yield from self.load(entry)
            if text is not None:
                texts.append(text)
        return texts

    def extend(self, texts: Sequence[str]) -> Steps[None]:
        """Add texts, in their order."""
        entries = yield from self.make_entries(texts)
        for extends in _batches_of(entries):
            yield from self.write(Batch(extends, durability=self.durability))

    def replace(self, texts: Sequence[str]) -> Steps[None]:
        """Make these the texts of the list. What it begins with stays as it is; only the rest is removed and added.

        This is one commit, up to 800 KiB, besides large texts. Raises VersionConflict where others change the agent all
        the while.
        """
        made: dict[int, Entry] = {}
        for _ in range(_TRIES):
            if (yield from self._replace_once(texts, made)):
                return
        raise VersionConflict(
            f"{self.path} was changed by others {_TRIES} times meanwhile; ask again", agent=self.path.text
        )

    def _replace_once(self, texts: Sequence[str], made: dict[int, Entry]) -> Steps[bool]:
        """Replace the list. Returns False if others changed it meanwhile. `made` has the entries of a try before."""
        before = yield from self.entries()
        if before is None:
            yield from self.spawn({"items": []})
            return not texts
        same = yield from self._count_same(before, texts)
        missing = [at for at in range(same, len(texts)) if at not in made]
        made.update(zip(missing, (yield from self.make_entries([texts[at] for at in missing])), strict=True))
        seq: int = (yield Ask(self.path.text, GetStatus())).seq
        if (yield from self.entries()) != before:
            return False
        unused = [made[at] for at in made if at < same]
        removals, kept = _removals_of(before, same, unused)
        new = [*before[same - kept : same], *(made[at] for at in range(same, len(texts)))]
        if not removals and not new:
            return True
        first, *rest = _batches_of(new) if new else [[]]
        try:
            yield Ask(self.path.text, Batch([*removals, *first], durability=self.durability, expected_seq=seq))
        except VersionConflict:
            return False
        except GONE:  # it has ended, and is read as one without texts
            yield from self.spawn({"items": []})
            return False
        for extends in rest:
            yield from self.write(Batch(extends, durability=self.durability))
        return True

    def _count_same(self, entries: Sequence[Entry], texts: Sequence[str]) -> Steps[int]:
        """How many of the first entries stand for the first texts."""
        for at, (entry, text) in enumerate(zip(entries, texts, strict=False)):
            if (yield from self.load(entry)) != text:
                return at
        return min(len(entries), len(texts))

    def make_entries(self, texts: Sequence[str]) -> Steps[list[Entry]]:
        """The entries of texts, of which the large ones are stored now, beside the list."""
        entries: list[Entry] = []
        leaves: list[Leaf] = []
        for text in texts:
            if len(text) * 4 > _LARGE and len(text.encode()) > _LARGE:
                key = uuid4().hex
                leaves.append((("large", key), text.encode()))
                entries.append({"large": key})
            else:
                entries.append(text)
        for merges in merges_of(leaves) if leaves else ():
            yield from self.write(Batch(merges, durability=self.durability))
        return entries

    def write(self, message: Any) -> Steps[Any]:
        """Send a message that changes the agent; spawn it first where it is not there."""
        try:
            return (yield Ask(self.path.text, message))
        except GONE:
            yield from self.spawn()
            return (yield Ask(self.path.text, message))

    def spawn(self, initial_state: Mapping[str, Any] | None = None) -> Steps[bool]:
        """Spawn the agent. Returns False if it is there already."""
        message = Spawn(
            initial_state=initial_state or {},
            metadata=self.metadata,
            expires_after=self.expires_after,
            durability=self.durability,
        )
        result = yield Ask(self.path.text, message)
        if isinstance(result.error, AgentAlreadyRunning):
            return False
        result.raise_for_failure()
        return True

    def pop(self, position: int = -1) -> Steps[str | None]:
        """Remove the text at a position and return it; None if there is none."""
        try:
            entry: Entry | None = yield Ask(self.path.text, Pop("items", position, None, durability=self.durability))
        except (*GONE, PathNotFound):
            return None
        if entry is None:
            return None
        text = yield from self.load(entry)
        if not isinstance(entry, str):
            yield Ask(self.path.text, Merge("large", {entry["large"]: None}))
        return text

    def clear(self) -> Steps[None]:
        """Remove all texts. They stay in the log."""
        try:
            yield Ask(self.path.text, Batch(self.cleared(), durability=self.durability))
        except GONE:
            return

    @staticmethod
    def cleared() -> list[Set | Merge]:
        """The operations that remove all texts."""
        return [Set("items", []), Merge("", {"large": None})]

    def load(self, entry: Entry) -> Steps[str | None]:
        """The text of an entry; None for a large one that was removed meanwhile."""
        if isinstance(entry, str):
            return entry
        leaf = yield Ask(self.path.text, Get(PropertyPath.of("large", entry["large"]), None))
        return None if leaf is None else join_parts(leaf).decode()


def json_of(value: Any) -> str:
    """A value as JSON in which characters stand for themselves, except where one has no encoding."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which has no encoding but as an escape
        return json.dumps(value)
    return text


def _removals_of(entries: Sequence[Entry], same: int, unused: Sequence[Entry]) -> tuple[list[Any], int]:
    """The operations that leave the first `same` entries, and how many of these have to be added again."""
    gone = entries[same:]
    again = same if len(gone) > _DELETIONS else 0
    removals: list[Any] = [Delete(PropertyPath.of("items", str(at))) for at in reversed(range(same, len(entries)))]
    if len(gone) > _DELETIONS:
        removals = [Set("items", [])]
    large = {entry["large"]: None for entry in [*gone, *unused] if not isinstance(entry, str)}
    return [*removals, Merge("", {"large": large})] if large else removals, again


def _batches_of(entries: Sequence[Entry]) -> Iterator[list[Extend]]:
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
