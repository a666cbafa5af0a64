"""All that a page can ask of some agents, answered beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from attrs import define, field

from duramen.events import AgentNotFound, TooLarge, agent_path
from duramen.projections.history import traced_base, traced_states
from duramen.projections.recovery import AgentLog

from ...api import AgentSystem
from ..endpoints import Answer, describe_head, episode_row, work_rows
from ..history import ConversationRecord, LogIndex, event_at, read_work, timeline, to_bytes, window

_MOST_EVENTS: Final = 20_000
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_EPISODES: Final = 200


@define
class _Budget:
    """What the page may still hold, and how many events it has."""

    progress: Callable[[int], object] | None
    events: int = 0
    pieces: list[bytes] = field(factory=list[bytes])
    size: int = 0

    def spend(self, answer: Any) -> bytes:
        """The answer as JSON. Raises TooLarge when the page has no room for it."""
        made = to_bytes(answer)
        self.size += len(made)
        if self.size > _MOST_BYTES:
            raise _too_large("bytes", _MOST_BYTES, self.size)
        return made

    def count(self) -> None:
        self.events += 1
        if self.progress is not None and self.events % 100 == 0:
            self.progress(self.events)


def record(
    system: AgentSystem, path: str, *, tree: bool, progress: Callable[[int], object] | None
) -> tuple[bytes, int]:
    """The answers as one JSON object, and the number of events. Raises AgentNotFound, TooLarge, and as reading does."""
    agents = _paths(system, agent_path(path).text, tree=tree)
    budget = _Budget(progress)
    logs = [_record_log(system, agent, budget) for agent in agents]
    rows = [row for row, _ in logs]
    episodes = [
        episode_row(each) for agent in agents for each in system.episodes.list(agent=agent, limit=_MOST_EPISODES)
    ]
    work = [row for agent in agents for row in work_rows(system.read_unfinished(agent))]
    records = [read_work(_agent_log(system, row["agent"]), row["work"]) for row in work]
    places = ["agents", *(["work"] if work else []), *(["episodes"] if episodes else [])]
    session = {"namespace": path, "actions": False, "places": places, "recorded": datetime.now(UTC).isoformat()}
    head = budget.spend({"session": session, "agents": rows, "episodes": episodes, "work": work, "records": records})
    held = b",".join(b"%s:%s" % (to_bytes(row["path"]), log) for row, log in logs)
    return b'%s,"logs":{%s}}' % (head[:-1], held), budget.events


def _paths(system: AgentSystem, root: str, *, tree: bool) -> list[str]:
    found = {entry.agent for entry in system.agents(f"{root}/")} if tree else set[str]()
    return sorted({root, *found})


def _agent_log(system: AgentSystem, agent: str) -> AgentLog:
    return AgentLog(system.log, agent, system.limits, system.registry)


def _record_log(system: AgentSystem, agent: str, budget: _Budget) -> tuple[Answer, bytes]:
    """The agent's row in the list, and all answers about its log."""
    if system.log.head(agent) is None:
        raise AgentNotFound(f"there is no agent {agent}", agent=agent)
    agent_log = _agent_log(system, agent)
    head = describe_head(system, agent_log)
    base, last = head["base"], head["seq"]
    if budget.events + last - base > _MOST_EVENTS:
        raise _too_large("events", _MOST_EVENTS, budget.events + last - base)
    index = LogIndex(agent_log, base)
    index.extend(lambda: False)
    if index.failed is not None:
        raise index.failed
    last = head["seq"] = min(last, index.seq)
    parts = {
        "head": budget.spend(head),
        "timelines": budget.spend(_timelines(index, last)),
        "windows": _array(budget.spend(each) for each in _windows(agent_log, index, last)),
        "events": _array(_events(agent_log, base, last, budget)),
        "conversation": budget.spend(_conversation(agent_log, last)),
    }
    row = _row(head, event_at(agent_log, last) if last > base else None)
    return row, b"{%s}" % b",".join(b'"%s":%s' % (name.encode(), held) for name, held in parts.items())


def _timelines(index: LogIndex, last: int) -> Answer:
    shown: Answer = {"complete": True, "indexed": last, "base": index.base, "failed": None}
    if last == index.base:
        empty: Answer = {**shown, "from": 0, "to": 0, "bins": [], "places": [], "gaps": [], "ticks": [], "lanes": {}}
        return {"time": empty, "seq": empty}
    first = index.base + 1
    made = {name: timeline(index, by_time=name == "time", first=first, last=last) for name in ("time", "seq")}
    return {name: {**shown, **answer} for name, answer in made.items()}


def _windows(agent_log: AgentLog, index: LogIndex, last: int) -> Iterator[Answer]:
    seq = index.base + 1
    while seq <= max(last, index.base + 1):
        made = window(agent_log, index, min(seq, max(last, index.base)))
        yield made
        seq = max(made["to"], seq) + 1


def _events(agent_log: AgentLog, base: int, last: int, budget: _Budget) -> Iterator[bytes]:
    for seq in range(base + 1, last + 1):
        yield budget.spend(event_at(agent_log, seq))
        budget.count()


def _conversation(agent_log: AgentLog, last: int) -> Answer:
    start, record = traced_base(agent_log), ConversationRecord()
    record.add(start)
    for _, traced in traced_states(agent_log, start, last):
        record.add(traced)
    return record.data()


def _row(head: Answer, event: Answer | None) -> Answer:
    """The agent as it is listed."""
    row = {name: head[name] for name in ("status", "type", "session", "seq")}
    updated = 0 if head["updated"] is None else int(datetime.fromisoformat(head["updated"]).timestamp() * 1_000_000)
    last = None if event is None else [event["seq"], event["type"], event["title"], ""]
    row |= {"host": head["host"][:8], "updated": updated, "last": last}
    return {"path": head["agent"], "depth": head["agent"].count("/"), **row}


def _array(parts: Iterator[bytes] | Sequence[bytes]) -> bytes:
    return b"[%s]" % b",".join(parts)


def _too_large(what: str, most: int, found: int) -> TooLarge:
    return TooLarge(
        f"a page without a server holds at most {most:,} {what}: export fewer agents, or export a file without --html "
        "and look into it with `duramen inspect FILE`",
        expected=most,
        actual=found,
    )
