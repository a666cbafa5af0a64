"""The links of one host: its streams to others, over the channels of the store, and the thread that receives."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from duramen.events import DuramenError, Limits, SystemClosed
from duramen.events.codec import Codec
from duramen.events.log import HostStore
from duramen.events.logging import get_logger, raised_at

from .frame import FrameCodec, Row
from .link_state import LinkState

Received = tuple[str, Row]
"""The sender's host id, and one row."""
Deliver = Callable[[list[Received]], object]
"""Called with what has arrived, in the order of each sender, in the links' thread, which receives nothing meanwhile."""

_LONGEST_WAIT: Final = 0.5
"""Seconds between two looks at timers of streams."""
_HEARD_PAUSE: Final = 0.005
_DEFECT_PAUSE: Final = 0.5
"""Seconds before the thread goes on after an exception that nothing has caught."""
_BUSY_WAIT: Final = 0.005
"""Seconds between two looks while frames wait for the publisher."""
_CONTENT_MS: Final = 60_000
"""How long the content of a row that is too large for a frame is kept; it is stored again with its frame."""
_LAST_SECONDS: Final = 0.2
"""How long the last frames wait for the publisher."""
_CLOSED: Final = "the links of this host are closed, or belong to the parent of this process; open another system"


class Links:
    """Sends rows to other hosts and hands over theirs. Thread-safe.

    While both hosts live, what one sends to the other arrives exactly once and in order, whatever the channels lose,
    repeat or delay. A row to a host that ends may or may not have arrived there.

    A forked child cannot use the links of its parent: `add` raises SystemClosed there, `flush` and `close` do nothing.
    """

    def __init__(self, host: str, store: HostStore, protocol: int, deliver: Deliver) -> None:
        self.host = host
        self._deliver = deliver
        self._store = store
        self._frames = FrameCodec(host, store.secret, protocol, Codec(Limits()))
        self._state = LinkState(self._frames)
        self._codecs = _Codecs()
        self._stream = store.listen(host)
        self._publisher = store.publisher()
        self._lock = threading.Lock()
        """Guards the state."""
        self._sending = threading.Lock()
        """Guards the publisher. A thread that finds it taken leaves its frames to the thread that has it."""
        self._losses = 0
        self._pid = os.getpid()
        self._closing = threading.Event()
        self._subscribed = threading.Event()
        self._subscriptions = 0
        self._log = get_logger("links")
        self._thread = threading.Thread(target=self._run, name="duramen-links", daemon=True)

    def start(self, timeout: float) -> bool:
        """Begin to receive; return once the channel is subscribed to, or after `timeout` seconds. True: it is."""
        self._thread.start()
        return self._subscribed.wait(timeout)

    @property
    def counters(self) -> dict[str, int]:
        """How many messages were dropped, by reason: those of `FrameCodec` and `LinkState`."""
        with self._lock:
            return {**self._frames.dropped, **self._state.dropped}

    # -- from any thread -------------------------------------------------------------------------------------------

    def add(self, peer: str, row: Row, *, bounded: bool = True) -> None:
        """Queue a row for another host; `flush` sends it. Never blocks.

        Raises MailboxFull when too much for this host is unheard and queued; with `bounded=False` never, for replies,
        whose number the asks have bounded. Raises Unavailable for a host that was forgotten, ValueRefused for what is
        no plain data, TooLarge over the limit of one row, SystemClosed after `close`.
        """
        self._check_open()
        packed = self._codecs.pack(row)
        with self._lock:
            self._state.send(peer, packed, bounded=bounded)

    def flush(self) -> bool:
        """Send what was queued: all rows for one host in as few frames as hold them, all frames in one publish.

        Does not wait for the server: what cannot be sent at once, if it returns False, is sent by the links' thread.
        """
        if not self._state.has_changes or self._publish():
            return True
        if not self._closing.is_set():
            self._stream.wake()
        return False

    def peers(self) -> list[str]:
        """Return the hosts to which something was sent or from which something was heard, without forgotten ones."""
        with self._lock:
            return self._state.peers()

    def wait_until_heard(self, timeout: float) -> bool:
        """Wait until the other hosts have heard all that was sent, at most `timeout` seconds; whether they have."""
        deadline = monotonic() + timeout
        while not (heard := self._is_settled()) and monotonic() < deadline:
            self._closing.wait(_HEARD_PAUSE)
        return heard

    def _is_settled(self) -> bool:
        with self._lock:
            return self._state.is_settled

    def forget(self, peer: str) -> None:
        """Drop the streams to and from a host that is dead. Its late frames are refused, for ever."""
        with self._lock:
            self._state.forget(peer)

    def close(self, timeout: float) -> None:
        """Send what is queued if that is possible at once, and end; wait for that at most `timeout` seconds.

        A thread that cannot end in time, because it opens a connection, ends as soon as it has. Idempotent.
        """
        if self._pid != os.getpid():
            return
        self._closing.set()
        if self._thread.ident is None:
            self._release()
        elif self._thread is not threading.current_thread():
            self._stream.wake()
            self._thread.join(timeout)

    def _check_open(self) -> None:
        if self._closing.is_set() or self._pid != os.getpid():
            raise SystemClosed(_CLOSED)

    def _publish(self) -> bool:
        """Publish what there is; whether nothing is left, or another thread does it."""
        while self._state.has_changes:
            if self._pid != os.getpid() or not self._sending.acquire(blocking=False):
                return True
            try:
                if not self._publisher.is_ready:
                    return False
                with self._lock:
                    outgoing = self._state.emit(monotonic())
                self._publisher.publish(outgoing.frames, outgoing.contents, _CONTENT_MS)
            finally:
                self._sending.release()
        return not self._publisher.is_waiting

    # -- the links' thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._step()
                except Exception as error:  # a defect: the thread outlives it
                    self._log.error("links_failed", error=type(error).__name__, at=raised_at(error))
                    self._closing.wait(_DEFECT_PAUSE)
            self._send_last()
        finally:
            self._release()

    def _send_last(self) -> None:
        with self._lock:
            self._state.tell_heard()
        deadline = monotonic() + _LAST_SECONDS
        while (self._state.has_changes or self._publisher.is_waiting) and monotonic() < deadline:
            self._send_waiting()

    def _release(self) -> None:
        self._stream.close()
        with self._sending:
            self._publisher.close()

    def _step(self) -> None:
        messages = self._stream.receive(self._wait_seconds())
        if self._stream.subscriptions != self._subscriptions:
            self._subscriptions = self._stream.subscriptions
            with self._lock:
                self._state.note_new_subscription(monotonic())
            self._subscribed.set()
        rows: list[Received] = []
        try:
            for message in messages:
                rows += self._open(message)
        finally:  # whatever raises: these count as heard, and do not come again
            if rows:
                self._deliver(rows)
        with self._lock:
            self._state.tick(monotonic())
        self._send_waiting()

    def _wait_seconds(self) -> float:
        if self._stream.subscriptions != self._subscriptions:
            return 0.0
        if self._state.has_changes or self._publisher.is_waiting:
            return _BUSY_WAIT
        return max(0.0, min(_LONGEST_WAIT, self._state.due - monotonic()))

    def _open(self, message: bytes) -> list[Received]:
        frame = self._frames.open(message)
        if frame is None:
            return []
        contents: dict[str, Row | None] = {}
        if frame.has_contents:
            with self._lock:
                needed = self._state.contents_needed(frame)
            contents = {content_id: self._content(content_id) for content_id in needed}
        with self._lock:
            return [(frame.sender, row) for row in self._state.receive(frame, contents, monotonic())]

    def _content(self, content_id: str) -> Row | None:
        try:
            return self._frames.open_content(content_id, self._store.get_content(content_id))
        except DuramenError as error:  # the frame is asked for again
            self._log.info("content_not_read", error=type(error).__name__)
            return None

    def _send_waiting(self) -> None:
        """Publish what there is; open the publisher's connection, and read its replies, where that is needed first."""
        if (self._state.has_changes and not self._publish()) or self._publisher.is_waiting:
            with self._sending:
                self._publisher.collect(_BUSY_WAIT)
                if self._publisher.losses != self._losses:
                    self._losses = self._publisher.losses
                    with self._lock:
                        self._state.note_lost_publishes()
            self._publish()


class _Codecs(threading.local):
    """A codec for each thread, since a codec is not thread-safe."""

    def __init__(self) -> None:
        self.pack: Callable[[Any], bytes] = Codec(Limits()).pack
