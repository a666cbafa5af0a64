"""Consumers whose view is not kept here: in a database of the user's own, or none, where a reactor acts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any, ClassVar, Final

from duramen.events import CorruptEvent, Cursor, DuramenError, Event, Fenced, InvalidMessage, Unavailable
from duramen.events.log import ConsumerRecord, ConsumerRequest, ConsumerStore, Saved
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import copy_event

from ..projection import Reactor, Sink, has_erase
from .view_storage import Refused

_TRIES: Final = 3  # while the database can be reached: of one event, as a deadlock is not its fault, and of an erasure
_PAUSE: Final = 0.05


class SinkStorage:
    """Hands events to a sink, a page in one transaction."""

    kind: ClassVar[str] = "sink"
    page: ClassVar[int] = 500  # a transaction

    def __init__(self, sink: Sink, name: str, start: Cursor) -> None:
        self._sink = sink
        self._name = name
        self._start = start
        self._after: bytes | None = None

    @property
    def version(self) -> int:
        return self._sink.version

    @property
    def view(self) -> Any:
        return self._sink

    @property
    def full(self) -> bool:
        return False

    def load(self, store: ConsumerStore, record: ConsumerRecord) -> Cursor:
        self._after = self._stored()
        if self._after is None:
            return self._start
        try:
            return Cursor.from_bytes(self._after)
        except InvalidMessage as error:
            raise CorruptEvent(f"what the sink of {self._name} gives as its cursor is none; reset it") from error

    def apply(self, events: Sequence[Event], place: Callable[[int], Cursor]) -> None:
        if not events:
            return
        if self._write(events, place(-1)) is None:
            return
        # One of them cannot be written. Writing one by one finds it, after those before it.
        for index, event in enumerate(events):
            error = self._write([event], place(index))
            for _ in range(_TRIES - 1):
                if error is None:
                    break
                sleep(_PAUSE)
                error = self._write([event], place(index))
            if error is not None:
                raise Refused(index, error) from error

    @property
    def can_erase(self) -> bool:
        return has_erase(self._sink)

    def erase(self, agents: Sequence[str]) -> None:
        """Raises Unavailable where the sink's own `erase` keeps failing: what is erased must not stay for that."""
        for left in reversed(range(_TRIES)):
            try:
                self._sink.erase(self._name, agents, after=self._after)
            except Fenced:
                raise
            except Exception as error:  # the user's own code, and whatever its driver raises
                self._stored()  # raises Unavailable if the database cannot be reached
                if not left:
                    get_logger("projection").warning(
                        "erase_failed", consumer=self._name, error=type(error).__name__, at=raised_at(error)
                    )
                    raise Unavailable(f"erase() of the sink of {self._name} raised {type(error).__name__}") from error
                sleep(_PAUSE)
            else:
                return

    def save(self, store: ConsumerStore, record: ConsumerRecord, done: ConsumerRequest | None) -> Saved:
        # The sink commits first, so the cursor stored here is never ahead of the sink's.
        if record.cursor.to_bytes() != self._after:
            error = self._write([], record.cursor)
            if error is not None:
                raise _unreachable(self._name, error) from error
        return store.save(record, done=done)

    def _write(self, events: Sequence[Event], cursor: Cursor) -> Exception | None:
        """The exception of the sink, if nothing was written. Raises Unavailable, Fenced."""
        packed = cursor.to_bytes()
        try:  # with copies: these events may be written once more
            self._sink.write(self._name, list(map(copy_event, events)), after=self._after, cursor=packed)
        except Fenced:
            raise
        except Exception as error:
            # The answer to a commit may have been lost.
            found = self._stored()
            if found != packed:
                if found != self._after:
                    raise self._sink.fenced(self._name) from error
                return error
        self._after = packed
        return None

    def _stored(self) -> bytes | None:
        try:
            return self._sink.cursor(self._name)
        except DuramenError:
            raise
        except Exception as error:  # the user's own code, and whatever its driver raises
            raise _unreachable(self._name, error) from error


def _unreachable(name: str, error: Exception) -> Unavailable:
    return Unavailable(f"the database of consumer {name} cannot be used now ({type(error).__name__})")


class ReactionStorage:
    """Hands events to a reactor one by one, and tries one again that has failed."""

    kind: ClassVar[str] = "reactor"
    page: ClassVar[int] = 20

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._done: Cursor | None = None
        """The cursor after the latest event that was reacted to; what is stored may be behind."""
        self._is_unsaved = False
        self._failed: tuple[tuple[str, int], int] | None = None
        """Agent and seq of the event that has failed last, and how often."""
        self._again_at = 0.0
        self._has_begun = False
        self._failed_begins = 0

    @property
    def version(self) -> int:
        return self._reactor.version

    @property
    def view(self) -> Any:
        return self._reactor

    @property
    def full(self) -> bool:
        return self._is_unsaved

    def load(self, store: ConsumerStore, record: ConsumerRecord) -> Cursor:
        if not self._has_begun:
            self._begin()
        return self._done or record.cursor

    def _begin(self) -> None:
        """Have the reactor begin. Raises Unavailable where that is to be tried again, else what it has raised."""
        if monotonic() < self._again_at:
            raise Unavailable("the reactor tries to begin again later")
        try:
            self._reactor.begin()
        except Exception as error:
            self._failed_begins += 1
            pause = self._reactor.pause_after(self._failed_begins, error)
            if pause is None:
                raise
            self._again_at = monotonic() + pause
            raise Unavailable("the reactor failed to begin and tries again") from error
        self._has_begun = True

    def apply(self, events: Sequence[Event], place: Callable[[int], Cursor]) -> None:
        for index, event in enumerate(events):
            if monotonic() < self._again_at:
                raise Unavailable(f"the reactor tries event {event.seq} of {event.agent} again later")
            try:
                self._reactor.react(copy_event(event))
            except Exception as error:
                self._fail(index, event, error)
            self._done, self._failed, self._is_unsaved = place(index), None, True

    @property
    def can_erase(self) -> bool:
        return False

    def erase(self, agents: Sequence[str]) -> None:
        """Nothing: what it has done is done."""

    def _fail(self, index: int, event: Event, error: Exception) -> None:
        """Have the event tried again, or park the consumer. Raises Unavailable, Refused."""
        place = event.agent, event.seq
        times = 1 + (self._failed[1] if self._failed is not None and self._failed[0] == place else 0)
        pause = self._reactor.pause_after(times, error)
        if pause is None:
            self._failed = None
            raise Refused(index, error) from error
        self._failed, self._again_at = (place, times), monotonic() + pause
        raise Unavailable(f"the reactor failed at event {event.seq} of {event.agent} and tries again") from error

    def save(self, store: ConsumerStore, record: ConsumerRecord, done: ConsumerRequest | None) -> Saved:
        saved = store.save(record, done=done)
        if saved.current:
            self._is_unsaved = False
        return saved
