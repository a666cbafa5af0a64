"""What the page asks for: each function answers one address with JSON types, bounded in size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, cast

from attrs import asdict, frozen

from duramen.events import AgentNotFound, CorruptEvent, InvalidMessage, agent_path, property_segments
from duramen.events.codec import to_datetime
from duramen.events.model import join_text
from duramen.projections import AgentView, Blame, ConsumerInfo, Episode
from duramen.projections.recovery import AgentLog, state_before

from ..api import AgentSystem
from ..commands import UnfinishedWork
from ..hosts import BEAT_SECONDS, LEASE_SECONDS
from .agent_query import Query
from .agents import AgentList, most_urgent, work_rank, work_word
from .history import (
    MOST_CAUSES,
    LogIndexes,
    Room,
    conversation,
    encode_plain,
    event_at,
    event_row,
    level_at,
    long_value_at,
    long_value_of,
    read_work,
    timeline,
    traced_at,
    window,
)
from .live import LiveView

Answer = dict[str, Any]
Parameters = dict[str, str]

_MOST_CLOSED: Final = 500
_MOST_CHECKPOINTS: Final = 100
_MOST_EPISODES: Final = 50
_MOST_HOSTS: Final = 100
_MOST_CELLS: Final = 32
"""Into which the partitions of a consumer are summed up."""
_MOST_WORK: Final = 200
_MOST_WORK_READ: Final = 1_000
"""Pieces of work from which those that are shown are chosen."""
_MOST_DIFFERENCES: Final = 200
_LIST_SECONDS: Final = 10.0
_INDEX_SECONDS: Final = 0.25
"""How long a request waits for an index that is being made."""


@frozen
class Inspected:
    """All that the answers are made from."""

    system: AgentSystem
    agents: AgentList
    indexes: LogIndexes
    live: LiveView
    namespace: str
    allow_actions: bool

    def agent_log(self, path: str) -> AgentLog:
        """A new reader of an agent's log. Raises InvalidPath."""
        return AgentLog(self.system.log, agent_path(path).text, self.system.limits, self.system.registry)


def answer_session(inspected: Inspected, asked: Parameters) -> Answer:
    """What the page needs to know first."""
    return {"namespace": inspected.namespace, "actions": inspected.allow_actions, "places": ["agents"]}


def answer_agents(inspected: Inspected, asked: Parameters) -> Answer:
    """A part of the tree of agents."""
    inspected.agents.wait_for_rows(_LIST_SECONDS)
    closed = frozenset(asked.get("closed", "").split("\n")[:_MOST_CLOSED]) - {""}
    query = Query(asked.get("text", "")[:200], asked.get("status", "")[:20], closed)
    return inspected.agents.rows(query, _number(asked, "first", 0), _number(asked, "count", 100))


def answer_rates(inspected: Inspected, asked: Parameters) -> Answer:
    """The counts of the last seconds."""
    return inspected.live.rates.points()


def answer_head(inspected: Inspected, asked: Parameters) -> Answer:
    """An agent as it is now, without values."""
    return describe_head(inspected.system, inspected.agent_log(asked.get("agent", "")))


def describe_head(system: AgentSystem, agent_log: AgentLog) -> Answer:
    """An agent as it is now, without values; of a damaged log, as it was before the damage. Raises AgentNotFound."""
    head = agent_log.head()
    state, damage = _last_whole(system, agent_log, head.base)
    checkpoints = list(state.checkpoints.items())[-_MOST_CHECKPOINTS:]
    origin = system.origin(agent_log.agent)
    work = [] if damage is not None else system.read_unfinished(agent_log.agent)
    return {
        "agent": agent_log.agent,
        "seq": state.seq,
        "base": head.base,
        "status": state.status,
        "type": state.agent_type,
        "session": state.session_id,
        "session_first": state.session_first_seq,
        "started": _iso(state.started_at),
        "updated": _iso(state.updated_at),
        "parent": state.parent,
        "children": sorted(state.children)[:_MOST_CHECKPOINTS],
        "fence": head.fence.partition(":")[0],
        "host": head.fence.partition(":")[2],
        "granularity": state.granularity.name.lower(),
        "checkpoints": [{"id": name, "seq": seq} for name, seq in reversed(checkpoints)],
        "origin": None if origin is None else {"agent": origin.agent, "seq": origin.seq},
        "work": most_urgent(work) if work else None,
        "damage": None if damage is None else {"seq": damage.seq, "message": str(damage)[:500]},
        "metadata": encode_plain(dict(state.metadata), Room(8 * 1024)) if state.metadata else None,
    }


