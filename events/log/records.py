"""The values that are passed to a log and returned by it: appends, answers, heads, pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, NamedTuple, cast

from attrs import define, field, frozen

import msgpack

from ..codec import NO_DIGEST, Codec, to_datetime, unpack_plain


class Status(IntEnum):
    """The log's answer to one append of a batch. The numbers are those of `agents/append.lua`."""

    COMMITTED = 0
    DUPLICATE = 1
    """The same append was committed before, and its reply was lost."""
    FENCED = 2
    """Another process has claimed the agent."""
    CONFLICT = 3
    """The log has events that the writer did not know, although the fence is the writer's."""
    BEHIND = 4
    """The log lacks events that were acknowledged. Never append them again from memory."""
    GONE = 5
    """The log does not know the agent, and the append was not one that creates it."""
    CORRUPT = 6
    """Head and list do not fit together, or the last digest is not the writer's."""
    EXISTS = 7
    """The append would create the agent, but it exists."""
    DIVERGED = 8
    """Another process has claimed the agent, and the log has another event at the writer's seq."""
    UNMET = 9
    """Another agent lives, or does not, as the append requires. `Answer.head` is which of the requirements, from 0."""
    OWNED = 10
    """The append would create an agent in a tree that another host has. `Answer.fence` is its entry in `owners`."""
    ERASED = 11
    """As GONE, and an agent of this path was erased."""


ADD_TO_LIST: Final = -1
"""In the place of `Put.ttl_ms`: the key is a list, and the value is added to its end."""

KEEP: Final = -2
"""In the place of `Put.ttl_ms`: what was staged under the key for an agent stays now that it comes to be."""

NOTHING_UNFINISHED: Final = -1
"""In the place of `Append.due_ms`: the agent has no unfinished work any more."""
_MOST_METADATA: Final = 4_096
"""Bytes of metadata in a line of the directory, which is listed with all others."""


@frozen
class Put:
    """A value to write together with an append, such as a checkpoint. It replaces the value of its key.

    With `ttl_ms` 0 it has no end of life; with `ADD_TO_LIST` it is added at the end of a list instead. With `KEEP`
    nothing is written: where the key is not there any more, the append is answered `ERASED`.
    """

    key: str
    value: bytes
    ttl_ms: int = 0


@frozen
class RawPartition:
    """What a partition stores beside the logs of its agents, sound or not. Not of one moment."""

    heads: dict[str, Head | None]
    """By agent; None where it does not decode."""
    directory: dict[str, bytes]
    base: int
    """Entries that were trimmed from the feed; -1 where this is no number."""
    length: int
    """Entries in the feed; -1 where its key holds another type."""
    marks: dict[int, int]
    """Last position in the feed with an event of each level."""


@define(eq=False)
class Append:
    """One agent's part of a batch. Without items it only checks that fence and position still hold."""

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
    requires: tuple[tuple[str, bool], ...] = ()
    """Agents of the same partition, and whether each must have a session that has not ended. Needs an `entry`."""
    size: int = 0
    """Bytes of all items and puts."""
    due_ms: int | None = None
    """When the agent's unfinished work is to be looked at, on the server's clock (0: at once); `NOTHING_UNFINISHED`;
    None: as it was. It is written with the items, and so not without any."""
    last: bytes = b""
    """The log's last event as the writer knows it; the stored one must equal it. Empty: only its digest is compared."""


@frozen
class CommittedAppend:
    """The last event of an append that the log has committed: what is confirmed to a durability."""

    agent: str
    seq: int
    digest: bytes


@frozen
class Answer:
    """The log's answer to one append, with its head and fence; `claimed_at` is by the claimer's clock, in µs."""

    status: Status
    head: int = 0
    fence: str = ""
    claimed_at: int = 0


@frozen
class Head:
    """Where an agent's log stands. `base` events were trimmed: the first that is left is `base + 1`.

    `largest` is the most bytes that an item has; 0: not known. It helps readers, and is not compared.
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
    """Where an agent's log was trimmed: the last event removed, and its digest, which the next event continues."""

    seq: int
    digest: bytes


@frozen
class Claim:
    """The head after a claim, under the claimer's fence, and how many events the list really has."""

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
    """An agent's line in the directory: its head, and status, type and session as of its last lifecycle event.

    The status is `damaged`, and the head empty, where head or line cannot be read: other agents are listed still.
    """

    agent: str
    head: Head
    """The head as it is stored, with times in µs."""
    status: str
    agent_type: str | None
    session_id: str | None
    needs_class: bool = False
    """Whether the session runs under a class of the user's."""
    packed_metadata: bytes | None = field(default=None, repr=False)
    """The session's metadata in msgpack; None where the line has none, since it was written before, or is too large."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata that the session was spawned with; empty where the line has none. Raises CorruptEvent."""
        return {} if self.packed_metadata is None else cast("Mapping[str, Any]", unpack_plain(self.packed_metadata))

    @property
    def seq(self) -> int:
        """The position of the last event; 0 where the head cannot be read."""
        return self.head.seq

    @property
    def updated_at(self) -> datetime | None:
        """When the last event was written; None where the head cannot be read."""
        return to_datetime(self.head.updated_at) if self.head.updated_at else None


