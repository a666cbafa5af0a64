"""The search for unfinished work: of hosts that have died or closed, of agents out of memory, and of what is due.

Agents that expire stand in the same index.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, takewhile
from random import SystemRandom
from threading import BoundedSemaphore, Lock
from time import monotonic
from typing import TYPE_CHECKING, Final

from duramen.events import DuramenError, SystemClosed
from duramen.events.log import Unfinished
from duramen.events.logging import get_logger, raised_at
from duramen.projections.sessions import finish_erasures
from duramen.projections.state import NEVER

from ..dispatch import Envelope, Timer
from .messages import TakeUp

if TYPE_CHECKING:
    from ..handlers import Services

_INTERVAL: Final = 5.0
"""Seconds between two looks."""
_AGAIN: Final = 1.0
"""Seconds until an agent is looked for that has left memory although its work could go on, or whose host drains."""
_PAGE: Final = 500
_MOST: Final = 64
"""Agents that are brought into memory at once."""
_TOGETHER: Final = 32
"""Agents that are brought together: while some are read, others are run."""
_SECONDS: Final = 60.0
"""Seconds that one of them may take before the next one follows."""
_LEAST_WAIT: Final = 0.01
_REFUSED_SECONDS: Final = 60.0
"""Seconds for which an agent is skipped that could not be brought into memory: no host has its class, say."""


class WorkFinder:
    """Looks in the index of unfinished work, and brings agents into memory that are due and that no other host has.

    It looks when the host starts, when another one has died, when something is due, and every few seconds, in a worker
    thread. Methods may be called from any thread, and do not block.
    """

    def __init__(self, services: Services, partitions: int) -> None:
        self._services = services
        self._partitions = partitions
        self._lock = Lock()
        self._is_looking = False
        self._is_asked = False
        self._timer: Timer | None = None
        """The timer of the look for what is due next, if that is soon."""
        self._is_stopped = False
        self._room = BoundedSemaphore(_MOST)
        self._refused: dict[str, float] = {}
        """Until when (`time.monotonic`) an agent is left alone."""
        self._taken: set[str] = set()
        """The roots of erasures that were taken over and are not finished. Used by the look."""

    def start(self) -> None:
        """Look now, and from now on."""
        self._services.timers.call_every(_INTERVAL, self.look)
        self.look()

    def stop(self) -> None:
        """Begin no more looks."""
        self._is_stopped = True

    def look_later(self, seconds: float) -> None:
        """Look in so many seconds. What is due already has left memory because of an error: not at once again."""
        self._look_in(_AGAIN if seconds <= 0 else seconds)

    def _look_in(self, seconds: float) -> None:
        """Have one timer for what is due first: its look finds what is due next, and regular looks find the rest."""
        if seconds >= _INTERVAL:
            return
        with self._lock:
            due, timer = monotonic() + seconds, self._timer
            if timer is None or timer.done or timer.due > due:
                if timer is not None:
                    timer.cancel()
                self._timer = self._services.timers.call_later(seconds, self.look)

    def look(self) -> None:
        """Look soon. A client, where no agent lives, never does."""
        if self._is_stopped or self._services.hosting.is_client:
            return
        with self._lock:
            self._is_asked = True
            if self._is_looking:
                return
            self._is_looking = True
        try:
            self._services.thread_pool.submit(self._run)
        except RuntimeError:  # no more threads now
            self._is_looking = False

    def look_again(self) -> None:
        """Look soon, also for agents that could not be brought into memory: more classes are registered now."""
        self._refused = {}
        self.look()

    def agents(self, partition: int) -> Iterator[str]:
        """The agents of a partition that have reminders or work which has not ended, due or not. Blocks."""
        last: Unfinished | None = None
        while True:
            page = self._services.log.hosts.unfinished(partition, _PAGE, after=last, until_ms=NEVER)
            yield from (found.agent for found in page.agents)
            if len(page.agents) < _PAGE:
                return
            last = page.agents[-1]

    def _run(self) -> None:
        while self._begin():
            try:
                self._look()
            except SystemClosed:
                return
            except DuramenError as error:  # a lost server: a later look may do
                get_logger("work").debug("not_looked_for_work", error=type(error).__name__)
            except Exception as error:  # a defect, which must not end all looking
                get_logger("work").error("not_looked_for_work", error=type(error).__name__, at=raised_at(error))

    def _begin(self) -> bool:
        with self._lock:
            self._is_looking, self._is_asked = self._is_asked, False
            return self._is_looking

    def _look(self) -> None:
        self._finish_erasures()
        now = monotonic()
        self._refused = {agent: until for agent, until in self._refused.items() if until > now}
        partitions = list(range(self._partitions))
        SystemRandom().shuffle(partitions)  # hosts that look at once find different work first
        for partition in partitions:
            if self._services.hosting.membership.is_draining:
                return
            due = (found.agent for found in self._due(partition) if self._is_nobodys(found))
            while group := list(islice(due, _TOGETHER)):
                self._take_up(group)

    def _finish_erasures(self) -> None:
        """Finish what hosts that are dead have begun to erase."""
        services, membership = self._services, self._services.hosting.membership
        if membership.is_draining:
            return
        try:
            finish_erasures(
                services.log,
                services.limits,
                services.owner,
                lambda host: membership.state_of(host) == "dead",
                self._taken,
            )
        except SystemClosed:
            raise
        except DuramenError as error:  # a user who may not erase, a lost server: the next look tries again
            get_logger("work").debug("erasures_not_finished", error=type(error).__name__)

    def _due(self, partition: int) -> Iterator[Unfinished]:
        last: Unfinished | None = None
        while True:
            page = self._services.log.hosts.unfinished(partition, _PAGE, after=last)
            yield from page.agents
            if page.next_due_ms is not None:
                left = (page.next_due_ms - page.until_ms) / 1000
                self._look_in(max(_LEAST_WAIT, left))
            if len(page.agents) < _PAGE:
                return
            last = page.agents[-1]

    def _is_nobodys(self, found: Unfinished) -> bool:
        """Whether no host has the agent in memory that could go on with its work."""
        services, host = self._services, found.owner.host
        if found.agent in self._refused:
            return False
        if host and host != services.owner:
            state = services.hosting.membership.state_of(host)
            if state == "draining":
                self._look_in(_AGAIN)  # it gives its agents up one by one
            if state != "dead":
                return False
        return found.agent in services.expiring or not services.actors.has_mailbox(found.agent)

    def _take_up(self, agents: list[str]) -> None:
        """Bring agents into memory once there is room for all of them: what comes together is read together."""
        room = list(takewhile(bool, (self._room.acquire(timeout=_SECONDS) for _ in agents)))
        for agent in agents[: len(room)]:
            self._send(agent)

    def _send(self, agent: str) -> None:
        envelope = Envelope(TakeUp(), wanted=False)
        envelope.add_done_callback(lambda: self._brought(agent, envelope.error))
        try:
            self._services.actors.send(agent, envelope)
        except DuramenError as error:
            envelope.refuse(error)

    def _brought(self, agent: str, error: BaseException | None) -> None:
        if error is not None:
            self._refused[agent] = monotonic() + _REFUSED_SECONDS
            get_logger("work").info("work_not_taken_up", agent=agent, error=type(error).__name__)
        self._room.release()
