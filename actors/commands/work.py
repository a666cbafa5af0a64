"""The messages about work, and the decisions on them: durable messages, answers, cancelling and retrying."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from attrs import field, frozen

from duramen.events import AnswerRefused, InvalidMessage, Limits, MailboxFull, NewEvent, PlainData, Receipt, TooLarge
from duramen.events.codec import Codec, to_datetime
from duramen.events.model import (
    WORK_ACCEPTED,
    WORK_ANSWERED,
    WORK_RETRIED,
    check_value,
    copy_plain,
    same_value,
)
from duramen.projections import AgentState
from duramen.projections.state import end_of_work, find_wait, kept_answers, open_work

from .conditions import plain_id, require_alive, require_running
from .message import Message, Mutation, copy_mapping
from .results import nothing

MOST_UNFINISHED: Final = 1_000
"""Pieces of work of one agent that have not ended."""
MOST_ANSWERS: Final = 1_000
"""Answers of one agent that nobody has waited for yet."""

_ROOM: Final = 4_096
"""Bytes of an event that stand around an answer in it."""


@frozen(kw_only=True)
class UnfinishedWork:
    """A piece of work that has not ended: a durable message whose handler has not returned yet."""

    agent: str
    work: int
    """The seq of the message in the agent's log, which its receipt has."""
    message_type: str
    """The name of the message's type."""
    version: int
    since: datetime
    """When the message was accepted."""
    waits_for: tuple[Mapping[str, Any], ...]
    """What its handler has begun and what has no result yet: `kind` (`step`, `wait`, `sleep`, `ask`), `name`, `seq`
    of its beginning, `due`, `about`, and the failed `attempts`; in the order in which it was begun."""
    tries: int
    """How often it was taken up again since it last got on."""
    parked: Mapping[str, Any] | None
    """Why it is parked: `kind` and `text`; None: it is not."""


@frozen(kw_only=True)
class WorkProblem:
    """A piece of work that the code here would not carry on: it would be parked, or left to other hosts."""

    agent: str
    work: int
    """The seq of the message."""
    message_type: str
    """The name of the message's type."""
    kind: str
    """The name of the error: `ReplayDiverged` where the handler does something else than its log has."""
    text: str
    expected: Any = None
    actual: Any = None


@frozen
class Accept(Mutation[Receipt]):
    """Accept a durable message: it is in the log when the receipt is there, and then handled to its end."""

    content_field: ClassVar = "data"

    type: str
    version: int
    data: Mapping[str, Any] = field(factory=nothing, converter=copy_mapping)
    command_id: str | None = None
    durability: str | None = None


@frozen
class Answer(Mutation[Receipt]):
    """Answer what a durable handler waits for, now or later. The oldest wait of the name gets it, one answer each."""

    content_field: ClassVar = "value"
    content_room: ClassVar = _ROOM

    name: str
    value: PlainData = field(default=None, converter=copy_plain)
    work: int | None = None
    """The seq of the durable message whose handler is answered; None: of any."""
    command_id: str | None = None
    durability: str | None = None
    about: PlainData = field(default=None, converter=copy_plain, kw_only=True)
    """What the wait must be about, as `unfinished` shows it; None: whatever it is about."""


@frozen
class CancelWork(Mutation[Receipt]):
    """Cancel a piece of work: its handler gets `WorkCancelled`, and may still do steps for `seconds`."""

    work: int
    seconds: float = 30.0
    command_id: str | None = None
    durability: str | None = None


@frozen
class CancelAsked(Message[None]):
    """Cancel the work of a durable message of another agent, whose own work has ended before it had the reply."""

    asked: str
    """The command id that the message came with."""


@frozen
class RetryWork(Mutation[Receipt]):
    """Let a parked piece of work go on."""

    work: int
    command_id: str | None = None
    durability: str | None = None


@frozen
class GetResult(Message[Any]):
    """Wait for the end of a piece of work; the reply is what its handler returned, or the error in its place."""

    work: int


@frozen
class GetUnfinished(Message[list[UnfinishedWork]]):
    """List the agent's pieces of work that have not ended, oldest first."""


def require_name(name: object, what: str) -> str:
    """The name of what a handler waits for: 1 to 200 printable characters. Raises InvalidMessage."""
    found = plain_id(name, f"the name of {what}") if type(name) is str else None
    if found is None:
        raise InvalidMessage(f"the name of {what} is text", actual=type(name).__name__)
    return found


