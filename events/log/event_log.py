"""The log as protocols, each for one kind of reader or writer; `RedisLog` and `MemoryLog` answer all of them.

The unit of commit is a batch: one append each for many agents of one partition. Each append is checked and
answered on its own; each is in the log whole or not at all. `LogBase` answers what follows from other answers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Protocol

from ..codec import DigestChain
from ..errors import DuramenError
from .archive import Archive
from .consumer_store import ConsumerStore
from .content_store import ContentCache, ContentStore
from .durability import Durability
from .host_store import HostStore
from .notices import NoticeStream
from .output_store import OutputStore
from .records import (
    Answer,
    Append,
    Base,
    Claim,
    CommittedAppend,
    Entry,
    FeedAccess,
    FeedPage,
    FeedRequest,
    Head,
    Page,
    Span,
    SpanEvents,
)


class LogKeys(Protocol):
    """Where the parts of an agent's log are stored."""

    def partition_of(self, agent: str) -> int: ...

    def log_key(self, agent: str) -> str: ...

    def snapshot_key(self, agent: str) -> str: ...

    def base_key(self, agent: str) -> str: ...

    def checkpoint_key(self, agent: str, checkpoint_id: str) -> str: ...

    def episodes_key(self, agent: str) -> str: ...


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
        """Start batches, each as its partition and its appends.

        Never blocks for the answers, and never raises for a lost server: `receive` returns the error.
        """
        ...

    def receive(self, timeout: float | None) -> list[tuple[Sequence[Append], list[Answer] | DuramenError]]:
        """Batches that are answered, in any order; waits for one, at most `timeout` seconds or until `wake`.

        An answer says that the server has committed; `LogAppender.confirm` asks for more. An error in place of answers
        means that nothing of the batch is known to be written (`Unavailable`, `NotPermitted`), or that it may be
        (`OutcomeUnknown`).
        """
        ...

    def wake(self) -> None:
        """End a `receive` that waits. Callable from any thread."""
        ...

    def close(self) -> None:
        """Release the connection; batches under way stay unanswered."""
        ...


class LogAppender(Protocol):
    """Appending, and the right to do so."""

    @property
    def durability(self) -> str:
        """What an append reaches unless it asks for another: `memory`, `fsync` or `replicas:n`."""
        ...

    @property
    def committed_durability(self) -> str:
        """What every committed append has reached without being confirmed: `memory` or `fsync`."""
        ...

    @property
    def unconfirmed(self) -> Durability | None:
        """What a committed append has to be confirmed to, to reach `durability`; None: it has reached it."""
        ...

    def require_durability(self, asked: Durability) -> Durability | None:
        """What a committed append has to be confirmed to, to reach `asked`; None: it has reached it.

        Raises DurabilityUnavailable where it cannot be reached here. Does not ask the server.
        """
        ...

    def confirm(self, durability: Durability, appends: Sequence[CommittedAppend]) -> list[DuramenError | None]:
        """Wait until committed appends have reached a durability. None for each that has, and else why it has not.

        `Unconfirmed`: it is in the log, but not known to be as safe as asked, in time. `DataLoss`: the server that
        answers does not have it. Blocks for up to half the time-out of a reply, and longer where the server is lost.
        """
        ...

    def confirmed_by(self, agent: str) -> Hashable:
        """Name the server that confirms an agent's appends, as far as is known: those of others need not wait for it.

        Asks nobody.
        """
        ...

    def writer(self) -> LogWriter:
        """A new writer with a connection of its own."""
        ...

    def commit(self, partition: int, batch: Sequence[Append]) -> list[Answer]:
        """Send one batch, and wait for its answers and for `durability`. Raises what `confirm` finds."""
        ...

    def claim(self, agents: Sequence[str], owner: str, now: int) -> list[Claim | None]:
        """Take agents over under new fences `epoch:owner`; None for those that do not exist. `now` is in µs."""
        ...


class AgentLogReader(Protocol):
    """Reading one agent's log, and the states stored with it."""

    @property
    def chain(self) -> DigestChain:
        """How digests and checksums are made here: with the integrity key that the log was opened with, or without."""
        ...

    def head(self, agent: str) -> Head | None:
        """Where an agent's log stands; None if there is none. Raises CorruptEvent."""
        ...

    def read(self, agent: str, from_seq: int, limit: int, *, seen: Head | None = None) -> Page | None:
        """At most `limit` events from `from_seq` on, fewer where a page would grow too large; None: no such agent.

        `seen` is a head that was read before: it may make the reading cheaper, and changes nothing else.

        Raises CorruptEvent, and Trimmed if `from_seq` lies before the first event that is left.
        """
        ...

    def pages(self, agent: str, from_seq: int, to_seq: int | None) -> Iterator[Page]:
        """What `read` gives from `from_seq` on, page after page, up to `to_seq`; None: to the head of the first page.

        Ends early where the log does. The next page may be on its way while one is used, on a connection that is held
        until the end or `close`. Raises what `read` raises, and AgentNotFound.
        """
        ...

    def base(self, agent: str) -> Base | None:
        """Where an agent's log was trimmed; None if it is whole, or there is none. Raises CorruptEvent."""
        ...

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        """Snapshots or checkpoints by key."""
        ...

    def exists(self, keys: Sequence[str]) -> list[bool]: ...


