"""Who set this: the event that a value comes from, and what that event came from.

The fold is run over events in which every scalar is replaced by the seq of its event. What comes out is a tree of the
same form as the working memory, with the seq of the last setter in the place of each value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

from duramen.events import CorruptEvent, Event, InvalidMessage, PathNotFound, PlainData
from duramen.events.codec import RawEvent
from duramen.events.model import join_text

from ..recovery import AgentLog, StateFold, rebuild_base
from ..state import OWN_EVENT_TYPES, changed_paths, lookup, read_only, replace_scalars
from .causes import Causes
from .comparison import shown
from .timeline import headline

__all__ = ["Blame", "blame"]

_Path: TypeAlias = tuple[str, ...]


def _nobody() -> Mapping[str, Blame]:
    return {}


@frozen
class Blame:
    """Where a value comes from.

    `event` is the last one that set it, of a dict or list the last that set anything that is in it now; None where that
    was before the log was trimmed, with `seq` then the last that is gone. `causes` are the events it came from, nearest
    first; `tool` is the record of a tool's output (`tool_output`) of the same handling, or of the nearest cause that
    has one. `leaves` tells the same of each scalar and each empty container within, by its path.
    """

    agent: str
    path: str
    value: Any
    seq: int
    event: Event | None
    causes: tuple[Event, ...] = ()
    tool: Event | None = None
    leaves: Mapping[str, Blame] = field(factory=_nobody)

    @property
    def command_id(self) -> str | None:
        """Of the command that set it."""
        return None if self.event is None else self.event.command_id

    @property
    def session_id(self) -> str | None:
        """Of the session it was set in."""
        return None if self.event is None else self.event.session_id

    def __str__(self) -> str:
        lines = [f"{self.path or '(all)'}: {shown(self.value)}", f"  {self._set_by()}"]
        if self.tool is not None:
            lines.append(f"  from the output of tool {_name_of(self.tool)}, {self.tool.agent}@{self.tool.seq}")
        lines += [f"  caused by {cause.agent}@{cause.seq}: {headline(cause)}" for cause in self.causes]
        lines += [f"  {path}: {leaf.agent}@{leaf.seq}" for path, leaf in self.leaves.items()]
        return "\n".join(lines)

    def _set_by(self) -> str:
        if self.event is None:
            return f"set at {self.agent}@{self.seq} or before, which was trimmed"
        words = f"set by {self.agent}@{self.seq}: {headline(self.event)}, {self.event.time.isoformat()}"
        if self.session_id is not None:
            words += f", session {self.session_id}"
        return words if self.command_id is None else f"{words}, command {self.command_id}"

    def as_data(self) -> dict[str, Any]:
        """As plain data, with events by their ids."""
        return {
            "agent": self.agent,
            "path": self.path,
            "seq": self.seq,
            "type": None if self.event is None else self.event.type,
            "time": None if self.event is None else self.event.time,
            "command_id": self.command_id,
            "session_id": self.session_id,
            "tool": None if self.tool is None else f"{self.tool.agent}@{self.tool.seq}",
            "causes": [f"{cause.agent}@{cause.seq}" for cause in self.causes],
            "leaves": {path: leaf.seq for path, leaf in self.leaves.items()},
        }


def _name_of(tool: Event) -> str:
    data: PlainData = tool.data["data"]
    return str(data.get("tool", "(unnamed)")) if type(data) is dict else "(unnamed)"


def blame(agent_log: AgentLog, segments: _Path, *, to_seq: int, most: int) -> Blame:
    """Where what is at a path at `to_seq` comes from; reads the whole log. At most `most` leaves are told of.

    Raises PathNotFound, InvalidMessage for more leaves, and what reading raises.
    """
    agent = agent_log.agent
    setters, value = _setters(agent_log, to_seq, segments)
    found = list(islice(_leaves(segments, value, setters), most + 1))
    if len(found) > most:
        raise InvalidMessage(
            f"more than {most} values are at this path of {agent}; ask for a part of it, or for more",
            agent=agent,
            expected=most,
        )
    empty: dict[_Path, type[Any]] = {path: held.__class__ for path, held, seq in found if seq is None}
    emptied = _emptied(agent_log, to_seq, empty) if empty else {}
    causes = Causes(agent_log)

    def told(path: tuple[str, ...], held: Any, seq: int) -> Blame:
        event = causes.event(agent, seq)
        bare = Blame(agent, join_text(path), read_only(held), seq, event)
        if event is None:
            return bare
        chain = causes.causes(event)
        return evolve(bare, causes=chain, tool=causes.tool(event, chain))

    if type(value) not in (dict, list):
        return told(segments, value, setters)
    leaves: dict[str, Blame] = {}
    for path, held, seq in found:
        leaf = told(path, held, emptied[path] if seq is None else seq)
        leaves[leaf.path] = leaf
    if not value:
        return evolve(next(iter(leaves.values())), leaves={})
    latest = max(leaf.seq for leaf in leaves.values())
    return evolve(told(segments, value, latest), leaves=leaves)


def _setters(agent_log: AgentLog, to_seq: int, segments: _Path) -> tuple[Any, PlainData]:
    """What is at a path, and in the same form the seqs that it was set at."""
    agent, limits = agent_log.agent, agent_log.limits
    values, marks = (
        StateFold(agent, limits, None, rebuild_base(agent_log)),
        StateFold(agent, limits, None, rebuild_base(agent_log)),
    )
    state = marks.state
    state.memory = {key: replace_scalars(held, state.seq) for key, held in state.memory.items()}
    for seq, raw, digest in agent_log.events_after(state, to_seq):
        marked = _with_seq(agent, seq, raw)
        values.apply(raw, digest)
        marks.apply(marked, digest)
    return lookup(state.memory, segments), lookup(values.state.memory, segments)


def _with_seq(agent: str, seq: int, raw: RawEvent) -> RawEvent:
    """The event with its seq in the place of every scalar that it brings into working memory."""
    own = OWN_EVENT_TYPES.get(raw[0])
    if own is None or own.values is None:
        return raw
    try:
        return [*raw[:4], {**raw[4], own.values: own.replace_scalars(raw[4][own.values], seq)}, *raw[5:]]
    except (KeyError, TypeError, IndexError) as error:
        raise CorruptEvent(
            f"event {seq} of {agent} has data of another form ({type(error).__name__})", agent=agent, seq=seq
        ) from None


def _emptied(agent_log: AgentLog, to_seq: int, paths: Mapping[_Path, type[Any]]) -> dict[_Path, int]:
    """When each of these, which hold nothing at the end, came to be so: the tree of setters cannot tell."""
    fold = StateFold(agent_log.agent, agent_log.limits, None, rebuild_base(agent_log))
    state = fold.state
    found = dict.fromkeys(paths, state.seq)
    under: dict[_Path, list[_Path]] = {}
    for path in paths:
        for length in range(len(path) + 1):
            under.setdefault(path[:length], []).append(path)
    for seq, raw, digest in agent_log.events_after(state, to_seq):
        concerned: set[_Path] = set()
        for changed in changed_paths(agent_log.agent, seq, raw):
            concerned.update(under.get(changed.segments, ()))
            segments = changed.segments
            concerned.update(segments[:length] for length in range(len(segments)) if segments[:length] in paths)
        before = {path for path in concerned if _is_empty(state.memory, path, paths[path])}
        fold.apply(raw, digest)
        for path in concerned - before:
            if _is_empty(state.memory, path, paths[path]):
                found[path] = seq
    return found


def _is_empty(memory: dict[str, Any], path: _Path, kind: type[Any]) -> bool:
    try:
        held = lookup(memory, path)
    except PathNotFound:
        return False
    return type(held) is kind and not held


def _leaves(path: _Path, value: PlainData, setters: Any) -> Iterator[tuple[_Path, Any, int | None]]:
    """Path, value and seq of every scalar; of an empty container no seq."""
    if type(value) is dict and value:
        for key, held in value.items():
            yield from _leaves((*path, key), held, setters[key])
    elif type(value) is list and value:
        for index, held in enumerate(value):
            yield from _leaves((*path, str(index)), held, setters[index])
    else:
        yield path, value, None if type(value) in (dict, list) else setters
