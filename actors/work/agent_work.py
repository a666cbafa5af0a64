"""The work of an agent in memory: messages about it are handled in turns, and what can go on is begun after each.

A message lets a handler go on for one stretch, or end its work; after the commit the scheduler compares the agent's
state with what runs here, begins steps, and puts the next messages into the agent's own mailbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, cast

from duramen.events import AnswerRefused, CorruptEvent, DuramenError, NewEvent, Receipt, ReplayDiverged, Trimmed
from duramen.events.codec import CONTENT_MARK, DIGEST_SIZE
from duramen.events.model import (
    WORK_CANCEL_SENT,
    WORK_DONE,
    WORK_PARKED,
    contents_in,
    copy_plain,
    parse_seconds,
)
from duramen.projections import AgentState
from duramen.projections.recovery import AgentLog, LoadedAgentLog
from duramen.projections.state import (
    ASK,
    NEVER,
    RUNNING,
    STEP,
    WAIT,
    Piece,
    cancels_to_send,
    due_of_work,
    end_of_work,
    find_wait,
    name_log,
    open_work,
    reminders,
)

from ..commands import (
    Accept,
    Answer,
    CancelAsked,
    CancelWork,
    GetResult,
    parse_metadata,
    require_seq,
    require_unfinished,
)
from ..dispatch import Envelope, Mailbox
from ..handlers import (
    Services,
    Turn,
    accept_work,
    checking_answers,
    emit_packing,
    load_contents,
    restore_contents,
    storing,
)
from ..hosts import Forwarded
from .asking import Cancelling
from .deadlines import MICROSECONDS
from .execution import (
    CANCELLED,
    START,
    Execution,
    Record,
    WorkCancelled,
    WorkingAgent,
    failure,
    find_refusal,
    new_execution,
    read_record,
    replay,
    run_stretch,
)
from .expiry import expire, expire_if_due
from .messages import Awaited, Continue, Expire, Note, Remember, Rerun, TakeUp
from .parking import log_parked, park
from .reminders import DueReminders
from .replies import PendingReplies, read_end
from .scheduler import RERUN, WorkScheduler
from .traces import WorkTraces

_FOR_A_WORKER: Final = frozenset((CancelAsked, CancelWork, Rerun))
_NEVER_SEEN: Final[tuple[object, str]] = (None, "")


class AgentWork:
    """All work of one agent in memory. Used in the core, except for `handle`, which a worker thread calls.

    `look` compares the agent's state with what runs here, after each commit that has changed the one: it starts what
    was begun, and sends the agent a message for each handler that can go on.
    """

    def __init__(self, runtime: WorkingAgent, mailbox: Mailbox, first_seq: int) -> None:
        """`first_seq` is where the log stood when the agent came into memory."""
        self._runtime = runtime
        self._first_seq = first_seq
        self._services: Services = runtime.services
        self._executions: dict[int, Execution] = {}
        """The handlers that run here, by their work."""
        tracing = runtime.services.tracing
        self._traces = None if tracing is None else WorkTraces(tracing, runtime)
        self._scheduler = WorkScheduler(runtime, mailbox, self._executions, first_seq, self._traces)
        self._replies = PendingReplies(runtime, mailbox)
        self.loaded: LoadedAgentLog | None = None
        """The log as it was read for the agent to come into memory, until the work that is taken up has been run."""
        self._accepted: dict[int, bytes] = {}
        """The events of messages that were accepted here, and whose handlers did not begin yet."""
        self._logged: list[str] = []
        """Keys of steps whose outcomes are logged with the turn under way."""
        self._seen: tuple[object, str] = _NEVER_SEEN
        """The work and the status of the state that was last looked at."""
        self._exclusive: tuple[object, int | None] = None, None
        """The work of a state, and the exclusive piece in it."""
        self._reminders: DueReminders | None = None  # most agents never have one
        self._cancelling: Cancelling | None = None  # nor anything to cancel

    @property
    def is_stepping(self) -> bool:
        """Whether a step runs, or has a result that is not in the log yet: elsewhere it would be repeated."""
        return self._scheduler.is_stepping

    @property
    def may_go_on(self) -> bool:
        """Whether steps and stretches may begin: not while the agent is paused, nor on a host that is about to end."""
        return self._runtime.state.status == RUNNING and not self._services.hosting.membership.is_draining

    def may_continue(self, work: int) -> bool:
        """Whether steps and stretches of this work may begin: other work may be exclusive."""
        return self.may_go_on and self.exclusive in (None, work)

    @property
    def exclusive(self) -> int | None:
        """The oldest work beside which no other message is handled; None: there is none."""
        registry, state = self._services.registry, self._runtime.state
        if not registry.has_exclusive or state.status != RUNNING:
            return None
        if self._exclusive[0] is not state.work:
            works = self._runnable(open_work(state))
            found = next((work for work, piece in works if registry.is_exclusive(piece["message_type"])), None)
            self._exclusive = state.work, found
        return self._exclusive[1]

    @property
    def can_passivate(self) -> bool:
        """Whether no step runs, and no caller waits. What is due later is found in the index."""
        is_cancelling = self._cancelling is not None and self._cancelling.is_busy
        return not self._scheduler.is_busy and not is_cancelling and not self._replies

    # -- messages ----------------------------------------------------------------------------------------------------

    def handle_at_once(self, turn: Turn, envelope: Envelope) -> bool:
        """Handle a durable message, or one about work that needs only the state; False: a worker has to."""
        message = envelope.message
        kind = cast("type[object]", type(message))
        if kind in _FOR_A_WORKER:
            return False
        if kind is Continue:
            if self.may_continue(message.work):
                return False
            turn.handle(envelope, self._keep_result)
        elif kind is GetResult:
            if str(message.work) not in open_work(turn.state):
                return False
            turn.handle(envelope, lambda _, message: Awaited(message.work))
        elif kind is Note:
            turn.handle(envelope, self._note)
        elif kind is Remember:
            turn.handle(envelope, self._remind)
        elif kind is TakeUp:
            turn.handle(envelope, self._take_up)
        elif kind is Expire:
            turn.handle(envelope, expire)
        else:
            self._accept(turn, envelope)
        return True

    def _accept(self, turn: Turn, envelope: Envelope) -> None:
        """Handle a durable message: its reply comes at the end of its work."""
        name, version, data = self._services.registry.dump_message(envelope.message)
        message = Accept(name, version, data, envelope.command_id, envelope.durability)
        accept = accept_work if turn.runs_in_core else storing(accept_work)

        def handle(turn: Turn, _: Any) -> Awaited:
            work = accept(turn, message).seq
            self.note_trace(work, envelope)
            return Awaited(work)

        turn.handle(envelope, handle)

    def note_trace(self, work: int, envelope: Envelope) -> None:
        """Keep the trace that a durable message came with, if messages are traced, until its work has ended."""
        if self._traces is not None:
            self._traces.note(work, envelope)

    def note_accepted(self, work: int, item: bytes) -> None:
        """Keep the event of a message, as it will be stored, so that its handler begins without reading the log."""
        self._accepted[work] = item

    def _take_up(self, turn: Turn, _: TakeUp) -> None:
        """Log that work is taken up which was begun before the agent came into memory; it is run after the commit."""
        expire_if_due(turn)
        self._seen = _NEVER_SEEN
        self._scheduler.takes_up = False
        if self.may_go_on:
            self._scheduler.take_up(turn, self._runnable(open_work(turn.state)))

    def goes_on_at_once(self, message: object) -> bool:
        """Whether a message lets a handler go on without reading the log."""
        if type(message) is Rerun:
            return self.loaded is not None and not self.loaded.may_hold_content
        if type(message) is not Continue or message.has_contents:
            return False
        return message.number != START or CONTENT_MARK not in self._accepted.get(message.work, CONTENT_MARK)

    def _note(self, turn: Turn, message: Note) -> None:
        """Log the event of a note, unless its work has ended or does not wait for it any more."""
        data = message.event.data
        if message.event.type == WORK_CANCEL_SENT and data["key"] not in cancels_to_send(turn.state):
            return
        if "work" in data:
            piece = open_work(turn.state).get(str(data["work"]))
            number = data.get("number")
            if piece is None or (number is not None and str(number) not in piece["pending"]):
                return
        if message.event.type == WORK_PARKED:
            log_parked(turn, message.event)
        else:
            turn.emit(message.event)

    def _keep_result(self, turn: Turn, message: Continue) -> None:
        """Log a result while the handler may not go on; it gets the result when the agent is resumed, or elsewhere."""
        work, number = message.work, message.number
        self._scheduler.sent.discard((work, number))
        piece = open_work(turn.state).get(str(work))
        item = None if piece is None else piece["pending"].get(str(number))
        if item is not None and item["kind"] in (STEP, ASK) and item["result"] is None:
            data = {"work": work, "number": number, "result": message.result, "error": message.error}
            emit_packing(turn, NewEvent(WORK_DONE, data), "result")
            execution = self._executions.get(work)
            if execution is not None:
                execution.held[number] = message.result, cast("Any", message.error)
            self._logged.append(item["key"])

    def _remind(self, turn: Turn, message: Remember) -> None:
        """Deliver a reminder, unless the agent may not go on."""
        self._seen = _NEVER_SEEN
        if self._reminders is None:
            return
        if self.may_go_on:
            self._reminders.deliver(turn, message)
        else:
            self._reminders.forget()

    def wait(self, envelope: Envelope, work: int) -> None:
        """Answer a message when this work ends; after the commit that has begun the waiting."""
        self._replies.add(work, envelope)
        self._seen = _NEVER_SEEN

    # -- in a worker -------------------------------------------------------------------------------------------------

    def handle(self, turn: Turn, envelope: Envelope) -> None:
        """Handle a message about work that may block; in a worker thread."""
        message = envelope.message
        self._seen = _NEVER_SEEN
        if self._services.registry.is_durable(cast("type[object]", type(message))):  # and too large for the core
            self._accept(turn, envelope)
            return
        try:
            if type(message) is Continue:
                self._continue(turn, message, envelope)
            elif type(message) is Rerun:
                self._rerun(turn, message.work)
            elif type(message) is GetResult:
                turn.stage(envelope, self._result(turn, message.work))
                return
            elif type(message) is CancelWork:
                turn.stage(envelope, self._cancel(turn, message))
                return
            elif type(message) is CancelAsked:
                known = turn.state.commands.get(message.asked)
                if known is not None and str(known[0]) in open_work(turn.state):
                    self._cancel(turn, CancelWork(known[0]))
        except DuramenError as error:
            if turn.items:
                raise  # half a stretch must not be committed
            turn.stage_error(envelope, error)
            return
        turn.stage(envelope, None)

    def check_answer(self, turn: Turn, envelope: Envelope, handler: Callable[[Turn, Any], Any]) -> None:
        """Handle an answer that the handler which waits for it checks; it is run again first, if it does not run."""
        message = envelope.message
        answer: Answer = message.message if isinstance(message, Forwarded) else message
        wait = find_wait(turn.state, answer.name, answer.work)
        if wait is not None and wait[2].get("checked"):
            self._seen = _NEVER_SEEN
            self._rerun(turn, int(wait[0]))
        with checking_answers(partial(self._check_answer, turn)):
            turn.handle(envelope, handler)

    def _check_answer(self, turn: Turn, work: int, number: int, value: Any) -> None:
        """Raise AnswerRefused unless the handler accepts a value for what it waits for."""
        execution = self._executions.get(work)
        begun = None if execution is None else execution.begun.get(number)
        why: str | None = "its handler, which would check it, does not run here: it is parked, or has other code"
        if begun is not None and begun.accepts is not None:
            why = find_refusal(begun.accepts, restore_contents(turn, value))
        if why is not None:
            path = turn.agent
            raise AnswerRefused(f"the answer to work {work} of {path} is refused: {why}", agent=path, seq=work)

    def _cancel(self, turn: Turn, message: CancelWork) -> Receipt:
        """Cancel work: end it if its handler does not run, else raise WorkCancelled in the handler."""
        work, path = message.work, turn.agent
        seconds = parse_seconds("seconds", message.seconds)
        durability = turn.choose_durability(message.durability)
        known = None if message.command_id is None else turn.find_command(message.command_id, message)
        if known is not None:
            return known._replace(durability=durability)
        if message.expected_seq is not None:
            require_seq(turn.state, message.expected_seq, path)
        metadata = parse_metadata(message.metadata, turn.services.limits)
        piece = require_unfinished(turn.state, work, path)
        first = turn.state.seq + 1
        if piece["parked"] is None and piece["started"] and turn.state.status == RUNNING:
            self._rerun(turn, work)
        execution = self._executions.get(work)
        if execution is None or turn.state.status != RUNNING:
            self._replies.end(turn, work, None, WorkCancelled(), metadata)
        else:
            due = turn.updated_at + int(seconds * MICROSECONDS)
            self._go_on(turn, execution, Continue(work, START, None, failure(CANCELLED, "", due), metadata))
        return Receipt(path, first, turn.state.seq, turn.state.digest, durability)

    def _continue(self, turn: Turn, message: Continue, envelope: Envelope) -> None:
        work, number = message.work, message.number
        self._scheduler.sent.discard((work, number))
        piece = open_work(turn.state).get(str(work))
        if piece is None or piece["parked"] is not None or turn.state.status != RUNNING:
            return
        if number != START:
            item = piece["pending"].get(str(number))
            if item is None:
                return  # given up meanwhile
            if item["kind"] == WAIT and item["result"] is not None:  # an answer that came just before the deadline
                value = item["value"]
                message = Continue(work, number, value, has_contents=any(contents_in(value)))
        execution = self._executions.get(work)
        if execution is None:
            if number != START:
                return  # it was discarded, and is run again
            accepted = self._accepted.pop(work, None)
            if accepted is None:
                record = read_record(self._agent_log(turn), work, turn.expected, piece)
            else:
                record = Record(turn.codec.unpack(accepted[DIGEST_SIZE:]))
            execution = self._executions[work] = new_execution(self._runtime, turn, work, record)
        execution.held.pop(number, None)
        if number in execution.begun:
            self._logged.append(execution.begun[number].key)
        if self._traces is None:
            self._go_on(turn, execution, message)
        else:
            run = partial(self._go_on, turn, execution, message)
            self._traces.run_stretch(turn, envelope, execution, piece["message_type"], run)

    def _go_on(self, turn: Turn, execution: Execution, message: Continue) -> BaseException | None:
        """Let a handler go on to where it waits, or to the end of its work; return what it has raised."""
        given = message.result
        if message.has_contents:
            given = load_contents(self._services.log.contents, turn.agent, copy_plain(given))
        end = run_stretch(turn, execution, message, given, self._logged.append)
        if end is None:
            return None
        self._replies.end(turn, message.work, end.value, end.error)
        return end.error

    def _result(self, turn: Turn, work: int) -> Any:
        """The reply of work that has ended, from the log. Raises its error."""
        end = end_of_work(turn.state, work)
        if end is None:
            require_unfinished(turn.state, work, turn.agent)
            return Awaited(work)
        return read_end(self._agent_log(turn), self._services, work, end)

    # -- running again ---------------------------------------------------------------------------------------------

    def _rerun(self, turn: Turn, work: int) -> None:
        self._scheduler.sent.discard((work, RERUN))
        self._scheduler.taken.discard(work)
        piece = open_work(turn.state).get(str(work))
        if piece is None or piece["parked"] is not None or work in self._executions:
            return
        loaded = self.loaded  # nothing was added to its record since: it does not run
        log, to_seq = (self._agent_log(turn), turn.expected) if loaded is None else (loaded, loaded.last_seq)
        try:
            self._executions[work] = replay(
                self._runtime, turn, work, log=log, to_seq=to_seq, given_up=self._logged.append
            )
        except (CorruptEvent, ReplayDiverged, Trimmed) as error:
            park(turn, work, error)

    def _agent_log(self, turn: Turn) -> AgentLog:
        services = self._services
        return AgentLog(services.log, turn.agent, services.limits, services.registry, turn.codec)

    # -- after a commit ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare the state with what runs here, and begin what can go on; in the core, after a commit."""
        state = self._runtime.state
        if self._seen[0] is state.work and self._seen[1] == state.status:
            return
        self._seen = state.work, state.status
        pieces = open_work(state)
        self._scheduler.forget_logged(self._logged)
        self._logged.clear()
        self._scheduler.forget_ended(pieces)
        for work in [work for work in self._accepted if str(work) not in pieces]:
            del self._accepted[work]
        if self._traces is not None:
            self._traces.keep(pieces)
        self._replies.answer_ended(pieces)
        self._look_at_cancels(state)
        if not self.may_go_on:
            self._accepted.clear()
            self.loaded = None
            return
        self._look_at_reminders(state)
        for key, piece in pieces.items():
            if piece["parked"] is not None:
                self._scheduler.discard(int(key))
                self._replies.refuse_parked(int(key), piece)
        self._scheduler.go_on(self._runnable(pieces), self.exclusive)
        if not self._scheduler.taken and not self._scheduler.takes_up:
            self.loaded = None

    def _runnable(self, pieces: Mapping[str, Piece]) -> Iterator[tuple[int, Piece]]:
        """The work that is not parked and whose message this host's code knows, in its version.

        Without the agent's class only what was accepted here: who sent it is told. Other work waits for a host with it.
        """
        version_of, has_class = self._services.registry.message_version, self._has_class()
        for key, piece in pieces.items():
            if not has_class and int(key) <= self._first_seq:
                continue
            if piece["parked"] is None and version_of(piece["message_type"]) >= int(piece["version"]):
                yield int(key), piece  # else a host with newer code will go on with it

    def _has_class(self) -> bool:
        """Whether the agent has no type of the user's, or the type's class is registered here."""
        wanted = self._runtime.state.agent_type
        return wanted is None or wanted in self._services.agents

    def _look_at_cancels(self, state: AgentState) -> None:
        if self._cancelling is None:
            if not cancels_to_send(state):
                return
            log = name_log(self._services.log.identity, self._runtime.path)
            self._cancelling = Cancelling(self._services, log, self._scheduler.send)
        self._cancelling.look(state)

    def _look_at_reminders(self, state: AgentState) -> None:
        if self._reminders is None:
            if not reminders(state):
                return
            self._reminders = DueReminders(self._services, self._runtime.path, self._scheduler.send)
        self._reminders.look(state)

    # -- leaving memory --------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Forget all that runs here; the log has it."""
        self._scheduler.stop()
        if self._reminders is not None:
            self._reminders.stop()
        if self._cancelling is not None:
            self._cancelling.stop()
        self.note_left()

    def note_left(self) -> None:
        """Have the agent looked for when its work is due: it has left memory."""
        due = due_of_work(self._runtime.state)
        if due is not None and due < NEVER:
            self._services.work_left(due / 1_000 - self._services.now() / MICROSECONDS)

    def refuse_remote(self) -> None:
        """Have messages of other hosts that wait for the end of work sent to the next host, before this one ends."""
        self._replies.refuse_remote()

    def take_waiting(self) -> list[Envelope]:
        """Take out the messages that wait for the end of work, each as one that asks for its result."""
        return self._replies.take()