def damaged_entry(agent: str) -> Entry:
    """The entry of an agent whose head or line cannot be read."""
    return Entry(agent, Head(0, 0, NO_DIGEST, "", 0, 0), "damaged", None, None)


class Line(NamedTuple):
    """An agent's line in the directory, as of its last lifecycle event."""

    status: str
    agent_type: str | None
    session_id: str | None
    needs_class: bool = False
    """Whether the session runs under a class of the user's."""
    packed_metadata: bytes | None = None
    """The session's metadata in msgpack. In the line it is text of Latin-1: the server's scripts read no binary."""


def pack_line(line: Line, codec: Codec) -> bytes:
    """Return a line as bytes, without metadata of more than 4 KiB."""
    packed = line.packed_metadata
    kept = packed.decode("latin-1") if packed is not None and len(packed) <= _MOST_METADATA else None
    return codec.pack([line.status, line.agent_type, line.session_id, line.needs_class, kept])


def unpack_line(line: bytes | None) -> Line:
    """Read an agent's line in the directory.

    Raises ValueError and TypeError for a line that is none. An agent without a line is taken for a running one.
    """
    if line is None:
        return Line("running", None, None)
    status, agent_type, session_id, *others = cast("list[Any]", msgpack.unpackb(line, raw=False))
    packed = others[1] if len(others) > 1 else None
    metadata = None if packed is None else str.encode(packed, "latin-1")
    return Line(str(status), agent_type, session_id, others[:1] == [True], metadata)


@define(eq=False)
class Span:
    """A request for `count` events of one agent from `from_seq` on; with 0, for the digest of that event alone."""

    agent: str
    from_seq: int
    count: int


@define(eq=False)
class SpanEvents:
    """The events of a span: `items` as stored, from `first_seq` on, which is later where the log was trimmed.

    `base` is how many events were trimmed, `head` the last seq; both are -1 where there is no such agent. The answer to
    a request for a digest has it as its one item, or no item.
    """

    base: int
    head: int
    first_seq: int
    items: list[bytes]
    erasures: int = 0
    """How often entries of the partition's feed were made nobody's, until this was read."""


@frozen(eq=False, repr=False)
class FeedAccess:
    """What a process that borrows connections has to know: no address, user or password."""

    namespace: str
    partitions: int
    reply_timeout: float
    descriptors: Sequence[int]
    """Of sockets, each logged in and with its database chosen."""


FeedRequest = tuple[int, int, int]
"""A request for entries of a feed: partition, position, and at most so many entries after it."""

FeedRow = tuple[str, int, int, int]
"""The fields of a `FeedEntry`."""


@frozen
class FeedEntry:
    """One append in the partition's commit order. `levels` has bit `1 << level` for each granularity in it.

    That of an erased agent has no agent, and no levels.
    """

    agent: str
    first_seq: int
    count: int
    levels: int


@frozen
class FeedPage:
    """Consecutive entries of a feed after the position asked for, and where the feed ended at that moment."""

    fields: list[Any]
    """Agent, first seq, count and levels of an entry, then of the next: a million tuples would take long to make."""
    end: int
    erasures: int = field(default=0, eq=False)
    """How often entries of the feed were made nobody's, until this was read."""

    @property
    def rows(self) -> list[FeedRow]:
        each = iter(self.fields)
        return list(zip(each, each, each, each, strict=True))

    @property
    def entries(self) -> list[FeedEntry]:
        return [FeedEntry(*row) for row in self.rows]


@frozen
class Raw:
    """A part of an agent's list as stored, sound or not.

    `head` is None where there is none, or where it does not decode: then `head_is_damaged`. `length` is how many items
    the list has, -1 where the key holds another type.
    """

    head: Head | None
    head_is_damaged: bool
    length: int
    items: list[bytes]


@frozen
class SmallAgent:
    """All that is stored of one agent, sound or not. Not of one moment."""

    raw: Raw
    """With all items."""
    keyframes: list[int]
    snapshot: bytes | None


class BegunErasure(NamedTuple):
    """The note of an erasure: the host that does it, "" for none, and whether the agents are gone already."""

    host: str
    done: bool = False


@frozen
class Adoption:
    """A staged log, or one that only has a base, that is to become an agent: its head and what belongs to it.

    `fence` is `1:` and an id of this adoption, by which a repeated adoption is recognised.
    """

    agent: str
    seq: int
    base: int
    before: bytes
    """The digest that the first event continues."""
    digest: bytes
    fence: str
    updated_at: int
    entry: bytes
    """The agent's line in the directory."""
    largest: int
    """Bytes of the largest item."""
    levels: int
    """Bit `1 << level` for each granularity among the events."""
    puts: tuple[Put, ...] = ()
    staged_values: tuple[tuple[str, int], ...] = ()
    """Key and `ttl_ms` of each value that was staged for the agent."""
    has_keyframes: bool = False
    """Whether keyframes were staged for the agent."""
    contents: tuple[bytes, ...] = ()
    """The digest of each content that was staged for the agent."""
    feed_from: int | None = None
    """The first event that the feed has, and `levels` are about: those before it are no news. None: the log's first."""
    due_ms: int | None = None
    """When the agent's unfinished work is to be looked at, as `Append.due_ms`; None: it has none."""

    @property
    def first_in_feed(self) -> int:
        return self.base + 1 if self.feed_from is None else self.feed_from
