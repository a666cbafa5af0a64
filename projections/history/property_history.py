"""The history of a property: every event that changed the value at a path."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from attrs import frozen

from duramen.events import Event, PathNotFound
from duramen.events.codec import build_event
from duramen.events.model import same_value

from ..recovery import AgentLog, Rebuilt, StateFold
from ..state import MISSING, ChangedPath, changed_paths, copy_tree, lookup, read_only
from .fork import Origin, available_origin, rebuild_start


@frozen
class PropertyChange:
    """An event, and the value at a path before and after it: read-only, or MISSING. Unpacks into the three."""

    event: Event
    old: Any
    new: Any

    def __iter__(self) -> Iterator[Any]:
        return iter((self.event, self.old, self.new))


def property_history(agent_log: AgentLog, segments: tuple[str, ...]) -> Iterator[PropertyChange]:
    """Every change of the value at a path, oldest first, as far as the log was not trimmed.

    That of a fork begins with the changes in its origin, up to where the fork begins, if these are still there. A path
    into a list names a position: its value changes, too, when an element before it is deleted. Raises AgentNotFound,
    CorruptEvent; while iterating also what reading raises.
    """
    parts: list[tuple[AgentLog, Origin | None, int]] = []
    origin, log, to_seq = available_origin(agent_log), agent_log, agent_log.head().seq
    while origin is not None:
        if origin.seq < to_seq:
            parts.append((log, origin, to_seq))
        log, to_seq = agent_log.of(origin.agent), min(to_seq, origin.seq)
        origin = available_origin(log)
    parts.append((log, None, to_seq))
    return chain.from_iterable(
        _changes(log, segments, rebuild_start(log, origin), to_seq) for log, origin, to_seq in reversed(parts)
    )


def _changes(agent_log: AgentLog, segments: tuple[str, ...], start: Rebuilt, to_seq: int) -> Iterator[PropertyChange]:
    """The changes after `start`, a state that the fold then owns."""
    fold = StateFold(agent_log.agent, agent_log.limits, None, start)
    old = _at(fold, segments)
    for seq, raw, digest in agent_log.events_after(fold.state, to_seq):
        if not any(_concerns(changed, segments) for changed in changed_paths(agent_log.agent, seq, raw)):
            fold.apply(raw, digest)
            continue
        kept = copy_tree(raw[4])
        fold.apply(raw, digest)
        new = _at(fold, segments)
        if not _same(old, new):
            event = build_event(agent_log.agent, seq, [*raw[:4], kept, *raw[5:]], digest, agent_log.registry)
            yield PropertyChange(event, read_only(old), read_only(new))
        old = new


def _at(fold: StateFold, segments: tuple[str, ...]) -> Any:
    try:
        return copy_tree(lookup(fold.state.memory, segments))
    except PathNotFound:
        return MISSING


def _concerns(changed: ChangedPath, segments: tuple[str, ...]) -> bool:
    """Whether the change may reach the value at the path. It may be true of one that does not."""
    length = min(len(changed.segments), len(segments))
    return changed.segments[:length] == segments[:length]


def _same(old: Any, new: Any) -> bool:
    if old is MISSING or new is MISSING:
        return old is new
    return same_value(old, new)
