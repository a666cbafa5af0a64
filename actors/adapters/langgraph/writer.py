"""Writing checkpoints and pending writes: one commit each, mostly without reading anything first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.serde.base import SerializerProtocol

from duramen.actors import AgentStatus, Batch, GetMany, GetStatus, Merge, Spawn
from duramen.events import (
    AgentAlreadyRunning,
    AgentNotFound,
    AgentNotRunning,
    Erased,
    PropertyPath,
    VersionConflict,
)

from ..common import Ask, Leaf, Steps, merges_of
from .archive import KEPT, MOST, departure_of, leaves_to_restore
from .known import KnownThread, KnownThreads
from .places import Names
from .reader import ThreadReader
from .thread import LIVE, Channel, Checkpoint, Items, Write

GONE: Final = (AgentNotFound, AgentNotRunning, Erased)
_TRIES: Final = 4
"""How often a write is tried, while others write to the thread."""
_MOST_COUNTS: Final = 1_024


class ThreadWriter:
    """Writes to threads, at the seq that is known of each; looks again where somebody else has written. Thread-safe."""

    def __init__(
        self, reader: ThreadReader, known: KnownThreads, serde: SerializerProtocol, durability: str | None
    ) -> None:
        self._reader = reader
        self._known = known
        self._serde = serde
        self._durability = durability
        self._counts: dict[tuple[str, str], int] = {}
        """Checkpoints in working memory, by thread and namespace, as far as this saver knows."""

    def note_count(self, thread_id: str, namespace: str, count: int) -> None:
        """Note how many checkpoints a namespace has in working memory."""
        self._counts[thread_id, namespace] = count
        if len(self._counts) > _MOST_COUNTS:
            self._counts.pop(next(iter(self._counts)), None)

    def put(
        self, names: Names, checkpoint_id: str, stored: Checkpoint, channels: Mapping[str, tuple[Any, Any]]
    ) -> Steps[None]:
        """Store a checkpoint; `channels` has version and value of each that is new."""
        thread_id, namespace = names

        def leaves_of(known: KnownThread) -> list[Leaf]:
            leaves: list[Leaf] = []
            for name, (version, value) in channels.items():
                items = self._known.items(thread_id, namespace, name)
                base = items if items is not None and _has_list(known, namespace, name, items) else None
                content, made = Channel.pack(version, value, self._serde, base)
                leaves.append(((LIVE, namespace, "blobs", name, str(version)), content))
                known.versions[namespace, name] = str(version)
                self._known.remember(thread_id, namespace, name, made)
            leaves.append(((LIVE, namespace, "checkpoints", checkpoint_id), stored.pack()))
            known.add_checkpoint(namespace, checkpoint_id)
            return leaves

        yield from self._write(names, stored.parent, list(channels), leaves_of)
        yield from self._tidy(thread_id, namespace)

    def put_writes(
        self, names: Names, checkpoint_id: str, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Steps[None]:
        """Store what a task has written at a checkpoint, as far as it is not there."""
        namespace = names.namespace
        place = (LIVE, namespace, "writes", checkpoint_id, task_id)

        def leaves_of(known: KnownThread) -> list[Leaf]:
            there = known.writes_of(namespace, checkpoint_id).setdefault(task_id, set())
            leaves: list[Leaf] = []
            for position, (channel, value) in enumerate(writes):
                index = WRITES_IDX_MAP.get(channel, position)
                if index < 0 or str(index) not in there:
                    write = Write(channel, self._serde.dumps_typed(value), task_path)
                    leaves.append(((*place, str(index)), write.pack()))
            there.update(path[-1] for path, _ in leaves)
            return leaves

        yield from self._write(names, checkpoint_id, (), leaves_of)

    def _write(
        self,
        names: Names,
        parent: str | None,
        channels: Sequence[str],
        leaves_of: Callable[[KnownThread], list[Leaf]],
    ) -> Steps[None]:
        """Store leaves, which are made of what is known of the thread, and noted there at once.

        They are refused if anybody has written who is not known of: then look again. The last try takes any seq.
        """
        thread_id = names.thread_id
        for tries_left in reversed(range(_TRIES)):
            known = self._known.get(thread_id) if tries_left else None
            if known is None or not self._is_enough(known, names, parent, channels):
                known = yield from self._look_up(thread_id, names.namespace, parent)
                self._known.put(thread_id, known)
            try:
                with known.lock:
                    expected = known.seq
                    batches = merges_of(leaves) if (leaves := leaves_of(known)) else []
                    known.seq += sum(map(len, batches)) + (bool(batches) and _needs_spawn(expected, batches))
                yield from self._store(thread_id, batches, expected if tries_left else None)
            except (VersionConflict, AgentAlreadyRunning, *GONE):
                self._known.drop(thread_id, known)
                if not tries_left:
                    raise
            except BaseException:  # what was noted may not be there
                self._known.drop(thread_id, known)
                raise
            else:
                return

    def _is_enough(self, known: KnownThread, names: Names, parent: str | None, channels: Sequence[str]) -> bool:
        thread_id, namespace = names
        with known.lock:
            if parent is not None and not known.is_known(namespace, parent):
                return False
            lists = ((name, self._known.items(thread_id, namespace, name)) for name in channels)
            return all(items is None or _has_list(known, namespace, name, items) for name, items in lists)

    def _look_up(self, thread_id: str, namespace: str, parent: str | None) -> Steps[KnownThread]:
        """Read where a thread stands, and what of it can be added to. Brings a parent that has left back."""
        path, lists = self._reader.path_text(thread_id), self._known.lists_of(thread_id)
        places = [PropertyPath.of(LIVE, space, "blobs", name, str(lists[space, name].version)) for space, name in lists]
        places.append(PropertyPath.of(LIVE, namespace, "checkpoints"))
        places.append(PropertyPath.of(LIVE, namespace, "writes", parent or "-"))
        try:
            status: AgentStatus = yield Ask(path, GetStatus())
            found: list[Any] = yield Ask(path, GetMany(places, None))
        except (AgentNotFound, Erased):
            return KnownThread(0, is_new=True)
        if status.status == "terminated":
            with suppress(AgentAlreadyRunning):
                yield from self._spawn(thread_id, {})
            return (yield from self._look_up(thread_id, namespace, parent))
        writes: dict[str, Any] = found.pop() or {}
        checkpoints: dict[str, Any] = found.pop() or {}
        latest = max(checkpoints, default="")
        has_left = parent is not None and parent not in checkpoints and parent < latest
        if has_left and (yield from self._restore(thread_id, namespace, parent or "")):
            return (yield from self._look_up(thread_id, namespace, parent))
        known = self._known.get(thread_id)
        if known is None or known.seq != status.seq:
            known = KnownThread(status.seq)
        with known.lock:
            known.latest[namespace] = latest
            if parent is not None:
                known.writes_of(namespace, parent).update({task: set(indices) for task, indices in writes.items()})
            for (place, items), leaf in zip(lists.items(), found, strict=True):
                if leaf is not None:
                    known.versions[place] = str(items.version)
        return known

    def _restore(self, thread_id: str, namespace: str, checkpoint_id: str) -> Steps[bool]:
        """Bring a checkpoint that has left working memory back into it; False: it is not to be found."""
        tree = yield from self._reader.read(thread_id, LIVE, namespace)
        old = yield from self._reader.read_old(thread_id, namespace, checkpoint_id)
        if checkpoint_id not in old.get("checkpoints", {}):
            return False
        leaves = leaves_to_restore(namespace, tree, old, checkpoint_id, self._serde)
        yield from self._store(thread_id, merges_of(leaves), None)
        return True

    def _store(self, thread_id: str, batches: Sequence[Sequence[Merge]], expected: int | None) -> Steps[None]:
        """Store merges, each batch in one commit. `expected` is the seq that the agent must be at; 0: there is none.

        None: any seq. Raises VersionConflict, or AgentAlreadyRunning, for another seq.
        """
        path, left = self._reader.path_text(thread_id), list(batches)
        if expected == 0 and left:
            expected = yield from self._spawn(thread_id, left.pop(0)[0].patch if len(left[0]) == 1 else {})
        for batch in left:
            yield Ask(path, Batch(batch, durability=self._durability, expected_seq=expected))
            expected = None if expected is None else expected + len(batch)

    def _spawn(self, thread_id: str, items: Any) -> Steps[int]:
        path = self._reader.path_text(thread_id)
        result = yield Ask(
            path, Spawn(initial_state=items, metadata={"thread_id": thread_id}, durability=self._durability)
        )
        result.raise_for_failure()
        seq: int = result.data["seq"]
        return seq

    def _tidy(self, thread_id: str, namespace: str) -> Steps[None]:
        """Count a new checkpoint, and let the oldest ones leave working memory once there are many."""
        count = self._counts.get((thread_id, namespace), 0) + 1
        self.note_count(thread_id, namespace, count)
        if count <= MOST:
            return
        path = self._reader.path_text(thread_id)
        try:
            seq: int = (yield Ask(path, GetStatus())).seq
            live = yield from self._reader.read(thread_id, LIVE, namespace)
            there = len(live.get("checkpoints", ()))
            if there <= MOST:  # another saver has let them leave: a page of a few checkpoints more helps nobody
                self.note_count(thread_id, namespace, there)
                return
            departure = departure_of(namespace, live, seq, self._serde)
            if departure is not None:
                merges, removed = merges_of([departure.page, *departure.merged]), departure.removed
                if len(merges) > 1:  # too much for one commit
                    merges, removed = merges_of([departure.page]), departure.removed_if_not_merged
                operations = [*merges[0], Merge("", {LIVE: {namespace: removed}})]
                self._known.forget(thread_id)
                yield Ask(path, Batch(operations, durability=self._durability, expected_seq=seq))
        except (VersionConflict, *GONE):  # somebody else has written: the next checkpoint tries again
            return
        self.note_count(thread_id, namespace, KEPT)


def _needs_spawn(seq: int, batches: Sequence[Sequence[Merge]]) -> bool:
    """Whether a thread without an agent begins with an event of its own, as what is written is more than that holds."""
    return seq == 0 and len(batches[0]) > 1


def _has_list(known: KnownThread, namespace: str, channel: str, items: Items) -> bool:
    """Whether a list is in working memory at the version of these items."""
    return known.versions.get((namespace, channel)) == str(items.version)
