"""States that know which event set each of their values, for readers that step through a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from itertools import compress, islice
from operator import is_not
from typing import Any, Final, TypeAlias, cast

from attrs import evolve, field, frozen

from duramen.events import Event, PlainData, property_segments
from duramen.events.codec import RawEvent, build_valid_event
from duramen.events.model import MEMORY_APPENDED, MEMORY_DELETED, MEMORY_RESTORED, PAUSED, RESUMED, same_value

from ..recovery import MISFITS, AgentLog, misfit, rebuild_base
from ..state import CONTAINERS, MISSING, OWN_EVENT_TYPES, AgentState, advance, copy_tree, find

_Path: TypeAlias = tuple[str, ...]
_Child: TypeAlias = "tuple[Any, Any] | None"

MOST_WRITES: Final = 200
"""Writes of one event below one container; with more, the container is given as written as a whole."""
_MOST_CHECKPOINTS: Final = 32
"""How many of the last checkpoints have their setters held."""


def _no_setters() -> Mapping[int, dict[str, Any]]:
    return {}


@frozen(eq=False, repr=False)
class TracedState:
    """A state with the setters of its values. Never changed: the next one shares what its event does not change.

    `setters` has the form of `state.memory`, with the seq of the event that set it in the place of each scalar. What
    the base of a trimmed log holds has the seq of the last event that was trimmed. What a resume has brought back has
    its setter from before, if its checkpoint is one of the last 32; else the resume's. Empty containers have no setter.
    """

    state: AgentState
    setters: dict[str, Any]
    at_checkpoints: Mapping[int, dict[str, Any]] = field(factory=_no_setters)
    """The setters at the last checkpoints, by the seqs of these."""
    restored: frozenset[int] = frozenset()
    """The events with which a resume, whose own event is the next one, has brought values back."""

    @property
    def seq(self) -> int:
        return self.state.seq

    @property
    def memory(self) -> dict[str, PlainData]:
        return self.state.memory


@frozen(eq=False, repr=False)
class Write:
    """A value that an event brought to a path of working memory; MISSING where it took one away.

    `setters` is the seq that set a scalar: the event's own, or an older one where a list's elements have moved up. Of a
    container, it has the container's form.
    """

    path: _Path
    value: Any
    setters: Any
    is_new: bool = False
    """Whether nothing was at the path before."""


def traced_base(agent_log: AgentLog) -> TracedState:
    """The state that a log begins with: empty, or the base of a trimmed or forked one. Raises what reading raises."""
    state = rebuild_base(agent_log).state
    return TracedState(evolve(state, commands={}), _mark(state.memory, state.seq))


def traced_states(
    agent_log: AgentLog, start: TracedState, to_seq: int | None
) -> Iterator[tuple[RawEvent, TracedState]]:
    """Each event after `start` up to `to_seq`, with the state after it. Reads in pages.

    The raw event shares its data with no state. Raises what reading raises.
    """
    traced = start
    for seq, raw, digest in agent_log.events_after(start.state, to_seq):
        try:
            traced = _apply(traced, seq, raw, digest)
        except MISFITS as error:
            raise misfit(agent_log.agent, seq, error) from None
        yield raw, traced


def build_traced(agent_log: AgentLog, raw: RawEvent, traced: TracedState) -> Event:
    """The event that led to a state, for people. Raises UnknownEventType where it cannot be upcast."""
    return build_valid_event(agent_log.agent, traced.seq, raw, traced.state.digest, agent_log.registry)


def writes_between(before: TracedState, after: TracedState, raw: RawEvent | None = None) -> list[Write]:
    """What the event between two states has written, in the order of the tree. The states must be neighbours.

    With the event itself, `raw`, it looks only at what is at its path: other values of a large memory cost nothing.
    """
    own = None if raw is None else OWN_EVENT_TYPES.get(raw[0])
    if raw is not None and own is not None and own.is_edit:
        return _writes_at_path(before, after, raw)
    return _writes((), (before.memory, before.setters), (after.memory, after.setters))


def _writes_at_path(before: TracedState, after: TracedState, raw: RawEvent) -> list[Write]:
    """What an event has written that changes what is at its path, and nothing else."""
    path = property_segments(raw[4]["path"])
    old: tuple[Any, Any] = before.memory, before.setters
    new: tuple[Any, Any] = after.memory, after.setters
    for depth, segment in enumerate(path):
        kind = cast("type[Any]", type(new[0]))
        is_last = depth == len(path) - 1
        if kind not in CONTAINERS or kind is not type(old[0]):
            return _writes(path[:depth], old, new)
        if kind is list and is_last and raw[0] == MEMORY_DELETED:  # the elements after it have moved up
            return _writes(path[:depth], old, new)
        was, now = _child(old, segment), _child(new, segment)
        if now is None:
            return [Write(path[: depth + 1], MISSING, MISSING)]
        if was is None:
            return [Write(path[: depth + 1], now[0], now[1], is_new=True)]
        old, new = was, now
    if raw[0] == MEMORY_APPENDED and type(old[0]) is type(new[0]) is list:
        first, end = len(cast("list[Any]", old[0])), len(cast("list[Any]", new[0]))
        if end - first <= MOST_WRITES:
            return [Write((*path, str(at)), new[0][at], new[1][at], is_new=True) for at in range(first, end)]
    return _writes(path, old, new)


def _child(of: tuple[Any, Any], segment: str) -> _Child:
    """The value one segment below a container, with its setters; None where there is none."""
    if type(of[0]) is dict:
        held = cast("dict[str, Any]", of[0])
        return (held[segment], of[1][segment]) if segment in held else None
    at = int(segment)
    return (of[0][at], of[1][at]) if at < len(of[0]) else None


def _apply(traced: TracedState, seq: int, raw: RawEvent, digest: bytes) -> TracedState:
    own = OWN_EVENT_TYPES.get(raw[0])
    state = traced.state.copy()
    if own is None or own.changed_paths is None:
        advance(state, _without_command(raw, raw[4]), digest, 1)
        return _pass_checkpoint(evolve(traced, state=state), seq, raw)
    state.memory = own.copy_changed(traced.memory, raw[4])
    advance(state, _without_command(raw, copy_tree(raw[4])), digest, 1)
    if state.memory is traced.memory:
        return evolve(traced, state=state)
    data = raw[4]
    if own.values is not None:
        data = {**data, own.values: own.replace_scalars(data[own.values], seq)}
    marked = AgentState()
    marked.memory = own.copy_changed(traced.setters, raw[4])
    advance(marked, _without_command(raw, data), digest, 1)
    restored = traced.restored | {seq} if raw[0] == MEMORY_RESTORED else traced.restored
    return evolve(traced, state=state, setters=marked.memory, restored=restored)


def _pass_checkpoint(traced: TracedState, seq: int, raw: RawEvent) -> TracedState:
    """Hold the setters at a checkpoint; give what a resume has brought back those that it had there."""
    if raw[0] == PAUSED:
        last = islice(traced.at_checkpoints.items(), max(0, len(traced.at_checkpoints) - _MOST_CHECKPOINTS + 1), None)
        return evolve(traced, at_checkpoints={**dict(last), seq: traced.setters})
    if raw[0] != RESUMED or not traced.restored:
        return traced
    before = traced.at_checkpoints.get(raw[4].get("checkpoint_seq"))
    setters = traced.setters if before is None else _carry((), traced.setters, before, traced.restored)
    return evolve(traced, setters=setters, restored=frozenset[int]())


def _carry(path: _Path, setters: Any, before: dict[str, Any], restored: Set[int]) -> Any:
    """The setters with those from before a resume in the places of the events with which it brought values back."""
    if type(setters) is dict:
        held = cast("dict[str, Any]", setters)
        return {key: _carry((*path, key), each, before, restored) for key, each in held.items()}
    if type(setters) is list:
        listed = enumerate(cast("list[Any]", setters))
        return [_carry((*path, str(at)), each, before, restored) for at, each in listed]
    found = find(before, path) if setters in restored else setters
    return found if type(found) is int else setters


def _without_command(raw: RawEvent, data: Any) -> RawEvent:
    return [*raw[:4], data, raw[5], None, *raw[7:]]


def _mark(value: Any, seq: int) -> Any:
    if type(value) is dict:
        return {key: _mark(held, seq) for key, held in cast("dict[str, Any]", value).items()}
    if type(value) is list:
        return [_mark(held, seq) for held in cast("list[Any]", value)]
    return seq


def _writes(path: _Path, old: tuple[Any, Any], new: tuple[Any, Any]) -> list[Write]:
    if old[0] is new[0] and old[1] is new[1]:
        return []
    kind = cast("type[Any]", type(new[0]))
    if kind is not type(old[0]) or kind not in CONTAINERS:
        return [] if _is_same(old, new) else [Write(path, *new)]
    found: list[Write] = []
    for segment, before, after in _children(old, new, kind):
        if after is None:
            found.append(Write((*path, segment), MISSING, MISSING))
        elif before is None:
            found.append(Write((*path, segment), *after, is_new=True))
        else:
            found += _writes((*path, segment), before, after)
        if len(found) > MOST_WRITES:
            return [Write(path, *new)]
    return found


def _children(old: tuple[Any, Any], new: tuple[Any, Any], kind: type) -> Iterator[tuple[str, _Child, _Child]]:
    """Each child that may differ, with value and setters before and after; None where there is none.

    Elements that are gone come last to first, as a list can lose them.
    """
    if kind is dict:
        values, setters = old
        for key in [key for key in values if key not in new[0]]:
            yield key, (values[key], setters[key]), None
        for key, value in new[0].items():
            if key not in values:
                yield key, None, (value, new[1][key])
            elif values[key] is not value or setters[key] is not new[1][key]:
                yield key, (values[key], setters[key]), (value, new[1][key])
        return
    common = min(len(old[0]), len(new[0]))
    # Without a step of the interpreter for each element: most events append to a list that is long.
    differs = map(bool.__or__, map(is_not, old[0], new[0]), map(is_not, old[1], new[1]))
    for index in compress(range(common), differs):
        yield str(index), (old[0][index], old[1][index]), (new[0][index], new[1][index])
    for index in reversed(range(common, len(old[0]))):
        yield str(index), (old[0][index], old[1][index]), None
    for index in range(common, len(new[0])):
        yield str(index), None, (new[0][index], new[1][index])


def _is_same(old: tuple[Any, Any], new: tuple[Any, Any]) -> bool:
    return bool(old[1] == new[1] and same_value(old[0], new[0]))
