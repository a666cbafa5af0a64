"""An agent in memory: its state, what it holds, and how it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, cast

from duramen.projections.recovery import Rebuilt
from duramen.projections.state import ABSENT

from ...agent import Agent
from ...dispatch import HELD, IDLE, Envelope, Inbox, Mailbox, ThreadPool
from ...handlers import AgentFactory, AgentTimers, Services
from ...work import AgentWork
from .snapshots import Snapshots
from .stash import Stash

_NO_SPAWN: Final = ""
"""In place of an agent type: the agent object was made for the session that runs, not for a new one."""


class LoadedAgent(Snapshots):
    """What a process has of an agent while it is in memory. Used in the core.

    Nothing has to be written when it leaves: the log has everything.
    """

    __slots__ = (
        "_confirmed",
        "_create",
        "_due_ms",
        "_factory",
        "_first_seq",
        "_handling",
        "_indexed",
        "_leaves",
        "_mailbox",
        "_presumed_absent",
        "_stash",
        "_storing",
        "_thread_pool",
        "_timers",
        "_work",
        "agent",
        "custom",
        "fence",
        "last_event",
        "last_used",
        "log_key",
        "made_for",
        "partition",
        "path",
        "services",
        "state",
    )

    def __init__(
        self,
        services: Services,
        mailbox: Mailbox,
        agent: Agent,
        fence: str,
        rebuilt: Rebuilt,
        *,
        factory: AgentFactory | None,
        create: bool = False,
        presumed_absent: bool = False,
        made_for: str | None = _NO_SPAWN,
    ) -> None:
        """`factory` has made the agent; `made_for` is the agent type of the spawn that it was made for."""
        super().__init__(rebuilt.snapshot_seq)
        self.services = services
        self.path = mailbox.path
        self.agent = agent
        self.state = rebuilt.state
        self.custom = rebuilt.custom
        self._mailbox = mailbox
        self._confirmed = (self.state.seq, self.state.digest)
        """Seq and digest of the last event that the log is known to have."""
        self.last_event = b""
        """The last event as it was stored from here; empty if it was not, or is too large to be kept."""
        self.fence = fence
        self._create = create
        self._factory = factory
        self.made_for = made_for
        """The agent type of the spawn that the agent object was made for."""
        self._presumed_absent = presumed_absent  # the log was not asked yet whether there is such an agent
        self.log_key = services.log.log_key(mailbox.path)
        self.partition = services.log.partition_of(mailbox.path)
        self._stash: Stash | None = None  # most agents never have one
        self._timers: AgentTimers | None = None  # most agents never have one
        self._work: AgentWork | None = None  # most agents never have any
        self._first_seq = self.state.seq
        """Where the log stood when the agent came into memory."""
        self._indexed: tuple[object, str] = (None, "")
        """The work and the status that the index of unfinished work was last looked at for."""
        self._due_ms: int | None = None
        """What stands in the index of unfinished work; None: not known here."""
        self._handling: Envelope | None = None
        """The message that a worker thread was given, and may not have taken yet."""
        self._storing: Sequence[Envelope] = ()
        """The messages of a turn whose contents a worker thread stores before the commit."""
        self._leaves = False
        self._thread_pool = ThreadPool("agent", 1, idle=None) if agent.own_thread else services.thread_pool
        self.last_used = monotonic()
        if rebuilt.state.expires_after is not None:
            services.expiring.add(mailbox.path)

    @property
    def can_passivate(self) -> bool:
        """Whether the agent can leave memory without losing anything."""
        is_working = self._work is not None and not self._work.can_passivate
        return not self._stash and not is_working and (self._timers is None or not self._timers.pending)

    @property
    def is_running(self) -> bool:
        """Whether the agent has something under way outside its mailbox: steps, until their results are in the log."""
        return self._work is not None and self._work.is_stepping

    @property
    def needs_class(self) -> bool:
        """Whether the agent is of a class of the user's."""
        return self._factory is not None

    @property
    def timers(self) -> AgentTimers:
        """The agent's timers."""
        if self._timers is None:
            self._timers = AgentTimers(self.services, self.path)
        return self._timers

    @property
    def _is_in_place(self) -> bool:
        """Whether the agent has not left, nor come into memory again since."""
        return cast("object", self._mailbox.runner) is self

    def start_handler(self, message: object) -> Any:
        """Call the handler of a message; what it returns is a coroutine, if it is a handler of durable messages."""
        return self.agent.actor_handle(message)

    def inbox(self) -> Inbox:
        """The agent's mailbox as Pykka's references see it."""
        return Inbox(self._mailbox, self.services.actors)

    def begin_session(self) -> None:
        """Note that a spawn was handled: the next session needs an agent object of its own."""
        self.made_for = _NO_SPAWN

    # -- leaving memory ------------------------------------------------------------------------------------------------

    def deactivate(self, pause: float = 0.0) -> None:
        """Drop the state: the next message, at the earliest in `pause` seconds, activates the agent from its log."""
        self.release_resources()
        self._mailbox.waiter = None
        if self._stash:
            self._mailbox.requeue(self._stash.clear())
        if self._work is not None:
            self._mailbox.requeue(self._work.take_waiting())
        self.services.actors.deactivate(self._mailbox)
        if pause > 0:
            self._mailbox.phase = HELD
            idle = partial(self._become_idle, leave=True)
            self.services.timers.call_later(pause, lambda: self.services.dispatcher.post(idle))
        else:
            self._become_idle(leave=True)

    def drop_if_idle(self) -> bool:
        """Drop the state unless something is under way; False: not now. In the core."""
        if self._is_in_place and self._mailbox.phase == IDLE:
            self.deactivate()
        return not self._is_in_place

    def leave(self, *, with_waiting: bool) -> bool:
        """Leave memory for another host: now, or else at the end of the turn. False while it is busy. In the core.

        What waits goes there too, if `with_waiting`; else it is handled here first. Timers keep an agent here.
        """
        self._leaves = with_waiting
        if self.is_running or self._mailbox.phase != IDLE or (self._mailbox.waiting and not with_waiting):
            return False
        if self._can_leave():
            self.deactivate()
            return False  # its tree is released next
        return not self._mailbox.waiting

    def _can_leave(self) -> bool:
        return not self.is_running and (self._timers is None or not self._timers.pending)

    def refuse_remote(self) -> None:
        """Have messages of other hosts that wait for the end of work sent to the next host; in the core."""
        if self._work is not None:
            self._work.refuse_remote()

    def withdraw(self, is_it: Callable[[Envelope], bool]) -> Envelope | None:
        mailbox, handled = self._mailbox, self._handling
        if handled is not None and is_it(handled):
            if not mailbox.withdraw_first(handled):
                return None
            self._handling = None
            return handled
        found = mailbox.withdraw(is_it)
        return self._stash.withdraw(is_it) if found is None and self._stash else found

    def abandon(self) -> list[Envelope]:
        """At the end of the system: the messages outside the mailbox that will not be answered any more."""
        waiting = self._stash.clear() if self._stash else []
        waiting += [] if self._work is None else self._work.take_waiting()
        if self._handling is not None:
            waiting.append(self._handling)
        return [*waiting, *self._storing]

    def release_resources(self) -> None:
        """Cancel the agent's timers and end its own thread; it will not run again.

        What the log is known to have is remembered, so that a later activation finds out if it was lost.
        """
        seq, digest = self._confirmed
        if seq:
            self.services.folds.note(self.path, seq, digest)
        else:
            self.services.folds.forget(self.path)
        self.services.hosting.trees.leave(self.path)
        self.agent.actor_stopped.set()
        self.services.expiring.discard(self.path)
        if self._timers is not None:
            self._timers.cancel()
        if self._work is not None:
            self._work.stop()
        if self._thread_pool is not self.services.thread_pool:
            self._thread_pool.close(0)

    def release(self) -> None:
        """End a hold; in the core."""
        if self._mailbox.phase == HELD:
            self._become_idle(leave=self.state.status == ABSENT)

    def _become_idle(self, *, leave: bool) -> None:
        """Handle what waits; if nothing does, keep the mailbox unless it is to leave."""
        mailbox = self._mailbox
        mailbox.phase = IDLE
        if mailbox.waiting:
            self.services.dispatcher.schedule(mailbox)
        elif leave:
            was_in_place = self._is_in_place
            if self.services.actors.remove_if_idle(mailbox):
                if was_in_place:
                    self.release_resources()
                elif self._work is not None:
                    self._work.note_left()  # a look before found the mailbox, and left the agent to it
