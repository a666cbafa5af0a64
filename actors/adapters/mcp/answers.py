"""What the tools answer: plain data as JSON, bounded. Pure."""

from __future__ import annotations

from typing import Any, Final

from duramen.actors.console.output import to_json
from duramen.events import Event, TooLarge
from duramen.events.log import Entry

_MOST: Final = 256 * 1024
"""Characters of an answer: it goes into the context of a model."""


def answer(value: Any) -> str:
    """A value as JSON text. Raises TooLarge for one that no model should be given."""
    text = to_json(value)
    if len(text) > _MOST:
        raise TooLarge(
            f"the answer has {len(text)} characters, over the limit of {_MOST}; ask for a smaller part",
            expected=_MOST,
            actual=len(text),
        )
    return text


def entry_data(entry: Entry) -> dict[str, Any]:
    return {"agent": entry.agent, "status": entry.status, "type": entry.agent_type, "seq": entry.head.seq}


def event_data(event: Event) -> dict[str, Any]:
    return {"seq": event.seq, "time": event.time, "type": event.type, "data": event.data}
