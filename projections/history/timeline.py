"""What happened, in order, a line an event: for people who look at a session."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, cast

from attrs import frozen

from duramen.events import Event, Granularity, InvalidMessage
from duramen.events.model import vocabulary as v

from ..projection import Projection

__all__ = ["Moment", "Timeline", "headline"]

_WIDTH: Final = 80


@frozen
class Moment:
    """One line of a timeline. `title` names what was done to what; it shows no values."""

    agent: str
    seq: int
    time: datetime
    granularity: Granularity
    title: str


class Timeline(Projection[tuple[Moment, ...]]):
    """The moments of one or more agents up to a granularity, the latest `most` of them."""

    def __init__(self, granularity: Granularity = Granularity.TRACE, most: int = 10_000) -> None:
        if most < 1:
            raise InvalidMessage("a timeline keeps at least one moment", actual=most)
        self._granularity = granularity
        self._most = most

    def initial(self) -> tuple[Moment, ...]:
        return ()

    def apply(self, state: tuple[Moment, ...], event: Event) -> tuple[Moment, ...]:
        if event.granularity > self._granularity:
            return state
        moment = Moment(event.agent, event.seq, event.time, event.granularity, headline(event))
        return (*state, moment)[-self._most :]

    def dump(self, state: tuple[Moment, ...]) -> Any:
        return [[moment.agent, moment.seq, moment.time, int(moment.granularity), moment.title] for moment in state]

    def load(self, data: Any) -> tuple[Moment, ...]:
        return tuple(Moment(agent, seq, time, Granularity(level), title) for agent, seq, time, level, title in data)


def headline(event: Event) -> str:
    """A line for people: what was done, to what, without values."""
    words = _WORDS.get(event.type)
    if words is None:
        return event.type.replace("_", " ")
    named = {key: _shorten(value) for key, value in event.data.items()}
    return words.format_map(named)


def _shorten(value: Any) -> str:
    if type(value) is list:
        return str(len(cast("list[Any]", value)))
    text = str(value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


_WORDS: Final = {
    v.SPAWNED: "spawned, session {session_id}",
    v.CHILD_SPAWNED: "spawned sub-agent {path}",
    v.FAILED: "failed: {error}",
    v.FORKED: "forked from {origin} at {origin_seq}",
    v.RESTARTED: "restarted",
    v.PAUSED: "paused at checkpoint {checkpoint_id} (items: {keys_count})",
    v.RESUMED: "resumed from checkpoint {checkpoint_id} (items: {items_restored})",
    v.TERMINATED: "terminated: {outcome}",
    v.EPISODE_RECORDED: "kept as an episode",
    v.MEMORY_SET: "set {path}",
    v.MEMORY_DELETED: "deleted {path}",
    v.MEMORY_APPENDED: "appended {values} to {path}",
    v.MEMORY_MERGED: "merged into {path}",
    v.MEMORY_RESTORED: "restored {ops} changes",
    v.GRANULARITY_SET: "changed the granularity",
    v.RETENTION_SET: "changed how much of its log is kept",
    v.ACTIVITY_RECORDED: "recorded {kind}",
}
