"""An agent in memory: takes its messages in turns, has each turn committed, and lets the replies go."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from duramen.events import AgentFailed, DuramenError, MailboxFull, Unconfirmed
from duramen.events.codec import Codec
from duramen.events.log import Answer, Status
from duramen.events.logging import get_logger, raised_at
from duramen.projections.recovery import Rebuilt
from duramen.projections.state import ABSENT, PAUSED_STATUS, TERMINATED_STATUS

from ..agent import Agent
from ..commands import Get, GetStatus, Hold, Keys, LifecycleResult, ListCheckpoints, Spawn
from ..dispatch import COMMITTING, HELD, IDLE, WORKING, Envelope, Inbox, Mailbox, ThreadPool
from ..handlers import (
    BLOCKING_HANDLERS,
    LIFECYCLE,
    MEMORY_HANDLERS,
    QUICK_HANDLERS,
    AgentTimers,
    Transition,
    Turn,
    announce,
    timed,
)
from .append_errors import fenced, for_agent, problem_of
from .snapshots import Snapshots
from .user_handler import handle_custom, run_soon

if TYPE_CHECKING:
    from ..handlers import Services

__all__ = ["NOT_READY", "Runtime"]

NOT_READY: Final = ""
"""No agent type: the object was made for the session that runs, not for a new one."""

_MOST_MESSAGES: Final = 256
"""Of one agent in one turn, so that the others have theirs."""
_READS: Final = frozenset((Get, Keys, GetStatus, ListCheckpoints, Hold))


class Runtime(Snapshots):
    """The runner of an active agent's mailbox. All but `_work` and what it calls happens in the core.

    One step: take the waiting messages, handle each, hand all their events to the journal as one append, and let the
    replies go when it is committed; meanwhile the agent does not run. Reads go through the same append (an empty one
    if nothing else), since only the log can say that this process still owns the agent. If the append fails, the
    state is forgotten and comes back from the log.
    """

    __slots__ = (
        "_create",
        "_handling",
        "_mailbox",
        "_presumed",
        "_ready_for",
        "_stash",
        "_thread_pool",
        "_timers",
        "agent",
        "custom",
        "fence",
        "last_used",
        "log_key",
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
        create: bool = False,
        presumed: bool = False,
        ready_for: str | None = NOT_READY,
    ) -> None:
        super().__init__(rebuilt.snapshot_seq)
        self.services = services
        self.path = mailbox.path
        self.agent = agent
        self.state = rebuilt.state
        self.custom = rebuilt.custom
        self._mailbox = mailbox
        self.fence = fence
        self._create = create
        self._ready_for = ready_for  # the agent type of a spawn that this object was made for
        self._presumed = presumed  # that there is no such agent: nobody has looked yet
        self.log_key = services.log.log_key(mailbox.path)
        self.partition = services.log.partition_of(mailbox.path)
        self._stash: tuple[Envelope, ...] = ()
        self._timers: AgentTimers | None = None  # most agents never have one
        self._handling: Envelope | None = None  # by a worker thread
        self._thread_pool = ThreadPool("agent", 1, idle=None) if agent.own_thread else services.thread_pool
        self.last_used = monotonic()

    @property
    def may_rest(self) -> bool:
        """Whether the agent can leave memory without losing anything."""
        return not self._stash and (self._timers is None or not self._timers.pending)

    @property
    def timers(self) -> AgentTimers:
        """The agent's timers."""
        if self._timers is None:
            self._timers = AgentTimers(self.services, self.path)
        return self._timers

    def inbox(self) -> Inbox:
        """The agent's mailbox as Pykka's references see it."""
        return Inbox(self._mailbox, self.services.actors)

    # -- taking a turn -------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.last_used = monotonic()
        turn = Turn(self, self.services.codec)
        try:
            self._handle_waiting(turn)
        except Exception as error:  # a defect, not a refusal: nobody may be left waiting for it
            self._break(turn, error)
            return
        if turn.answers:
            self.finish(turn)
        elif self._mailbox.waiting and self._mailbox.runner is self:
            self._mailbox.phase = WORKING
            self._thread_pool.submit(self._work)

    def _handle_waiting(self, turn: Turn) -> None:
        """Handle messages from the first on, until one may block or the turn is full."""
        waiting, state = self._mailbox.waiting, self.state
        most, taken, anew = min(len(waiting), _MOST_MESSAGES), 0, None
        try:
            while taken < most and (not taken or turn.has_room()):
                envelope = waiting[taken]
                kind: type[Any] = envelope.message.__class__
                if state.status == PAUSED_STATUS and self._held_back(envelope, kind):
                    taken += 1
                    continue
                handler = MEMORY_HANDLERS.get(kind)
                if handler is not None:
                    turn.handle(envelope, handler)
                    taken += 1
                    continue
                handler = QUICK_HANDLERS.get(kind)
                if kind is Spawn and not self._is_ready(envelope.message):
                    anew = envelope
                    break
                if handler is None or (kind in LIFECYCLE and _may_block(envelope.message)):
                    break
                turn.handle(envelope, handler)
                taken += 1
                if self._presumed or turn.hold:
                    break
        finally:
            del waiting[:taken]  # others only ever add at the end
        if anew is not None:
            self._make_anew(turn, anew)

    def _is_ready(self, message: Spawn) -> bool:
        """Whether this object may begin the session that a spawn asks for."""
        if self.state.status not in (ABSENT, TERMINATED_STATUS):
            return True  # there will be no new session
        wanted = None if message.agent_type is None else str(message.agent_type)
        plain = type(self.agent) is Agent and wanted not in self.services.agents
        return plain or wanted == self._ready_for

    def begin_session(self) -> None:
        """A spawn is handled: the next one needs an object of its own."""
        self._ready_for = NOT_READY

    def _make_anew(self, turn: Turn, envelope: Envelope) -> None:
        """Have an object made for the agent type of a spawn, which then handles it."""
        if not turn.answers:  # else: first what came before it
            envelope.tries = 1
            self.drop()

    def _held_back(self, envelope: Envelope, kind: type[Any]) -> bool:
        """Keep a message of a paused agent for later, if the pause said so; reads and lifecycle pass."""
        if self.state.when_paused != "stash" or kind in _READS or kind in LIFECYCLE:
            return False
        if len(self._stash) >= self.services.limits.stash_messages:
            envelope.refuse(MailboxFull(f"{self.path} is paused and its stash is full; resume it", agent=self.path))
        else:
            self._stash += (envelope,)
        return True

    def _break(self, turn: Turn, error: Exception) -> None:
        """Tell everybody in a turn that it broke, and forget the state."""
        get_logger("agent").error(
            "turn_failed", agent=self.path, seq=turn.expected, error=type(error).__name__, at=raised_at(error)
        )
        failed = list(turn.answers)
        if self._mailbox.waiting:
            failed.append(self._mailbox.waiting.pop(0))
        for envelope in failed:
            broken = AgentFailed(f"{self.path} failed ({type(error).__name__}); nothing was written", agent=self.path)
            broken.__cause__ = error
            envelope.refuse(broken)
        self.drop()

    def _work(self) -> None:
        """Handle the first message in a worker thread, where it may block."""
        envelope = self._mailbox.waiting.pop(0)
        self._handling = envelope
        turn = Turn(self, Codec(self.services.limits))
        kind: type[Any] = envelope.message.__class__
        handler = BLOCKING_HANDLERS.get(kind)
        if handler is None:
            handle_custom(self, turn, envelope)
            return
        try:
            turn.handle(envelope, handler)
        except BaseException as error:
            self.give_up(turn, envelope, error)
        else:
            self.services.dispatcher.post(lambda: self.finish(turn))

    def give_up(self, turn: Turn, envelope: Envelope, error: BaseException) -> None:
        """A message broke the agent: its caller is told, and the agent comes back from its log. From any thread."""
        get_logger("agent").error(
            "agent_crashed", agent=self.path, seq=turn.expected, error=type(error).__name__, at=raised_at(error)
        )

        def crash() -> None:
            envelope.refuse(error)
            self.drop()

        self.services.dispatcher.post(crash)

    # -- committing -------------------------------------------------------------------------------------------------

    def finish(self, turn: Turn) -> None:
        """Hand a turn to the journal; in the core."""
        self._handling = None
        self.add_snapshot(turn)
        self._mailbox.phase = COMMITTING
        if not self._create:
            self.services.dispatcher.submit(turn)
        elif turn.items:
            turn.create = True
            self.services.dispatcher.submit(turn)
        else:
            self.settle(turn, Answer(Status.COMMITTED))  # nothing was ever written: nothing to confirm

    def settle(self, turn: Turn, answer: Answer | DuramenError) -> None:
        """Go on with the log's answer to a turn; in the core."""
        if isinstance(answer, Unconfirmed):
            self._committed(turn, answer)
        elif isinstance(answer, DuramenError):
            self._failed(turn, answer)
        elif answer.status in (Status.COMMITTED, Status.DUPLICATE):
            self._committed(turn, None)
        elif answer.status is Status.FENCED:
            self._fenced(turn, answer)
        elif answer.status is Status.EXISTS:
            self._mailbox.requeue(turn.answers)
            self.drop()
        else:
            self._failed(turn, problem_of(self.path, turn.expected, answer))

    def _committed(self, turn: Turn, unconfirmed: Unconfirmed | None) -> None:
        if turn.items:
            self._create = self._presumed = False
        for envelope in turn.answers:
            kind: type[Any] = envelope.result.__class__
            if envelope.error is not None:
                self._refuse(envelope, envelope.error)
            elif unconfirmed is not None and turn.items:
                envelope.refuse(for_agent(unconfirmed, self.path, self.state.seq))
            elif kind is Transition:
                announce(self.services, envelope, envelope.result)
            elif kind is LifecycleResult:
                envelope.answer(timed(envelope.result, envelope))
            else:
                envelope.deliver()
        if self._presumed:  # refused before anybody had looked whether there is such an agent
            self.drop()
            return
        if self._timers is not None and self.state.status == TERMINATED_STATUS:
            self._timers.cancel()
        for effect in turn.after:
            run_soon(self.services.thread_pool, effect, self.path, self.state.seq)
        if self._stash and self.state.status != PAUSED_STATUS:
            self._mailbox.requeue(self._stash)
            self._stash = ()
        if turn.hold:
            self._mailbox.phase = HELD
        else:
            self._rest()

    def release(self) -> None:
        """Go on after having been held; in the core."""
        if self._mailbox.phase == HELD:
            self._rest()

    def _rest(self) -> None:
        mailbox = self._mailbox
        mailbox.phase = IDLE
        if mailbox.waiting:
            self.services.dispatcher.schedule(mailbox)
        elif self.state.status == ABSENT:
            self.services.actors.remove_if_idle(mailbox)

    def _refuse(self, envelope: Envelope, error: BaseException) -> None:
        if not envelope.wanted:
            get_logger("agent").warning(
                "message_refused",
                agent=self.path,
                seq=self.state.seq,
                message=type(envelope.message).__name__,
                error=type(error).__name__,
            )
        envelope.refuse(error)

    # -- when it is not committed -----------------------------------------------------------------------------------

    def _fenced(self, turn: Turn, answer: Answer) -> None:
        """Another process has claimed the agent.

        What was asked before its claim was asked of a state that is no longer ours: refused, never written. What was
        asked after it claims the agent back and is handled on the state that the log has then; reads always are.
        """
        get_logger("agent").info("agent_fenced", agent=self.path, seq=turn.expected)
        waiting = self._mailbox.waiting
        again: list[Envelope] = []
        before = list(waiting)
        del waiting[: len(before)]  # others may have added some meanwhile
        for envelope in (*turn.answers, *before):
            if self._is_in_time(envelope, answer.claimed_at):
                again.append(envelope)
            else:
                envelope.refuse(fenced(self.path, turn.expected, self.fence, answer))
        self._mailbox.requeue(again)
        self.drop()

    def _is_in_time(self, envelope: Envelope, claimed_at: int) -> bool:
        """Whether a message may be handled on the state that the other process has made."""
        envelope.tries += 1
        if envelope.tries > self.services.settings.fenced_tries:
            return False
        return envelope.sent_at * 1_000_000 > claimed_at or type(envelope.message) in _READS

    def _failed(self, turn: Turn, error: DuramenError) -> None:
        for envelope in turn.answers:
            self._refuse(envelope, envelope.error or for_agent(error, self.path, turn.expected))
        self.drop()

    def drop(self, pause: float = 0.0) -> None:
        """Forget the state: whoever comes next, `pause` seconds from now, brings the agent back from its log."""
        self.leave()
        self._mailbox.requeue(self._stash)
        self._stash = ()
        self.services.actors.deactivate(self._mailbox)
        if pause > 0:
            self._mailbox.phase = HELD
            self.services.timers.call_later(pause, lambda: self.services.dispatcher.post(self._go_on))
        else:
            self._go_on()

    def abandon(self) -> list[Envelope]:
        """At the end of the system: what waits for the agent outside its mailbox, and will not be answered any more."""
        waiting, self._stash = list(self._stash), ()
        if self._handling is not None:
            waiting.append(self._handling)
        return waiting

    def leave(self) -> None:
        """Let go of what the agent has beside its state; it will not run again."""
        self.agent.actor_stopped.set()
        if self._timers is not None:
            self._timers.cancel()
        if self._thread_pool is not self.services.thread_pool:
            self._thread_pool.close(0)

    def _go_on(self) -> None:
        mailbox = self._mailbox
        mailbox.phase = IDLE
        if mailbox.waiting:
            self.services.dispatcher.schedule(mailbox)
        else:
            self.services.actors.remove_if_idle(mailbox)


def _may_block(message: Any) -> bool:
    """Whether a lifecycle message needs more than the state: its first result from the log, or other agents."""
    return message.command_id is not None or getattr(message, "cascade", False)
