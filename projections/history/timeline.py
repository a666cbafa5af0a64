"""Timelines of agents, for people: one line for each event, in order."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, cast

from attrs import frozen

from duramen.events import Event, Granularity, InvalidMessage
from duramen.events.model import RESUMED, WORK_CONTINUED

from ..projection import Projection
from ..state import OWN_EVENT_TYPES

_WIDTH: Final = 80


@frozen
class Moment:
    """One line of a timeline. `title` names the change and its path; it shows no values."""

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
    """A line about an event for people: the change and its path, without values."""
    own = OWN_EVENT_TYPES.get(event.type)
    if own is None:
        return event.type.replace("_", " ")
    if event.type == RESUMED and event.data["checkpoint_id"] is None:
        return "resumed in place"
    if event.type == WORK_CONTINUED and (event.data["number"] == 0 or event.data["error"] is not None):
        return _without_result(event.data)
    return own.headline.format_map({key: _shorten(value) for key, value in event.data.items()})


def _without_result(data: dict[str, Any]) -> str:
    """A line about work that goes on from its start, or with an error."""
    if data["number"]:
        return f"work {data['work']} went on with the error of #{data['number']}"
    return f"work {data['work']} {'started' if data['error'] is None else 'went on to be cancelled'}"


def _shorten(value: Any) -> str:
    if type(value) is list:
        return str(len(cast("list[Any]", value)))
    text = str(value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
