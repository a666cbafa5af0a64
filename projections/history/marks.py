"""A tree of the form of working memory, which has a mark in the place of each value: what has set it.

A mark is the seq of an event, or says that an event carried the value. Marks are folded in place, event by event, by
the functions that fold working memory. They are stored without the names of keys, and with one mark for all that one
event has set: a list of 100,000 messages takes a byte or two for each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, cast

from attrs import frozen

from duramen.events import CorruptEvent, property_segments
from duramen.events.codec import RawEvent
from duramen.events.model import vocabulary as v

from ..recovery import MISFITS, misfit
from ..state import CONTAINERS, MISSING, OWN_EVENT_TYPES, AgentState, advance, find, lookup

_Path: TypeAlias = tuple[str, ...]
_PRUNED: Final = 1_024


@frozen(eq=False)
class Carried:
    """A value that the resume at `by` brought back, in event `restored`. Its mark at `checkpoint` was `before`."""

    by: int
    restored: int
    checkpoint: int
    before: Mark


@frozen(eq=False)
class InOrigin:
    """A value that a fork began with, which was at `path` in its origin."""

    path: _Path


Mark: TypeAlias = int | Carried | InOrigin


@frozen(eq=False)
class FrozenMarks:
    """Marks at one seq. `tree` has those of empty containers in their places; `root` is that of memory itself."""

    tree: dict[str, Any]
    root: Mark

    def find(self, path: _Path) -> Mark | None:
        """The mark of a scalar or an empty container; None where there is none."""
        found: Any = find(self.tree, path)
        if not path and not self.tree:
            return self.root
        return None if found is MISSING or type(found) in CONTAINERS else found


class Marks:
    """The marks of one agent's values, folded in place. Not thread-safe.

    An empty container has the mark of the event that put it there, or took the last value out of it.
    """

    def __init__(self, agent: str, root: Mark = 0) -> None:
        """No values yet. `root` is the mark of the empty memory."""
        self._agent = agent
        self._state = AgentState()
        self._root = root
        self._empty: dict[int, tuple[Any, Mark]] = {}
        """Each empty container and its mark, by its id: it moves with its container. May have some that are gone."""
        self._prune_at = _PRUNED

    @classmethod
    def of_values(cls, agent: str, memory: dict[str, Any], mark_of: Callable[[_Path], Mark]) -> Marks:
        """The marks of these values, each given by its path."""
        marks = cls(agent, mark_of(()))
        marks._state.memory = {key: marks._build((key,), held, mark_of) for key, held in memory.items()}
        return marks

    def _build(self, path: _Path, value: Any, mark_of: Callable[[_Path], Mark]) -> Any:
        if not _is_container(value):
            return mark_of(path)
        if not value:
            return self._note_empty({} if type(value) is dict else [], mark_of(path))
        built = [(key, self._build((*path, str(key)), child, mark_of)) for key, child in _pairs(value)]
        return dict(built) if type(value) is dict else [held for _, held in built]

    def _note_empty(self, container: Any, mark: Mark) -> Any:
        self._empty[id(container)] = container, mark
        return container

    # -- what is there ---------------------------------------------------------------------------------------------

    def find(self, path: _Path) -> Mark:
        """The mark of the scalar or empty container at a path. Raises PathNotFound, and KeyError for others."""
        found: Any = lookup(self._state.memory, path)
        if not path:
            return self._root
        return self._empty[id(found)][1] if type(found) in CONTAINERS else found

    def freeze(self) -> FrozenMarks:
        """A copy that later events do not change."""
        return FrozenMarks({key: self._freeze(held) for key, held in self._state.memory.items()}, self._root)

    def _freeze(self, node: Any) -> Any:
        if type(node) not in CONTAINERS:
            return node
        if not node:
            return self._empty[id(node)][1]
        if type(node) is dict:
            return {key: self._freeze(child) for key, child in cast("dict[str, Any]", node).items()}
        return [self._freeze(child) for child in node]

    # -- folding ---------------------------------------------------------------------------------------------------

    def apply(self, seq: int, raw: RawEvent) -> None:
        """Fold the next event, of which nothing is kept. Raises CorruptEvent."""
        own = OWN_EVENT_TYPES.get(raw[0])
        if own is None or own.changed_paths is None:
            return
        data = raw[4]
        was_empty = not self._state.memory
        try:
            if own.values is not None:
                data = {**data, own.values: own.replace_scalars(data[own.values], seq)}
            advance(self._state, [*raw[:4], data, raw[5], None, *raw[7:]], b"", 1)
            self._note_changed(seq, raw[0], data)
        except CorruptEvent:
            raise
        except MISFITS as error:
            raise misfit(self._agent, seq, error) from None
        if not self._state.memory and not was_empty:
            self._root = seq
        if len(self._empty) > self._prune_at:
            self._prune()

    def _note_changed(self, seq: int, kind: str, data: Any) -> None:
        """Find the containers that an event has put there, emptied or filled."""
        memory = self._state.memory
        if kind == v.MEMORY_SET:
            self._note_below(self._note_along(seq, property_segments(data["path"])), seq)
        elif kind == v.MEMORY_APPENDED:
            appended = self._note_along(seq, property_segments(data["path"]))
            for held in appended[len(appended) - len(data["values"]) :]:
                self._note_below(held, seq)
        elif kind == v.MEMORY_MERGED:
            self._note_merged(self._note_along(seq, property_segments(data["path"])), data["patch"], seq)
        elif kind == v.MEMORY_DELETED:
            self._note_along(seq, property_segments(data["path"])[:-1])
        elif kind == v.SPAWNED:
            for key in data["memory"]:
                self._note_below(memory[key], seq)
        else:
            for held in memory.values():
                self._note_below(held, seq)

    def _note_along(self, seq: int, path: Sequence[str]) -> Any:
        """Note the containers on the way to what is at a path; return that."""
        node: Any = self._state.memory
        for segment in path:
            node = cast("dict[str, Any]", node)[segment] if type(node) is dict else node[int(segment)]
            if _is_container(node):
                self._note(node, seq)
        return node

    def _note_below(self, node: Any, seq: int) -> None:
        if _is_container(node):
            self._note(node, seq)
            for _, child in _pairs(node):
                if _is_container(child):
                    self._note_below(child, seq)

    def _note_merged(self, node: Any, patch: Any, seq: int) -> None:
        if type(patch) is not dict or type(node) is not dict:
            self._note_below(node, seq)
            return
        held = cast("dict[str, Any]", node)
        if held is not self._state.memory:
            self._note(held, seq)
        for key, value in cast("dict[str, Any]", patch).items():
            if value is not None:
                self._note_merged(held[key], value, seq)

    def _note(self, container: Any, seq: int) -> None:
        if container:
            self._empty.pop(id(container), None)
        elif id(container) not in self._empty:
            self._empty[id(container)] = container, seq

    def _prune(self) -> None:
        """Forget the empty containers that are gone."""
        empty, self._empty = self._empty, {}
        for container in _containers(self._state.memory):
            if not container and container is not self._state.memory:
                self._empty[id(container)] = empty[id(container)]
        self._prune_at = 2 * len(self._empty) + _PRUNED

    def carry(self, by: int, checkpoint: int, restored: Collection[int], before: FrozenMarks) -> None:
        """Give what the resume at `by` has brought back, in the events `restored`, its marks at the checkpoint."""
        known: dict[tuple[int, Mark], Carried] = {}

        def carried(path: _Path, mark: Mark) -> Mark:
            found = before.find(path) if isinstance(mark, int) and mark in restored else None
            if found is None or not isinstance(mark, int):
                return mark
            return known.setdefault((mark, found), Carried(by, mark, checkpoint, found))

        self._replace((), self._state.memory, carried)
        self._root = carried((), self._root)

    def _replace(self, path: _Path, node: Any, replace: Callable[[_Path, Mark], Mark]) -> None:
        """Give other marks to all below a container that is not empty."""
        for key, held in _pairs(node):
            where = (*path, str(key))
            if not _is_container(held):
                node[key] = replace(where, held)
            elif held:
                self._replace(where, held, replace)
            else:
                self._empty[id(held)] = held, replace(where, self._empty[id(held)][1])

    # -- stored ----------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """The marks as plain data, which is read together with the values."""
        writer = _Writer()
        frozen_marks = self.freeze()
        root = writer.code_of((), self._root)
        return {"root": root, "tree": writer.codes_of((), frozen_marks.tree), "carried": writer.rows}

    @classmethod
    def load(cls, agent: str, dumped: dict[str, Any], memory: dict[str, Any], seq: int) -> Marks:
        """The marks of these values at `seq`. Raises one of MISFITS for data of another form."""
        reader = _Reader(seq)
        for row in dumped["carried"]:
            reader.add(row)
        marks = cls(agent, reader.mark_of((), dumped["root"]))
        if memory:
            marks._state.memory = marks._load((), memory, dumped["tree"], reader)
        return marks

    def _load(self, path: _Path, value: Any, code: Any, reader: _Reader) -> Any:
        if not _is_container(value):
            return reader.mark_of(path, code)
        is_dict = type(value) is dict
        if not value:
            return self._note_empty({} if is_dict else [], reader.mark_of(path, code))
        pairs = sorted(_pairs(value), key=_key_of) if is_dict else list(_pairs(value))
        codes: list[Any] = _absolute(cast("list[Any]", code)) if type(code) is list else [code] * len(pairs)
        loaded: list[tuple[Any, Any]] = []
        for (key, held), each in zip(pairs, codes, strict=True):
            loaded.append((key, self._load((*path, str(key)), held, each, reader)))
        return dict(loaded) if is_dict else [held for _, held in loaded]


_Code: TypeAlias = "int | str | list[Any] | None"
"""How marks are stored: a seq; the text of a row's number; None for what has the same path in the origin. A list has
those of a container's values, the seqs as differences to the one before, unless all within it are the same. A dict's
are in the order of its sorted keys."""


class _Writer:
    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        """Carried values as [by, restored, checkpoint, code before], and values of an origin as [path]."""
        self._numbers: dict[Mark, str] = {}

    def codes_of(self, path: _Path, node: Any) -> _Code:
        if type(node) not in CONTAINERS:
            return self.code_of(path, node)
        pairs = sorted(_pairs(node), key=_key_of) if type(node) is dict else _pairs(node)
        codes = [self.codes_of((*path, str(key)), held) for key, held in pairs]
        if codes and type(codes[0]) is not list and codes.count(codes[0]) == len(codes):
            return codes[0]
        return _relative(codes)

    def code_of(self, path: _Path, mark: Mark) -> _Code:
        if isinstance(mark, InOrigin) and mark.path == path:
            return None
        chain: list[Mark] = []
        while not isinstance(mark, int) and mark not in self._numbers:
            chain.append(mark)
            if isinstance(mark, InOrigin):
                break
            mark = mark.before
        for each in reversed(chain):
            if isinstance(each, Carried):
                before = each.before if isinstance(each.before, int) else self._numbers[each.before]
                self._add(each, [each.by, each.restored, each.checkpoint, before])
            elif isinstance(each, InOrigin):
                self._add(each, [list(each.path)])
        outermost = chain[0] if chain else mark
        return outermost if isinstance(outermost, int) else self._numbers[outermost]

    def _add(self, mark: Mark, row: list[Any]) -> None:
        self._numbers[mark] = str(len(self.rows))
        self.rows.append(row)


class _Reader:
    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._marks: list[Mark] = []

    def add(self, row: list[Any]) -> None:
        if len(row) == 1:
            self._marks.append(InOrigin(tuple(map(str, row[0]))))
        else:
            by, restored, checkpoint = map(self._seq_of, row[:3])
            self._marks.append(Carried(by, restored, checkpoint, self.mark_of((), row[3])))

    def mark_of(self, path: _Path, code: Any) -> Mark:
        if code is None:
            return InOrigin(path)
        return self._marks[int(code)] if type(code) is str else self._seq_of(code)

    def _seq_of(self, code: Any) -> int:
        if type(code) is not int or not 0 <= code <= self._seq:
            raise ValueError("not the seq of an event")
        return code


def _relative(codes: list[_Code]) -> list[_Code]:
    found: list[_Code] = []
    before = 0
    for code in codes:
        if type(code) is int:
            found.append(code - before)
            before = code
        else:
            found.append(code)
    return found


def _absolute(codes: list[_Code]) -> list[_Code]:
    found: list[_Code] = []
    before = 0
    for code in codes:
        if type(code) is int:
            before += code
            found.append(before)
        else:
            found.append(code)
    return found


def _is_container(value: Any) -> bool:
    return type(value) in CONTAINERS


def _pairs(container: Any) -> Iterable[tuple[Any, Any]]:
    """Key or position, and value, of each child."""
    if type(container) is dict:
        return cast("dict[str, Any]", container).items()
    return enumerate(cast("list[Any]", container))


def _key_of(pair: tuple[str, Any]) -> str:
    return pair[0]


def _containers(node: Any) -> Iterator[Any]:
    yield node
    for _, child in _pairs(node):
        if _is_container(child):
            yield from _containers(child)
