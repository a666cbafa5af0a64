"""Batches of appends to a cluster: on a connection to each node, and sent again where a slot moves."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import redis
from attrs import Factory, define
from redis.exceptions import AskError, MovedError, NoScriptError

from ...errors import DuramenError
from ...log import Append, Keys
from ...logging import get_logger
from ..append_format import AppendFormat, answers_of
from ..client import (
    ASKING,
    CONNECTION_ERRORS,
    Address,
    ClusterNodes,
    Retry,
    Waker,
    Wire,
    classify_error,
    retry_pause,
    slot_of,
    translate_error,
    wait_for_any,
)
from .flight import LEAST_TRIES, SENT_AHEAD, Flight, Outcome, failure_of, read_reply

_FEW_MOVES: Final = 2
"""Times that a batch is sent on at once to where its slot is said to be; after that there are pauses."""

_SILENCE: Final = 1.0
"""Seconds without a reply after which others are asked whether the node still has its slots."""


@define(eq=False, kw_only=True)
class _SlotFlight(Flight):
    slot: int
    asked: Address | None = None
    """The node to which its slot is being moved, if that one has to be asked."""
    is_loading: bool = False
    """Whether the script has to be sent before it."""
    refusals: int = 0
    """Answers in a row that it has to be sent again."""
    due: float = 0.0
    """When it is sent again, while it is parked."""
    is_unreachable: bool = False
    """Whether there was no node to send it to when that was last tried."""


@define(eq=False)
class _Lane:
    """The connection to a node, with the batches under way on it, the oldest first."""

    address: Address
    wire: Wire | None = None
    """None while it is being opened."""
    flights: deque[_SlotFlight] = Factory(deque[_SlotFlight])
    active_at: float = 0.0
    """When something was last sent or answered."""


class ClusterWriter:
    """As `RedisWriter`, for a cluster: each batch goes to the node of its partition's slot.

    What a node does not have any more goes on, with the same bytes, to the node that is said to have it, and what was
    under way on a connection that is lost goes to wherever its slot is then. Connections are opened, and nodes looked
    for, in threads of their own: a node that does not answer keeps no batch of another one waiting.
    """

    def __init__(
        self,
        nodes: ClusterNodes,
        keys: Keys,
        form: AppendFormat,
        *,
        reply_timeout: float,
        retry_seconds: float,
        on_lost_notices: Callable[[int], None],
    ) -> None:
        self._nodes = nodes
        self._keys = keys
        self._form = form
        self._reply_timeout = reply_timeout
        self._retry_seconds = retry_seconds
        self._on_lost_notices = on_lost_notices
        self._slots: dict[int, int] = {}
        self._lanes: dict[Address, _Lane] = {}
        self._parked: list[_SlotFlight] = []
        """Batches that wait for a time, or for a node that has their slot."""
        self._in_flight = 0
        self._opener = _Opener(nodes)
        self._closing = threading.Event()
        self._losses: dict[Address, int] = {}
        """Connections lost or not opened since a node's last reply."""
        self._looked_at = 0.0
        self._trouble: Exception | None = None
        self._log = get_logger("log")

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def connected(self) -> bool:
        return not self._parked and all(lane.wire is not None for lane in self._lanes.values() if lane.flights)

    def give_up(self) -> None:
        self._closing.set()
        self._opener.waker.set()

    def wake(self) -> None:
        self._opener.waker.set()

    def close(self) -> None:
        self._closing.set()
        for lane in self._lanes.values():
            if lane.wire is not None:
                lane.wire.discard()
        self._lanes.clear()
        self._opener.close()

    def send(self, batches: Sequence[tuple[int, Sequence[Append]]]) -> None:
        give_up_at = monotonic() + self._retry_seconds
        flights: list[_SlotFlight] = []
        for partition, batch in batches:
            slot = self._slots.get(partition)
            if slot is None:
                slot = self._slots[partition] = slot_of(self._keys.heads(partition).encode())
            flights.append(_SlotFlight(batch, self._form.call(partition, batch), give_up_at, slot=slot))
        self._in_flight += len(flights)
        self._dispatch(flights)

    def receive(self, timeout: float | None) -> list[Outcome]:
        if not self._in_flight:
            return []
        if self._closing.is_set():
            return self._give_up_all()
        done = self._take_opened() + self._send_parked()
        if done:
            return done
        wires = self._open_wires()
        waker = self._opener.waker
        limit = self._seconds_to_wait(wires.values(), timeout)
        if not wires:
            waker.wait(limit)
            waker.clear()
            return []
        ready = wait_for_any(wires, limit, waker)
        waker.clear()
        for wire in ready:
            done += self._read_lane(wires[wire])
        for wire, lane in wires.items():
            if wire not in ready:
                self._check_patience(lane)
        return done

    # -- where batches go ----------------------------------------------------------------------------------------------

    def _dispatch(self, flights: Iterable[_SlotFlight]) -> None:
        """Send each batch to the node that has its slot, or park it until one is known."""
        ready: dict[Address, list[_SlotFlight]] = {}
        for flight in flights:
            address = flight.asked or self._nodes.known_owner(flight.slot)
            if address is None:
                flight.is_unreachable = True
                self._park(flight, retry_pause(1))
                self._opener.refresh()
                continue
            lane = self._lanes.get(address)
            if lane is None:
                lane = self._lanes[address] = _Lane(address)
                self._opener.open(address)
            lane.flights.append(flight)
            ready.setdefault(address, []).append(flight)
        for address, members in ready.items():
            self._transmit(self._lanes[address], members)

    def _park(self, flight: _SlotFlight, pause: float) -> None:
        flight.asked, flight.due = None, monotonic() + pause
        self._parked.append(flight)

    def _send_parked(self) -> list[Outcome]:
        """Send parked batches whose time has come, and give up those that are too old."""
        if not self._parked:
            return []
        now = monotonic()
        due = [flight for flight in self._parked if flight.due <= now]
        self._parked = [flight for flight in self._parked if flight.due > now]
        over = [
            flight
            for flight in due
            if flight.give_up_at <= now and (flight.is_unreachable or flight.sent >= LEAST_TRIES)
        ]
        self._dispatch([flight for flight in due if flight not in over])
        return [self._given_up(flight) for flight in over]

    def _transmit(self, lane: _Lane, flights: Sequence[_SlotFlight]) -> None:
        if lane.wire is None:
            return  # they are sent when it is open
        parts: list[bytes] = []
        for flight in flights:
            flight.sent += 1
            flight.is_unreachable = False
            flight.extra = flight.is_loading + (flight.asked is not None)
            if flight.is_loading:
                parts.append(self._form.script.load)
            if flight.asked is not None:
                parts.append(ASKING)  # for the next command alone: behind the loading
            parts.append(flight.call)
        lane.active_at = monotonic()
        try:
            lane.wire.send(b"".join(parts))
        except CONNECTION_ERRORS as error:
            self._lost(lane, error)

    # -- replies -------------------------------------------------------------------------------------------------------

    def _read_lane(self, lane: _Lane) -> list[Outcome]:
        done: list[Outcome] = []
        wire = lane.wire
        try:
            while wire is not None and lane.wire is wire and lane.flights:
                done += self._read_one(lane, wire)
                if not wire.has_buffered():
                    break
        except CONNECTION_ERRORS as error:
            self._lost(lane, error)
        return done

    def _read_one(self, lane: _Lane, wire: Wire) -> list[Outcome]:
        """Read the replies to the oldest batch; empty if it is sent again. Raises CONNECTION_ERRORS."""
        flight = lane.flights[0]
        lane.active_at = monotonic()
        loaded: Any = None
        for _ in range(flight.extra):
            answer = read_reply(wire)
            loaded = answer if isinstance(answer, Exception) else loaded
        reply = read_reply(wire)
        lane.flights.popleft()
        self._losses.pop(lane.address, None)
        if isinstance(reply, NoScriptError) and loaded is not None:
            reply = loaded  # why it could not be loaded
        if isinstance(reply, Exception):
            return self._refused(lane, flight, reply)
        self._in_flight -= 1
        answers, lost = answers_of(reply, len(flight.batch))
        if lost:
            self._on_lost_notices(lost)
        return [(flight.batch, answers)]

    def _refused(self, lane: _Lane, flight: _SlotFlight, error: Exception) -> list[Outcome]:
        is_over = monotonic() >= flight.give_up_at and not (
            isinstance(error, (AskError, NoScriptError)) and flight.refusals < _FEW_MOVES
        )
        if is_over or classify_error(error) is Retry.FATAL:
            self._in_flight -= 1
            return [(flight.batch, translate_error(error, "append", wrote=flight.in_doubt))]
        flight.refusals += 1
        if isinstance(error, NoScriptError):
            flight.is_loading = True
        elif isinstance(error, MovedError):
            self._nodes.note_moved(error, lane.address)
            self._opener.refresh()  # other slots may have moved with it
            flight.asked = None
        elif isinstance(error, AskError):
            flight.asked = self._nodes.note_moved(error, lane.address)
        else:
            flight.refusals += _FEW_MOVES  # it stays where it is, so it waits
            self._opener.refresh()
        if flight.refusals > _FEW_MOVES:
            self._park(flight, retry_pause(flight.refusals - _FEW_MOVES))
        else:
            self._dispatch([flight])
        return []

    # -- connections -------------------------------------------------------------------------------------------------

    def _open_wires(self) -> dict[Wire, _Lane]:
        """Return the connections on which something is under way."""
        wires: dict[Wire, _Lane] = {}
        for lane in list(self._lanes.values()):
            if lane.wire is not None and lane.wire.is_closed:
                self._lost(lane, redis.ConnectionError("closed"))
            elif lane.wire is not None and lane.flights:
                wires[lane.wire] = lane
        return wires

    def _take_opened(self) -> list[Outcome]:
        done: list[Outcome] = []
        for address, opened in self._opener.take():
            lane = self._lanes.get(address)
            if lane is None or lane.wire is not None:
                if isinstance(opened, Wire):
                    opened.discard()
            elif isinstance(opened, Wire):
                lane.wire = opened
                self._transmit(lane, list(lane.flights))
            else:
                self._log.warning("server_unreachable", error=type(opened).__name__, in_flight=self._in_flight)
                self._trouble = opened
                if isinstance(opened, DuramenError) or classify_error(opened) is Retry.FATAL:
                    done += [self._given_up(flight) for flight in lane.flights]
                    lane.flights.clear()
                for flight in lane.flights:
                    flight.is_unreachable = True
                self._lost(lane, opened)
        return done

    def _lost(self, lane: _Lane, error: Exception) -> None:
        """Drop a connection. Batches that it had may be in the log, except the one that the server has refused."""
        if self._lanes.get(lane.address) is not lane:
            return
        del self._lanes[lane.address]
        self._trouble = error
        losses = self._losses[lane.address] = self._losses.get(lane.address, 0) + 1
        flights, lane.flights = lane.flights, deque()
        wire, lane.wire = lane.wire, None
        refused = not isinstance(error, DuramenError) and classify_error(error) is not Retry.AMBIGUOUS
        for number, flight in enumerate(flights):
            flight.unsure = flight.unsure or (wire is not None and not (refused and number == 0))
            self._park(flight, retry_pause(losses - 1) if losses > 1 else 0.0)
        if wire is not None:
            self._log.info("connection_lost", error=type(error).__name__, in_flight=len(flights))
            wire.discard()
        self._opener.refresh()

    def _seconds_to_wait(self, lanes: Iterable[_Lane], timeout: float | None) -> float:
        """Return how long to wait for a reply: until a parked batch is due, or the oldest reply is too late."""
        now = monotonic()
        ends = [flight.due for flight in self._parked]
        for lane in lanes:
            ends += (lane.active_at + self._reply_timeout, max(lane.active_at, self._looked_at) + _SILENCE)
        left = min(ends, default=now + self._reply_timeout) - now
        return max(0.0, left if timeout is None else min(timeout, left))

    def _check_patience(self, lane: _Lane) -> None:
        """Drop the connection to a node that hangs: when its slots are elsewhere, or after the time for a reply."""
        now = monotonic()
        waited = now - lane.active_at
        if waited >= _SILENCE and now >= self._looked_at + _SILENCE:
            self._looked_at = now
            self._opener.refresh()
        has_moved = any(self._nodes.known_owner(flight.slot) != lane.address for flight in lane.flights)
        if waited >= self._reply_timeout or (waited >= _SILENCE and has_moved):
            self._lost(lane, TimeoutError())

    def _given_up(self, flight: _SlotFlight) -> Outcome:
        self._in_flight -= 1
        return flight.batch, failure_of(self._trouble or TimeoutError(), unsure=flight.in_doubt)

    def _give_up_all(self) -> list[Outcome]:
        flights = list(self._parked)
        for lane in list(self._lanes.values()):
            for flight in lane.flights:
                flight.unsure = flight.unsure or lane.wire is not None
            flights += lane.flights
            if lane.wire is not None:
                lane.wire.discard()
        self._lanes.clear()
        self._parked = []
        return [self._given_up(flight) for flight in flights]


