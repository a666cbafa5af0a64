"""Blame: the event that set a value, and the causes of that event.

Events are folded with their seq in the place of every scalar. The result is a tree of the same form as the working
memory, which has the seq of its setter in the place of each value. A value that a resume has brought back, or that a
fork began with, has a negative number there instead: that of a `_Carried`, which leads to its setter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

from duramen.events import CorruptEvent, Event, InvalidMessage, PathNotFound, PlainData
from duramen.events.codec import RawEvent
from duramen.events.model import MEMORY_RESTORED, PAUSED, RESUMED, join_text

from ..recovery import AgentLog, StateFold, rebuild
from ..state import CONTAINERS, OWN_EVENT_TYPES, changed_paths, copy_tree, lookup, read_only
from .causes import Causes
from .comparison import shown
from .fork import Origin, available_origin, rebuild_start
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
class _Setter:
    """The event that set a value, and the events that carried the value, latest first: each as agent and seq."""

    agent: str
    seq: int
    carried_by: tuple[tuple[str, int], ...] = ()


@frozen
class _Carried:
    """A value that the event at `by` carried: from an earlier mark of the same log, or from a path in the origin's."""

    by: int
    before: int | _Path


def blame(agent_log: AgentLog, segments: _Path, *, to_seq: int, most: int) -> Blame:
    """The Blame of the value at a path at `to_seq`, with at most `most` leaves. Reads the whole log twice.

    Raises PathNotFound, InvalidMessage for more leaves, and what reading raises.
    """
    value = lookup(rebuild(agent_log, to_seq=to_seq).state.memory, segments)
    leaves = list(islice(_leaves(segments, value), most + 1))
    if len(leaves) > most:
        raise InvalidMessage(
            f"more than {most} values are at this path of {agent_log.agent}; ask for a part of it, or for more",
            agent=agent_log.agent,
            expected=most,
        )
    setters = _setters(agent_log, to_seq, leaves)
    causes = Causes(agent_log)

    def blame_of(path: _Path, held: Any, setter: _Setter) -> Blame:
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


def _setters(agent_log: AgentLog, to_seq: int, leaves: Sequence[tuple[_Path, Any]]) -> dict[_Path, _Setter]:
    """The setters of scalars and empty containers at their paths at `to_seq`."""
    origin = available_origin(agent_log)
    if origin is not None and to_seq < origin.seq:
        return _setters(agent_log.of(origin.agent), to_seq, leaves)
    base = agent_log.head().base if origin is None else origin.seq
    resumes = {
        raw[4]["checkpoint_seq"]: seq
        for seq, raw, _ in agent_log.raw_events(base, agent_log.digest_at(base) or b"", to_seq)
        if raw[0] == RESUMED
    }
    empty = {path: held.__class__ for path, held in leaves if type(held) in CONTAINERS}
    marks = _Marks(agent_log, origin, empty, resumes)
    for seq, raw, digest in agent_log.events_after(marks.state, to_seq):
        marks.apply(seq, raw, digest)
    return marks.setters(leaves)


