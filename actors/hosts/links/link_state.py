"""All streams of one host, as a state machine: what arrives, what is sent, what is due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from math import inf
from random import Random, SystemRandom
from typing import cast

from attrs import frozen

import msgpack
from duramen.events import MailboxFull, TooLarge, Unavailable

from .frame import CONTROL, FRAME_BYTES, ROW_BYTES, Frame, FrameCodec, Row
from .stream import LargeRow, PeerStream, Window


@frozen
class Outgoing:
    """What is to be published now, in order: (host, frame), after the contents that the frames name."""

    frames: list[tuple[str, bytes]]
    contents: list[tuple[str, bytes]]


class LinkState:
    """The streams of one host. Not thread-safe; time is an argument, and nothing here waits or raises for bad input.

    `dropped` counts frames that were refused: `forgotten` (from a dead host), `repeated` (its number was taken, or its
    question answered), `gap` (frames before it are missing, or its stream is unknown and it is not the first),
    `impossible` (it has heard what was never sent), `malformed` (an unknown question).
    """

    def __init__(self, codec: FrameCodec, *, window: Window | None = None, random: Random | None = None) -> None:
        self._codec = codec
        self._window = window or Window()
        self.random = random or SystemRandom()
        self._streams: dict[str, PeerStream] = {}
        self._forgotten: set[str] = set()
        self._changed: dict[str, PeerStream] = {}
        self._due = inf
        self.dropped: Counter[str] = Counter()

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, peer: str, row: bytes, *, bounded: bool = True) -> None:
        """Queue a packed row. Raises MailboxFull, TooLarge, or Unavailable for a forgotten peer."""
        if peer in self._forgotten:
            raise Unavailable(f"host {peer} has ended; look up who owns the agent now, and ask there")
        size = len(row)
        stream = self._streams.get(peer) or self._add(peer)
        if bounded and not stream.has_room(size):
            raise MailboxFull(
                "too much is under way to the process that runs this agent; ask again later",
                expected=self._window.queued_rows,
                actual=stream.queued,
            )
        if size <= FRAME_BYTES:
            stream.push(row)
        elif size <= ROW_BYTES:
            content_id = self._codec.content_id(row)
            stream.push(LargeRow(msgpack.packb(content_id), content_id, row))
        else:
            raise TooLarge(f"a message of {size} bytes to another process", expected=ROW_BYTES, actual=size)
        self._changed[peer] = stream

    @property
    def has_changes(self) -> bool:
        """Whether `emit` may have something to return. May be read by any thread."""
        return bool(self._changed)

    def emit(self, now: float) -> Outgoing:
        """Return all that may be published now."""
        frames: list[tuple[str, bytes]] = []
        contents: list[tuple[str, bytes]] = []
        for peer, stream in self._changed.items():
            for_peer, large = stream.emit(partial(self._codec.seal, peer), now)
            frames += [(peer, frame) for frame in for_peer]
            contents += [(row.content_id, row.content) for row in large]
            self._due = min(self._due, stream.due)
        self._changed.clear()
        return Outgoing(frames, contents)

    # -- receiving -------------------------------------------------------------------------------------------------

    def contents_needed(self, frame: Frame) -> list[str]:
        """Return the ids of contents without which `receive` would not take this frame."""
        stream = self._streams.get(frame.sender)
        heard = stream.heard if stream is not None else 0
        return frame.content_ids if frame.number == heard + 1 else []

    def receive(self, frame: Frame, contents: Mapping[str, Row | None], now: float) -> list[Row]:
        """Handle a frame that `FrameCodec.open` has returned; return the rows to deliver, in order.

        A frame whose contents are not all there is not taken: it is asked for again, which stores them again.
        """
        peer = frame.sender
        if peer in self._forgotten:
            self.dropped["forgotten"] += 1
            return []
        stream = self._streams.get(peer) or self._add(peer)
        if not stream.hear(frame.heard, now):
            self.dropped["impossible"] += 1
            return []
        rows: list[Row] = []
        if frame.number == CONTROL:
            for row in frame.rows:
                reason = stream.answer(row, frame.heard, now) if not isinstance(row, str) else "malformed"
                if reason:
                    self.dropped[reason] += 1
        elif frame.number <= stream.heard:
            self.dropped["repeated"] += 1
            stream.note_repeated(now)
        elif frame.number > stream.heard + 1:
            self.dropped["gap"] += 1
            stream.note_gap(now)
        else:
            found = _rows_of(frame, contents)
            if found is None:
                stream.note_gap(now)
            else:
                rows = found
                stream.take(now)
        if stream.has_output:  # mostly all that is new is what was heard, which can wait
            self._changed[peer] = stream
        self._due = min(self._due, stream.due)
        return rows

    # -- time and breaks -------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When `tick` has something to do at the earliest."""
        return self._due

    def tick(self, now: float) -> None:
        """Do what is due."""
        if now < self._due:
            return
        self._due = inf
        for peer, stream in self._streams.items():
            if stream.due <= now:
                stream.tick(now)
                self._changed[peer] = stream
            self._due = min(self._due, stream.due)

    def note_new_subscription(self, now: float) -> None:
        """Ask all peers for what they sent while this host's channel was not subscribed to."""
        for peer, stream in self._streams.items():
            stream.note_new_subscription(now)
            self._changed[peer] = stream

    def note_lost_publishes(self) -> None:
        """Ask all peers whether they have what was published on a connection that broke."""
        for peer, stream in self._streams.items():
            stream.probe()
            self._changed[peer] = stream

    def tell_heard(self) -> None:
        """Tell all peers what was heard, before this host ends: otherwise they would send it again."""
        for peer, stream in self._streams.items():
            stream.tell_heard()
            self._changed[peer] = stream

    def forget(self, peer: str) -> None:
        """Drop the streams of a dead host; refuse its frames from now on."""
        self._forgotten.add(peer)
        self._streams.pop(peer, None)
        self._changed.pop(peer, None)

    def peers(self) -> list[str]:
        """Return the hosts to which something was sent or from which something was heard, without forgotten ones."""
        return list(self._streams)

    @property
    def is_settled(self) -> bool:
        """Whether every peer has heard everything."""
        return all(stream.is_settled for stream in self._streams.values())

    def _add(self, peer: str) -> PeerStream:
        stream = self._streams[peer] = PeerStream(self._window, self.random)
        return stream

    def stream(self, peer: str) -> PeerStream | None:
        """Return what is known of a peer; None if nothing was sent or heard."""
        return self._streams.get(peer)


def _rows_of(frame: Frame, contents: Mapping[str, Row | None]) -> list[Row] | None:
    """The rows of a frame, those too that stand in keys; None if one is missing."""
    if not frame.has_contents:
        return cast("list[Row]", frame.rows)
    found = [contents.get(row) if isinstance(row, str) else row for row in frame.rows]
    rows = [row for row in found if row is not None]
    return rows if len(rows) == len(found) else None
