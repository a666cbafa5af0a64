"""An agent in memory: it handles its messages in turns, and delivers the replies of a turn after its commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from duramen.events import (
    AgentFailed,
    AgentNotFound,
    DataLoss,
    Diverged,
    DuramenError,
    MailboxFull,
    OutcomeUnknown,
    Receipt,
)
from duramen.events.codec import Codec
from duramen.events.log import NOTHING_UNFINISHED, Answer, CommittedAppend, Durability, Head, Status
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import EXTERNAL
from duramen.projections import AgentState
from duramen.projections.recovery import LoadedAgentLog, Rebuilt
from duramen.projections.state import ABSENT, PAUSED_STATUS, TERMINATED_STATUS, due_of_agent, has_expired, open_work

from ..agent import Agent
from ..agent_types import AgentFactory
from ..commands import (
    Accept,
    AdoptChild,
    CancelAsked,
    CancelWork,
    ChildFailed,
    GetResult,
    Hold,
    LifecycleResult,
    Remind,
    RemoveReminder,
    RetryWork,
    SetGranularity,
    SetRetention,
    Spawn,
)
from ..commands import Answer as AnswerWork
from ..dispatch import COMMITTING, HELD, IDLE, WORKING, Envelope, Inbox, Mailbox, ThreadPool, Waiter
from ..handlers import (
    BLOCKING_HANDLERS,
    LIFECYCLE,
    MAY_BLOCK,
    MEMORY_HANDLERS,
    QUICK_HANDLERS,
    READS,
    AgentTimers,
    NeedsWorker,
    TimerStart,
    Transition,
    Turn,
    reply_to,
    with_duration,
)
from ..hosts import Forwarded, Repeated
from ..work import INTERNAL, AgentWork, Awaited, Continue, Expire, Note, Remember, Rerun, TakeUp, expire, expire_if_due
from .append_errors import append_error, fenced, for_agent, unmet
from .snapshots import Snapshots
from .stash import Stash
from .user_handler import run_effect, run_user_handler

if TYPE_CHECKING:
    from ..handlers import Services

_NO_SPAWN: Final = ""
"""In place of an agent type: the agent object was made for the session that runs, not for a new one."""

_MOST_MESSAGES: Final = 256
"""Messages of one agent in one turn, so that other agents get the core too."""
_type_of: Callable[[object], type[Any]] = type
"""The built-in with a narrower type, for type checkers."""

_WORK: Final = frozenset((*INTERNAL, CancelAsked, CancelWork, GetResult))
_READS: Final = frozenset((*READS, *_WORK, Hold))
_BESIDE_EXCLUSIVE: Final = frozenset(
    (
        *_READS,
        *LIFECYCLE,
        Accept,
        AnswerWork,
        RetryWork,
        AdoptChild,
        Remind,
        RemoveReminder,
        SetGranularity,
        SetRetention,
    )
)
"""What an agent handles while it has exclusive work, beside durable messages, which it accepts."""


# The states of an active agent; those in capitals are phases of its mailbox. Only the core changes them.
#
#     activated ──▶ IDLE ──run, quick messages──▶ COMMITTING ──committed──▶ IDLE
#                   IDLE ──run, a message that may block──▶ WORKING ──finish──▶ COMMITTING
#                   COMMITTING ──committed with a hold──▶ HELD ──release, or its part of a cascade finished──▶ …
#                   IDLE ──passivated──▶ gone
#     COMMITTING ──append failed, or fenced──┐
#     WORKING ──the handler crashed──────────┼──▶ deactivated: the next message activates it from its log
#     IDLE ──a turn failed, or a spawn───────┘
#            needs another agent object


class Runtime(Snapshots):
    """The runner of an active agent's mailbox. Everything but `_handle_blocking` and what it calls runs in the core.

    One step: handle the waiting messages, hand all their events to the journal as one append, and deliver the replies
    when it is committed; meanwhile the agent does not run. Reads go through the same append (an empty one if nothing
    else), since only the log can say that this process still owns the agent.
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
        "_thread_pool",
        "_timers",
        "_work",
        "agent",
        "custom",
        "fence",
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
        self._handling: Envelope | None = None  # in a worker thread
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
        """Whether the agent has something under way outside its mailbox: the functions of steps."""
        return self._work is not None and self._work.running > 0

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
    def work(self) -> AgentWork:
        """The agent's work on durable messages."""
        if self._work is None:
            self._work = AgentWork(self, self._mailbox, self._first_seq)
        return self._work

    def expect_work(self, loaded: LoadedAgentLog) -> None:
        """Keep what was read of the log for the work that is taken up next, if there is any."""
        if open_work(self.state):
            self.work.loaded = loaded

    def start_handler(self, message: object) -> Any:
        """Call the handler of a message; what it returns is a coroutine, if it is a handler of durable messages."""
        return self.agent.actor_handle(message)

    def note_accepted(self, work: int, item: bytes) -> None:
        """Keep the event of a durable message, as it will be stored, until its handler begins."""
        self.work.note_accepted(work, item)

    def inbox(self) -> Inbox:
        """The agent's mailbox as Pykka's references see it."""
        return Inbox(self._mailbox, self.services.actors)

    # -- handling messages -------------------------------------------------------------------------------------------

    def run(self) -> None:
        if self._leaves and self._can_leave():
            self.deactivate()
            self.services.hosting.trees.release_empty()
            return
        self.last_used = monotonic()
        if self._goes_on_now(self._mailbox.waiting[0].message):  # as below, which each result of a step would pass
            self._handle_elsewhere()
            return
        turn = Turn(self, self.services.codec)
        try:
            self._handle_waiting(turn)
        except Exception as error:  # a defect, not a refusal
            self._fail_turn(turn, error)
            return
        if turn.envelopes:
            self.finish(turn)
        elif self._mailbox.waiting and self._mailbox.runner is self:
            if self._is_outdated() and _needs_class(_type_of(self._mailbox.waiting[0].message)):
                self.deactivate()
                return
            self._handle_elsewhere()

    def _goes_on_now(self, message: Any) -> bool:
        """Whether a durable handler gets a result, and nothing is in the way."""
        if _type_of(message) is not Continue or not self._goes_on(message):
            return False
        return self.work.may_continue(message.work) and not self._is_exclusive() and not self._is_outdated()

    def _handle_elsewhere(self) -> None:
        """Have the first message handled by a worker thread, or by that of the event loop."""
        self._mailbox.phase = WORKING
        try:
            if self._goes_on(self._mailbox.waiting[0].message) or self._is_coroutine(self._mailbox.waiting[0]):
                self.services.loop.call(self._handle_blocking)
            else:
                self._thread_pool.submit(self._handle_blocking)
        except Exception as error:  # no more threads
            self._fail_turn(Turn(self, self.services.codec), error)

    def _goes_on(self, message: object) -> bool:
        """Whether a durable handler goes on, and nothing has to be read: that runs where coroutines do.

        Worker threads would only pass the interpreter's lock on to each other.
        """
        is_own = _type_of(message) in INTERNAL and not self.agent.own_thread
        return is_own and self.work.goes_on_at_once(message)

    def _is_coroutine(self, envelope: Envelope) -> bool:
        """Whether a message's handler is a coroutine, and nothing else about it may block: then no worker is needed."""
        message, services = envelope.message, self.services
        kind = _type_of(message)
        is_asked_more = envelope.command_id is not None or envelope.durability is not None  # of the log, or the server
        if is_asked_more or self.agent.own_thread or not _is_user_message(kind) or kind in _WORK:
            return False
        return self.agent.actor_is_coroutine(message) and services.hosting.membership.may_begin()

    def _handle_waiting(self, turn: Turn) -> None:
        """Handle messages from the first on, until one may block or the turn is full."""
        waiting, state = self._mailbox.waiting, self.state
        most, taken, misfit = min(len(waiting), _MOST_MESSAGES), 0, None
        limits, items = self.services.limits, turn.items
        most_bytes, most_events = limits.batch_bytes // 2, limits.batch_events
        has_exclusive = self.services.registry.has_exclusive
        try:
            while taken < most and (not taken or (turn.size < most_bytes and len(items) < most_events)):
                envelope = waiting[taken]
                kind = _type_of(envelope.message)  # not __class__, which may be code of the user's
                if state.status == PAUSED_STATUS:
                    is_stashed = self._waits_for_resume(kind) and self._stash_message(envelope)
                else:  # the message before may have begun, or ended, exclusive work
                    is_exclusive = has_exclusive and self._is_exclusive()
                    is_stashed = is_exclusive and self._waits_for_work(envelope) and self._stash_message(envelope)
                if is_stashed:
                    taken += 1
                    continue
                handler = MEMORY_HANDLERS.get(kind)
                if handler is not None:
                    turn.handle(envelope, handler)
                    taken += 1
                    continue
                handler = QUICK_HANDLERS.get(kind)
                if handler is None and self._handle_work(turn, envelope, kind):
                    taken += 1
                    continue
                if kind is Spawn and not self._fits(envelope.message):
                    misfit = envelope
                    break
                if handler is None or (kind in MAY_BLOCK and _may_block(envelope.message, state)):
                    break
                turn.handle(envelope, handler)
                taken += 1
                if self._presumed_absent or turn.hold:
                    break
        except NeedsWorker:  # of the message that is first now
            turn.command, turn.cause, turn.unconfirmed = None, EXTERNAL, None
        finally:
            del waiting[:taken]  # others only ever add at the end
        if misfit is not None and not turn.envelopes:  # else the messages before it are committed first
            misfit.tries = 1
            self.deactivate()

    def _handle_work(self, turn: Turn, envelope: Envelope, kind: type[Any]) -> bool:
        """Handle a message about work that needs only the state; False: it is another, or a worker has to."""
        if kind is Note:
            turn.handle(envelope, self.work.note)
        elif kind is Remember:
            turn.handle(envelope, self.work.remind)
        elif kind is TakeUp:
            turn.handle(envelope, self._take_up)
        elif kind is Expire:
            turn.handle(envelope, expire)
        elif kind is Continue:
            if self.work.may_continue(envelope.message.work):
                return False
            turn.handle(envelope, self.work.keep_result)
        elif kind is GetResult:
            if str(envelope.message.work) not in open_work(self.state):
                return False
            turn.handle(envelope, lambda _, message: Awaited(message.work))
        elif self.services.registry.is_durable(kind):
            self.work.accept(turn, envelope)
        else:
            return False
        return True

    def _take_up(self, turn: Turn, message: TakeUp) -> None:
        expire_if_due(turn)
        self.work.take_up(turn, message)

    def _fits(self, message: Spawn) -> bool:
        """Whether this agent object can begin the session that a spawn asks for."""
        if self.state.status not in (ABSENT, TERMINATED_STATUS):
            return True  # the spawn will be refused
        wanted = None if message.agent_type is None else str(message.agent_type)
        plain = type(self.agent) is Agent and wanted not in self.services.agents
        return plain or wanted == self.made_for

    def _is_outdated(self) -> bool:
        """Whether the agent's type was registered, or registered again, after this agent object was made."""
        state = self.state
        if state.status in (ABSENT, TERMINATED_STATUS):
            return False  # the object was made for a spawn; no user message reaches it
        registered = None if state.agent_type is None else self.services.agents.get(state.agent_type)
        return registered is not self._factory

    def begin_session(self) -> None:
        """Note that a spawn was handled: the next session needs an agent object of its own."""
        self.made_for = _NO_SPAWN

    def _waits_for_resume(self, kind: type[Any]) -> bool:
        """Whether a message of a paused agent is stashed, as the pause asked; never a read or a lifecycle message.

        A sub-agent's failure is always stashed: nobody would send it again.
        """
        if kind in _READS or kind in LIFECYCLE or (self.state.when_paused != "stash" and kind is not ChildFailed):
            return False
        return not (self.agent.on_paused == "handle" and _is_user_message(kind))

    def _is_exclusive(self) -> bool:
        """Whether the agent has work beside which it handles no other messages."""
        return bool(self.state.work) and self.services.registry.has_exclusive and self.work.exclusive is not None

    def _waits_for_work(self, envelope: Envelope) -> bool:
        """Whether a message waits for the end of exclusive work: what would change memory, or run the agent's code."""
        message = envelope.message
        kind = _type_of(message)  # not isinstance, which may ask the user's class
        kind = _type_of(message.message) if kind in (Forwarded, Repeated) else kind
        return not (kind in _BESIDE_EXCLUSIVE or self.services.registry.is_durable(kind))

    def _stash_message(self, envelope: Envelope) -> bool:
        """Stash a message, or refuse it if there are too many; it is handled then."""
        if self._stash is None:
            self._stash = Stash(self.services, self.path, self._is_behind, self._catch_up)
        if len(self._stash) >= self.services.limits.stash_messages:
            advice = "resume it" if self.state.status == PAUSED_STATUS else "it has exclusive work to end first"
            envelope.refuse(MailboxFull(f"the stash of {self.path} is full; {advice}", agent=self.path))
        else:
            self._stash.add(envelope)
        return True

    def _is_behind(self, head: Head | None) -> bool:
        """Whether another process has written for the agent, or its log is gone. Callable from any thread."""
        seq = self.state.seq
        return head is None or head.seq > seq or (head.fence != self.fence and head.seq != seq)

    def _catch_up(self) -> None:
        """Handle the stashed messages on the state that another process has made; in the core."""
        if self._mailbox.phase == IDLE:  # else the log's answer to what is under way will say so
            self.deactivate()

    def _fail_turn(self, turn: Turn, error: Exception) -> None:
        """Fail all messages of a turn whose handling raised, and drop the state."""
        get_logger("agent").error(
            "turn_failed", agent=self.path, seq=turn.expected, error=type(error).__name__, at=raised_at(error)
        )
        failed = list(turn.envelopes)
        if self._mailbox.waiting:
            failed.append(self._mailbox.waiting.pop(0))

        def broken() -> AgentFailed:
            failure = AgentFailed(f"{self.path} failed ({type(error).__name__}); nothing was written", agent=self.path)
            failure.__cause__ = error
            return failure

        self._drop(failed, broken)

    def _handle_blocking(self) -> None:
        """Handle the first message, which may block; in a worker thread."""
        envelope = self._mailbox.waiting.pop(0)
        self._handling = envelope
        kind = _type_of(envelope.message)
        is_in_loop = kind in INTERNAL and self.services.loop.runs_here()
        turn = Turn(self, self.services.loop_codec if is_in_loop else Codec(self.services.limits))
        try:
            handler = BLOCKING_HANDLERS.get(kind)
            with Waiter(self._mailbox).running():
                if _is_answer(envelope.message):
                    self.work.check_answer(turn, envelope, handler or MEMORY_HANDLERS[kind])
                elif handler is not None:
                    turn.handle(envelope, handler)
                elif kind in _WORK:
                    self.work.handle(turn, envelope)
                else:
                    run_user_handler(self, turn, envelope)
                    return
        except BaseException as error:
            self.crash(turn, envelope, error)
        else:
            self.services.loop.post(lambda: self.finish(turn))

    def crash(self, turn: Turn, envelope: Envelope, error: BaseException) -> None:
        """Fail the caller's reply and drop the state, after a handler has failed. Callable from any thread."""
        get_logger("agent").error(
            "agent_crashed", agent=self.path, seq=turn.expected, error=type(error).__name__, at=raised_at(error)
        )

        self.services.dispatcher.post(lambda: self._drop([envelope], lambda: error))

    def _drop(self, failed: Sequence[Envelope], error: Callable[[], BaseException]) -> None:
        """Fail messages, each with an error of its own, and drop the state; whatever their callbacks raise."""
        try:
            for envelope in failed:
                envelope.refuse(error())
        finally:
            self.deactivate()

    # -- committing -------------------------------------------------------------------------------------------------

    def finish(self, turn: Turn) -> None:
        """Hand a turn to the journal; in the core."""
        self._handling = self._mailbox.waiter = None
        turn.codec = self.services.codec  # that of the thread it comes from goes on with other turns
        try:
            self.add_snapshot(turn)
        except Exception as error:  # a defect: the events are good without a snapshot
            get_logger("agent").error("snapshot_failed", agent=self.path, error=type(error).__name__)
        if (self.state.work or self.state.expires_after is not None) and turn.items:
            self._index_work(turn)
        self._mailbox.phase = COMMITTING
        tracing = self.services.tracing
        if tracing is not None and turn.items:
            turn.span = tracing.begin_commit(turn.envelopes, turn.traced_agent(), len(turn.items))
            self._note_traces(turn)
        if not turn.items and all(_type_of(envelope.message) is Rerun for envelope in turn.envelopes):
            self.settle(turn, Answer(Status.COMMITTED))  # nobody is told anything, and the log was asked just before
        elif not self._create:
            self.services.dispatcher.submit(turn)
        elif turn.items:
            turn.create = True
            self.services.dispatcher.submit(turn)
        else:
            self.settle(turn, Answer(Status.COMMITTED))  # nothing was ever written: nothing to confirm

    def _note_traces(self, turn: Turn) -> None:
        """Keep the traces that durable messages of this turn came with, for their handlers."""
        for envelope in turn.envelopes:
            message, receipt = envelope.message, envelope.result
            accepted = message.message if isinstance(message, Forwarded) else message
            if _type_of(accepted) is Accept and isinstance(receipt, Receipt):
                self.work.note_trace(receipt.seq, envelope)

    def _index_work(self, turn: Turn) -> None:
        """Have the append write when the agent's unfinished work is due, or it expires, where that may have changed."""
        state, indexed = self.state, self._indexed
        if state.expires_after is not None:
            self.services.expiring.add(self.path)
        if state.expires_after is not None or state.work is not indexed[0] or state.status != indexed[1]:
            self._indexed = state.work, state.status
            due = due_of_agent(state)
            due_ms = NOTHING_UNFINISHED if due is None else due
            if due_ms != self._due_ms:
                self._due_ms = turn.due_ms = due_ms

    def settle(self, turn: Turn, answer: Answer | DuramenError) -> None:
        """Go on with the log's answer to a turn; in the core. A defect fails the replies that have not left."""
        if turn.span is not None:
            turn.span.end(_problem(answer))
        try:
            if isinstance(answer, DuramenError):
                self._failed(turn, answer)
            elif answer.status in (Status.COMMITTED, Status.DUPLICATE):
                self._committed(turn)
            elif answer.status is Status.FENCED:
                self._fenced(turn, answer)
            elif answer.status in (Status.EXISTS, Status.OWNED):
                self._mailbox.requeue(turn.envelopes)
                self.deactivate()
            elif answer.status is Status.ERASED:
                self._erased(turn, answer)
            elif answer.status is Status.UNMET:
                self._failed(turn, unmet(self.path, turn.expected, turn.requires[answer.head]))
            else:
                self._failed(turn, append_error(self.path, turn.expected, turn.previous, answer))
        except Exception as error:
            get_logger("agent").error(
                "settling_failed", agent=self.path, seq=turn.expected, error=type(error).__name__, at=raised_at(error)
            )
            self._drop(turn.envelopes, lambda: OutcomeUnknown(f"{self.path} could not reply", agent=self.path))

    def _committed(self, turn: Turn) -> None:
        if turn.items:
            self._create = self._presumed_absent = False
            self._confirmed = (self.state.seq, self.state.digest)
        awaited = {envelope for envelope, _ in turn.awaited} if turn.awaited else ()
        for envelope in turn.envelopes:
            if envelope.error is not None:
                self._refuse(envelope, envelope.error)
            elif envelope not in awaited:
                if _type_of(envelope.result) is Receipt:  # most replies
                    envelope.deliver()
                else:
                    self._deliver(envelope)
        for envelope, durability in turn.awaited:
            self._deliver_confirmed(envelope, durability)
        if self._presumed_absent:  # the spawn was refused
            self.deactivate()
            return
        if self._timers is not None and self.state.status == TERMINATED_STATUS:
            self._timers.cancel()
        if self.state.work:
            self.work.look()
        for path, envelope in turn.messages:
            self._send(path, envelope)
        for effect in turn.effects:
            if _type_of(effect) is TimerStart:
                effect()
            else:
                run_effect(self.services, effect, self.path, self.state.seq)
        if self._stash and self.state.status != PAUSED_STATUS and not self._is_exclusive():
            self._mailbox.requeue(self._stash.clear())
        if turn.hold and turn.envelopes[-1].value is not None:  # else nobody has got the hold to release it
            self._mailbox.phase = HELD
        else:
            self._become_idle(leave=self.state.status == ABSENT)

    def _deliver(self, envelope: Envelope) -> None:
        kind = _type_of(envelope.result)
        if kind is Transition:
            reply_to(self.services, envelope, envelope.result)
        elif kind is Awaited:
            self.work.wait(envelope, envelope.result.work)
        elif kind is LifecycleResult:
            envelope.answer(with_duration(envelope.result, envelope))
        else:
            envelope.deliver()

    def _deliver_confirmed(self, envelope: Envelope, durability: Durability) -> None:
        """Deliver a reply once the log so far has reached a durability; refuse it if that is not known in time."""
        path, seq = self.path, self.state.seq

        def settle(problem: DuramenError | None) -> None:
            if problem is None:
                self._deliver(envelope)
            else:
                envelope.refuse(for_agent(problem, path, seq))

        self.services.confirmer.confirm(durability, CommittedAppend(path, seq, self.state.digest), settle)

    def _send(self, path: str, envelope: Envelope) -> None:
        try:
            self.services.actors.send(path, envelope)
        except DuramenError as error:  # a full mailbox, or the system closes
            get_logger("agent").warning("message_not_sent", agent=self.path, to=path, error=type(error).__name__)
            envelope.refuse(error)

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
        elif leave and self.services.actors.remove_if_idle(mailbox) and mailbox.runner is self:
            self.release_resources()

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

    # -- when an append fails ------------------------------------------------------------------------------------------

    def _fenced(self, turn: Turn, answer: Answer) -> None:
        """Another host has claimed the agent: have its messages handled there, but not those of the user's own.

        The handler of such a message has run, with whatever effects; nothing of the turn was written.
        """
        self.services.counts.fences += 1
        get_logger("agent").info("agent_fenced", agent=self.path, seq=turn.expected)
        again: list[Envelope] = []
        for envelope in turn.envelopes:
            envelope.tries += 1
            if _is_user_message(_type_of(envelope.message)) or envelope.tries > self.services.settings.fenced_tries:
                envelope.refuse(fenced(self.path, turn.expected, self.fence, answer))
            else:
                again.append(envelope)
        self._mailbox.requeue(again)
        self.deactivate()

    def _erased(self, turn: Turn, answer: Answer) -> None:
        """The agent was erased: tell all but who spawns it anew."""
        spawns = [envelope for envelope in turn.envelopes if _type_of(envelope.message) is Spawn]
        turn.envelopes = [envelope for envelope in turn.envelopes if envelope not in spawns]
        self._mailbox.requeue(spawns)
        self._failed(turn, append_error(self.path, turn.expected, turn.previous, answer))

    def _failed(self, turn: Turn, error: DuramenError) -> None:
        if isinstance(error, (AgentNotFound, DataLoss, Diverged)):
            self._confirmed = (0, b"")  # the loss is reported now, and once
        for envelope in turn.envelopes:
            self._refuse(envelope, envelope.error or for_agent(error, self.path, turn.expected))
        self.deactivate()

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
        if self._mailbox.runner is self and self._mailbox.phase == IDLE:
            self.deactivate()
        return self._mailbox.runner is not self

    def leave(self, *, with_waiting: bool) -> bool:
        """Leave memory for another host: now, or else at the end of the turn. False while it is busy. In the core.

        What waits goes there too, if `with_waiting`; else it is handled here first. Timers keep an agent here.
        """
        self._leaves = with_waiting
        if self._mailbox.phase != IDLE or (self._mailbox.waiting and not with_waiting):
            return False
        if self._can_leave():
            self.deactivate()
            return False  # its tree is released next
        return not self._mailbox.waiting

    def _can_leave(self) -> bool:
        is_busy = self._work is not None and self._work.running > 0
        return not is_busy and (self._timers is None or not self._timers.pending)

    def refuse_remote(self) -> None:
        """Have messages of other hosts that wait for the end of work sent to the next host; in the core."""
        if self._work is not None:
            self._work.refuse_remote()

    def withdraw(self, is_it: Callable[[Envelope], bool]) -> Envelope | None:
        begins = self._mailbox.phase == WORKING and self._handling is None  # the first one, in a worker thread
        found = self._mailbox.withdraw(is_it, int(begins))
        return self._stash.withdraw(is_it) if found is None and self._stash else found

    def abandon(self) -> list[Envelope]:
        """At the end of the system: the messages outside the mailbox that will not be answered any more."""
        waiting = self._stash.clear() if self._stash else []
        waiting += [] if self._work is None else self._work.take_waiting()
        if self._handling is not None:
            waiting.append(self._handling)
        return waiting

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


def _is_user_message(kind: type[Any]) -> bool:
    return kind not in MEMORY_HANDLERS and kind not in BLOCKING_HANDLERS and kind not in _WORK


def _needs_class(kind: type[Any]) -> bool:
    return kind in INTERNAL or _is_user_message(kind)


def _is_answer(message: Any) -> bool:
    return _type_of(message.message if _type_of(message) in (Forwarded, Repeated) else message) is AnswerWork


def _problem(answer: Answer | DuramenError) -> DuramenError | str | None:
    if isinstance(answer, DuramenError):
        return answer
    return None if answer.status in (Status.COMMITTED, Status.DUPLICATE) else answer.status.name.lower()


def _may_block(message: Any, state: AgentState) -> bool:
    """Whether a message needs its first result from the log, other agents, or that this one is erased before."""
    return message.command_id is not None or getattr(message, "cascade", False) or has_expired(state)
