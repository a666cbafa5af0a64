"""One agent's log, with all that reading it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attrs import Factory, evolve, field, frozen

from duramen.events import AgentNotFound, Event, EventRegistry, Limits
from duramen.events.codec import (
    CONTENT_MARK,
    DIGEST_SIZE,
    Codec,
    RawEvent,
    SnapshotRecord,
    decode_items,
    pack_snapshot,
    unpack_snapshot,
)
from duramen.events.log import EventLog, Head, digest_at, raw_events, read_events
from duramen.events.model import DECLARED

from ..state import SCHEMA, AgentState

SETTERS_SCHEMA: Final = "setters-1"
"""The form of what is kept beside a keyframe. Setters of another form are ignored."""


def _codec_of(agent_log: AgentLog) -> Codec:
    return Codec(agent_log.limits)


@frozen(eq=False, repr=False)
class AgentLog:
    """The log of one agent. Not thread-safe, because of the codec."""

    log: EventLog
    agent: str
    limits: Limits
    registry: EventRegistry = DECLARED
    codec: Codec = Factory(_codec_of, takes_self=True)

    def of(self, agent: str) -> AgentLog:
        """The log of another agent in the same store."""
        return evolve(self, agent=agent)

    def head(self) -> Head:
        """Where the log ends. Raises AgentNotFound."""
        head = self.log.head(self.agent)
        if head is None:
            raise AgentNotFound(f"there is no agent {self.agent}; spawn it first", agent=self.agent)
        return head

    def digest_at(self, seq: int) -> bytes | None:
        """The digest of one event, None if there is no such event. Raises AgentNotFound, Trimmed."""
        return digest_at(self.log, self.agent, seq)

    def raw_events(self, after: int, digest: bytes, to_seq: int | None) -> Iterator[tuple[int, RawEvent, bytes]]:
        """Seq, raw fields and digest of the events that follow `after`, whose own digest is given. See `raw_events`."""
        return raw_events(self.log, self.agent, self.codec, after=after, digest=digest, to_seq=to_seq)

    def events_after(self, state: AgentState, to_seq: int | None) -> Iterator[tuple[int, RawEvent, bytes]]:
        """Seq, raw fields and digest of each event after a state, up to `to_seq`. Raises as `raw_events`."""
        return self.raw_events(state.seq, state.digest, to_seq)

    def raw_event(self, seq: int) -> RawEvent:
        """One event that the log has."""
        return next(self.raw_events(seq - 1, self.digest_at(seq - 1) or b"", seq))[1]

    def events(self, from_seq: int, to_seq: int) -> Iterator[Event]:
        """Checked events. Raises as `read_events`."""
        return read_events(self.log, self.agent, self.codec, self.registry, from_seq=from_seq, to_seq=to_seq)

    def snapshot(self) -> bytes | None:
        """The stored bytes of the automatic snapshot."""
        return self.log.load([self.log.snapshot_key(self.agent)])[0]

    def pack_state(self, state: AgentState, fields: dict[str, Any]) -> bytes:
        """The bytes of a snapshot of a state, with more `fields`. Raises TooLarge, ValueRefused."""
        fields = {"agent": state.dump(), **fields}
        record = SnapshotRecord(self.agent, state.seq, state.digest, state.updated_at, SCHEMA, fields)
        return pack_snapshot(record, self.codec, self.limits, self.log.chain)

    def pack_setters(self, state: AgentState, fields: dict[str, Any]) -> bytes:
        """The bytes of what set the values of a state, kept beside a keyframe. Raises TooLarge, ValueRefused."""
        record = SnapshotRecord(self.agent, state.seq, state.digest, state.updated_at, SETTERS_SCHEMA, fields)
        return pack_snapshot(record, self.codec, self.limits, self.log.chain)

    def unpack_snapshot(self, stored: bytes) -> SnapshotRecord:
        """The snapshot in stored bytes. Raises CorruptEvent."""
        return unpack_snapshot(stored, self.agent, self.codec, self.limits, self.log.chain)


@frozen(eq=False, repr=False)
class LoadedAgentLog(AgentLog):
    """The log of one agent whose latest events and automatic snapshot were read before. All else is read when asked."""

    first_seq: int = field(kw_only=True)
    items: list[bytes] = field(kw_only=True)
    """The events from `first_seq` up to the head, as stored."""
    stored_snapshot: bytes | None = field(kw_only=True)

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.items) - 1

    @property
    def may_hold_content(self) -> bool:
        """Whether the events that were read may refer to content, which was not read."""
        return any(CONTENT_MARK in item for item in self.items)

    def of(self, agent: str) -> AgentLog:
        return AgentLog(self.log, agent, self.limits, self.registry, self.codec)

    def digest_at(self, seq: int) -> bytes | None:
        if self.first_seq <= seq <= self.last_seq:
            return self.items[seq - self.first_seq][:DIGEST_SIZE]
        return super().digest_at(seq)

    def raw_events(self, after: int, digest: bytes, to_seq: int | None) -> Iterator[tuple[int, RawEvent, bytes]]:
        first = self.first_seq
        if to_seq is None or after + 1 < first or to_seq > self.last_seq:
            return super().raw_events(after, digest, to_seq)
        items = self.items[after + 1 - first : to_seq + 1 - first]
        return decode_items(self.agent, items, self.codec, self.log.chain, after=after, digest=digest)

    def snapshot(self) -> bytes | None:
        return self.stored_snapshot
