"""Trims the logs of agents and the feeds, on request and after automatic snapshots, as far as nothing needs them.

The trimmer reads the events to remove, checks and folds them, and stores their state in their place. The agent need not
run, and one that runs is not disturbed: a prefix of a log has one state, in every process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from duramen.events import (
    AgentFailed,
    DuramenError,
    EventRegistry,
    Fenced,
    InvalidMessage,
    Limits,
    Trimmed,
    VersionConflict,
)
from duramen.events.log import Base, EventLog, Head
from duramen.events.logging import get_logger, raised_at
from duramen.projections import AgentState
from duramen.projections.consumers import UnreadByConsumers
from duramen.projections.recovery import (
    UNFOLDED,
    AgentLog,
    BaseState,
    FoldOf,
    drop_orphans,
    pack_base,
    rebuild,
    state_for_base,
)
from duramen.projections.state import open_work

from ..commands import KEEP_ALL, Need, Needs, Retention, TrimResult, retention_from_data, retention_to_data
from ..dispatch import ThreadPool
from .agent_types import AgentFactory, folds_of

_STEP: Final = 20_000
"""Events that are removed at most after one snapshot; the others follow after the next ones."""
_FEED_STEP: Final = 1_000
_RETRY_PAUSES: Final = (0.0, 0.01, 0.03, 0.1, 0.3)
"""Seconds between tries, where another process trims the same agent."""
_ORPHANS_EVERY: Final = 3_600.0
"""Seconds between two automatic looks for contents of an agent that nothing refers to."""
_REMEMBERED: Final = 10_000
"""Agents whose last look is remembered."""
_THREADS: Final = 1  # folding takes the interpreter's lock: a second thread would only slow the agents down


class Trimmer:
    """Trims for one system. Thread-safe. All calls block except `request` and `add_needs`."""

    def __init__(
        self,
        log: EventLog,
        *,
        registry: EventRegistry,
        limits: Limits,
        agents: Mapping[str, AgentFactory],
        retention: Retention | None,
        snapshot_every: int,
        now: Callable[[], int],
    ) -> None:
        """`now` is the clock by which the age of events counts, in µs since the epoch."""
        self._log = log
        self._now = now
        self._registry = registry
        self._limits = limits
        self._agents = agents
        retention_to_data(retention)
        self._retention = retention or KEEP_ALL
        self._least = max(1, snapshot_every // 2)
        self._needs: list[Needs] = []
        self._consumers = UnreadByConsumers(log)
        self._thread_pool = ThreadPool("trimmer", _THREADS)
        self._lock = threading.Lock()
        self._requested: set[str] = set()
        self._orphans_sought: dict[str, float] = {}
        self._closed = False
        self._closing = threading.Event()

    # -- what is needed ----------------------------------------------------------------------------------------------

    def add_needs(self, needs: Needs) -> None:
        """Ask `needs` before each trimming which events to keep. Those of checkpoints and consumers are always kept."""
        self._needs.append(needs)

    # -- after a snapshot ----------------------------------------------------------------------------------------------

    def is_trimmed(self, state: AgentState) -> bool:
        """Whether the retention of an agent in this state ever lets events go. Does not block."""
        return not self._retention_of(state).keeps_all

    def request(self, agent: str) -> None:
        """Trim an agent soon, by one step, in a thread of the trimmer. Errors are only logged."""
        with self._lock:
            if self._closed or agent in self._requested:
                return
            self._requested.add(agent)
        self._thread_pool.submit(lambda: self._trim_requested(agent))

    def close(self, timeout: float) -> None:
        """Start no more trimmings; wait at most `timeout` seconds for those that have started."""
        with self._lock:
            self._closed = True
        self._closing.set()
        self._thread_pool.close(timeout)

    def _trim_requested(self, agent: str) -> None:
        with self._lock:
            self._requested.discard(agent)
            if self._closed:
                return
        try:
            done = self._trim_agent(agent, least=self._least, most=_STEP)
            if done.removed:
                self.trim_feed(self._log.partition_of(agent))
                if self._is_time_for_orphans(agent):
                    self._drop_orphans(agent)
        except Exception as error:  # also what the user's `apply` raises
            reason = str(error) if isinstance(error, DuramenError) else f"{type(error).__name__} at {raised_at(error)}"
            get_logger("retention").warning("not_trimmed", agent=agent, reason=reason)

    # -- on request ----------------------------------------------------------------------------------------------------

    def trim(self, agent: str, keep: Retention | None, *, nothing: bool, dry_run: bool) -> TrimResult:
        """As `AgentSystem.trim`."""
        done = self._trim_agent(agent, keep, nothing=nothing, dry_run=dry_run)
        if done.removed and not dry_run:
            partition = self._log.partition_of(agent)
            while self.trim_feed(partition) == _FEED_STEP:
                pass
        if not dry_run:
            self._drop_orphans(agent)
        return done

    def _trim_agent(
        self,
        agent: str,
        keep: Retention | None = None,
        *,
        dry_run: bool = False,
        nothing: bool = False,
        least: int = 1,
        most: int | None = None,
    ) -> TrimResult:
        """Trim an agent by `keep`, or by the retention it has; `nothing` keeps no event at all.

        Fewer than `least` events are not worth it; more than `most` do not go at once. Raises AgentNotFound,
        CorruptEvent, Trimmed, UnknownEventType, TooLarge, InvalidMessage; then nothing was changed.
        """
        for pause in _RETRY_PAUSES:
            head = self._agent_log(agent).head()
            try:
                return self._trim_at(agent, head, keep, dry_run=dry_run, nothing=nothing, least=least, most=most)
            except Trimmed:
                if self._agent_log(agent).head().base == head.base:
                    raise
            except (Fenced, VersionConflict):
                self._closing.wait(pause)  # two processes record the same episodes
        # Another process has trimmed or written between the two reads each time.
        return self._trim_at(
            agent, self._agent_log(agent).head(), keep, dry_run=dry_run, nothing=nothing, least=least, most=most
        )

    def _drop_orphans(self, agent: str) -> None:
        """Remove what the events that are left do not refer to. An error is logged: a later trim tries again."""
        try:
            drop_orphans(self._agent_log(agent))
        except DuramenError as error:
            get_logger("retention").warning("contents_not_removed", agent=agent, reason=str(error))

    def _is_time_for_orphans(self, agent: str) -> bool:
        """Whether an agent's orphans were not looked for of late: that may read its log. Only in the pool's thread."""
        now = monotonic()
        if now - self._orphans_sought.get(agent, -_ORPHANS_EVERY) < _ORPHANS_EVERY:
            return False
        if len(self._orphans_sought) >= _REMEMBERED:
            self._orphans_sought.clear()
        self._orphans_sought[agent] = now
        return True

    def _agent_log(self, agent: str) -> AgentLog:
        return AgentLog(self._log, agent, self._limits, self._registry)

    def _trim_at(
        self,
        agent: str,
        head: Head,
        keep: Retention | None,
        *,
        dry_run: bool,
        nothing: bool,
        least: int,
        most: int | None,
    ) -> TrimResult:
        agent_log = self._agent_log(agent)
        state = rebuild(agent_log, to_seq=head.seq).state
        keep = KEEP_ALL if nothing else keep or self._retention_of(state)
        target, held_by = head.seq if nothing else _last_by_count(keep, head), None
        if target - head.base < least:
            return TrimResult(agent, head.base, 0, None)
        for need in self._needs_of(agent, state):
            if need.seq - 1 < target:
                target, held_by = need.seq - 1, need.what
        if most is not None:
            target = min(target, head.base + most)
        if target - head.base < least:
            return TrimResult(agent, head.base, 0, held_by)
        found = self._replace(agent_log, head, target, keep, least=least, dry_run=dry_run)
        return TrimResult(agent, found, found - head.base, held_by if found == target else None)

    def _replace(
        self, agent_log: AgentLog, head: Head, target: int, keep: Retention, *, least: int, dry_run: bool
    ) -> int:
        """Replace the events up to `target`, or up to the first that is too young, by their state.

        Returns the new base, or the old one if nothing was removed.
        """
        base = self._folded(agent_log, target, keep)
        agent, state = agent_log.agent, base.state
        if state.seq - head.base < least:
            return head.base
        if base.custom_version == UNFOLDED and state.agent_type is not None and state.agent_type not in self._agents:
            raise InvalidMessage(
                f"agent type {state.agent_type!r} is not registered here, so what {agent}'s own events have made would "
                "be lost; trim it where its class is registered",
                agent=agent,
            )
        packed = pack_base(agent_log, base)
        if not dry_run:
            self._log.trim(agent, Base(state.seq, state.digest), packed)
            frames = self._log.archive.keyframes(agent)
            self._log.archive.drop_keyframes(agent, [seq for seq in frames if seq < state.seq])
        return state.seq

    def _folded(self, agent_log: AgentLog, target: int, keep: Retention) -> BaseState:
        """The state at `target`, or before it. Raises AgentFailed for what the user's own code raises."""
        try:
            return state_for_base(
                agent_log,
                to_seq=target,
                before=keep.cutoff(self._now()),
                fold_of=self._fold_of(),
            )
        except DuramenError:
            raise
        except Exception as error:
            raise AgentFailed(
                f"{agent_log.agent} cannot be trimmed: {type(error).__name__} in the code of its agent type; nothing "
                "was removed",
                agent=agent_log.agent,
            ) from error

    def _retention_of(self, state: AgentState) -> Retention:
        return self._retention if state.retention is None else retention_from_data(state.retention) or KEEP_ALL

    def _needs_of(self, agent: str, state: AgentState) -> list[Need]:
        """All needs that keep events of an agent from being trimmed."""
        names = list(state.checkpoints)
        there = self._log.exists([self._log.checkpoint_key(agent, name) for name in names])
        # The log is read from before its pause where the checkpoint's own copy is damaged.
        needs = [
            Need(state.checkpoints[name][0], f"checkpoint {name!r}")
            for name, exists in zip(names, there, strict=True)
            if exists
        ]
        pieces = open_work(state)
        if pieces:  # its handlers are run again from their messages on
            needs.append(Need(min(map(int, pieces)), "unfinished work"))
        others = [needs_of(agent) for needs_of in self._needs]
        unread = self._consumers.first_seq(agent)  # last: the others may bring a consumer forward
        if unread is not None:
            needs.append(Need(unread[1], f"consumer {unread[0]!r}"))
        return [*needs, *[need for need in others if need is not None]]

    def _fold_of(self) -> FoldOf:
        return folds_of(self._agents, self._registry)

    # -- feeds ---------------------------------------------------------------------------------------------------------

    def trim_feed(self, partition: int) -> int:
        """Remove a feed's first entries whose events are trimmed and that all consumers have passed; their number."""
        lowest = self._consumers.lowest(partition)
        position = 0
        while True:
            try:
                page = self._log.feed_page(partition, position, _FEED_STEP)
                break
            except Trimmed as trimmed:
                position = int(trimmed.actual)
        most = page.end if lowest is None else lowest.mark.position
        bases: dict[str, int] = {"": 1 << 62}  # those of erased agents are nobody's, and may go
        gone = 0
        for entry in page.entries:
            if entry.agent not in bases:
                head = self._log.head(entry.agent)
                bases[entry.agent] = 0 if head is None else head.base
            if position + gone >= most or entry.first_seq + entry.count - 1 > bases[entry.agent]:
                break
            gone += 1
        return self._log.trim_feed(partition, position + gone) - position if gone else 0


def _last_by_count(keep: Retention, head: Head) -> int:
    """The last seq that a retention by count lets go; a retention by time is applied while events are read."""
    if keep.keeps_all:
        return head.base
    return head.seq if keep.events is None else head.seq - keep.events
