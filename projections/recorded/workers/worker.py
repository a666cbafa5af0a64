"""One of several processes that fold recorded logs: it is told what to fold, and says whether that is as recorded.

It is handed the events and never opens a store, so it needs no url, password or key. Requests come on standard input,
a socket that is answered on as well: each message a length in four bytes and msgpack. What it does not find to be as it
was recorded is looked at once more, and told, by the process that asked.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, BinaryIO, Final, NoReturn, cast

from duramen.events import EventRegistry, Limits
from duramen.events.codec import PLAIN, Codec, decode_items
from duramen.events.helper_process import end_with
from duramen.events.model import DECLARED, same_value

from ...state import AgentState
from ..recording import load_log
from ..replay_check import apply_event, check_replay
from ..segments import comparable_state
from .fold_server import bring, receive, send

__all__ = ["BEGIN", "DONE", "END", "FILE", "ITEMS", "READY", "SegmentFold", "declarations", "main"]

BEGIN: Final = "begin"
"""A piece: agent, the packed state it begins with or None, seqs and packed states that it leads to."""
ITEMS: Final = "items"
"""The next events of it."""
END: Final = "end"
"""That was all, up to this seq. Answered by `DONE`: the number of events, or None: not as it was recorded."""
FILE: Final = "file"
"""A file of a recorded log. Answered by `DONE`, and before that by how many events are folded now and then."""
READY: Final = "ready"
"""The first answer: whether the same event types and upcasters are known here."""
DONE: Final = "done"


def declarations(registry: EventRegistry) -> list[list[Any]]:
    """What a registry knows, as names that are the same in every process that has imported the same modules."""
    types = [[name, registry.current_version(name), *_origin(cls)] for name, cls in registry.types().items()]
    steps = [[name, start, *_origin(function)] for (name, start), function in registry.upcasters().items()]
    return [*sorted(types), *sorted(steps)]


def _origin(thing: object) -> tuple[str, str]:
    return str(getattr(thing, "__module__", "")), str(getattr(thing, "__qualname__", ""))


class SegmentFold:
    """Folds the events of one piece, and compares. Raises ValueError at the first state that is another one."""

    def __init__(self, agent: str, begin: bytes | None, states: Sequence[tuple[int, bytes]]) -> None:
        self._agent = agent
        self._codec = Codec(Limits())
        self._state = AgentState() if begin is None else AgentState.load(self._codec.unpack(begin))
        self._begin = self._state.seq
        self._states = list(states)

    def take(self, items: Sequence[bytes]) -> int:
        """Fold the next events; the seq of the last one. Raises what events raise that cannot be read or do not fit."""
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
    """Answer until nobody asks any more, and end this process."""
    connection = socket.socket(fileno=os.dup(0))
    end_with(connection.fileno(), "duramen-replay-end")  # the user's code may take for ever
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)  # what the user's code reads or prints is no part of the conversation
    os.dup2(nothing, 1)
    stream = cast("BinaryIO", connection.makefile("rwb"))
    code = 0
    try:
        setup = receive(stream.read)
        ready = setup is not None and _knows(*setup)
        send(stream, [READY, ready])
        if ready:
            _serve(stream)
    except OSError:
        code = 1  # the process that asked has ended
    # At once: what `stream` may still hold has nobody to go to, and Python would complain when it lets go of it.
    os._exit(code)


def _knows(modules: list[list[str]], expected: list[list[Any]]) -> bool:
    try:
        for module, file in modules:
            bring(module, file)
    except Exception:  # whatever the user's module does where it is imported once more
        return False
    return declarations(DECLARED) == expected


def _serve(stream: BinaryIO) -> None:
    while (request := receive(stream.read)) is not None:
        kind, *details = request
        work = _folded_file if kind == FILE else _folded_piece
        send(stream, [DONE, work(stream, *details)])


def _folded_file(stream: BinaryIO, file: str) -> int | None:
    def progress(events: int) -> None:
        send(stream, [ITEMS, events])

    return _unless_it_differs(partial(_events_of, file, progress))


def _events_of(file: str, progress: Callable[[int], None]) -> int:
    report = check_replay(load_log(file), progress=progress)
    if not report.ok:
        raise ValueError("a difference")
    return report.events


def _folded_piece(stream: BinaryIO, agent: str, begin: bytes | None, states: list[tuple[int, bytes]]) -> int | None:
    """Fold what comes until the end. What is behind a difference is read, but not looked at."""
    fold = SegmentFold(agent, begin, states)
    sound = True
    while (request := receive(stream.read)) is not None:
        kind, what = request
        if kind == END:
            return _unless_it_differs(partial(fold.end, what)) if sound else None
        sound = sound and _unless_it_differs(partial(fold.take, what)) is not None
    return None


def _unless_it_differs(work: Callable[[], int]) -> int | None:
    try:
        return work()
    except Exception:  # the one who asked finds it again, and tells it
        return None
