"""One process as a host among others: its beat, what it knows of them, and the burial of those that are dead."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager
from math import inf
from typing import Final, Literal
from uuid import uuid4

from attrs import evolve, frozen

from duramen.events import DuramenError, NotPermitted, Unavailable
from duramen.events.log import HostRecord, HostStore
from duramen.events.logging import get_logger, raised_at

from .lease import BEAT_SECONDS, SUSPENDED_SECONDS, LeaseJudge
from .process_identity import has_ended, this_process
from .server_clock import BOOT_CLOCK, ServerClock

PROTOCOL: Final = 1
"""The version of what hosts send each other."""
_MOST_LOOKED_AT_TWICE: Final = 64
"""Up to so many hosts are looked at between two beats, too: a dead one is found earlier by half the time between two
beats. The looks of all hosts at all hosts would be a load for the server where there are many."""
_FORGET_AFTER: Final = 3600
"""Seconds for which a host that has ended stays listed, for people to see."""

HostStatus = Literal["up", "draining", "dead"]


def boot_time() -> float:
    """Seconds of a clock that nobody sets and that runs while the machine is suspended."""
    return time.clock_gettime(BOOT_CLOCK)


@frozen
class HostEvents:
    """Callbacks of a membership. They run in the thread of the beat, or in one that asks for the state of a host."""

    died: Callable[[str, bool], None]
    """Called once for each dead host; True: it has closed, and so has answered or refused all that reached it."""
    buried: Callable[[str, str], None]
    """This host, the first id, was declared dead, and has joined again under the second."""


class Membership:
    """Lists this host, raises its beat in a daemon thread of its own, and buries hosts that are dead. Thread-safe.

    A host that lives and reaches the server is never buried by another one, however long its handlers run. One that
    was buried all the same, after a pause or a broken network, joins again as a new host.
    """

    def __init__(
        self,
        store: HostStore,
        events: HostEvents,
        *,
        is_client: bool = False,
        agent_types: Callable[[], Collection[str]] = tuple,
        message_types: Callable[[], Collection[str]] = tuple,
        load: Callable[[], int] = int,
        clock: Callable[[], float] = boot_time,
        wall_clock: Callable[[], float] = time.time,
        period: float = BEAT_SECONDS,
    ) -> None:
        """`load` counts the agents in memory. Both clocks are in seconds; `period` is between two beats."""
        self._store = store
        self._events = events
        self._agent_types = agent_types
        self._message_types = message_types
        self._load = load
        self._clock = clock
        self._wall_clock = wall_clock
        self._pid = os.getpid()
        self._period = period
        self._here = this_process()
        self._own = HostRecord(uuid4().hex, 0, "client" if is_client else "up", self._here, PROTOCOL)
        self._judge = LeaseJudge()
        self._living: dict[str, HostRecord] = {}
        self._dead: set[str] = set()
        self._buried: set[str] = set()
        """Of the dead, those that had not closed."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._beaten_at = self._last_beat = clock()
        self._has_failed = False
        """Whether the last beat or look did not go through."""
        self.server_clock = ServerClock(store.time)
        """The server's clock, measured as this host joins and with each beat."""
        self._thread: threading.Thread | None = None
        self.late_beats = 0
        """Beats that came more than two periods after the one before."""
        self._is_blind = False
        self._log = get_logger("hosts")

    @property
    def host(self) -> str:
        """The present id of this host."""
        return self._own.host

    def start(self) -> None:
        """Join, look at the others once, and beat from now on. Raises Unavailable if the hosts cannot be read.

        A server that refuses writes will do to read agents. As long as it does, nothing may begin here.
        """
        begun = self._clock()
        try:
            self._join()
            self._beaten_at = begun
            self.server_clock.measure()
        except Unavailable as error:
            self._beaten_at = -inf
            self._log.warning("host_not_joined", error=type(error).__name__)
        self.refresh()
        self._thread = threading.Thread(target=self._run, name="duramen-beat", daemon=True)
        self._thread.start()

    # -- this host -------------------------------------------------------------------------------------------------

    def may_begin(self) -> bool:
        """Whether handlers and effects may begin: no beat has gone through for so long that others may take over."""
        return 0 <= self._clock() - self._beaten_at < SUSPENDED_SECONDS and os.getpid() == self._pid

    @property
    def is_draining(self) -> bool:
        """Whether this host takes no more trees."""
        return self._own.state == "draining"

    def announce(self) -> None:
        """List the agent types that are registered now. Raises Unavailable."""
        types = tuple(sorted(self._agent_types()))
        if self._thread is not None and types != self._own.agent_types:
            self._store.announce(self.host, types)
            self._own = evolve(self._own, agent_types=types)

    def drain(self) -> None:
        """Take no more trees from now on, and let others know. Raises Unavailable."""
        self._own = evolve(self._own, state="draining")
        self._store.set_state(self.host, "draining")

    def close(self, timeout: float = 5.0, *, is_clean: bool = True) -> None:
        """End the beat and give up all trees of this host. Never raises for a lost server. Idempotent.

        With `is_clean` False not all that has reached this host was answered: it says that it is buried, not closed.
        """
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is None or os.getpid() != self._pid:  # a forked child has no host
            return
        if thread is not threading.current_thread():
            thread.join(timeout)
        try:
            if is_clean:
                self._store.set_state(self.host, "closed")
            else:
                self._bury(self.host, "it closes without having answered all")
        except DuramenError as error:  # others will see that the process has ended, or that its beat has
            self._log.info("host_not_closed", error=type(error).__name__)

    # -- other hosts -----------------------------------------------------------------------------------------------

    def hosts(self) -> list[HostRecord]:
        """The hosts that live, this one among them, as last read: a beat ago at most, unless the server is lost."""
        return list(self._living.values())

    def peers(self) -> list[HostRecord]:
        """The hosts that live and understand what this one sends, this one among them; otherwise as `hosts`."""
        return [record for record in self.hosts() if record.protocol == PROTOCOL]

    def protocol_of(self, host: str) -> int:
        """The version of what a host sends; this one's for a host that `state_of` has not found alive."""
        record = self._living.get(host)
        return PROTOCOL if record is None else record.protocol

    def refresh(self) -> None:
        """Read the list of hosts now. Raises Unavailable."""
        records = self._read()
        if records is not None:
            self._note(records)

    def _read(self) -> list[HostRecord] | None:
        """All hosts; None if this user may not list them. Then those of other machines are never found dead."""
        try:
            return self._store.hosts()
        except NotPermitted as error:
            if not self._is_blind:
                self._is_blind = True
                self._log.warning("hosts_not_listed", error=str(error), advice="see `duramen doctor`")
            return None

    def state_of(self, host: str) -> HostStatus:
        """The state of a host. Reads the store for one that is not known. Raises Unavailable.

        A host whose process has run on this machine and ended is buried at once.
        """
        if host in self._dead:
            return "dead"
        record = self._living.get(host) or self._store.find(host)
        if record is None or record.has_ended:
            self._note_dead(host, has_closed=record is not None and record.state == "closed")
            return "dead"
        if host != self.host and has_ended(record.machine, self._here):
            self._bury(host, "its process has ended")
            return "dead"
        with self._lock:
            if host in self._dead:
                return "dead"
            self._living.setdefault(host, record)
        return "draining" if record.state == "draining" else "up"

    def was_buried(self, host: str) -> bool:
        """Whether another host was found dead that had not closed: it may go on under another id."""
        return host in self._buried

    def _bury(self, host: str, reason: str) -> None:
        """Bury a host that is certainly dead, whatever its last beat was."""
        while (record := self._store.find(host)) is not None and not record.has_ended:
            if self._store.bury(host, record.beat):
                self._log.info("host_buried", host=host, beat=record.beat, by=self.host, reason=reason)
                break
        self._note_dead(host, has_closed=record is not None and record.state == "closed")

    def _note_dead(self, host: str, *, has_closed: bool) -> None:
        if has_closed and host not in self._dead:
            # To a host that was buried it has answered nothing: then what was sent to it may be done.
            own = self._store.find(self.host)
            has_closed = own is not None and not own.has_ended
        with self._lock:
            self._living.pop(host, None)
            if host in self._dead or host == self.host:
                return
            self._dead.add(host)
            if not has_closed:
                self._buried.add(host)
        self._events.died(host, has_closed)

    def _note(self, records: Iterable[HostRecord]) -> None:
        """Take over the list of hosts that was read, and report those that are dead."""
        read = {record.host: record for record in records}
        missing = self._living.keys() - read.keys() - {self.host}
        with self._lock:
            self._living = {
                host: record for host, record in read.items() if not record.has_ended and host not in self._dead
            }
        for host in missing:
            self._note_dead(host, has_closed=False)
        for record in read.values():
            if record.has_ended:
                self._note_dead(record.host, has_closed=record.state == "closed")

    # -- the beat --------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        self._own = evolve(
            self._own,
            agent_types=tuple(sorted(self._agent_types())),
            message_types=tuple(sorted(self._message_types())),
            load=self._load(),
        )
        self._store.join(self._own)

    def _run(self) -> None:
        is_between = False
        while not self._stop.wait(self._period / 2):
            is_between = not is_between
            try:
                if is_between:
                    self.look_between()
                else:
                    self.beat()
            except DuramenError as error:
                self._log.warning("beat_failed", error=type(error).__name__)
            except Exception as error:  # a defect: without a beat this host would be buried while it lives
                self._log.error("beat_failed", error=type(error).__name__, at=raised_at(error))

    def beat(self) -> None:
        """Raise this host's beat, look at the others, and bury the dead: one round, as the thread makes them."""
        with self._noting_failure():
            begun = self._clock()
            self.late_beats += begun - self._last_beat > 2 * self._period
            if self._store.beat(self.host, self._load()) is None:
                self._join_again()
            self._last_beat = begun
            self._look()
            # When the beat was sent: the others have seen it since then at most. After the look: nothing is to begin
            # here before it is known who was declared dead meanwhile.
            self._beaten_at = begun
            self.server_clock.measure()

    @contextmanager
    def _noting_failure(self) -> Generator[None]:
        """Give all hosts a full lease if a beat or a look fails."""
        self._has_failed = True
        try:
            yield
            self._has_failed = False
        finally:
            if self._has_failed:
                self._judge.interrupt()

    def look_between(self) -> None:
        """Look at the others half-way between two beats, if they are few and the last beat and look went through.

        The lease of a host that has died counts from the first look after its last beat, so it ends earlier.
        """
        if self._has_failed or len(self._living) > _MOST_LOOKED_AT_TWICE:
            return
        with self._noting_failure():
            self._look()

    def _join_again(self) -> None:
        """Go on as a new host, after others have declared this one dead."""
        old = self.host
        self._own = evolve(self._own, host=uuid4().hex)
        self._join()
        self._judge.interrupt()
        with self._lock:
            self._dead.add(old)
            self._living.pop(old, None)
        self._log.warning("buried_while_alive", host=old, new_host=self.host)
        self._events.buried(old, self.host)

    def _look(self) -> None:
        """Read the others, bury those that are dead, and forget those that have been dead for long."""
        records = self._read()
        if records is None:
            return
        for record in self._judge.look(records, self._clock()):
            if record.host == self.host or has_ended(record.machine, self._here):
                continue
            if self._store.bury(record.host, record.beat):
                self._log.warning("host_buried", host=record.host, beat=record.beat, by=self.host)
                self._note_dead(record.host, has_closed=False)
        for record in records:
            others = record.host != self.host and not record.has_ended
            if others and record.host not in self._dead and has_ended(record.machine, self._here):
                self._bury(record.host, "its process has ended")
        self._note(records)
        self._forget(records)

    def _forget(self, records: Iterable[HostRecord]) -> None:
        # By the wall clocks of two machines, which may differ: nothing depends on the row of a host that has ended.
        now = self._wall_clock()
        old = [one.host for one in records if one.has_ended and now - one.ended_at > _FORGET_AFTER]
        try:
            if old:
                self._store.forget(old)
        except DuramenError as error:  # a user without the right to
            self._log.info("hosts_not_forgotten", error=type(error).__name__)
