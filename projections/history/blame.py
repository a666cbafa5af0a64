"""Blame: the event that set a value, and the causes of that event.

`Marks` have what set each value, and what carried it: a resume that has brought it back, a fork that began with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

from duramen.events import Event, InvalidMessage, PlainData
from duramen.events.model import join_text

from ..recovery import AgentLog
from ..state import lookup, read_only
from .causes import Causes
from .comparison import shown
from .marks import Carried, InOrigin, Mark, Marks
from .stored_marks import MarkReader
from .timeline import headline

_Path: TypeAlias = tuple[str, ...]


def _no_leaves() -> Mapping[str, Blame]:
    return {}


@frozen
class Blame:
    """The origin of a value.

    `event` set the value; of a dict or list, it is the last that set a value in it. It is None if it was trimmed: `seq`
    is then the last trimmed one. A resume only brings values back, and a fork begins with those of its origin: `event`
    is from before, in a fork's case from the log of its origin, and `carried_by` has the `resumed` and `forked` events
    between, latest first. `causes` are the causes of `event`, nearest first; `tool` is the record of a tool's output
    (`tool_output`) of the same handling, or of the nearest cause that has one. `leaves` has a Blame of each scalar and
    each empty container within, by its path.
    """

    agent: str
    """The agent whose log has `event`."""
    path: str
    value: Any
    seq: int
    event: Event | None
    causes: tuple[Event, ...] = ()
    tool: Event | None = None
    leaves: Mapping[str, Blame] = field(factory=_no_leaves)
    carried_by: tuple[Event, ...] = ()

    @property
    def command_id(self) -> str | None:
        """The command that set it."""
        return None if self.event is None else self.event.command_id

    @property
    def session_id(self) -> str | None:
        """The session it was set in."""
        return None if self.event is None else self.event.session_id

    def __str__(self) -> str:
        lines = [f"{self.path or '(all)'}: {shown(self.value)}", f"  {self._set_by()}"]
        if self.tool is not None:
            lines.append(f"  from the output of tool {_name_of(self.tool)}, {self.tool.agent}@{self.tool.seq}")
        lines += [f"  carried by {each.agent}@{each.seq}: {headline(each)}" for each in self.carried_by]
        lines += [f"  caused by {cause.agent}@{cause.seq}: {headline(cause)}" for cause in self.causes]
        lines += [f"  {path}: {leaf.agent}@{leaf.seq}" for path, leaf in self.leaves.items()]
        return "\n".join(lines)

    def _set_by(self) -> str:
        if self.event is None:
            return f"set at {self.agent}@{self.seq} or before, which was trimmed"
        words = (
            f"set by {self.agent}@{self.seq}: {headline(self.event)}, {self.event.time.astimezone():%Y-%m-%d %H:%M:%S}"
        )
        if self.session_id is not None:
            words += f", session {self.session_id}"
        return words if self.command_id is None else f"{words}, command {self.command_id}"

    def as_data(self) -> dict[str, Any]:
        """A copy as plain data, with events by their ids."""
        return {
            "agent": self.agent,
            "property": self.path,
            "seq": self.seq,
            "type": None if self.event is None else self.event.type,
            "time": None if self.event is None else self.event.time,
            "command_id": self.command_id,
            "session_id": self.session_id,
            "tool": None if self.tool is None else f"{self.tool.agent}@{self.tool.seq}",
            "causes": [f"{cause.agent}@{cause.seq}" for cause in self.causes],
            "carried_by": [f"{each.agent}@{each.seq}" for each in self.carried_by],
            "leaves": {path: leaf.seq for path, leaf in self.leaves.items()},
        }


def _name_of(tool: Event) -> str:
    data: PlainData = tool.data["data"]
    return str(data.get("tool", "(unnamed)")) if type(data) is dict else "(unnamed)"


@frozen
class Setter:
    """The event that set a value, and the events that carried the value, latest first: each as agent and seq."""

    agent: str
    seq: int
    carried_by: tuple[tuple[str, int], ...] = ()


def blame(agent_log: AgentLog, segments: _Path, *, to_seq: int, most: int) -> Blame:
    """The Blame of the value at a path at `to_seq`, with at most `most` leaves.

    Reads the events after the last keyframe that has marks beside it, or all; see `MarkReader`. Raises PathNotFound,
    InvalidMessage for more leaves, and what reading raises.
    """
    traced = trace(agent_log, to_seq)
    value = lookup(traced.memory, segments)
    leaves = list(islice(_leaves(segments, value), most + 1))
    if len(leaves) > most:
        raise InvalidMessage(
            f"more than {most} values are at this path of {agent_log.agent}; ask for a part of it, or for more",
            agent=agent_log.agent,
            expected=most,
        )
    setters = traced.setters([path for path, _ in leaves])
    causes = Causes(agent_log)

    def blame_of(path: _Path, held: Any, setter: Setter) -> Blame:
        event = causes.event(setter.agent, setter.seq)
        carriers = (causes.event(*each) for each in setter.carried_by)
        found = Blame(
            setter.agent,
            join_text(path),
            read_only(held),
            setter.seq,
            event,
            carried_by=tuple(each for each in carriers if each is not None),
        )
        if event is None:
            return found
        chain = causes.causes(event)
        return evolve(found, causes=chain, tool=causes.tool(event, chain))

    found = [blame_of(path, held, setters[path]) for path, held in leaves]
    if leaves[0][0] == segments:
        return found[0]
    latest = max((setters[path] for path, _ in leaves), key=lambda setter: setter.seq)
    return evolve(blame_of(segments, value, latest), leaves={leaf.path: leaf for leaf in found})


@frozen(eq=False)
class Trace:
    """Working memory at a seq, and what has set each value of it."""

    agent_log: AgentLog
    reader: MarkReader
    memory: dict[str, Any]
    marks: Marks

    def setters(self, paths: Iterable[_Path]) -> dict[_Path, Setter]:
        """The setters of scalars and empty containers at their paths."""
        agent, base, origin = self.agent_log.agent, self.reader.base, self.reader.origin
        found: dict[_Path, Setter] = {}
        in_origin: dict[_Path, list[tuple[_Path, list[tuple[str, int]]]]] = {}
        for path in paths:
            carried_by: list[tuple[str, int]] = []
            mark = _without_carriers(agent, self.marks.find(path), base, carried_by)
            if isinstance(mark, InOrigin):
                carried_by.append((agent, base + 1))
                in_origin.setdefault(mark.path, []).append((path, carried_by))
            else:
                found[path] = Setter(agent, mark, tuple(carried_by))
        if in_origin and origin is not None:
            theirs = trace(self.agent_log.of(origin.agent), origin.seq).setters(in_origin)
            for path_there, heirs in in_origin.items():
                setter = theirs[path_there]
                for path, carried_by in heirs:
                    found[path] = evolve(setter, carried_by=(*carried_by, *setter.carried_by))
        return found


def trace(agent_log: AgentLog, seq: int) -> Trace:
    """The values at a seq and what has set them; before a fork, those of its origin. Raises what reading raises."""
    reader = MarkReader(agent_log)
    while reader.origin is not None and seq < reader.origin.seq:
        agent_log = agent_log.of(reader.origin.agent)
        reader = MarkReader(agent_log)
    marked = reader.read(seq)
    return Trace(agent_log, reader, marked.state.memory, marked.marks)


def _without_carriers(agent: str, mark: Mark, base: int, carried_by: list[tuple[str, int]]) -> int | InOrigin:
    """The mark from before any resume; adds those on the way. What was trimmed may be marked as if it were there."""
    while isinstance(mark, Carried) and mark.restored > base:
        if mark.checkpoint <= base:
            return mark.restored
        carried_by.append((agent, mark.by))
        mark = mark.before
    if isinstance(mark, InOrigin):
        return mark
    return max(mark, base) if isinstance(mark, int) else base


def _leaves(path: _Path, value: PlainData) -> Iterator[tuple[_Path, PlainData]]:
    """Path and value of every scalar and every empty container."""
    if type(value) is dict and value:
        for key, held in value.items():
            yield from _leaves((*path, key), held)
    elif type(value) is list and value:
        for index, held in enumerate(value):
            yield from _leaves((*path, str(index)), held)
    else:
        yield path, value