def _last_whole(system: AgentSystem, agent_log: AgentLog, base: int) -> tuple[AgentView, CorruptEvent | None]:
    """The state now, or the last one before the event that is damaged, with the error. Raises CorruptEvent for none."""
    try:
        return system.peek(agent_log.agent), None
    except CorruptEvent as error:
        if error.seq is None or error.seq <= base + 1:
            raise
        return AgentView(agent_log.agent, state_before(agent_log, seq=error.seq - 1).state), error


def answer_timeline(inspected: Inspected, asked: Parameters) -> Answer:
    """What to draw of an agent's log, or how far the reading of it is."""
    agent_log = inspected.agent_log(asked.get("agent", ""))
    progress = inspected.indexes.of(agent_log, _INDEX_SECONDS)
    index = progress.index
    first = max(_number(asked, "from", index.base + 1), index.base + 1)
    last = min(_number(asked, "to", index.seq), index.seq)
    answer: Answer = {"complete": progress.is_complete, "indexed": index.seq, "base": index.base}
    answer["failed"] = None if index.failed is None else str(index.failed)[:500]
    if last < first:
        return {**answer, "from": first, "to": last, "bins": [], "places": [], "gaps": [], "ticks": [], "lanes": {}}
    return {**answer, **timeline(index, by_time=asked.get("axis") != "seq", first=first, last=last)}


def answer_window(inspected: Inspected, asked: Parameters) -> Answer:
    """A state and the events after it."""
    agent_log = inspected.agent_log(asked.get("agent", ""))
    index = inspected.indexes.of(agent_log, _INDEX_SECONDS).index
    return window(agent_log, index, _seq(inspected, agent_log, asked))


def answer_state(inspected: Inspected, asked: Parameters) -> Answer:
    """A level of working memory."""
    agent_log = inspected.agent_log(asked.get("agent", ""))
    index = inspected.indexes.of(agent_log, _INDEX_SECONDS).index
    seq = _seq(inspected, agent_log, asked)
    return level_at(agent_log, index, seq, _segments(asked), _number(asked, "first", 0))


def answer_long(inspected: Inspected, asked: Parameters) -> Answer:
    """A part of a long text, or of bytes: of working memory, or of the data of an event."""
    agent_log = inspected.agent_log(asked.get("agent", ""))
    seq, first = _seq(inspected, agent_log, asked), _number(asked, "first", 0)
    segments = (*property_segments(asked.get("property", "")), *_segments(asked))
    if asked.get("of") == "event":
        return long_value_of(agent_log, seq, segments, first)
    index = inspected.indexes.of(agent_log, _INDEX_SECONDS).index
    return long_value_at(agent_log, index, seq, segments, first)


def answer_event(inspected: Inspected, asked: Parameters) -> Answer:
    """One event in full, with its causes."""
    return event_at(inspected.agent_log(asked.get("agent", "")), _number(asked, "seq", 0))


def answer_conversation(inspected: Inspected, asked: Parameters) -> Answer:
    """The messages that working memory holds."""
    agent_log = inspected.agent_log(asked.get("agent", ""))
    index = inspected.indexes.of(agent_log, _INDEX_SECONDS).index
    state = traced_at(agent_log, index, _seq(inspected, agent_log, asked))
    return conversation(state, _number(asked, "before", 0) if "before" in asked else None)


def answer_diff(inspected: Inspected, asked: Parameters) -> Answer:
    """The differences between two moments of an agent."""
    path, a, b = asked.get("agent", ""), _number(asked, "a", 0), _number(asked, "b", 0)
    found = inspected.system.diff(path, a, b)
    room = Room()
    rows: list[list[Any]] = []
    for name, values in (("added", found.added), ("removed", found.removed)):
        for where, value in values.items():
            rows.append([name, where, encode_plain(_plain(value), room) if len(rows) < _MOST_DIFFERENCES else None])
    for where, (old, new) in found.changed.items():
        pair = [encode_plain(_plain(old), room), encode_plain(_plain(new), room)]
        rows.append(["changed", where, *pair])
    lifecycle = [
        [name, encode_plain(_plain(old), room), encode_plain(_plain(new), room)]
        for name, (old, new) in found.lifecycle.items()
    ]
    rows.sort(key=lambda row: row[1])
    return {
        "agent": agent_path(path).text,
        "a": {"seq": found.a.seq, "time": _iso(found.a.updated_at), "status": found.a.status},
        "b": {"seq": found.b.seq, "time": _iso(found.b.updated_at), "status": found.b.status},
        "counts": {"added": len(found.added), "removed": len(found.removed), "changed": len(found.changed)},
        "rows": rows[:_MOST_DIFFERENCES],
        "lifecycle": lifecycle,
    }


