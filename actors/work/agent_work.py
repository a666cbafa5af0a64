"""The work of an agent in memory: it is begun, handed its results, taken up again after a crash, and ended."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from duramen.events import (
    AnswerRefused,
    DuramenError,
    InvalidMessage,
    NewEvent,
    Receipt,
    ReplayDiverged,
    TooLarge,
    Trimmed,
    ValueRefused,
    WorkParked,
    WorkStopped,
)
from duramen.events.codec import DIGEST_SIZE, RawEvent, to_datetime
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import (
    WORK_ATTEMPTED,
    WORK_CONTINUED,
    WORK_DONE,
    WORK_ENDED,
    WORK_GIVEN_UP,
    WORK_PARKED,
    WORK_TAKEN_UP,
    Cause,
    check_value,
    event_id,
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
    Item,
    Piece,
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
    LifecycleEvent,
    TracedAgent,
    TracedStep,
    kind_of,
    require_unfinished,
)
from ..dispatch import Envelope, Mailbox
from ..handlers import ActiveAgent, Savepoint, Turn, accept_work, checking_answers, run_hooks
from ..hosts import Forwarded, RemoteEnvelope
from .asking import Asking
from .execution import CANCELLED, EXPIRED, START, TOO_LATE, Execution, Identity
from .loop import WorkCancelled
from .messages import Awaited, Continue, Note, Remember, Rerun, TakeUp
from .past_turn import PastAgent, PastTurn
from .record import Record, read_record
from .reminders import DueReminders
from .step import INTERRUPTED, Begun, Outcome, StepRunner, failure, find_refusal, may_retry

if TYPE_CHECKING:
    from ..handlers import Services

_MOST_TRIES: Final = 5
"""How often work is taken up again without getting on before it is parked."""
_MICROSECONDS: Final = 1_000_000
_NEVER_SEEN: Final[tuple[object, str]] = (None, "")


class WorkingAgent(ActiveAgent, Protocol):
    """The agent in memory, as its work needs it."""

    def start_handler(self, message: object) -> Any:
        """Call the handler of a message; what it returns is a coroutine, if it is a handler of durable messages."""
        ...


class AgentWork:
    """All work of one agent in memory. Used in the core, except for `handle`, which a worker thread calls.

    `look` compares the agent's state with what runs here, after each commit that has changed the one: it starts what
    was begun, and sends the agent a message for each handler that can go on.
    """

    def __init__(self, runtime: WorkingAgent, mailbox: Mailbox, first_seq: int) -> None:
        """`first_seq` is where the log stood when the agent came into memory."""
        self._runtime = runtime
        self._services: Services = runtime.services
        self._mailbox = mailbox
        self._runner = StepRunner(runtime.services)
        self._executions: dict[int, Execution] = {}
        self._held: dict[tuple[int, int], Outcome] = {}
        """Results that are logged, and that their handlers did not get yet."""
        self._sent: set[tuple[int, int]] = set()
        """Work and number of the `Continue` messages in the mailbox; number -1: of a `Rerun`."""
        self._due: set[tuple[int, int]] = set()
        self._timers: dict[tuple[int, int], Begun] = {}
        self._taken: set[int] = set()
        """Work that was taken up again and is to be run."""
        self._first_seq = first_seq
        self._takes_up = False
        """Whether a `TakeUp` of its own is in the mailbox."""
        self.loaded: LoadedAgentLog | None = None
        """The log as it was read for the agent to come into memory, until the work that is taken up has been run."""
        self._accepted: dict[int, bytes] = {}
        """The events of messages that were accepted here, and whose handlers did not begin yet."""
        self._carried: dict[int, Mapping[str, str]] = {}
        """By work: the trace that its message came with, where that came to this stay in memory."""
        self._waiting: dict[int, list[Envelope]] = {}
        self._logged: list[str] = []
        """Keys of steps whose outcomes are logged with the turn under way."""
        self._outcomes: dict[int, Callable[[Envelope], None]] = {}
        self._seen: tuple[object, str] = _NEVER_SEEN
        self._exclusive: tuple[object, int | None] = None, None
        """The work of a state, and the exclusive piece in it."""
        self._reminders: DueReminders | None = None  # most agents never have one
        self._dropped = False
        self.running = 0
        """How many functions of steps run."""
        self._asking = 0
        """How many replies of other agents are waited for."""

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
            found = next((work for work, piece in works if registry.is_exclusive(piece["message"])), None)
            self._exclusive = state.work, found
        return self._exclusive[1]

    @property
    def can_passivate(self) -> bool:
        """Whether no step runs, and nobody waits. What is due later is found in the index."""
        return not self.running and not self._asking and not self._waiting and not self._sent

    # -- messages ----------------------------------------------------------------------------------------------------

    def accept(self, turn: Turn, envelope: Envelope) -> None:
        """Handle a durable message: its reply comes at the end of its work."""
        name, version, data = self._services.registry.dump_message(envelope.message)
        message = Accept(name, version, data, envelope.command_id, envelope.durability)

        def handle(turn: Turn, _: Any) -> Awaited:
            work = accept_work(turn, message).seq
            self.note_trace(work, envelope)
            return Awaited(work)

        turn.handle(envelope, handle)

    def note_trace(self, work: int, envelope: Envelope) -> None:
        """Keep the trace that a durable message came with, if messages are traced, until its work has ended."""
        tracing = self._services.tracing
        if tracing is not None:
            self._carried.setdefault(work, tracing.inject(envelope))

    def note_accepted(self, work: int, item: bytes) -> None:
        """Keep the event of a message, as it will be stored, so that its handler begins without reading the log."""
        self._accepted[work] = item

    def take_up(self, turn: Turn, _: TakeUp) -> None:
        """Log that work is taken up which was begun before the agent came into memory; it is run after the commit."""
        self._takes_up = False
        if not self.may_go_on:
            return
        works = [work for work, piece in self._runnable(open_work(turn.state)) if self._must_take_up(work, piece)]
        if works:
            self._taken.update(works)
            turn.emit(NewEvent(WORK_TAKEN_UP, {"works": works}))

    def goes_on_at_once(self, message: object) -> bool:
        """Whether a handler goes on with what is in memory."""
        if type(message) is Rerun:
            return self.loaded is not None
        return type(message) is Continue and (message.number != START or message.work in self._accepted)

    def note(self, turn: Turn, message: Note) -> None:
        """Log something, unless the work has ended or does not wait for it any more."""
        data = message.event.data
        if "work" in data:
            piece = open_work(turn.state).get(str(data["work"]))
            number = data.get("number")
            if piece is None or (number is not None and str(number) not in piece["pending"]):
                return
        if message.event.type == WORK_PARKED:
            self._emit_parked(turn, message.event)
        else:
            turn.emit(message.event)

    def keep_result(self, turn: Turn, message: Continue) -> None:
        """Log a result while the handler may not go on; it gets the result when the agent is resumed, or elsewhere."""
        work, number = message.work, message.number
        self._sent.discard((work, number))
        piece = open_work(turn.state).get(str(work))
        item = None if piece is None else piece["pending"].get(str(number))
        if item is not None and item["kind"] in (STEP, ASK) and item["result"] is None:
            data = {"work": work, "number": number, "result": message.result, "error": message.error}
            turn.emit(NewEvent(WORK_DONE, data))
            self._held[work, number] = message.result, cast("Any", message.error)
            self._logged += [item["key"]]

    def remind(self, turn: Turn, message: Remember) -> None:
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
        self._waiting.setdefault(work, []).append(envelope)
        self._seen = _NEVER_SEEN

    # -- in a worker -------------------------------------------------------------------------------------------------

    def handle(self, turn: Turn, envelope: Envelope) -> None:
        """Handle a message about work that may block; in a worker thread."""
        message = envelope.message
        self._seen = _NEVER_SEEN
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
            why = find_refusal(begun.accepts, value)
        if why is not None:
            path = turn.agent
            raise AnswerRefused(f"the answer to work {work} of {path} is refused: {why}", agent=path, seq=work)

    def _cancel(self, turn: Turn, message: CancelWork) -> Receipt:
        """Cancel work: at once where its handler does not run, else by what the handler is told."""
        work, path = message.work, turn.agent
        seconds = parse_seconds("seconds", message.seconds)
        durability = turn.choose_durability(message.durability)
        known = None if message.command_id is None else turn.find_command(message.command_id, message)
        if known is not None:
            return known._replace(durability=durability)
        piece = require_unfinished(turn.state, work, path)
        first = turn.state.seq + 1
        if piece["parked"] is None and piece["started"] and turn.state.status == RUNNING:
            self._rerun(turn, work)
        execution = self._executions.get(work)
        if execution is None or turn.state.status != RUNNING:
            self._end(turn, work, None, WorkCancelled())
        else:
            due = turn.updated_at + int(seconds * _MICROSECONDS)
            self._run_stretch(turn, execution, Continue(work, START, None, failure(CANCELLED, "", due)), _no_start)
        return Receipt(path, first, turn.state.seq, turn.state.digest, durability)

    def _continue(self, turn: Turn, message: Continue, envelope: Envelope) -> None:
        work, number = message.work, message.number
        self._sent.discard((work, number))
        piece = open_work(turn.state).get(str(work))
        if piece is None or piece["parked"] is not None or turn.state.status != RUNNING:
            return
        if number != START:
            item = piece["pending"].get(str(number))
            if item is None:
                return  # given up meanwhile
            if item["kind"] == WAIT and item["result"] is not None:  # an answer that came just before the deadline
                message = Continue(work, number, item["value"])
        execution = self._executions.get(work)
        if execution is None:
            if number != START:
                return  # it was discarded, and is run again
            accepted = self._accepted.pop(work, None)
            if accepted is None:
                record = read_record(self._agent_log(turn), work, turn.expected)
            else:
                record = Record(turn.codec.unpack(accepted[DIGEST_SIZE:]))
            execution = self._executions[work] = self._new_execution(turn, work, piece, record)
            start = self._starter(turn, record.accepted)
        else:
            start = _no_start
        self._held.pop((work, number), None)
        if number in execution.begun:
            self._logged.append(execution.begun[number].key)
        tracing = self._services.tracing
        if tracing is None:
            self._run_stretch(turn, execution, message, start)
            return
        span = tracing.begin_handler(envelope, turn.traced_agent(), piece["message"])
        execution.carried = tracing.inject(envelope)
        self._carried.setdefault(work, execution.carried)  # of work that was taken up here: one trace for what follows
        problem: BaseException | None = None
        try:
            with span.running():
                problem = self._run_stretch(turn, execution, message, start)
        except BaseException as error:
            problem = error
            raise
        finally:
            span.end(problem)

    def _run_stretch(
        self, turn: Turn, execution: Execution, message: Continue, start: Callable[[], Any]
    ) -> BaseException | None:
        """Run a handler from a result to where it waits next, or ends; returns what it has raised."""
        saved = Savepoint(turn)
        begun = execution.begun.get(message.number)
        cause = self._cause_of(execution, message.work if begun is None else begun.seq)
        _emit_continued(turn, cause, message)
        execution.now = turn.updated_at
        execution.go_on(start, message.number, message.result, message.error, turn=turn, seq=turn.state.seq)
        given_up = self._emit_given_up(turn, execution)
        error: BaseException | None = None
        try:
            saved.check_size(turn)
        except TooLarge as oversize:
            error = oversize
        if error is None and not execution.loop.ended:
            turn.undo = None
            _cancel_what_was_asked(turn, given_up)
            return None
        value = None
        if error is None:
            try:
                value = execution.loop.result()
            except BaseException as raised:
                error = raised
        if error is not None and not isinstance(error, CancelledError):
            saved.restore(turn)
            turn.undo = None
            _emit_continued(turn, cause, message)
        turn.undo = None
        _cancel_what_was_asked(turn, given_up)
        self._end(turn, message.work, value, error)
        return error

    def _cause_of(self, execution: Execution, seq: int) -> Cause:
        return Cause(event_id(self._runtime.path, seq), execution.identity.correlation_id)

    def _emit_given_up(self, turn: Turn, execution: Execution) -> list[Begun]:
        """Log what the handler does not wait for any more, and return it."""
        given_up: list[Begun] = []
        for number in execution.loop.take_given_up():
            begun = execution.begun.pop(number, None)
            if begun is not None:
                begun.cancel()
                self._logged.append(begun.key)
                given_up.append(begun)
                turn.emit(NewEvent(WORK_GIVEN_UP, {"work": execution.identity.work, "number": number}))
        return given_up

    def _end(self, turn: Turn, work: int, value: Any, error: BaseException | None) -> None:
        """Log the end of work, and prepare the replies of those who wait for it."""
        path, services = turn.agent, self._services
        how, data = "done", None
        if error is None:
            try:
                check_value(value, services.limits, "the reply")
                turn.codec.pack_exactly(value, "the reply")
            except DuramenError as refused:
                error, value = refused, None
        if isinstance(error, CancelledError):
            how = "cancelled"
            told: BaseException = WorkStopped(f"work {work} of {path} was cancelled", agent=path, seq=work)
            data = services.serializer.error_to_data(told, path)
        elif error is not None:
            how = "failed"
            get_logger("work").error("work_failed", agent=path, seq=work, error=kind_of(error), at=raised_at(error))
            data = services.serializer.error_to_data(error, path)
        try:
            turn.emit(NewEvent(WORK_ENDED, {"work": work, "how": how, "reply": value, "error": data}))
        except (TooLarge, ValueRefused) as refused:  # a reply, or the facts of an error, that an event cannot hold
            how, value, data = "failed", None, services.serializer.error_to_data(refused, path)
            turn.emit(NewEvent(WORK_ENDED, {"work": work, "how": how, "reply": value, "error": data}))
        self._outcomes[work] = _outcome_of(services, value, data)

    def _result(self, turn: Turn, work: int) -> Any:
        """The reply of work that has ended, from the log. Raises its error."""
        end = end_of_work(turn.state, work)
        if end is None:
            require_unfinished(turn.state, work, turn.agent)
            return Awaited(work)
        return read_end(self._agent_log(turn), self._services, work, end)

    # -- running again ---------------------------------------------------------------------------------------------

    def _rerun(self, turn: Turn, work: int) -> None:
        self._sent.discard((work, -1))
        self._taken.discard(work)
        piece = open_work(turn.state).get(str(work))
        if piece is None or piece["parked"] is not None or work in self._executions:
            return
        loaded = self.loaded  # nothing was added to its record since: it does not run
        log, to_seq = (self._agent_log(turn), turn.expected) if loaded is None else (loaded, loaded.last_seq)
        try:
            record = read_record(log, work, to_seq)
            execution = self._repeat(turn, work, piece, record, log)
        except (ReplayDiverged, Trimmed) as error:
            self._park(turn, work, error)
            return
        self._executions[work] = execution
        for number, held in record.held.items():
            self._held[work, number] = held

    def compare(self, turn: Turn, work: int, piece: Piece, to_seq: int) -> None:
        """Run a handler again up to where its log ends, and forget it. Raises ReplayDiverged, Trimmed; blocks."""
        log = self._agent_log(turn)
        self._repeat(turn, work, piece, read_record(log, work, to_seq), log).discard()

    def _repeat(self, turn: Turn, work: int, piece: Piece, record: Record, log: AgentLog) -> Execution:
        """Run a handler with the results that its log has. Raises ReplayDiverged."""
        execution = self._new_execution(turn, work, piece, record)
        past, diverged = PastAgent(self._runtime, log), list[ReplayDiverged]()
        start = self._starter(turn, record.accepted)
        try:
            for stretch in record.stretches:
                again = PastTurn(past, stretch, diverged.append)
                execution.now = stretch.time
                execution.go_on(start, stretch.number, stretch.result, stretch.error, turn=again, seq=stretch.seq)
                self._check(again, execution, stretch.seq, diverged)
        except BaseException:
            execution.discard()
            raise
        for begun in execution.begun.values():
            begun.is_recovered = True
        return execution

    def _check(self, turn: PastTurn, execution: Execution, seq: int, diverged: list[ReplayDiverged]) -> None:
        """Raise ReplayDiverged unless a stretch has done all that it did then, and waits."""
        if not diverged:
            self._emit_given_up(turn, execution)
        if diverged:
            raise diverged[0]
        if execution.loop.ended:
            raise _ended_early(turn.agent, execution, seq)
        turn.check_end()

    def _park(self, turn: Turn, work: int, error: DuramenError) -> None:
        get_logger("work").error("work_parked", agent=turn.agent, seq=work, error=kind_of(error))
        told = {"kind": kind_of(error), "text": str(error), "expected": error.expected, "actual": error.actual}
        self._emit_parked(turn, NewEvent(WORK_PARKED, {"work": work, "error": told}))

    def _emit_parked(self, turn: Turn, event: NewEvent) -> None:
        """Log that work is parked, and have it counted and the hooks called after the commit."""
        state, work, error = turn.state, event.data["work"], event.data["error"]
        message = open_work(state)[str(work)]["message"]
        turn.emit(event)
        told = LifecycleEvent(
            event_type="park",
            agent=turn.agent,
            session_id=state.session_id,
            agent_type=state.agent_type,
            seq=state.seq,
            time=to_datetime(turn.updated_at),
            data={"work": work, "message": message, "error": error["kind"], "text": error["text"]},
            metadata=turn.codec.copy(state.metadata),
        )
        turn.effects += (partial(_tell_parked, self._services, told),)

    def _new_execution(self, turn: Turn, work: int, piece: Piece, record: Record) -> Execution:
        correlation = record.accepted[8] or event_id(turn.agent, work)
        identity = Identity(
            turn.agent,
            work,
            piece["before"],
            record.accepted[4]["log"],
            piece["version"],
            correlation,
            record.command_id,
        )
        return Execution(identity, turn, is_exclusive=self._services.registry.is_exclusive(piece["message"]))

    def _starter(self, turn: Turn, accepted: RawEvent) -> Callable[[], Any]:
        data = accepted[4]
        registry = self._services.registry

        def start() -> Any:
            message = registry.load_message(data["message"], data["version"], turn.codec.copy(data["data"]))
            return self._runtime.start_handler(message)

        return start

    def _agent_log(self, turn: Turn) -> AgentLog:
        services = self._services
        return AgentLog(services.log, turn.agent, services.limits, services.registry, turn.codec)

    # -- after a commit ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Go on with what the state says can go on; in the core, after a commit."""
        state = self._runtime.state
        if self._seen[0] is state.work and self._seen[1] == state.status:
            return
        self._seen = state.work, state.status
        pieces = open_work(state)
        for key in self._logged:
            self._runner.forget(key)
        self._logged.clear()
        self._forget_ended(pieces)
        if not self.may_go_on:
            self._accepted.clear()
            self.loaded = None
            return
        self._look_at_reminders(state)
        for key, piece in pieces.items():
            if piece["parked"] is not None:
                self._refuse_waiting(int(key), piece)
        exclusive = self.exclusive
        for work, piece in self._runnable(pieces):
            if exclusive not in (None, work):
                continue
            execution = self._executions.get(work)
            if execution is None:
                self._begin(work, piece)
                continue
            self._end_cancelled(work, piece)
            for number, item in piece["pending"].items():
                self._look_at(execution, work, int(number), item)
        if not self._taken and not self._takes_up:
            self.loaded = None

    def _runnable(self, pieces: Mapping[str, Piece]) -> Iterator[tuple[int, Piece]]:
        """The work that is not parked and whose message this host's code knows, in its version."""
        version_of = self._services.registry.message_version
        for key, piece in pieces.items():
            if piece["parked"] is None and version_of(piece["message"]) >= int(piece["version"]):
                yield int(key), piece  # else a host with newer code will go on with it

    def _look_at_reminders(self, state: AgentState) -> None:
        if self._reminders is None:
            if not reminders(state):
                return
            self._reminders = DueReminders(self._services, self._runtime.path, self._send)
        self._reminders.look(state)

    def _begin(self, work: int, piece: Piece) -> None:
        """Begin work that does not run here: at its start, or again once it is logged that it is taken up."""
        number = -1 if piece["started"] else START
        if (work, number) in self._sent:
            return
        if work > self._first_seq and number == START:
            self._go_on(work, START, None, None)
        elif work in self._taken:
            if number == START:
                self._taken.discard(work)
                self._go_on(work, START, None, None)
            else:
                self._sent.add((work, number))
                self._send(Rerun(work))
        elif piece["log"] != name_log(self._services.log.identity, self._runtime.path):
            self._park_later(work, "Imported", "it was begun in another log; retry it where it is to go on")
        elif not self._needs_run(work, piece):
            return
        elif piece["tries"] >= _MOST_TRIES:
            tries = f"it was taken up {piece['tries']} times without getting on"
            self._park_later(work, "Crashed", f"{tries}; look why its process ends")
        elif not self._takes_up:
            self._takes_up = True
            self._send(TakeUp())

    def _must_take_up(self, work: int, piece: Piece) -> bool:
        is_known = work in self._executions or work in self._taken or (work > self._first_seq and not piece["started"])
        is_ours = piece["log"] == name_log(self._services.log.identity, self._runtime.path)
        return not is_known and is_ours and piece["tries"] < _MOST_TRIES and self._needs_run(work, piece)

    def _park_later(self, work: int, kind: str, text: str) -> None:
        error = {"kind": kind, "text": text, "expected": None, "actual": None}
        self._send(Note(NewEvent(WORK_PARKED, {"work": work, "error": error})))

    def _needs_run(self, work: int, piece: Piece) -> bool:
        """Whether a handler that was begun elsewhere can go on, or has steps that have to be run."""
        needed = not piece["pending"]
        for number, item in piece["pending"].items():
            is_ready = item["kind"] in (STEP, ASK) or item["result"] is not None
            if is_ready or (work, int(number)) in self._due:
                needed = True
            elif item["due"] is not None:
                self._wait_until(work, int(number), item["due"])
        return needed

    def _end_cancelled(self, work: int, piece: Piece) -> None:
        """Bound what a cancelled handler still does."""
        due = piece["cancelled"]
        if due is None:
            return
        if self._is_due(work, START, due):
            self._go_on(work, START, None, failure(TOO_LATE, ""))
        else:
            self._wait_until(work, START, due)

    def _look_at(self, execution: Execution, work: int, number: int, item: Item) -> None:
        begun, due = execution.begun.get(number), item["due"]
        if begun is None or begun.is_under_way or (work, number) in self._sent:
            return
        if item["result"] is not None:
            result, error = (item["value"], None) if item["kind"] == WAIT else self._held[work, number]
            self._go_on(work, number, result, error)
        elif due is not None and not self._is_due(work, number, due):
            self._wait_until(work, number, due)
        elif begun.kind == STEP:
            self._start_step(execution, work, begun, item)
        elif begun.kind == ASK:
            self._ask(execution, work, begun)
        elif due is not None:
            self._go_on(work, number, None, failure(EXPIRED, "") if begun.kind == WAIT else None)

    def _start_step(self, execution: Execution, work: int, begun: Begun, item: Item) -> None:
        number, attempt = begun.number, item["attempts"] + 1
        if begun.is_recovered and begun.once and not self._runner.has_begun(begun):
            self._go_on(work, number, None, failure(INTERRUPTED, "its process ended while it ran"))
            return

        def ended(outcome: Outcome, error: BaseException | None) -> None:
            begun.is_under_way = False
            self.running -= 1
            if self._dropped or execution.begun.get(number) is not begun:
                return
            result, failed = outcome
            if failed is not None and may_retry(begun.retry, attempt, error):
                due = self._services.now() + int(begun.retry.pause_before(attempt + 1) * _MICROSECONDS)
                data = {"work": work, "number": number, "attempt": attempt, "error": failed, "due": due}
                self._send(Note(NewEvent(WORK_ATTEMPTED, data)))
            else:
                self._go_on(work, number, result, failed)

        begun.is_recovered = False
        self._due.discard((work, number))
        self.running += 1
        tracing, begin_span = self._services.tracing, None
        if tracing is not None:
            step = TracedStep(begun.name, begun.model, attempt)
            carried = execution.carried or self._carried.get(work, {})
            begin_span = partial(tracing.begin_step, step, self._traced_agent(), carried)
        self._runner.attempt(begun, attempt, self._cause_of(execution, begun.seq), ended, begin_span)

    def _ask(self, execution: Execution, work: int, begun: Begun) -> None:
        begun.is_under_way = True
        self._asking += 1

        def is_wanted() -> bool:
            return not self._dropped and execution.begun.get(begun.number) is begun

        def ended(outcome: Outcome) -> None:
            begun.is_under_way = False
            self._asking -= 1
            if is_wanted():
                self._go_on(work, begun.number, *outcome)

        cause, carried = self._cause_of(execution, begun.seq), execution.carried
        Asking(self._services, begun, cause, ended, is_wanted, carried=carried).send()

    def _traced_agent(self) -> TracedAgent:
        state = self._runtime.state
        return TracedAgent(self._runtime.path, state.agent_type, state.session_id, state.seq)

    def _is_due(self, work: int, number: int, due: int) -> bool:
        return (work, number) in self._due or self._services.now() >= due

    def _wait_until(self, work: int, number: int, due: int) -> None:
        """Look again when it is due."""
        if (work, number) in self._timers:
            return
        timer = Begun(number, "", "")
        self._timers[work, number] = timer

        def expire() -> float | None:
            left = (due - self._services.now()) / _MICROSECONDS
            if left > 0:  # the clock was set back
                return float(left)
            self._services.dispatcher.post(fire)
            return None

        def fire() -> None:
            if self._timers.pop((work, number), None) is timer and not self._dropped:
                self._due.add((work, number))
                self._send(TakeUp())
                self._seen = _NEVER_SEEN

        left = max(0.0, (due - self._services.now()) / _MICROSECONDS)
        timer.timer = self._services.timers.call_later(left, expire)

    def _forget_ended(self, pieces: Mapping[str, Piece]) -> None:
        """Drop what belongs to work that has ended, and answer those who wait for it."""
        for work in [work for work in self._executions if str(work) not in pieces]:
            execution = self._executions.pop(work)
            for begun in execution.begun.values():
                self._runner.forget(begun.key)
                if begun.is_work:
                    self._cancel_asked(begun)
            if execution.has_ended:
                execution.stop()  # no code of the handler's runs
            else:
                self._services.thread_pool.submit(execution.stop)
        if self._timers or self._due:
            for key in [key for key in self._timers if not _waits(pieces, key)]:
                self._timers.pop(key).cancel()
            self._due = {key for key in self._due if _waits(pieces, key)}
        for work in [work for work in self._accepted if str(work) not in pieces]:
            del self._accepted[work]
        for work in [work for work in self._carried if str(work) not in pieces]:
            del self._carried[work]
        for work in [work for work in self._waiting if str(work) not in pieces]:
            read = self._read_end if end_of_work(self._runtime.state, work) is not None else self._stopped
            outcome = self._outcomes.get(work) or read(work)
            for envelope in self._waiting.pop(work):
                outcome(envelope)
        self._outcomes.clear()

    def _cancel_asked(self, begun: Begun) -> None:
        """Cancel the work that another agent does for work that has ended."""
        with suppress(DuramenError):  # a full mailbox, or the system closes
            self._services.actors.send(begun.name, Envelope(CancelAsked(begun.key), wanted=False))

    def _read_end(self, work: int) -> Callable[[Envelope], None]:
        """Have a message that has come after the end of the work answered from the log."""

        def ask(envelope: Envelope) -> None:
            envelope.message, envelope.command_id = GetResult(work), None
            self._mailbox.waiting.append(envelope)
            self._services.dispatcher.schedule(self._mailbox)

        return ask

    def _stopped(self, work: int) -> Callable[[Envelope], None]:
        path = self._runtime.path

        def refuse(envelope: Envelope) -> None:
            envelope.refuse(
                WorkStopped(
                    f"work {work} of {path} was stopped, by the end of its session or a resume", agent=path, seq=work
                )
            )

        return refuse

    def _refuse_waiting(self, work: int, piece: Piece) -> None:
        execution = self._executions.pop(work, None)
        if execution is not None:
            execution.discard()
        for envelope in self._waiting.pop(work, []):
            envelope.refuse(parked_error(self._runtime.path, work, piece))

    def _go_on(self, work: int, number: int, result: Any, error: Mapping[str, Any] | None) -> None:
        if (work, number) not in self._sent:
            self._sent.add((work, number))
            self._send(Continue(work, number, result, error))

    def _send(self, message: object) -> None:
        """Put a message into the agent's own mailbox, however full it is: it is part of what was accepted."""
        if not self._dropped:
            envelope, tracing = Envelope(message, wanted=False), self._services.tracing
            if tracing is not None:
                tracing.extract(envelope, self._carried.get(_work_of(message), {}))
            self._mailbox.waiting.append(envelope)
            self._services.dispatcher.schedule(self._mailbox)

    # -- leaving memory --------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Forget all that runs here; the log has it."""
        self._dropped, self.running = True, 0
        for timer in self._timers.values():
            timer.cancel()
        for execution in self._executions.values():
            execution.discard()
        if self._reminders is not None:
            self._reminders.stop()
        self._timers, self._executions = {}, {}
        due = due_of_work(self._runtime.state)
        if due is not None and due < NEVER:
            self._services.work_left(due / 1_000 - self._services.now() / _MICROSECONDS)

    def refuse_remote(self) -> None:
        """Have messages of other hosts that wait for the end of work sent to the next host, before this one ends."""
        for work, envelopes in self._waiting.items():
            remote = [envelope for envelope in envelopes if isinstance(envelope, RemoteEnvelope)]
            self._waiting[work] = [envelope for envelope in envelopes if envelope not in remote]
            for envelope in remote:
                self._services.hosting.router.refuse_attempt(envelope)

    def drop(self) -> list[Envelope]:
        """Return the messages that wait for the end of work, which wait elsewhere from now on."""
        waiting = self.waiting()
        self._waiting = {}
        return waiting

    def waiting(self) -> list[Envelope]:
        """The messages that wait for the end of work, each as one that asks for its result."""
        found: list[Envelope] = []
        for work, envelopes in self._waiting.items():
            for envelope in envelopes:
                envelope.message, envelope.command_id = GetResult(work), None
                found.append(envelope)
        return found


