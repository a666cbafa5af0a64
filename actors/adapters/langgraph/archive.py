"""Checkpoints that have left working memory: they are in the log, and read at a seq at which they were there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from attrs import frozen
from langgraph.checkpoint.serde.base import SerializerProtocol

import msgpack

from ..common import Leaf, join_parts
from .thread import LIVE, PAGES, Channel, Checkpoint
from .tree import Tree, keep_only, versions_of, with_delta_ancestors

MOST: Final = 96
"""Checkpoints of a namespace in working memory, at which the oldest of them leave it."""
KEPT: Final = 32


@frozen
class Page:
    """Checkpoints that left together, after the event at `seq`: the ids, with those of their runs."""

    seq: int
    runs: Mapping[str, str | None]

    @classmethod
    def all_of(cls, pages: Mapping[str, Any]) -> list[Page]:
        """The pages of a namespace, oldest first."""
        return [cls(int(key), msgpack.unpackb(join_parts(pages[key]))) for key in sorted(pages, key=int)]

    def pack(self) -> bytes:
        return msgpack.packb(dict(self.runs))


def seqs_of(pages: Mapping[str, Any]) -> dict[str, int]:
    """The seq at which each checkpoint that has left is read, by id."""
    found: dict[str, int] = {}
    for page in Page.all_of(pages):
        found |= dict.fromkeys(page.runs, page.seq)
    return found


@frozen
class Departure:
    """What the oldest checkpoints of a namespace leave behind, and the merge patch that removes them."""

    page: Leaf
    merged: list[Leaf]
    """Parts of lists, each in the place of those that were added one by one."""
    removed: dict[str, Any]
    removed_if_not_merged: dict[str, Any]


def departure_of(namespace: str, tree: Tree, seq: int, serde: SerializerProtocol) -> Departure | None:
    """What it takes to let all but the latest checkpoints leave; None if all of them are still needed."""
    checkpoints = tree.get("checkpoints", {})
    kept = with_delta_ancestors(tree, sorted(checkpoints)[-KEPT:], serde)
    gone = [checkpoint_id for checkpoint_id in checkpoints if checkpoint_id not in kept]
    if not gone:
        return None
    runs = {
        checkpoint_id: serde.loads_typed(Checkpoint.read(checkpoints[checkpoint_id]).metadata).get("run_id")
        for checkpoint_id in gone
    }
    merged = dict(_merged_links(tree, min(kept), serde))
    blobs = tree.get("blobs", {})
    changed = {name: {**blobs[name], key: content} for name, (key, content) in merged.items()}
    return Departure(
        ((PAGES, namespace, str(seq)), Page(seq, runs).pack()),
        [((LIVE, namespace, "blobs", name, key), content) for name, (key, content) in merged.items()],
        keep_only({**tree, "blobs": {**blobs, **changed}}, kept, serde),
        keep_only(tree, kept, serde),
    )


def _merged_links(tree: Tree, oldest: str, serde: SerializerProtocol) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """By channel, the version that a checkpoint's list adds to, with all that was added before in one."""
    for name, version in versions_of(tree, oldest, serde).items():
        channel = Channel(name, tree.get("blobs", {}).get(name, {}))
        merged = channel.merge_links(version)
        if merged is not None:
            yield name, merged


def leaves_to_restore(
    namespace: str, tree: Tree, old: Tree, checkpoint_id: str, serde: SerializerProtocol
) -> list[Leaf]:
    """What of a checkpoint that has left is not in working memory, the checkpoint itself last."""
    leaves: list[Leaf] = []
    for name, version in versions_of(old, checkpoint_id, serde).items():
        there: Mapping[str, Any] = tree.get("blobs", {}).get(name, {})
        channel = Channel(name, old.get("blobs", {}).get(name, {}))
        leaves += (
            ((LIVE, namespace, "blobs", name, key), join_parts(channel.versions[key]))
            for key in channel.bases(version)
            if key not in there
        )
    for task, writes in old.get("writes", {}).get(checkpoint_id, {}).items():
        leaves += (
            ((LIVE, namespace, "writes", checkpoint_id, task, index), join_parts(content))
            for index, content in writes.items()
        )
    return [*leaves, ((LIVE, namespace, "checkpoints", checkpoint_id), join_parts(old["checkpoints"][checkpoint_id]))]


def pages_without_runs(pages: Mapping[str, Any], run_ids: Collection[str]) -> dict[str, Any]:
    """The merge patch of the pages that takes the checkpoints of runs out of them."""
    patch: dict[str, Any] = {}
    for page in Page.all_of(pages):
        left = {checkpoint_id: run for checkpoint_id, run in page.runs.items() if run not in run_ids}
        if len(left) < len(page.runs):
            patch[str(page.seq)] = Page(page.seq, left).pack() if left else None
    return patch
