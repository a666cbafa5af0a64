"""Forks: agents that continue from any moment of another agent's past.

A fork does not copy the past. Its log begins after the moment, with the state there as its base, like a trimmed log.
Its first event names the origin, and the chain of digests continues from there. So it costs the same however long the
past is, and does not need its origin afterwards. Content that is too large for events is copied.

A fork that carries work on has copies of the events since the oldest message that is not handled to its end, since
its handler is run again from there. They come before the `forked` event, and no feed has them: they are no news.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any
from uuid import uuid4

from attrs import Factory, define, frozen

from duramen.events import AgentExists, AgentNotFound, Content, Granularity, InvalidMessage, Trimmed, agent_path
from duramen.events.codec import CONTENT_MARK, RawEvent, decode_items
from duramen.events.log import Adoption, EventLog, Put, copy_contents, digest_at
from duramen.events.model import FORKED, WORK_CONTINUED, WORK_DONE, contents_in, event_id, log_id, parse_event_id

from ..recovery import (
    UNFOLDED,
    AgentLog,
    BaseState,
    FoldOf,
    Rebuilt,
    StateFold,
    load_base,
    pack_base,
    rebuild,
    rebuild_base,
    state_before,
)
from ..state import ABSENT, ASK, STEP, AgentState, Item, due_of_work, name_log, open_work


@frozen
class Origin:
    """The last event that a fork shares with its origin, and that event's digest."""

    agent: str
    seq: int
    digest: bytes


def fork_agents(
    agent_log: AgentLog,
    seqs: Mapping[str, int],
    to: str,
    *,
    fold_of: FoldOf,
    session_id: str | None,
    now: int,
    instead: Mapping[str, Any] | None = None,
) -> None:
    """Fork the agents of a tree, the root first, at these seqs to new paths: all of them, or none.

    With `instead` they carry their work on: what a handler waits for stays open, steps and asks without a result begin
    again under keys of their own, and those that are named there have that result. None: the work is left behind.

    Raises AgentExists, AgentNotFound for one that was not there yet, Trimmed, InvalidMessage where work is carried on
    from the middle of an append, or `instead` names what is not under way, and what reading raises.
    """
    root = agent_log.agent
    paths = {agent: agent_path(to + agent[len(root) :]).text for agent in seqs}
    for path, head in zip(paths.values(), agent_log.log.archive.heads(list(paths.values())), strict=True):
        if head is not None:
            raise _exists(path)
    forking = _Forking(paths, uuid4().hex, fold_of, now, instead)
    adoptions = [
        forking.adopt(agent_log.of(agent), seq, session_id if agent == root else None) for agent, seq in seqs.items()
    ]
    forking.check_instead(root, seqs[root])
    known = agent_log.log.archive.adopt(adoptions, forking.token)
    if known is not None:
        raise _exists(known)


