"""The log, as the rest of the library sees it; `RedisLog` and `MemoryLog` are its two implementations.

The unit of commit is a batch: one append each for many agents of one partition. Each append is checked and
answered on its own; each is in the log whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from ..codec import DigestChain
from ..errors import DuramenError
from .consumer_store import ConsumerStore
from .content_cache import ContentCache
from .notices import NoticeStream
from .records import Answer, Append, Base, Claim, Entry, FeedAccess, FeedEntry, FeedPage, Head, Page, Span, SpanEvents

if TYPE_CHECKING:
    from .archive import Archive

__all__ = ["EventLog", "FeedSource", "LentConnections", "LogWriter", "ReadAhead"]


class LentConnections(Protocol):
    """Connections that nobody else is given until `close`. Used by one thread at a time."""

    @property
    def access(self) -> FeedAccess:
        """What the other process has to know besides."""
        ...

    def close(self) -> None:
        """Close them, for the other process too. Idempotent."""
        ...


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
    def chain(self) -> DigestChain:
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

    def gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[SpanEvents]:
        """Events of many agents of one partition as stored, in the order of the spans.

        Stops behind the event that reaches `most_bytes`: then the last stretch may be short, and others missing. A
        stretch is short, too, where the log ends. At least one event is returned if there is one.
        """
        ...

    def gather_all(self, asked: Sequence[tuple[int, Sequence[Span]]], most_bytes: int) -> list[list[SpanEvents]]:
        """As `gather` of each partition and its spans, asked together."""
        ...

    def ahead(self, partition: int) -> ReadAhead:
        """A new one, for a reader of that partition; it holds a connection only where something is asked for."""
        ...

    def lend(self, count: int) -> LentConnections | None:
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

    def consumer_store(self) -> ConsumerStore:
        """Where durable consumers keep their views and how far they have come."""
        ...

    def embeddings(self, model: str) -> ContentCache:
        """Where the vectors of an embedding model are kept: hash of a text → vector, as bytes."""
        ...

    def close(self) -> None: ...


class ReadAhead(Protocol):
    """For one reader of one partition, and one thread at a time.

    An optimisation only: nothing is raised, whatever is odd is left out, and who misses something asks for it in turn.
    """

    def ask(self, spans: Sequence[Span], position: int, limit: int, most_bytes: int) -> None:
        """Ask for these events, up to so many bytes, and at most `limit` entries of the feed behind `position`."""
        ...

    def go_on(self) -> None:
        """Ask for some more of it: a server is not to be busy with all at once. Never waits for answers."""
        ...

    def hurry(self) -> None:
        """Ask for all that is left of it: who asked has other things to do than to call `go_on`."""
        ...

    def take(self) -> tuple[list[SpanEvents | None], FeedPage | None]:
        """What was found of each span, all of it or None, and of the feed; waits for the answers."""
        ...

    def close(self) -> None:
        """Let go of the connection, and of what was asked for. It may be used again."""
        ...


class FeedSource(Protocol):
    """The part of `EventLog` that a `FeedReader` needs."""

    @property
    def chain(self) -> DigestChain: ...

    def feed_page(self, partition: int, position: int, limit: int) -> FeedPage: ...

    def gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[SpanEvents]: ...

    def ahead(self, partition: int) -> ReadAhead: ...
