"""The agents of the namespace as a tree in rows, of which a page asks for a part."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Sequence, Set
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import Any, Final

import attrs
from attrs import define, field, frozen

from duramen.events import AgentNotFound, DuramenError, Event
from duramen.events.codec import DIGEST_SIZE, Codec, build_event, decode_body
from duramen.events.log import Entry, Span
from duramen.events.model import vocabulary as v
from duramen.projections.history import headline

from ..api import AgentSystem
from ..commands import UnfinishedWork
from .agent_query import Query, open_tree, parse_query, sort_key
from .history import brief_data

MOST_ROWS: Final = 200
ACTIVITY_PARTS: Final = 30
_PART_OF_ACTIVITY: Final = 10.0
"""Seconds."""
_FRESH_SECONDS: Final = 15.0
"""How long a list is used before the directory is read again. What the log tells in between is in it at once."""
_LOAD_SHARE: Final = 20
"""Reading the directory takes at most this part of the time."""
_PART: Final = 500
_PART_SECONDS: Final = 0.2
"""After this long, what has been read of a large directory is shown, and again whenever that has doubled."""
_UNFINISHED: Final = "unfinished"
"""Asks for agents with unfinished work, as a status does for others."""
_MOST_LAST: Final = 5_000
_MOST_WORK: Final = 500
_HOST_SHOWN: Final = 8
_LAST_BYTES: Final = 256 * 1024
STATUS_OF: Final = {
    v.SPAWNED: "running",
    v.RESUMED: "running",
    v.RESTARTED: "running",
    v.PAUSED: "paused",
    v.TERMINATED: "terminated",
    v.EXPIRED: "terminated",
    v.FAILED: "failed",
}
"""The status after an event of lifecycle."""
WORK_CHANGES: Final = frozenset(
    {
        *(v.WORK_ACCEPTED, v.WORK_BEGUN, v.WORK_DONE, v.WORK_CONTINUED, v.WORK_GIVEN_UP, v.WORK_ANSWERED),
        *(v.WORK_PARKED, v.WORK_RETRIED, v.WORK_ENDED, v.RESUMED, v.TERMINATED, v.EXPIRED, v.FORKED),
    }
)
"""What changes how much unfinished work an agent has, or what it waits for."""
_WORK_WORDS: Final = {"wait": "waits for you", "sleep": "sleeps", "ask": "asks"}


@define(eq=False)
class AgentRow:
    """An agent as it is listed."""

    path: str
    status: str
    agent_type: str | None
    session: str | None
    seq: int
    updated: int
    """µs since the epoch."""
    host: str = ""
    """The host that claimed it last, as the directory has it."""


@frozen
class LastEvent:
    """The last event of an agent, for people."""

    seq: int
    type: str
    title: str
    detail: str


@define(eq=False)
class Activity:
    """How many events an agent had in each of the last parts of time, as far as this process has followed it."""

    part: int = 0
    """The last part that is counted, of `monotonic`."""
    counts: list[int] = field(factory=lambda: [0] * ACTIVITY_PARTS)
    """Oldest first."""

    def advance(self, part: int) -> None:
        """Let time go on to a part."""
        passed = min(part - self.part, ACTIVITY_PARTS)
        if passed > 0:
            self.counts = [*self.counts[passed:], *[0] * passed]
            self.part = part


@frozen(eq=False, repr=False)
class _Shown:
    versions: tuple[int, int]
    found: list[AgentRow]
    """The agents that fit but for their status."""
    rows: list[str]
    """Paths; one of one segment is a project."""
    counts: dict[str, int]
    projects: dict[str, int]


class AgentList:
    """Thread-safe. Held in memory; read again now and then, and changed by what the log tells meanwhile."""

    def __init__(self, system: AgentSystem) -> None:
        self._system = system
        self._lock = threading.RLock()
        self._loading = threading.Lock()
        self._rows: dict[str, AgentRow] = {}
        self._order: list[tuple[str, str]] = []
        self._has_rows = threading.Event()
        self._last: OrderedDict[str, LastEvent] = OrderedDict()
        self._activity: OrderedDict[str, Activity] = OrderedDict()
        self._work: dict[str, tuple[int, str]] = {}
        """Of agents with unfinished work: how many pieces, and in words what the most urgent one does."""
        self._uncounted: set[str] = set()
        """Agents whose work may have changed since it was counted."""
        self._changed: set[str] = set()
        """Agents whose work may have changed since all work was last begun to be read."""
        self._has_more_work = False
        """Whether there was more work than was read, so that agents with work may be missing."""
        self._version = 0
        """Of the paths and types; a new one makes all rows anew."""
        self._status_version = 0
        self._loaded_at = float("-inf")
        self._took = 0.0
        self._shown: OrderedDict[Query, _Shown] = OrderedDict()

    @property
    def is_loaded(self) -> bool:
        """Whether the directory was read once."""
        return self._loaded_at > 0

    def load(self) -> None:
        """Read the directory, unless it was read a moment ago. Raises Unavailable."""
        with self._loading:
            began = monotonic()
            if began - self._loaded_at < max(_FRESH_SECONDS, _LOAD_SHARE * self._took):
                return
            rows: dict[str, AgentRow] = {}
            due, is_first = _PART, not self.is_loaded
            for entry in self._system.agents():
                rows[entry.agent] = _row(entry)
                if is_first and len(rows) >= due:
                    if monotonic() - began > _PART_SECONDS:
                        self._publish(dict(rows))
                        due = 2 * len(rows)
                    else:
                        due = len(rows) + _PART
            self._publish(rows)
            self._read_all_work()
            self._loaded_at, self._took = monotonic(), monotonic() - began
            self.rows(Query(), 0, 0)  # made here once, and not by the first page that asks

    def _publish(self, rows: dict[str, AgentRow]) -> None:
        """Put these rows in the place of those before, but for what has been told since they were read."""
        with self._lock:
            for path, known in self._rows.items():
                found = rows.get(path)
                if found is not None and known.seq > found.seq:
                    rows[path] = known
            if rows.keys() != self._rows.keys():
                held = {path: key for key, path in self._order}
                self._order = sorted((held.get(path) or sort_key(path), path) for path in rows)
            self._rows = rows
            self._version += 1
            self._has_rows.set()

    def _read_all_work(self) -> None:
        """Count the work of all agents, up to a number of pieces. Raises Unavailable."""
        with self._lock:
            self._changed = set()
        found = self._system.unfinished(limit=_MOST_WORK + 1)
        self._count_work(found[:_MOST_WORK], has_more=len(found) > _MOST_WORK)

    def _count_work(self, found: Sequence[UnfinishedWork], *, has_more: bool) -> None:
        works: dict[str, list[UnfinishedWork]] = {}
        for work in found:
            works.setdefault(work.agent, []).append(work)
        counted = {path: most_urgent(each) for path, each in works.items()}
        with self._lock:
            uncounted = set(self._changed)
            if has_more:  # what is known of other agents stays, until a row of theirs is seen
                others = self._work.keys() - counted.keys()
                uncounted |= others | (self._uncounted - counted.keys()) | {found[-1].agent}
                counted |= {path: self._work[path] for path in others}
            self._work, self._uncounted, self._has_more_work = counted, uncounted, has_more
            self._status_version += 1

    def wait_for_rows(self, timeout: float) -> None:
        """Wait until some of the directory has been read; of a small one all."""
        self._has_rows.wait(timeout)

    def note(self, event: Event) -> tuple[AgentRow, LastEvent]:
        """Take in an event that was committed; the agent's row then, and the event for people."""
        last = last_event(event)
        with self._lock:
            row = self._rows.get(event.agent)
            if row is None:
                row = AgentRow(event.agent, "running", None, event.session_id, 0, 0)
                self._rows[event.agent] = row
                insort(self._order, (sort_key(event.agent), event.agent))
                self._version += 1
            if event.seq <= row.seq:
                return row, last
            self._count(event.agent)
            row.seq, row.updated = event.seq, int(event.time.timestamp() * 1_000_000)
            status = STATUS_OF.get(event.type)
            if status is not None and status != row.status:
                row.status = status
                self._status_version += 1
            if event.type in WORK_CHANGES:
                self._uncounted.add(event.agent)
                self._changed.add(event.agent)
            if event.type == v.SPAWNED:
                self._version += 1
                row.session, row.agent_type = event.data["session_id"], event.data["agent_type"]
            self._keep_last(event.agent, last)
            return row, last

    def forget(self, path: str) -> None:
        """Take an agent out that was erased, with all that was known of it."""
        with self._lock:
            if self._rows.pop(path, None) is not None:
                del self._order[bisect_left(self._order, (sort_key(path), path))]
                self._version += 1
            self._last.pop(path, None)
            self._activity.pop(path, None)
            self._work.pop(path, None)
            self._uncounted.discard(path)
            self._changed.discard(path)

    def activity(self, path: str) -> list[int] | None:
        """Events of an agent in the last parts of time, oldest first; None if nothing was heard of it."""
        with self._lock:
            found = self._activity.get(path)
            if found is None:
                return None
            found.advance(int(monotonic() / _PART_OF_ACTIVITY))
            return found.counts

    def _count(self, path: str) -> None:
        known = self._activity.pop(path, None) or Activity()
        known.advance(int(monotonic() / _PART_OF_ACTIVITY))
        known.counts[-1] += 1
        self._activity[path] = known
        if len(self._activity) > _MOST_LAST:
            self._activity.popitem(last=False)

    def count_by_host(self) -> Counter[str]:
        """How many agents each host was the last to claim, as far as that is known here."""
        with self._lock:
            return Counter(row.host for row in self._rows.values())

    def find(self, path: str) -> AgentRow | None:
        """The row of an agent."""
        return self._rows.get(path)

    def rows(self, query: Query, first: int, count: int) -> dict[str, Any]:
        """A part of the opened tree, with how many rows there are and how many agents of each status."""
        if _UNFINISHED in parse_query(query)[1]:
            self._read_hosts_and_work(self._some_uncounted())
        shown = self._show(query)
        part = shown.rows[first : first + min(count, MOST_ROWS)]
        self._read_last([path for path in part if "/" in path])
        if self._read_hosts_and_work(part):
            shown = attrs.evolve(shown, counts=self._show(query).counts)
        after = [*part[1:], *shown.rows[first + len(part) :][:1], ""]
        return {
            "total": len(shown.rows),
            "first": first,
            "reading": not self.is_loaded,
            "counts": shown.counts,
            "more": self._has_more_work,
            "rows": [
                self._row_data(shown, path, is_closed=path in query.closed, following=following)
                for path, following in zip(part, after, strict=False)
            ],
        }

    def _row_data(self, shown: _Shown, path: str, *, is_closed: bool, following: str) -> dict[str, Any]:
        row, last = self._rows.get(path), self._last.get(path)
        below = is_closed or following.startswith(f"{path}/")
        data: dict[str, Any] = {"path": path, "depth": path.count("/"), "below": below, "closed": is_closed}
        if row is None:
            return {**data, "agents": shown.projects.get(path, 0)}
        data |= {"status": row.status, "type": row.agent_type, "session": row.session}
        data |= {"seq": row.seq, "updated": row.updated, "activity": self.activity(path)}
        data |= {"host": row.host[:_HOST_SHOWN], "work": self._work.get(path)}
        return data if last is None else {**data, "last": [last.seq, last.type, last.title, last.detail]}

    def _show(self, query: Query) -> _Shown:
        """The rows of a query. Of those that are known, what has stayed as it was is not made again."""
        with self._lock:
            versions = (self._version, self._status_version)
            known = self._shown.get(query)
            if known is not None and known.versions == versions:
                return known
            words, statuses, types = parse_query(query)
            is_same = known is not None and known.versions[0] == versions[0]
            found = known.found if known is not None and is_same else self._find(words, types)
            counts = Counter(row.status for row in found)
            counts["all"] = len(found)
            busy = self._work.keys()
            if busy:
                counts[_UNFINISHED] = sum(row.path in busy for row in found)
            if known is not None and is_same and not statuses:
                rows, projects = known.rows, known.projects
            else:
                fits = [row for row in found if _has_status(row, statuses, busy)] if statuses else found
                rows, projects = open_tree([row.path for row in fits], query.closed)
            shown = _Shown(versions, found, rows, dict(counts), projects)
            self._shown[query] = shown
            if len(self._shown) > 8:
                self._shown.popitem(last=False)
            return shown

    def _find(self, words: Sequence[str], types: set[str]) -> list[AgentRow]:
        found = [self._rows[path] for _, path in self._order]
        for word in words:
            found = [row for row in found if word in row.path.lower()]
        return [row for row in found if (row.agent_type or "").lower() in types] if types else found

    def _read_hosts_and_work(self, paths: Sequence[str]) -> bool:
        """Read the host of agents that came since the directory was read, and count work that has changed since.

        Returns whether any work was counted.
        """
        is_counted = False
        with suppress(DuramenError):  # the rows are shown with what was known
            for path in paths:
                row = self._rows.get(path)
                if row is not None and not row.host and (head := self._system.log.head(path)) is not None:
                    row.host = head.fence.partition(":")[2]
                if path in self._uncounted:
                    self._count_again(path)
                    is_counted = True
        return is_counted

    def _some_uncounted(self) -> list[str]:
        with self._lock:
            return list(islice(self._uncounted, MOST_ROWS))

    def _count_again(self, path: str) -> None:
        """Read the unfinished work of one agent, of which an erased one has none. Raises CorruptEvent, Unavailable."""
        with self._lock:
            self._uncounted.discard(path)
        try:
            found = self._system.read_unfinished(path)
        except AgentNotFound:
            found = []
        with self._lock:
            counted = most_urgent(found) if found else None
            if counted == self._work.get(path):
                return
            if counted is None:
                del self._work[path]
            else:
                self._work[path] = counted
            self._status_version += 1

    def _read_last(self, paths: Sequence[str]) -> None:
        """Read the last events that are not known, together."""
        log = self._system.log
        spans: dict[int, list[Span]] = {}
        for path in paths:
            row, last = self._rows.get(path), self._last.get(path)
            if row is not None and row.seq and (last is None or last.seq < row.seq):
                spans.setdefault(log.partition_of(path), []).append(Span(path, row.seq, 1))
        if not spans:
            return
        try:
            found = log.gather_all(list(spans.items()), _LAST_BYTES)
        except DuramenError:  # the rows are shown without
            return
        codec = Codec(self._system.limits)
        for asked, answers in zip(spans.values(), found, strict=True):
            for span, answer in zip(asked, answers, strict=False):
                for item in answer.items[:1]:
                    self._keep_last(span.agent, self._decode(span.agent, answer.first_seq, item, codec))

    def _decode(self, agent: str, seq: int, item: bytes, codec: Codec) -> LastEvent:
        try:
            raw = decode_body(agent, seq, item[DIGEST_SIZE:], codec)
            return last_event(build_event(agent, seq, raw, item[:DIGEST_SIZE], self._system.registry))
        except DuramenError as error:
            return LastEvent(seq, type(error).__name__, "cannot be read", "")

    def _keep_last(self, path: str, last: LastEvent) -> None:
        with self._lock:
            self._last[path] = last
            self._last.move_to_end(path)
            if len(self._last) > _MOST_LAST:
                self._last.popitem(last=False)


