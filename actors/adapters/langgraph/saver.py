"""A LangGraph checkpointer whose threads are agents."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from random import getrandbits
from threading import Lock
from typing import Any, Final, cast

from attrs import frozen
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.base import Checkpoint as LangGraphCheckpoint
from langgraph.checkpoint.serde.base import SerializerProtocol

from duramen.actors import AgentSystem, Batch, Get, GetMany, GetStatus, Merge, Spawn
from duramen.events import (
    AgentAlreadyRunning,
    AgentNotFound,
    AgentNotRunning,
    AgentPath,
    Erased,
    InvalidMessage,
    PropertyPath,
    Trimmed,
    VersionConflict,
)

from ..names import id_of, name_of
from ..parts import Leaf, merges_of
from ..steps import Ask, Steps, run, run_async
from .archive import KEPT, MOST, departure_of, leaves_to_restore, pages_without_runs, seqs_of
from .thread import LIVE, PAGES, Channel, Checkpoint, Items, Write
from .tree import Found, Tree, delta_history, found_at, latest_id, matches, without_older, without_runs

_MOST_CHANNELS: Final = 1_024
"""Lists of which the items are remembered, so that only what is added has to be stored."""
_GONE: Final = (AgentNotFound, AgentNotRunning, Erased)
_TRIES: Final = 20
"""How often a removal is tried while others write to the thread."""

Removal = Callable[[Mapping[str, Tree], Mapping[str, Any]], dict[str, dict[str, Any]]]
"""Makes a merge patch of the namespaces of a thread and of their pages."""


class DuramenSaver(BaseCheckpointSaver[str]):
    """A LangGraph checkpointer: each thread is an agent of `project`, each step one commit in its log.

    The calls beginning with "a" do not block the loop. Values are stored as the serializer makes them; of a list that
    has grown since the version before only what was added. Thread-safe; several savers, also in other processes, may
    use one thread. Raises the errors of the system: `Unavailable`, `AgentPaused` for a thread that was paused, and
    `TooLarge`.
    """

    def __init__(
        self,
        system: AgentSystem,
        *,
        project: str = "langgraph",
        durability: str | None = None,
        serde: SerializerProtocol | None = None,
    ) -> None:
        """`durability` is that of the stored steps, by default the system's. Raises InvalidPath for the project."""
        super().__init__(serde=serde)
        self._system = system
        self._project = AgentPath.of(project, "thread").project
        self._durability = durability
        self._counts: dict[tuple[str, str], int] = {}
        """Checkpoints in working memory, by thread and namespace, as far as this saver knows."""
        self._known: OrderedDict[tuple[str, str, str], Items] = OrderedDict()
        self._lock = Lock()

    def path(self, thread_id: str) -> AgentPath:
        """The path of the agent that holds a thread, for `system.replay`, `system.fork` and the console."""
        return AgentPath.of(self._project, name_of(thread_id))

    # -- blocking ----------------------------------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return run(self._system, self._get(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Iterate over checkpoints, newest first, thread by thread. Without a config over those of all threads."""
        count = 0
        for thread_id in run(self._system, self._threads(config)):
            live, places = run(self._system, self._look(thread_id, config, before))
            old: dict[tuple[str, int], Tree] = {}
            for place in places:
                if limit is not None and count >= limit:
                    return
                found = run(self._system, self._find(thread_id, live[place.namespace], place, old))
                if found is not None and matches(found, filter, self.serde):
                    count += 1
                    yield self._tuple_of(thread_id, found)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: LangGraphCheckpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return run(self._system, self._put(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        run(self._system, self._put_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread: its agent is erased from the server."""
        run(self._system, self._delete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs and their writes, in all threads: reads each. Their events stay in the log."""
        run(self._system, self._delete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Fork a thread, whatever its length, in constant time. Raises AgentNotFound, AgentExists for the target.

        Without a config, `list` does not find copies whose ids are hashed.
        """
        run(self._system, self._copy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete threads, or all their checkpoints but the latest of each namespace and those its deltas need."""
        run(self._system, self._prune(thread_ids, strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return run(self._system, self._delta_history(config, channels))

    # -- asyncio -----------------------------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await run_async(self._system, self._get(config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        count = 0
        for thread_id in await run_async(self._system, self._threads(config)):
            live, places = await run_async(self._system, self._look(thread_id, config, before))
            old: dict[tuple[str, int], Tree] = {}
            for place in places:
                if limit is not None and count >= limit:
                    return
                found = await run_async(self._system, self._find(thread_id, live[place.namespace], place, old))
                if found is not None and matches(found, filter, self.serde):
                    count += 1
                    yield self._tuple_of(thread_id, found)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: LangGraphCheckpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await run_async(self._system, self._put(config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await run_async(self._system, self._put_writes(config, writes, task_id, task_path))

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await run_async(self._system, self._delete_thread(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await run_async(self._system, self._delete_for_runs(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await run_async(self._system, self._copy_thread(source_thread_id, target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `prune`."""
        await run_async(self._system, self._prune(thread_ids, strategy))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await run_async(self._system, self._delta_history(config, channels))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after `current`, with a random part: two branches of a thread never make the same one."""
        number = 0 if current is None else int(str(current).split(".", 1)[0])
        return f"{number + 1:010}.{getrandbits(32):08x}"

    # -- reading -----------------------------------------------------------------------------------------------------

    def _get(self, config: RunnableConfig) -> Steps[CheckpointTuple | None]:
        thread_id, namespace = _names_of(config)
        tree = yield from self._read(thread_id, LIVE, namespace)
        self._counts[thread_id, namespace] = len(tree.get("checkpoints", ()))
        checkpoint_id = get_checkpoint_id(config) or latest_id(tree)
        if checkpoint_id is None:
            return None
        found = found_at(tree, namespace, checkpoint_id)
        if found is None:
            old = yield from self._read_old(thread_id, namespace, checkpoint_id)
            found = found_at(old, namespace, checkpoint_id)
        return None if found is None else self._tuple_of(thread_id, found)

    def _find(self, thread_id: str, live: Tree, place: Place, old: dict[tuple[str, int], Tree]) -> Steps[Found | None]:
        """A checkpoint, from working memory or from the log. `old` keeps what was read of the log last."""
        if place.seq is None:
            return found_at(live, place.namespace, place.checkpoint_id)
        key = (place.namespace, place.seq)
        if key not in old:
            old.clear()
            old[key] = yield from self._read_at(thread_id, *key)
        return found_at(old[key], place.namespace, place.checkpoint_id)

    def _read_old(self, thread_id: str, namespace: str, checkpoint_id: str) -> Steps[Tree]:
        """A namespace as it was when a checkpoint was in working memory; empty if it never was, or was trimmed."""
        pages = yield from self._read(thread_id, PAGES, namespace)
        seq = seqs_of(pages).get(checkpoint_id)
        return {} if seq is None else (yield from self._read_at(thread_id, namespace, seq))

    def _read_at(self, thread_id: str, namespace: str, seq: int) -> Steps[Tree]:
        path, property = self.path(thread_id), PropertyPath.of(LIVE, namespace)
        try:
            tree: Tree = yield lambda: self._system.state_at(path, seq).get(property, {})
        except Trimmed:
            return {}
        return tree

    def _delta_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Steps[Mapping[str, DeltaChannelHistory]]:
        thread_id, namespace = _names_of(config)
        tree: Tree = yield from self._read(thread_id, LIVE, namespace)
        checkpoint_id = get_checkpoint_id(config) or latest_id(tree)
        if checkpoint_id is not None and checkpoint_id not in tree.get("checkpoints", {}):
            tree = yield from self._read_old(thread_id, namespace, checkpoint_id)
        return delta_history(tree, checkpoint_id, channels, self.serde)

    def _threads(self, config: RunnableConfig | None) -> Steps[Sequence[str]]:
        """The ids of the threads that a config means: one, or all."""
        if config is not None:
            return (_names_of(config)[0],)
        paths: Sequence[AgentPath] = yield self._agents
        found: list[str] = []
        for path in paths:
            thread_id = id_of(path.name)
            if thread_id is None:  # a long one, which its spawn has; a copy has that of its origin
                thread_id = str((yield Ask(path.text, GetStatus())).metadata.get("thread_id"))
            if self.path(thread_id) == path:
                found.append(thread_id)
        return found

    def _agents(self) -> Sequence[AgentPath]:
        prefix = AgentPath.of(self._project, "-").text.removesuffix("-")
        paths = (AgentPath.parse(entry.agent) for entry in self._system.agents(prefix))
        return sorted(path for path in paths if path.is_root)

    def _look(
        self, thread_id: str, config: RunnableConfig | None, before: RunnableConfig | None
    ) -> Steps[tuple[Mapping[str, Tree], Sequence[Place]]]:
        """What a config means of a thread: namespaces in working memory, and checkpoints wherever they are."""
        namespace = None if config is None else config.get("configurable", {}).get("checkpoint_ns")
        if namespace is None:
            live = yield from self._read(thread_id, LIVE)
            pages = yield from self._read(thread_id, PAGES)
        else:
            live = {namespace: (yield from self._read(thread_id, LIVE, namespace))}
            pages = {namespace: (yield from self._read(thread_id, PAGES, namespace))}
        return live, _places_of(live, pages, config, before)

    def _read(self, thread_id: str, *segments: str) -> Steps[dict[str, Any]]:
        return (yield from self._read_agent(self.path(thread_id).text, PropertyPath.of(*segments)))

    def _read_agent(self, path: str, property: str | PropertyPath) -> Steps[dict[str, Any]]:
        try:
            tree: dict[str, Any] = yield Ask(path, Get(property, {}))
        except (AgentNotFound, Erased):
            return {}
        return tree

    def _tuple_of(self, thread_id: str, found: Found) -> CheckpointTuple:
        """Load what LangGraph wants to know of a checkpoint. Remembers its lists."""
        checkpoint: LangGraphCheckpoint = self.serde.loads_typed(found.stored.checkpoint)
        values: dict[str, Any] = {}
        for name, version in checkpoint["channel_versions"].items():
            if str(version) in found.versions.get(name, {}):
                channel = Channel(name, found.versions[name])
                values[name], items = channel.load(version, self.serde)
                self._remember(thread_id, found.namespace, name, items)
        parent = found.stored.parent
        return CheckpointTuple(
            config=_config_of(thread_id, found.namespace, found.checkpoint_id),
            checkpoint={**checkpoint, "channel_values": values},
            metadata=self.serde.loads_typed(found.stored.metadata),
            parent_config=None if parent is None else _config_of(thread_id, found.namespace, parent),
            pending_writes=[(task, write.channel, self.serde.loads_typed(write.value)) for task, write in found.writes],
        )

    # -- writing -----------------------------------------------------------------------------------------------------

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: LangGraphCheckpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Steps[RunnableConfig]:
        thread_id, namespace = _names_of(config)
        values = checkpoint["channel_values"]
        rest = {name: value for name, value in checkpoint.items() if name != "channel_values"}
        stored = Checkpoint(
            get_checkpoint_id(config),
            self.serde.dumps_typed(rest),
            self.serde.dumps_typed(get_checkpoint_metadata(config, metadata)),
        )
        bases = yield from self._prepare(thread_id, namespace, stored.parent, [n for n in new_versions if n in values])
        leaves: list[Leaf] = []
        lists: dict[str, Items | None] = {}
        for name, version in new_versions.items():
            if name in values:
                content, lists[name] = Channel.pack(version, values[name], self.serde, bases.get(name))
                leaves.append(((LIVE, namespace, "blobs", name, str(version)), content))
        leaves.append(((LIVE, namespace, "checkpoints", checkpoint["id"]), stored.pack()))
        yield from self._store(thread_id, leaves)
        for name, items in lists.items():
            self._remember(thread_id, namespace, name, items)
        yield from self._tidy(thread_id, namespace)
        return _config_of(thread_id, namespace, checkpoint["id"])

    def _prepare(
        self, thread_id: str, namespace: str, parent: str | None, names: Sequence[str]
    ) -> Steps[Mapping[str, Items]]:
        """Bring a parent that has left working memory back; the lists, by channel, that can be added to."""
        known = {name: self._known[place] for name in names if (place := (thread_id, namespace, name)) in self._known}
        places = [PropertyPath.of(LIVE, namespace, "blobs", name, str(items.version)) for name, items in known.items()]
        if parent is not None:
            places.append(PropertyPath.of(LIVE, namespace, "checkpoints", parent))
        if not places:
            return {}
        try:
            found: list[Any] = yield Ask(self.path(thread_id).text, GetMany(places, None))
        except (AgentNotFound, Erased):
            return {}
        if parent is not None and found.pop() is None:
            yield from self._restore(thread_id, namespace, parent)
        return {name: items for (name, items), leaf in zip(known.items(), found, strict=True) if leaf is not None}

    def _restore(self, thread_id: str, namespace: str, checkpoint_id: str) -> Steps[None]:
        """Bring a checkpoint that has left working memory back into it, for writes and checkpoints that follow it."""
        tree = yield from self._read(thread_id, LIVE, namespace)
        old = yield from self._read_old(thread_id, namespace, checkpoint_id)
        if checkpoint_id in old.get("checkpoints", {}):
            yield from self._store(thread_id, leaves_to_restore(namespace, tree, old, checkpoint_id, self.serde))

    def _tidy(self, thread_id: str, namespace: str) -> Steps[None]:
        """Count a new checkpoint, and let the oldest ones leave working memory once there are many."""
        place = (thread_id, namespace)
        count = self._counts[place] = self._counts.get(place, 0) + 1
        if len(self._counts) > _MOST_CHANNELS:
            self._counts.pop(next(iter(self._counts)), None)
        if count <= MOST:
            return
        path = self.path(thread_id).text
        try:
            seq: int = (yield Ask(path, GetStatus())).seq
            departure = departure_of(namespace, (yield from self._read(thread_id, LIVE, namespace)), seq, self.serde)
            if departure is None:
                self._counts[place] = KEPT
                return
            merges, removed = merges_of([departure.page, *departure.merged]), departure.removed
            if len(merges) > 1:  # too much for one commit
                merges, removed = merges_of([departure.page]), departure.removed_if_not_merged
            operations = [*merges[0], Merge("", {LIVE: {namespace: removed}})]
            yield Ask(path, Batch(operations, durability=self._durability, expected_seq=seq))
        except (VersionConflict, *_GONE):  # somebody else has written: the next checkpoint tries again
            return
        self._counts[place] = KEPT

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Steps[None]:
        thread_id, namespace = _names_of(config)
        checkpoint_id = cast("str", get_checkpoint_id(config))
        place = (LIVE, namespace, "writes", checkpoint_id, task_id)
        yield from self._prepare(thread_id, namespace, checkpoint_id, ())
        there = yield from self._read(thread_id, *place)
        leaves: list[Leaf] = []
        for position, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, position)
            if index < 0 or str(index) not in there:
                write = Write(channel, self.serde.dumps_typed(value), task_path)
                leaves.append(((*place, str(index)), write.pack()))
        if leaves:
            yield from self._store(thread_id, leaves)

    def _store(self, thread_id: str, leaves: Sequence[Leaf]) -> Steps[None]:
        """Store leaves in one commit, or where they are large in several, the last leaf in the last of them."""
        path = self.path(thread_id).text
        for batch in merges_of(leaves):
            message = Batch(batch, durability=self._durability)
            try:
                yield Ask(path, message)
            except _GONE:
                result = yield Ask(path, Spawn(metadata={"thread_id": thread_id}))
                if not isinstance(result.error, AgentAlreadyRunning):
                    result.raise_for_failure()
                yield Ask(path, message)

    def _remember(self, thread_id: str, namespace: str, channel: str, items: Items | None) -> None:
        place = (thread_id, namespace, channel)
        with self._lock:
            self._known.pop(place, None)
            if items is not None:
                self._known[place] = items
                if len(self._known) > _MOST_CHANNELS:
                    self._known.popitem(last=False)

    def _forget(self, thread_id: str) -> None:
        with self._lock:
            for place in [place for place in self._known if place[0] == thread_id]:
                del self._known[place]

    # -- removing ----------------------------------------------------------------------------------------------------

    def _delete_thread(self, thread_id: str) -> Steps[None]:
        self._forget(thread_id)
        path = self.path(thread_id)
        try:
            yield lambda: self._system.erase(path)
        except AgentNotFound:
            return

    def _delete_for_runs(self, run_ids: Sequence[str]) -> Steps[None]:
        wanted = set(run_ids)

        def removal(live: Mapping[str, Tree], pages: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
            return {
                LIVE: {name: without_runs(tree, wanted, self.serde) for name, tree in live.items()},
                PAGES: {name: pages_without_runs(held, wanted) for name, held in pages.items()},
            }

        paths: Sequence[AgentPath] = (yield self._agents) if wanted else ()
        for path in paths:
            yield from self._remove(path.text, removal)

    def _prune(self, thread_ids: Sequence[str], strategy: str) -> Steps[None]:
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy is 'keep_latest' or 'delete', not {strategy!r}")

        def removal(live: Mapping[str, Tree], pages: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
            return {
                LIVE: {name: without_older(tree, self.serde) for name, tree in live.items()},
                PAGES: {name: dict.fromkeys(held) for name, held in pages.items()},
            }

        for thread_id in thread_ids:
            if strategy == "delete":
                yield from self._delete_thread(thread_id)
            else:
                yield from self._remove(self.path(thread_id).text, removal)

    def _remove(self, path: str, removal: Removal) -> Steps[None]:
        """Remove from a thread what `removal` says, which is asked again where somebody has written meanwhile."""
        for tries_left in reversed(range(_TRIES)):
            try:
                seq: int = (yield Ask(path, GetStatus())).seq
                thread: dict[str, Any] = yield Ask(path, Get("", {}))
                patch = removal(thread.get(LIVE, {}), thread.get(PAGES, {}))
                if any(held for part in patch.values() for held in part.values()):
                    yield Ask(path, Merge("", patch, durability=self._durability, expected_seq=seq))
                    with self._lock:
                        self._known.clear()
            except VersionConflict:
                if not tries_left:
                    raise
            except _GONE:
                return
            else:
                return

    def _copy_thread(self, source_thread_id: str, target_thread_id: str) -> Steps[None]:
        yield lambda: self._system.fork(self.path(source_thread_id), to=self.path(target_thread_id))


def _names_of(config: RunnableConfig) -> tuple[str, str]:
    """Thread id and namespace. Raises InvalidMessage for a config without a thread."""
    configurable = config.get("configurable", {})
    if "thread_id" not in configurable:
        raise InvalidMessage("the config names no thread; give it {'configurable': {'thread_id': …}}")
    return str(configurable["thread_id"]), configurable.get("checkpoint_ns") or ""


@frozen
class Place:
    """Where a checkpoint is read: at a seq of the log; None: in working memory."""

    namespace: str
    checkpoint_id: str
    seq: int | None


def _places_of(
    live: Mapping[str, Tree],
    pages: Mapping[str, Mapping[str, Any]],
    config: RunnableConfig | None,
    before: RunnableConfig | None,
) -> Sequence[Place]:
    """The checkpoints that a config means, newest first."""
    only = None if config is None else get_checkpoint_id(config)
    end = None if before is None else get_checkpoint_id(before)
    found: dict[tuple[str, str], int | None] = {}
    for namespace, tree in live.items():
        seqs = seqs_of(pages.get(namespace, {})) | dict.fromkeys(tree.get("checkpoints", ()))
        found |= {(checkpoint_id, namespace): seq for checkpoint_id, seq in seqs.items()}
    return [
        Place(namespace, checkpoint_id, found[checkpoint_id, namespace])
        for checkpoint_id, namespace in sorted(found, reverse=True)
        if (only is None or checkpoint_id == only) and (end is None or checkpoint_id < end)
    ]


def _config_of(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}
