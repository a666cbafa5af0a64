"""The calls of one agent, shared by the synchronous handle and its asyncio twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Protocol, TypeVar, overload

from attrs import evolve

from duramen.events import AgentAlreadyRunning, AgentPath, Granularity, InvalidMessage, PropertyPath, Receipt
from duramen.events.model import Seconds, parse_seconds
from duramen.projections.state import REQUIRED

from ...commands import (
    DEFAULT_TTL,
    Accept,
    AgentStatus,
    Answer,
    Append,
    Batch,
    CancelWork,
    Checkpoint,
    Delete,
    Extend,
    Get,
    GetMany,
    GetReminders,
    GetResult,
    GetStatus,
    GetUnfinished,
    Keys,
    Length,
    LifecycleResult,
    ListCheckpoints,
    Merge,
    Message,
    Missed,
    Outcome,
    OutcomeText,
    Pause,
    Pop,
    Record,
    Reminder,
    RemoveReminder,
    Restart,
    Resume,
    Retention,
    RetryWork,
    Set,
    SetGranularity,
    SetRetention,
    Slice,
    Spawn,
    Terminate,
    UnfinishedWork,
    WhenPaused,
    WorkProblem,
    make_remind,
)
from ...dispatch import Reply
from ...handlers import OutputWriter
from .batch import BatchBuilder

TIMEOUT: Final = 30.0
"""Seconds that a call waits for its reply by default."""

OUTPUT_TTL: Final = 3_600.0
"""Seconds for which a live output is kept by default."""

Path = str | PropertyPath
R = TypeVar("R")


class MessageSender(Protocol):
    """The part of a system that handles need."""

    def ask(
        self,
        path: str,
        message: object,
        *,
        block: bool,
        timeout: Seconds | None,
        command_id: str | None,
        durability: str | None = ...,
        room: Seconds = ...,
    ) -> Any: ...

    def tell(self, path: str, message: object, *, command_id: str | None = ..., room: Seconds = ...) -> None: ...

    def withdraw(self, path: str, reply: object) -> None: ...

    def open_output(
        self, path: str, name: str, record: Callable[[str, dict[str, Any]], Any], ttl: Seconds
    ) -> OutputWriter: ...

    def check_spawn(self, path: str, message: Spawn) -> None: ...

    def accept_message(self, message: object, command_id: str | None, durability: str | None) -> Accept: ...

    def check_cycle(self, path: str) -> None: ...

    def unfinished(self, *, limit: int = ...) -> list[UnfinishedWork]: ...

    def reminders(self, *, limit: int = ...) -> list[Reminder]: ...

    def check_work(self) -> list[WorkProblem]: ...


def require_started(result: LifecycleResult, exist_ok: bool) -> None:
    """Raise the failure of a spawn; with `exist_ok` none because a session of the agent is there already."""
    if not exist_ok or not isinstance(result.error, AgentAlreadyRunning):
        result.raise_for_failure()


def _work_of(receipt: object) -> int:
    seq = receipt.seq if isinstance(receipt, Receipt) else receipt
    if type(seq) is not int:
        raise InvalidMessage("work is named by the receipt of `send`, or by its seq", actual=type(receipt).__name__)
    return seq


class AgentCalls:
    """The calls of one agent. Subclasses decide how the reply is awaited."""

    __slots__ = ("_path", "_system")

    def __init__(self, system: MessageSender, path: str) -> None:
        self._system = system
        self._path = path

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path}>"

    @property
    def path(self) -> AgentPath:
        """The agent path."""
        return AgentPath.parse(self._path)

    # -- messages --------------------------------------------------------------------------------------------------

    @overload
    def ask(
        self,
        message: object,
        *,
        block: Literal[False],
        timeout: Seconds | None = ...,
        command_id: str | None = ...,
        durability: str | None = ...,
        room: Seconds = ...,
    ) -> Reply: ...

    @overload
    def ask(
        self,
        message: Message[R],
        *,
        block: Literal[True] = ...,
        timeout: Seconds | None = ...,
        command_id: str | None = ...,
        durability: str | None = ...,
        room: Seconds = ...,
    ) -> R: ...

    @overload
    def ask(
        self,
        message: object,
        *,
        block: bool = ...,
        timeout: Seconds | None = ...,
        command_id: str | None = ...,
        durability: str | None = ...,
        room: Seconds = ...,
    ) -> Any: ...

    def ask(
        self,
        message: object,
        *,
        block: bool = True,
        timeout: Seconds | None = TIMEOUT,
        command_id: str | None = None,
        durability: str | None = None,
        room: Seconds = 0.0,
    ) -> Any:
        """Send a message and wait for its reply; `block=False` returns its future instead (`.get`, awaitable).

        `timeout` and `room` are seconds, or timedeltas; without a `timeout` (None) it may wait for ever. A message
        that is not begun when its time is over is dropped; one whose future you have is not.
        `command_id` and `durability` are for messages of your own classes; duramen's messages carry theirs. Raises
        MailboxFull after the mailbox has been full for `room` seconds.
        """
        return self._system.ask(
            self._path, message, block=block, timeout=timeout, command_id=command_id, durability=durability, room=room
        )

    def tell(self, message: object, *, command_id: str | None = None, room: Seconds = 0.0) -> None:
        """Send a message and do not wait for a reply. Errors of its handler are only logged.

        Raises MailboxFull after the mailbox has been full for `room` seconds, and SystemClosed.
        """
        self._system.tell(self._path, message, command_id=command_id, room=room)

    # -- work --------------------------------------------------------------------------------------------------------

    def send(self, message: object, *, command_id: str | None = None, durability: str | None = None) -> Receipt:
        """Send a durable message, and return the receipt once it is in the log: it will be handled to its end.

        Raises InvalidMessage for a message whose type is not durable, ValueRefused, TooLarge, AgentPaused, MailboxFull.
        """
        return self.ask(self._system.accept_message(message, command_id, durability))

    def result(self, receipt: Receipt | int, *, timeout: Seconds | None = TIMEOUT) -> Any:
        """Wait for the end of the work of a durable message, and return its handler's reply; also long after the end.

        `receipt` is that of `send`, or its seq. Raises the error that the handler has raised, WorkStopped for work
        that was cancelled or ended with its agent's session, WorkParked, and AskTimeout, after which it may be called
        again.
        """
        return self.ask(GetResult(_work_of(receipt)), timeout=timeout)

    def answer(
        self,
        name: str,
        value: Any = None,
        *,
        work: Receipt | int | None = None,
        about: Any = None,
        command_id: str | None = None,
        durability: str | None = None,
    ) -> Receipt:
        """Answer what a durable handler waits for; before it waits, too. One answer goes to one wait, the oldest.

        `work` says whose wait, by the receipt of its message, and `about` what the answer is meant for. Raises
        AnswerRefused for work that has ended, and where the wait is about something else by now.
        """
        seq = None if work is None else _work_of(work)
        return self.ask(Answer(name, value, seq, command_id, durability, about=about))

    def cancel(self, receipt: Receipt | int, *, seconds: Seconds = 30.0, command_id: str | None = None) -> Receipt:
        """Cancel the work of a durable message: its handler gets WorkCancelled where it waits.

        What it then still does, in a `finally`, say, may take so many seconds. Raises InvalidMessage for work that has
        ended.
        """
        return self.ask(CancelWork(_work_of(receipt), parse_seconds("seconds", seconds), command_id))

    def retry(self, receipt: Receipt | int, *, command_id: str | None = None) -> Receipt:
        """Let parked work go on. Raises InvalidMessage for work that has ended."""
        return self.ask(RetryWork(_work_of(receipt), command_id))

    def unfinished(self) -> list[UnfinishedWork]:
        """Return the work that has not ended, oldest first, and what it waits for."""
        return self.ask(GetUnfinished())

    def remind(
        self,
        name: str,
        message: object,
        *,
        at: datetime | None = None,
        every: Seconds | None = None,
        missed: Missed = "once",
        command_id: str | None = None,
    ) -> Receipt:
        """Set a reminder, in place of one of the same name: the agent gets a durable message when it is due.

        It is due `at` a time (with a time zone), `every` so many seconds (or a timedelta) from then or from now on, or
        both. Each due time is accepted in the log once, whichever process dies, and not early. Times at which the
        agent could not be reached, or was paused, are made up for by one message (`missed="once"`), by none (`skip`),
        or each by its own (`all`). The end of the session removes it.

        Raises InvalidMessage, ValueRefused, TooLarge (16 KiB), AgentPaused, MailboxFull (1,000 reminders).
        """
        accepted = self._system.accept_message(message, command_id, None)
        return self.ask(make_remind(name, accepted, at=at, every=every, missed=missed))

    def remove_reminder(self, name: str, *, command_id: str | None = None) -> Receipt:
        """Remove a reminder, if there is one of this name."""
        return self.ask(RemoveReminder(name, command_id))

    def reminders(self) -> list[Reminder]:
        """Return the reminders, in the order in which they were set."""
        return self.ask(GetReminders())

    # -- working memory and activity ---------------------------------------------------------------------------------

    def get(self, path: Path = "", default: Any = REQUIRED) -> Any:
        """Return a copy of the value at a property path. Raises PathNotFound unless a default is given."""
        return self.ask(Get(path, default))

    def keys(self, path: Path = "") -> list[str]:
        """Return the keys of the subtree at a property path. Raises PathNotFound, InvalidPath."""
        return self.ask(Keys(path))

    def get_many(self, paths: Sequence[Path], default: Any = REQUIRED) -> list[Any]:
        """Return copies of the values at several property paths, in their order, all as of one seq.

        Raises PathNotFound for one where nothing is, unless a default is given, which then stands in its place.
        """
        return self.ask(GetMany(paths, default))

    def length(self, path: Path = "") -> int:
        """Return how many elements a list has, or how many keys a dict. Raises PathNotFound, InvalidPath."""
        return self.ask(Length(path))

    def slice(self, path: Path, start: int | None = None, stop: int | None = None) -> list[Any]:
        """Return a copy of a part of the list at a path, as Python slices: `slice("log", -10)` are the last ten.

        Raises PathNotFound, InvalidPath.
        """
        return self.ask(Slice(path, start, stop))

    def set(
        self,
        path: Path,
        value: Any,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Set a value and make missing subtrees.

        As every mutation, with an `expected_seq` only if the agent is at that seq, else VersionConflict; its events
        carry the `metadata`, plain data. Raises ValueRefused, TooLarge, InvalidPath, CommandConflict.
        """
        return self.ask(Set(path, value, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def delete(
        self,
        path: Path,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Remove the value at a path. Raises PathNotFound."""
        return self.ask(Delete(path, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def append(
        self,
        path: Path,
        value: Any,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Add one value to the end of a list. Raises InvalidPath if the value at the path is not a list."""
        return self.ask(Append(path, value, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def extend(
        self,
        path: Path,
        values: Sequence[Any],
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Add values to the end of a list, as one event. Raises InvalidPath if the value at the path is not a list."""
        return self.ask(Extend(path, values, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def pop(
        self,
        path: Path,
        key: int | str = -1,
        default: Any = REQUIRED,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take a value out of the list at a path, by default the last, or by its key out of the dict there; return it.

        Nobody else gets the same value. Without a default PathNotFound is raised if nothing is there, or the list is
        empty. A repeated `command_id` gives the value of the first time. Raises InvalidPath for another container.
        """
        return self.ask(Pop(path, key, default, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def merge(
        self,
        path: Path,
        patch: Any,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Apply a JSON merge patch (RFC 7386)."""
        return self.ask(Merge(path, patch, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def record(
        self,
        kind: str,
        data: Any = None,
        *,
        level: Granularity = Granularity.ACTIVITY,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Log an activity, which changes no state. Above the agent's granularity none is logged: `first_seq > seq`."""
        return self.ask(Record(kind, data, level, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def batch(
        self,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> BatchBuilder:
        """Gather mutations in a `with` block and send them at its end as one message; nothing after an exception."""
        batch = Batch((), command_id, durability, expected_seq=expected_seq, metadata=metadata)
        return BatchBuilder(lambda operations: self.ask(evolve(batch, operations=operations)))

    def stream(self, name: str, *, ttl: Seconds = OUTPUT_TTL) -> OutputWriter:
        """Write a live output in a `with` block, which `system.follow` shows while it is written.

        Each `write` is a token; none is an event. At the end of the block the whole text is recorded as one, of kind
        `output`. A name has one output: opening it again replaces the one before, also while that is written. It is
        kept for `ttl` seconds after the latest token. Raises InvalidMessage; `OutputWriter` says what writing raises.
        """
        return self._system.open_output(self._path, name, self.record, ttl)

    def set_granularity(
        self,
        level: Granularity | None = None,
        *,
        levels: Mapping[str, Granularity | None] | None = None,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Change how much activity is logged from now on: of all kinds, or by kind (None removes a kind's level)."""
        return self.ask(
            SetGranularity(
                level=level,
                levels=levels or {},
                command_id=command_id,
                durability=durability,
                expected_seq=expected_seq,
                metadata=metadata,
            )
        )

    def set_retention(
        self,
        retention: Retention | None,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Change how much of the agent's log is kept from now on; None: the system's retention."""
        return self.ask(SetRetention(retention, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def pause(
        self,
        checkpoint_id: str | None = None,
        *,
        ttl: Seconds | None = DEFAULT_TTL,
        metadata: Mapping[str, Any] | None = None,
        when_paused: WhenPaused = "refuse",
        reason: str | None = None,
        cascade: bool = False,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
    ) -> LifecycleResult:
        """Save working memory as a named checkpoint and refuse mutations until `resume`."""
        return self.ask(
            Pause(
                checkpoint_id=checkpoint_id,
                ttl=ttl,
                metadata=metadata or {},
                when_paused=when_paused,
                reason=reason,
                cascade=cascade,
                command_id=command_id,
                durability=durability,
                expected_seq=expected_seq,
            )
        )

    def resume(
        self,
        checkpoint_id: str | None = None,
        *,
        clear_current: bool = True,
        cascade: bool = False,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
    ) -> LifecycleResult:
        """Restore working memory from a checkpoint, by default the latest; the agent need not be paused."""
        return self.ask(
            Resume(
                checkpoint_id=checkpoint_id,
                clear_current=clear_current,
                cascade=cascade,
                command_id=command_id,
                durability=durability,
                expected_seq=expected_seq,
            )
        )

    def terminate(
        self,
        outcome: Outcome | OutcomeText = Outcome.SUCCESS,
        *,
        task_description: str | None = None,
        outcome_details: Any = None,
        lessons_learned: Sequence[str] = (),
        context_summary: str | None = None,
        importance_score: float = 0.6,
        reason: str | None = None,
        consolidate_to_episodic: bool = True,
        cleanup_working: bool = True,
        cascade: bool = True,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
    ) -> LifecycleResult:
        """End the session: save it as an episode, then clear working memory. Each of the two can be switched off."""
        return self.ask(
            Terminate(
                outcome=outcome,
                task_description=task_description,
                outcome_details=outcome_details,
                lessons_learned=lessons_learned,
                context_summary=context_summary,
                importance_score=importance_score,
                reason=reason,
                consolidate_to_episodic=consolidate_to_episodic,
                cleanup_working=cleanup_working,
                cascade=cascade,
                command_id=command_id,
                durability=durability,
                expected_seq=expected_seq,
            )
        )

    def restart(
        self,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Let a failed agent (see `Supervision`) handle messages again. A running agent is not changed."""
        return self.ask(Restart(command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints that can be resumed from, newest first."""
        return self.ask(ListCheckpoints())

    def status(self) -> AgentStatus:
        """Return the agent's status, session and seq."""
        return self.ask(GetStatus())
