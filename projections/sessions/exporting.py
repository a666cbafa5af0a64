"""Export of an agent, or a tree of agents, to a session file."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import IO, Any, Final, cast
from uuid import uuid4

from attrs import define, evolve, frozen

from duramen.events import AgentNotFound, Content, CorruptEvent, Event, Limits, Trimmed
from duramen.events.codec import CONTENT_MARK, DIGEST_SIZE, FORMAT, SessionWriter, decode_body
from duramen.events.log import EventLog, Head, chunks_of, read_content
from duramen.events.model import contents_in

from ..episodes import unpack_record
from ..recovery import UNFOLDED, AgentLog, rebuild
from ..state import AgentState

_PAGE: Final = 500
_FAR: Final = 1 << 40
"""A position of a list behind its end, in lists that are not read."""


@frozen
class ExportedAgent:
    """An agent in a session file: its last seq, the digest there, and how many of its first events were trimmed."""

    agent: str
    seq: int
    digest: bytes
    base: int


@frozen
class Session:
    """The agents that an export wrote, or an import created. The first is the root of the tree."""

    agents: tuple[ExportedAgent, ...]

    @property
    def agent(self) -> str:
        """The path of the root of the tree."""
        return self.agents[0].agent

    @property
    def events(self) -> int:
        """The number of events of all agents."""
        return sum(agent.seq - agent.base for agent in self.agents)


def export_session(
    log: EventLog,
    agents: Sequence[str],
    file: IO[bytes],
    limits: Limits,
    *,
    written_at: int,
    progress: Callable[[int], object] | None = None,
) -> Session:
    """Write agents of one partition as of one moment. Every event is checked.

    `progress` is called with the number of events written so far, after each page of them. Raises AgentNotFound,
    CorruptEvent, Trimmed for a log that is trimmed meanwhile, and what writing to the file raises.
    """
    heads = log.archive.heads(agents)
    found = [(agent, head) for agent, head in zip(agents, heads, strict=True) if head is not None]
    if not found or found[0][0] != agents[0]:
        raise AgentNotFound(f"there is no agent {agents[0]}; spawn it first", agent=agents[0])
    id_ = uuid4().hex
    header = {
        "format": FORMAT,
        "id": id_,
        "integrity": log.chain.fingerprint(id_),
        "agents": [agent for agent, _ in found],
        "log": log.identity,
        "written_at": written_at,
    }
    with SessionWriter(file, limits) as writer:
        writer.write("session", header)
        pages = _Pages(writer, progress)
        exported = [_write_agent(AgentLog(log, agent, limits), head, pages) for agent, head in found]
        writer.finish()
    return Session(tuple(exported))


@define
class _Pages:
    """Writes pages of events, and says how many events it has written."""

    writer: SessionWriter
    progress: Callable[[int], object] | None
    events: int = 0

    def write(self, first: int, items: Sequence[bytes]) -> None:
        self.writer.write("events", first, items)
        self.events += len(items)
        if self.progress is not None:
            self.progress(self.events)


def _write_agent(agent_log: AgentLog, head: Head, pages: _Pages) -> ExportedAgent:
    agent, writer = agent_log.agent, pages.writer
    head, state, before, base = _load_start(agent_log, head)
    checkpoints = {name: [entry[0] - 1, entry[3]] for name, entry in state.checkpoints.items()}
    writer.write(
        "agent",
        {
            "path": agent,
            "seq": head.seq,
            "base": head.base,
            "digest": head.digest,
            "before": before,
            "updated_at": head.updated_at,
            "checkpoints": checkpoints,
        },
    )
    if base is not None:
        writer.write("base", base)
        for episode in _trimmed_episodes(agent_log, head):
            writer.write("episode", episode)
    contents = set(contents_in(agent_log.unpack_snapshot(base).state) if base else ())
    try:
        types = _write_events(agent_log, head, before or b"", pages, contents)
    except Trimmed as error:
        raise _trimmed_meanwhile(agent_log, head, error) from None
    writer.write("types", types)
    for name, entry in state.checkpoints.items():
        stored = _load_checkpoint(agent_log, name, entry)
        if stored is not None:
            writer.write("checkpoint", name, stored)
            contents.update(contents_in(agent_log.unpack_snapshot(stored).state))
    for content in sorted(contents, key=lambda content: content.digest):
        data = read_content(agent_log.log.contents, agent, content)
        for index, chunk in enumerate(chunks_of(data)):
            writer.write("content", content.digest, index, chunk)
    return ExportedAgent(agent, head.seq, head.digest, head.base)


def _load_start(agent_log: AgentLog, head: Head) -> tuple[Head, AgentState, bytes | None, bytes | None]:
    """The head, the state there, the digest at its base and the stored state at its base.

    Of a log that is trimmed meanwhile the base is where it is now. Raises Trimmed if that is behind the head.
    """
    while True:
        found, error = None, None
        try:
            state = rebuild(agent_log, to_seq=head.seq).state
            before = agent_log.digest_at(head.base)
            found = head, state, before, _load_base(agent_log, head) if head.base else None
        except Trimmed as trimmed:
            error = trimmed
        now = agent_log.log.archive.heads([agent_log.agent])[0]
        if now is None:
            raise AgentNotFound(f"{agent_log.agent} was erased while it was exported", agent=agent_log.agent)
        if found is not None and now.base == head.base:
            return found
        if not head.base < now.base <= head.seq:
            raise _trimmed_meanwhile(agent_log, head, error)
        head = evolve(head, base=now.base)


def _load_base(agent_log: AgentLog, head: Head) -> bytes:
    """The stored state at the base of the head. Raises Trimmed if the log was trimmed further meanwhile."""
    log, agent = agent_log.log, agent_log.agent
    stored = log.load([log.base_key(agent)])[0]
    seq = None if stored is None else agent_log.unpack_snapshot(stored).seq
    if stored is None or seq != head.base:
        raise Trimmed(f"the base of {agent} is no longer at {head.base}", agent=agent, seq=head.base, actual=seq)
    return stored


def _trimmed_meanwhile(agent_log: AgentLog, head: Head, error: Trimmed | None) -> Trimmed:
    agent, first = agent_log.agent, None if error is None else error.actual
    return Trimmed(
        f"{agent} was trimmed while it was exported; export it again", agent=agent, seq=head.base, actual=first
    )


def _trimmed_episodes(agent_log: AgentLog, head: Head) -> Iterator[bytes]:
    """The stored episodes of an agent whose events were trimmed, in order; damaged ones are left out.

    Reads the list of the agent's whole partition.
    """
    log, partition = agent_log.log, agent_log.log.partition_of(agent_log.agent)
    starts = [_FAR] * log.partitions
    starts[partition] = 0
    while page := log.archive.episodes(starts)[0][partition]:
        starts[partition] += len(page)
        for stored in page:
            with suppress(CorruptEvent):
                record = unpack_record(stored, agent_log.codec, log.chain)
                if record is not None and record.agent == agent_log.agent and record.seq <= head.base:
                    yield stored


def _load_checkpoint(agent_log: AgentLog, name: str, entry: list[Any]) -> bytes | None:
    """A checkpoint as of the export; None if it has expired.

    It is made from the events where a later pause has replaced the stored one, or that is damaged; None if these
    events were trimmed.
    """
    stored = agent_log.log.load([agent_log.log.checkpoint_key(agent_log.agent, name)])[0]
    if stored is None:
        return None
    try:
        record = agent_log.unpack_snapshot(stored)
        if (record.seq, record.digest) == (entry[0] - 1, entry[5]):
            return stored
    except CorruptEvent:
        pass
    try:
        state = rebuild(agent_log, to_seq=entry[0] - 1).state
    except Trimmed:
        return None
    return agent_log.pack_state(state, {"custom": None, "custom_version": UNFOLDED})


def _write_events(
    agent_log: AgentLog, head: Head, digest: bytes, pages: _Pages, contents: set[Content]
) -> dict[str, list[int]]:
    """Write events page by page, and add the contents they refer to; return the versions of each event type."""
    log, agent = agent_log.log, agent_log.agent
    types: dict[str, list[int]] = {}
    seq = head.base
    while seq < head.seq:
        page = log.read(agent, seq + 1, min(_PAGE, head.seq - seq))
        if page is None or not page.items:
            raise CorruptEvent(f"the log of {agent} ends at {seq}, before its head", agent=agent, seq=seq + 1)
        first = seq + 1
        for item in page.items:
            seq += 1
            body = item[DIGEST_SIZE:]
            expected = log.chain.digest(digest, body)
            digest = item[:DIGEST_SIZE]
            if digest != expected:
                raise CorruptEvent(
                    f"event {seq} of {agent} does not continue the chain of digests; `verify` tells more",
                    agent=agent,
                    seq=seq,
                    expected=expected.hex(),
                    actual=digest.hex(),
                )
            event = decode_body(agent, seq, body, agent_log.codec)
            if CONTENT_MARK in body:
                contents.update(contents_in(event))
            versions = types.setdefault(event[0], [])
            if event[1] not in versions:
                versions.append(event[1])
        pages.write(first, page.items)
    return types


# -- for other tools ---------------------------------------------------------------------------------------------------


def to_json_line(event: Event) -> str:
    """Format an event as one line of JSON, in ASCII, in the form of docs/reference/session-file.md."""
    fields = {
        "agent": event.agent,
        "seq": event.seq,
        "time": event.time.isoformat(),
        "type": event.type,
        "version": event.version,
        "data": _jsonable(event.data),
        "session_id": event.session_id,
        "command_id": event.command_id,
        "causation_id": event.causation_id,
        "correlation_id": event.correlation_id,
        "granularity": event.granularity.name.lower(),
        "metadata": _jsonable(event.metadata),
        "digest": event.digest.hex(),
    }
    return json.dumps(fields, allow_nan=False)


def _jsonable(value: Any) -> Any:
    """Convert plain data to JSON values; a type that JSON lacks becomes a dict with one key, as `{"$bytes": …}`."""
    if isinstance(value, datetime):
        return {"$time": value.isoformat()}
    if isinstance(value, bytes):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, Content):
        return {"$content": {"digest": value.digest.hex(), "size": value.size, "text": value.is_text}}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, Mapping):
        held = cast("Mapping[str, Any]", value)
        plain = {key: _jsonable(inside) for key, inside in held.items()}
        return {"$dict": plain} if len(held) == 1 and next(iter(held)).startswith("$") else plain
    if isinstance(value, list):
        return [_jsonable(inside) for inside in cast("list[Any]", value)]
    return value
