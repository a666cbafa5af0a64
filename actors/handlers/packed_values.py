"""Results and replies too large for an event: each is packed, and stands beside the log as a whole.

Unlike values of working memory they may be of many small parts: what has given them is not run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve

from duramen.events import Limits, NewEvent, TooLarge
from duramen.events.codec import RawEvent, unpack_plain
from duramen.events.log import ContentStore, read_content
from duramen.events.model import StoredContent, WithContents, content_digest, contents_in, copy_plain

from .memory import load_contents
from .turn import Turn

_PACKED: Final = "beside_log"
"""The field of an event that says that a value stands beside the log."""


def packing_limits(limits: Limits) -> Limits:
    """The limits of a value that is packed where an event cannot hold it."""
    most = limits.content_bytes
    return evolve(
        limits, event_bytes=most, text_bytes=most, snapshot_bytes=most, container_items=most, event_nodes=most
    )


def emit_packing(turn: Turn, event: NewEvent, field: str) -> RawEvent:
    """Emit an event; where it is too large, the value of this field is stored beside the log.

    Raises as `Turn.emit`, and TooLarge over `content_bytes`.
    """
    try:
        return turn.emit(event)
    except TooLarge:
        packed = turn.codec.pack(event.data[field])
        if len(packed) > turn.services.limits.content_bytes:
            raise
    content = StoredContent(content_digest(packed), len(packed), is_text=False)
    emitted = turn.emit(event._replace(data={**event.data, field: content, _PACKED: True}))
    turn.add_contents({content.digest: packed})
    return emitted


def is_packed(data: Mapping[str, Any]) -> bool:
    """Whether a value of this event's data stands beside the log, packed."""
    return bool(data.get(_PACKED))


def unpack_value(store: ContentStore, agent: str, data: Mapping[str, Any], field: str) -> Any:
    """The value of a field of an event's data, with all that stands beside the log. Blocks; raises CorruptEvent."""
    value = data[field]
    if is_packed(data):
        return unpack_plain(read_content(store, agent, value))
    return load_contents(store, agent, copy_plain(value)) if any(contents_in(value)) else value


def load_reply(store: ContentStore, agent: str, reply: WithContents) -> Any:
    """The reply of an agent, with all that stands beside its log. Blocks; raises CorruptEvent."""
    if reply.is_packed:
        return unpack_plain(read_content(store, agent, reply.value))
    return load_contents(store, agent, reply.value)
