"""The log, as the rest of the library sees it; `RedisLog` and `MemoryLog` are its two implementations.

The unit of commit is a batch: one append each for many agents of one partition. Each append is checked and
answered on its own; each is in the log whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from attrs import define, field, frozen

from .chain import Chain
from .content_cache import ContentCache
from .errors import DuramenError
from .feed_page import FeedEntry, FeedPage, FeedRow
from .notices import Notice, NoticeStream
from .views import ViewStore

if TYPE_CHECKING:
    from .ahead import Ahead
    from .archive import Archive
    from .lending import Loan

__all__ = [
    "Answer",
    "Append",
    "Base",
    "Claim",
    "Entry",
    "EventLog",
    "FeedEntry",
    "FeedPage",
    "FeedRow",
    "Head",
    "LogWriter",
    "Notice",
    "NoticeStream",
    "Page",
    "Put",
    "Span",
    "Status",
    "Stretch",
]


class Status(IntEnum):
    """What the log says to one append of a batch. The numbers are those of `append.lua`."""

    COMMITTED = 0
    DUPLICATE = 1
    """The same bytes were committed before, by this same append: its reply was lost."""
    FENCED = 2
    """Another process has claimed the agent."""
    CONFLICT = 3
    """The log has events that the writer did not know of, though the fence is the writer's."""
    BEHIND = 4
    """The log lacks events that were acknowledged. Never append them again from memory."""
    GONE = 5
    """The log does not know the agent, and the append was not one that creates it."""
    CORRUPT = 6
    """Head and list do not fit together, or the last digest is another."""
    EXISTS = 7
    """The append would create the agent, but it exists."""


@frozen
class Put:
    """A snapshot or checkpoint to be written together with an append; `ttl_ms` 0 means for ever."""

    key: str
    value: bytes
    ttl_ms: int = 0


@define(eq=False)
class Append:
    """One agent's part of a batch. With no items it only asks whether fence and position still hold."""

    agent: str
    log_key: str
    expected: int
    """The seq the log must be at."""
    previous: bytes
    """The digest the log must be at."""
    fence: str
    items: list[bytes]
    """Digest and body of each event, as stored."""
    levels: bytes
    """The granularity of each item, a byte each."""
    updated_at: int = 0
    """Time of the last event in µs."""
    create: bool = False
    """The agent must not exist: this is its first append."""
    entry: bytes | None = None
    """The agent's new line in the directory, where its lifecycle changed."""
    puts: tuple[Put, ...] = ()
    size: int = 0
    """Bytes of all items and puts."""


@frozen
class Answer:
    """What the log says to one append. `head` and `fence` are the log's; `claimed_at` is the claimer's clock, in µs."""

    status: Status
    head: int = 0
    fence: str = ""
    claimed_at: int = 0


@frozen
class Head:
    """Where an agent's log stands. `base` is how many events were trimmed: the first that is left is `base + 1`.

    No item has more bytes than `largest`, if that is known (not 0): for readers, and no part of where the log stands.
    """

    seq: int
    base: int
    digest: bytes
    fence: str
    claimed_at: int
    updated_at: int
    largest: int = field(default=0, eq=False)


@frozen
class Base:
    """Where an agent's log was trimmed: the last event that is gone, and its digest, which the next one continues."""

    seq: int
    digest: bytes


@frozen
class Claim:
    """The head after a claim, now under the claimer's fence, and how many events the list really holds."""

    head: Head
    length: int


@frozen
class Page:
    """Consecutive events of one agent's log as stored, from `first_seq` on, with the head at that moment."""

    head: Head
    first_seq: int
    items: list[bytes]


@frozen
class Entry:
    """An agent's line in the directory: its head, and status, type and session as of its last lifecycle event."""

    agent: str
    head: Head
    status: str
    agent_type: str | None
    session_id: str | None


@define(eq=False)
class Span:
    """Events wanted of one agent: `count` of them from `from_seq` on. With 0 only the digest of that one."""

    agent: str
    from_seq: int
    count: int


@define(eq=False)
class Stretch:
    """What the log has of a span: `items` as stored, from `first_seq` on, which is later where the log was trimmed.

    `base` is how many events were trimmed, `head` the last seq; both are -1 where there is no such agent. Where only a
    digest was asked for, it is the one item, or there is none.
    """

    base: int
    head: int
    first_seq: int
    items: list[bytes]


class LogWriter(Protocol):
    """Sends batches and collects their answers, several under way at a time. Used by one thread at a time."""

    @property
    def in_flight(self) -> int:
        """How many batches wait for their answers."""
        ...

    @property
    def connected(self) -> bool:
        """Whether `receive` need not open a connection first."""
        ...

    def give_up(self) -> None:
        """Let all batches under way, and those to come, end as unknown. Callable from any thread."""
        ...

    def send(self, batches: Sequence[tuple[int, Sequence[Append]]]) -> None:
        """Start batches, each of one partition, which comes first.

        Never blocks for the answers, never raises for a lost server: `receive` tells.
        """
        ...

    def receive(self, timeout: float | None) -> list[tuple[Sequence[Append], list[Answer] | DuramenError]]:
        """Batches that are answered, in any order; waits for one, at most `timeout` seconds or until `wake`.

        An error in place of answers means that nothing of the batch is known to be written (`Unavailable`,
        `NotPermitted`), that it may be (`OutcomeUnknown`), or that it is, at a lower durability (`Unconfirmed`).
        """
        ...

    def wake(self) -> None:
        """End a `receive` that waits. Callable from any thread."""
        ...

    def close(self) -> None:
        """Let go of the connection; batches under way stay unanswered."""
        ...


