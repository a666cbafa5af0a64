"""What a window of a feed needs of one agent's log, and how it is checked when it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import define, field

from ..codec import DIGEST_SIZE, NO_DIGEST, DigestChain, broken_chain_error
from ..errors import CorruptEvent, DuramenError, Trimmed
from ..log import Span, SpanEvents

__all__ = ["MOST_IN_CALL", "DigestProbe", "FeedSlice", "Job"]

MOST_IN_CALL: Final = 2_000
"""Events. One call keeps the server from serving others; this many take it less than a millisecond."""


@define(eq=False)
class DigestProbe:
    """The digest of one event, as the log has it now; None if it is not there, or was trimmed."""

    agent: str
    seq: int
    digest: bytes | None = None
    head: int = 0
    done: bool = False

    def span(self) -> Span:
        return Span(self.agent, self.seq, 0)

    def take(self, stretch: SpanEvents, *, cut: bool) -> None:
        self.digest = stretch.items[0] if stretch.items else None
        self.head = stretch.head
        self.done = True


@define(eq=False)
class FeedSlice:
    """Consecutive events of one agent. Those whose chain of digests holds are ready, from `first_seq` on."""

    chain: DigestChain
    agent: str
    first_seq: int
    stop: int
    """Behind the last seq that is wanted."""
    before: bytes | None
    """The digest before the first event, as it was read earlier; None: it has to be looked at."""
    look: DigestProbe | None = None
    digests: list[bytes] = field(factory=list[bytes])
    bodies: list[bytes] = field(factory=list[bytes])
    problem: DuramenError | None = None
    """Why what follows is not ready. None though something is missing: the window was cut short."""

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

    def take(self, stretch: SpanEvents, *, cut: bool) -> None:
        asked = self.span()
        if stretch.base >= 0 and stretch.first_seq > asked.from_seq:
            self.problem = _trimmed(asked, stretch)
            return
        looked = None if self.look is None else self.look.digest
        previous = self.digests[-1] if self.digests else self.before or looked
        self._add(previous, stretch.items)
        if self.problem is None and not cut and len(stretch.items) < asked.count:
            self.problem = _missing(self, stretch)

    def _add(self, previous: bytes | None, items: Sequence[bytes]) -> None:
        """Add what continues the chain.

        Where the digest before the first one is gone it is believed, unless there is a key: then nothing is.
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
"""What is asked of a log: its span, and who takes what is found."""


def _trimmed(asked: Span, stretch: SpanEvents) -> Trimmed:
    return Trimmed(
        f"events up to {stretch.base} of {asked.agent} were trimmed before they were read here: go on from "
        f"{stretch.base + 1}, or take what came before from a snapshot",
        agent=asked.agent,
        seq=asked.from_seq,
        expected=asked.from_seq,
        actual=stretch.base + 1,
    )


def _missing(run: FeedSlice, stretch: SpanEvents) -> CorruptEvent:
    seq = run.first_seq + len(run.bodies)
    return CorruptEvent(
        f"the feed names event {seq} of {run.agent}, which its log does not have; restore it from a backup",
        agent=run.agent,
        seq=seq,
        expected=run.stop - 1,
        actual=max(0, stretch.head),
    )
