"""The parts of one agent's log that a window of a feed needs, checked as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import define, field

from ..codec import DIGEST_SIZE, NO_DIGEST, DigestChain, broken_chain_error
from ..errors import CorruptEvent, DuramenError, Trimmed
from ..log import Span, SpanEvents

MOST_IN_CALL: Final = 2_000
"""Events. One call blocks the server for others; for this many, less than a millisecond."""


@define(eq=False)
class DigestProbe:
    """Reads the digest of one event from the log; None if the event is not there, or was trimmed."""

    agent: str
    seq: int
    digest: bytes | None = None
    head: int = 0
    done: bool = False

    def span(self) -> Span:
        return Span(self.agent, self.seq, 0)

    def accept(self, found: SpanEvents, *, cut: bool) -> None:
        self.digest = found.items[0] if found.items else None
        self.head = found.head
        self.done = True


@define(eq=False)
class FeedSlice:
    """Consecutive events of one agent. `bodies` has those whose chain of digests holds, from `first_seq` on."""

    chain: DigestChain
    agent: str
    first_seq: int
    stop: int
    """One more than the last seq wanted."""
    previous: bytes | None
    """The digest before the first event, as it was read earlier; None: `probe` reads it."""
    probe: DigestProbe | None = None
    digests: list[bytes] = field(factory=list[bytes])
    bodies: list[bytes] = field(factory=list[bytes])
    problem: DuramenError | None = None
    """Why the following events are not ready. None although some are missing: the window was cut short."""

    @property
    def whole(self) -> bool:
        """Whether all of it is ready."""
        return self.first_seq + len(self.bodies) >= self.stop

    @property
    def done(self) -> bool:
        return self.problem is not None or self.whole

    def span(self) -> Span:
        seq = self.first_seq + len(self.bodies)
        return Span(self.agent, seq, min(self.stop - seq, MOST_IN_CALL))

    def accept(self, found: SpanEvents, *, cut: bool) -> None:
        asked = self.span()
        if found.base >= 0 and found.first_seq > asked.from_seq:
            self.problem = _trimmed(asked, found)
            return
        probed = None if self.probe is None else self.probe.digest
        previous = self.digests[-1] if self.digests else self.previous or probed
        self._add(previous, found.items)
        if self.problem is None and not cut and len(found.items) < asked.count:
            self.problem = _missing(self, found)

    def _add(self, previous: bytes | None, items: Sequence[bytes]) -> None:
        """Add the items that continue the chain.

        Where the digest before the first item is gone, that item is trusted, unless there is an integrity key.
        """
        if previous is None and items and not self.chain.is_keyed:
            previous, items = self._trust(items[0]), items[1:]
        followed = self.chain.verify_items(previous or NO_DIGEST, items)
        if followed is not None:
            if self.bodies:
                self.digests += followed[0]
                self.bodies += followed[1]
            else:
                self.digests, self.bodies = followed
            return
        for item in items:
            expected = self.chain.digest(previous or NO_DIGEST, item[DIGEST_SIZE:])
            if item[:DIGEST_SIZE] != expected:
                seq = self.first_seq + len(self.bodies)
                self.problem = broken_chain_error(self.agent, seq, expected, item[:DIGEST_SIZE])
                return
            previous = self._trust(item)

    def _trust(self, item: bytes) -> bytes:
        self.digests.append(item[:DIGEST_SIZE])
        self.bodies.append(item[DIGEST_SIZE:])
        return item[:DIGEST_SIZE]


Job = DigestProbe | FeedSlice
"""What is fetched of a log: `span` says what, `accept` takes the result."""


def _trimmed(asked: Span, found: SpanEvents) -> Trimmed:
    return Trimmed(
        f"events up to {found.base} of {asked.agent} were trimmed before they were read here: go on from "
        f"{found.base + 1}, or take what came before from a snapshot",
        agent=asked.agent,
        seq=asked.from_seq,
        expected=asked.from_seq,
        actual=found.base + 1,
    )


def _missing(piece: FeedSlice, found: SpanEvents) -> CorruptEvent:
    seq = piece.first_seq + len(piece.bodies)
    return CorruptEvent(
        f"the feed names event {seq} of {piece.agent}, which its log does not have; restore it from a backup",
        agent=piece.agent,
        seq=seq,
        expected=piece.stop - 1,
        actual=max(0, found.head),
    )