def last_event(event: Event) -> LastEvent:
    """An event for people."""
    return LastEvent(event.seq, event.type, headline(event)[:160], brief_data(event.type, event.data))


def _row(entry: Entry) -> AgentRow:
    return AgentRow(
        entry.agent,
        entry.status,
        entry.agent_type,
        entry.session_id,
        entry.head.seq,
        entry.head.updated_at,
        entry.head.fence.partition(":")[2],
    )


def work_word(work: UnfinishedWork) -> str:
    """What a piece of unfinished work does, in a word or three."""
    if work.parked is not None:
        return "parked"
    kinds = [str(item["kind"]) for item in work.waits_for]
    return _WORK_WORDS["wait"] if "wait" in kinds else _WORK_WORDS.get(kinds[0] if kinds else "", "runs")


def work_rank(work: UnfinishedWork) -> int:
    """What waits for an answer and parked work come first: somebody has to act."""
    return {_WORK_WORDS["wait"]: 0, "parked": 1}.get(work_word(work), 2)


def most_urgent(works: Sequence[UnfinishedWork]) -> tuple[int, str]:
    """How many pieces of work there are, and what the most urgent of them does."""
    return len(works), work_word(min(works, key=work_rank))


def _has_status(row: AgentRow, statuses: set[str], busy: Set[str]) -> bool:
    return row.status in statuses or (_UNFINISHED in statuses and row.path in busy)
