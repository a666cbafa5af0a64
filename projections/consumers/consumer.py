"""A durable consumer at work: its live view, the one that is being built, and the requests of operators.

catching_up ◀──▶ live ── its code raised, or the log has changed ──▶ parked ── retry, skip ──▶ catching_up
     ▲             │                                                   │
     └─ switched ──┴────────── rebuilding ◀── rebuild, another version ┘

From anywhere: fenced (another process has taken the name over), closed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from attrs import define, evolve, field

from duramen.events import DuramenError, Trimmed, Unavailable
from duramen.events.log import LIVE, NEXT, ConsumerRequest, fenced
from duramen.events.logging import get_logger

from .plan import CATCHING_UP, CLOSED, LIVE_STATUS, PARKED, REBUILDING, Plan
from .selection import Parked
from .view_builder import ViewBuilder

RETRY: Final = "retry"
SKIP: Final = "skip"
REBUILD: Final = "rebuild"
ERASE: Final = "erase"

_HEARTBEAT: Final = 1.0


@define(eq=False)
class _View:
    """A builder, and the status of its view."""

    builder: ViewBuilder
    status: str
    parked: Parked | None = None


@define(eq=False)
class _Request:
    what: str
    agent: str | None = None
    seq: int | None = None
    stored: ConsumerRequest | None = None
    done: threading.Event = field(factory=threading.Event)


class Consumer:
    """Used by one thread; only the properties may be read from others. `open` claims the name; `turn` does the work."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._store = plan.store
        self._live: _View | None = None
        self._next: _View | None = None
        self._ends: Sequence[int] = ()
        self._beat_at = 0.0
        self._last_request: str | None = None
        self._discarded: str | None = None
        """Token of a rebuilt view that was given up."""
        self._requests: list[_Request] = []
        self._again: ConsumerRequest | None = None
        """A request that the view that is being built cannot fulfil: done when another is begun after that one."""
        self._abandoned = False
        self._logger = get_logger("projection").bind(consumer=plan.name)

    # -- from any thread ---------------------------------------------------------------------------------------------

    @property
    def current(self) -> ViewBuilder:
        """The view that users read: the live one, or the first one while it is being built."""
        return self._current.builder

    @property
    def _current(self) -> _View:
        found = self._live or self._next
        assert found is not None, "not opened"
        return found

    @property
    def building(self) -> ViewBuilder:
        """The view that is being built, or the live one."""
        return (self._next or self._current).builder

    @property
    def status(self) -> str:
        if self._next is not None:
            return REBUILDING if self._next.parked is None else PARKED
        return self._current.status

    @property
    def parked(self) -> Parked | None:
        """Why the view that is being built does not go on; without one, the live view."""
        view = self._next or self._live
        return None if view is None else view.parked

    @property
    def barrier(self) -> tuple[str, int] | None:
        """Agent and seq of the event at which it is parked, if its own code refused it."""
        view = self._next if self._next is not None and self._next.parked is not None else self._current
        return view.builder.barrier

    @property
    def is_sound(self) -> bool:
        """Whether the view that users read is right as far as it has come: not parked, or at an event of its own."""
        parked = self._current.parked
        return parked is None or parked.failure.can_skip

    @property
    def is_live(self) -> bool:
        """Whether there is a live view, so that users see what is saved."""
        return self._live is not None

    def request(self, what: str, agent: str | None = None, seq: int | None = None) -> threading.Event:
        """Let the next turn retry, skip or rebuild; the event is set when it has. Callable from any thread."""
        request = _Request(what, agent, seq)
        self._requests.append(request)
        return request.done

    def abandon(self) -> None:
        """Store and read nothing any more. Callable from any thread."""
        self._abandoned = True
        for view in self._views():
            view.builder.reading.prefetching.kill()

    def close(self) -> None:
        """Stop reading. Called by its thread, at the end."""
        for view in self._views():
            view.builder.close()

    def after_fork(self) -> None:
        """Forget the process that reads ahead, in a forked child."""
        for view in self._views():
            view.builder.reading.prefetching.after_fork()

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Claim the name. Raises Unavailable, CorruptEvent, and what the sink's `reset` raises."""
        plan, store = self._plan, self._store
        stored = store.find(plan.name)
        live = store.claim(plan.new_record(LIVE), plan.owner)
        if live is None and plan.reset is not None:
            plan.check_rebuildable()
            plan.reset()
            store.remove(plan.name)
            live = store.claim(plan.new_record(LIVE), plan.owner)
        if live is not None:
            self._live = _View(ViewBuilder(plan, live), CATCHING_UP)
        interrupted = stored.next is not None and stored.next.form == plan.new_record(NEXT).form
        if live is None or interrupted:
            self._begin_next(replace=False)
        self._note_request(stored.request)

    def announce(self) -> None:
        """Store that it runs here, if what is stored says that it was closed. Raises Unavailable, Fenced.

        A claim does not change that, and the first save comes when the view is loaded.
        """
        for view in self._views():
            if view.builder.record.status == CLOSED:
                view.builder.save_status(view.status, None)

    def _begin_next(self, *, replace: bool) -> None:
        if self._next is not None:
            self._next.builder.close()
        record = self._store.claim(self._plan.new_record(NEXT), self._plan.owner, replace=replace)
        assert record is not None, "a view that is being built is replaced, whatever it is"
        self._next = _View(ViewBuilder(self._plan, record), REBUILDING)

    # -- working -----------------------------------------------------------------------------------------------------

    def turn(self, moved: Mapping[int, int], *, urgent: bool) -> bool:
        """One round: handle requests, read, store; whether there is more to read. Raises Unavailable, Fenced."""
        for view in self._views():
            view.builder.reading.begin_round()
        self._handle_requests()
        beat = monotonic() - self._beat_at >= _HEARTBEAT
        if beat:
            self._beat()
        busy = False
        for view in self._views():
            view.builder.reading.note(moved)
            busy = self._advance(view) or busy
        self._promote()
        self._rebuild_again()
        if beat and not busy:
            for view in self._views():
                self._confirm(view)
        for view in self._views():
            self._save_if_due(view, idle=not busy, urgent=urgent)
        return busy

    def confirm(self) -> None:
        """Compare what users' view has seen with the log, and park it if that is gone. Raises Unavailable, Fenced."""
        self._confirm(self._current)

    def pause(self) -> float:
        """Seconds until the next turn is due, with or without a notice."""
        waiting = any(view.builder.dirty for view in self._views() if view.parked is None)
        return 0.02 if waiting else max(0.0, self._beat_at + _HEARTBEAT - monotonic())

    def finish(self) -> None:
        """Store views and cursors for the last time. Raises Unavailable, Fenced."""
        for view in self._views():
            if view.parked is None:
                self._save(view, CLOSED if view is self._live else REBUILDING)

    def _views(self) -> list[_View]:
        return [view for view in (self._live, self._next) if view is not None]

    def _beat(self) -> None:
        """Ask the log where it ends and the store for requests, with or without a notice."""
        before, self._ends = self._ends, self._plan.log.positions()
        stored = self._store.find(self._plan.name)
        if self._next is None and stored.next is not None and stored.next.token == self._discarded:
            self._store.discard(stored.next)
        for view, found in ((self._live, stored.live), (self._next, stored.next)):
            if view is not None and (found is None or found.token != view.builder.record.token):
                raise fenced(self._plan.name, found)
        for view in self._views():
            view.builder.reading.note_ends(self._ends)
            if view.status == LIVE_STATUS and before and view.builder.reading.is_behind(before):
                view.status = CATCHING_UP
        self._note_request(stored.request)
        self._beat_at = monotonic()

    def _advance(self, view: _View) -> bool:
        if view.parked is not None:
            return False
        try:
            busy = view.builder.step()
        except Parked as parked:
            self._park(view, parked)
            return False
        if not busy and view is self._live:
            view.status = LIVE_STATUS
        return busy

    def _confirm(self, view: _View) -> None:
        if view.parked is not None and not view.parked.failure.can_skip:
            return
        try:
            view.builder.confirm()
        except Parked as parked:
            self._park(view, parked)

    def _give_up_rebuild(self, view: _View) -> None:
        """Go on with the live view, where the rebuilt one cannot be read or stored; the next beat removes that."""
        assert view.parked is not None
        failure = view.parked.failure
        self._logger.warning("rebuild_given_up", error=failure.error, agent=failure.agent, seq=failure.seq)
        view.builder.close()
        self._next, self._discarded, self._beat_at = None, view.builder.record.token, 0.0

    def _promote(self) -> None:
        """Make the view that was built the live one when it has come as far."""
        live, built = self._live, self._next
        if built is None or built.parked is not None or built.builder.reading.todo:
            return
        # A parked view may have read events that the log has lost.
        if live is not None and live.parked is None:
            positions = live.builder.positions
            if built.builder.reading.is_behind_view(positions):
                built.builder.reading.note(positions)
                return
        if not self._save(built, LIVE_STATUS):
            return
        built.builder.switch()
        built.status = LIVE_STATUS
        if live is not None:
            live.builder.close()
        self._live, self._next = built, None
        self._logger.info("view_switched", version=built.builder.record.version, events=built.builder.applied)

    # -- storing -----------------------------------------------------------------------------------------------------

    def _save_if_due(self, view: _View, *, idle: bool, urgent: bool) -> None:
        builder = view.builder
        if view.parked is not None:
            return
        if builder.is_due(view.status, idle=idle) or (urgent and idle and builder.dirty):
            self._save(view, view.status)

    def _save(self, view: _View, status: str, done: ConsumerRequest | None = None) -> bool:
        """Whether view and cursor are stored now."""
        if self._abandoned:
            return False
        try:
            failure = None if view.parked is None else view.parked.failure
            self._note_request(view.builder.save(status, failure, done))
        except Parked as parked:
            self._park(view, parked)
            return False
        return not view.builder.dirty

    def _park(self, view: _View, parked: Parked) -> None:
        view.status, view.parked = PARKED, parked
        if self._abandoned:
            return
        failure = parked.failure
        if view is self._next and self._live is not None and not failure.can_skip:
            self._give_up_rebuild(view)
            return
        self._logger.warning(
            "consumer_parked", error=failure.error, agent=failure.agent, seq=failure.seq, at=failure.place
        )
        try:
            self._note_request(view.builder.save(PARKED, failure))
        except Parked:  # the view itself cannot be stored: then the stored one stays
            view.builder.save_status(PARKED, failure)

    # -- requests ----------------------------------------------------------------------------------------------------

    def _note_request(self, stored: ConsumerRequest | None) -> None:
        if stored is not None and stored.id != self._last_request:
            self._last_request = stored.id
            self._requests.append(_Request(stored.what, stored.agent, stored.seq, stored))

    def _handle_requests(self) -> None:
        while self._requests:
            request = self._requests[0]
            self._handle(request)
            request.done.set()
            if request.stored is not None and request.stored is not self._again:
                self._save(self._current, self._current.status, request.stored)
            self._requests.pop(0)

    def _handle(self, request: _Request) -> None:
        if request.what in (REBUILD, ERASE) and request.agent is not None:
            agents = request.agent.split("\n") if request.agent else ()
            if not self._erase(agents, is_sink=request.what == ERASE):
                self._again = request.stored
                self._rebuild_again()
            return
        self._logger.info("consumer_told", what=request.what, agent=request.agent, seq=request.seq)
        if request.what == REBUILD:
            self._rebuild()
            return
        for view in self._views():
            goes_on = request.what == RETRY
            if request.what == SKIP:
                goes_on = view.builder.skip(request.agent or "", request.seq or 0)
            if view.parked is None or not goes_on:
                continue
            if request.what == RETRY:
                view.builder.retry()
            view.parked = None
            view.status = CATCHING_UP if view is self._live else REBUILDING

    def _erase(self, agents: Sequence[str], *, is_sink: bool) -> bool:
        """Take erased agents out of all views; False where that cannot be told from a view: it has to be rebuilt.

        The tables of a sink stay as they are where it has no `erase`.
        """
        self._logger.info("consumer_told", what=ERASE, agents=len(agents))
        for view in reversed(self._views()):  # the one that users read is saved last, with the request as done
            is_corrected = bool(agents) and (is_sink or view.parked is None) and view.builder.erase(agents)
            if is_corrected and view is not self._current:
                is_corrected = self._save(view, view.status)
            if not is_corrected and not is_sink:
                return False
            if is_sink and view.parked is not None:  # it may have been parked at an event of theirs
                view.builder.retry()
                view.parked, view.status = None, CATCHING_UP
        return True

    def _rebuild_again(self) -> None:
        """Begin to build the view without what was erased, once the one that is being built is live, or parked.

        If each erasure began it again at once, a rebuild would not end while agents are erased. Until then the request
        stays in the store, for whoever runs the consumer next.
        """
        if self._again is None or (self._next is not None and self._next.parked is None):
            return
        self._rebuild()
        self._save(self._current, self._current.status, self._again)
        self._again = None

    def _rebuild(self) -> None:
        """Begin to build the view from the start, unless that is under way."""
        if self._next is not None and self._next.parked is None:
            return
        reset, live = self._plan.reset, self._live
        try:
            self._plan.check_rebuildable()
        except Trimmed as error:
            self._logger.warning("rebuild_refused", error=type(error).__name__)
            return
        if reset is None or live is None:
            self._begin_next(replace=True)
            return
        try:
            reset()
        except Unavailable:
            raise
        except DuramenError as error:
            self._logger.warning("rebuild_refused", error=type(error).__name__)
            return
        except Exception as error:  # the user's own code, and whatever its driver raises
            raise Unavailable(f"the tables cannot be emptied now ({type(error).__name__})") from error
        old = live.builder.record
        live.builder.close()
        record = evolve(self._plan.new_record(LIVE), token=old.token, revision=old.revision)
        self._live = _View(ViewBuilder(self._plan, record), CATCHING_UP)