def answer_blame(inspected: Inspected, asked: Parameters) -> Answer:
    """Which event set a value, and why."""
    agent_log = inspected.agent_log(asked.get("agent", ""))
    path = asked["property"] if "property" in asked else join_text(_segments(asked))
    seq = _seq(inspected, agent_log, asked)
    found = inspected.system.blame(agent_log.agent, path, seq, most=100_000)
    return {"path": path, "at": seq, "value": encode_plain(_plain(found.value), Room(16 * 1024)), **_blame(found)}


def _blame(found: Blame) -> Answer:
    return {
        "agent": found.agent,
        "seq": found.seq,
        "event": None if found.event is None else event_row(found.event),
        "session": found.session_id,
        "command": found.command_id,
        "tool": None if found.tool is None else event_row(found.tool),
        "causes": [event_row(cause) for cause in found.causes[:MOST_CAUSES]],
        "carried": [event_row(each) for each in found.carried_by[:MOST_CAUSES]],
    }


def answer_episodes(inspected: Inspected, asked: Parameters) -> Answer:
    """Episodes, newest first, or those that match a text best."""
    store, text = inspected.system.episodes, asked.get("text", "").strip()[:500]
    outcome, agent = asked.get("outcome") or None, asked.get("agent") or None
    if text:
        hits = store.search(
            text, outcome=outcome, agent=agent, limit=_MOST_EPISODES, by="words", match="all", prefix=True
        )
        return {"text": text, "episodes": [{**episode_row(hit.episode), "score": round(hit.score, 4)} for hit in hits]}
    first = _number(asked, "first", 0)
    listed = store.list(outcome=outcome, agent=agent, limit=first + _MOST_EPISODES + 1)
    more = len(listed) > first + _MOST_EPISODES
    return {"text": "", "more": more, "episodes": [episode_row(each) for each in listed[first:][:_MOST_EPISODES]]}


def episode_row(episode: Episode) -> Answer:
    """An episode, its texts cut."""
    return {
        "id": episode.id,
        "agent": episode.agent,
        "session": episode.session_id,
        "outcome": episode.outcome,
        "details": encode_plain(episode.outcome_details, Room(4 * 1024)),
        "task": episode.task_description[:2_000],
        "context": episode.context_summary[:2_000],
        "lessons": [str(lesson)[:1_000] for lesson in episode.lessons_learned[:100]],
        "actions": [[str(action.get("tool", ""))[:200], action.get("seq")] for action in episode.actions[:100]],
        "seconds": episode.duration_seconds,
        "tokens": episode.tokens_used,
        "importance": episode.importance_score,
        "first": episode.first_seq,
        "last": episode.last_seq,
        "created": episode.created_at.isoformat(),
    }


def answer_work(inspected: Inspected, asked: Parameters) -> Answer:
    """The work of durable handlers that has not ended, what waits first; of one agent, or of all."""
    path, system = asked.get("agent", ""), inspected.system
    most = min(_number(asked, "most", _MOST_WORK_READ), _MOST_WORK_READ)
    found = system.read_unfinished(agent_path(path).text) if path else system.unfinished(limit=most + 1)
    read = found[:most]
    oldest = _iso(min((work.since for work in read), default=None))
    return {"work": work_rows(read), "total": len(read), "more": len(found) > most, "oldest": oldest}


def work_rows(found: Sequence[UnfinishedWork]) -> list[Answer]:
    """Unfinished work, what somebody has to act on first."""
    shown = sorted(found, key=lambda work: (work_rank(work), work.since))
    return [_work(work) for work in shown[:_MOST_WORK]]


