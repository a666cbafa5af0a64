"""What has happened to a list of events, from what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from attrs import frozen

from duramen.events.codec import DIGEST_SIZE, DigestChain

__all__ = ["Damage", "Kind", "damage_at"]


class Kind(StrEnum):
    """How something that is stored is wrong."""

    CHANGED = "changed"
    """An event's bytes are not those that were written."""
    MISSING = "missing"
    """The list has fewer events than its head says, from this seq on."""
    REORDERED = "reordered"
    """An event that belongs elsewhere in this log."""
    DUPLICATED = "duplicated"
    """An event that stands a few places before as well."""
    FOREIGN = "foreign"
    """An event that is not this log's: it continues nothing here, or is not one of ours, or the head knows no more."""
    SNAPSHOT = "snapshot"
    """A snapshot, checkpoint, keyframe or base that is damaged, or not the fold of the events up to it."""
    HEAD = "head"
    """The agent's head is missing or damaged, or names another last event."""


@frozen
class Damage:
    """How an item is wrong, and the digests that tell: what should stand there, and what does."""

    kind: Kind
    expected: str
    actual: str


@frozen
class _Item:
    """A stored item in its two parts."""

    digest: bytes
    body: bytes

    @classmethod
    def of(cls, stored: bytes) -> _Item:
        return cls(stored[:DIGEST_SIZE], stored[DIGEST_SIZE:])

    def continues(self, previous: bytes, chain: DigestChain) -> bool:
        return chain.digest(previous, self.body) == self.digest


def damage_at(
    items: Sequence[bytes],
    at: int,
    previous: bytes,
    known: Sequence[bytes],
    *,
    chain: DigestChain,
    end: bytes | None,
    short: int,
) -> Damage:
    """What has happened to `items[at]`, which does not continue `previous`.

    `items` has what stands around it, `known` the digests of all that continue each other before it, as far as they are
    at hand. `end` is the digest that the head names, if `items` reaches to the end of the list. `short` is by how many
    events the list is shorter than the head says; below 0, longer.
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
