"""Which event caused which: ids of events, and the causation and correlation ids stored with them.

The id of an event is `LOG@seq`. LOG is the id of its agent's log, which does not tell the agent's path: causes stay
when the agent is erased. Events that were stored before logs had ids name `agent@seq`. Events emitted while an agent
handles a message are stored with two ids:

- `causation_id`: the last event that the sender had emitted when it sent the message. If it had emitted none, the
  message carries the sender's own cause. None for a message from outside all agents.
- `correlation_id`: the first event that followed from a message from outside. Every message passes it on. The events
  of that first handling carry it too; an event that would name itself may have none.

So the events of one handling are consecutive in the log, with the same two ids and the same command id. Readers need
no other table: a chain of causes follows `causation_id`, and a correlation id groups all that one message caused.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from attrs import define, frozen

from ..errors import DuramenError
from .paths import agent_path, hash_of_root

_SIZE: Final = 8
"""Bytes of the hash of the root agent's path, and of the hash of the agent's."""
_LENGTH: Final = 22
"""Characters of both in base64, without its two `=`."""


@frozen
class Cause:
    """The two ids that a message carries and that its events are stored with."""

    causation_id: str | None = None
    correlation_id: str | None = None


EXTERNAL: Final = Cause()
"""The cause of a message that no agent sent."""


def compute_log_id(agent: str) -> str:
    """As `log_id`, for a path that is not asked for again soon."""
    hashes = hash_of_root(agent) + blake2b(agent.encode(), digest_size=_SIZE).digest()
    return urlsafe_b64encode(hashes)[:_LENGTH].decode()


@lru_cache(maxsize=65_536)
def log_id(agent: str) -> str:
    """Return the id of the log of the agent with this path: 22 letters, digits, `-` and `_`."""
    return compute_log_id(agent)


def is_log_id(text: str) -> bool:
    """Whether text has the form of a log's id, which no path has."""
    return len(text) == _LENGTH and text.isascii() and text.replace("-", "a").replace("_", "a").isalnum()


def partition_of_log(text: str, partitions: int) -> int:
    """Return the partition, among so many, of the agent whose log has this id."""
    return int.from_bytes(urlsafe_b64decode(f"{text}==")[:_SIZE]) % partitions


def event_id(agent: str, seq: int) -> str:
    """Return the id of an event, by which events of other agents name it: `bmV2ZXIgdG8gdGhlIGVuZA@12`."""
    return f"{log_id(agent)}@{seq}"


def parse_event_id(text: str | None) -> tuple[str, int] | None:
    """Return what names the log in an event's id, and the seq; None for other text, which programs may have stored.

    It is the id of the log, or the path of the agent in an event that was stored before logs had ids.
    """
    name, at, seq = (text or "").rpartition("@")
    if not at or not seq.isdecimal() or len(seq) > 18 or seq != str(int(seq)) or seq == "0":
        return None
    if is_log_id(name):
        return name, int(seq)
    try:
        return agent_path(name).text, int(seq)
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
