"""Which event caused which: ids of events, and the causation and correlation ids stored with them.

The id of an event is `agent@seq`. Events emitted while an agent handles a message are stored with two ids:

- `causation_id`: the last event that the sender had emitted when it sent the message. If it had emitted none, the
  message carries the sender's own cause. None for a message from outside all agents.
- `correlation_id`: the first event that followed from a message from outside. Every message passes it on. The events
  of that first handling carry it too; an event that would name itself may have none.

So the events of one handling are consecutive in the log, with the same two ids and the same command id. Readers need
no other table: a chain of causes follows `causation_id`, and a correlation id groups all that one message caused.
"""

from __future__ import annotations

from typing import Final

from attrs import define, frozen

from ..errors import DuramenError
from .paths import agent_path


@frozen
class Cause:
    """The two ids that a message carries and that its events are stored with."""

    causation_id: str | None = None
    correlation_id: str | None = None


EXTERNAL: Final = Cause()
"""The cause of a message that no agent sent."""


def event_id(agent: str, seq: int) -> str:
    """Return the id of an event: `acme/alice@12`."""
    return f"{agent}@{seq}"


def parse_event_id(text: str | None) -> tuple[str, int] | None:
    """Return agent and seq of an event's id; None for other text, since programs may store ids of their own."""
    agent, at, seq = (text or "").rpartition("@")
    if not at or not seq.isdecimal() or len(seq) > 18 or seq != str(int(seq)) or seq == "0":
        return None
    try:
        return agent_path(agent).text, int(seq)
    except DuramenError:
        return None


@define
class Handling:
    """The causes of one handling's events and messages; the agent's log stood at seq `before` when it began."""

    agent: str
    before: int
    cause: Cause = EXTERNAL

    def event_cause(self) -> Cause:
        """Return the cause that each event of this handling is stored with."""
        if self.cause.correlation_id is not None:
            return self.cause
        return Cause(self.cause.causation_id, event_id(self.agent, self.before + 1))

    def message_cause(self, seq: int) -> Cause:
        """Return the cause of a message sent now; `seq` is that of the last event emitted so far."""
        if seq > self.before:
            return Cause(event_id(self.agent, seq), self.event_cause().correlation_id)
        return self.cause
