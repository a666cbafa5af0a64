"""What a config names: a thread, a namespace and checkpoints of it, wherever they are. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from attrs import frozen
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import get_checkpoint_id

from duramen.events import InvalidMessage

from .archive import seqs_of
from .tree import Tree


class Names(NamedTuple):
    """What a config names."""

    thread_id: str
    namespace: str


def names_of(config: RunnableConfig) -> Names:
    """Thread id and namespace. Raises InvalidMessage for a config without a thread."""
    configurable = config.get("configurable", {})
    if "thread_id" not in configurable:
        raise InvalidMessage("the config names no thread; give it {'configurable': {'thread_id': …}}")
    return Names(str(configurable["thread_id"]), configurable.get("checkpoint_ns") or "")


@frozen
class Place:
    """Where a checkpoint is read: at a seq of the log; None: in working memory."""

    namespace: str
    checkpoint_id: str
    seq: int | None


def places_of(
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


def config_of(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}
