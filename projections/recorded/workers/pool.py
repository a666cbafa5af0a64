"""Recorded logs folded by several helpers at a time: which of them fold as they were recorded."""

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
from duramen.events.helper_process import HelperGone, usable_cores
from duramen.events.log import EventLog, Head
from duramen.events.logging import get_logger
from duramen.events.model import DECLARED

from ..sealing import read_pages
from ..segments import LogSegment, comparable_state, log_segments
from .client import WorkerClient
from .worker import declarations

EVENTS_EACH: Final = 150_000
"""Events for which a helper is worth starting: about as many as could be folded in that time."""

_BYTES_AN_EVENT: Final = 300
"""In a file of a recorded log, roughly."""
_MANY: Final = 100
"""Agents; for as many, all heads are read together."""
_JOIN_SECONDS: Final = 60.0

Progress = Callable[[int, str], object]


def helpers_for(events: int, most: int) -> int:
    """How many helpers, at most `most`, are worth starting for so many events: none, or two or more."""
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

    `check_replay` folds the others, and reports what differs or why they cannot be folded. That may be all of them:
    nothing is done here where `workers` (by default all processors) is 1, where there are too few events for more, and
    where a helper does not get the same event types and upcasters by importing `modules` and the modules that declare
    them; it never imports `__main__`.

    The helpers are sent the events: they open no store, and know neither its url nor a key. They have ended when this
    returns. One that dies is no error; its logs are left out. `progress` is called in this thread with the number of
    events folded so far, and the name of the log; what it raises ends all. Raises what a lost server raises.
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
    """About how many events there are. A file that cannot be read counts as none: folding it reports why."""
    sizes = [Path(file).stat().st_size for file in files if Path(file).is_file()]
    heads: Iterable[Head | None] = ()
    if log is not None and len(agents) < _MANY:
        heads = map(log.head, agents)
    elif log is not None:
        asked = set(agents)
        heads = (entry.head for entry in log.directory() if entry.agent in asked)
    return sum(sizes) // _BYTES_AN_EVENT + sum(head.seq - head.base for head in heads if head is not None)


def _places(modules: Iterable[str]) -> list[tuple[str, str]]:
    """The modules to import, with their files: those that were named, then those that declare types."""
    declared = (*DECLARED.types().values(), *DECLARED.upcasters().values())
    declaring = sorted({str(getattr(thing, "__module__", "")) for thing in declared} - {"__main__"})
    found = {name: sys.modules.get(name) for name in (*modules, *declaring)}
    return [(name, str(getattr(module, "__file__", None) or "")) for name, module in found.items()]


# -- the jobs ---------------------------------------------------------------------------------------------------------


@define
class _Log:
    """One log, and the results so far."""

    name: str
    events: int = 0
    left: int = 1
    """Segments that are under way; and 1 as long as there may be others."""
    sound: bool = True


@frozen
class _Job:
    of: _Log
    segment: LogSegment | None
    """None: a whole file."""


class _Plan:
    """Gives the segments of all logs to threads, one after the other."""

    def __init__(self, log: EventLog | None, agents: Sequence[str], files: Sequence[str], limits: Limits) -> None:
        self.log = log
        self.limits = limits
        self._logs = [*map(_Log, files), *map(_Log, agents)]
        self._jobs = self._all(len(files))
        self._lock = threading.Lock()

    def next(self) -> _Job | None:
        """The next job; None: none is left. Raises what a lost server raises."""
        with self._lock:
            return next(self._jobs, None)

    def done(self, job: _Job, events: int | None) -> None:
        """Note that so many events were sound, or (None) that the log is not."""
        with self._lock:
            job.of.left -= 1
            job.of.events += events or 0
            job.of.sound = job.of.sound and events is not None

    def sound(self) -> dict[str, int]:
        """The logs that are done and sound, with their events."""
        return {log.name: log.events for log in self._logs if log.sound and log.left == 0}

    def _all(self, files: int) -> Iterator[_Job]:
        for log in self._logs[:files]:
            yield _Job(log, None)
        if self.log is not None:
            for log in self._logs[files:]:
                yield from self._segments(self.log, log)

    def _segments(self, store: EventLog, log: _Log) -> Iterator[_Job]:
        try:
            for segment in log_segments(store, log.name, self.limits):
                log.left += 1
                yield _Job(log, segment)
                if not log.sound:
                    return
        except (AgentNotFound, CorruptEvent, Trimmed):
            log.sound = False
        log.left -= 1


# -- the helpers ------------------------------------------------------------------------------------------------------

_Report = tuple[int, str] | BaseException | None
"""Events that were folded and the log they are of, an error that ends all, or None: a thread has ended."""


class _WorkerPool:
    """A thread for each helper, which reads the log and sends it the events."""

    def __init__(self, plan: _Plan, helpers: Sequence[WorkerClient]) -> None:
        self._plan = plan
        self._helpers = helpers
        self._codec = Codec(plan.limits)
        self._reports: SimpleQueue[_Report] = SimpleQueue()
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
            report = self._reports.get()
            if isinstance(report, BaseException):
                raise report
            if report is None:
                threads -= 1
                continue
            events += report[0]
            if progress is not None:
                progress(events, report[1])

    def _work(self, helper: WorkerClient) -> None:
        try:
            if not helper.is_ready():
                get_logger("replay").info("helper_knows_other_types")
            else:
                while not self._stop.is_set() and (job := self._plan.next()) is not None:
                    self._plan.done(job, self._fold(helper, job))
        except HelperGone as error:
            if not self._stop.is_set():
                get_logger("replay").warning("helper_gone", reason=str(error))
        except BaseException as error:
            self._reports.put(error)
        finally:
            self._reports.put(None)

    def _fold(self, helper: WorkerClient, job: _Job) -> int | None:
        name = job.of.name

        def report(events: int) -> None:
            self._reports.put((events, name))

        if job.segment is None:
            return helper.fold_file(name, report)
        return self._fold_segment(helper, job.segment, report)

    def _fold_segment(self, helper: WorkerClient, segment: LogSegment, report: Callable[[int], None]) -> int | None:
        store = self._plan.log
        assert store is not None, "only a store has segments"
        begin = None if segment.begin is None else self._codec.pack({**segment.begin.dump(), "commands": {}})
        states = [(state.seq, self._codec.pack(comparable_state(state))) for state in segment.states]
        helper.begin(segment.agent, begin, states)
        try:
            pages = read_pages(store, segment.agent, after=segment.after, to_seq=segment.to_seq)
            with closing(pages):
                for items in pages:
                    if self._stop.is_set():
                        return None
                    helper.send_items(items)
                    report(len(items))
        except (AgentNotFound, CorruptEvent, Trimmed):
            helper.end(0)
            return None
        return helper.end(segment.to_seq)
