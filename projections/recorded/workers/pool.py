"""Recorded logs folded in several processes at a time: which of them are sound."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from attrs import define, frozen

from duramen.events import AgentNotFound, CorruptEvent, Limits, Trimmed
from duramen.events.codec import Codec
from duramen.events.helper_process import usable_cores
from duramen.events.log import EventLog, Head
from duramen.events.logging import get_logger
from duramen.events.model import DECLARED

from ..sealing import read_pages
from ..segments import LogSegment, comparable_state, log_segments
from .client import HelperGone, WorkerClient
from .worker import declarations

__all__ = ["EVENTS_EACH", "helpers_for", "sound_logs"]

EVENTS_EACH: Final = 150_000
"""For so many events a process is worth starting: about what it could have folded meanwhile."""

_BYTES_AN_EVENT: Final = 300
"""In a file of a recorded log, about."""
_MANY: Final = 100
"""Agents, from which on all heads are read together."""
_JOIN_SECONDS: Final = 60.0

Progress = Callable[[int, str], object]


def helpers_for(events: int, most: int) -> int:
    """How many processes of at most so many are worth starting for this many events: none, or two or more."""
    many = min(most, events // EVENTS_EACH)
    return many if many > 1 else 0


def sound_logs(
    log: EventLog | None,
    agents: Sequence[str],
    files: Sequence[str] = (),
    *,
    workers: int | None = None,
    modules: Sequence[str] = (),
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """The agents and files of recorded logs that fold as they were recorded, with the number of their events.

    Those that are not in the answer are for `check_replay`, which says what differs, or why they cannot be folded.
    That may be all of them: nothing is done where `workers` (by default all processors) is 1 or there are too few
    events for more, and where another process does not come to the same event types and upcasters by importing
    `modules` and those that declare them; what `__main__` declares never is.

    The processes are handed the events: they open no store, and know neither its url nor a key. They are gone at the
    end. One that dies is no error; what it had to do is not in the answer. `progress` is called in this thread with
    the number of events folded so far, and the name of the log; what it raises ends all. Raises what a lost server
    raises.
    """
    most = usable_cores() if workers is None else workers
    many = helpers_for(_events(log, agents, files), most) if most > 1 else 0
    if not many:
        return {}
    plan = _Plan(log, agents, files, limits or Limits())
    with ExitStack() as stack:
        setup = [_places(modules), declarations(DECLARED)]
        helpers = [stack.enter_context(closing(WorkerClient(setup))) for _ in range(many)]
        return _WorkerPool(plan, helpers).run(progress)


def _events(log: EventLog | None, agents: Sequence[str], files: Iterable[str]) -> int:
    """About how many events there are. What cannot be looked at has none: whoever folds it says why."""
    sizes = [Path(file).stat().st_size for file in files if Path(file).is_file()]
    heads: Iterable[Head | None] = ()
    if log is not None and len(agents) < _MANY:
        heads = map(log.head, agents)
    elif log is not None:
        asked = set(agents)
        heads = (entry.head for entry in log.directory() if entry.agent in asked)
    return sum(sizes) // _BYTES_AN_EVENT + sum(head.seq - head.base for head in heads if head is not None)


def _places(modules: Iterable[str]) -> list[tuple[str, str]]:
    """What is to be imported, with its files: the modules that were named, then those that declare."""
    declared = (*DECLARED.types().values(), *DECLARED.upcasters().values())
    declaring = sorted({str(getattr(thing, "__module__", "")) for thing in declared} - {"__main__"})
    found = {name: sys.modules.get(name) for name in (*modules, *declaring)}
    return [(name, str(getattr(module, "__file__", None) or "")) for name, module in found.items()]


# -- what there is to do -----------------------------------------------------------------------------------------------


@define
class _Log:
    """One log, and how it stands with it."""

    name: str
    events: int = 0
    left: int = 1
    """Pieces that are under way; and 1 as long as there may be others."""
    sound: bool = True


@frozen
class _Job:
    of: _Log
    piece: LogSegment | None
    """None: all of a file."""


class _Plan:
    """Gives out the pieces of all logs, one after the other, to threads."""

    def __init__(self, log: EventLog | None, agents: Sequence[str], files: Sequence[str], limits: Limits) -> None:
        self.log = log
        self.limits = limits
        self._logs = [*map(_Log, files), *map(_Log, agents)]
        self._jobs = self._all(len(files))
        self._lock = threading.Lock()

    def next(self) -> _Job | None:
        """What is to be done next; None: nothing is left. Raises what a lost server raises."""
        with self._lock:
            return next(self._jobs, None)

    def done(self, job: _Job, events: int | None) -> None:
        """So many events were sound, or something is not."""
        with self._lock:
            job.of.left -= 1
            job.of.events += events or 0
            job.of.sound = job.of.sound and events is not None

    def sound(self) -> dict[str, int]:
        """The logs that are done, and sound."""
        return {log.name: log.events for log in self._logs if log.sound and log.left == 0}

    def _all(self, files: int) -> Iterator[_Job]:
        for log in self._logs[:files]:
            yield _Job(log, None)
        if self.log is not None:
            for log in self._logs[files:]:
                yield from self._pieces(self.log, log)

    def _pieces(self, store: EventLog, log: _Log) -> Iterator[_Job]:
        try:
            for piece in log_segments(store, log.name, self.limits):
                log.left += 1
                yield _Job(log, piece)
                if not log.sound:
                    return
        except (AgentNotFound, CorruptEvent, Trimmed):
            log.sound = False
        log.left -= 1


# -- who does it -------------------------------------------------------------------------------------------------------

_News = tuple[int, str] | BaseException | None
"""Events that were folded and the log they are of, an error that ends all, or None: a thread has ended."""


class _WorkerPool:
    """A thread for each helper, which reads what the helper folds."""

    def __init__(self, plan: _Plan, helpers: Sequence[WorkerClient]) -> None:
        self._plan = plan
        self._helpers = helpers
        self._codec = Codec(plan.limits)
        self._news: SimpleQueue[_News] = SimpleQueue()
        self._stop = threading.Event()

    def run(self, progress: Progress | None) -> dict[str, int]:
        threads = [
            threading.Thread(target=self._work, args=(helper,), name=f"duramen-replay-{number}", daemon=True)
            for number, helper in enumerate(self._helpers)
        ]
        for thread in threads:
            thread.start()
        try:
            self._collect(len(threads), progress)
        finally:
            self._stop.set()
            for helper in self._helpers:
                helper.kill()
            for thread in threads:
                thread.join(_JOIN_SECONDS)
        return self._plan.sound()

    def _collect(self, threads: int, progress: Progress | None) -> None:
        events = 0
        while threads:
            news = self._news.get()
            if isinstance(news, BaseException):
                raise news
            if news is None:
                threads -= 1
                continue
            events += news[0]
            if progress is not None:
                progress(events, news[1])

    def _work(self, helper: WorkerClient) -> None:
        try:
            if not helper.is_ready():
                get_logger("replay").info("helper_knows_other_types")
            else:
                while not self._stop.is_set() and (job := self._plan.next()) is not None:
                    self._plan.done(job, self._folded(helper, job))
        except HelperGone as error:
            if not self._stop.is_set():
                get_logger("replay").warning("helper_gone", reason=str(error))
        except BaseException as error:
            self._news.put(error)
        finally:
            self._news.put(None)

    def _folded(self, helper: WorkerClient, job: _Job) -> int | None:
        name = job.of.name

        def tell(events: int) -> None:
            self._news.put((events, name))

        if job.piece is None:
            return helper.fold_file(name, tell)
        return self._folded_piece(helper, job.piece, tell)

    def _folded_piece(self, helper: WorkerClient, piece: LogSegment, tell: Callable[[int], None]) -> int | None:
        store = self._plan.log
        assert store is not None, "only a store has pieces"
        begin = None if piece.begin is None else self._codec.pack({**piece.begin.dump(), "commands": {}})
        states = [(state.seq, self._codec.pack(comparable_state(state))) for state in piece.states]
        helper.begin(piece.agent, begin, states)
        try:
            pages = read_pages(store, piece.agent, after=piece.after, to_seq=piece.to_seq)
            with closing(pages):
                for items in pages:
                    if self._stop.is_set():
                        return None
                    helper.send_items(items)
                    tell(len(items))
        except (AgentNotFound, CorruptEvent, Trimmed):
            helper.end(0)
            return None
        return helper.end(piece.to_seq)
