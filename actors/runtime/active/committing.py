"""The commit of a turn: it is handed to the journal, and its replies leave, or fail, with the log's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from duramen.events import AgentFailed, AgentNotFound, DataLoss, Diverged, DuramenError, OutcomeUnknown, Receipt
from duramen.events.codec import CONTENT_MARK, DIGEST_SIZE
from duramen.events.log import NOTHING_UNFINISHED, Answer, CommittedAppend, Durability, Status
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import WithContents, contents_in
from duramen.projections.recovery import LoadedAgentLog
from duramen.projections.state import ABSENT, PAUSED_STATUS, TERMINATED_STATUS, due_of_agent, open_work

from ...commands import Accept, LifecycleResult, Spawn
from ...dispatch import COMMITTING, HELD, Envelope
from ...handlers import TimerStart, Transition, Turn, load_reply, reply_to, with_duration
from ...hosts import Forwarded
from ...work import AgentWork, Awaited, Rerun
from ..append_errors import append_error, fenced, for_agent, unmet
from .loaded_agent import LoadedAgent
from .message_kinds import is_user_message, type_of
from .user_handler import run_effect

_WRITTEN: Final = (Status.COMMITTED, Status.DUPLICATE)
"""The answers to an append that the log has. Looking members of an enum up for each append takes longer."""


_MOST_KEPT: Final = 4_096
"""Bytes of the last event that are kept, to be compared with what is stored."""


class CommittingAgent(LoadedAgent):
    """An agent in memory whose turns are committed; meanwhile it does not run. Used in the core.

    Reads go through an append, too (an empty one if nothing else), since only the log can say that this process still
    owns the agent.
    """

    __slots__ = ()

    @property
    def work(self) -> AgentWork:
        """The agent's work on durable messages."""
        if self._work is None:
            self._work = AgentWork(self, self._mailbox, self._first_seq)
        return self._work

    def _is_exclusive(self) -> bool:
        """Whether the agent has work beside which it handles no other messages."""
        return bool(self.state.work) and self.services.registry.has_exclusive and self.work.exclusive is not None

    def expect_work(self, loaded: LoadedAgentLog) -> None:
        """Keep what was read of the log for the work that is taken up next, if there is any."""
        if open_work(self.state):
            self.work.loaded = loaded

    def note_accepted(self, work: int, item: bytes) -> None:
        """Keep the event of a durable message, as it will be stored, until its handler begins."""
        self.work.note_accepted(work, item)

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
        if not turn.items and all(type_of(envelope.message) is Rerun for envelope in turn.envelopes):
            self.settle(turn, Answer(Status.COMMITTED))  # no reply leaves, and the log was read just before
        elif self._create and not turn.items:
            self.settle(turn, Answer(Status.COMMITTED))  # nothing was ever written: nothing to confirm
        else:
            if self._create:
                turn.create = True
                self._keep_contents(turn)
            if turn.contents is None:
                self.services.dispatcher.submit(turn)
            else:
                self._store_contents(turn, turn.contents)

    def _keep_contents(self, turn: Turn) -> None:
        """Have the contents stay that are staged for the agent's first state, by this turn or by who has sent it."""
        packed = [item[DIGEST_SIZE:] for item in turn.items if CONTENT_MARK in item]
        digests = {content.digest for body in packed for content in contents_in(turn.codec.unpack(body))}
        if digests:
            turn.puts += self.services.log.contents.keep(self.path, digests)

    def _store_contents(self, turn: Turn, contents: Mapping[bytes, bytes]) -> None:
        """Store what the events of a turn refer to, in a worker thread, and then hand the turn to the journal."""
        store, post, path, staged = self.services.log.contents, self.services.dispatcher.post, self.path, turn.create
        self._storing = turn.envelopes

        def go_on(problem: DuramenError | None) -> None:
            self._storing = ()
            if problem is None:
                self.services.dispatcher.submit(turn)
            else:
                self.settle(turn, problem)

        def write() -> None:
            problem: DuramenError | None = None
            try:
                for digest, data in contents.items():
                    store.write(path, digest, data, staged=staged)
            except AgentNotFound as error:
                problem = error if staged else None  # the append says whether the agent was erased, or claimed
            except DuramenError as error:
                problem = error
            except Exception as error:
                get_logger("agent").error(
                    "contents_not_stored", agent=path, error=type(error).__name__, at=raised_at(error)
                )
                problem = _not_stored(path, error)
            post(lambda: go_on(problem))

        try:
            self.services.thread_pool.submit(write)
        except RuntimeError as error:  # no more threads
            go_on(_not_stored(path, error))

    def _note_traces(self, turn: Turn) -> None:
        """Keep the traces that durable messages of this turn came with, for their handlers."""
        for envelope in turn.envelopes:
            message, receipt = envelope.message, envelope.result
            accepted = message.message if isinstance(message, Forwarded) else message
            if type_of(accepted) is Accept and isinstance(receipt, Receipt):
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
            elif answer.status in _WRITTEN:
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
            last = turn.items[-1]
            self.last_event = last if len(last) <= _MOST_KEPT else b""
        for path, envelope in turn.messages:  # before the replies: whoever has one asks the new sub-agent next
            self._send(path, envelope)
        awaited = {envelope for envelope, _ in turn.awaited} if turn.awaited else ()
        for envelope in turn.envelopes:
            if envelope.error is not None:
                self._refuse(envelope, envelope.error)
            elif envelope not in awaited:
                if type_of(envelope.result) is Receipt:  # most replies
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
        for effect in turn.effects:
            if type_of(effect) is TimerStart:
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
        kind = type_of(envelope.result)
        if kind is Transition:
            reply_to(self.services, envelope, envelope.result)
        elif kind is Awaited:
            self.work.wait(envelope, envelope.result.work)
        elif kind is LifecycleResult:
            envelope.answer(with_duration(envelope.result, envelope))
        elif kind is WithContents:
            envelope.late = partial(load_reply, self.services.log.contents, self.path)
            envelope.deliver()
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

    # -- when a turn fails ---------------------------------------------------------------------------------------------

    def _fenced(self, turn: Turn, answer: Answer) -> None:
        """Another host has claimed the agent: have its messages handled there, but not those of the user's own.

        The handler of such a message has run, with whatever effects; nothing of the turn was written.
        """
        self.services.counts.fences += 1
        get_logger("agent").info("agent_fenced", agent=self.path, seq=turn.expected)
        again: list[Envelope] = []
        for envelope in turn.envelopes:
            envelope.tries += 1
            if is_user_message(type_of(envelope.message)) or envelope.tries > self.services.settings.fenced_tries:
                envelope.refuse(fenced(self.path, turn.expected, self.fence, answer))
            else:
                again.append(envelope)
        self._mailbox.requeue(again)
        self.deactivate()

    def _erased(self, turn: Turn, answer: Answer) -> None:
        """The agent, or what was staged for it, was erased: spawns are handled again, on an empty log.

        All other messages are refused.
        """
        most = self.services.settings.fenced_tries
        for envelope in turn.envelopes:
            envelope.tries += 1
        spawns = [each for each in turn.envelopes if type_of(each.message) is Spawn and each.tries <= most]
        turn.envelopes = [envelope for envelope in turn.envelopes if envelope not in spawns]
        self._mailbox.requeue(spawns)
        self._failed(turn, append_error(self.path, turn.expected, turn.previous, answer))

    def _failed(self, turn: Turn, error: DuramenError) -> None:
        if isinstance(error, (AgentNotFound, DataLoss, Diverged)):
            self._confirmed = (0, b"")  # the loss is reported now, and once
        for envelope in turn.envelopes:
            self._refuse(envelope, envelope.error or for_agent(error, self.path, turn.expected))
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


def _not_stored(path: str, error: Exception) -> AgentFailed:
    failure = AgentFailed(f"{path} could not store large content; nothing was written: ask again", agent=path)
    failure.__cause__ = error
    return failure


def _problem(answer: Answer | DuramenError) -> DuramenError | str | None:
    if isinstance(answer, DuramenError):
        return answer
    return None if answer.status in _WRITTEN else answer.status.name.lower()
