"""A helper that folds recorded logs, and answers whether they fold as they were recorded.

It is sent the events and never opens a store, so it needs no url, password or key. A log that does not fold as it was
recorded is folded once more by the parent, which reports the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NoReturn

from duramen.events import EventRegistry, Limits
from duramen.events.codec import PLAIN, Codec, decode_items
from duramen.events.helper_process import Connection, connect_to_parent
from duramen.events.model import DECLARED, same_value

from ...state import AgentState
from ..recording import load_log
from ..replay_check import apply_event, check_replay
from ..segments import comparable_state
from .fold_server import import_module

BEGIN: Final = "begin"
"""A segment: agent, the packed state it begins with or None, and packed states that follow, with their seqs."""
ITEMS: Final = "items"
"""The next events of the segment."""
END: Final = "end"
"""The seq at which the segment ends. Answered by `DONE`: the number of events, or None: not as recorded."""
FILE: Final = "file"
"""A file of a recorded log. Answered by `DONE`, and before that, from time to time, by the events folded so far."""
READY: Final = "ready"
"""The first answer: whether the same event types and upcasters are known here."""
DONE: Final = "done"


def declarations(registry: EventRegistry) -> list[list[Any]]:
    """The types and upcasters of a registry, by names that are equal where the same modules are imported."""
    types = [[name, registry.current_version(name), *_origin(cls)] for name, cls in registry.types().items()]
    steps = [[name, start, *_origin(function)] for (name, start), function in registry.upcasters().items()]
    return [*sorted(types), *sorted(steps)]


def _origin(thing: object) -> tuple[str, str]:
    return str(getattr(thing, "__module__", "")), str(getattr(thing, "__qualname__", ""))


class SegmentFold:
    """Folds the events of one segment. Raises ValueError at the first state that differs from the recorded one."""

    def __init__(self, agent: str, begin: bytes | None, states: Sequence[tuple[int, bytes]]) -> None:
        self._agent = agent
        self._codec = Codec(Limits())
        self._state = AgentState() if begin is None else AgentState.load(self._codec.unpack(begin))
        self._begin = self._state.seq
        self._states = list(states)

    def fold(self, items: Sequence[bytes]) -> int:
        """Fold the next events; returns the seq of the last. Raises what unreadable or unfitting events raise."""
        while self._states and (due := self._states[0][0] - self._state.seq) <= len(items):
            self._fold(items[:due])
            self._compare(self._states.pop(0)[1])
            items = items[due:]
        self._fold(items)
        return self._state.seq

    def end(self, seq: int) -> int:
        """How many events there were. Raises ValueError if they do not end there."""
        if self._state.seq != seq or self._states:
            raise ValueError("events are missing")
        return seq - self._begin

    def _fold(self, items: Sequence[bytes]) -> None:
        state = self._state
        for _, raw, digest in decode_items(
            self._agent, items, self._codec, PLAIN, after=state.seq, digest=state.digest
        ):
            apply_event(state, raw, digest, DECLARED)

    def _compare(self, expected: bytes) -> None:
        actual = self._codec.copy(comparable_state(self._state))
        if not same_value(self._codec.unpack(expected), actual):
            raise ValueError("another state")


def main() -> NoReturn:
    """Answer requests until the parent ends, then end this process."""
    connection = connect_to_parent("duramen-replay-end")
    code = 0
    try:
        setup = connection.receive()
        ready = setup is not None and _knows(*setup)
        connection.send(READY, ready)
        if ready:
            _serve(connection)
    except OSError:
        code = 1  # the parent has ended
    os._exit(code)


def _knows(modules: list[list[str]], expected: list[list[Any]]) -> bool:
    try:
        for module, file in modules:
            import_module(module, file)
    except Exception:  # whatever the user's module does where it is imported once more
        return False
    return declarations(DECLARED) == expected


def _serve(connection: Connection) -> None:
    while (request := connection.receive()) is not None:
        kind, *details = request
        work = _fold_file if kind == FILE else _fold_segment
        connection.send(DONE, work(connection, *details))


def _fold_file(connection: Connection, file: str) -> int | None:
    def progress(events: int) -> None:
        connection.send(ITEMS, events)

    return _unless_different(partial(_events_of, file, progress))


def _events_of(file: str, progress: Callable[[int], None]) -> int:
    report = check_replay(load_log(file), progress=progress)
    if not report.ok:
        raise ValueError("a difference")
    return report.events


def _fold_segment(
    connection: Connection, agent: str, begin: bytes | None, states: list[tuple[int, bytes]]
) -> int | None:
    """Fold the items received until `END`. Those after a difference are received, and ignored."""
    fold = SegmentFold(agent, begin, states)
    sound = True
    while (request := connection.receive()) is not None:
        kind, what = request
        if kind == END:
            return _unless_different(partial(fold.end, what)) if sound else None
        sound = sound and _unless_different(partial(fold.fold, what)) is not None
    return None


def _unless_different(work: Callable[[], int]) -> int | None:
    try:
        return work()
    except Exception:  # the parent finds it again, and reports it
        return None
