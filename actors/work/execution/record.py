"""The record of one piece of work in its agent's log: what began each stretch, and what the stretch has done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Factory, define

from duramen.events.codec import RawEvent
from duramen.events.model import WORK_CONTINUED, WORK_DONE, event_id
from duramen.projections.recovery import AgentLog
from duramen.projections.state import Piece


@define(eq=False)
class Stretch:
    """What a handler did from one result to where it waited next."""

    seq: int
    """The seq of the event that began it."""
    time: int
    number: int
    data: Mapping[str, Any]
    """What the event says that began it: its `result` may stand beside the log."""
    events: list[RawEvent] = Factory(list[RawEvent])
    """What it has emitted and begun, at the seqs that follow."""


@define(eq=False)
class Record:
    """All that the log has of a piece of work that has not ended."""

    accepted: RawEvent
    stretches: list[Stretch] = Factory(list[Stretch])
    forks: Sequence[tuple[int, str, str]] = ()
    """As `Piece` has them."""
    held: dict[int, Mapping[str, Any]] = Factory(dict[int, Mapping[str, Any]])
    """What the events say that have the results which the handler did not get yet, by number."""

    @property
    def command_id(self) -> str | None:
        command = self.accepted[6]
        return None if command is None else command[0]

    def agent_at(self, seq: int | None, agent: str) -> str:
        """The path that the agent had where a seq was logged: that of its origin, before it was forked. None: now."""
        return agent if seq is None else next((origin for at, origin, _ in self.forks if seq < at), agent)

    def log_at(self, seq: int | None) -> str:
        """What keys that were made at a seq, or are made now, have of the log: others are made after a fork."""
        marks = [mark for at, _, mark in self.forks if seq is None or at < seq]
        found: str = marks[-1] if marks else self.accepted[4]["log"]
        return found


def read_record(agent_log: AgentLog, work: int, to_seq: int, piece: Piece) -> Record:
    """Read the record of the work of the message at seq `work`. Blocks; raises Trimmed and what reading raises."""
    agent = agent_log.agent
    digest = agent_log.digest_at(work - 1) or b""
    record: Record | None = None
    stretch: Stretch | None = None
    causes = ("", "")
    for seq, raw, _ in agent_log.raw_events(work - 1, digest, to_seq):
        if record is None:
            record = Record(raw, forks=piece.get("forks", ()))
            continue
        kind, data = raw[0], raw[4]
        if kind == WORK_CONTINUED and data["work"] == work:
            stretch = Stretch(seq, raw[3], data["number"], data)
            record.stretches.append(stretch)
            causes = _ids_of(record.agent_at(seq, agent), seq)
        elif stretch is not None and raw[7] in causes and seq == stretch.seq + len(stretch.events) + 1:
            stretch.events.append(raw)
        elif kind == WORK_DONE and data["work"] == work:
            record.held[data["number"]] = data
    assert record is not None, "the message is in the log"
    return record


def _ids_of(agent: str, seq: int) -> tuple[str, str]:
    """The id of an event, and the one it had before logs had ids."""
    return event_id(agent, seq), f"{agent}@{seq}"
