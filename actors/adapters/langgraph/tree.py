"""What a namespace of a thread holds: its checkpoints, chosen, followed and removed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen
from langgraph.checkpoint.base import DeltaChannelHistory, writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol

from .thread import Channel, Checkpoint, Write

Tree = Mapping[str, Any]
"""A namespace as it stands in working memory."""


@frozen
class Found:
    """A checkpoint, the stored versions of all channels, and its pending writes by task, in LangGraph's order."""

    namespace: str
    checkpoint_id: str
    stored: Checkpoint
    versions: Mapping[str, Mapping[str, Any]]
    writes: list[tuple[str, Write]]


def latest_id(tree: Tree) -> str | None:
    """The id of the latest checkpoint: ids grow with time."""
    return max(tree.get("checkpoints", ()), default=None)


def found_at(tree: Tree, namespace: str, checkpoint_id: str) -> Found | None:
    """A checkpoint by its id."""
    leaf = tree.get("checkpoints", {}).get(checkpoint_id)
    if leaf is None:
        return None
    return Found(namespace, checkpoint_id, Checkpoint.read(leaf), tree.get("blobs", {}), writes_of(tree, checkpoint_id))


def writes_of(tree: Tree, checkpoint_id: str) -> list[tuple[str, Write]]:
    """The pending writes of a checkpoint, each with its task, in the order in which a run applies them."""
    stored = [
        (task, int(index), Write.read(leaf))
        for task, writes in tree.get("writes", {}).get(checkpoint_id, {}).items()
        for index, leaf in writes.items()
    ]
    stored.sort(key=lambda each: writes_sort_key(each[2].task_path, each[0], each[1]))
    return [(task, write) for task, _, write in stored]


def matches(found: Found, wanted: Mapping[str, Any] | None, serde: SerializerProtocol) -> bool:
    """Whether the metadata of a checkpoint have the values of a filter."""
    if not wanted:
        return True
    metadata = serde.loads_typed(found.stored.metadata)
    return all(metadata.get(key) == value for key, value in wanted.items())


def delta_history(
    tree: Tree, checkpoint_id: str | None, channels: Sequence[str], serde: SerializerProtocol
) -> dict[str, DeltaChannelHistory]:
    """What was written to channels since the nearest ancestor that has their value, and that value."""
    result: dict[str, DeltaChannelHistory] = {name: {"writes": []} for name in channels}
    remaining = set(channels)
    for ancestor in ancestors_of(tree, checkpoint_id or latest_id(tree)):
        if not remaining:
            break
        for task, write in reversed(writes_of(tree, ancestor)):
            if write.channel in remaining:
                result[write.channel]["writes"].append((task, write.channel, serde.loads_typed(write.value)))
        versions = versions_of(tree, ancestor, serde)
        for name in [name for name in remaining if _has_value(tree, name, versions)]:
            result[name]["seed"] = Channel(name, tree["blobs"][name]).load(versions[name], serde)[0]
            remaining.discard(name)
    for history in result.values():
        history["writes"].reverse()
    return result


def ancestors_of(tree: Tree, checkpoint_id: str | None) -> Iterator[str]:
    """The ids of the checkpoints before one, newest first, as far as they are there."""
    checkpoints = tree.get("checkpoints", {})
    while checkpoint_id is not None and checkpoint_id in checkpoints:
        checkpoint_id = Checkpoint.read(checkpoints[checkpoint_id]).parent
        if checkpoint_id is not None and checkpoint_id in checkpoints:
            yield checkpoint_id


def versions_of(tree: Tree, checkpoint_id: str, serde: SerializerProtocol) -> Mapping[str, Any]:
    """The version of each channel at a checkpoint."""
    stored = Checkpoint.read(tree["checkpoints"][checkpoint_id])
    versions: Mapping[str, Any] = serde.loads_typed(stored.checkpoint)["channel_versions"]
    return versions


def _has_value(tree: Tree, channel: str, versions: Mapping[str, Any]) -> bool:
    return channel in versions and str(versions[channel]) in tree.get("blobs", {}).get(channel, {})


# -- removing ----------------------------------------------------------------------------------------------------------


def without_runs(tree: Tree, run_ids: Collection[str], serde: SerializerProtocol) -> dict[str, Any]:
    """The merge patch that removes the checkpoints of runs, and what only they need; empty if there are none."""
    kept = {
        checkpoint_id
        for checkpoint_id, leaf in tree.get("checkpoints", {}).items()
        if serde.loads_typed(Checkpoint.read(leaf).metadata).get("run_id") not in run_ids
    }
    return keep_only(tree, kept, serde)


def without_older(tree: Tree, serde: SerializerProtocol) -> dict[str, Any]:
    """The merge patch that removes all checkpoints but the latest, and those that its delta channels need."""
    latest = latest_id(tree)
    kept = [] if latest is None else [latest]
    return keep_only(tree, with_delta_ancestors(tree, kept, serde), serde)


def with_delta_ancestors(tree: Tree, kept: Collection[str], serde: SerializerProtocol) -> set[str]:
    """Checkpoints with the ancestors from which their delta channels are rebuilt."""
    needed = set(kept)
    for checkpoint_id in kept:
        metadata = serde.loads_typed(Checkpoint.read(tree["checkpoints"][checkpoint_id]).metadata)
        versions = versions_of(tree, checkpoint_id, serde)
        deltas: Iterable[str] = metadata.get("counters_since_delta_snapshot", ())
        remaining = {name for name in deltas if not _has_value(tree, name, versions)}
        for ancestor in ancestors_of(tree, checkpoint_id) if remaining else ():
            needed.add(ancestor)
            versions = versions_of(tree, ancestor, serde)
            remaining = {name for name in remaining if not _has_value(tree, name, versions)}
            if not remaining:
                break
    return needed


def keep_only(tree: Tree, kept: Collection[str], serde: SerializerProtocol) -> dict[str, Any]:
    """The merge patch that leaves these checkpoints, their writes, and the values that they need."""
    gone = [checkpoint_id for checkpoint_id in tree.get("checkpoints", ()) if checkpoint_id not in kept]
    if not gone:
        return {}
    needed: set[tuple[str, str]] = set()
    for checkpoint_id in kept:
        for name, version in versions_of(tree, checkpoint_id, serde).items():
            channel = Channel(name, tree.get("blobs", {}).get(name, {}))
            needed.update((name, key) for key in channel.bases(version))
    blobs = {
        name: removed
        for name, versions in tree.get("blobs", {}).items()
        if (removed := {key: None for key in versions if (name, key) not in needed})
    }
    writes = {checkpoint_id: None for checkpoint_id in tree.get("writes", ()) if checkpoint_id not in kept}
    return {"checkpoints": dict.fromkeys(gone), "blobs": blobs, "writes": writes}
