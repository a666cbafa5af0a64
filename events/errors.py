"""The typed errors. Each carries the facts and says what to do."""

from __future__ import annotations

from typing import Any

__all__ = [
    "AgentAlreadyRunning",
    "AgentExists",
    "AgentFailed",
    "AgentNotFound",
    "AgentNotRunning",
    "AgentPaused",
    "AnswerRefused",
    "AskTimeout",
    "CallCycle",
    "CheckpointNotFound",
    "CommandConflict",
    "ConsumerParked",
    "CorruptEvent",
    "DataLoss",
    "Diverged",
    "DurabilityUnavailable",
    "DuramenError",
    "EmbeddingFailed",
    "EpisodeNotFound",
    "Erased",
    "Fenced",
    "HandlerEnded",
    "HandlerRaised",
    "HandlerStopped",
    "InStep",
    "InvalidMessage",
    "InvalidPath",
    "LoopBlocked",
    "MailboxFull",
    "NoHost",
    "NotDurable",
    "NotInstalled",
    "NotPermitted",
    "OutcomeUnknown",
    "OutputBroken",
    "OutputNotFound",
    "ParentRequired",
    "PathNotFound",
    "ReplayDiverged",
    "ReplyRefused",
    "StepFailed",
    "StepInterrupted",
    "SystemClosed",
    "TooLarge",
    "Trimmed",
    "Unavailable",
    "Unconfirmed",
    "UnknownAgentType",
    "UnknownEventType",
    "UnknownMessageType",
    "UnsafeServer",
    "ValueRefused",
    "VersionConflict",
    "WaitExpired",
    "WorkParked",
    "WorkStopped",
    "WrongKey",
]


class DuramenError(Exception):
    """The base class of all errors of this library.

    The message says what happened and what to do. The facts are attributes, so that a program need not read
    the message: `agent` (path as text), `seq`, `expected` and `actual`; each is None where it does not apply.
    Messages hold no values of an event and no passwords; `PathNotFound` names keys near the one asked for, and
    `HandlerRaised` quotes what a handler of the user's has raised.
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
    """A path or pattern is not well formed, or leads nowhere in the state to which it was applied."""


class PathNotFound(InvalidPath, KeyError):
    """A well-formed property path names nothing in the agent's state."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class InvalidMessage(DuramenError, ValueError):
    """A field of a message has a type or value that the message does not accept."""


class ParentRequired(InvalidMessage):
    """An agent above this path lives and would not know of it; `actual` is its path. Spawn with it as the parent."""


class ValueRefused(DuramenError, ValueError):
    """A value could not be read back equal in value and type, so it was refused before it was written."""


class TooLarge(DuramenError, ValueError):
    """A size or count is over its limit in `Limits`; `expected` is the limit, `actual` the size or count."""


class AgentNotFound(DuramenError, LookupError):
    """No agent of this path was ever spawned here, or its log was removed. Nothing was created."""


class Erased(AgentNotFound):
    """The agent was erased while this process knew it: nothing of it is left. Its path can be spawned anew."""


class AgentNotRunning(DuramenError):
    """The agent's session has ended; spawn it again to start a new one on the same log."""


class AgentAlreadyRunning(DuramenError):
    """The agent has a session that has not ended; go on with it, or terminate it first."""


class AgentExists(DuramenError):
    """The path that an import or a fork names is another agent's; name another path."""


class AgentPaused(DuramenError):
    """The agent is paused and accepts no mutation; resume it first (reads work)."""


class AgentFailed(DuramenError):
    """The agent cannot run because of its own code or its log; the cause is chained."""


class CheckpointNotFound(DuramenError, LookupError):
    """No checkpoint of this id exists, or it has expired."""


class EpisodeNotFound(DuramenError, LookupError):
    """No episode of this id is stored."""


class EmbeddingFailed(DuramenError):
    """The embedding function raised, took too long, or did not return vectors. No episode was lost."""


class NotInstalled(DuramenError, ImportError):
    """The call needs an optional package; the message names what to install."""


class CommandConflict(DuramenError):
    """A command id was used again with another payload; use a new id for a new command."""


class VersionConflict(DuramenError):
    """The agent was not at the expected seq, nothing was written; `expected` and `actual` are seqs."""


class Fenced(DuramenError):
    """Another process has taken this agent over; nothing was written here. Ask again to take it back."""


class Unavailable(DuramenError):
    """The server cannot be used now. Nothing was written unless the error is `OutcomeUnknown`. Try again later."""


class OutcomeUnknown(Unavailable):
    """No reply came in time: the command is in the log once, or not at all. Ask again with the same command id."""


class Unconfirmed(DuramenError):
    """The append is committed, but not confirmed to the durability asked for. Do not send it as a new command."""