class LogTrimmer(Protocol):
    """Removing the oldest events and feed entries."""

    def trim(self, agent: str, base: Base, snapshot: bytes) -> None:
        """Remove an agent's events up to `base`, and put `snapshot`, its state there, at `base_key`: both, or neither.

        Needs no fence, and may happen while others append. Twice is the same as once. Raises AgentNotFound, Trimmed
        (trimmed further already), Diverged (the log has another event at `base`, or none) and CorruptEvent (head and
        list do not fit together); then nothing was changed.
        """
        ...

    def trim_feed(self, partition: int, position: int) -> int:
        """Remove the oldest entries of a feed up to `position`; the others keep their positions.

        Returns how many were trimmed since the beginning: `position`, unless the feed does not reach so far, or was
        trimmed further already.
        """
        ...


class ReadAhead(Protocol):
    """Fetches what one reader of one partition needs next, while it works. Used by one thread at a time.

    An optimisation only: it raises nothing and leaves out whatever is not as expected, which the reader then asks for.
    """

    def request(self, spans: Sequence[Span], position: int, limit: int, most_bytes: int) -> None:
        """Ask for these events, up to so many bytes, and at most `limit` entries of the feed after `position`."""
        ...

    def send_more(self) -> None:
        """Send the next part of the request: a server is not to be busy with all at once. Never waits for replies."""
        ...

    def send_all(self) -> None:
        """Send what is left of the request, for a reader that will not call `send_more` for a while."""
        ...

    def collect(self) -> tuple[list[SpanEvents | None], FeedPage | None]:
        """The events of each span, all of them or None, and the feed entries; waits for the replies."""
        ...

    def close(self) -> None:
        """Release the connection, and drop the request. It may be used again."""
        ...


class FeedSource(Protocol):
    """What a reader of one partition's feed needs."""

    @property
    def chain(self) -> DigestChain: ...

    def feed_page(self, partition: int, position: int, limit: int) -> FeedPage:
        """At most `limit` appends after feed position `position` (0: from the start), and where the feed ends.

        Raises Trimmed if some of them are no longer there; its `actual` is the first position to ask for.
        """
        ...

    def gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[SpanEvents]:
        """Events of many agents of one partition as stored, in the order of the spans.

        Stops after the event that reaches `most_bytes`: then the last span may be short, and others missing. A
        span is short, too, where the log ends. At least one event is returned if there is one. Raises CorruptEvent.
        """
        ...

    def erased_until(self, partition: int, agent: str) -> int:
        """Where the feed ended when an agent of this path was last erased; -1: never."""
        ...

    def read_ahead(self, partition: int) -> ReadAhead | None:
        """A new `ReadAhead` for one reader; it has a connection while something is requested. None: no use here."""
        ...


class LentConnections(Protocol):
    """Connections that no other thread is given until `close`. Used by one thread at a time."""

    @property
    def access(self) -> FeedAccess:
        """What the borrowing process needs to know."""
        ...

    def close(self) -> None:
        """Close them, for the borrowing process too. Idempotent."""
        ...


class FeedSources(FeedSource, Protocol):
    """What readers of several partitions' feeds need."""

    @property
    def partitions(self) -> int:
        """The number of partitions, fixed when the namespace was made."""
        ...

    def positions(self) -> list[int]:
        """Where the feed of each partition ends."""
        ...

    def erasures(self, partitions: Sequence[int]) -> list[int]:
        """How often entries of the feed of each of these partitions were made nobody's, as in `FeedPage`."""
        ...

    def erased_agents(self, partition: int, agents: Sequence[str]) -> dict[str, int]:
        """Those of these agents whose path was ever erased, each with its `erased_until`."""
        ...

    def feed_pages(self, requests: Sequence[FeedRequest]) -> list[FeedPage]:
        """As `feed_page` for each request, asked together."""
        ...

    def gather_all(self, requests: Sequence[tuple[int, Sequence[Span]]], most_bytes: int) -> list[list[SpanEvents]]:
        """As `gather` for each partition and its spans, asked together."""
        ...

    def lend(self, count: int) -> LentConnections | None:
        """So many connections for another process, which reads feeds over them as a `BorrowedFeed`. To be closed.

        None where that cannot be: a log in memory or with an integrity key, encrypted connections, a pool of few, or
        as long as some are lent already. Never raises for a lost server.
        """
        ...


class EventLog(LogKeys, LogAppender, AgentLogReader, LogTrimmer, FeedSources, Protocol):
    """Storage of events, snapshots and checkpoints. Every method blocks, is thread-safe, and raises typed errors."""

    @property
    def identity(self) -> str:
        """Identifies this log for ever; a restored or replaced database has another."""
        ...

    @property
    def archive(self) -> Archive:
        """What readers of the past, auditors and movers of whole logs need."""
        ...

    @property
    def hosts(self) -> HostStore:
        """The hosts that share this log's agents, and which of them has which."""
        ...

    @property
    def contents(self) -> ContentStore:
        """What is too large for agents' events, beside their logs."""
        ...

    @property
    def outputs(self) -> OutputStore:
        """What agents are saying: live output, which is no part of their logs."""
        ...

    def directory(self, partition: int | None = None, *, metadata: Mapping[str, str] | None = None) -> Iterator[Entry]:
        """All agents, or those of a partition, in no order; those that change meanwhile come as before or after.

        With `metadata` others than those that have these items may be left out; it is for the caller to compare.
        """
        ...

    def notices(self, *, events: bool = False) -> NoticeStream:
        """A new stream with a connection of its own, following nothing yet; with `events`, its notices have them."""
        ...

    def consumer_store(self) -> ConsumerStore:
        """Where durable consumers store their views and positions."""
        ...

    def embeddings(self, model: str) -> ContentCache:
        """Where the vectors of an embedding model are stored: hash of a text → vector, as bytes."""
        ...

    def drop_vectors(self, texts: Sequence[bytes]) -> None:
        """Remove the vectors of texts, by their hashes, of all models."""
        ...

    def close(self) -> None: ...
