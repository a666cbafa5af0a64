"""The kind of damage in a list of events, told from what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from attrs import frozen

from duramen.events.codec import DIGEST_SIZE, DigestChain


class Kind(StrEnum):
    """A kind of damage."""

    CHANGED = "changed"
    """An event's bytes are not those that were written."""
    MISSING = "missing"
    """The list has fewer events than its head says, from this seq on."""
    REORDERED = "reordered"
    """An event of this log stands at another seq."""
    DUPLICATED = "duplicated"
    """An event stands in the list a second time, a few places later."""
    FOREIGN = "foreign"
    """An event is not this log's: it continues nothing here, does not decode, or comes after the head."""
    SNAPSHOT = "snapshot"
    """A snapshot, checkpoint, keyframe or base is damaged, or is not the fold of the events up to it."""
    CONTENT = "content"
    """A text or bytes too large for an event, which stands beside the log, is missing or damaged."""
    HEAD = "head"
    """The agent's head is missing or damaged, or names another last event."""
    FEED = "feed"
    """The feed of a partition is damaged, or has other entries than its agents' logs."""
    DIRECTORY = "directory"
    """The agent's line in the directory is missing or damaged, or is not that of its last lifecycle event."""
    EPISODE = "episode"
    """A stored episode is damaged, missing, or recorded by no event."""
    UNFINISHED = "unfinished"
    """The index of unfinished work lacks the agent, has it too late, or has it without a reason."""
    VIEW = "view"
    """The record or the view of a durable consumer is damaged."""


@frozen
class Damage:
    """The damage of one item, with the digest computed for it and the digest stored in it, both in hex."""

    kind: Kind
    expected: str
    actual: str


@frozen(eq=False, repr=False)
class _Item:
    """A stored item, split into digest and body."""

    digest: bytes
    body: bytes

    @classmethod
    def of(cls, stored: bytes) -> _Item:
        return cls(stored[:DIGEST_SIZE], stored[DIGEST_SIZE:])

    def continues(self, previous: bytes, chain: DigestChain) -> bool:
        return chain.digest(previous, self.body) == self.digest


def classify_damage(
    items: Sequence[bytes],
    at: int,
    previous: bytes,
    known: Sequence[bytes],
    *,
    chain: DigestChain,
    end: bytes | None,
    short: int,
) -> Damage:
    """Classify the damage of `items[at]`, which does not continue the digest `previous`.

    `items` are the events around it, `known` the digests of the sound events before it. `end` is the digest in the
    head, if `items` reaches the end of the list. `short` is how many events the list lacks; negative: has too many.
    """
    item = _Item.of(items[at])
    computed = chain.digest(previous, item.body)

    def kind() -> Kind:
        nexts = _Item.of(items[at + 1]) if at + 1 < len(items) else None

        def leads_on(digest: bytes) -> bool:
            return nexts.continues(digest, chain) if nexts is not None else digest == end

        if leads_on(previous) and short < 0:
            return Kind.DUPLICATED if item.digest in known else Kind.FOREIGN
        if short > 0:
            return Kind.MISSING
        others = [_Item.of(other).digest for number, other in enumerate(items) if number != at]
        if any(item.continues(other, chain) for other in (*known[:-1], *others)):
            return Kind.REORDERED
        if len(item.digest) < DIGEST_SIZE or leads_on(item.digest) or leads_on(computed):
            return Kind.CHANGED
        return Kind.FOREIGN

    return Damage(kind(), computed.hex(), item.digest.hex())
