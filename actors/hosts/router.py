"""The router sends messages to the hosts of their agents, and takes those that other hosts send to agents here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

from duramen.events import DuramenError
from duramen.events.logging import get_logger
from duramen.events.model import Cause

from ..commands import Serializer, Tracing
from ..dispatch import ActorRegistry, Dispatcher, Envelope
from .forwarded import Forwarded, Repeated
from .links import Links, Received

# The kinds of rows that hosts send to one another, and what follows the kind.
_ASK: Final = 0
"""The fields of `_Ask`."""
_REPLY: Final = 1
"""[number, agent, seq, reply]."""
_ERROR: Final = 2
"""[number, error]."""
_NOT_MINE: Final = 3
"""[number, attempt]."""
_LEFT: Final = 4
"""[]: the host has closed, or takes no more trees: what is known of hosts is out of date."""
_CANCEL: Final = 5
"""[number, agent]: nobody waits for the reply any more."""

_MOST_REFUSED: Final = 65_536
"""Refused attempts that are remembered for a host: more than a host has messages under way to another."""


class Route(Protocol):
    """What sends one agent's messages to another host, and waits for their replies. Called in the core."""

    @property
    def host(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    def replied(self, number: int, value: Any, error: BaseException | None) -> None:
        """Hand over the reply to a message, or the error in its place."""
        ...

    def refused(self, attempt: int) -> None:
        """The host does not have the agent: send all messages of this attempt elsewhere."""
        ...

    def lost(self, *, is_begun: bool) -> None:
        """The host is dead. Without `is_begun`, what it has not answered was certainly not begun."""
        ...


class _Ask(NamedTuple):
    """The fields of a row that asks."""

    number: int
    agent: str
    attempt: int
    wanted: bool
    command_id: str | None
    causation_id: str | None
    correlation_id: str | None
    durability: str | None
    message: bytes
    """The message, packed."""
    mark: list[Any] | None
    """Of a mutation without a command id: what `Forwarded` has besides the message, and whether it is repeated."""
    traced: dict[str, str] | None = None
    """The trace that its spans lie inside."""


class NotMine(DuramenError):
    """Another host has the agent: in place of a reply, between hosts only."""


class RemoteEnvelope(Envelope):
    """A message of another host, which gets the outcome."""

    __slots__ = ("agent", "attempt", "host", "number", "peer", "traced")

    def __init__(self, host: str, peer: str, ask: _Ask, message: Any) -> None:
        super().__init__(message, ask.command_id, ask.wanted, ask.durability)
        self.host = host
        """The id of this host that it was sent to."""
        self.peer = peer
        self.number = ask.number
        self.agent = ask.agent
        self.attempt = ask.attempt
        self.traced = ask.traced
        if ask.causation_id is not None or ask.correlation_id is not None:
            self.cause = Cause(ask.causation_id, ask.correlation_id)


class Router:
    """One host's side of the messages between hosts. Used in the core, except for `receive`.

    Messages of one agent go out in the order in which they were sent, under the number of an attempt. A host that does
    not have the agent refuses the attempt as a whole: it refuses what else arrives of it, and the sender sends all it
    has for that agent again under a higher one. So the order of one caller to one agent holds over changes of owner.
    """

    def __init__(
        self, actors: ActorRegistry, dispatcher: Dispatcher, serializer: Serializer, tracing: Tracing | None = None
    ) -> None:
        self._actors = actors
        self._dispatcher = dispatcher
        self._serializer = serializer
        self._tracing = tracing
        dispatcher.after_pass = self.flush
        self._readers: dict[int, Callable[..., Callable[[], None]]] = {
            _REPLY: self._read_reply,
            _ERROR: self._read_error,
            _NOT_MINE: self._read_not_mine,
            _LEFT: self._read_left,
            _CANCEL: self._read_cancel,
        }
        """Handlers of rows that ask nothing, by their kind."""
        self._links: Links | None = None
        self._has_rows = False
        """Whether the core has put rows together that no flush has sent."""
        self._numbers = count(1)
        self._attempts = count(1)
        self._routes: dict[int, Route] = {}
        self._refused: dict[str, dict[str, int]] = {}
        self._dead: dict[str, bool] = {}
        """The hosts that were found dead, and whether each has closed."""
        self._first_attempt = 0
        """Attempts below this number were sent under an id of this host that was declared dead."""
        self._held: list[RemoteEnvelope] | None = None
        self._told_to_leave: set[str] | None = None
        """The hosts that know that this one takes no more trees; None while it takes some."""
        self.on_left: Callable[[str], None] = lambda host: None
        """Called in the core when a host says that it has closed, or takes no more trees."""
        self.was_buried: Callable[[str], bool] = lambda host: False
        """Whether a host was found dead that had not closed."""
        self.handling = 0
        """Messages of other hosts that are not answered yet."""
        self.sent = 0
        """Messages sent to other hosts, those too that were sent again."""
        self.taken = 0
        """Messages of other hosts that were taken."""
        self._log = get_logger("router")

    @property
    def waiting(self) -> int:
        """Messages to other hosts that are not answered yet."""
        return len(self._routes)

    def frames_refused(self) -> int:
        """Messages on this host's channel that were no frames of another host's, or came again or too early."""
        return 0 if self._links is None else sum(self._links.counters.values())

    def hosts_asked(self) -> set[str]:
        """The hosts whose replies are waited for. Callable from any thread."""
        return {route.host for route in list(self._routes.values())}

    def is_lost(self, route: Route) -> bool:
        """Whether what a route has sent gets no outcome any more: `lost` was called on it, or is to be."""
        return route.host in self._dead or route.attempt < self._first_attempt

    def may_have_begun(self, route: Route) -> bool:
        """Whether what a lost route has sent may have been begun: its host has not closed, or this one was buried."""
        return route.attempt < self._first_attempt or not self._dead.get(route.host, False)

    def use(self, links: Links) -> None:
        """Send and answer through these links from now on."""
        self._links = links

    def flush(self) -> None:
        """Send what the core has put together in one pass."""
        if self._has_rows and self._links is not None:
            self._has_rows = not self._links.flush()

    def next_attempt(self) -> int:
        """A number above those of all attempts before."""
        return next(self._attempts)

    # -- messages to other hosts --------------------------------------------------------------------------------------

    def next_number(self) -> int:
        """A number for a message to another host."""
        return next(self._numbers)

    def ask(self, route: Route, number: int, envelope: Envelope, mark: list[Any] | None) -> None:
        """Send a message; `route` gets its outcome. Raises what packing it raises, and MailboxFull."""
        assert self._links is not None
        cause = envelope.cause
        ask = _Ask(
            number,
            route.path,
            route.attempt,
            envelope.wanted,
            envelope.command_id,
            cause.causation_id,
            cause.correlation_id,
            envelope.durability,
            self._serializer.pack_message(envelope.message.message if mark is not None else envelope.message),
            mark,
            None if self._tracing is None else self._tracing.inject(envelope),
        )
        self._links.add(route.host, [_ASK, *ask])
        self._has_rows = True
        self.sent += 1
        self._routes[number] = route

    def forget(self, number: int) -> None:
        """Expect no outcome for this number any more."""
        self._routes.pop(number, None)

    def cancel(self, route: Route, number: int) -> None:
        """Expect no outcome, and have the message dropped if it is not begun."""
        self.forget(number)
        self._answer(route.host, [_CANCEL, number, route.path])

    def host_died(self, host: str, *, has_closed: bool) -> None:
        """Tell the routes to a host that it is dead, in steps, and drop its refused attempts."""
        self._dead[host] = has_closed
        self._refused.pop(host, None)
        if self._links is not None:
            self._links.forget(host)
        self._dispatcher.run_in_steps(self._end_lost_routes())

    def begin_again(self) -> None:
        """Go on under another host id: what was sent under the old one may or may not have been handled."""
        self._first_attempt = self.next_attempt()
        self._refused.clear()
        self._dispatcher.run_in_steps(self._end_lost_routes())

    def _end_lost_routes(self) -> Iterator[None]:
        for number in list(self._routes):
            route = self._routes.get(number)
            if route is not None and self.is_lost(route):
                route.lost(is_begun=self.may_have_begun(route))
            yield

    def tell_to_leave(self) -> None:
        """Tell other hosts that this one takes no more trees: now, or when they send something for one."""
        peers = self._links.peers() if self._links is not None else ()
        self._told_to_leave = set(peers)
        for peer in peers:
            self._answer(peer, [_LEFT])

    def hold(self) -> None:
        """Handle no message that arrives from now on. Callable from any thread."""
        if self._held is None:
            self._held = []

    def refuse_held(self) -> None:
        """Have what was held sent elsewhere, once this host has given up its trees. Called when the core has ended."""
        for envelope in self._held or ():
            self._answer(envelope.peer, [_NOT_MINE, envelope.number, envelope.attempt])
        for peer in self._links.peers() if self._links is not None else ():
            self._answer(peer, [_LEFT])
        self.flush()

    # -- messages of other hosts --------------------------------------------------------------------------------------

    def receive(self, host: str, rows: list[Received]) -> None:
        """Take what other hosts sent to this one under the id `host`; called in the links' thread, in their order."""
        works: list[Callable[[], None]] = []
        for peer, row in rows:
            try:
                kind, *fields = row
                if kind == _ASK:
                    works.append(self._read_ask(host, peer, *fields))
                else:
                    works.append(self._readers[kind](peer, *fields))
            except Exception as error:  # a host of a later version, or a defect: nothing of it may end the thread
                self._log.warning("row_refused", peer=peer, error=type(error).__name__)
        self._dispatcher.post_and_run(works)

    def _read_ask(self, host: str, peer: str, *fields: Any) -> Callable[[], None]:
        ask = _Ask(*fields)
        try:
            message = self._serializer.unpack_message(ask.message)
        except DuramenError as error:
            failure = error
            return lambda: self._answer(peer, [_ERROR, ask.number, self._serializer.pack_error(failure, ask.agent)])
        if ask.mark is not None:
            asker, number, known_seq, is_repeated = ask.mark
            message = (Repeated if is_repeated else Forwarded)(message, asker, number, known_seq)
        envelope = RemoteEnvelope(host, peer, ask, message)
        return partial(self._take, envelope)

    def _read_cancel(self, peer: str, number: int, agent: str) -> Callable[[], None]:
        def is_it(envelope: Envelope) -> bool:
            return isinstance(envelope, RemoteEnvelope) and (envelope.peer, envelope.number) == (peer, number)

        return lambda: self._actors.withdraw(agent, is_it)

    def _take(self, envelope: RemoteEnvelope) -> None:
        refused = self._refused.get(envelope.peer)
        if refused is not None and envelope.attempt <= refused.get(envelope.agent, 0):
            return  # its sender sends it again, behind what it had sent before
        if self._links is None or envelope.host != self._links.host:
            return  # to an id that was declared dead: its sender has sent it elsewhere
        if self._held is not None:
            self._held.append(envelope)
            return
        self._doubt(envelope)
        self.handling += 1
        self.taken += 1
        envelope.add_done_callback(partial(self._handled, envelope))
        if self._tracing is not None and envelope.traced:
            self._tracing.extract(envelope, envelope.traced)
        try:
            self._actors.send(envelope.agent, envelope)
        except DuramenError as error:
            envelope.refuse(error)

    def _handled(self, envelope: RemoteEnvelope) -> None:
        """Send the outcome of a message to its host; in the thread that has handed it over."""
        self._dispatcher.post(partial(self._send_outcome, envelope))

    def _send_outcome(self, envelope: RemoteEnvelope) -> None:
        self.handling -= 1
        error = envelope.error
        if isinstance(error, NotMine):
            self._answer(envelope.peer, [_NOT_MINE, envelope.number, envelope.attempt])
        elif error is not None:
            self._answer(envelope.peer, [_ERROR, envelope.number, self._serializer.pack_error(error, envelope.agent)])
        else:
            self._answer(envelope.peer, self._reply(envelope))

    def _reply(self, envelope: RemoteEnvelope) -> list[Any]:
        try:
            seq = _seq_of(envelope)
            packed = self._serializer.pack_reply(envelope.result, envelope.agent, seq)
        except DuramenError as error:
            return [_ERROR, envelope.number, self._serializer.pack_error(error, envelope.agent)]
        return [_REPLY, envelope.number, envelope.agent, seq, packed]

    def refuse_attempt(self, envelope: RemoteEnvelope) -> None:
        """Have a message sent elsewhere, with all else of its attempt: from now on nothing of it is handled here.

        Also if the agent comes to live here meanwhile: what follows would overtake what was refused.
        """
        refused = self._refused.setdefault(envelope.peer, {})
        attempt = max(envelope.attempt, refused.pop(envelope.agent, 0))
        refused[envelope.agent] = attempt  # the latest is last
        if len(refused) > _MOST_REFUSED:
            del refused[next(iter(refused))]
        if self._told_to_leave is not None and envelope.peer not in self._told_to_leave:
            self._told_to_leave.add(envelope.peer)
            self._answer(envelope.peer, [_LEFT])
        envelope.refuse(NotMine(f"another host has {envelope.agent}"))

    def drop_outdated(self, waiting: list[Envelope], host: str) -> None:
        """Drop the messages that were sent to another id of this process than `host`, which was declared dead.

        Their senders have sent them elsewhere: to handle them here, too, would do them twice.
        """
        outdated = [one for one in waiting if isinstance(one, RemoteEnvelope) and one.host != host]
        for envelope in outdated:
            waiting.remove(envelope)
            envelope.refuse(NotMine(f"this host of {envelope.agent} was declared dead"))

    def doubt_buried(self, waiting: list[Envelope]) -> None:
        """Have the forwarded mutations of hosts that were declared dead looked for in the log before they are done.

        Such a host may live, under another id by now, and have done them itself, or had another host do them.
        """
        for envelope in waiting:
            if isinstance(envelope, RemoteEnvelope):
                self._doubt(envelope)

    def _doubt(self, envelope: RemoteEnvelope) -> None:
        message = envelope.message
        if type(message) is Forwarded and self.was_buried(envelope.peer):
            envelope.message = Repeated(message.message, message.asker, message.number, message.known_seq)

    def _answer(self, peer: str, row: list[Any]) -> None:
        if peer in self._dead or self._links is None:
            return
        try:
            self._links.add(peer, row, bounded=False)
            self._has_rows = True
        except DuramenError as error:  # the peer does not read; it will be found dead, or close
            self._log.warning("reply_not_sent", peer=peer, error=type(error).__name__)

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def _read_reply(self, peer: str, number: int, agent: str, seq: int, packed: bytes) -> Callable[[], None]:
        try:
            value = self._serializer.unpack_reply(packed, agent, seq)
        except DuramenError as error:
            failure = error
            return lambda: self._hand_over(peer, number, None, failure)
        return partial(self._hand_over, peer, number, value, None)

    def _read_error(self, peer: str, number: int, packed: bytes) -> Callable[[], None]:
        error = self._serializer.unpack_error(packed)
        return lambda: self._hand_over(peer, number, None, error)

    def _read_not_mine(self, peer: str, number: int, attempt: int) -> Callable[[], None]:
        def run() -> None:
            route = self._routes.get(number)
            if route is not None and route.host == peer:
                route.refused(attempt)

        return run

    def _read_left(self, peer: str) -> Callable[[], None]:
        return lambda: self.on_left(peer)

    def _hand_over(self, peer: str, number: int, value: Any, error: BaseException | None) -> None:
        route = self._routes.get(number)
        if route is not None and route.host == peer:
            del self._routes[number]
            route.replied(number, value, error)


def _seq_of(envelope: RemoteEnvelope) -> int:
    """The agent's seq after a message, as far as it is known here."""
    state = getattr(getattr(envelope.mailbox, "runner", None), "state", None)
    return 0 if state is None else int(state.seq)
