"""The hub's thread: it reads what is new once for all subscriptions of a system."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from duramen.events.logging import get_logger, raised_at
from duramen.events.model import Mark

from ..notifications import Listener, TimerQueue
from .change import Source
from .intake import Intake
from .partitions import FollowedPartitions


class Follower:
    """A `Feeder`. `turn` is for its own thread; all other calls may come from any thread."""

    def __init__(self, source: Source, read: Callable[[Callable[[], None]], None], heartbeat: float) -> None:
        self._submit = read
        self._heartbeat = heartbeat
        self._listener = Listener(source.log, events=True)
        self._partitions = FollowedPartitions(source)
        self._requests: deque[Callable[[], None]] = deque()
        self._timers = TimerQueue()
        self._beat_at = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="duramen-hub", daemon=True)

    @property
    def strange(self) -> int:
        """Notices that were not understood, or proved false."""
        return self._listener.strange + self._partitions.false

    def start(self) -> None:
        self._thread.start()

    def add(self, intake: Intake) -> None:
        """Begin to read for an intake."""
        self._request(lambda: self._add(intake))

    def remove(self, intake: Intake) -> None:
        """Stop reading for an intake."""
        self._request(lambda: self._partitions.remove(intake))

    def beat(self) -> None:
        """Let the next heartbeat come now."""
        self._request(self._beat_now)

    def stop(self) -> None:
        """Let the thread end."""
        self._closing = True
        self._listener.wake()

    def wait(self, timeout: float) -> bool:
        """Whether the thread has ended, at the latest after `timeout` seconds."""
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- Feeder --------------------------------------------------------------------------------------------------------

    def mark_of(self, partition: int) -> Mark:
        return self._partitions.mark_of(partition)

    def end_of(self, partition: int) -> int:
        return self._partitions.end_of(partition)

    def join(self, intake: Intake, partition: int) -> None:
        self._request(lambda: self._partitions.join(intake, partition))

    def at(self, when: float, call: Callable[[], None]) -> None:
        self._request(lambda: self._timers.add(when, call))

    def read(self, work: Callable[[], None]) -> None:
        self._submit(work)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _request(self, work: Callable[[], None]) -> None:
        self._requests.append(work)
        self._listener.wake()

    def _add(self, intake: Intake) -> None:
        self._partitions.add(intake)
        intake.start(self)

    def _beat_now(self) -> None:
        self._beat_at = 0.0

    def _run(self) -> None:
        try:
            while not self._closing:
                self.turn()
        except BaseException as error:  # a fault of ours: end all subscriptions rather than fall silent
            get_logger("subscriptions").error("hub_failed", error=type(error).__name__, at=raised_at(error))
            for intake in self._partitions.intakes:
                intake.fail(error)
        finally:
            self._listener.close()

    def turn(self, *, wait: bool = True) -> None:
        """Do what is due, read a page of each partition that has moved, then wait for notices."""
        partitions = self._partitions
        while self._requests:
            self._requests.popleft()()
        self._timers.run_due()
        partitions.read_moved()
        beaten = self._beat_if_due()
        self._listener.follow(partitions.followed, partitions.level)
        moved, batches = self._listener.receive(self._pause() if wait and not beaten else 0.0)
        for notices in batches:
            partitions.accept(notices)
        partitions.wake()
        partitions.note(moved)
        if beaten:
            partitions.note_unnoticed()

    def _pause(self) -> float:
        if self._requests:
            return 0.0
        until = min(self._beat_at, self._timers.next)
        read_at = self._partitions.read_at
        return max(0.0, (until if read_at is None else min(until, read_at)) - monotonic())

    def _beat_if_due(self) -> bool:
        now = monotonic()
        if now < self._beat_at:
            return False
        self._beat_at = now + self._heartbeat
        return self._partitions.beat()
