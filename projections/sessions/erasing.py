"""Erasing agents: nothing of an agent, and of all below it, stays on the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import frozen

from duramen.events import AgentNotFound, CorruptEvent, InvalidPath, Limits, Unavailable
from duramen.events.codec import Codec
from duramen.events.log import EventLog
from duramen.events.logging import get_logger

from ..consumers import request_rebuilds
from ..episodes import episode_text, erased_record, hash_of_text, unpack_record
from ..recovery import AgentLog, rebuild

_TRIES: Final = 100


@frozen(kw_only=True)
class Erasure:
    """What an erasure has removed, and what it cannot reach."""

    agents: tuple[str, ...]
    """The paths of the agents that are gone; none if they were gone before."""
    events: int
    checkpoints: int
    episodes: int
    rebuilt: tuple[str, ...]
    """The durable consumers whose views are rebuilt without them, as soon as they run."""
    unreached: tuple[str, ...]
    """What may still tell of them, in words."""


def erase_agents(log: EventLog, root: str, limits: Limits, by: str = "") -> Erasure:
    """Erase an agent and all below it, and finish the erasures of its partition that were cut off.

    The intent is written first and removed last; the agents themselves go in one step. Raises AgentNotFound if there
    never was such an agent, Unavailable where they keep changing, and what reading raises. May be repeated. `by` is the
    host that erases: others finish it if that has died.
    """
    partition = log.partition_of(root)
    for begun, are_gone in log.archive.erasing(partition).items():
        if begun != root or are_gone:
            if are_gone:
                _finish(log, begun, ())
            else:
                _erase(log, begun, limits, by)
    return _erase(log, root, limits, by)


def finish_erasures(log: EventLog, limits: Limits, by: str, is_dead: Callable[[str], bool]) -> int:
    """Finish the erasures of hosts that have died meanwhile; how many. Raises what `erase_agents` raises."""
    finished = 0
    for root, host in log.archive.begun_erasures():
        if host is None:
            _finish(log, root, ())
        elif (not host or is_dead(host)) and log.archive.take_erasure(root, host, by):
            try:
                _erase(log, root, limits, by)
            except AgentNotFound:
                log.archive.end_erasure(root)
        else:
            continue
        finished += 1
    return finished


def _finish(log: EventLog, root: str, agents: Sequence[str]) -> tuple[list[str], list[str]]:
    """Have views rebuilt and end the erasure; the names of the consumers, and of those that may not be able to."""
    found = request_rebuilds(log, log.partition_of(root), agents)
    log.archive.end_erasure(root)
    return found


def _erase(log: EventLog, root: str, limits: Limits, by: str) -> Erasure:
    partition = log.partition_of(root)
    agents = _agents_of(log, root)
    if not agents and log.erased_until(partition, root) < 0:
        raise AgentNotFound(f"there is no agent {root}, and nothing to erase", agent=root)
    log.archive.begin_erasure(root, by)
    position, episodes = 0, 0
    for _ in range(_TRIES):
        position = _erase_from_feed(log, root, position)
        agents = _agents_of(log, root)
        episodes += _erase_episodes(log, root, limits)
        keys, damaged = _checkpoint_keys(log, agents, limits)
        events = log.archive.erase(root, agents, position, keys)
        if events >= 0:
            break
    else:
        raise Unavailable(
            f"{root} and those below it keep changing; pause or terminate them, and erase again", agent=root
        )
    rebuilt, doubtful = _finish(log, root, agents)
    get_logger("erasure").info("agents_erased", agents=len(agents), partition=partition)
    return Erasure(
        agents=tuple(agents),
        events=events,
        checkpoints=len(keys),
        episodes=episodes,
        rebuilt=tuple(rebuilt),
        unreached=_unreached(root, damaged, doubtful),
    )


def _agents_of(log: EventLog, root: str) -> list[str]:
    found = {entry.agent for entry in log.directory(log.partition_of(root)) if _is_of(entry.agent, root)}
    return sorted(found)


def _is_of(agent: str, root: str) -> bool:
    return agent == root or agent.startswith(f"{root}/")


def _erase_from_feed(log: EventLog, root: str, position: int) -> int:
    end = position + 1
    while position < end:
        reached, end = log.archive.erase_from_feed(root, position)
        if reached == position:
            break
        position = reached
    return position


def _erase_episodes(log: EventLog, root: str, limits: Limits) -> int:
    partition, codec, erased = log.partition_of(root), Codec(limits), 0
    nobody = erased_record(codec, log.chain)
    starts = [1 << 40] * log.partitions
    starts[partition] = 0
    while page := log.archive.episodes(starts)[0][partition]:
        for at, stored in enumerate(page, starts[partition]):
            try:
                record = unpack_record(stored, codec, log.chain)
            except CorruptEvent:
                continue
            if record is not None and _is_of(record.agent, root):
                log.drop_vectors([hash_of_text(episode_text(record.episode))])  # before: a repetition has no text left
                log.archive.replace_episode(partition, at, stored, nobody)
                erased += 1
        starts[partition] += len(page)
    return erased


def _checkpoint_keys(log: EventLog, agents: list[str], limits: Limits) -> tuple[list[str], list[str]]:
    """The keys of the agents' checkpoints, and the agents whose logs do not say which they have."""
    keys: list[str] = []
    damaged: list[str] = []
    for agent in agents:
        try:
            checkpoints = rebuild(AgentLog(log, agent, limits)).state.checkpoints
        except AgentNotFound:
            continue
        except (CorruptEvent, InvalidPath):
            damaged.append(agent)
        else:
            keys += [log.checkpoint_key(agent, name) for name in checkpoints]
    return keys, damaged


def _unreached(root: str, damaged: list[str], doubtful: list[str]) -> tuple[str, ...]:
    found = [f"checkpoints of {agent}, whose log is damaged, until they expire" for agent in damaged]
    if root.count("/") > 1:
        found.append("the event of its parent that says it was spawned")
    found.append("causes in events of other agents that followed from its own: its path and seqs")
    found += [f"the view of consumer {name}: of a sink, or of a feed whose beginning was trimmed" for name in doubtful]
    found.append("views of consumers that nobody runs, until they are rebuilt")
    found.append("forks, imports and exported files, replicas that are down, and backups")
    found.append("the server's append-only file, until it is rewritten")
    return tuple(found)