def check_durable_message(name: object, version: object) -> None:
    """Raise InvalidMessage unless these are the name and the version of a type of messages, registered here or not."""
    if type(name) is not str or not name:
        raise InvalidMessage("the type of a durable message is its name, as @message_type gives it", actual=name)
    if type(version) is not int or version < 1:
        raise InvalidMessage(f"the version of {name} is a number from 1 on", actual=version)


def decide_accept(state: AgentState, message: Accept, limits: Limits, agent: str, *, log: str) -> list[NewEvent]:
    """`log` is the agent's, as `name_log` names it: work of an agent that was imported is parked."""
    require_running(state, agent)
    if len(open_work(state)) >= MOST_UNFINISHED:
        raise MailboxFull(
            f"{agent} has {MOST_UNFINISHED} pieces of work that have not ended; ask again later",
            agent=agent,
            expected=MOST_UNFINISHED,
        )
    check_durable_message(message.type, message.version)
    data = dict(message.data)
    check_value(data, limits, f"a {message.type}")
    accepted = {"message_type": message.type, "version": message.version, "data": data, "log": log}
    return [NewEvent(WORK_ACCEPTED, accepted)]


def decide_answer(state: AgentState, message: Answer, limits: Limits, agent: str) -> list[NewEvent]:
    require_alive(state, agent)
    name, work = require_name(message.name, "an answer"), message.work
    check_value(message.value, limits, "an answer")
    size = len(Codec(limits).pack(message.value))
    if size > limits.event_bytes - _ROOM:  # it is in two events, of which one has more beside it
        raise TooLarge(
            f"an answer of {size} bytes is too large for an event; store it elsewhere and answer where",
            agent=agent,
            expected=limits.event_bytes - _ROOM,
            actual=size,
        )
    if work is not None and str(work) not in open_work(state):
        raise AnswerRefused(f"{agent} has no unfinished work {work}; nobody would get this answer", agent=agent)
    wait = find_wait(state, name, work)
    if message.about is not None and (wait is None or not same_value(wait[2]["about"], message.about)):
        raise AnswerRefused(
            f"{agent} does not wait for {name} about what this answer is about; look again, and decide again",
            agent=agent,
            seq=None if wait is None else wait[2]["begun"],
        )
    if wait is None and len(kept_answers(state)) >= MOST_ANSWERS:
        raise AnswerRefused(
            f"{agent} keeps {MOST_ANSWERS} answers that nobody has waited for; nobody waits for {name} now",
            agent=agent,
            expected=MOST_ANSWERS,
        )
    return [NewEvent(WORK_ANSWERED, {"name": name, "work": work, "value": message.value})]


def decide_retry(state: AgentState, message: RetryWork, limits: Limits, agent: str, *, log: str) -> list[NewEvent]:
    """`log` is the agent's, as `name_log` names it."""
    piece = require_unfinished(state, message.work, agent)
    return [] if piece["parked"] is None else [NewEvent(WORK_RETRIED, {"work": message.work, "log": log})]


def require_unfinished(state: AgentState, work: object, agent: str) -> Mapping[str, Any]:
    """The piece of work of this seq. Raises InvalidMessage if there is none, or if it has ended."""
    piece = open_work(state).get(str(work)) if type(work) is int else None
    if piece is None:
        ended = end_of_work(state, work) if type(work) is int else None
        raise InvalidMessage(
            f"work {work} of {agent} has ended" if ended else f"{agent} has no work {work}: take the receipt of `send`",
            agent=agent,
            seq=ended,
        )
    return piece


def unfinished_of(state: AgentState, agent: str) -> list[UnfinishedWork]:
    """The pieces of work of a state that have not ended, oldest first."""
    return [
        UnfinishedWork(
            agent=agent,
            work=int(work),
            message_type=piece["message_type"],
            version=piece["version"],
            since=to_datetime(piece["since"]),
            waits_for=tuple(_shown(item) for item in piece["pending"].values() if item["result"] is None),
            tries=piece["tries"],
            parked=copy_plain(piece["parked"]),
        )
        for work, piece in open_work(state).items()
    ]


def _shown(item: Mapping[str, Any]) -> Mapping[str, Any]:
    due = item["due"]
    return {
        "kind": item["kind"],
        "name": item["name"],
        "seq": item["begun"],
        "due": None if due is None else to_datetime(due),
        "about": copy_plain(item["about"]),
        "attempts": item["attempts"],
    }
