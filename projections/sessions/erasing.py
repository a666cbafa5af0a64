"""Erasing agents: nothing of an agent, and of all below it, stays on the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import frozen

from duramen.events import AgentNotFound, CorruptEvent, DuramenError, InvalidPath, Limits, SystemClosed, Unavailable
from duramen.events.codec import Codec
from duramen.events.log import BegunErasure, EventLog
from duramen.events.logging import get_logger

from ..consumers import request_erasures
from ..episodes import episode_text, erased_record, hash_of_text, unpack_record
from ..recovery import AgentLog, rebuild

_TRIES: Final = 100
_NOT_OURS: Final = -2


@frozen(kw_only=True)
class Erasure:
    """What an erasure has removed, and what it cannot reach."""

    agents: tuple[str, ...]
    """The paths of the agents that are gone; none if they were gone before."""
    events: int
    checkpoints: int
    episodes: int
    rebuilt: tuple[str, ...]
    """The durable consumers whose views are corrected by their `erase`, or rebuilt, as soon as they run."""
    unreached: tuple[str, ...]
    """What may still tell of them, in words."""


def erase_agents(log: EventLog, root: str, limits: Limits, by: str = "", *, rewrite: bool = True) -> Erasure:
    """Erase an agent and all below it, and finish the erasures of its partition that were cut off.

    The intent is written first and removed last; the agents themselves go in one step. Raises AgentNotFound if there
    never was such an agent, Unavailable where they keep changing, and what reading raises. May be repeated. `by` is the
    host that erases: others finish it if that has died. With `rewrite` the servers then begin to rewrite their
    append-only files, where that is allowed.
    """
    for other, begun in log.archive.erasing(log.partition_of(root)).items():
        if begun.done:
            _finish(log, other, begun, ())
        elif other != root and log.archive.take_erasure(other, begun.host, by):
            _finish_taken(log, other, limits, by)
    if not _agents_of(log, root) and log.erased_until(log.partition_of(root), root) < 0:
        raise AgentNotFound(f"there is no agent {root}, and nothing to erase", agent=root)
    log.archive.begin_erasure(root, by)
    found = _erase(log, root, limits, by, is_taken=False, rewrite=rewrite)
    assert found is not None, "only what was taken over can be taken away"
    return found


def finish_erasures(log: EventLog, limits: Limits, by: str, is_dead: Callable[[str], bool], taken: set[str]) -> int:
    """Finish the erasures of hosts that have died meanwhile; how many.

    `taken` has the roots of those that `by` took over before and could not finish, which are tried again. All others
    are finished before the error of one is raised: what `erase_agents` raises.
    """
    finished, failure = 0, None
    for root, begun in log.archive.begun_erasures():
        host = begun.host
        is_left = begun.done or not host or (root in taken if host == by else is_dead(host))
        if not is_left:
            continue
        try:
            if begun.done:
                _finish(log, root, begun, ())
            elif log.archive.take_erasure(root, host, by):
                taken.add(root)
                _finish_taken(log, root, limits, by)
        except SystemClosed:
            raise
        except DuramenError as error:
            failure = failure or error
            continue
        taken.discard(root)
        finished += 1
    if failure is not None:
        raise failure
    return finished


def _finish_taken(log: EventLog, root: str, limits: Limits, by: str) -> None:
    """Finish an erasure that was taken over, unless its host goes on with it after all, or has ended it."""
    if _agents_of(log, root) or log.erased_until(log.partition_of(root), root) >= 0:
        _erase(log, root, limits, by, is_taken=True)
    else:
        log.archive.end_erasure(root, BegunErasure(by))


def _finish(
    log: EventLog, root: str, begun: BegunErasure, agents: Sequence[str], *, rewrite: bool = True
) -> tuple[list[str], list[str], bool | None]:
    """Have views corrected and files rewritten, and end the erasure.

    Returns the names of the consumers, and of those that may not be able to, and whether files are being rewritten, as
    `Archive.rewrite_files` does. One that was begun again meanwhile is not ended: whoever has begun it ends it.
    """
    rebuilt, doubtful = request_erasures(log, log.partition_of(root), agents)
    is_rewriting = log.archive.rewrite_files() if rewrite else False
    log.archive.end_erasure(root, begun)
    return rebuilt, doubtful, is_rewriting


def _erase(
    log: EventLog, root: str, limits: Limits, by: str, *, is_taken: bool, rewrite: bool = True
) -> Erasure | None:
    """Carry out an erasure that has begun; None once one that `is_taken` over is not the host's any more.

    That is looked at before each try and, in one step with the removal, by the log: its first host may have gone on and
    ended it, and the path may have been spawned anew.
    """
    position, texts = 0, list[bytes]()
    for _ in range(_TRIES):
        if is_taken and not log.archive.take_erasure(root, by, by):
            return None
        position = _erase_from_feed(log, root, position)
        agents = _agents_of(log, root)
        texts += _erase_episodes(log, root, limits)
        keys, damaged = _checkpoint_keys(log, agents, limits)
        events = log.archive.erase(root, agents, position, keys, by, is_taken=is_taken)
        if events >= 0:
            break
        if events == _NOT_OURS:
            return None
    else:
        raise Unavailable(
            f"{root} and those below it keep changing; pause or terminate them, and erase again", agent=root
        )
    if texts:  # they may have been embedded once more meanwhile, by a process that knew of no erasure yet
        log.drop_vectors(texts)
    rebuilt, doubtful, is_rewriting = _finish(log, root, BegunErasure(by, done=True), agents, rewrite=rewrite)
    get_logger("erasure").info("agents_erased", agents=len(agents), partition=log.partition_of(root))
    return Erasure(
        agents=tuple(agents),
        events=events,
        checkpoints=len(keys),
        episodes=len(texts),
        rebuilt=tuple(rebuilt),
        unreached=_unreached(root, damaged, doubtful, is_rewriting),
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


def _erase_episodes(log: EventLog, root: str, limits: Limits) -> list[bytes]:
    """Erase the episodes with their vectors. Returns the hashes of their texts."""
    partition, codec, erased = log.partition_of(root), Codec(limits), list[bytes]()
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
                text = hash_of_text(episode_text(record.episode))
                log.drop_vectors([text])  # before: a repetition has no text left
                log.archive.replace_episode(partition, at, stored, nobody)
                erased.append(text)
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


def _unreached(root: str, damaged: list[str], doubtful: list[str], is_rewriting: bool | None) -> tuple[str, ...]:
    found = [f"checkpoints of {agent}, whose log is damaged, until they expire" for agent in damaged]
    if root.count("/") > 1:
        found.append("the event of its parent that says it was spawned")
    found.append("events of other agents from before they named it by a hash: its path")
    found += [
        f"the view of consumer {name}, unless it has erase(): of a sink, or of a feed whose beginning was trimmed"
        for name in doubtful
    ]
    found.append("views of consumers that nobody runs, until they run")
    found.append("forks, imports and exported files, replicas that are down, files of replicas, and backups")
    if is_rewriting is not None:
        how = "until its rewriting, which has begun, is done" if is_rewriting else "until it is rewritten"
        found.append(f"the server's append-only file, {how}")
    return tuple(found)
