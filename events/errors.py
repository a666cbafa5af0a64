"""Every failure duramen reports, as a type that carries the facts and says what to do."""

from __future__ import annotations

from typing import Any

__all__ = [
    "AgentAlreadyRunning",
    "AgentExists",
    "AgentFailed",
    "AgentNotFound",
    "AgentNotRunning",
    "AgentPaused",
    "AskTimeout",
    "CheckpointNotFound",
    "CommandConflict",
    "ConsumerParked",
    "CorruptEvent",
    "DataLoss",
    "Diverged",
    "DuramenError",
    "EmbeddingFailed",
    "EpisodeNotFound",
    "Fenced",
    "HandlerStopped",
    "InvalidMessage",
    "InvalidPath",
    "MailboxFull",
    "NotInstalled",
    "NotPermitted",
    "OutcomeUnknown",
    "PathNotFound",
    "SystemClosed",
    "TooLarge",
    "Trimmed",
    "Unavailable",
    "Unconfirmed",
    "UnknownEventType",
    "UnsafeServer",
    "ValueRefused",
    "VersionConflict",
    "WrongKey",
]


class DuramenError(Exception):
    """Root of all errors of this library.

    The message says what happened and what to do. The facts are attributes, so that a program need not read
    the message: `agent` (path as text), `seq`, `expected` and `actual`; each is None where it does not apply.
    Messages never hold payloads, passwords or other content of an event.
    """

    def __init__(
        self,
        message: str,
        *,
        agent: str | None = None,
        seq: int | None = None,
        expected: Any = None,
        actual: Any = None,
    ) -> None:
        super().__init__(message)
        self.agent = agent
        self.seq = seq
        self.expected = expected
        self.actual = actual


class InvalidPath(DuramenError, ValueError):
    """A path or pattern is not well formed, or does not lead anywhere in the state it was applied to."""


class PathNotFound(InvalidPath, KeyError):
    """A well-formed property path names nothing in the agent's state."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class InvalidMessage(DuramenError, ValueError):
    """A message's field has a type or a value that the message does not take."""


class ValueRefused(DuramenError, ValueError):
    """A value could not be read back equal in value and type, so it was refused before it was written."""


class TooLarge(DuramenError, ValueError):
    """Something is over one of the limits in `Limits`; `expected` is the limit, `actual` what was asked for."""


class AgentNotFound(DuramenError, LookupError):
    """No agent of this path was ever spawned here, or its log is gone. Nothing was created."""


class AgentNotRunning(DuramenError):
    """The agent's session has ended; spawn it again to start a new one on the same log."""


class AgentAlreadyRunning(DuramenError):
    """The agent has a session that has not ended; use the handle of it, or terminate it first."""


class AgentExists(DuramenError):
    """An import or a fork would make an agent whose path is taken; name another path."""


class AgentPaused(DuramenError):
    """The agent is paused and takes no mutation; resume it first (reads work)."""


class AgentFailed(DuramenError):
    """The agent's own code or its log keeps it from running; the cause is chained."""


class CheckpointNotFound(DuramenError, LookupError):
    """No checkpoint of this id exists, or it has expired."""


class EpisodeNotFound(DuramenError, LookupError):
    """No episode of this id is kept."""


class EmbeddingFailed(DuramenError):
    """The embedding function raised, took too long, or did not return vectors. No episode is lost by that."""


class NotInstalled(DuramenError, ImportError):
    """Something that is not always there is needed for this call: the message names what to install."""


class CommandConflict(DuramenError):
    """A command id was used again with another payload; use a new id for a new command."""


class VersionConflict(DuramenError):
    """The log was not at the expected seq; `expected` and `actual` are seqs."""


class Fenced(DuramenError):
    """Another process has taken this agent over; what was asked here was not written. Ask again to take it back."""


class Unavailable(DuramenError):
    """The server cannot be used now. Nothing was written unless the error is `OutcomeUnknown`. Try again later."""


class OutcomeUnknown(Unavailable):
    """No answer came in time: the command is in the log once, or not at all. Ask again with the same command id."""


class Unconfirmed(DuramenError):
    """The append is committed, but not confirmed to the durability asked for. Do not send it as a new command."""


class NotPermitted(DuramenError):
    """The server refuses this user a command, key or channel that is needed, or the login itself."""


class UnsafeServer(DuramenError):
    """The server's settings would lose acknowledged events; the message names the setting to change."""


class WrongKey(DuramenError):
    """A namespace or a file was written with an integrity key that was not given, or with another, or with none."""


class MailboxFull(DuramenError):
    """The agent has as many messages waiting as it takes; ask again later."""


class AskTimeout(DuramenError, TimeoutError):
    """No reply came within the time-out. The command may still be carried out; a command id makes asking again safe."""


class SystemClosed(DuramenError):
    """The system is closed, or this is a forked child, where no actor runs; open a system of its own."""


class ConsumerParked(DuramenError):
    """A projection's own code raised at an event, and its consumer stands still before it; the cause is chained."""


class HandlerStopped(DuramenError):
    """A handler raised `SystemExit` or another exception that is meant to end a program; only its agent was stopped."""


class CorruptEvent(DuramenError):
    """Stored bytes are not what was written: not decodable, out of bounds, or not matching their digest."""


class UnknownEventType(DuramenError):
    """An event's type or version is not registered here; register it, or add the missing upcaster."""


class Trimmed(DuramenError):
    """The part of the log that was asked for has been trimmed; `actual` is the first seq that is left."""


class DataLoss(DuramenError):
    """The server lost events that it had acknowledged; `expected` is the seq known here, `actual` the log's."""


class Diverged(DuramenError):
    """The log holds another history than the one seen before: it was replaced, restored or failed over."""
