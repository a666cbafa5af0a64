"""A handler begins from its record, or is run again with the results in it, up to where its log ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from duramen.events import ReplayDiverged
from duramen.events.log import EventLog
from duramen.events.model import WithContents, event_id, is_log_id
from duramen.projections.recovery import AgentLog, find_agent
from duramen.projections.state import ASK, Piece, message_type_of, open_work

from ...commands import kind_of
from ...handlers import ActiveAgent, Turn, load_reply, unpack_value
from .execution import Execution, Identity
from .past_turn import PastAgent, PastTurn
from .record import Record, read_record
from .step import Begun


class WorkingAgent(ActiveAgent, Protocol):
    """The agent in memory, as its work needs it."""

    def start_handler(self, message: object) -> Any:
        """Call the handler of a message; what it returns is a coroutine, if it is a handler of durable messages."""
        ...


def new_execution(runtime: WorkingAgent, turn: Turn, work: int, record: Record) -> Execution:
    """Prepare a run of a handler, whose first stretch calls it."""
    registry, piece, data = runtime.services.registry, open_work(runtime.state)[str(work)], record.accepted[4]

    def start(turn: Turn) -> Any:
        given = turn.codec.copy_for_reply(data["data"])
        if type(given) is WithContents:
            given = load_reply(runtime.services.log.contents, runtime.path, given)
        message = registry.load_message(message_type_of(data), data["version"], given)
        return runtime.start_handler(message)

    identity = _identity_at(None, turn.agent, work, piece, record)
    return Execution(identity, turn, start, is_exclusive=registry.is_exclusive(piece["message_type"]))


def _identity_at(seq: int | None, agent: str, work: int, piece: Piece, record: Record) -> Identity:
    """What tells the work from all other: where it went on at a seq, or goes on now. It is another in a fork."""
    correlation_id = record.accepted[8] or event_id(record.agent_at(work, agent), work)
    own = record.agent_at(seq, agent), work, piece["before"], record.log_at(seq)
    return Identity(*own, piece["version"], correlation_id, record.command_id)


def replay(
    runtime: WorkingAgent,
    turn: Turn,
    work: int,
    *,
    log: AgentLog,
    to_seq: int,
    given_up: Callable[[str], object] = lambda _: None,
) -> Execution:
    """Run a handler again with the results that its log has, and do nothing of what it does; blocks.

    `given_up` is called with the key of each step that the handler did not wait for any more. Raises ReplayDiverged,
    Trimmed.
    """
    piece = open_work(runtime.state)[str(work)]
    record = read_record(log, work, to_seq, piece)
    execution = new_execution(runtime, turn, work, record)
    past, diverged = PastAgent(runtime, log), list[ReplayDiverged]()
    try:
        for stretch in record.stretches:
            seq = stretch.seq
            past.path = record.agent_at(seq, turn.agent)
            execution.identity = _identity_at(seq, turn.agent, work, piece, record)
            again = PastTurn(past, stretch, diverged.append)
            result, error = unpack_value(log.log.contents, runtime.path, stretch.data, "result"), stretch.data["error"]
            execution.go_on(stretch.number, result, error, turn=again, seq=seq, now=stretch.time)
            for begun in () if diverged else execution.log_given_up(again):
                given_up(begun.key)
            _check_stretch(again, execution, seq, diverged)
    except BaseException:
        execution.discard()
        raise
    for number, data in record.held.items():
        execution.held[number] = unpack_value(log.log.contents, runtime.path, data, "result"), data["error"]
    execution.identity = _identity_at(None, turn.agent, work, piece, record)
    for number, begun in execution.begun.items():
        item = piece["pending"][str(number)]
        begun.is_recovered, begun.key = True, item["key"]  # a fork has its own
        begun.name = _name_now(log.log, begun, item["name"])
    return execution


def _name_now(log: EventLog, begun: Begun, name: str) -> str:
    """The name of something that is under way. A fork asks agents of its own tree in place of those of its origin's."""
    if name == begun.logged_name:
        return begun.name
    found = find_agent(log, name) if begun.kind == ASK and is_log_id(name) else None
    return name if found is None else found


def _check_stretch(turn: PastTurn, execution: Execution, seq: int, diverged: list[ReplayDiverged]) -> None:
    """Raise ReplayDiverged unless a stretch has done all that it did then, and waits."""
    if diverged:
        raise diverged[0]
    if not execution.loop.ended:
        turn.check_end()
        return
    try:
        execution.loop.result()
        actual = "it returned"
    except BaseException as error:
        actual = f"it raised {kind_of(error)}"
    raise ReplayDiverged(
        f"the handler of {turn.agent} ended at {seq}, where its log says that it waits: {actual}",
        agent=turn.agent,
        seq=seq,
        expected="it waits",
        actual=actual,
    )