def _waits(pieces: Mapping[str, Piece], key: tuple[int, int]) -> bool:
    piece = pieces.get(str(key[0]))
    return piece is not None and (key[1] == START or str(key[1]) in piece["pending"])


def _emit_continued(turn: Turn, cause: Cause, message: Continue) -> None:
    """Log that a handler goes on, which begins its stretch."""
    turn.cause = cause
    data = {"work": message.work, "number": message.number, "result": message.result, "error": message.error}
    turn.emit(NewEvent(WORK_CONTINUED, data))


def _tell_parked(services: Services, event: LifecycleEvent) -> None:
    """Count work that is parked, and call the hooks; in a worker thread."""

    def count() -> None:
        services.counts.parked += 1

    services.dispatcher.post(count)
    hooks = services.hooks.registered(event.event_type)
    run_hooks(hooks, event, services.settings.hook_timeout, services.thread_pool, services.loop)


def _cancel_what_was_asked(turn: Turn, given_up: list[Begun]) -> None:
    """Have the work cancelled, after the commit, that other agents do for a handler which does not wait for it."""
    for begun in given_up:
        if begun.is_work:
            turn.send(begun.name, CancelAsked(begun.key))


def _no_start() -> Any:
    raise InvalidMessage("the handler has begun")


def _outcome_of(services: Services, value: Any, data: dict[str, Any] | None) -> Callable[[Envelope], None]:
    def answer(envelope: Envelope) -> None:
        if data is None:
            envelope.answer(services.codec.copy(value))
        else:
            envelope.refuse(services.serializer.error_from_data(data))

    return answer


