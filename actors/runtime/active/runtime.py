"""The runner of an active agent's mailbox: it handles the messages in turns."""

from __future__ import annotations

from time import monotonic
from typing import Final

from duramen.events import MailboxFull
from duramen.events.codec import Codec
from duramen.events.log import Head
from duramen.events.model import EXTERNAL
from duramen.projections.state import ABSENT, PAUSED_STATUS, TERMINATED_STATUS

from ...agent import Agent
from ...commands import Spawn
from ...dispatch import IDLE, WORKING, Envelope, Waiter
from ...handlers import BLOCKING_HANDLERS, MAY_BLOCK, MEMORY_HANDLERS, QUICK_HANDLERS, NeedsWorker, Turn, storing
from ...work import INTERNAL, Continue
from .committing import CommittingAgent
from .message_kinds import (
    WORK,
    is_answer,
    is_user_message,
    may_block,
    needs_class,
    type_of,
    waits_for_resume,
    waits_for_work,
)
from .stash import Stash
from .user_handler import run_user_handler

_MOST_MESSAGES: Final = 256
"""Most messages of one agent in one turn, so that other agents get the core too."""


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


class Runtime(CommittingAgent):
    """An agent in memory that handles its messages. All but `_handle_blocking` and what it calls runs in the core.

    One step: handle the waiting messages, hand all their events to the journal as one append, and deliver the replies
    when it is committed; meanwhile the agent does not run.
    """

    __slots__ = ()

    def run(self) -> None:
        if self._leaves and self._can_leave():
            self.deactivate()
            self.services.hosting.trees.release_empty()
            return
        self.last_used = monotonic()
        first = self._mailbox.waiting[0].message
        if type_of(first) is Continue and self._goes_on_now(first):  # as below, which each result of a step would pass
            self._handle_elsewhere(goes_on=True)
            return
        turn = Turn(self, self.services.codec)
        try:
            needs_worker = self._handle_waiting(turn)
        except Exception as error:  # a defect, not a refusal
            self._fail_turn(turn, error)
            return
        if turn.envelopes:
            self.finish(turn)
        elif self._mailbox.waiting and self._mailbox.runner is self:
            if not needs_worker:  # all were stashed that this turn has looked at, and others have come meanwhile
                self.services.dispatcher.schedule(self._mailbox)
            elif self._is_outdated() and needs_class(type_of(self._mailbox.waiting[0].message)):
                self.deactivate()
            else:
                self._handle_elsewhere()

    def _goes_on_now(self, message: Continue) -> bool:
        """Whether a durable handler gets its result where coroutines run, and nothing is in the way."""
        is_free = self._goes_on(message) and self.work.may_continue(message.work)
        return is_free and not self._is_exclusive() and not self._is_outdated()

    def _handle_elsewhere(self, *, goes_on: bool = False) -> None:
        """Have the first message handled by a worker thread, or by that of the event loop.

        `goes_on`: a durable handler is known to go on without a read.
        """
        self._mailbox.phase = WORKING
        self._handling = first = self._mailbox.waiting[0]
        try:
            if goes_on or self._goes_on(first.message) or self._is_coroutine(first):
                self.services.loop.call(self._handle_blocking)
            else:
                self._thread_pool.submit(self._handle_blocking)
        except Exception as error:  # no more threads
            self._fail_turn(Turn(self, self.services.codec), error)

    def _goes_on(self, message: object) -> bool:
        """Whether a durable handler goes on without a read: then it runs in the event loop's thread.

        Worker threads would only pass the interpreter's lock on to each other.
        """
        is_own = type_of(message) in INTERNAL and not self.agent.own_thread
        return is_own and self.work.goes_on_at_once(message)

    def _is_coroutine(self, envelope: Envelope) -> bool:
        """Whether a message's handler is a coroutine, and nothing else about it may block: then no worker is needed."""
        message, services = envelope.message, self.services
        kind = type_of(message)
        is_asked_more = envelope.command_id is not None or envelope.durability is not None  # of the log, or the server
        if is_asked_more or self.agent.own_thread or not is_user_message(kind) or services.registry.is_durable(kind):
            return False
        return self.agent.actor_is_coroutine(message) and services.hosting.membership.may_begin()

    def _handle_waiting(self, turn: Turn) -> bool:
        """Handle messages from the first on, until one may block or the turn is full. Returns whether one may block."""
        waiting, state = self._mailbox.waiting, self.state
        most, taken, misfit, needs_worker = min(len(waiting), _MOST_MESSAGES), 0, None, False
        limits, items = self.services.limits, turn.items
        most_bytes, most_events = limits.batch_bytes // 2, limits.batch_events
        registry = self.services.registry
        has_exclusive = registry.has_exclusive
        try:
            while taken < most and (not taken or (turn.size < most_bytes and len(items) < most_events)):
                envelope = waiting[taken]
                kind = type_of(envelope.message)  # not __class__, which may be code of the user's
                waits = False
                if state.status == PAUSED_STATUS:
                    waits = waits_for_resume(kind, state, self.agent)
                elif has_exclusive and self._is_exclusive():  # the message before may have begun, or ended, it
                    waits = waits_for_work(envelope.message, registry)
                if waits:
                    self._stash_message(envelope)
                    taken += 1
                    continue
                handler = MEMORY_HANDLERS.get(kind)
                if handler is not None:
                    turn.handle(envelope, handler)
                    taken += 1
                    continue
                handler = QUICK_HANDLERS.get(kind)
                is_of_work = handler is None and (kind in WORK or registry.is_durable(kind))
                if is_of_work and self.work.handle_at_once(turn, envelope):
                    taken += 1
                    continue
                if kind is Spawn and not self._fits(envelope.message):
                    misfit = envelope
                    break
                if handler is None or (kind in MAY_BLOCK and may_block(envelope.message, state)):
                    needs_worker = True
                    break
                turn.handle(envelope, handler)
                taken += 1
                if self._presumed_absent or turn.hold:
                    break
        except NeedsWorker:  # of the message that is first now
            turn.command, turn.cause, turn.unconfirmed = None, EXTERNAL, None
            needs_worker = True
        finally:
            del waiting[:taken]  # others only ever add at the end
        if misfit is not None and not turn.envelopes:  # else the messages before it are committed first
            misfit.tries = 1
            self.deactivate()
        return needs_worker

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

    def _stash_message(self, envelope: Envelope) -> None:
        """Stash a message, or refuse it if there are too many; it is handled then."""
        if self._stash is None:
            self._stash = Stash(self.services, self.path, self._is_behind, self._catch_up)
        if len(self._stash) >= self.services.limits.stash_messages:
            advice = "resume it" if self.state.status == PAUSED_STATUS else "it has exclusive work to end first"
            envelope.refuse(MailboxFull(f"the stash of {self.path} is full; {advice}", agent=self.path))
        else:
            self._stash.add(envelope)

    def _is_behind(self, head: Head | None) -> bool:
        """Whether another process has written for the agent, or its log is gone. Callable from any thread."""
        seq = self.state.seq
        return head is None or head.seq > seq or (head.fence != self.fence and head.seq != seq)

    def _catch_up(self) -> None:
        """Handle the stashed messages on the state that another process has made; in the core."""
        if self._mailbox.phase == IDLE:  # else the log's answer to what is under way will say so
            self.deactivate()

    def _handle_blocking(self) -> None:
        """Handle the first message, which may block; in a worker thread."""
        try:
            envelope = self._mailbox.waiting.pop(0)
        except IndexError:  # the system was closed before a thread was free: it is refused
            return
        if envelope.done:  # it stands for one that was withdrawn
            self.services.loop.post(lambda: self.finish(Turn(self, self.services.codec)))
            return
        kind = type_of(envelope.message)
        is_in_loop = kind in INTERNAL and self.services.loop.runs_here()
        turn = Turn(self, self.services.loop_codec if is_in_loop else Codec(self.services.limits))
        try:
            handler = BLOCKING_HANDLERS.get(kind) or MEMORY_HANDLERS.get(kind)
            with Waiter(self._mailbox):
                if handler is not None and is_answer(envelope.message):
                    self.work.check_answer(turn, envelope, storing(handler))
                elif handler is not None:
                    turn.handle(envelope, storing(handler))
                elif kind in WORK or self.services.registry.is_durable(kind):
                    self.work.handle(turn, envelope)
                else:
                    run_user_handler(self, turn, envelope)
                    return
        except BaseException as error:
            self.crash(turn, envelope, error)
        else:
            self.services.loop.post(lambda: self.finish(turn))
