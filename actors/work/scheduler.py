"""What of an agent's work can go on is begun: handlers, those that run again after a crash, steps and questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from duramen.events import DuramenError, NewEvent
from duramen.events.model import WORK_ATTEMPTED, WORK_TAKEN_UP, contents_in
from duramen.projections.state import ASK, STEP, WAIT, Item, Piece, name_log

from ..commands import CancelAsked
from ..dispatch import Envelope, Mailbox
from ..handlers import ActiveAgent, Services, Turn
from .asking import Asking
from .deadlines import MICROSECONDS, Deadlines
from .execution import EXPIRED, INTERRUPTED, START, TOO_LATE, Begun, Execution, Outcome, StepRunner, failure, may_retry
from .messages import Continue, Note, Rerun, TakeUp
from .parking import parked_event
from .traces import WorkTraces

RERUN: Final = -1
"""In place of a number: what was sent is a `Rerun`."""
_MOST_TRIES: Final = 5
"""How often work is taken up again without getting on before it is parked."""


class WorkScheduler:
    """Compares an agent's unfinished work with what runs here, and begins what can go on. Used in the core."""

    def __init__(
        self,
        runtime: ActiveAgent,
        mailbox: Mailbox,
        executions: dict[int, Execution],
        first_seq: int,
        traces: WorkTraces | None,
    ) -> None:
        """`first_seq` is where the log stood when the agent came into memory."""
        self._services: Services = runtime.services
        self._mailbox = mailbox
        self._log_name = name_log(runtime.services.log.identity, runtime.path)
        self._executions = executions
        self._first_seq = first_seq
        self._traces = traces
        self._runner = StepRunner(runtime.services)
        self._deadlines = Deadlines(runtime.services, lambda: self.send(TakeUp()))
        self._is_stopped = False
        self.sent: set[tuple[int, int]] = set()
        """Work and number of the `Continue` messages in the mailbox; number RERUN: of a `Rerun`."""
        self.taken: set[int] = set()
        """Work that was taken up again and is to be run."""
        self.takes_up = False
        """Whether a `TakeUp` of its own is in the mailbox."""
        self.running = 0
        """How many functions of steps run."""
        self._asking = 0
        """How many replies of other agents are waited for."""

    def send(self, message: object) -> None:
        """Put a message into the agent's own mailbox, however full it is: it is part of what was accepted."""
        if not self._is_stopped:
            envelope = Envelope(message, wanted=False)
            if self._traces is not None:
                self._traces.attach(envelope)
            self._mailbox.waiting.append(envelope)
            self._services.dispatcher.schedule(self._mailbox)

    @property
    def is_stepping(self) -> bool:
        """Whether a step runs, or has a result that is not in the log yet: elsewhere it would be repeated."""
        return self.running > 0 or bool(self.sent)

    @property
    def is_busy(self) -> bool:
        """Whether something is under way that would be lost, repeated or asked again, if the agent left memory."""
        return self.is_stepping or self._asking > 0

    def go_on(self, runnable: Iterable[tuple[int, Piece]], exclusive: int | None) -> None:
        """Begin what can go on of this work; of the exclusive one only, if there is one."""
        for work, piece in runnable:
            if exclusive not in (None, work):
                continue
            execution = self._executions.get(work)
            if execution is None:
                self._begin(work, piece)
                continue
            if piece["cancelled"] is not None:
                self._bound_cancelled(work, piece["cancelled"])
            for number, item in piece["pending"].items():
                self._go_on_with(execution, work, int(number), item)

    def take_up(self, turn: Turn, runnable: Iterable[tuple[int, Piece]]) -> None:
        """Log that work is taken up which was begun before the agent came into memory; it is run after the commit."""
        works = [work for work, piece in runnable if self._must_take_up(work, piece)]
        if works:
            self.taken.update(works)
            turn.emit(NewEvent(WORK_TAKEN_UP, {"works": works}))

    def forget_logged(self, keys: list[str]) -> None:
        """Forget the steps with these keys, whose outcomes are logged."""
        self._runner.forget(*keys)

    def forget_ended(self, pieces: Mapping[str, Piece]) -> None:
        """Stop what belongs to work that is not among the unfinished."""
        for work in [work for work in self._executions if str(work) not in pieces]:
            execution = self._executions.pop(work)
            self._runner.forget(*(begun.key for begun in execution.begun.values()))
            for begun in execution.begun.values():
                if begun.is_told_at_once:
                    with suppress(DuramenError):  # a full mailbox, or the system closes
                        self._services.actors.send(begun.name, Envelope(CancelAsked(begun.key), wanted=False))
            if execution.has_ended:
                execution.stop()  # no code of the handler's runs
            else:
                self._services.thread_pool.submit(execution.stop)
        self._deadlines.keep(pieces)

    def discard(self, work: int) -> None:
        """Forget the run of a handler whose work is parked."""
        execution = self._executions.pop(work, None)
        if execution is not None:
            execution.discard()

    def stop(self) -> None:
        """Forget all that runs here."""
        self._is_stopped, self.running = True, 0
        self._deadlines.stop()
        for execution in self._executions.values():
            execution.discard()
        self._executions.clear()

    # -- handlers that do not run here

    def _begin(self, work: int, piece: Piece) -> None:
        """Begin a handler: at its start, or again once it is logged that its work is taken up."""
        number = RERUN if piece["started"] else START
        if (work, number) in self.sent:
            return
        if work > self._first_seq and number == START:
            self._continue(work, START, None, None)
        elif work in self.taken:
            if number == START:
                self.taken.discard(work)
                self._continue(work, START, None, None)
            else:
                self.sent.add((work, RERUN))
                self.send(Rerun(work))
        elif piece["log"] != self._log_name:
            text = "it was begun in another log; retry it where it is to go on"
            self.send(Note(parked_event(work, "Imported", text)))
        elif not self._needs_run(work, piece):
            return
        elif piece["tries"] >= _MOST_TRIES:
            text = f"it was taken up {piece['tries']} times without getting on; look why its process ends"
            self.send(Note(parked_event(work, "Crashed", text)))
        elif not self.takes_up:
            self.takes_up = True
            self.send(TakeUp())

    def _must_take_up(self, work: int, piece: Piece) -> bool:
        is_known = work in self._executions or work in self.taken or (work > self._first_seq and not piece["started"])
        is_wanted = not is_known and piece["log"] == self._log_name and piece["tries"] < _MOST_TRIES
        return bool(is_wanted) and self._needs_run(work, piece)

    def _needs_run(self, work: int, piece: Piece) -> bool:
        """Whether a handler that was begun elsewhere can go on, or has steps that have to be run."""
        needed = not piece["pending"]
        for number, item in piece["pending"].items():
            is_ready = item["kind"] in (STEP, ASK) or item["result"] is not None
            if is_ready or self._deadlines.is_due(work, int(number)):
                needed = True
            elif item["due"] is not None:
                self._deadlines.wait_until(work, int(number), item["due"])
        return needed

    # -- what running handlers wait for

    def _bound_cancelled(self, work: int, due: int) -> None:
        """End a cancelled handler that has not ended by itself when it is due."""
        if self._deadlines.is_due(work, START, due):
            self._continue(work, START, None, failure(TOO_LATE, ""))
        else:
            self._deadlines.wait_until(work, START, due)

    def _go_on_with(self, execution: Execution, work: int, number: int, item: Item) -> None:
        """Begin one thing that a handler waits for, or hand its result over."""
        begun, due = execution.begun.get(number), item["due"]
        if begun is None or begun.is_under_way or (work, number) in self.sent:
            return
        if item["result"] is not None:
            is_answer = item["kind"] == WAIT
            result, error = (item["value"], None) if is_answer else execution.held[number]
            self._continue(work, number, result, error, has_contents=is_answer and any(contents_in(result)))
        elif due is not None and not self._deadlines.is_due(work, number, due):
            self._deadlines.wait_until(work, number, due)
        elif begun.kind == STEP:
            self._start_step(execution, work, begun, item)
        elif begun.kind == ASK:
            self._ask(execution, work, begun)
        elif due is not None:
            self._continue(work, number, None, failure(EXPIRED, "") if begun.kind == WAIT else None)

    def _start_step(self, execution: Execution, work: int, begun: Begun, item: Item) -> None:
        number, attempt = begun.number, item["attempts"] + 1
        if begun.is_recovered and begun.once and not self._runner.has_begun(begun):
            self._continue(work, number, None, failure(INTERRUPTED, "its process ended while it ran"))
            return

        begun.is_recovered = False
        self._deadlines.forget(work, number)
        self.running += 1
        begin_span = None if self._traces is None else self._traces.step(execution, begun, attempt)
        ended = partial(self._step_ended, execution, begun, attempt)
        self._runner.attempt(begun, attempt, execution.cause_of(begun.seq), ended, begin_span)

    def _step_ended(
        self, execution: Execution, begun: Begun, attempt: int, outcome: Outcome, error: BaseException | None
    ) -> None:
        """Have the handler go on with the outcome of a step, or the step attempted again."""
        begun.is_under_way = False
        self.running -= 1
        work, number = execution.identity.work, begun.number
        if self._is_stopped or execution.begun.get(number) is not begun:
            return
        result, failed = outcome
        if failed is not None and may_retry(begun.retry, attempt, error):
            due = self._services.now() + int(begun.retry.pause_before(attempt + 1) * MICROSECONDS)
            data = {"work": work, "number": number, "attempt": attempt, "error": failed, "due": due}
            self.send(Note(NewEvent(WORK_ATTEMPTED, data)))
        else:
            self._continue(work, number, result, failed)

    def _ask(self, execution: Execution, work: int, begun: Begun) -> None:
        begun.is_under_way = True
        self._asking += 1

        def is_wanted() -> bool:
            return not self._is_stopped and execution.begun.get(begun.number) is begun

        def ended(outcome: Outcome) -> None:
            begun.is_under_way = False
            self._asking -= 1
            if is_wanted():
                self._continue(work, begun.number, *outcome)

        cause, carried = execution.cause_of(begun.seq), execution.carried
        Asking(self._services, begun, cause, ended, is_wanted, carried=carried).send()

    def _continue(
        self, work: int, number: int, result: Any, error: Mapping[str, Any] | None, *, has_contents: bool = False
    ) -> None:
        if (work, number) not in self.sent:
            self.sent.add((work, number))
            self.send(Continue(work, number, result, error, has_contents=has_contents))
