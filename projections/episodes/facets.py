"""The fields that episodes are filtered by, in columns: a few bytes an episode, so that a million are scanned fast."""

from __future__ import annotations

from array import array
from datetime import datetime

from attrs import frozen

from duramen.events.codec import to_microseconds

_EMPTY = -1


@frozen(kw_only=True)
class EpisodeFilter:
    """A filter of episodes; None takes all. `agent` is a whole path; `since` is aware, and its moment is included."""

    project: str | None = None
    agent: str | None = None
    outcome: str | None = None
    since: datetime | None = None


@frozen
class Choice:
    """A filter as numbers: columns, each with the code it must have. `created` are µs since the epoch."""

    equal: list[tuple[array[int], int]]
    created: array[int]
    since: int | None

    @property
    def takes_all(self) -> bool:
        """Whether every row matches."""
        return not self.equal and self.since is None

    def matches(self, row: int) -> bool:
        return all(column[row] == code for column, code in self.equal) and (
            self.since is None or self.created[row] >= self.since
        )


class Facets:
    """One row an episode. Not thread-safe. A cleared row matches no filter except the empty one."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._projects = array("i")
        self._agents = array("i")
        self._outcomes = array("i")
        self.created = array("q")
        """The time each episode was made, in µs since the epoch."""

    def __len__(self) -> int:
        return len(self.created)

    def put(self, row: int, project: str, agent: str, outcome: str, created: datetime) -> None:
        """Fill an existing row, or the next."""
        if row == len(self):
            for column in (self._projects, self._agents, self._outcomes, self.created):
                column.append(_EMPTY)
        self._projects[row] = self._code(project)
        self._agents[row] = self._code(agent)
        self._outcomes[row] = self._code(outcome)
        self.created[row] = to_microseconds(created)

    def clear(self, row: int) -> None:
        self._projects[row] = self._agents[row] = self._outcomes[row] = _EMPTY
        self.created[row] = -(1 << 63)

    def choose(self, selection: EpisodeFilter) -> Choice:
        """Translate a filter for the rows there are now. The choice is invalid once a row is added."""
        wanted = (
            (self._projects, selection.project),
            (self._agents, selection.agent),
            (self._outcomes, selection.outcome),
        )
        unknown = len(self._codes)  # a code that no row has
        equal = [(column, self._codes.get(text, unknown)) for column, text in wanted if text is not None]
        return Choice(equal, self.created, None if selection.since is None else to_microseconds(selection.since))

    def _code(self, text: str) -> int:
        return self._codes.setdefault(text, len(self._codes))
