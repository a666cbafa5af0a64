"""Forks: agents that continue from any moment of another agent's past.

A fork does not copy the past. Its log begins after the moment, with the state there as its base, like a trimmed log.
Its first event names the origin, and the chain of digests continues from there. So it costs the same however long the
past is, and does not need its origin afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from attrs import frozen

from duramen.events import AgentExists, AgentNotFound, Granularity, Trimmed, agent_path
from duramen.events.log import Adoption, EventLog, Put, digest_at
from duramen.events.model import FORKED

from ..recovery import UNFOLDED, AgentLog, BaseState, FoldOf, pack_base, state_before
from ..state import ABSENT, advance


@frozen
class Origin:
    """The last event that a fork shares with its origin, and that event's digest."""

    agent: str
    seq: int
    digest: bytes


def fork_agents(
    agent_log: AgentLog, seqs: Mapping[str, int], to: str, *, fold_of: FoldOf, session_id: str | None, now: int
) -> None:
    """Fork the agents of a tree, the root first, at these seqs to new paths: all of them, or none.

    Raises AgentExists, AgentNotFound for one that was not there yet, Trimmed, and what reading raises.
    """
    root, token = agent_log.agent, uuid4().hex
    paths = {agent: agent_path(to + agent[len(root) :]).text for agent in seqs}
    for path, head in zip(paths.values(), agent_log.log.archive.heads(list(paths.values())), strict=True):
        if head is not None:
            raise _exists(path)
    adoptions = [
        _adoption(
            agent_log.of(agent),
            seq,
            paths,
            token,
            fold_of=fold_of,
            session_id=session_id if agent == root else None,
            now=now,
        )
        for agent, seq in seqs.items()
    ]
    known = agent_log.log.archive.adopt(adoptions, token)
    if known is not None:
        raise _exists(known)


def _adoption(
    agent_log: AgentLog,
    seq: int,
    paths: Mapping[str, str],
    token: str,
    *,
    fold_of: FoldOf,
    session_id: str | None,
    now: int,
) -> Adoption:
    log, codec, agent, path = agent_log.log, agent_log.codec, agent_log.agent, paths[agent_log.agent]
    rebuilt = state_before(agent_log, seq=seq, fold_of=fold_of)
    state = rebuilt.state
    if state.status == ABSENT:
        raise AgentNotFound(f"{agent} was not there yet at {seq}; fork it from a later moment", agent=agent, seq=seq)
    fold = fold_of(state.agent_type)
    base = BaseState(state, rebuilt.custom, UNFOLDED if fold is None else fold.version)
    packed = pack_base(agent_log.of(path), base)
    data: dict[str, Any] = {
        "origin": agent,
        "origin_seq": seq,
        "origin_digest": state.digest,
        "session_id": session_id or uuid4().hex,
        "parent": paths.get(state.parent or ""),
        "children": {paths[child]: outlives for child, outlives in state.children.items() if child in paths},
    }
    raw = [FORKED, 1, int(Granularity.LIFECYCLE), now, data, data["session_id"], None, None, None, None]
    body, before = codec.pack(raw), state.digest
    digest = log.chain.digest(before, body)
    advance(state, raw, digest, agent_log.limits.commands_remembered)
    log.archive.stage(path, token, 0, before, [digest + body])
    return Adoption(
        agent=path,
        seq=seq + 1,
        base=seq,
        before=before,
        digest=digest,
        fence=f"1:{token}",
        updated_at=now,
        entry=state.directory_line(codec),
        largest=len(digest) + len(body),
        levels=1 << Granularity.LIFECYCLE,
        puts=(Put(log.base_key(path), packed),),
    )


def origin_of(agent_log: AgentLog) -> Origin | None:
    """The origin of a fork; None if the agent is none, or was trimmed since. Raises AgentNotFound, CorruptEvent."""
    head = agent_log.head()
    if head.base in (0, head.seq):
        return None
    try:
        raw = agent_log.raw_event(head.base + 1)
    except Trimmed:
        return None
    if raw[0] != FORKED:
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


def _exists(path: str) -> AgentExists:
    return AgentExists(f"{path} exists already: fork to another path", agent=path)
