"""Verification of one agent or of all, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias

from attrs import evolve, frozen

from duramen.events import Limits
from duramen.events.log import EventLog

from ..recovery import FoldOf
from .audit import Audit, AuditStopped
from .partition_audit import AuditedAgent, PartitionAudit, audit_consumers
from .problem import Problem

_JOIN_SECONDS: Final = 60.0
_TOGETHER: Final = 64
"""Agents that a thread reads together, if they are small."""
_SMALL_BYTES: Final = 64 * 1024


@frozen
class VerificationProgress:
    """Progress of a verification: agents done, agents in all, events checked, problems found."""

    agents: int
    of_agents: int
    events: int
    problems: int


@frozen
class VerificationReport:
    """The result of a verification: `events` is how many events of `agents` agents are as they were written."""

    ok: bool
    events: int
    agents: int
    problems: tuple[Problem, ...]
    """Sorted by agent: the first damaged event of each, and all of its damaged snapshots; then those of partitions."""

    def __str__(self) -> str:
        if self.ok:
            events, agents = _count(self.events, "event"), _count(self.agents, "agent")
            return f"ok: {events} of {agents} {'is as it was' if self.events == 1 else 'are as they were'} written"
        return "\n".join([f"{_count(len(self.problems), 'problem')}:", *map(str, self.problems)])

    def as_data(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "ok": self.ok,
            "events": self.events,
            "agents": self.agents,
            "problems": [problem.as_data() for problem in self.problems],
        }


_Done: TypeAlias = "tuple[str, Audit, list[Problem]] | int | BaseException"


def verify(
    log: EventLog,
    agents: Sequence[str],
    limits: Limits,
    make_fold: Callable[[], FoldOf],
    *,
    workers: int,
    progress: Callable[[VerificationProgress], object] | None,
    whole: bool,
) -> VerificationReport:
    """Audit agents in `workers` threads. `progress` is called in the caller's thread; an exception of it ends all.

    With `whole`, `agents` are all there are, and feeds, directories, episodes and consumers are audited, too.
    `make_fold` is called once a thread. Raises what a lost server raises, and nothing for damage.
    """
    waiting: SimpleQueue[Sequence[str]] = SimpleQueue()
    for group in _groups(log, agents, workers):
        waiting.put(group)
    done: SimpleQueue[_Done] = SimpleQueue()
    stop = threading.Event()

    def report(events: int) -> None:
        if stop.is_set():
            raise AuditStopped
        done.put(events)

    def audit(group: Sequence[str], fold_of: FoldOf) -> None:
        for agent, small in zip(group, log.archive.read_small(group, _SMALL_BYTES), strict=True):
            one = Audit(log, agent, limits, fold_of, report, small=small)
            problems = one.run()
            done.put((agent, one, problems))

    def work() -> None:
        try:
            fold_of = make_fold()
            while not stop.is_set():
                audit(waiting.get_nowait(), fold_of)
        except (Empty, AuditStopped):
            return
        except BaseException as error:
            done.put(error)

    audited: dict[str, AuditedAgent] | None = {} if whole else None
    with _in_threads(work, min(workers, len(agents)), stop):
        found = _collect(len(agents), done, progress, audited)
    return found if audited is None else _with_partitions(found, log, limits, audited)


@contextmanager
def _in_threads(work: Callable[[], None], count: int, stop: threading.Event) -> Generator[None]:
    """Run `work` in as many threads. At the end of the context `stop` is set, and they are waited for, not forever."""
    threads = [threading.Thread(target=work, name=f"duramen-verify-{number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(_JOIN_SECONDS)


def _groups(log: EventLog, agents: Sequence[str], workers: int) -> list[list[str]]:
    """Agents of one partition each, so few that all threads have something to do."""
    by_partition: dict[int, list[str]] = {}
    for agent in agents:
        by_partition.setdefault(log.partition_of(agent), []).append(agent)
    size = max(1, min(_TOGETHER, len(agents) // (4 * workers)))
    return [found[at : at + size] for found in by_partition.values() for at in range(0, len(found), size)]


def _with_partitions(
    report: VerificationReport, log: EventLog, limits: Limits, audited: dict[str, AuditedAgent]
) -> VerificationReport:
    by_partition: dict[int, dict[str, AuditedAgent]] = {partition: {} for partition in range(log.partitions)}
    for agent, found in audited.items():
        by_partition[log.partition_of(agent)][agent] = found
    problems = list(report.problems)
    for partition, agents in by_partition.items():
        problems += PartitionAudit(log, partition, limits, agents).run()
    problems += audit_consumers(log)
    return evolve(report, ok=not problems, problems=tuple(problems))


def _collect(
    count: int,
    done: SimpleQueue[_Done],
    progress: Callable[[VerificationProgress], object] | None,
    audited: dict[str, AuditedAgent] | None,
) -> VerificationReport:
    problems: dict[str, list[Problem]] = {}
    sound = checked = 0
    while len(problems) < count:
        news = done.get()
        if isinstance(news, BaseException):
            raise news
        if isinstance(news, int):
            checked += news
        else:
            agent, audit, problems[agent] = news
            sound += audit.events
            if audited is not None and audit.audited is not None:
                audited[agent] = audit.audited
        if progress is not None:
            wrong = sum(map(len, problems.values()))
            progress(VerificationProgress(len(problems), count, checked, wrong))
    every = tuple(problem for agent in sorted(problems) for problem in problems[agent])
    return VerificationReport(not every, sound, count, every)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
