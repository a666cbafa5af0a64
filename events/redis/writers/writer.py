"""Batches of appends, several under way on one connection, sent again until their outcome is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Event
from time import monotonic
from typing import Any, Protocol

import redis
from redis.exceptions import NoScriptError

from ...errors import DuramenError
from ...log import Append
from ...logging import get_logger
from ..append_format import AppendFormat, answers_of
from ..client import CONNECTION_ERRORS, Retry, Waker, Wire, classify_error, retry_pause, translate_error
from .flight import LEAST_TRIES, SENT_AHEAD, Flight, Outcome, failure_of, read_reply


class Reconnect(Protocol):
    """Opens connections. Raises one of `CONNECTION_ERRORS` when the server does not answer."""

    def __call__(self) -> Wire: ...


class RedisWriter:
    """The writing side of `RedisLog`.

    The same bytes may reach the server any number of times: the digest of an append's last event is its identity,
    and the script answers `duplicate` to all but the first. So a batch whose reply was lost or late is sent again
    until it is answered, or until `retry_seconds` have passed: then its outcome is unknown.

    Its connection never waits for a disk or a replica: what is behind a WAIT would wait with it. `RedisConfirmer` asks
    for these.
    """

    def __init__(
        self,
        connect: Reconnect,
        form: AppendFormat,
        *,
        reply_timeout: float,
        retry_seconds: float,
        on_lost_notices: Callable[[int], None],
    ) -> None:
        self._connect = connect
        self._form = form
        self._reply_timeout = reply_timeout
        self._retry_seconds = retry_seconds
        self._on_lost_notices = on_lost_notices
        self._flights: deque[Flight] = deque()
        self._wire: Wire | None = None
        self._waker = Waker()
        self._closing = Event()
        self._log = get_logger("log")

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    @property
    def connected(self) -> bool:
        return self._wire is not None or not self._flights

    def give_up(self) -> None:
        self._closing.set()
        self._waker.set()

    def wake(self) -> None:
        self._waker.set()

    def close(self) -> None:
        self._closing.set()
        self._waker.set()
        self._drop_wire()
        self._waker.close()

    def send(self, batches: Sequence[tuple[int, Sequence[Append]]]) -> None:
        give_up_at = monotonic() + self._retry_seconds
        flights = [Flight(batch, self._form.call(partition, batch), give_up_at) for partition, batch in batches]
        self._flights.extend(flights)
        self._transmit(flights)  # does nothing without a connection: `receive` opens one, and sends what is under way

    def receive(self, timeout: float | None) -> list[Outcome]:
        if not self._flights:
            return []
        if self._closing.is_set():
            self._lost(TimeoutError())
        if self._wire is None:
            given_up = self._given_up(LEAST_TRIES)
            if given_up:
                return given_up
            if not self._reconnect():
                return self._given_up(0)
        wire = self._wire
        assert wire is not None
        done: list[Outcome] = []
        try:
            if not wire.has_buffered():
                patience = self._reply_timeout if timeout is None else min(timeout, self._reply_timeout)
                if not wire.wait(patience, self._waker):
                    self._waker.clear()
                    self._check_patience()
                    return done
                self._waker.clear()
            while True:
                done += self._read_one(wire)
                if not self._flights or not wire.has_buffered():
                    return done
        except CONNECTION_ERRORS as error:
            self._lost(error)
            return done

    # -- one reply ---------------------------------------------------------------------------------------------

    def _read_one(self, wire: Wire) -> list[Outcome]:
        """Read the replies to the oldest flight; empty if it was sent again. Raises CONNECTION_ERRORS."""
        flight = self._flights[0]
        self._answered_at = monotonic()
        loaded: Any = None
        for _ in range(flight.extra):
            loaded = read_reply(wire)
        flight.extra = 0
        reply = read_reply(wire)
        if isinstance(reply, NoScriptError) and isinstance(loaded, Exception):
            reply = loaded  # why it could not be loaded
        self._flights.popleft()
        self._losses, self._trouble = 0, None
        if isinstance(reply, Exception):
            return self._refused(flight, reply)
        answers, lost = answers_of(reply, len(flight.batch))
        if lost:
            self._on_lost_notices(lost)
        return [(flight.batch, answers)]

    def _refused(self, flight: Flight, error: Exception) -> list[Outcome]:
        if classify_error(error) is Retry.FATAL or monotonic() >= flight.give_up_at:
            return [(flight.batch, translate_error(error, "append", wrote=flight.in_doubt))]
        if not isinstance(error, NoScriptError):
            self._closing.wait(retry_pause(1))
        flight.extra = 1
        self._flights.append(flight)
        self._transmit([flight])
        return []

    # -- the connection ------------------------------------------------------------------------------------------

    def _transmit(self, flights: Sequence[Flight]) -> None:
        if self._wire is None:
            return
        parts: list[bytes] = []
        for flight in flights:
            flight.sent += 1
            if flight.extra:
                parts.append(self._form.script.load)
            parts.append(flight.call)
        self._sent_at = monotonic()
        try:
            self._wire.send(b"".join(parts))
        except CONNECTION_ERRORS as error:
            self._lost(error)

    def _reconnect(self) -> bool:
        """Connect and send everything under way again; whether that worked. Pauses from the second loss on."""
        if self._losses > 1:
            self._closing.wait(retry_pause(self._losses - 1))
        try:
            self._wire = self._connect()
            self._wire.make_room(SENT_AHEAD)
        except (redis.RedisError, OSError, DuramenError) as error:
            self._log.warning("server_unreachable", error=type(error).__name__, in_flight=len(self._flights))
            self._losses += 1
            self._trouble = error
            return False
        for flight in self._flights:
            flight.extra = 0
        self._transmit(list(self._flights))
        return self._is_open()

    def _is_open(self) -> bool:
        return self._wire is not None

    def _check_patience(self) -> None:
        """Drop the connection when the oldest flight has waited too long: a server can hang without closing it."""
        now = monotonic()
        if now - max(self._sent_at, self._answered_at) >= self._reply_timeout:
            self._lost(TimeoutError())

    def _lost(self, error: Exception) -> None:
        """Drop the connection. Flights that it had may be in the log, except the one that the server has refused."""
        if self._wire is None:
            return
        self._log.info("connection_lost", error=type(error).__name__, in_flight=len(self._flights))
        self._losses += 1
        self._trouble = error
        refused = classify_error(error) is not Retry.AMBIGUOUS
        for number, flight in enumerate(self._flights):
            flight.unsure = flight.unsure or (flight.sent > 0 and not (refused and number == 0))
        self._drop_wire()

    def _drop_wire(self) -> None:
        if self._wire is not None:
            self._wire.discard()
            self._wire = None

    def _given_up(self, tries: int) -> list[Outcome]:
        """Flights that were under way too long and sent so often, or all where another try cannot help."""
        trouble: Exception = self._trouble or TimeoutError()
        hopeless = self._closing.is_set() or (
            not isinstance(trouble, DuramenError) and classify_error(trouble) is Retry.FATAL
        )
        now = monotonic()
        over = [flight for flight in self._flights if hopeless or (flight.sent >= tries and flight.give_up_at <= now)]
        if not over:
            return []
        self._flights = deque(flight for flight in self._flights if flight not in over)
        if not self._flights:
            self._trouble = None  # the next batch may succeed
        return [(flight.batch, failure_of(trouble, unsure=flight.in_doubt)) for flight in over]

    _losses: int = 0
    """Connections lost since the last reply."""
    _trouble: Exception | None = None
    _sent_at: float = 0.0
    _answered_at: float = 0.0
