"""Work that goes on until its end: that of all agents, and reactors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from duramen.events import (
    AgentNotFound,
    CorruptEvent,
    Cursor,
    DataLoss,
    Diverged,
    Granularity,
    InvalidMessage,
    PathPattern,
)
from duramen.events.logging import get_logger
from duramen.projections import Runner

from ...commands import Reminder, UnfinishedWork, WorkProblem
from ...handlers import Services
from ...work import Retry, WorkFinder, check_work
from ..handles import THRICE, AgentHandle, HandlerReactor, MessageSender, ReactionHandler
from .following import Following

T = TypeVar("T")


class Work(Following, MessageSender):
    """The part of a system that shows unfinished work, and starts reactors. Thread-safe."""

    _finder: WorkFinder
    _services: Services

    def unfinished(self, *, limit: int = 1_000) -> list[UnfinishedWork]:
        """Return the work of all agents that has not ended, at most `limit` pieces, the oldest of each agent first.

        The work is read from the logs: no handler that runs is waited for, and no agent is taken from its host.
        Agents whose logs are damaged, or have lost events, are left out and logged: `verify` names damage, and the
        next read of the agent itself still raises DataLoss or Diverged. Raises Unavailable.
        """
        return self._of_all(self.read_unfinished, limit)

    def read_unfinished(self, path: str) -> list[UnfinishedWork]:
        """As `AgentHandle.unfinished`, for an agent by path; for a look at it that may be one among many."""
        with self._leaving_losses(path):
            return AgentHandle(self, path).unfinished()

    def reminders(self, *, limit: int = 1_000) -> list[Reminder]:
        """Return the reminders of all agents, at most `limit`, read as `unfinished` is. Raises Unavailable."""
        return self._of_all(lambda path: AgentHandle(self, path).reminders(), limit)

    def check_work(self) -> list[WorkProblem]:
        """Run all unfinished handlers again, up to where their logs end, with the classes that are registered here.

        Returns what this code would not carry on: where it does something else than a log has, and where it lacks a
        class or a message. No step runs, nothing is written, and agents stay where they are; open the system with
        `host=False`, so that it takes up nothing itself. Blocks. Raises Unavailable.
        """
        return [problem for path in self._agents_with_work() for problem in check_work(self._services, path)]

    def react(
        self,
        name: str,
        handler: ReactionHandler,
        *,
        pattern: str | PathPattern = "**",
        types: Iterable[str] | None = None,
        granularity: Granularity = Granularity.TRACE,
        retry: Retry = THRICE,
        after: Cursor | None = None,
        from_start: bool = False,
        standby: bool = False,
    ) -> Runner[Any]:
        """Have `handler(event, reaction)` act on the events of the agents that `pattern` names, under a durable name.

        It is called from now on, or for all events `after` a cursor or `from_start`; under a name that is known, from
        where it has come to. It gets each event at least once, those of an agent in order; what it asks of agents by
        `reaction.agent(path)` carries command ids and happens once. `reaction.key` is for services outside. It may be
        a coroutine function, and should be brief: what takes long is the work of an agent that it sends a durable
        message. If it raises, it is called again as `retry` says, and is then parked at that event: see `Runner.retry`
        and `skip`. Other events wait meanwhile.

        A name has one runner: the same call elsewhere fences the one before; with `standby` it stands by while another
        host that lives has the name, as `attach` says. Raises InvalidMessage (also for another pattern than before,
        since it would act again), InvalidPath, Unavailable, SystemClosed.
        """
        if after is not None and from_start:
            raise InvalidMessage("a reactor begins after a cursor, or at the start, not both")
        loop = self._services.loop
        reactor = HandlerReactor(self, loop, log=self._log.identity, name=name, handler=handler, retry=retry)
        begin = after if after is not None or from_start else self.cursor()
        return self.attach(
            reactor, name, agents=pattern, granularity=granularity, types=types, after=begin, standby=standby
        )

    def _of_all(self, call: Callable[[str], list[T]], limit: int) -> list[T]:
        """What a call returns for the paths of agents with work or reminders, together, at most `limit` of it."""
        found: list[T] = []
        for path in self._agents_with_work():
            try:
                with self._leaving_losses(path):
                    found += call(path)
            except AgentNotFound:  # it was erased meanwhile
                continue
            except (CorruptEvent, DataLoss, Diverged) as error:  # which hides no other
                get_logger("work").warning("agent_left_out", agent=path, error=type(error).__name__)
            if len(found) >= limit:
                break
        return found[:limit]

    @contextmanager
    def _leaving_losses(self, path: str) -> Generator[None]:
        """Leave a loss of events, which is told once, to who asks for the agent next."""
        folds = self._services.folds
        known = folds.position(path)
        try:
            yield
        except (DataLoss, Diverged):
            if known is not None:
                folds.note(path, *known)
            raise

    def _agents_with_work(self) -> Iterator[str]:
        return (path for partition in range(self._log.partitions) for path in self._finder.agents(partition))
