"""Strategies for whole consistent logs of one agent: sessions, pauses, memory, activity, and the user's events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from duramen.events import Event, EventRegistry, Granularity, PlainData
from duramen.events.model import (
    ACTIVITY_RECORDED,
    CHILD_SPAWNED,
    DECLARED,
    EXPIRED,
    FAILED,
    GRANULARITY_SET,
    MEMORY_APPENDED,
    MEMORY_DELETED,
    MEMORY_MERGED,
    MEMORY_SET,
    RESTARTED,
)

from ...recorded import StoredLog
from ...state import PAUSED_STATUS, RUNNING
from .events import Dumped, OwnFields, Types, own_events
from .log_author import AGENT, Author
from .paths import NAMES, paths
from .values import values

_KINDS: Final = ("note", "tool_output", "completion")
_CHECKPOINTS: Final = ("x", "y")

Step = Callable[[Author], None]
"""Writes the next events of a log, if the state allows them."""


def _when(status: str, step: Step) -> Step:
    return lambda author: step(author) if author.state.status == status else None


def _writes(kind: str, data: dict[str, Any], level: int = Granularity.STATE, version: int = 1) -> Step:
    return _when(RUNNING, lambda author: author.write(kind, data, level, version))


def _set(path: str, value: PlainData) -> Step:
    return _writes(MEMORY_SET, {"path": path, "value": value})


def _append(path: str, value: PlainData) -> Step:
    return _writes(MEMORY_APPENDED, {"path": path, "values": [value]})


def _merge(path: str, patch: PlainData) -> Step:
    return _writes(MEMORY_MERGED, {"path": path, "patch": patch})


def _delete(path: str) -> Step:
    return _writes(MEMORY_DELETED, {"path": path})


def _delete_one(number: int) -> Step:
    return _when(RUNNING, lambda author: author.delete_one(number))


def _record(kind: str, data: PlainData, level: int) -> Step:
    return _writes(ACTIVITY_RECORDED, {"kind": kind, "data": data}, level)


def _memory_steps() -> SearchStrategy[Step]:
    names, value = st.sampled_from(NAMES), values(st.sampled_from(NAMES), max_leaves=5)
    written = paths()
    return st.one_of(
        st.builds(_set, names, value),  # never refused, so that other steps find items
        st.builds(_set, written, value),
        st.builds(_append, written, value),
        st.builds(_merge, written | st.just(""), value),
        st.builds(_delete, written),
        st.builds(_delete_one, st.integers(0, 9)),
    )


def _activity_steps() -> SearchStrategy[Step]:
    kinds, levels = st.sampled_from(_KINDS), st.sampled_from((3, 4))
    recorded = values(st.sampled_from(("tool", "tokens_used", "usage", *NAMES)), max_leaves=4)
    usual = st.fixed_dictionaries({"tool": st.sampled_from(("search", "read")), "tokens_used": st.integers(0, 99)})
    return st.builds(_record, kinds, recorded | usual, levels)


def _lifecycle_steps() -> SearchStrategy[Step]:
    names, flags = st.sampled_from(_CHECKPOINTS), st.booleans()
    memory = st.dictionaries(st.sampled_from(NAMES), values(st.sampled_from(NAMES), max_leaves=3), max_size=2)
    days = st.sampled_from((None, 7))

    def pause(name: str, ttl: int | None, back: bool) -> Step:
        def both(author: Author) -> None:
            author.pause(name, ttl)
            if back:
                author.resume(name, clear=True)

        return _when(RUNNING, both)

    def resume(name: str, clear: bool, status: str) -> Step:
        return _when(status, lambda author: author.resume(name, clear))

    def end(keep: bool, clear: bool, again: dict[str, Any], status: str) -> Step:
        def both(author: Author) -> None:
            author.terminate(keep, clear)
            author.spawn(again)

        return _when(status, both)

    def there_and_back(name: str, key: str, clear: bool) -> Step:
        return _when(RUNNING, lambda author: author.there_and_back(name, key, clear))

    alive = st.sampled_from((RUNNING, PAUSED_STATUS))

    def fail(author: Author) -> None:
        author.write(FAILED, {"error": "ValueError"}, Granularity.LIFECYCLE)
        author.write(RESTARTED, {}, Granularity.LIFECYCLE)

    def expire(author: Author) -> None:
        author.write(EXPIRED, {}, Granularity.LIFECYCLE)
        author.spawn({})

    adopts = _writes(CHILD_SPAWNED, {"path": f"{AGENT}/child", "outlives": False}, Granularity.LIFECYCLE)
    coarser = _writes(GRANULARITY_SET, {"level": "trace", "levels": {"note": "activity"}})
    return st.one_of(
        st.builds(pause, names, days, flags),
        st.builds(there_and_back, names, st.sampled_from(NAMES), flags),
        st.builds(resume, names, flags, st.just(PAUSED_STATUS)),
        st.builds(resume, names, flags, alive),
        st.builds(end, flags, flags, memory, alive),
        st.sampled_from((adopts, coarser, _when(RUNNING, fail), _when(RUNNING, expire))),
    )


def _own_steps(found: SearchStrategy[Dumped]) -> SearchStrategy[Step]:
    """Steps that write the user's events."""
    return found.map(lambda event: _writes(event.type, event.data, Granularity.STATE, event.version))


def _accompanied(step: Step, command: str | None, late: int, metadata: dict[str, Any] | None) -> Step:
    def both(author: Author) -> None:
        author.command, author.late, author.metadata = command, late, metadata
        step(author)

    return both


def stored_logs(
    registry: EventRegistry = DECLARED,
    types: Types | None = None,
    *,
    fields: OwnFields | None = None,
    own: SearchStrategy[Dumped] | None = None,
    max_steps: int = 20,
) -> SearchStrategy[StoredLog]:
    """As `logs`, with the stored bytes."""
    kinds: list[SearchStrategy[Step]] = [_memory_steps(), _activity_steps(), _lifecycle_steps()]
    if own is not None or registry.types():
        custom = _own_steps(own_events(registry, types, fields=fields) if own is None else own)
        kinds = [custom, *kinds, custom]  # hypothesis shrinks towards the first
    commands = st.none() | st.sampled_from(("c-1", "c-2", "c-3"))
    late = st.just(0) | st.integers(-10_000_000, 10_000_000)
    metadata = st.none() | st.just({"model": "m"})
    steps = st.builds(_accompanied, st.one_of(kinds), commands, late, metadata)
    memory = st.dictionaries(st.sampled_from(NAMES), values(st.sampled_from(NAMES), max_leaves=3), max_size=2)

    def write(initial: dict[str, Any], taken: Iterable[Step]) -> StoredLog:
        author = Author()
        author.spawn(initial)
        for step in taken:
            step(author)
        return StoredLog(tuple(author.items), AGENT, registry)

    return st.builds(write, memory, st.lists(steps, max_size=max_steps))


def logs(
    registry: EventRegistry = DECLARED,
    types: Types | None = None,
    *,
    fields: OwnFields | None = None,
    max_steps: int = 20,
) -> SearchStrategy[list[Event]]:
    """Whole logs of one agent, from its first `spawned` on, that a system could have written.

    Items are set before they change, paused agents have no mutations, and resumes use existing checkpoints; writers'
    clocks go back now and then. `registry`, `types` and `fields` choose the user's events, as for `instances`.
    """
    found = stored_logs(registry, types, fields=fields, max_steps=max_steps)
    return found.map(lambda log: log.events())