class _Opener:
    """Opens connections and asks for the nodes in threads of its own, which end with that. Thread-safe."""

    def __init__(self, nodes: ClusterNodes) -> None:
        self.waker = Waker()
        self._nodes = nodes
        self._lock = threading.Lock()
        self._opened: list[tuple[Address, Wire | Exception]] = []
        self._is_refreshing = False
        self._is_closed = False

    def open(self, address: Address) -> None:
        """Begin to connect to a node; `take` has the connection, or the error, when the waker is set."""
        threading.Thread(target=self._open, args=(address,), name="duramen-connect", daemon=True).start()

    def refresh(self) -> None:
        """Begin to ask which nodes have which slots."""
        with self._lock:
            if self._is_refreshing or self._is_closed:
                return
            self._is_refreshing = True
        threading.Thread(target=self._refresh, name="duramen-nodes", daemon=True).start()

    def take(self) -> list[tuple[Address, Wire | Exception]]:
        with self._lock:
            opened, self._opened = self._opened, []
            return opened

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            opened, self._opened = self._opened, []
        for _, wire in opened:
            if isinstance(wire, Wire):
                wire.discard()
        self.waker.close()

    def _open(self, address: Address) -> None:
        found: Wire | Exception
        try:
            found = self._nodes.connect(address)
            found.make_room(SENT_AHEAD)
        except (redis.RedisError, OSError, DuramenError) as error:
            found = error
        with self._lock:
            if not self._is_closed:
                self._opened.append((address, found))
                self.waker.set()
                return
        if isinstance(found, Wire):
            found.discard()

    def _refresh(self) -> None:
        with suppress(redis.RedisError, OSError, DuramenError):
            self._nodes.refresh()
        with self._lock:
            self._is_refreshing = False
            if not self._is_closed:
                self.waker.set()
