"""Import of a session file: checked while it is read; its agents are created all at once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import IO, Any, Final, cast
from uuid import uuid4

from attrs import define, evolve, field

from duramen.events import AgentExists, Content, CorruptEvent, InvalidMessage, Limits, Unavailable, agent_path
from duramen.events.codec import (
    CONTENT_MARK,
    DIGEST_SIZE,
    FORMAT,
    NO_DIGEST,
    Codec,
    SessionReader,
    SnapshotRecord,
    decode_body,
    pack_snapshot,
    unpack_snapshot,
)
from duramen.events.log import Adoption, EventLog, Put
from duramen.events.model import EPISODE_RECORDED, content_digest, contents_in

from ..episodes import episode_put, unpack_record
from ..recovery import EVERY, AgentLog, FoldOf, KeyframeSchedule, Rebuilt, StateFold, snapshot_of
from ..state import AgentState
from .exporting import ExportedAgent, Session
from .path_map import PathMap

_NOTHING: Final[tuple[str, list[Any]]] = ("", [])


@define(eq=False)
class _Incoming:
    """An agent that is being imported: what the file says of it, and its path here."""

    path: str
    origin: str
    meta: dict[str, Any]
    fold: StateFold
    base: bytes | None
    staged: int = 0
    levels: int = 0
    largest: int = 0
    has_keyframes: bool = False
    schedule: KeyframeSchedule = field(factory=KeyframeSchedule)
    puts: list[Put] = field(factory=list[Put])
    digest: bytes = NO_DIGEST
    """That of the last event in the file; it differs from the one here where paths were mapped."""
    known: dict[int, tuple[bytes, bytes]] = field(factory=dict[int, tuple[bytes, bytes]])
    """Digest in the file, and a checksum of working memory, at each seq where a checkpoint was taken."""
    values: list[tuple[str, int]] = field(factory=list[tuple[str, int]])
    """Key and `ttl_ms` of each checkpoint that was staged."""
    needed: set[Content] = field(factory=set[Content])
    """The contents that events and states refer to."""
    contents: dict[bytes, int] = field(factory=dict[bytes, int])
    """Digest and size of each content that was staged."""
    content: bytes | None = None
    """The digest of the content whose chunks are read now."""
    chunks: list[bytes] = field(factory=list[bytes])

    def checkpoints_here(self) -> list[str]:
        """The checkpoints that the file has of this seq."""
        seq = self.fold.state.seq
        return [name for name, taken in self.meta["checkpoints"].items() if taken[0] == seq]


class _Import:
    """One import. What it writes before the last step is invisible to readers, and expires after a day."""

    def __init__(
        self, log: EventLog, limits: Limits, fold_of: FoldOf, now: int, progress: Callable[[int], object] | None
    ) -> None:
        self._log = log
        self._limits = limits
        self._fold_of = fold_of
        self._now = now
        self._codec = Codec(limits)
        self._progress = progress
        self._adoptions: list[Adoption] = []
        self._events = 0
        self._token = ""
        self._fence = f"1:{uuid4().hex}"
        self._map = PathMap("", "")

    def run(self, file: IO[bytes], to: str | None) -> Session:
        records = SessionReader(file, self._limits).records()
        kind, fields = next(records, _NOTHING)
        header = self._read_header(kind, fields)
        self._map = _map_of(header["agents"], to)
        paths = {agent: agent_path(self._map.path(agent) or "").text for agent in header["agents"]}
        self._token = header["id"]
        self._refuse_existing(list(paths.values()))
        self._read_agents(records, paths)
        known = self._log.archive.adopt(self._adoptions, self._token)
        if known is not None:
            raise _already_exists(known)
        return Session(tuple(ExportedAgent(one.agent, one.seq, one.digest, one.base) for one in self._adoptions))

    def _read_header(self, kind: str, fields: list[Any]) -> dict[str, Any]:
        header = cast("dict[str, Any]", fields[0]) if kind == "session" and len(fields) == 1 else None
        if type(header) is not dict or type(header.get("id")) is not str or not _is_paths(header.get("agents")):
            raise _damaged("its first record is no header")
        if header.get("format") != FORMAT:
            raise InvalidMessage(
                "this session file has another format; update duramen", expected=FORMAT, actual=header.get("format")
            )
        integrity = header.get("integrity", "")
        if type(integrity) is not str:
            raise _damaged("the fingerprint of its integrity key has another form")
        self._log.chain.require_key(header["id"], integrity, "this session file")
        return header

    def _refuse_existing(self, paths: list[str]) -> None:
        for path, head in zip(paths, self._log.archive.heads(paths), strict=True):
            if head is not None:
                raise _already_exists(path)

    def _read_agents(self, records: Iterator[tuple[str, list[Any]]], paths: dict[str, str]) -> None:
        agent: _Incoming | None = None
        for kind, fields in records:
            if kind == "agent":
                if agent is not None:
                    self._finish_agent(agent)
                agent = self._begin_agent(fields, paths)
            elif agent is None:
                raise _damaged("a record belongs to no agent")
            elif kind == "base":
                self._read_base(agent, fields)
            elif kind == "episode":
                self._read_episode(agent, fields)
            elif kind == "events":
                self._read_events(agent, fields)
            elif kind == "checkpoint":
                self._read_checkpoint(agent, fields)
            elif kind == "content":
                self._read_content(agent, fields)
            # Other records, `types` among them, are for people and tools.
        if agent is not None:
            self._finish_agent(agent)
        if [adoption.agent for adoption in self._adoptions] != list(paths.values()):
            raise _damaged("it lacks agents that its header names")

    def _begin_agent(self, fields: list[Any], paths: dict[str, str]) -> _Incoming:
        meta = cast("dict[str, Any]", fields[0]) if len(fields) == 1 and type(fields[0]) is dict else {}
        origin = meta.get("path")
        if type(origin) is not str or origin not in paths or not _has_form(meta):
            raise _damaged("its description of an agent has another form")
        return _Incoming(paths[origin], origin, meta, StateFold(origin, self._limits, self._fold_of), None)

    def _read_base(self, agent: _Incoming, fields: list[Any]) -> None:
        """Read the state that the events continue, and store it under the path here."""
        try:
            record = unpack_snapshot(fields[0], agent.origin, self._codec, self._limits, self._log.chain)
            held = AgentState.load(self._codec.copy(record.state["agent"]))
            custom = self._codec.copy(record.state["custom"])
        except (CorruptEvent, KeyError, TypeError, IndexError):
            raise _damaged(f"the base of {agent.origin} is damaged") from None
        if (record.seq, record.digest) != (agent.meta["base"], agent.meta["before"]) or held.seq != record.seq:
            raise _damaged(f"the base of {agent.origin} is not where its events begin")
        if not self._map.is_identity:
            held = AgentState.load(self._map.map_state(held.dump()))
        agent.base = self._repack(record, agent)
        agent.needed.update(contents_in(record.state))
        agent.fold = StateFold(agent.origin, self._limits, self._fold_of, Rebuilt(held, custom, held.seq))
        agent.schedule.keyframe_seq = held.seq
        agent.digest = record.digest
        self._note_checkpoints(agent)

    def _read_episode(self, agent: _Incoming, fields: list[Any]) -> None:
        """Take in an episode whose event was trimmed."""
        try:
            record = unpack_record(fields[0], self._codec, self._log.chain)
        except (CorruptEvent, TypeError, IndexError):
            raise _damaged(f"an episode of {agent.origin} is damaged") from None
        if record is None or record.agent != agent.origin or not 0 < record.seq <= agent.meta["base"]:
            raise _damaged(f"an episode of {agent.origin} is not one from before its base")
        episode = record.episode.as_data()
        if not self._map.is_identity:
            episode = self._map.map_episode(episode, agent.origin)
        agent.puts.append(episode_put(self._log, agent.path, record.seq, episode, self._codec))

    def _read_events(self, agent: _Incoming, fields: list[Any]) -> None:
        """Check, fold and stage a page of events."""
        state, archive = agent.fold.state, self._log.archive
        if len(fields) != 2 or fields[0] != state.seq + 1 or not fields[1] or not _is_items(fields[1]):
            raise _damaged(f"events of {agent.origin} are not in order")
        previous, items = state.digest, list[bytes]()
        for item in cast("list[bytes]", fields[1]):
            seq, body = state.seq + 1, item[DIGEST_SIZE:]
            expected = self._log.chain.digest(agent.digest, body)
            if item[:DIGEST_SIZE] != expected:
                raise CorruptEvent(
                    f"event {seq} of {agent.origin} in this session file does not continue the chain of digests",
                    agent=agent.origin,
                    seq=seq,
                    expected=expected.hex(),
                    actual=item[:DIGEST_SIZE].hex(),
                )
            event = decode_body(agent.origin, seq, body, self._codec)
            if CONTENT_MARK in body:
                agent.needed.update(contents_in(event))
            if not self._map.is_identity:
                before = None if agent.digest == state.digest else agent.digest
                if self._map.map_event(event, agent.origin, before):
                    body = self._codec.pack(event)
            items.append(self._log.chain.digest(state.digest, body) + body)
            agent.digest = expected
            agent.levels |= 1 << event[2]
            agent.fold.apply_leniently(event, items[-1][:DIGEST_SIZE])
            episode = event[4].get("episode") if event[0] == EPISODE_RECORDED else None
            if type(episode) is dict:
                held = cast("dict[str, Any]", episode)
                agent.puts.append(episode_put(self._log, agent.path, seq, held, self._codec))
            self._note_checkpoints(agent)
            agent.schedule.weight += len(items[-1])
            agent.largest = max(agent.largest, len(items[-1]))
        self._keep_keyframe(agent)
        staged = archive.stage(agent.path, self._token, agent.staged, previous, items)
        agent.staged += len(items)
        if staged < agent.staged:
            self._refuse_existing([agent.path])  # another import of the file was quicker
            raise Unavailable(f"what was staged for {agent.path} is gone; import it again", agent=agent.path)
        self._events += len(items)
        if self._progress is not None:
            self._progress(self._events)

    def _keep_keyframe(self, agent: _Incoming) -> None:
        """Write a keyframe if one is due."""
        state = agent.fold.state
        if state.seq - agent.schedule.keyframe_seq < EVERY:
            return
        stored = self._snapshot(agent)
        if stored is not None and agent.schedule.is_due(state.seq, len(stored)):
            self._log.archive.stage_keyframe(agent.path, self._token, state.seq, stored)
            agent.schedule.restart(state.seq)
            agent.has_keyframes = True

    def _snapshot(self, agent: _Incoming) -> bytes | None:
        return snapshot_of(self._agent_log(agent), agent.fold)

    def _agent_log(self, agent: _Incoming) -> AgentLog:
        return AgentLog(self._log, agent.path, self._limits, codec=self._codec)

    def _repack(self, record: SnapshotRecord, agent: _Incoming) -> bytes:
        """A snapshot of the file, packed for the path here."""
        state = record.state
        if not self._map.is_identity:
            state = {**state, "agent": self._map.map_state(state["agent"])}
        record = evolve(record, agent=agent.path, state=state)
        return pack_snapshot(record, self._codec, self._limits, self._log.chain)

    def _note_checkpoints(self, agent: _Incoming) -> None:
        """Note what the checkpoints of this seq have to hold, and stage them where paths are mapped."""
        names, state = agent.checkpoints_here(), agent.fold.state
        if not names:
            return
        agent.known[state.seq] = (agent.digest, _checksum(state.memory))
        if self._map.is_identity:
            return
        fields = {"custom": agent.fold.custom, "custom_version": agent.fold.custom_version or ""}
        stored = self._agent_log(agent).pack_state(state, fields)
        for name in names:
            self._stage_checkpoint(agent, name, stored)

    def _read_checkpoint(self, agent: _Incoming, fields: list[Any]) -> None:
        name, stored = fields if len(fields) == 2 else ("", b"")
        entry = agent.fold.state.checkpoints.get(name)
        taken = agent.meta["checkpoints"].get(name)
        if entry is None or taken is None:
            raise _damaged(f"a checkpoint of {agent.origin} is unknown to its log")
        try:
            record = unpack_snapshot(stored, agent.origin, self._codec, self._limits, self._log.chain)
            memory = record.state["agent"]["memory"]
        except (CorruptEvent, KeyError, TypeError):
            raise _damaged(f"a checkpoint of {agent.origin} is damaged") from None
        agent.needed.update(contents_in(record.state))
        digest, checksum = agent.known.get(record.seq, (entry[5], _checksum(memory)))
        if (record.seq, record.digest, _checksum(memory)) != (entry[0] - 1, digest, checksum):
            raise _damaged(f"a checkpoint of {agent.origin} is not the fold of its events")
        left = 0 if entry[3] is None else (entry[3] - self._now) // 1000
        if entry[3] is not None and left <= 0:
            return
        if self._map.is_identity or record.seq not in agent.known:
            self._stage_checkpoint(agent, name, self._repack(record, agent))
        agent.values.append((self._log.checkpoint_key(agent.path, name), left))

    def _read_content(self, agent: _Incoming, fields: list[Any]) -> None:
        """Take in a chunk of a content; the content before it is whole once another begins."""
        if len(fields) != 3 or not all(map(isinstance, fields, (bytes, int, bytes))):
            raise _damaged(f"content of {agent.origin} has another form")
        digest, index, chunk = fields
        if index == 0:
            self._stage_content(agent)
        elif (digest, index) != (agent.content, len(agent.chunks)):
            raise _damaged(f"the chunks of content of {agent.origin} are not in order")
        agent.content = digest
        agent.chunks.append(chunk)

    def _stage_content(self, agent: _Incoming) -> None:
        """Check and stage the content whose chunks were read."""
        data, digest = b"".join(agent.chunks), agent.content
        agent.chunks.clear()
        agent.content = None
        if digest is None:
            return
        if content_digest(data) != digest:
            raise _damaged(f"content of {agent.origin} is damaged")
        self._log.contents.write(agent.path, digest, data, staged=True)
        agent.contents[digest] = len(data)

    def _stage_checkpoint(self, agent: _Incoming, name: str, stored: bytes) -> None:
        key = self._log.checkpoint_key(agent.path, name)
        self._log.archive.stage_value(agent.path, self._token, key, stored)

    def _finish_agent(self, agent: _Incoming) -> None:
        self._stage_content(agent)
        if any(agent.contents.get(content.digest) != content.size for content in agent.needed):
            raise _damaged(f"it lacks content that events of {agent.origin} refer to")
        state, meta = agent.fold.state, agent.meta
        if (state.seq, agent.digest) != (meta["seq"], meta["digest"]) or (agent.base is None) != (meta["base"] == 0):
            raise _damaged(f"the events of {agent.origin} do not end where its header says")
        puts = agent.puts
        if agent.base is not None:
            puts.append(Put(self._log.base_key(agent.path), agent.base))
        snapshot = self._snapshot(agent) if agent.staged >= EVERY else None
        if snapshot is not None:
            puts.append(Put(self._log.snapshot_key(agent.path), snapshot))
        entry = state.directory_line(self._codec)
        self._adoptions.append(
            Adoption(
                agent=agent.path,
                seq=state.seq,
                base=meta["base"],
                before=meta["before"],
                digest=state.digest,
                fence=self._fence,
                updated_at=state.updated_at,
                entry=entry,
                largest=agent.largest,
                levels=agent.levels,
                puts=tuple(puts),
                staged_values=tuple(agent.values),
                has_keyframes=agent.has_keyframes,
                contents=tuple(agent.contents),
            )
        )


def import_session(
    log: EventLog,
    file: IO[bytes],
    to: str | None,
    *,
    limits: Limits,
    fold_of: FoldOf,
    now: int,
    progress: Callable[[int], object] | None = None,
) -> Session:
    """Import a session file, its first agent as `to` and the agents below it below `to`. `now` is in µs.

    Raises AgentExists, CorruptEvent, InvalidMessage, InvalidPath, WrongKey; then no agent was created.
    """
    return _Import(log, limits, fold_of, now, progress).run(file, to)


def _map_of(agents: list[str], to: str | None) -> PathMap:
    root = agents[0]
    target = agent_path(root if to is None else to).text
    for agent in agents:
        if agent_path(agent).text != agent or (agent != root and not agent.startswith(f"{root}/")):
            raise _damaged("its agents are not of one tree")
    return PathMap(root, target, agents)


def _is_paths(value: Any) -> bool:
    return type(value) is list and value != [] and all(type(path) is str for path in cast("list[Any]", value))


def _is_items(value: Any) -> bool:
    return type(value) is list and all(type(item) is bytes for item in cast("list[Any]", value))


_FORM: Final = {"seq": int, "base": int, "digest": bytes, "before": bytes, "checkpoints": dict}


def _has_form(meta: dict[str, Any]) -> bool:
    sound = all(type(meta.get(name)) is kind for name, kind in _FORM.items())
    return (
        sound
        and 0 <= meta["base"] <= meta["seq"]
        and all(type(taken) is list and len(cast("list[Any]", taken)) == 2 for taken in meta["checkpoints"].values())
    )


def _checksum(memory: Any) -> bytes:
    """A checksum of plain data that does not depend on the order of keys."""
    total = sha256()
    _add_to(total, memory)
    return total.digest()


def _add_to(total: Any, value: Any) -> None:
    if type(value) is dict:
        held = cast("dict[str, Any]", value)
        total.update(b"{%d" % len(held))
        for key in sorted(held):
            total.update(repr(key).encode())
            _add_to(total, held[key])
    elif type(value) is list:
        total.update(b"[%d" % len(cast("list[Any]", value)))
        for inside in cast("list[Any]", value):
            _add_to(total, inside)
    else:
        total.update(repr(value).encode())


def _damaged(why: str) -> CorruptEvent:
    return CorruptEvent(f"this session file is damaged: {why}; get another copy, or export it again")


def _already_exists(path: str) -> AgentExists:
    return AgentExists(f"{path} exists already: name another path with `to`", agent=path)