class DurabilityUnavailable(InvalidMessage):
    """The log cannot reach the durability asked for. Nothing was written; `actual` is the most that it reaches."""


class NotPermitted(DuramenError):
    """The server refuses this user the login, or a command, key or channel that duramen needs."""


class UnsafeServer(DuramenError):
    """The server's settings would lose acknowledged events; the message names the setting to change."""


class WrongKey(DuramenError):
    """The integrity key given is not the one with which the namespace or file was written."""


class MailboxFull(DuramenError):
    """The agent's mailbox is full; ask again later."""


class NoHost(DuramenError):
    """No host that is up may have this agent, or the one that has it is of another release.

    Start a host that has the agent's type registered; run the same release in all processes.
    """


class NotDurable(DuramenError):
    """A durable handler waited for what its log cannot repeat: a socket, a timer, a thread. Do that in a step."""


class AskTimeout(DuramenError, TimeoutError):
    """No reply came within the time-out. The command may still run; a command id makes asking again safe."""


class SystemClosed(DuramenError):
    """The system is closed, or belongs to the parent of this forked child; open another system."""


class ConsumerParked(DuramenError):
    """A projection's own code raised at an event, and its consumer is parked before it; the cause is chained."""


class CallCycle(DuramenError):
    """A handler would wait for a reply that cannot come: of its own agent, or of one that waits for it. Use `tell`."""


class LoopBlocked(DuramenError):
    """A call that blocks was made on the event loop of handlers and hooks. Await the same call of `aio`."""


class ReplyRefused(DuramenError):
    """The command was carried out; its reply could not be stored, or cannot cross. `seq` is its last event."""


class HandlerEnded(DuramenError):
    """A task or thread that outlived its handler has used the agent; nothing was written. Send a message instead."""


class HandlerStopped(DuramenError):
    """A handler raised `SystemExit` or another exception that ends programs; only its agent was stopped."""


class HandlerRaised(DuramenError):
    """A handler raised an exception of its own; where that is a built-in exception, this is one of that class too.

    `kind` is the name of the exception's class and `text` its text, cut at 2,000 characters. In the handler's process
    the exception is chained; from another process its class and text are all there is.
    """

    __str__ = Exception.__str__  # the built-in exceptions have others

    def __init__(self, message: str, *, kind: str = "", text: str = "", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.kind = kind
        self.text = text


class OutputNotFound(DuramenError):
    """There is no such live output: none was opened in time, it has expired, or its name was opened again."""


class OutputBroken(DuramenError):
    """A live output ends before it is complete: its writer failed or died, or lost it to another writer."""


class CorruptEvent(DuramenError):
    """Stored bytes differ from what was written: they do not decode, exceed a bound, or do not match their digest."""


class UnknownAgentType(DuramenError):
    """The agent's type is not registered in this process, so no class here handles its own messages."""


class UnknownEventType(DuramenError):
    """An event's type or version is not registered here; register it, or add the missing upcaster."""


class UnknownMessageType(DuramenError):
    """A message's type or version is not registered here, or its class is none that crosses; it was not handled."""


class Trimmed(DuramenError):
    """The requested part of the log has been trimmed; `actual` is the first seq that remains."""


class DataLoss(DuramenError):
    """The server lost events that it had acknowledged; `expected` is the seq known here, `actual` the log's."""


class Diverged(DuramenError):
    """The log holds another history than the one read before: it was replaced, restored or failed over."""


class AnswerRefused(DuramenError, ValueError):
    """An answer does not fit what is waited for, or more answers than are kept came before anybody waited."""


class InStep(DuramenError):
    """The function of a step has used the agent; let it take what it needs as arguments and return its result."""


class ReplayDiverged(DuramenError):
    """A durable handler that was run again did something else than its log says; `expected` is the log's side.

    Its work is parked: go back to the code that it began with, then retry it, or cancel it.
    """


class StepFailed(DuramenError):
    """A step has failed, at its last attempt; a run of the handler from its log raises the same again.

    `kind` is the class of what the function raised and `text` its text, cut at 2,000 characters; `data` is what its
    attribute `data` was, if that was plain data.
    """

    def __init__(self, message: str, *, kind: str = "", text: str = "", data: Any = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.kind = kind
        self.text = text
        self.data = data


class StepInterrupted(StepFailed):
    """A step that runs at most once was under way when its process ended: its effect may have happened, or not."""


class WaitExpired(DuramenError, TimeoutError):
    """No answer came before the deadline of a wait."""


class WorkParked(DuramenError):
    """Work is parked, and goes on only if it is retried; the text says why."""


class WorkStopped(DuramenError):
    """Work was cancelled, or its agent's session ended before it did."""