def _ended_early(agent: str, execution: Execution, seq: int) -> ReplayDiverged:
    try:
        execution.loop.result()
        actual = "it returned"
    except BaseException as error:
        actual = f"it raised {kind_of(error)}"
    return ReplayDiverged(
        f"the handler of {agent} ended at {seq}, where its log says that it waits: {actual}",
        agent=agent,
        seq=seq,
        expected="it waits",
        actual=actual,
    )


def stopped_error(agent: str, work: int) -> WorkStopped:
    return WorkStopped(
        f"work {work} of {agent} was stopped: its agent's session ended, or memory was resumed from before it",
        agent=agent,
        seq=work,
    )


def parked_error(agent: str, work: int, piece: Piece) -> WorkParked:
    """The error for those who wait for parked work."""
    parked = piece["parked"]
    return WorkParked(
        f"work {work} of {agent} is parked: {parked['text']}",
        agent=agent,
        seq=work,
        expected=parked["expected"],
        actual=parked["actual"],
    )


def read_end(agent_log: AgentLog, services: Services, work: int, end: int) -> Any:
    """The reply of work that ended at seq `end`. Blocks; raises its error, WorkStopped or Trimmed."""
    raw = agent_log.raw_event(end)
    agent = agent_log.agent
    if raw[0] != WORK_ENDED:
        raise WorkStopped(
            f"work {work} of {agent} was stopped by the end of its session or a resume", agent=agent, seq=end
        )
    data = raw[4]
    if data["error"] is not None:
        raise services.serializer.error_from_data(data["error"])
    return data["reply"]


def _work_of(message: object) -> int:
    """The work that a message of an agent to itself is about; 0: none."""
    if isinstance(message, Continue | Rerun):
        return message.work
    return int(message.event.data.get("work", 0)) if isinstance(message, Note) else 0
