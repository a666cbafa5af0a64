"""The history of agents: past states, comparison, verification, trimming, forks, export and import."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from time import time_ns
from types import NoneType
from typing import Any, BinaryIO, Final, cast
from uuid import UUID

from duramen.events import (
    AgentNotFound,
    AgentPath,
    InvalidMessage,
    PropertyPath,
    Trimmed,
    agent_path,
    property_segments,
)
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
    is_origin_available,
    origin_of,
    property_history,
    trace,
)
from duramen.projections.integrity import verify
from duramen.projections.recovery import AgentLog, FoldOf, Point, keep_keyframes, seq_of, state_before
from duramen.projections.sessions import Erasure, erase_agents, export_session, import_session, to_json_line

from ...commands import TrimResult, parse_retention, plain_id
from ...handlers import AgentFactory, Trimmer, folds_of
from ...work import pack_storable
from ..arguments import check_callable, check_count, open_for_reading, open_for_writing, parse_moment
from ..handles import AgentHandle, MessageSender
from .reading import Reading

_MOST_WORKERS: Final = 64


class History(Reading, MessageSender):
    """The part of a system that reads the past. Thread-safe. `trim`, `fork`, imports and keyframes also write."""

    _agents: dict[str, AgentFactory]
    """Factories by agent type: their agents fold the events of their own."""
    _trimmer: Trimmer

    def state_at(
        self,
        path: str | AgentPath,
        seq: int | None = None,
        *,
        time: datetime | None = None,
        checkpoint: str | None = None,
    ) -> PastState:
        """Return an agent's state after the event at `seq`, at a `time` (aware), at a checkpoint, or now.

        The state is read-only and does not change later. It has the custom state of an `Agent` subclass if the class is
        registered. A time is looked up among the times of the events: see `seq_of_time`.

        Raises AgentNotFound, InvalidMessage (no such seq), CheckpointNotFound, Trimmed, CorruptEvent,
        UnknownEventType.
        """
        name = agent_path(path).text
        return self._state_at(name, parse_moment(name, seq, time, checkpoint))

    def replay(self, path: str | AgentPath, from_seq: int | None = None, to_seq: int | None = None) -> Replay:
        """Step forward and back through the events `from_seq` to `to_seq`, by default all, with the state after each.

        Raises AgentNotFound, Trimmed, InvalidMessage; its steps also CorruptEvent, UnknownEventType.
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
        """Store missing keyframes along an agent's log, which make any seq quick to reach. Returns how many.

        Beside each it stores what has set the values there, for `blame`. Reads the whole log after the last keyframe,
        and after the last one that has that beside it. Raises AgentNotFound, CorruptEvent, NotPermitted.
        """
        agent_log = self._agent_log(path)
        count = sum(1 for _ in keep_keyframes(agent_log, self._fold_of()))
        trace(agent_log, agent_log.head().seq)
        return count

    def tree_at(
        self, path: str | AgentPath, seq: int | None = None, *, time: datetime | None = None
    ) -> dict[str, PastState]:
        """Return the states of an agent and all below it at one moment, by path: at the root's `seq`, a `time`, or now.

        The cut is consistent: it holds the events committed before the moment, and the causes of all of them. Agents
        that did not exist yet are left out. The order is read from the feed of the partition; an import does not carry
        it, so of an imported tree only later moments can be told apart.

        Raises as `state_at`, and Trimmed where the feed was trimmed.
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
        """Iterate over the changes of a property, oldest first: event, old and new value, or MISSING.

        Reads the whole log in pages, as far as it was not trimmed, that of a fork after that of its origin. Each change
        costs a copy of the value. Raises AgentNotFound, InvalidPath; while iterating also CorruptEvent,
        UnknownEventType, Unavailable.
        """
        return property_history(self._agent_log(path), property_segments(property))

    def diff(
        self,
        path: str | AgentPath,
        a: Point | None = None,
        b: Point | None = None,
        *,
        other: str | AgentPath | None = None,
    ) -> Comparison:
        """Compare two moments of an agent, or a moment of it with one of another agent.

        A moment is a seq, a time or a checkpoint id; None is now. Raises as `state_at`.
        """
        return compare(self._state_at(path, a), self._state_at(path if other is None else other, b))

    def blame(
        self, path: str | AgentPath, property: str | PropertyPath = "", at: Point | None = None, *, most: int = 1_000
    ) -> Blame:
        """Find the event that set the value of a property now, or at a moment: with its command, session and causes.

        For a dict or list, it finds the event of each value in it, at most `most` values. Reads the events after the
        last keyframe that has beside it what has set its values, and stores that beside those it passes: so it is slow
        but once, where it may write. Raises PathNotFound, InvalidMessage for more values, and as `state_at`.
        """
        check_count("most", most)
        segments = property_segments(property)
        agent_log, seq = self._find_moment(path, at)
        return blame(agent_log, segments, to_seq=seq, most=most)

    def verify(
        self,
        path: str | AgentPath | None = None,
        *,
        tree: bool = False,
        workers: int = 4,
        progress: Callable[[VerificationProgress], object] | None = None,
    ) -> VerificationReport:
        """Check all stored data of an agent, of it and all below it, or of all agents.

        Every event is checked against the chain of digests and folded; snapshots, checkpoints, keyframes and bases must
        equal the fold of the events before them. Without a path, feeds, directories, episodes, the index of unfinished
        work and the views of durable consumers are checked as well. Damage is reported, not raised. Agents may run
        meanwhile. `workers` agents are checked at a time; `progress` is called in this thread now and then, and stops
        the check by raising.

        Raises AgentNotFound, InvalidMessage, and Unavailable if the server is lost.
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
        return verify(
            self._log, agents, self._limits, self._fold_of, workers=workers, progress=progress, whole=name is None
        )

    def trim(
        self,
        path: str | AgentPath,
        *,
        keep_events: int | None = None,
        keep_days: float | None = None,
        dry_run: bool = False,
    ) -> TrimResult:
        """Replace an agent's oldest events by their state, the base. Seqs do not change.

        At least the last `keep_events` stay, and all of the last `keep_days` days; without either, those of the agent's
        retention. Events that a checkpoint or a durable consumer needs always stay: `held_by` names it. `dry_run` trims
        nothing. The agent may run meanwhile. Events of types that are not registered here cannot be folded, and stay.

        Raises AgentNotFound, InvalidMessage, CorruptEvent, UnknownEventType, TooLarge, ValueRefused.
        """
        keep, nothing = parse_retention(keep_events, keep_days)
        return self._trimmer.trim(agent_path(path).text, keep, nothing=nothing, dry_run=dry_run)

    # -- forks ------------------------------------------------------------------------------------------------------

    def fork(
        self,
        path: str | AgentPath,
        at: Point | None = None,
        *,
        to: str | AgentPath,
        tree: bool = False,
        session_id: str | UUID | None = None,
        continue_work: bool = False,
        instead: Mapping[str, Any] | None = None,
    ) -> AgentHandle:
        """Make a new agent from any moment of another's past: a seq, a time, a checkpoint, or now.

        The fork has the working memory, granularity and custom state of that moment, its own session and no
        checkpoints. `tree` forks all sub-agents as they were at that moment. The fork runs, unless the session had
        ended. The cost does not depend on the length of the log. The origin is not changed and may be trimmed or
        terminated; `state_at` and `diff` of the fork read the origin's events as long as they exist.

        Work that was not at its end stays with the origin. With `continue_work` the fork goes on with it: it waits for
        the same answers and times, and begins steps and asks without a result again, under keys of their own. `instead`
        gives these other results, by the name of the step or the path of the agent asked, and nothing is called. Its
        log then begins with copies of the events since the oldest such message. Reminders stay with the origin.

        Raises AgentExists if `to` exists, AgentNotFound also for a moment before the agent existed, and as `state_at`;
        of work that is carried on InvalidMessage for a moment in the middle of an append of a handler or for an
        `instead` that names nothing under way, ValueRefused, TooLarge, and Trimmed where its events are gone.
        """
        results = self._parse_instead(continue_work, instead)
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
            instead=results,
        )
        if continue_work:
            self._look_for_work()
        return AgentHandle(self, target)

    def _look_for_work(self) -> None:
        """Have the host look for unfinished work now; without one, other hosts find it when they look next."""

    def _parse_instead(self, continue_work: bool, instead: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The results that a fork gives to what is under way; None: it leaves work behind."""
        if type(cast("object", continue_work)) is not bool:
            raise InvalidMessage("continue_work is a bool", actual=type(continue_work).__name__)
        if instead is not None and not continue_work:
            raise InvalidMessage("instead gives results to work that goes on: fork with continue_work=True")
        if not isinstance(cast("object", instead), (Mapping, NoneType)):
            raise InvalidMessage("instead has a result by the name of a step", actual=type(instead).__name__)
        results = dict(instead or {})
        for name, value in results.items():
            pack_storable(value, self._limits, f"the result in place of {name}")
        return results if continue_work else None

    def origin(self, path: str | AgentPath) -> Origin | None:
        """Return where an agent was forked from; None if it was not, or was trimmed since. Raises AgentNotFound."""
        return origin_of(self._agent_log(path))

    # -- export and import --------------------------------------------------------------------------------------------

    def export_session(
        self,
        path: str | AgentPath,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        tree: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Session:
        """Write an agent, or it and all below it, to one file: events as stored, checkpoints, and the base if trimmed.

        `file` is a path, replaced only once the file is complete, or a file open for bytes. Agents may run meanwhile; a
        tree is written as it was at one moment. Every event is checked: raises CorruptEvent rather than export damage.
        `progress` is called with the number of events written so far. Also raises AgentNotFound, Trimmed where the log
        is trimmed half-way, InvalidMessage for a folder, and OSError.
        """
        check_callable("progress", progress)
        agents = self._paths_to_export(path, tree)
        with open_for_writing(file) as out:
            written_at = time_ns() // 1000
            return export_session(self._log, agents, out, self._limits, written_at=written_at, progress=progress)

    def import_session(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        to: str | AgentPath | None = None,
        *,
        progress: Callable[[int], object] | None = None,
    ) -> Session:
        """Import a file of `export_session`: the same events with the same digests, under the same path or `to`.

        Everything is checked while it is read and appears in one step: after an error there is no agent. An interrupted
        import can be repeated at once. `progress` is called with the number of events read so far. Under another path,
        the events themselves (of children, say) still name the old one.

        Raises AgentExists, CorruptEvent for a damaged file, InvalidMessage for another kind of file or a folder, and
        OSError.
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

    def erase(self, path: str | AgentPath, *, rewrite: bool = True) -> Erasure:
        """Erase an agent and all below it from the server, for good. Blocks.

        Log, base, snapshots, keyframes, checkpoints, live outputs, episodes and their vectors, unfinished work, owner,
        line and head go; entries of feeds keep their places without its path. A process that has the agent in memory
        gets Erased at its next call, and nothing of that call is written. The path can be spawned anew, and is another
        log. Subscriptions are told. Durable consumers that have read it take it out of their views, by `erase` of the
        projection or sink, or rebuild them. The result says what was removed and what cannot be reached.

        The servers begin to rewrite their append-only files, which hold the history of all keys, where this user may
        have them do so (`BGREWRITEAOF`). That takes a copy of all data: of many erasures, have the last one do it, and
        the others say `rewrite=False`.

        An erasure that was cut off is finished by whichever host looks next, by itself, or by the next erasure in its
        partition; one that is repeated removes nothing.
        Raises AgentNotFound if there never was such an agent, Unavailable, and NotPermitted.
        """
        root = agent_path(path).text
        erasure = erase_agents(self._log, root, self._limits, self._name_of_eraser(), rewrite=rewrite)
        self._note_erasure(erasure)
        return erasure

    def _note_erasure(self, erasure: Erasure) -> None:
        """Drop what this process has of agents that were erased, and let its subscriptions know."""

    def _name_of_eraser(self) -> str:
        """The host that erases; "" for none."""
        return ""

    def export_jsonl(
        self,
        path: str | AgentPath,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        tree: bool = False,
        from_seq: int = 1,
        progress: Callable[[int], object] | None = None,
    ) -> int:
        """Write an agent's events, or those of a whole tree, as JSON Lines for other tools. Returns their number.

        One event a line, in ASCII, agent by agent. `import_session` reads files of `export_session` only. `progress` is
        called with the number of events written so far, every hundred. Raises as `events`, and OSError.
        """
        check_callable("progress", progress)
        agents, count = self._paths_to_export(path, tree), 0
        with open_for_writing(file) as out:
            for agent in agents:
                for event in self.events(agent, from_seq=from_seq):
                    out.write(f"{to_json_line(event)}\n".encode())
                    count += 1
                    if progress is not None and count % 100 == 0:
                        progress(count)
        return count

    def _paths_to_export(self, path: str | AgentPath, tree: bool) -> list[str]:
        """The agent, also if it does not exist, and with `tree` all below it."""
        name = agent_path(path).text
        return [name, *(agent for agent in self._subtree(name) if agent != name)] if tree else [name]

    def _subtree(self, root: str | None) -> list[str]:
        """The paths of an agent and all below it, or of all agents, also those with a damaged head."""
        found = sorted(self._log.archive.agents())
        if root is None:
            return found
        return [agent for agent in found if agent == root or agent.startswith(f"{root}/")]

    def _state_at(self, path: str | AgentPath, point: Point | None) -> PastState:
        agent_log, seq = self._find_moment(path, point)
        rebuilt = state_before(agent_log, seq=seq, fold_of=self._fold_of())
        return PastState(agent_path(path).text, rebuilt.state, rebuilt.custom)

    def _find_moment(self, path: str | AgentPath, point: Point | None) -> tuple[AgentLog, int]:
        """The log and the seq of a moment; of one before a fork, those of its origin, if that still has them."""
        agent_log = self._agent_log(path)
        try:
            return agent_log, seq_of(agent_log, point)
        except Trimmed:
            origin = None if isinstance(point, str) else origin_of(agent_log)
            if origin is None or not is_origin_available(self._log, origin):
                raise
            found, seq = self._find_moment(origin.agent, point)
            return found, min(seq, origin.seq) if found.agent == origin.agent else seq

    def _agent_log(self, path: str | AgentPath) -> AgentLog:
        return AgentLog(self._log, agent_path(path).text, self._limits, self._registry)

    def _fold_of(self) -> FoldOf:
        return folds_of(self._agents, self._registry)
