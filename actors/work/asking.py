"""Questions to other agents, and their cancellation: each is handled once, whatever messages are lost and hosts die."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from attrs import evolve

from duramen.events import (
    AskTimeout,
    DuramenError,
    Fenced,
    MailboxFull,
    NewEvent,
    NoHost,
    OutcomeUnknown,
    SystemClosed,
    Unavailable,
)
from duramen.events.model import WORK_CANCEL_SENT, Cause, WithContents, is_log_id, log_id
from duramen.projections import AgentState
from duramen.projections.recovery import find_agent
from duramen.projections.state import cancels_to_send

from ..commands import CancelAsked, Message, renamed
from ..dispatch import Envelope
from ..handlers import Services, load_reply
from .execution import Begun, Outcome, pack_reply
from .messages import Note

_PASSING: Final = (Unavailable, Fenced, MailboxFull, NoHost)
"""Errors after which the same message is sent again: it was not handled, or is recognised."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 30.0


class Asking:
    """One message to another agent, sent until it is answered. Used in the core."""

    def __init__(
        self,
        services: Services,
        begun: Begun,
        cause: Cause,
        ended: Callable[[Outcome], None],
        is_wanted: Callable[[], bool],
        *,
        carried: Mapping[str, str],
    ) -> None:
        """`ended` is called in the core with the reply; `is_wanted` says whether to go on asking.

        `carried` is the trace that the messages lie in, where messages are traced.
        """
        self._services = services
        self._begun = begun
        self._cause = cause
        self._ended = ended
        self._is_wanted = is_wanted
        self._carried = carried
        self._pause = _FIRST_PAUSE

    def send(self) -> None:
        """Send the message, for the first time or again."""
        if not self._is_wanted():
            return
        envelope, tracing = self._envelope(), self._services.tracing
        if tracing is not None:
            tracing.send(self._begun.name, envelope, self._carried)
        envelope.add_done_callback(lambda: self._services.dispatcher.post(lambda: self._answered(envelope)))
        try:
            self._services.actors.send(self._begun.name, envelope)
        except DuramenError as error:  # a full mailbox, or the system closes
            envelope.refuse(error)

    def _envelope(self) -> Envelope:
        make, key = self._begun.run, self._begun.key
        assert make is not None, "there is a message"
        message = make(key)
        kind = cast("type[Any]", type(message))
        is_own = issubclass(kind, Message)
        if is_own and hasattr(message, "command_id"):
            message = evolve(message, command_id=key)
        envelope = Envelope(message, None if is_own else key)
        envelope.cause = self._cause
        return envelope

    def _answered(self, envelope: Envelope) -> None:
        error = envelope.error
        if isinstance(error, _PASSING):
            self._send_later()
        elif type(envelope.result) is WithContents:
            self._load(envelope.result)
        else:
            self._ended(self._outcome(envelope.result, error))

    def _send_later(self) -> None:
        pause, self._pause = self._pause, min(_LONGEST_PAUSE, 2 * self._pause)
        self._services.timers.call_later(pause, lambda: self._services.dispatcher.post(self.send))

    def _load(self, reply: WithContents) -> None:
        """Load what stands beside the other agent's log, in a worker thread: it is kept beside that of who asked."""
        services = self._services

        def load() -> None:
            try:
                outcome = self._outcome(load_reply(services.log.contents, self._begun.name, reply), None)
            except _PASSING:
                services.dispatcher.post(self._send_later)
                return
            except DuramenError as error:
                outcome = self._outcome(None, error)
            services.dispatcher.post(lambda: self._ended(outcome))

        try:
            services.thread_pool.submit(load)
        except RuntimeError:  # no more threads
            self._send_later()

    def _outcome(self, reply: Any, error: BaseException | None) -> Outcome:
        path, services = self._begun.name, self._services
        if error is None:
            try:
                return pack_reply(reply, services, path, 0), None
            except DuramenError as refused:
                error = refused
        return None, renamed(services.serializer.error_to_data(error, path), path, log_id(path))


class Cancelling:
    """Tells other agents to cancel what they were asked by work that does not wait for it any more. Used in the core.

    What is to be cancelled stands in the agent's state until the other agent has been told, so that it is told also if
    this process ends meanwhile: twice, perhaps, which changes nothing.
    """

    def __init__(self, services: Services, log: str, send: Callable[[object], None]) -> None:
        """`log` names the agent's log; `send` puts a message into its own mailbox."""
        self._services = services
        self._log = log
        self._send = send
        self._told: set[str] = set()
        self._is_stopped = False

    @property
    def is_busy(self) -> bool:
        """Whether somebody is to be told whom nothing was heard of yet."""
        return bool(self._told)

    def look(self, state: AgentState) -> None:
        """Tell those who were not told yet; after a commit."""
        cancels = cancels_to_send(state)
        self._told.intersection_update(cancels)
        for key, (name, log) in cancels.items():
            if key in self._told:
                continue
            self._told.add(key)
            if log == self._log:
                self._find(name, key, _FIRST_PAUSE)
            else:  # of an agent that was imported: it was asked elsewhere
                self._send(Note(NewEvent(WORK_CANCEL_SENT, {"key": key})))

    def stop(self) -> None:
        """Tell nobody any more here; another run of the agent goes on."""
        self._is_stopped = True

    def _find(self, name: str, key: str, pause: float) -> None:
        """Find the agent that was asked, in a worker thread, and tell it; one that is gone needs not be told."""
        if not is_log_id(name):  # a path: it was asked before logs had ids
            self._tell(name, key, pause)
            return

        def find() -> None:
            try:
                path = find_agent(self._services.log, name)
            except DuramenError:
                self._find_later(name, key, pause)
            else:
                self._services.dispatcher.post(lambda: self._found(path, key, pause))

        try:
            self._services.thread_pool.submit(find)
        except RuntimeError:  # no more threads
            self._find_later(name, key, pause)

    def _find_later(self, name: str, key: str, pause: float) -> None:
        again = min(_LONGEST_PAUSE, 2 * pause)
        self._services.timers.call_later(
            pause, lambda: self._services.dispatcher.post(lambda: self._find(name, key, again))
        )

    def _found(self, path: str | None, key: str, pause: float) -> None:
        if path is not None:
            self._tell(path, key, pause)
        elif not self._is_stopped:
            self._send(Note(NewEvent(WORK_CANCEL_SENT, {"key": key})))

    def _tell(self, path: str, key: str, pause: float) -> None:
        if self._is_stopped:
            return
        envelope = Envelope(CancelAsked(key))
        envelope.add_done_callback(
            lambda: self._services.dispatcher.post(lambda: self._answered(path, key, pause, envelope.error))
        )
        try:
            self._services.actors.send(path, envelope)
        except DuramenError as error:  # a full mailbox, or the system closes
            envelope.refuse(error)

    def _answered(self, path: str, key: str, pause: float, error: BaseException | None) -> None:
        if isinstance(error, SystemClosed):
            return
        if isinstance(error, (*_PASSING, AskTimeout, OutcomeUnknown)):
            again = min(_LONGEST_PAUSE, 2 * pause)
            self._services.timers.call_later(
                pause, lambda: self._services.dispatcher.post(lambda: self._tell(path, key, again))
            )
            return
        self._send(Note(NewEvent(WORK_CANCEL_SENT, {"key": key})))