@define(eq=False)
class _Forking:
    """Makes what the agents of one fork are created from. What it writes before that expires after a day."""

    paths: Mapping[str, str]
    token: str
    fold_of: FoldOf
    now: int
    instead: Mapping[str, Any] | None
    under_way: set[str] = Factory(set[str])
    """The names of all steps and asks that have no result."""

    def adopt(self, agent_log: AgentLog, seq: int, session_id: str | None) -> Adoption:
        """Stage the events of one agent."""
        log, path = agent_log.log, self.paths[agent_log.agent]
        base, fold = self._begin(agent_log, seq)
        before, first = fold.state.digest, fold.state.seq + 1
        staging = _Staging(agent_log, path, self.token)
        packed = pack_base(agent_log.of(path), base)
        if CONTENT_MARK in packed:
            staging.contents.update(contents_in([base.state.dump(), base.custom]))
        if first <= seq:
            _copy_events(agent_log, fold, seq, staging)
        events = self._events(agent_log, fold.state, session_id or uuid4().hex)
        staging.add(fold.state.digest, list(_folded(agent_log, fold, events)))
        return Adoption(
            agent=path,
            seq=fold.state.seq,
            base=first - 1,
            before=before,
            digest=fold.state.digest,
            fence=f"1:{self.token}",
            updated_at=self.now,
            entry=fold.state.directory_line(agent_log.codec),
            largest=staging.largest,
            levels=sum({1 << raw[2] for raw in events}),
            puts=(Put(log.base_key(path), packed),),
            feed_from=seq + 1,
            due_ms=due_of_work(fold.state),
            contents=copy_contents(log.contents, agent_log.agent, staging.contents, path),
        )

    def check_instead(self, agent: str, seq: int) -> None:
        """Raise InvalidMessage if a result is given for what is not under way."""
        unknown = sorted(set(self.instead or ()) - self.under_way)
        if unknown:
            raise InvalidMessage(
                f"no step or ask {unknown[0]!r} of {agent} is without a result at {seq}; fork it where it has begun",
                agent=agent,
                seq=seq,
                expected=sorted(self.under_way),
                actual=unknown,
            )

    def _begin(self, agent_log: AgentLog, seq: int) -> tuple[BaseState, StateFold]:
        """The base of the new log, and a fold that begins there."""
        rebuilt = state_before(agent_log, seq=seq, fold_of=self.fold_of)
        if rebuilt.state.status == ABSENT:
            agent = agent_log.agent
            raise AgentNotFound(
                f"{agent} was not there yet at {seq}; fork it from a later moment", agent=agent, seq=seq
            )
        forked_at = None
        oldest = next(iter(open_work(rebuilt.state)), None)
        if self.instead is not None and oldest is not None:
            rebuilt, forked_at = state_before(agent_log, seq=int(oldest) - 1, fold_of=self.fold_of), seq + 1
        own = self.fold_of(rebuilt.state.agent_type)
        version = UNFOLDED if own is None else own.version
        base = BaseState(rebuilt.state, rebuilt.custom, version, forked_at=forked_at)
        return base, StateFold(agent_log.agent, agent_log.limits, self.fold_of, rebuilt)

    def _events(self, agent_log: AgentLog, state: AgentState, session_id: str) -> list[RawEvent]:
        """The events that follow the origin's."""
        paths, path = self.paths, self.paths[agent_log.agent]
        data: dict[str, Any] = {
            "origin": agent_log.agent,
            "origin_seq": state.seq,
            "origin_digest": state.digest,
            "session_id": session_id,
            "parent": paths.get(state.parent or ""),
            "children": {paths[child]: outlives for child, outlives in state.children.items() if child in paths},
            "work": None,
        }
        results = list[dict[str, Any]]()
        if self.instead is not None:
            begun = dict[str, dict[str, list[str]]]()
            for work, number, item in _under_way(state):
                begun.setdefault(work, {})[number] = self._renamed(item)
                name = self._name_in_code(item)
                self.under_way.add(name)
                if name in self.instead:
                    value = self.instead[name]
                    result = {"reply": value} if item["kind"] == ASK else value
                    results.append({"work": int(work), "number": int(number), "result": result, "error": None})
            data["work"] = {
                "agent": _path_at(agent_log, state.seq, state.digest),
                "log": name_log(agent_log.log.identity, path),
                "mark": self.token,
                "begun": begun,
            }
        forked = [FORKED, 1, int(Granularity.LIFECYCLE), self.now, data, session_id, None, None, None, None]
        cause = event_id(path, state.seq + 1)
        level = int(Granularity.STATE)
        return [
            forked,
            *([WORK_DONE, 1, level, self.now, each, session_id, None, cause, cause, None] for each in results),
        ]

    def _renamed(self, item: Item) -> list[str]:
        """Key and name, here, of what has no result. What is asked of an agent that is forked, too, has its key."""
        forked = self._asked.get(item["name"]) if item["kind"] == ASK else None
        if forked is not None and forked in self.paths:
            return [item["key"], log_id(self.paths[forked])]
        return [uuid4().hex, item["name"]]

    def _name_in_code(self, item: Item) -> str:
        """The name of a step, or the path of an agent that is asked, where it is one of the tree or of `instead`."""
        name: str = item["name"]
        return self._asked.get(name, name) if item["kind"] == ASK else name

    @cached_property
    def _asked(self) -> dict[str, str]:
        """Paths of agents by what events name them by: the ids of their logs, and earlier their paths."""
        known = (*self.paths, *(self.instead or ()))
        return {name: path for path in known for name in (path, log_id(path))}


@define(eq=False)
class _Staging:
    """The events of an agent that is made, as they are staged."""

    agent_log: AgentLog
    path: str
    token: str
    count: int = 0
    largest: int = 0
    contents: set[Content] = Factory(set[Content])
    """The contents that its base and its events refer to."""

    def add(self, previous: bytes, items: Sequence[bytes]) -> None:
        """Stage the next events; `previous` is the digest that they continue."""
        self.agent_log.log.archive.stage(self.path, self.token, self.count, previous, items)
        self.count += len(items)
        self.largest = max(self.largest, *map(len, items))


