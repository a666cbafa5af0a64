"""The end of work, and the replies to the messages that wait for it."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from duramen.events import DuramenError, NewEvent, TooLarge, ValueRefused, WorkStopped
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import WORK_ENDED, WithContents
from duramen.projections.recovery import AgentLog
from duramen.projections.state import Piece, end_of_work

from ..commands import GetResult, kind_of
from ..dispatch import Envelope, Mailbox
from ..handlers import ActiveAgent, Services, Turn, emit_packing, is_packed, load_reply
from ..hosts import RemoteEnvelope
from .execution import check_result
from .parking import parked_error


class PendingReplies:
    """The messages to one agent that are answered when work ends. Used in the core, except for `end`."""

    def __init__(self, runtime: ActiveAgent, mailbox: Mailbox) -> None:
        self._runtime = runtime
        self._mailbox = mailbox
        self._waiting: dict[int, list[Envelope]] = {}
        self._ended: dict[int, Callable[[Envelope], None]] = {}
        """How messages are answered that wait for work which ends with the turn under way."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, work: int, envelope: Envelope) -> None:
        """Answer a message when this work ends."""
        self._waiting.setdefault(work, []).append(envelope)

    def end(
        self,
        turn: Turn,
        work: int,
        value: Any,
        error: BaseException | None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Log the end of work, and prepare the replies to the messages that wait for it; in the thread of the turn.

        Raises TooLarge if the metadata does not fit into the event.
        """
        path, services = turn.agent, turn.services
        how, data = "done", None
        if error is None:
            try:
                check_result(value, services.limits, "the reply", turn.codec)
            except DuramenError as refused:
                error, value = refused, None
        if isinstance(error, CancelledError):
            how = "cancelled"
            cancelled = WorkStopped(f"work {work} of {path} was cancelled", agent=path, seq=work)
            data = services.serializer.error_to_data(cancelled, path)
        elif error is not None:
            how = "failed"
            get_logger("work").error("work_failed", agent=path, seq=work, error=kind_of(error), at=raised_at(error))
            data = services.serializer.error_to_data(error, path)
        try:
            ended = {"work": work, "how": how, "reply": value, "error": data}
            logged = emit_packing(turn, NewEvent(WORK_ENDED, ended, metadata=metadata), "reply")[4]
        except (TooLarge, ValueRefused) as refused:  # the facts of an error, say, that an event cannot hold
            how, value, data = "failed", None, services.serializer.error_to_data(refused, path)
            ended = {"work": work, "how": how, "reply": value, "error": data}
            logged = turn.emit(NewEvent(WORK_ENDED, ended, metadata=metadata))[4]
        self._ended[work] = _answer_with(services, path, value, logged)

    def answer_ended(self, pieces: Mapping[str, Piece]) -> None:
        """Answer the messages that wait for work which is not among the unfinished."""
        for work in [work for work in self._waiting if str(work) not in pieces]:
            is_logged = end_of_work(self._runtime.state, work) is not None
            answer = self._ended.get(work) or (self._read_end if is_logged else self._refuse_stopped)(work)
            for envelope in self._waiting.pop(work):
                answer(envelope)
        self._ended.clear()

    def refuse_parked(self, work: int, piece: Piece) -> None:
        """Refuse the messages that wait for work which is parked."""
        for envelope in self._waiting.pop(work, []):
            envelope.refuse(parked_error(self._runtime.path, work, piece))

    def refuse_remote(self) -> None:
        """Have messages of other hosts sent to the next host, before this one ends."""
        for work, envelopes in self._waiting.items():
            remote = [envelope for envelope in envelopes if isinstance(envelope, RemoteEnvelope)]
            self._waiting[work] = [envelope for envelope in envelopes if envelope not in remote]
            for envelope in remote:
                self._runtime.services.hosting.router.refuse_attempt(envelope)

    def take(self) -> list[Envelope]:
        """Take out all messages, each as one that asks for the result of its work."""
        taken = [envelope for work in self._waiting for envelope in _as_requests(work, self._waiting[work])]
        self._waiting = {}
        return taken

    def _read_end(self, work: int) -> Callable[[Envelope], None]:
        """Have a message that has come after the end of the work answered from the log."""

        def ask(envelope: Envelope) -> None:
            self._mailbox.waiting += _as_requests(work, [envelope])
            self._runtime.services.dispatcher.schedule(self._mailbox)

        return ask

    def _refuse_stopped(self, work: int) -> Callable[[Envelope], None]:
        return lambda envelope: envelope.refuse(_stopped_error(self._runtime.path, work, work))


def read_end(agent_log: AgentLog, services: Services, work: int, end: int) -> Any:
    """Read the reply of work that ended at seq `end`. Blocks; raises its error, WorkStopped or Trimmed."""
    raw = agent_log.raw_event(end)
    if raw[0] != WORK_ENDED:
        raise _stopped_error(agent_log.agent, work, end)
    data = raw[4]
    if data["error"] is not None:
        raise services.serializer.error_from_data(data["error"])
    return WithContents(data["reply"], is_packed=True) if is_packed(data) else data["reply"]


def _answer_with(services: Services, agent: str, value: Any, logged: dict[str, Any]) -> Callable[[Envelope], None]:
    def answer(envelope: Envelope) -> None:
        if logged["error"] is not None:
            envelope.refuse(services.serializer.error_from_data(logged["error"]))
        elif is_packed(logged):  # whoever takes it loads it: a copy would take the core long
            envelope.late = partial(load_reply, services.log.contents, agent)
            envelope.answer(WithContents(logged["reply"], is_packed=True))
        else:
            envelope.answer(services.codec.copy(value))

    return answer


def _as_requests(work: int, envelopes: list[Envelope]) -> list[Envelope]:
    """Make these messages ask for the result of work."""
    for envelope in envelopes:
        envelope.message, envelope.command_id = GetResult(work), None
    return envelopes


def _stopped_error(agent: str, work: int, seq: int) -> WorkStopped:
    return WorkStopped(
        f"work {work} of {agent} was stopped by the end of its session or a resume", agent=agent, seq=seq
    )
