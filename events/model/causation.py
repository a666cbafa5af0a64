"""Which event caused which: ids of events, and what is stored of causes.

The id of an event is `agent@seq`. What happens in the handling of one message is stored with it:

- `causation_id`: the last event that the sender had emitted when it sent the message; if it had emitted none, what its
  own events would have as their cause. None for a message that comes from outside of all agents.
- `correlation_id`: the first event of all that follows from one message from outside. It is passed on with every
  message. The events of that first handling carry it too; a single one may go without, since it would name itself.

So the events of one handling stand together in the log, with the same two ids and the same command id. Who reads needs
no other table: `chain of causes` is following `causation_id`, and what belongs together has one `correlation_of`.
"""

from __future__ import annotations

from typing import Final

from attrs import define, frozen

from ..errors import DuramenError
from .paths import agent_path

__all__ = ["EXTERNAL", "Cause", "Handling", "correlation_of", "event_id", "parse_event_id"]


@frozen
class Cause:
    """What a message carries of where it comes from, and what its events are stored with."""

    causation_id: str | None = None
    correlation_id: str | None = None


EXTERNAL: Final = Cause()
"""A message that no agent has sent."""


def event_id(agent: str, seq: int) -> str:
    """The id of an event: `acme/alice@12`."""
    return f"{agent}@{seq}"


def parse_event_id(text: str | None) -> tuple[str, int] | None:
    """Agent and seq of an event's id; None for what is none: other programs may store ids of their own."""
    agent, at, seq = (text or "").rpartition("@")
    if not at or not seq.isdecimal() or len(seq) > 18 or seq != str(int(seq)) or seq == "0":
        return None
    try:
        return agent_path(agent).text, int(seq)
    except DuramenError:
        return None


def correlation_of(agent: str, seq: int, correlation_id: str | None) -> str:
    """What an event is correlated by: what is stored with it, else its own id."""
    return correlation_id or event_id(agent, seq)


@define
class Handling:
    """The handling of one message by an agent whose log stood at `before`: what its events and messages carry."""

    agent: str
    before: int
    cause: Cause = EXTERNAL

    def event_cause(self) -> Cause:
        """What each event of this handling is stored with."""
        if self.cause.correlation_id is not None:
            return self.cause
        return Cause(self.cause.causation_id, event_id(self.agent, self.before + 1))

    def message_cause(self, seq: int) -> Cause:
        """What a message carries that is sent now, where the log stands at `seq` with what was emitted so far."""
        own = self.event_cause()
        if seq > self.before:
            return Cause(event_id(self.agent, seq), own.correlation_id)
        return self.cause
