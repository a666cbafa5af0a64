"""Hosts, owners of trees, and the channels of processes: how several processes share the agents of one log.

A host is one opening of a system that runs actors. `owners` says which host is asked about a tree (a root agent with
its sub-agents); who may append is said by the fence in an agent's head, and by nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final, Literal, Protocol, cast

from attrs import frozen

import msgpack

from .records import Head

HostState = Literal["up", "client", "draining", "closed", "buried"]
"""`client`: it takes no trees; `draining`: no more of them. `closed` and `buried`, declared dead, are for ever."""

_STATES: Final[dict[Any, HostState]] = {
    "up": "up",
    "client": "client",
    "draining": "draining",
    "closed": "closed",
    "buried": "buried",
}
_OWNED: Final = re.compile(r"(\d{1,15}):(\S{0,128})\Z", re.ASCII)


@frozen
class HostRecord:
    """One host, as its row says."""

    host: str
    """32 hexadecimal digits, new at each opening and never used again."""
    beat: int = 0
    """How often it has beaten."""
    state: HostState = "up"
    machine: tuple[str, int, int, int] | None = None
    """Boot id, pid namespace, pid, and start time of the process in clock ticks after boot; None: not known."""
    protocol: int = 1
    agent_types: tuple[str, ...] = ()
    message_types: tuple[str, ...] = ()
    load: int = 0
    """Agents in its memory at its last beat."""
    ended_at: int = 0
    """Wall clock in seconds of the process that closed or buried it; 0 while it has not ended."""

    @property
    def has_ended(self) -> bool:
        return self.state in ("closed", "buried")


@frozen
class Owner:
    """Which host has a tree; `host` is empty where nobody has it. Each change of hands raises the epoch."""

    epoch: int = 0
    host: str = ""

    @property
    def text(self) -> str:
        """As stored."""
        return f"{self.epoch}:{self.host}"


@frozen
class Located:
    """Who has an agent's tree, and what is known of the agent; head and line are None where there is no such agent."""

    owner: Owner
    head: Head | None
    line: bytes | None
    """Its line in the directory, as stored: msgpack [status, agent type, session id, …]."""


@frozen
class ClaimAnswer:
    """Whether a claim was made, now or by an earlier copy of it, and what stands there after it.

    `head` is None if there is no such agent. `length` is how many events its list really has, if it was claimed.
    """

    claimed: bool
    owner: Owner
    head: Head | None
    length: int = 0


@frozen
class Unfinished:
    """An agent with unfinished work, and who has its tree."""

    agent: str
    due_ms: int
    """When it is to be looked at, on the server's clock; 0: at once."""
    owner: Owner


@frozen
class UnfinishedPage:
    """Agents whose unfinished work is due, in the order of due time and path."""

    until_ms: int
    """Up to when: the server's clock, unless another time was given."""
    agents: list[Unfinished]
    next_due_ms: int | None
    """When the next is due that is not due yet; None: none is, or not known, because more may be due."""


class MessageStream(Protocol):
    """What is published on one host's channel. It connects, and subscribes again, by itself.

    A server keeps nothing for those who do not listen: what is published while the connection is lost is lost.
    `receive` is called by one thread at a time, the others by any.
    """

    @property
    def subscriptions(self) -> int:
        """How often the server has confirmed the subscription: if it has grown, messages may have been lost before."""
        ...

    def receive(self, timeout: float | None) -> list[bytes]:
        """Messages in the order of their arrival, without the host's own beats.

        Waits at most `timeout` seconds for one, and ends early and empty-handed after a `wake`, a new subscription
        or `close`. Never raises for a lost server.
        """
        ...

    def wake(self) -> None:
        """End a `receive` that waits, or the next one."""
        ...

    def close(self) -> None:
        """Release the connection. Idempotent."""
        ...


class MessagePublisher(Protocol):
    """Publishes on the channels of hosts, without waiting. Used by one thread at a time.

    Over one connection, or in a cluster over one to each node with channels, opened when there is something for it.
    """

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection on which everything sent before was answered."""
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether `collect` has something to send that could not be sent at once."""
        ...

    @property
    def losses(self) -> int:
        """How many connections were lost, with what was sent on them and not answered."""
        ...

    def publish(
        self, messages: Sequence[tuple[str, bytes]], contents: Sequence[tuple[str, bytes]], ttl_ms: int
    ) -> None:
        """Store contents, each under its id, for `ttl_ms`, then publish messages, each to a host, in this order.

        Never blocks, and never raises for a lost server. Without a connection nothing is sent: `collect` opens one.
        What was sent on a connection that is lost may or may not have arrived; it is not sent again.
        """
        ...

    def collect(self, timeout: float) -> None:
        """Send what could not be sent at once and read answers, until `is_ready`, at most for `timeout` seconds.

        Opens a connection where there is none, which may block for longer; after a loss there are pauses. Never raises
        for a lost server.
        """
        ...

    def close(self) -> None:
        """Release the connection. Idempotent."""
        ...


