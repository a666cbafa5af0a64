"""The record of one piece of work: what its handler has begun, and what came of it, as its agent's log has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

from duramen.events import PathNotFound
from duramen.events.codec import RawEvent, to_datetime
from duramen.events.model import vocabulary as v
from duramen.projections.recovery import AgentLog, LogNames
from duramen.projections.state import ASK, message_type_of

from .encoding import Room, as_dict, encode_tree

_MOST_EVENTS: Final = 5_000
"""Of a longer log, the last events are read."""
_MOST_STEPS: Final = 200
_MOST_NOTES: Final = 20
_MOST_FAILURES: Final = 5
_ROOM: Final = 128 * 1024
_ONE_VALUE: Final = 2 * 1024
_TEXT: Final = 500


@define(eq=False)
class _Step:
    """Something that the handler has begun: a step, a wait, a sleep, or what another agent was asked."""

    seq: int
    time: int
    data: dict[str, Any]
    attempts: int = 0
    failures: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    end: int | None = None
    """The seq of the event that has its result, or that says that there will be none."""
    ended: int | None = None
    how: str | None = None
    result: Any = None
    error: dict[str, Any] | None = None


@define(eq=False)
class _Record:
    work: int
    steps: dict[int, _Step] = field(factory=dict[int, _Step])
    notes: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    left_out: int = 0

    def add(self, seq: int, raw: RawEvent) -> None:
        """Take in the next event, of any work."""
        data = raw[4]
        fold = _FOLDS.get(raw[0])
        if fold is not None and (data.get("work") == self.work or self.work in data.get("works", ())):
            fold(self, seq, raw[3], data)

    def begin(self, seq: int, time: int, data: dict[str, Any]) -> None:
        self.steps[data["number"]] = _Step(seq, time, data)
        if len(self.steps) > _MOST_STEPS:
            oldest = next((number for number, step in self.steps.items() if step.how is not None), data["number"])
            del self.steps[oldest]
            self.left_out += 1

    def fail(self, seq: int, time: int, data: dict[str, Any]) -> None:
        step = self.steps.get(data["number"])
        if step is not None:
            step.attempts = data["attempt"]
            step.failures = [*step.failures[1 - _MOST_FAILURES :], {"seq": seq, **_failure(data["error"])}]

    def end(self, seq: int, time: int, data: dict[str, Any]) -> None:
        """End a step with its result, unless it had that before: its handler goes on with it now."""
        step, error = self.steps.get(data["number"]), data["error"]
        if step is None:
            if data["number"] == 0 and error is not None:
                self.note("cancelled", seq, time)
        elif step.how is None:
            step.end, step.ended, step.result, step.error = seq, time, data["result"], error
            step.how = "done" if error is None else "failed"

    def give_up(self, seq: int, time: int, data: dict[str, Any]) -> None:
        step = self.steps.get(data["number"])
        if step is not None and step.how is None:
            step.end, step.ended, step.how = seq, time, "given up"

    def park(self, seq: int, time: int, data: dict[str, Any]) -> None:
        self.note("parked", seq, time, str(data["error"].get("text", "")))

    def note(self, what: str, seq: int, time: int, text: str = "") -> None:
        self.notes = [*self.notes[1 - _MOST_NOTES :], {"what": what, "seq": seq, "time": time, "text": text[:_TEXT]}]


_FOLDS: Final[dict[str, Callable[[_Record, int, int, dict[str, Any]], None]]] = {
    v.WORK_BEGUN: _Record.begin,
    v.WORK_ATTEMPTED: _Record.fail,
    v.WORK_CONTINUED: _Record.end,
    v.WORK_DONE: _Record.end,
    v.WORK_GIVEN_UP: _Record.give_up,
    v.WORK_PARKED: _Record.park,
    v.WORK_TAKEN_UP: lambda record, seq, time, data: record.note("taken up", seq, time),
    v.WORK_RETRIED: lambda record, seq, time, data: record.note("retried", seq, time),
    v.WORK_ENDED: lambda record, seq, time, data: record.note("ended", seq, time, data["how"]),
}


def read_work(agent_log: AgentLog, work: int) -> dict[str, Any]:
    """What the work of the message at seq `work` has done, with its values cut. Of a long log the last part is read.

    Times are in µs since the epoch. Raises PathNotFound where no message was accepted as work at that seq, and what
    reading raises.
    """
    head = agent_log.head()
    accepted = agent_log.raw_event(work) if head.base < work <= head.seq else None
    if accepted is None or accepted[0] != v.WORK_ACCEPTED:
        raise PathNotFound(f"{agent_log.agent} has no work {work}", agent=agent_log.agent, seq=work)
    record, room, names = _Record(work), Room(_ROOM), LogNames(agent_log.log)
    first = max(work + 1, head.seq - _MOST_EVENTS + 1)
    for seq, raw, _ in agent_log.raw_events(first - 1, agent_log.digest_at(first - 1) or b"", head.seq):
        record.add(seq, raw)
    return {
        "agent": agent_log.agent,
        "work": work,
        "message_type": message_type_of(accepted[4])[:_TEXT],
        "data": _encode(accepted[4]["data"], room),
        "command": None if accepted[6] is None else accepted[6][0],
        "from": first,
        "left_out": record.left_out,
        "steps": [_row(number, step, room, names) for number, step in record.steps.items()],
        "notes": record.notes,
    }


def _row(number: int, step: _Step, room: Room, names: LogNames) -> dict[str, Any]:
    data, result, name = step.data, step.result, step.data["name"]
    reply = as_dict(result) or {}
    if data["kind"] == ASK:
        name, result = names.path(name), reply.get("reply", result)
    due = data["due"]
    return {
        "number": number,
        "kind": data["kind"],
        "name": name[:200],
        "seq": step.seq,
        "time": step.time,
        "due": None if due is None else to_datetime(due).isoformat(),
        "about": _encode(data["about"], room),
        "once": data["once"],
        "attempts": step.attempts,
        "failures": step.failures,
        "end": step.end,
        "ended": step.ended,
        "how": step.how,
        "result": _encode(result, room) if step.how == "done" else None,
        "error": None if step.error is None else _failure(step.error),
    }


def _failure(error: dict[str, Any]) -> dict[str, str]:
    return {name: str(error.get(name, ""))[:_TEXT] for name in ("kind", "text")}


def _encode(value: Any, room: Room) -> Any:
    own = Room(min(_ONE_VALUE, max(room.left, 0)))
    given = own.left
    node = encode_tree(value, 0, own, items=20, text=_TEXT if given else 40)
    room.left -= given - own.left
    return node
