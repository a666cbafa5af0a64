"""Sending the commands of recorded sessions: many sessions at a time, each command once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from attrs import define, field

from duramen.events import AgentAlreadyRunning, AskTimeout, DuramenError, Fenced, Unavailable
from duramen.events.log import Entry
from duramen.projections.state import TERMINATED_STATUS

from ...api import AgentHandle, AgentSystem
from ...commands import LifecycleResult
from ..exit_codes import ExitCode, exit_code_of
from .recordings import RecordedSession
from .steps import Step, done_steps, steps_of

_TRIES: Final = 20
"""Attempts of one command whose agent another process claims, which works on the same session."""
_LOST_TRIES: Final = 3
"""Attempts of one command at a server that does not answer; most attempts wait for ten seconds or more."""


@define
class Totals:
    """Counts of a run so far. `sessions` and `messages` are those processed, `known_sessions` those already there.

    A message that two runs add to the same session at the same time is in the log once, and counted by both.
    """

    sessions: int = 0
    messages: int = 0
    known_sessions: int = 0
    added_messages: int = 0
    events: int = 0
    checkpoints: int = 0
    episodes: int = 0
    failures: list[tuple[str, DuramenError]] = field(factory=list[tuple[str, DuramenError]])


class Ingestion:
    """One run over sessions with their agent paths. `totals` is correct at any moment, also after an interruption."""

    def __init__(self, system: AgentSystem, known: Mapping[str, Entry], on_progress: Callable[[Totals], None]) -> None:
        self.totals = Totals()
        self._system = system
        self._known = known
        self._on_progress = on_progress

    async def run(self, sessions: Iterator[tuple[str, RecordedSession]], parallel: int) -> None:
        """Process all sessions, `parallel` at a time, the commands of one in order.

        The error of one session goes into `totals`. Raises the error of a server that cannot be used, which ends the
        run.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(parallel):
                    group.create_task(self._process(sessions))
        except* DuramenError as failed:
            raise _first(failed) from None

    async def _process(self, sessions: Iterator[tuple[str, RecordedSession]]) -> None:
        for path, session in sessions:
            try:
                await self._process_one(path, session)
            except DuramenError as error:
                if exit_code_of(error) is ExitCode.SERVER:
                    raise
                self.totals.failures.append((path, error))
            self.totals.sessions += 1
            self._on_progress(self.totals)

    async def _process_one(self, path: str, session: RecordedSession) -> None:
        """Send the commands of one session that its agent has not handled yet."""
        entry = self._known.get(path)
        if entry and entry.status == TERMINATED_STATUS and entry.session_id == session.session_id:
            self._skip(len(session.messages), whole=True)
            return
        steps = steps_of(session)
        done = await self._done_steps(path, session, steps) if entry else 0
        self._skip(sum(step.kind == "message" for step in steps[:done]), whole=done == len(steps))
        handle = self._system.agent(path)
        seq = entry.seq if entry else 0
        for step in steps[done:]:
            reached = await _send(handle, step)
            self._count(step, max(0, reached - seq))
            seq = max(seq, reached)

    async def _done_steps(self, path: str, session: RecordedSession, steps: list[Step]) -> int:
        state = await asyncio.to_thread(self._system.peek, path)
        done = done_steps(state, steps)
        if 0 < done < len(steps) and state.session_id != session.session_id:
            raise AgentAlreadyRunning(
                f"{path} was given another session ({state.session_id}) in the middle of this one; "
                "run the recording under another --project",
                agent=path,
                seq=state.seq,
            )
        return done

    def _skip(self, messages: int, *, whole: bool) -> None:
        self.totals.messages += messages
        self.totals.known_sessions += whole

    def _count(self, step: Step, events: int) -> None:
        totals = self.totals
        totals.events += events
        totals.checkpoints += step.kind == "pause"
        totals.episodes += step.kind == "terminate"
        if step.kind == "message":
            totals.messages += 1
            totals.added_messages += 1
            self._on_progress(totals)


async def _send(handle: AgentHandle, step: Step) -> int:
    """Send a command until its outcome is known, and return the agent's seq after it."""
    fenced = lost = 0
    while True:
        try:
            result = await handle.aio.ask(step.message)
        except Fenced:
            fenced += 1
            if fenced >= _TRIES:
                raise
        except (Unavailable, AskTimeout):  # OutcomeUnknown among them: the command id makes it safe
            lost += 1
            if lost >= _LOST_TRIES:
                raise
        else:
            if isinstance(result, LifecycleResult):
                return int(result.raise_for_failure().data["seq"])
            return int(result.seq)


def _first(failed: ExceptionGroup[DuramenError]) -> DuramenError:
    first = failed.exceptions[0]
    return first if isinstance(first, DuramenError) else _first(first)