class HostStore(Protocol):
    """Hosts and owners on the server. Every method blocks, is thread-safe, and raises typed errors.

    Each change is one script, and may be repeated: where a reply is lost the same call is sent again, and a copy that
    arrives late changes nothing.
    """

    @property
    def secret(self) -> bytes:
        """32 bytes that key what processes send each other: made from the log's integrity key, or stored beside it."""
        ...

    # -- hosts -----------------------------------------------------------------------------------------------------

    def join(self, record: HostRecord) -> None:
        """Add a host. Does nothing if it is there: an id that was used is never used again."""
        ...

    def beat(self, host: str, load: int) -> int | None:
        """Raise a host's beat, and return it; None if the host is buried or unknown, and so has lost all it had.

        The beat is also published on the host's own channel, by which its `MessageStream` sees that it still receives.
        Passes when memory is full.
        """
        ...

    def time(self) -> int | None:
        """The server's time in µs since the epoch; None: this user may not ask for it."""
        ...

    def set_state(self, host: str, state: Literal["draining", "closed"]) -> bool:
        """Say that a host drains, or has closed and gives up all its trees. False: it is buried or unknown."""
        ...

    def announce(self, host: str, agent_types: Sequence[str]) -> None:
        """Change the agent types in a host's row, if it has one that can be read."""
        ...

    def hosts(self) -> list[HostRecord]:
        """All hosts with a row that can be read, in the order of their ids. A host without one counts as buried."""
        ...

    def find(self, host: str) -> HostRecord | None:
        """One host; None without a row that can be read."""
        ...

    def bury(self, host: str, beat: int) -> bool:
        """Declare a host dead for ever if its beat is still `beat`. True: it has ended, now or before.

        False: it has beaten since. Passes when memory is full.
        """
        ...

    def forget(self, hosts: Collection[str]) -> None:
        """Remove the rows of hosts that have ended; those of others stay."""
        ...

    # -- owners ----------------------------------------------------------------------------------------------------

    def owner(self, agent: str) -> tuple[Owner, Head | None]:
        """Who has the agent's tree, and the agent's head, in one exchange. Raises CorruptEvent."""
        ...

    def locate(self, agent: str) -> Located:
        """As `owner`, with the agent's line in the directory, in one exchange. Raises CorruptEvent."""
        ...

    def locate_all(self, agents: Sequence[str]) -> list[Located]:
        """As `locate` for each agent, in one exchange with each server."""
        ...

    def claim_all(self, claims: Sequence[tuple[str, Owner, Head]], host: str, now: int) -> list[ClaimAnswer]:
        """As `claim` for each agent, owner and head, in one exchange with each server; each is claimed, or not, alone.

        Where it raises, some may be claimed.
        """
        ...

    def claim(self, agent: str, seen: Owner, head: Head, host: str, now: int) -> ClaimAnswer:
        """Take an agent over for `host` at exactly the head that it was folded to, if its tree is still as `seen`.

        The tree must be as `seen` or this host's already, and seq, digest and fence those of `head`. Then the tree is
        this host's, and the agent's fence `epoch + 1:host`, claimed at `now` (µs). Otherwise nothing changes, and the
        answer has what stands there. Passes when memory is full. Raises CorruptEvent for a damaged head.
        """
        ...

    def take(self, agent: str, seen: Owner, host: str) -> Owner:
        """Take the tree of an agent that has no log yet; returns who has it afterwards."""
        ...

    def release(self, agent: str, held: Owner) -> bool:
        """Give a tree up, if it is still held exactly as `held` says. False: somebody else has it."""
        ...

    def unfinished(
        self, partition: int, limit: int, *, after: Unfinished | None = None, until_ms: int | None = None
    ) -> UnfinishedPage:
        """At most `limit` agents (and 1,000) of a partition whose unfinished work is due, after the last of a page.

        Until now by the server's clock, unless told otherwise. An agent that does not change while the pages are read
        is on one of them; one that changes may be on two, or on none.
        """
        ...

    # -- channels --------------------------------------------------------------------------------------------------

    def publish(self, host: str, message: bytes) -> int:
        """Publish on a host's channel; returns how many were listening, of which nothing must depend."""
        ...

    def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """As `publish` for each, sent together."""
        ...

    def publisher(self) -> MessagePublisher:
        """A new publisher, with a connection of its own that is opened by its first `collect`."""
        ...

    def listen(self, host: str) -> MessageStream:
        """A new stream of a host's channel, with a connection of its own that is opened at the first `receive`."""
        ...

    def put_content(self, content: bytes, ttl_ms: int) -> str:
        """Store what is too large for a message; returns the id to send instead. Gone after `ttl_ms`."""
        ...

    def get_content(self, content_id: str) -> bytes | None:
        """What was stored under an id; None if it is gone, or was never there."""
        ...


def owner_of(stored: bytes | None) -> Owner:
    """Who has a tree, from the entry in `owners`: nobody if it is missing or has any other form than `epoch:host`."""
    found = _OWNED.match((stored or b"").decode(errors="replace"))
    return Owner(int(found[1]), found[2]) if found else Owner()


def pack_host(record: HostRecord) -> bytes:
    """A host's row. Raises what msgpack raises."""
    # False, not None: in a table of Lua a nil is a hole.
    r = record
    machine = list(r.machine) if r.machine else False
    return msgpack.packb(
        [r.beat, r.state, machine, r.protocol, r.agent_types, r.message_types, r.load, r.ended_at], use_bin_type=False
    )


def unpack_host(host: str, stored: bytes) -> HostRecord | None:
    """A host's record; None if the row cannot be read. A row of a newer release may have more fields."""
    try:
        beat, state, machine, protocol, agent_types, message_types, load, ended_at, *_ = cast(
            "list[Any]", msgpack.unpackb(stored)
        )
        boot, *numbers = machine or ("", 0, 0, 0)
        namespace, pid, started = map(int, numbers)
        return HostRecord(
            host,
            int(beat),
            _STATES[state],
            (str(boot), namespace, pid, started) if machine else None,
            int(protocol),
            tuple(map(str, agent_types)),
            tuple(map(str, message_types)),
            int(load),
            int(ended_at),
        )
    except (ValueError, TypeError, KeyError):
        return None