class EventLog(Protocol):
    """Storage of events, snapshots and checkpoints. Every method blocks, is thread-safe, and raises typed errors."""

    @property
    def identity(self) -> str:
        """Identifies this log for ever; a restored or replaced database has another."""
        ...

    @property
    def partitions(self) -> int:
        """The number of partitions, fixed when the namespace was made."""
        ...

    @property
    def chain(self) -> Chain:
        """How digests and checksums are made here: with the integrity key that the log was opened with, or without."""
        ...

    @property
    def archive(self) -> Archive:
        """What readers of the past, auditors and movers of whole logs need."""
        ...

    @property
    def durability(self) -> str:
        """What an answered append has reached: `memory`, `fsync` or `replicas:n`."""
        ...

    def partition_of(self, agent: str) -> int: ...

    def log_key(self, agent: str) -> str: ...

    def snapshot_key(self, agent: str) -> str: ...

    def checkpoint_key(self, agent: str, checkpoint_id: str) -> str: ...

    def writer(self) -> LogWriter:
        """A new writer with a connection of its own."""
        ...

    def commit(self, partition: int, batch: Sequence[Append]) -> list[Answer]:
        """Send one batch and wait for its answers."""
        ...

    def claim(self, agents: Sequence[str], owner: str, now: int) -> list[Claim | None]:
        """Take agents over under new fences `epoch:owner`; None for those that do not exist. `now` is in µs."""
        ...

    def head(self, agent: str) -> Head | None:
        """Where an agent's log stands; None if there is none."""
        ...

    def read(self, agent: str, from_seq: int, limit: int) -> Page | None:
        """At most `limit` events from `from_seq` on, fewer where a page would grow too large; None: no such agent.

        Raises Trimmed if `from_seq` lies before the first event that is left.
        """
        ...

    def pages(self, agent: str, from_seq: int, to_seq: int | None) -> Iterator[Page]:
        """What `read` gives from `from_seq` on, page after page, up to `to_seq`; None: to the head of the first page.

        Ends early where the log does. The next page may be on its way while one is used, on a connection that is held
        until the end or `close`. Raises what `read` raises, and AgentNotFound.
        """
        ...

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        """Snapshots or checkpoints by key."""
        ...

    def exists(self, keys: Sequence[str]) -> list[bool]: ...

    def base_key(self, agent: str) -> str: ...

    def base(self, agent: str) -> Base | None:
        """Where an agent's log was trimmed; None if it is whole, or there is none. Raises CorruptEvent."""
        ...

    def trim(self, agent: str, base: Base, snapshot: bytes) -> None:
        """Remove an agent's events up to `base`, and put `snapshot`, its state there, at `base_key`: both, or neither.

        Needs no fence, and may happen while others append. Twice is the same as once. Raises AgentNotFound, Trimmed
        (trimmed further already), Diverged (the log has another event at `base`, or none) and CorruptEvent (head and
        list do not fit together); then nothing was changed.
        """
        ...

    def trim_feed(self, partition: int, position: int) -> int:
        """Remove the oldest entries of a feed up to `position`; what stays keeps its position.

        Returns how many were trimmed since the beginning: `position`, unless the feed does not reach so far, or was
        trimmed further already.
        """
        ...

    def directory(self) -> Iterator[Entry]:
        """All agents, in no order; those that change meanwhile come with their state before or after."""
        ...

    def feed(self, partition: int, position: int, limit: int) -> list[FeedEntry]:
        """Appends after feed position `position` (0: from the start).

        Raises Trimmed if some of them are no longer there; its `actual` is the first position to ask for.
        """
        ...

    def feed_page(self, partition: int, position: int, limit: int) -> FeedPage:
        """As `feed`, together with where the feed ends, which tells a reader that stands behind it."""
        ...

    def feed_pages(self, asked: Sequence[tuple[int, int, int]]) -> list[FeedPage]:
        """As `feed_page` of each partition, position and limit, asked together."""
        ...

    def gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[Stretch]:
        """Events of many agents of one partition as stored, in the order of the spans.

        Stops behind the event that reaches `most_bytes`: then the last stretch may be short, and others missing. A
        stretch is short, too, where the log ends. At least one event is returned if there is one.
        """
        ...

    def gather_all(self, asked: Sequence[tuple[int, Sequence[Span]]], most_bytes: int) -> list[list[Stretch]]:
        """As `gather` of each partition and its spans, asked together."""
        ...

    def ahead(self, partition: int) -> Ahead:
        """A new one, for a reader of that partition; it holds a connection only where something is asked for."""
        ...

    def lend(self, count: int) -> Loan | None:
        """So many connections for another process, which then reads feeds as a `BorrowedFeed`; None where it cannot.

        That is a log in memory, one with an integrity key, which is nobody else's business, and one whose connections
        are encrypted, or can be only few; and as long as some are lent already. To be closed when it is not used any
        more. Never raises for a lost server.
        """
        ...

    def positions(self) -> list[int]:
        """Where the feed of each partition ends."""
        ...

    def notices(self, *, events: bool = False) -> NoticeStream:
        """A new stream with a connection of its own, following nothing yet; with `events`, `told` has them."""
        ...

    def views(self) -> ViewStore:
        """Where durable consumers keep their views and how far they have come."""
        ...

    def embeddings(self, model: str) -> ContentCache:
        """Where the vectors of an embedding model are kept: hash of a text → vector, as bytes."""
        ...

    def close(self) -> None: ...
