"""A LangGraph checkpointer whose threads are agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from random import getrandbits
from typing import Any, Final, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
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

from duramen.actors import AgentSystem, Get, GetStatus, Merge
from duramen.events import (
    AgentNotFound,
    AgentPath,
    VersionConflict,
)

from ..common import Ask, Steps, run, run_async
from .archive import pages_without_runs
from .known import KnownThread, KnownThreads
from .places import config_of, names_of
from .reader import ThreadReader
from .thread import LIVE, PAGES, Channel, Checkpoint
from .tree import Found, Tree, delta_history, found_at, latest_id, matches, without_older, without_runs
from .writer import GONE, ThreadWriter

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
        self._durability = durability
        self._known = KnownThreads()
        self._reader = ThreadReader(system, project)
        self._writer = ThreadWriter(self._reader, self._known, self.serde, durability)

    def path(self, thread_id: str) -> AgentPath:
        """The path of the agent that holds a thread, for `system.replay`, `system.fork` and the console."""
        return self._reader.path(thread_id)

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
        for thread_id in run(self._system, self._reader.threads(config)):
            live, places = run(self._system, self._reader.look(thread_id, config, before))
            old: dict[tuple[str, int], Tree] = {}
            for place in places:
                if limit is not None and count >= limit:
                    return
                found = run(self._system, self._reader.find(thread_id, live[place.namespace], place, old))
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
        for thread_id in await run_async(self._system, self._reader.threads(config)):
            live, places = await run_async(self._system, self._reader.look(thread_id, config, before))
            old: dict[tuple[str, int], Tree] = {}
            for place in places:
                if limit is not None and count >= limit:
                    return
                found = await run_async(self._system, self._reader.find(thread_id, live[place.namespace], place, old))
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

    # -- what the calls do -------------------------------------------------------------------------------------------

    def _get(self, config: RunnableConfig) -> Steps[CheckpointTuple | None]:
        thread_id, namespace = names_of(config)
        tree: Tree | None = yield from self._reader.read_if_there(thread_id, LIVE, namespace)
        if tree is None:
            self._known.put(thread_id, KnownThread(0, is_new=True))
            return None
        self._writer.note_count(thread_id, namespace, len(tree.get("checkpoints", ())))
        known = self._known.get(thread_id)
        if known is not None and known.latest.get(namespace) not in (None, latest_id(tree) or ""):
            self._known.drop(thread_id, known)  # another process has written: a write at the known seq would be refused
        checkpoint_id = get_checkpoint_id(config) or latest_id(tree)
        if checkpoint_id is None:
            return None
        found = found_at(tree, namespace, checkpoint_id)
        if found is None:
            old = yield from self._reader.read_old(thread_id, namespace, checkpoint_id)
            found = found_at(old, namespace, checkpoint_id)
        return None if found is None else self._tuple_of(thread_id, found)

    def _delta_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Steps[Mapping[str, DeltaChannelHistory]]:
        thread_id, namespace = names_of(config)
        checkpoint_id = get_checkpoint_id(config)
        tree = yield from self._reader.read_with(thread_id, namespace, checkpoint_id)
        return delta_history(tree, checkpoint_id, channels, self.serde)

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: LangGraphCheckpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Steps[RunnableConfig]:
        names = names_of(config)
        values = checkpoint["channel_values"]
        rest = {name: value for name, value in checkpoint.items() if name != "channel_values"}
        stored = Checkpoint(
            get_checkpoint_id(config),
            self.serde.dumps_typed(rest),
            self.serde.dumps_typed(get_checkpoint_metadata(config, metadata)),
        )
        channels = {name: (version, values[name]) for name, version in new_versions.items() if name in values}
        yield from self._writer.put(names, checkpoint["id"], stored, channels)
        return config_of(*names, checkpoint["id"])

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Steps[None]:
        checkpoint_id = cast("str", get_checkpoint_id(config))
        yield from self._writer.put_writes(names_of(config), checkpoint_id, writes, task_id, task_path)

    def _tuple_of(self, thread_id: str, found: Found) -> CheckpointTuple:
        """Load what LangGraph wants to know of a checkpoint. Remembers its lists."""
        checkpoint: LangGraphCheckpoint = self.serde.loads_typed(found.stored.checkpoint)
        values: dict[str, Any] = {}
        for name, version in checkpoint["channel_versions"].items():
            if str(version) in found.versions.get(name, {}):
                channel = Channel(name, found.versions[name])
                values[name], items = channel.load(version, self.serde)
                self._known.remember(thread_id, found.namespace, name, items)
        parent = found.stored.parent
        return CheckpointTuple(
            config=config_of(thread_id, found.namespace, found.checkpoint_id),
            checkpoint={**checkpoint, "channel_values": values},
            metadata=self.serde.loads_typed(found.stored.metadata),
            parent_config=None if parent is None else config_of(thread_id, found.namespace, parent),
            pending_writes=[(task, write.channel, self.serde.loads_typed(write.value)) for task, write in found.writes],
        )

    # -- removing ----------------------------------------------------------------------------------------------------

    def _delete_thread(self, thread_id: str) -> Steps[None]:
        self._known.forget(thread_id, lists=True)
        path = self.path(thread_id)
        try:
            yield lambda: self._system.erase(path, rewrite=False)
        except AgentNotFound:
            return

    def _delete_for_runs(self, run_ids: Sequence[str]) -> Steps[None]:
        wanted = set(run_ids)

        def removal(live: Mapping[str, Tree], pages: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
            return {
                LIVE: {name: without_runs(tree, wanted, self.serde) for name, tree in live.items()},
                PAGES: {name: pages_without_runs(held, wanted) for name, held in pages.items()},
            }

        paths: Sequence[AgentPath] = (yield self._reader.agents) if wanted else ()
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
                    self._known.forget_all()
            except VersionConflict:
                if not tries_left:
                    raise
            except GONE:
                return
            else:
                return

    def _copy_thread(self, source_thread_id: str, target_thread_id: str) -> Steps[None]:
        yield lambda: self._system.fork(self.path(source_thread_id), to=self.path(target_thread_id))