def _under_way(state: AgentState) -> Iterator[tuple[str, str, Item]]:
    """Work, number and item of each step and ask without a result."""
    for work, piece in open_work(state).items():
        for number, item in piece["pending"].items():
            if item["kind"] in (STEP, ASK) and item["result"] is None:
                yield work, number, item


def _folded(agent_log: AgentLog, fold: StateFold, events: Iterable[RawEvent]) -> Iterator[bytes]:
    """Each event as it is stored, once it is folded."""
    for raw in events:
        body = agent_log.codec.pack(raw)
        digest = agent_log.log.chain.digest(fold.state.digest, body)
        fold.apply(raw, digest)
        yield digest + body


def _copy_events(agent_log: AgentLog, fold: StateFold, to_seq: int, staging: _Staging) -> None:
    """Stage the origin's events up to a seq, as they are. Raises InvalidMessage for one in the middle of a stretch."""
    agent, log, begun = agent_log.agent, agent_log.log, 0
    for page in log.pages(agent, fold.state.seq + 1, to_seq):
        after, digest = fold.state.seq, fold.state.digest
        for seq, raw, own in decode_items(agent, page.items, agent_log.codec, log.chain, after=after, digest=digest):
            staging.contents.update(contents_in(raw))
            if raw[0] == WORK_CONTINUED:
                begun = seq
            elif _seq_of_cause(raw) != begun:
                begun = 0
            fold.apply(raw, own)
        staging.add(digest, page.items)
    if begun and to_seq < agent_log.head().seq and _seq_of_cause(agent_log.raw_event(to_seq + 1)) == begun:
        raise InvalidMessage(
            f"event {to_seq} of {agent} is in the middle of one append of a handler; carry its work on from "
            f"{begun - 1}, or from where the append ends",
            agent=agent,
            seq=to_seq,
            expected=begun - 1,
        )


def _path_at(agent_log: AgentLog, seq: int, digest: bytes) -> str:
    """The path that the agent had when it logged an event: another one, where a fork has that from its origin."""
    base = load_base(agent_log)
    if base is None or base.forked_at is None or seq >= base.forked_at:
        return agent_log.agent
    forks = (raw for _, raw, _ in agent_log.raw_events(seq, digest, base.forked_at) if raw[0] == FORKED)
    return str(next(forks)[4]["work"]["agent"])


def _seq_of_cause(raw: RawEvent) -> int | None:
    cause = parse_event_id(raw[7])
    return None if cause is None else cause[1]


def origin_of(agent_log: AgentLog) -> Origin | None:
    """The origin of a fork; None if the agent is none, or was trimmed since. Raises AgentNotFound, CorruptEvent."""
    head = agent_log.head()
    if head.base in (0, head.seq):
        return None
    try:
        raw = agent_log.raw_event(head.base + 1)
        if raw[0] != FORKED:
            base = load_base(agent_log)
            if base is None or base.forked_at is None:
                return None
            raw = agent_log.raw_event(base.forked_at)
    except Trimmed:
        return None
    return Origin(raw[4]["origin"], raw[4]["origin_seq"], raw[4]["origin_digest"])


def is_origin_available(log: EventLog, origin: Origin) -> bool:
    """Whether the origin still has the event that the fork continues."""
    try:
        return digest_at(log, origin.agent, origin.seq) == origin.digest
    except (AgentNotFound, Trimmed):
        return False


def available_origin(agent_log: AgentLog) -> Origin | None:
    """The origin of a fork, if its log still has the event that the fork continues. Raises as `origin_of`."""
    origin = origin_of(agent_log)
    return origin if origin is not None and is_origin_available(agent_log.log, origin) else None


def rebuild_start(agent_log: AgentLog, origin: Origin | None) -> Rebuilt:
    """The state that an agent's own events continue: that at its base, or of a fork where it has left its origin.

    Raises what `rebuild` raises.
    """
    return rebuild_base(agent_log) if origin is None else rebuild(agent_log, to_seq=origin.seq, use_snapshot=False)


def _exists(path: str) -> AgentExists:
    return AgentExists(f"{path} exists already: fork to another path", agent=path)
