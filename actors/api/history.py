"""The past of agents: to be looked at, compared, proven and carried elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from time import time_ns
from typing import BinaryIO, Final, cast
from uuid import UUID

from duramen.events import AgentNotFound, AgentPath, PropertyPath, Trimmed, agent_path, property_segments
from duramen.projections import (
    Blame,
    Comparison,
    Origin,
    PastState,
    PropertyChange,
    Replay,
    Session,
    VerificationProgress,
    VerificationReport,
)
from duramen.projections.history import (
    blame,
    compare,
    cut_at_seq,
    cut_at_time,
    cut_now,
    fork_agents,
    is_there,
    origin_of,
    property_history,
)
from duramen.projections.integrity import verify
from duramen.projections.recovery import AgentLog, FoldOf, Point, keep_keyframes, rebuild_base, seq_of, state_before
from duramen.projections.sessions import export_session, import_session, to_json_line

from ..agent_types import AgentFactory, folds_of
from ..commands import plain_id
from .arguments import check_callable, check_count, open_for_reading, open_for_writing, parse_moment
from .handles import AgentHandle, MessageSender
from .reading import Reading

__all__ = ["History"]

_MOST_WORKERS: Final = 64


class History(Reading):
    """The part of a system that looks back. Reads only, but for imports and forks. Thread-safe."""

    _agents: dict[str, AgentFactory]
    """What runs agents of a type, so how their own events fold."""

    def state_at(
        self,
        path: str | AgentPath,
        seq: int | None = None,
        *,
        time: datetime | None = None,
        checkpoint: str | None = None,
    ) -> PastState:
        """An agent as it was: after the event at `seq`, at a `time` (aware), or at a checkpoint; else as it is.

        Read-only, and not disturbed by what happens now. The custom state of an `Agent` subclass is there where the
        class is registered. A time is looked up by the events' own times: see `seq_of_time`.

        Raises AgentNotFound, InvalidMessage (no such seq), CheckpointNotFound, Trimmed, CorruptEvent,
        UnknownEventType.
        """
        name = agent_path(path).text
        return self._state_at(name, parse_moment(name, seq, time, checkpoint))

    def replay(self, path: str | AgentPath, from_seq: int | None = None, to_seq: int | None = None) -> Replay:
        """The events `from_seq` to `to_seq`, each with the state after it; forward and back. Else all that are there.

        Raises AgentNotFound, Trimmed, InvalidMessage; while walking also CorruptEvent, UnknownEventType.
        """
        name = agent_path(path).text
        return Replay(
            self._log,
            name,
            registry=self._registry,
            limits=self._limits,
            fold_of=self._fold_of(),
            from_seq=self._agent_log(name).head().base + 1 if from_seq is None else from_seq,
            to_seq=to_seq,
        )

    def keep_keyframes(self, path: str | AgentPath) -> int:
        """Keep states along an agent's log wherever they are missing, so that any seq is quick to get to; how many.

        For logs that were written without. Writes, and reads the whole log behind the last one that is kept. Raises
        AgentNotFound, CorruptEvent, NotPermitted.
        """
        return sum(1 for _ in keep_keyframes(self._agent_log(path), self._fold_of()))

    def tree_at(
        self, path: str | AgentPath, seq: int | None = None, *, time: datetime | None = None
    ) -> dict[str, PastState]:
        """An agent and all below it as they were together, by path: when the first stood at `seq`, at a `time`, or now.

        A consistent cut: it has, of each agent, what was committed before; nothing is in it that came from what is
        not. Agents that were not there yet are left out. Reads the part of the log that tells the order, which is
        shared with the other agents of the partition. An import does not carry that order: of a tree that was imported,
        only what came after can be told apart.

        Raises as `state_at`, and Trimmed where the order was trimmed.
        """
        root = self._agent_log(path)
        point = parse_moment(root.agent, seq, time, None)
        if point is None:
            seqs = cut_now(root, self._subtree(root.agent))
        elif isinstance(point, datetime):
            seqs = cut_at_time(root, point)
        else:
            seqs = cut_at_seq(root, seq_of(root, point))
        return {agent: self.state_at(agent, seq=at) for agent, at in sorted(seqs.items())}

    def history(self, path: str | AgentPath, property: str | PropertyPath) -> Iterator[PropertyChange]:
        """Every change of what is at a property path, oldest first: event, old and new value, or MISSING.

        Reads the whole log in pages, or what is left of it. Each change costs a copy of the value.
        Raises InvalidPath; while iterating what reading raises.
        """
        agent_log, segments = self._agent_log(path), property_segments(property)
        return property_history(agent_log, segments, rebuild_base(agent_log), agent_log.head().seq)

    def diff(
        self,
        path: str | AgentPath,
        a: Point | None = None,
        b: Point | None = None,
        *,
        other: str | AgentPath | None = None,
    ) -> Comparison:
        """What differs between two moments of an agent, or between a moment of it and one of another agent.

        A moment is a seq, a time or the id of a checkpoint; None is now. Raises as `state_at`.
        """
        return compare(self._state_at(path, a), self._state_at(path if other is None else other, b))

    def blame(
        self, path: str | AgentPath, property: str | PropertyPath = "", at: Point | None = None, *, most: int = 1_000
    ) -> Blame:
        """Which event set what is at a property path now, or was at a moment: with its command, session and causes.

        Of a dict or list, the same for each value in it, at most `most`. Reads the whole log in pages. Raises
        PathNotFound, InvalidMessage for more values, and as `state_at`.
        """
        check_count("most", most)
        agent_log, segments = self._agent_log(path), property_segments(property)
        return blame(agent_log, segments, to_seq=seq_of(agent_log, at), most=most)

    def verify(
        self,
        path: str | AgentPath | None = None,
        *,
        tree: bool = False,
        workers: int = 4,
        progress: Callable[[VerificationProgress], object] | None = None,
    ) -> VerificationReport:
        """Whether everything stored of an agent, of it and all below it, or of all agents is what was written.

        Every event is checked against the chain of digests and folded; snapshots, checkpoints, keyframes and bases must
        be the fold of what is before them. Damage is reported, never raised. Agents may run meanwhile. `workers` agents
        are looked at together; `progress` is called from this thread now and then, and ends it by raising.

        Raises AgentNotFound, InvalidMessage, and Unavailable for a server that is lost.
        """
        check_count("workers", workers, _MOST_WORKERS)
        check_callable("progress", progress)
        name = None if path is None else agent_path(path).text
        agents = [name] if name is not None and not tree else self._subtree(name)
        if name is not None and not tree:
            raw = self._log.archive.raw(name, 0, 1)
            if raw.head is None and not raw.head_is_damaged and raw.length == 0:
                agents = []
        if name is not None and not agents:
            raise AgentNotFound(f"there is no agent {name}; spawn it first", agent=name)
        return verify(self._log, agents, self._limits, self._fold_of, workers=workers, progress=progress)

    # -- another course ---------------------------------------------------------------------------------------------

    def fork(
        self,
        path: str | AgentPath,
        at: Point | None = None,
        *,
        to: str | AgentPath,
        tree: bool = False,
        session_id: str | UUID | None = None,
    ) -> AgentHandle:
        """Make a new agent that goes on from any moment of another's past: a seq, a time, a checkpoint, or now.

        It has the working memory, the granularity and the own state of that moment, a session of its own, no
        checkpoints, and no sub-agents unless `tree`, which forks all below it as they were together. It runs, unless
        the session had ended by then. It costs the same however long the past is. The origin is not touched, and may be
        trimmed or terminated; while it has its past, `state_at` and `diff` of the fork reach into it.

        Raises AgentExists for a path that is taken, AgentNotFound also for a moment before the agent was there, and as
        `state_at`.
        """
        root, target = self._agent_log(path), agent_path(to).text
        seq = seq_of(root, at)
        seqs = {root.agent: seq}
        if tree:
            below = [] if at is not None else self._subtree(root.agent)
            seqs |= cut_now(root, below) if below else cut_at_seq(root, seq)
        fork_agents(
            root,
            seqs,
            target,
            fold_of=self._fold_of(),
            session_id=plain_id(session_id, "session_id"),
            now=time_ns() // 1000,
        )
        return AgentHandle(cast("MessageSender", self), target)

    def origin(self, path: str | AgentPath) -> Origin | None:
        """Where an agent was forked from; None if it was not, or if its log was trimmed since. Raises AgentNotFound."""
        return origin_of(self._agent_log(path))

    # -- elsewhere -------------------------------------------------------------------------------------------------

    def export_session(
        self, path: str | AgentPath, file: str | os.PathLike[str] | BinaryIO, *, tree: bool = False
    ) -> Session:
        """Write an agent, or it and all below it, to one file: events as stored, checkpoints, and the base if trimmed.

        `file` is a path, which is there whole at the end or unchanged, or a file that is open for bytes. An agent may
        run meanwhile; a tree is written as it stood at one moment. Every event is checked: raises CorruptEvent rather
        than to carry damage on. Also raises AgentNotFound, and what writing to the file does.
        """
        agents = self._paths_to_export(path, tree)
        with open_for_writing(file) as out:
            return export_session(self._log, agents, out, self._limits, written_at=time_ns() // 1000)

    def import_session(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        to: str | AgentPath | None = None,
        *,
        progress: Callable[[int], object] | None = None,
    ) -> Session:
        """Take in what `export_session` has written: the same events, so the same digests, under the same path or `to`.

        All is checked while it is read, and comes to be in one step: after an error there is no agent. An import that
        was interrupted can be done again at once. `progress` is called with the number of events taken in so far.
        Under another path, what the events themselves say (of children, for one) names the old one.

        Raises AgentExists, CorruptEvent for a damaged file, InvalidMessage for what is none, and what reading the file
        does.
        """
        name = None if to is None else agent_path(to).text
        check_callable("progress", progress)
        with open_for_reading(file) as source:
            return import_session(
                self._log,
                source,
                name,
                limits=self._limits,
                fold_of=self._fold_of(),
                now=time_ns() // 1000,
                progress=progress,
            )

    def export_jsonl(
        self,
        path: str | AgentPath,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        tree: bool = False,
        from_seq: int = 1,
    ) -> int:
        """Write an agent's events, or those of a whole tree, as JSON Lines for other tools; how many there were.

        One event a line, in ASCII, agent by agent. This is not read back: what comes back is what `export_session`
        wrote. Raises as `events`, and what writing to the file does.
        """
        agents, count = self._paths_to_export(path, tree), 0
        with open_for_writing(file) as out:
            for agent in agents:
                for event in self.events(agent, from_seq=from_seq):
                    out.write(f"{to_json_line(event)}\n".encode())
                    count += 1
        return count

    def _paths_to_export(self, path: str | AgentPath, tree: bool) -> list[str]:
        """An agent, and all below it if so told; the agent itself also if it is not there."""
        name = agent_path(path).text
        return [name, *(agent for agent in self._subtree(name) if agent != name)] if tree else [name]

    def _subtree(self, root: str | None) -> list[str]:
        """The paths of an agent and all below it, or of all agents; those whose head is damaged, too."""
        found = sorted(self._log.archive.agents())
        if root is None:
            return found
        return [agent for agent in found if agent == root or agent.startswith(f"{root}/")]

    def _state_at(self, path: str | AgentPath, point: Point | None) -> PastState:
        agent_log = self._agent_log(path)
        try:
            rebuilt = state_before(agent_log, seq=seq_of(agent_log, point), fold_of=self._fold_of())
        except Trimmed:
            found = self._before_fork(agent_log.agent, point)
            if found is None:
                raise
            return found
        return PastState(agent_log.agent, rebuilt.state, rebuilt.custom)

    def _before_fork(self, name: str, point: Point | None) -> PastState | None:
        """A moment from before an agent was forked, as its origin still has it; None if there is no such."""
        origin = origin_of(self._agent_log(name))
        if origin is None or not is_there(self._log, origin) or isinstance(point, str):
            return None
        found = self._state_at(origin.agent, point)
        return found.of(name) if found.seq <= origin.seq else self._state_at(origin.agent, origin.seq).of(name)

    def _agent_log(self, path: str | AgentPath) -> AgentLog:
        return AgentLog(self._log, agent_path(path).text, self._limits, self._registry)

    def _fold_of(self) -> FoldOf:
        return folds_of(self._agents, self._registry)
