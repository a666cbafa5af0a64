"""The two numbered streams between this host and one other, as a state machine without threads, clock or socket.

outgoing rows:    queued ──window open──▶ unheard ──peer heard them──▶ gone
incoming frames:  the next number is taken; a past one is dropped; a later one is dropped and asked about
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from random import Random
from typing import Final

from attrs import frozen

import msgpack

from .frame import CONTROL, FRAME_BYTES, Row

HEARD_DELAY: Final = 0.02
"""Seconds after which `heard` is sent in a frame of its own, unless a frame of rows has carried it."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 8.0
"""Seconds until unheard frames are asked about: 1, doubling up to 8, each up to a quarter longer or shorter."""
_GAP_PAUSE: Final = HEARD_DELAY
"""Seconds until the same gap is asked about again, doubling up to `FIRST_PAUSE`."""
_RESEND_PAUSE: Final = HEARD_DELAY
"""Seconds in which the same frames are sent again only once, however often they are asked for."""
_OVERHEAD: Final = 320
"""Most bytes of a frame besides its rows."""

# What a frame with the number CONTROL can ask: [kind, number of the question, argument]. Questions are counted, so that
# one which somebody publishes again is not answered again.
_MISSING: Final = "missing"  # send again what follows `heard`
_SUBSCRIBED: Final = "subscribed"  # as _MISSING; and send less at once, for the channel had broken
_LAST: Final = "last"  # the argument is the number of my last frame: ask if you do not have it


@frozen
class Window:
    """Bounds for one peer: what may be unheard at a time, and what may wait behind that."""

    frames: int = 256
    bytes: int = 1024 * 1024
    queued_rows: int = 10_000
    queued_bytes: int = 32 * 1024 * 1024
    """Also bounds the unheard contents, which count until they are heard. One row always fits."""
    least_frames: int = 8
    least_bytes: int = 128 * 1024
    """How far the window can be halved. A frame always fits into an empty one."""


@frozen
class LargeRow:
    """A packed row that does not fit into a frame; `reference` is its packed id, which stands there instead."""

    reference: bytes
    content_id: str
    content: bytes


@frozen
class _SentFrame:
    """A frame kept until the peer has heard it, to be sent again."""

    number: int
    data: bytes
    large: tuple[LargeRow, ...]


Seal = Callable[[int, int, list[bytes]], bytes]
"""Makes a frame of a number, `heard`, and packed rows."""


