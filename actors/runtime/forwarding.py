"""The runner of a mailbox whose agent is on another host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import takewhile
from time import monotonic
from typing import Any, Final

from attrs import evolve

from duramen.events import (
    AgentFailed,
    AgentNotFound,
    DuramenError,
    Fenced,
    InvalidPath,
    OutcomeUnknown,
    PathNotFound,
    Receipt,
    TooLarge,
)
from duramen.events.model import WithContents

from ..commands import AdoptChild, GetResult, Hold, Length, Pause, Pop, Restart, Resume, Spawn, Terminate
from ..dispatch import IDLE, WORKING, Envelope, Mailbox
from ..handlers import BLOCKING_HANDLERS, MEMORY_HANDLERS, READS, Services, load_reply, store_contents
from ..hosts import Forwarded, RemoteEnvelope, Repeated
from .log_reads import answer_from_log

_type_of: Callable[[object], type[Any]] = type
"""The built-in with a narrower type, for type checkers."""

_MOST_UNDER_WAY: Final = 1_024
"""Most messages of one agent that wait for replies; further ones wait in the mailbox, which is bounded."""

_NONE: Final = 0
_PASSED: Final = -1
_REFUSED: Final = -2
_HANDLED: Final = (AgentNotFound, InvalidPath, PathNotFound)
"""Errors of a read that was handled."""

_RARE: Final = frozenset((Spawn, Pause, Resume, Terminate, Restart, AdoptChild))
"""Mutations that get a command id where they have none: too rare to push the user's ids out of an agent's window."""


_MARKED: Final = frozenset((*MEMORY_HANDLERS, Pop)).difference((*READS, Forwarded))
"""Mutations that get a mark in the log where they have no command id."""


class Forwarding:
    """Sends an agent's messages to the host that has it, in order, and hands over what comes back. Used in the core.

    Where that host turns out not to have the agent, or is dead, the messages without a reply go back into the mailbox,
    in their order, and the way to the agent is looked up again.
    """

    __slots__ = (
        "_barrier",
        "_is_confirming",
        "_known_seq",
        "_mailbox",
        "_reading",
        "_services",
        "_under_way",
        "attempt",
        "host",
        "last_used",
        "path",
    )

    def __init__(self, services: Services, mailbox: Mailbox, host: str, known_seq: int) -> None:
        self.host = host
        self.path = mailbox.path
        self.last_used = monotonic()
        self._services = services
        self._mailbox = mailbox
        self._known_seq = known_seq
        self.attempt = services.hosting.router.next_attempt()
        self._under_way: dict[int, Envelope] = {}
        self._reading: list[Envelope] = []
        self._is_confirming = False
        """Whether a message under way may wait for more than its commit."""
        self._barrier = _NONE
        """The number of a read behind all that is under way; PASSED: it was handled, so all of that is committed.

        REFUSED: it was not handled, and says nothing.
        """

    @property
    def can_passivate(self) -> bool:
        """Whether nothing waits for a reply."""
        return not self._under_way

    @property
    def is_running(self) -> bool:
        return False

    def run(self) -> None:
        self.last_used = monotonic()
        router = self._services.hosting.router
        if router.is_lost(self):
            self.lost(is_begun=router.may_have_begun(self))
            return
        waiting, taken = self._mailbox.waiting, 0
        self._refuse_remote(waiting)
        try:
            while taken < len(waiting) and len(self._under_way) < _MOST_UNDER_WAY:
                envelope = waiting[taken]
                if type(envelope.message) in READS:
                    break
                taken += 1
                self._forward(envelope)
                if self._mailbox.phase == WORKING:  # what is too large in it is stored: meanwhile it keeps its place
                    taken -= 1
                    break
        finally:
            del waiting[:taken]  # others only ever add at the end
        if waiting and self._mailbox.phase == IDLE:
            if not self._under_way:
                self._answer_reads()
            elif self._is_confirming and type(waiting[0].message) in READS:
                self._answer_committed()

    def _answer_committed(self) -> None:
        """Answer the reads once all that is under way is committed: they do not wait until it is confirmed, too."""
        if self._barrier == _PASSED:
            self._answer_reads()
        elif self._barrier == _NONE and self._send(Envelope(Length("_"))):
            self._barrier = next(reversed(self._under_way))

    def _refuse_remote(self, waiting: list[Envelope]) -> None:
        """Refuse what other hosts have sent, all of it and for good: their later attempts are in order again."""
        remote = [envelope for envelope in waiting if isinstance(envelope, RemoteEnvelope)]
        for envelope in remote:
            waiting.remove(envelope)
            self._services.hosting.router.refuse_attempt(envelope)

    def _forward(self, envelope: Envelope) -> None:
        if type(envelope.message) is Hold:  # of a cascade here, whose tree was taken over meanwhile
            envelope.refuse(Fenced(f"another host has taken {self.path} over; ask again", agent=self.path))
        else:
            self._send(envelope)

    def _answer_reads(self) -> None:
        """Answer the messages that only look, now that all that was sent before them is handled."""
        mailbox, services = self._mailbox, self._services
        self._reading = reads = list(takewhile(lambda envelope: type(envelope.message) in READS, mailbox.waiting))
        del mailbox.waiting[: len(reads)]

        def read() -> None:
            try:
                answer_from_log(services, self.path, reads)
            finally:
                services.dispatcher.post(self._go_on)

        if not self._submit(read, reads):
            self._go_on()

    def _submit(self, work: Callable[[], None], envelopes: list[Envelope]) -> bool:
        """Have a worker thread do something for these messages; they are refused where there is no thread."""
        self._mailbox.phase = WORKING
        try:
            self._services.activations.submit(work)
        except RuntimeError as error:  # no more threads
            self._mailbox.phase = IDLE
            for envelope in envelopes:
                failure = AgentFailed(f"no thread for a message to {self.path}; it was not sent", agent=self.path)
                failure.__cause__ = error
                envelope.refuse(failure)
            return False
        return True

    def _go_on(self) -> None:
        self._reading = []
        self._mailbox.phase = IDLE
        if self._mailbox.waiting:
            self._services.dispatcher.schedule(self._mailbox)
        elif self._mailbox.runner is not self:  # the way to the agent is looked up again
            self._services.actors.remove_if_idle(self._mailbox)

    def _send(self, envelope: Envelope) -> bool:
        """Send a message; False: it was refused, or is stored first."""
        router = self._services.hosting.router
        number = router.next_number()
        if not self._under_way:
            self._is_confirming = False
        try:
            mark = self._mark(envelope, number)
            router.ask(self, number, envelope, mark)
        except TooLarge as error:
            self._store_contents(envelope, error)
        except DuramenError as error:  # it cannot cross, or too much is under way
            envelope.refuse(error)
        else:
            self._under_way[number] = envelope
            self._barrier = _NONE
            self._is_confirming = self._is_confirming or self._asks_for_more_than_a_commit(envelope)
            return True
        return False

    def _asks_for_more_than_a_commit(self, envelope: Envelope) -> bool:
        message = envelope.message.message if isinstance(envelope.message, Forwarded) else envelope.message
        asked = envelope.durability or getattr(message, "durability", None) or self._services.durability
        return bool(asked != self._services.log.committed_durability)

    def _store_contents(self, envelope: Envelope, refused: TooLarge) -> None:
        """Send a message that is too large without its large texts and bytes, once these are stored.

        Meanwhile it stays first in the mailbox: there it can be withdrawn, and what is sent elsewhere comes before it.
        """
        mailbox, services, message = self._mailbox, self._services, envelope.message

        def go_on(replaced: Any, problem: DuramenError | None) -> None:
            if problem is not None:
                mailbox.withdraw(lambda waiting: waiting is envelope)
                envelope.refuse(problem)
            elif not envelope.done:
                envelope.message = replaced
            self._go_on()

        def store() -> None:
            problem: DuramenError | None = refused
            replaced: Any = None
            try:
                replaced, problem = store_contents(services.log, services.limits, self.path, message, refused), None
            except DuramenError as error:
                problem = error
            finally:
                services.dispatcher.post(lambda: go_on(replaced, problem))

        self._submit(store, [envelope])

    def _mark(self, envelope: Envelope, number: int) -> list[Any] | None:
        """Make a mutation recognisable should it be sent again; the mark of a mutation without a command id."""
        message = envelope.message
        kind = _type_of(message)
        if kind in _RARE and message.command_id is None:
            envelope.message = evolve(message, command_id=f"{self._services.owner}:{number}")
        elif kind in _MARKED and message.command_id is None:
            message = envelope.message = Forwarded(message, self._services.owner, number, self._known_seq)
        if not isinstance(message, Forwarded):
            return None
        return [message.asker, message.number, message.known_seq, isinstance(message, Repeated)]

    # -- what comes back ----------------------------------------------------------------------------------------------

    def replied(self, number: int, value: Any, error: BaseException | None) -> None:
        envelope = self._under_way.pop(number)
        if number == self._barrier:
            self._barrier = _PASSED if error is None or isinstance(error, _HANDLED) else _REFUSED
        if error is not None:
            envelope.refuse(error)
        else:
            if type(value) is Receipt:
                self._known_seq = value.seq
            if type(value) is WithContents:
                envelope.late = partial(load_reply, self._services.log.contents, self.path)
            envelope.answer(value)
        if self._mailbox.waiting:
            self._services.dispatcher.schedule(self._mailbox)

    def refused(self, attempt: int) -> None:
        if attempt == self.attempt:
            self._send_elsewhere(list(self._under_way.values()))

    def lost(self, *, is_begun: bool) -> None:
        if not is_begun:
            self._send_elsewhere(list(self._under_way.values()))
            return
        again: list[Envelope] = []
        for envelope in self._under_way.values():
            message = envelope.message
            if type(message) is Forwarded:
                envelope.message = Repeated(message.message, message.asker, message.number, message.known_seq)
            elif _is_users(_type_of(message)) and envelope.command_id is None:
                path = self._mailbox.path
                envelope.refuse(
                    OutcomeUnknown(
                        f"the host of {path} died while it had this message; look at the agent's state, or use a "
                        "command id, with which a message can be sent again",
                        agent=path,
                        seq=self._known_seq,
                    )
                )
                continue
            again.append(envelope)
        self._send_elsewhere(again)

    def _send_elsewhere(self, envelopes: list[Envelope]) -> None:
        self.release_resources()
        mailbox, services = self._mailbox, self._services
        mailbox.requeue(envelopes)
        services.actors.deactivate(mailbox)
        if mailbox.waiting:
            services.dispatcher.schedule(mailbox)
        else:
            services.actors.remove_if_idle(mailbox)

    def withdraw(self, is_it: Callable[[Envelope], bool]) -> Envelope | None:
        """As `Runnable.withdraw`; a message that was sent is not sent again, and its host is told to drop it."""
        for number, envelope in self._under_way.items():
            if is_it(envelope):
                del self._under_way[number]
                self._services.hosting.router.cancel(self, number)
                if self._mailbox.waiting:
                    self._services.dispatcher.schedule(self._mailbox)
                return envelope
        return self._mailbox.withdraw(is_it)

    def abandon(self) -> list[Envelope]:
        """At the end of the system: the messages that will not be answered any more."""
        return [*self._under_way.values(), *self._reading]

    def release_resources(self) -> None:
        """Expect no replies any more."""
        for number in self._under_way:
            self._services.hosting.router.forget(number)
        self._under_way = {}


def _is_users(kind: type[Any]) -> bool:
    return kind not in MEMORY_HANDLERS and kind not in BLOCKING_HANDLERS and kind is not GetResult
