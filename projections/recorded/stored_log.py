"""One agent's log as it is stored, in memory."""

from __future__ import annotations

from attrs import frozen

from duramen.events import Event, EventRegistry, Limits
from duramen.events.codec import DIGEST_SIZE, Codec, RawEvent, build_event, decode_body
from duramen.events.model import DECLARED

from .as_code import format_rows, rows_of


@frozen
class StoredLog:
    """One agent's log as it is stored."""

    items: tuple[bytes, ...] = ()
    agent: str = "project/agent"
    registry: EventRegistry = DECLARED

    def __len__(self) -> int:
        return len(self.items)

    def raws(self) -> list[RawEvent]:
        """Raw fields of each event; new objects each time."""
        codec = Codec(Limits())
        return [decode_body(self.agent, seq, item[DIGEST_SIZE:], codec) for seq, item in enumerate(self.items, 1)]

    def events(self) -> list[Event]:
        """The events in today's version, as a reader gets them; new objects each time."""
        found = enumerate(zip(self.raws(), self.items, strict=True), 1)
        return [build_event(self.agent, seq, raw, item[:DIGEST_SIZE], self.registry) for seq, (raw, item) in found]

    def code(self) -> str:
        """Python code of the events."""
        return format_rows(rows_of(self.raws()))

    def __repr__(self) -> str:
        return self.code()
