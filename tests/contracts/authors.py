"""Somebody who writes an agent's log: knows where it stands, and makes the appends that continue it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, evolve

from duramen.events.codec.event_codec import DIGEST_SIZE, NO_DIGEST, chain
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Answer, Append, Head, Put, Status
from duramen.events.model.event import Granularity

__all__ = ["FENCE", "Author", "commit_one", "head_of", "linked"]

FENCE = "1:first-owner"


def linked(previous: bytes, bodies: Sequence[bytes]) -> list[bytes]:
    """Bodies as stored items, each behind its digest."""
    items: list[bytes] = []
    for body in bodies:
        previous = chain(previous, body)
        items.append(previous + body)
    return items


def commit_one(log: EventLog, append: Append) -> Answer:
    return log.commit(log.partition_of(append.agent), [append])[0]


def head_of(log: EventLog, agent: str) -> Head:
    """Of an agent that exists."""
    head = log.head(agent)
    assert head is not None
    return head


@define
class Author:
    """An append is made where the author believes the log to stand; `settle` moves it there once it is committed."""

    log: EventLog
    agent: str = "acme/alice"
    fence: str = FENCE
    seq: int = 0
    digest: bytes = NO_DIGEST
    made: int = 0

    def append(
        self,
        *bodies: bytes,
        level: int = Granularity.STATE,
        levels: bytes | None = None,
        puts: Sequence[Put] = (),
        **changes: Any,
    ) -> Append:
        items = linked(self.digest, bodies)
        made = Append(
            agent=self.agent,
            log_key=self.log.log_key(self.agent),
            expected=self.seq,
            previous=self.digest,
            fence=self.fence,
            items=items,
            levels=bytes([level]) * len(items) if levels is None else levels,
            updated_at=1_700_000_000_000_000 + self.seq,
            create=self.seq == 0,
            puts=tuple(puts),
            size=sum(map(len, items)),
        )
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def bodies(self, count: int) -> list[bytes]:
        """That many bodies, none of which was there before."""
        self.made += count
        return [b"event %d" % number for number in range(self.made - count, self.made)]

    def settle(self, append: Append, answer: Answer) -> None:
        assert answer.status is Status.COMMITTED, answer
        if append.items:
            self.seq = append.expected + len(append.items)
            self.digest = append.items[-1][:DIGEST_SIZE]

    def write(self, *bodies: bytes, **options: Any) -> Append:
        """Append and expect it to be committed."""
        append = self.append(*bodies, **options)
        self.settle(append, commit_one(self.log, append))
        return append

    def fill(self, count: int) -> Author:
        """Append so many events, in one append."""
        self.write(*self.bodies(count))
        return self

    def copy(self) -> Author:
        """Another who believes the same."""
        return evolve(self)

    def after_claim(self, owner: str = "second-owner", now: int = 5) -> Author:
        """Another who has taken the agent over, and so has read where it stands."""
        claim = self.log.claim([self.agent], owner, now)[0]
        assert claim is not None
        head = claim.head
        return evolve(self, fence=head.fence, seq=head.seq, digest=head.digest)