class PeerStream:
    """The state of both streams with one peer. Times are seconds of one monotonic clock, which the caller reads."""

    def __init__(self, window: Window, random: Random) -> None:
        self._window = window
        self._random = random
        self._jitter = random.uniform(0.75, 1.25)
        """Factor of all pauses, drawn again after each: drawing one for each frame took 6 % of a frame's time."""
        # Outgoing.
        self._queue: deque[bytes | LargeRow] = deque()
        self._queued_bytes = 0
        """Bytes of the queue, and of the contents of unheard frames."""
        self._unheard: deque[_SentFrame] = deque()
        self._unheard_bytes = 0
        self._sent = 0
        self._frames_allowed = window.frames
        self._bytes_allowed = window.bytes
        self._probe_at = inf
        self._probe_pause = FIRST_PAUSE
        self._resends = False
        self._resent_at = -inf
        self._tells_last = False
        # Incoming.
        self.heard = 0
        """Number of the last frame taken."""
        self._tell_at = inf
        self._tells_heard = False
        self._asked_at = -inf
        self._gap_pause = _GAP_PAUSE
        self._question = ""
        self._questions_asked = 0
        self._questions_answered = 0

    # -- outgoing --------------------------------------------------------------------------------------------------

    @property
    def unheard(self) -> tuple[int, int]:
        """Frames, and their bytes, that were sent and not heard yet."""
        return len(self._unheard), self._unheard_bytes

    @property
    def queued(self) -> int:
        """Rows that wait for a place in the window."""
        return len(self._queue)

    @property
    def is_settled(self) -> bool:
        """Whether the peer has heard everything."""
        return not self._unheard and not self._queue

    @property
    def has_output(self) -> bool:
        """Whether `emit` may have something to return."""
        return bool(self._queue or self._question or self._resends or self._tells_last or self._tells_heard)

    def has_room(self, size: int) -> bool:
        """Whether another row of `size` bytes may be queued."""
        rows = len(self._queue)
        return not self._queued_bytes or (
            rows < self._window.queued_rows and self._queued_bytes + size <= self._window.queued_bytes
        )

    def push(self, row: bytes | LargeRow) -> None:
        self._queue.append(row)
        self._queued_bytes += len(row) if type(row) is bytes else _size(row)

    def emit(self, seal: Seal, now: float) -> tuple[list[bytes], list[LargeRow]]:
        """Return the frames to publish now, in order, and the contents to store before them."""
        frames: list[bytes] = []
        large: list[LargeRow] = []
        if self._question:
            frames.append(self._seal_question(seal, self._question))
        if self._resends:
            self._resent_at = now
            for sent in self._unheard:
                frames.append(sent.data)
                large += sent.large
        told = bool(self._question)
        while self._queue and self._has_place(_frame_size(self._queue[0])):
            sent = self._seal_next(seal)
            frames.append(sent.data)
            large += sent.large
            told = True
        if self._tells_last:
            frames.append(self._seal_question(seal, _LAST))
        elif self._tells_heard and not told:
            frames.append(seal(CONTROL, self.heard, []))
        if told or self._tells_last or self._tells_heard:
            self._tell_at = inf
        self._question, self._resends, self._tells_last, self._tells_heard = "", False, False, False
        if self._unheard and self._probe_at == inf:
            self._probe_at = now + self._jitter * self._probe_pause
        return frames, large

    def _seal_question(self, seal: Seal, kind: str) -> bytes:
        self._questions_asked += 1
        return seal(CONTROL, self.heard, [msgpack.packb([kind, self._questions_asked, self._sent])])

    def _has_place(self, size: int) -> bool:
        unheard = len(self._unheard)
        return not unheard or (
            unheard < self._frames_allowed and self._unheard_bytes + size + _OVERHEAD <= self._bytes_allowed
        )

    def _seal_next(self, seal: Seal) -> _SentFrame:
        """Number a frame of as many queued rows as fit into it and into the window."""
        queue = self._queue
        room = FRAME_BYTES
        if self._unheard:
            room = min(room, self._bytes_allowed - self._unheard_bytes - _OVERHEAD)
        rows: list[bytes] = []
        large: list[LargeRow] = []
        while queue and (not rows or _frame_size(queue[0]) <= room):
            row = queue.popleft()
            if type(row) is bytes:
                rows.append(row)
                room -= len(row)
                self._queued_bytes -= len(row)
            else:
                assert isinstance(row, LargeRow)
                room -= len(row.reference)
                rows.append(row.reference)
                large.append(row)
                self._queued_bytes -= len(row.reference)
        self._sent += 1
        sent = _SentFrame(self._sent, seal(self._sent, self.heard, rows), tuple(large))
        self._unheard.append(sent)
        self._unheard_bytes += len(sent.data)
        return sent

    def probe(self) -> None:
        """Ask the peer whether it has what is unheard, as after a connection that may have lost some of it."""
        self._tells_last = self._tells_last or bool(self._unheard)

    # -- incoming --------------------------------------------------------------------------------------------------

    def hear(self, heard: int, now: float) -> bool:
        """Handle the number that the peer has heard; False if no such frame was ever sent."""
        if heard > self._sent:
            return False
        progress = False
        while self._unheard and self._unheard[0].number <= heard:
            sent = self._unheard.popleft()
            progress = True
            self._unheard_bytes -= len(sent.data)
            self._queued_bytes -= sum(len(row.content) for row in sent.large)
            # A halved window recovers with what gets through: it doubles with each window's worth.
            self._frames_allowed = min(self._window.frames, self._frames_allowed + 1)
            self._bytes_allowed = min(self._window.bytes, self._bytes_allowed + len(sent.data))
        if progress:
            self._probe_pause = FIRST_PAUSE
            self._probe_at = now + self._jitter * FIRST_PAUSE if self._unheard else inf
            self._resent_at = -inf
        return True

    def take(self, now: float) -> None:
        """Count the next frame as heard."""
        self.heard += 1
        self._gap_pause = _GAP_PAUSE
        self._asked_at = -inf
        self._tell_at = min(self._tell_at, now + HEARD_DELAY)

    def note_repeated(self, now: float) -> None:
        """Tell the peer soon what was heard: it has sent a frame that was taken already."""
        self._tell_at = min(self._tell_at, now + HEARD_DELAY)

    def note_gap(self, now: float) -> None:
        """Ask for what is missing, unless it was asked for a moment ago."""
        if now >= self._asked_at + self._gap_pause:
            if self._asked_at != -inf:
                self._gap_pause = min(FIRST_PAUSE, self._jitter * self._gap_pause * 2)
            self._asked_at = now
            self._question = self._question or _MISSING

    def note_new_subscription(self, now: float) -> None:
        """Ask for what was sent while nothing could be received."""
        self._asked_at = now
        self._question = _SUBSCRIBED

    def answer(self, row: Row, heard: int, now: float) -> str:
        """Handle a question of the peer, whose `heard` was handled before; return why it is refused, or nothing."""
        match row:
            case [str(kind), int(number), int(last)] if kind in (_MISSING, _SUBSCRIBED, _LAST):
                if number <= self._questions_answered:
                    return "repeated"
                self._questions_answered = number
            case _:
                return "malformed"
        if kind == _LAST:
            if last > self.heard:
                self.note_gap(now)
            elif last == self.heard:
                self._tells_heard = True
            return ""
        if kind == _SUBSCRIBED:
            self._halve_window()
        stale = not self._unheard or heard != self._unheard[0].number - 1
        if not stale and now >= self._resent_at + _RESEND_PAUSE:
            self._resends = True
        return ""

    def _halve_window(self) -> None:
        self._frames_allowed = max(self._window.least_frames, self._frames_allowed // 2)
        self._bytes_allowed = max(self._window.least_bytes, self._bytes_allowed // 2)

    # -- time ------------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When `tick` has something to do."""
        return min(self._tell_at, self._probe_at)

    def tell_heard(self) -> None:
        """Send now the `heard` that would be sent soon."""
        self._tells_heard = self._tells_heard or self._tell_at != inf

    def tick(self, now: float) -> None:
        if now >= self._tell_at:
            self._tells_heard = True
            self._tell_at = inf
        if now >= self._probe_at:
            self._tells_last = True
            self._probe_pause = min(LONGEST_PAUSE, self._probe_pause * 2)
            self._jitter = self._random.uniform(0.75, 1.25)
            self._probe_at = now + self._jitter * self._probe_pause


def _size(row: bytes | LargeRow) -> int:
    return len(row) if isinstance(row, bytes) else len(row.reference) + len(row.content)


def _frame_size(row: bytes | LargeRow) -> int:
    return len(row) if isinstance(row, bytes) else len(row.reference)