def _work(work: UnfinishedWork) -> Answer:
    items = [
        {
            "kind": item["kind"],
            "name": str(item["name"])[:200],
            "seq": item["seq"],
            "due": _iso(item["due"]),
            "attempts": item["attempts"],
            "about": encode_plain(item["about"], Room(8 * 1024)),
        }
        for item in work.waits_for[:50]
    ]
    parked = None if work.parked is None else {name: str(held)[:2_000] for name, held in work.parked.items()}
    return {
        "agent": work.agent,
        "work": work.work,
        "message_type": work.message_type[:200],
        "version": work.version,
        "since": work.since.isoformat(),
        "tries": work.tries,
        "state": work_word(work),
        "parked": parked,
        "waits": items,
    }


def answer_record(inspected: Inspected, asked: Parameters) -> Answer:
    """What one piece of work has done until now."""
    return read_work(inspected.agent_log(asked.get("agent", "")), _number(asked, "work", 0))


def answer_hosts(inspected: Inspected, asked: Parameters) -> Answer:
    """The hosts of the namespace, and its durable consumers."""
    claimed = inspected.agents.count_by_host()
    hosts = [
        {
            "host": record.host,
            "state": record.state,
            "pid": None if record.machine is None else record.machine[2],
            "agents": record.load,
            "types": list(record.agent_types)[:50],
            "self": record.host == inspected.system.host,
            "ended": _iso(to_datetime(record.ended_at * 1_000_000)) if record.ended_at else None,
            "beat": record.beat,
            "claimed": claimed[record.host],
        }
        for record in inspected.system.hosts()[:_MOST_HOSTS]
    ]
    consumers = [_consumer(inspected, info) for info in inspected.system.projections() if not info.name.startswith("~")]
    sharing = asdict(inspected.system.sharing_status())
    return {
        "hosts": hosts,
        "beats": [BEAT_SECONDS, LEASE_SECONDS],
        "consumers": consumers[:_MOST_HOSTS],
        "sharing": {"lag": sharing["lag"]},
    }


def _consumer(inspected: Inspected, info: ConsumerInfo) -> Answer:
    """A consumer; `lags` sums up those of neighbouring partitions, `stopped` is the place in it of the failure."""
    error, partitions = info.error, sorted(info.lags)
    width = -(-len(partitions) // _MOST_CELLS)
    lags = [sum(info.lags[each] for each in partitions[at : at + width]) for at in range(0, len(partitions), width)]
    failed_in = None if error is None or error.agent is None else inspected.system.log.partition_of(error.agent)
    stopped = partitions.index(failed_in) // width if failed_in in partitions else None
    return {
        "name": info.name,
        "kind": info.kind,
        "version": info.version,
        "scope": info.scope,
        "status": info.status,
        "lag": info.lag,
        "partitions": len(partitions),
        "lags": lags,
        "stopped": stopped,
        "position": info.position,
        "applied": info.applied,
        "skipped": info.skipped,
        "updated": info.updated_at.isoformat(),
        "error": None
        if error is None
        else {"error": error.error, "advice": error.advice[:500], "agent": error.agent, "seq": error.seq},
        "building": None if info.building is None else _consumer(inspected, info.building),
    }


def _segments(asked: Parameters) -> tuple[str, ...]:
    """The segments of a path in working memory, a JSON list of texts: keys may have any characters."""
    try:
        given: object = json.loads(asked.get("path", "[]"))
    except (ValueError, RecursionError):
        given = None
    if type(given) is not list or not all(type(each) is str for each in cast("list[object]", given)):
        raise InvalidMessage("path is a JSON list of texts")
    return tuple(cast("list[str]", given))


def _seq(inspected: Inspected, agent_log: AgentLog, asked: Parameters) -> int:
    """The seq that is asked for; without one, the last. Raises AgentNotFound, InvalidMessage."""
    head = inspected.system.log.head(agent_log.agent)
    if head is None:
        raise AgentNotFound(f"there is no agent {agent_log.agent}", agent=agent_log.agent)
    return _number(asked, "seq", head.seq)


def _number(asked: Parameters, name: str, default: int) -> int:
    given = asked.get(name, "")
    if not given:
        return default
    if not (given.isascii() and given.isdecimal()) or len(given) > 15:
        raise InvalidMessage(f"{name} is a whole number from 0 on", actual=given[:40])
    return int(given)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _plain(value: Any) -> Any:
    inside = getattr(value, "plain", None)
    return value if inside is None else inside()