class _Marks:
    """Folds the marks of one agent's values: in the place of a scalar, and by path for containers that end empty."""

    def __init__(
        self,
        agent_log: AgentLog,
        origin: Origin | None,
        empty: Mapping[_Path, type[Any]],
        resumes: Mapping[int, int],
    ) -> None:
        """`resumes` has the last resume of each checkpoint, both by seq."""
        self._agent_log = agent_log
        self._resumes = resumes
        self._carried: list[_Carried] = []
        self._restored: set[int] = set()
        """Seqs of the events that restore values, since the last resume."""
        self._copies: dict[int, tuple[dict[str, Any], dict[_Path, int]]] = {}
        """The marks at each checkpoint that will be resumed from."""
        base = rebuild_start(agent_log, origin)
        seq = base.state.seq
        self._origin = origin
        has_origin = origin is not None
        self._fold = StateFold(agent_log.agent, agent_log.limits, None, base)
        self.state = self._fold.state
        self._values = (
            StateFold(agent_log.agent, agent_log.limits, None, rebuild_start(agent_log, origin)) if empty else None
        )
        self._empty = empty
        self._under: dict[_Path, list[_Path]] = {}
        for path in empty:
            for length in range(len(path) + 1):
                self._under.setdefault(path[:length], []).append(path)
        self._emptied = {path: self._carry(seq + 1, path) if has_origin else seq for path in empty}
        self.state.memory = {
            key: self._replace((key,), held, lambda path, _: self._carry(seq + 1, path) if has_origin else seq)
            for key, held in self.state.memory.items()
        }

    def apply(self, seq: int, raw: RawEvent, digest: bytes) -> None:
        """Fold the next event."""
        marked = _with_seq(self._agent_log.agent, seq, raw)
        if self._values is not None:
            self._find_emptied(self._values, seq, raw, digest)
        self._fold.apply(marked, digest)
        if raw[0] == MEMORY_RESTORED:
            self._restored.add(seq)
        elif raw[0] == PAUSED and seq in self._resumes:
            copied = {key: copy_tree(held) for key, held in self.state.memory.items()}
            self._copies[seq] = copied, dict(self._emptied)
        elif raw[0] == RESUMED:
            self._bring_back(seq, raw[4].get("checkpoint_seq"))

    def setters(self, leaves: Sequence[tuple[_Path, Any]]) -> dict[_Path, _Setter]:
        """The setters of scalars and empty containers that are there now."""
        agent = self._agent_log.agent
        found: dict[_Path, _Setter] = {}
        in_origin: dict[_Path, list[tuple[_Path, Any, list[tuple[str, int]]]]] = {}
        for path, held in leaves:
            mark: Any = self._emptied[path] if path in self._empty else lookup(self.state.memory, path)
            before: int | _Path = mark
            carried_by: list[tuple[str, int]] = []
            while isinstance(before, int) and before < 0:
                carried = self._carried[-before - 1]
                carried_by.append((agent, carried.by))
                before = carried.before
            if isinstance(before, int):
                found[path] = _Setter(agent, before, tuple(carried_by))
            else:
                in_origin.setdefault(before, []).append((path, held, carried_by))
        if in_origin and self._origin is not None:
            there = [(path, heirs[0][1]) for path, heirs in in_origin.items()]
            theirs = _setters(self._agent_log.of(self._origin.agent), self._origin.seq, there)
            for path_there, heirs in in_origin.items():
                setter = theirs[path_there]
                for path, _, carried_by in heirs:
                    found[path] = evolve(setter, carried_by=(*carried_by, *setter.carried_by))
        return found

    def _carry(self, by: int, before: int | _Path) -> int:
        self._carried.append(_Carried(by, before))
        return -len(self._carried)

    def _replace(self, path: _Path, marks: PlainData, replace: Callable[[_Path, PlainData], PlainData]) -> PlainData:
        """The same containers, with other marks."""
        if type(marks) is dict:
            return {key: self._replace((*path, key), held, replace) for key, held in marks.items()}
        if type(marks) is list:
            return [self._replace((*path, str(at)), held, replace) for at, held in enumerate(marks)]
        return replace(path, marks)

    def _bring_back(self, seq: int, checkpoint_seq: Any) -> None:
        """Give the values that the resume at `seq` has restored the marks that they had at the checkpoint."""
        restored, self._restored = self._restored, set()
        if not restored or checkpoint_seq not in self._copies:
            return
        last = self._resumes[checkpoint_seq] == seq
        memory, emptied = self._copies.pop(checkpoint_seq) if last else self._copies[checkpoint_seq]

        def carried(path: _Path, mark: PlainData) -> PlainData:
            if mark not in restored:
                return mark
            try:
                before = lookup(memory, path)
            except PathNotFound:
                return mark
            return self._carry(seq, before) if type(before) is int else mark

        self.state.memory = {key: self._replace((key,), held, carried) for key, held in self.state.memory.items()}
        for path, mark in self._emptied.items():
            if mark in restored:
                self._emptied[path] = self._carry(seq, emptied[path])

    def _find_emptied(self, values: StateFold, seq: int, raw: RawEvent, digest: bytes) -> None:
        """Fold the values, and mark the containers that the event has emptied."""
        memory, empty = values.state.memory, self._empty
        concerned: set[_Path] = set()
        for changed in changed_paths(self._agent_log.agent, seq, raw):
            segments = changed.segments
            concerned.update(self._under.get(segments, ()))
            concerned.update(segments[:length] for length in range(len(segments)) if segments[:length] in empty)
        before = {path for path in concerned if _is_empty(memory, path, empty[path])}
        values.apply(raw, digest)
        for path in concerned - before:
            if _is_empty(values.state.memory, path, empty[path]):
                self._emptied[path] = seq


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


def _is_empty(memory: dict[str, Any], path: _Path, kind: type[Any]) -> bool:
    try:
        held = lookup(memory, path)
    except PathNotFound:
        return False
    return type(held) is kind and not held


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
