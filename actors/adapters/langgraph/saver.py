"""A LangGraph checkpointer whose threads are agents."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from random import getrandbits
from threading import Lock
from typing import Any, Final, cast

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

from duramen.actors import AgentSystem, Batch, Get, GetStatus, Merge, Spawn, Terminate
from duramen.events import AgentAlreadyRunning, AgentNotFound, AgentNotRunning, AgentPath, InvalidMessage, PropertyPath

from ..names import id_of, segment_of
from ..steps import Ask, Steps, run, run_async
from .thread import Channel, Checkpoint, Items, Leaf, Write, merges_of
from .tree import Found, chosen, delta_history, found_at, latest_id, removal_of, without_runs

_MOST_CHANNELS: Final = 1_024
"""Lists of which the items are remembered, so that only what is added has to be stored."""
_GONE: Final = (AgentNotFound, AgentNotRunning)


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
        self._known: OrderedDict[tuple[str, str, str], Items] = OrderedDict()
        self._lock = Lock()

    def path(self, thread_id: str) -> AgentPath:
        """The path of the agent that holds a thread, for `system.replay`, `system.fork` and the console."""
        return AgentPath.of(self._project, segment_of(thread_id))

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
        left = limit
        for thread_id in run(self._system, self._threads(config)):
            if left is not None and left <= 0:
                return
            tree = run(self._system, self._read_thread(thread_id, config))
            for found in chosen(tree, self.serde, config=config, wanted=filter, before=before, limit=left):
                left = None if left is None else left - 1
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
        """Delete a thread: its session ends, and its events are trimmed from the log."""
        run(self._system, self._delete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs and their writes, in all threads: reads each. Their events stay in the log."""
        run(self._system, self._delete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Fork a thread, whatever its length, in constant time. Raises AgentNotFound, AgentExists for the target.

        Without a config, `list` does not find copies whose ids are longer than a segment of a path may be.
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
        left = limit
        for thread_id in await run_async(self._system, self._threads(config)):
            if left is not None and left <= 0:
                return
            tree = await run_async(self._system, self._read_thread(thread_id, config))
            for found in chosen(tree, self.serde, config=config, wanted=filter, before=before, limit=left):
                left = None if left is None else left - 1
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
        tree = yield from self._read(thread_id, namespace)
        checkpoint_id = get_checkpoint_id(config) or latest_id(tree)
        found = None if checkpoint_id is None else found_at(tree, namespace, checkpoint_id)
        return None if found is None else self._tuple_of(thread_id, found)

    def _delta_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Steps[Mapping[str, DeltaChannelHistory]]:
        thread_id, namespace = _names_of(config)
        tree = yield from self._read(thread_id, namespace)
        return delta_history(tree, get_checkpoint_id(config), channels, self.serde)

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
        entries = map(AgentPath.parse, (entry.agent for entry in self._system.agents()))
        return sorted(path for path in entries if path.project == self._project and path.is_root)

    def _read_thread(self, thread_id: str, config: RunnableConfig | None) -> Steps[dict[str, Any]]:
        """The namespaces of a thread, or the one that a config names."""
        namespace = None if config is None else config.get("configurable", {}).get("checkpoint_ns")
        if namespace is None:
            return (yield from self._read_agent(self.path(thread_id).text, ""))
        return {namespace: (yield from self._read(thread_id, namespace))}

    def _read(self, thread_id: str, namespace: str) -> Steps[dict[str, Any]]:
        return (yield from self._read_agent(self.path(thread_id).text, PropertyPath.of(namespace)))

    def _read_agent(self, path: str, property: str | PropertyPath) -> Steps[dict[str, Any]]:
        try:
            tree: dict[str, Any] = yield Ask(path, Get(property, {}))
        except AgentNotFound:
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
        leaves: list[Leaf] = []
        lists: dict[str, Items | None] = {}
        for name, version in new_versions.items():
            if name in values:
                known = self._known.get((thread_id, namespace, name))
                content, lists[name] = Channel.pack(version, values[name], self.serde, known)
                leaves.append(((namespace, "blobs", name, str(version)), content))
        leaves.append(((namespace, "checkpoints", checkpoint["id"]), stored.pack()))
        yield from self._store(thread_id, leaves)
        for name, items in lists.items():
            self._remember(thread_id, namespace, name, items)
        return _config_of(thread_id, namespace, checkpoint["id"])

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Steps[None]:
        thread_id, namespace = _names_of(config)
        place = (namespace, "writes", cast("str", get_checkpoint_id(config)), task_id)
        there = yield from self._read_agent(self.path(thread_id).text, PropertyPath.of(*place))
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
        path = self.path(thread_id).text
        try:
            yield Ask(path, Terminate(consolidate_to_episodic=False))
            yield lambda: self._system.trim(path, keep_events=1)
        except _GONE:
            return

    def _delete_for_runs(self, run_ids: Sequence[str]) -> Steps[None]:
        wanted = set(run_ids)
        paths: Sequence[AgentPath] = (yield self._agents) if wanted else ()
        for path in paths:
            tree = yield from self._read_agent(path.text, "")
            patch = {namespace: without_runs(held, wanted, self.serde) for namespace, held in tree.items()}
            yield from self._remove(path.text, {namespace: held for namespace, held in patch.items() if held})

    def _prune(self, thread_ids: Sequence[str], strategy: str) -> Steps[None]:
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy is 'keep_latest' or 'delete', not {strategy!r}")
        for thread_id in thread_ids:
            if strategy == "delete":
                yield from self._delete_thread(thread_id)
            else:
                path = self.path(thread_id).text
                tree = yield from self._read_agent(path, "")
                patch = {namespace: removal_of(held, self.serde) for namespace, held in tree.items()}
                yield from self._remove(path, {namespace: held for namespace, held in patch.items() if held})

    def _remove(self, path: str, patch: dict[str, Any]) -> Steps[None]:
        if patch:
            yield Ask(path, Merge("", patch, durability=self._durability))
            with self._lock:
                self._known.clear()

    def _copy_thread(self, source_thread_id: str, target_thread_id: str) -> Steps[None]:
        yield lambda: self._system.fork(self.path(source_thread_id), to=self.path(target_thread_id))


def _names_of(config: RunnableConfig) -> tuple[str, str]:
    """Thread id and namespace. Raises InvalidMessage for a config without a thread."""
    configurable = config.get("configurable", {})
    if "thread_id" not in configurable:
        raise InvalidMessage("the config names no thread; give it {'configurable': {'thread_id': …}}")
    return str(configurable["thread_id"]), configurable.get("checkpoint_ns") or ""


def _config_of(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}
