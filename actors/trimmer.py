"""Trimming the logs of agents and the feeds, as far as nobody needs them: by hand, and after automatic snapshots.

It reads the events that are to go, checks and folds them, and puts their state in their place. No agent has to run for
it, and none that runs is disturbed: the state of a prefix is the same whoever folds it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import time_ns
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
from duramen.projections.recovery import UNFOLDED, AgentLog, BaseState, FoldOf, pack_base, rebuild, state_for_base

from .agent_types import AgentFactory, folds_of
from .commands import KEEP_ALL, Need, Needs, Retention, TrimResult, retention_from_data, retention_to_data
from .dispatch import ThreadPool

__all__ = ["Trimmer"]

_STEP: Final = 20_000
"""Events that go at most after one snapshot: the rest follows after the next ones."""
_FEED_STEP: Final = 1_000
_PAUSES: Final = (0.0, 0.01, 0.03, 0.1, 0.3)
"""Seconds before it is tried again, where another process does the same."""
_THREADS: Final = 1  # folding takes the interpreter's lock: a second thread would only slow the agents down


class Trimmer:
    """Trims for one system. Thread-safe; everything but `request` and `close` blocks."""

    def __init__(
        self,
        log: EventLog,
        *,
        registry: EventRegistry,
        limits: Limits,
        agents: Mapping[str, AgentFactory],
        retention: Retention | None,
        snapshot_every: int,
    ) -> None:
        self._log = log
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
        self._closed = False
        self._rest = threading.Event()  # set at the end

    # -- what is needed ----------------------------------------------------------------------------------------------

    def hold(self, needs: Needs) -> None:
        """Ask `needs` before each trimming, and keep what it wants kept. Checkpoints and consumers need no asking."""
        self._needs.append(needs)

    # -- after a snapshot ----------------------------------------------------------------------------------------------

    def wants(self, state: AgentState) -> bool:
        """Whether an agent in this state is ever trimmed. Quick."""
        return not self._policy(state).keeps_all

    def request(self, agent: str) -> None:
        """Trim an agent soon, in a thread of the trimmer's own, at most a step. What goes wrong is only logged."""
        with self._lock:
            if self._closed or agent in self._requested:
                return
            self._requested.add(agent)
        self._thread_pool.submit(lambda: self._carry_out(agent))

    def close(self, timeout: float) -> None:
        """Begin nothing more; wait at most `timeout` seconds for what has begun."""
        with self._lock:
            self._closed = True
        self._rest.set()
        self._thread_pool.close(timeout)

    def _carry_out(self, agent: str) -> None:
        with self._lock:
            self._requested.discard(agent)
            if self._closed:
                return
        try:
            done = self.trim(agent, least=self._least, most=_STEP)
            if done.removed:
                self.trim_feed(self._log.partition_of(agent))
        except Exception as error:  # a defect of the user's `apply`, too, must not end in silence
            reason = str(error) if isinstance(error, DuramenError) else f"{type(error).__name__} at {raised_at(error)}"
            get_logger("retention").warning("not_trimmed", agent=agent, reason=reason)

    # -- by hand -------------------------------------------------------------------------------------------------------

    def by_hand(self, agent: str, keep: Retention | None, *, nothing: bool, dry_run: bool) -> TrimResult:
        """As `AgentSystem.trim`."""
        done = self.trim(agent, keep, nothing=nothing, dry_run=dry_run)
        if done.removed and not dry_run:
            partition = self._log.partition_of(agent)
            while self.trim_feed(partition) == _FEED_STEP:
                pass
        return done

    # -- trimming ------------------------------------------------------------------------------------------------------

    def trim(
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
        for pause in _PAUSES:
            head = self._agent_log(agent).head()
            try:
                return self._trim_at(agent, head, keep, dry_run=dry_run, nothing=nothing, least=least, most=most)
            except Trimmed:
                if self._agent_log(agent).head().base == head.base:
                    raise
            except (Fenced, VersionConflict):
                self._rest.wait(pause)  # two processes bring the same episodes into safety
        # Another process was in the way each time, between one look and the next.
        return self._trim_at(
            agent, self._agent_log(agent).head(), keep, dry_run=dry_run, nothing=nothing, least=least, most=most
        )

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
        keep = KEEP_ALL if nothing else keep or self._policy(state)
        target, held_by = head.seq if nothing else _by_rule(keep, head), None
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
        """Put the state at `target`, or before it where events are too young to go, in the place of what is before it.

        Returns the base, which is the one there was if nothing went.
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
                before=keep.cutoff(time_ns() // 1000),
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

    def _policy(self, state: AgentState) -> Retention:
        return self._retention if state.retention is None else retention_from_data(state.retention) or KEEP_ALL

    def _needs_of(self, agent: str, state: AgentState) -> list[Need]:
        """Everything that keeps events of an agent from going."""
        names = list(state.checkpoints)
        there = self._log.exists([self._log.checkpoint_key(agent, name) for name in names])
        # The log is read from before its pause where the checkpoint's own copy is damaged.
        needs = [
            Need(state.checkpoints[name][0], f"checkpoint {name!r}")
            for name, exists in zip(names, there, strict=True)
            if exists
        ]
        others = [needs_of(agent) for needs_of in self._needs]
        unread = self._consumers.first_seq(agent)  # last: what is asked before may be what brings a consumer forward
        if unread is not None:
            needs.append(Need(unread[1], f"consumer {unread[0]!r}"))
        return [*needs, *[need for need in others if need is not None]]

    def _fold_of(self) -> FoldOf:
        return folds_of(self._agents, self._registry)

    # -- feeds ---------------------------------------------------------------------------------------------------------

    def trim_feed(self, partition: int) -> int:
        """Remove from a feed what leads to no event any more and all durable consumers have passed; how many went."""
        lowest = self._consumers.lowest(partition)
        position = 0
        while True:
            try:
                page = self._log.feed_page(partition, position, _FEED_STEP)
                break
            except Trimmed as trimmed:
                position = int(trimmed.actual)
        most = page.end if lowest is None else lowest.mark.position
        bases: dict[str, int] = {}
        gone = 0
        for entry in page.entries:
            if entry.agent not in bases:
                head = self._log.head(entry.agent)
                bases[entry.agent] = 0 if head is None else head.base
            if position + gone >= most or entry.first_seq + entry.count - 1 > bases[entry.agent]:
                break
            gone += 1
        return self._log.trim_feed(partition, position + gone) - position if gone else 0


def _by_rule(keep: Retention, head: Head) -> int:
    """The last seq that the rules about numbers let go; those about time are asked while events are read."""
    if keep.keeps_all:
        return head.base
    return head.seq if keep.events is None else head.seq - keep.events
