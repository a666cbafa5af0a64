"""The calls of a system that read a log without running an agent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, cast

from attrs import evolve

from duramen.events import (
    AgentNotFound,
    AgentPath,
    Content,
    CorruptEvent,
    Event,
    EventRegistry,
    InvalidMessage,
    Limits,
    agent_path,
)
from duramen.events.codec import Codec
from duramen.events.log import Entry, EventLog, load_content, read_events
from duramen.events.model import same_value
from duramen.projections import AgentView, Consumers
from duramen.projections.recovery import AgentLog, rebuild
from duramen.projections.state import FAILED_STATUS, MISSING, PAUSED_STATUS, RUNNING, TERMINATED_STATUS

from ...dispatch import EventLoop
from ...handlers import current_call
from ..arguments import check_count, check_types
from ..episode_store import EpisodeStore

_STATUSES: Final = frozenset((RUNNING, PAUSED_STATUS, FAILED_STATUS, TERMINATED_STATUS, "damaged"))


class Reading:
    """The part of a system that only reads. Thread-safe, since every call has its own codec."""

    def __init__(self, log: EventLog, registry: EventRegistry, limits: Limits, loop: EventLoop) -> None:
        self._log = log
        self._registry = registry
        self._limits = limits
        self._consumers = Consumers(log, registry, limits)
        self._episodes = EpisodeStore(log, registry, limits, loop, self._consumers)

    @property
    def log(self) -> EventLog:
        """The log this system runs on."""
        return self._log

    @property
    def registry(self) -> EventRegistry:
        """The event types that are known here."""
        return self._registry

    @property
    def limits(self) -> Limits:
        """The bounds that this system was opened with."""
        return self._limits

    @property
    def episodes(self) -> EpisodeStore:
        """Long-term memory: the episodes of finished sessions."""
        return self._episodes

    def agents(
        self,
        prefix: str = "",
        *,
        status: str | Collection[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Iterator[Entry]:
        """Iterate over the agents of the namespace, in no order, read in pages. Does not take agents over.

        With a `prefix` only agents whose path begins with this text; from the name of a root agent and a "/" on, one
        partition is read. With a `status`, or several, only those; with `metadata` only agents whose session has these
        items among its own. At most `limit` agents.

        Agents that change meanwhile come as they were before or after. Raises InvalidMessage, and Unavailable while
        iterating.
        """
        check_types(prefix=(prefix, str), metadata=(metadata, Mapping))
        if limit is not None:
            check_count("limit", limit)
        texts = {key: value for key, value in (metadata or {}).items() if _is_text(key) and _is_text(value)}
        found = self._log.directory(self._log.partition_of(prefix) if prefix.count("/") > 1 else None, metadata=texts)
        chosen = _choose(found, prefix, _parse_statuses(status))
        return islice(self._with_metadata(chosen, {} if metadata is None else dict(metadata)), limit)

    def _with_metadata(self, entries: Iterable[Entry], wanted: dict[str, Any]) -> Iterator[Entry]:
        """The entries that have the wanted metadata, with what the directory lacks of it read from their logs."""
        for entry in entries:
            found = entry if entry.packed_metadata is not None else self._read_metadata(entry)
            if not wanted or _has_items(found, wanted):
                yield found

    def _read_metadata(self, entry: Entry) -> Entry:
        try:
            state = rebuild(AgentLog(self._log, entry.agent, self._limits)).state
        except (AgentNotFound, CorruptEvent):
            return entry
        return evolve(entry, packed_metadata=Codec(self._limits).pack(state.metadata))

    def events(self, path: str | AgentPath, *, from_seq: int = 1, to_seq: int | None = None) -> Iterator[Event]:
        """Iterate over an agent's events, oldest first, read in pages.

        Raises AgentNotFound, Trimmed, CorruptEvent, UnknownEventType while iterating.
        """
        name = agent_path(path).text
        if type(from_seq) is not int or from_seq < 1 or (to_seq is not None and type(to_seq) is not int):
            raise InvalidMessage("from_seq is a whole number from 1 on, to_seq one or None", agent=name)
        return read_events(self._log, name, Codec(self._limits), self._registry, from_seq=from_seq, to_seq=to_seq)

    def load_content(self, path: str | AgentPath, content: Content) -> str | bytes:
        """Load what `content`, of an event or of a state of the agent, stands for.

        In a handler of the agent, what the handler has written too, though it is not committed yet.
        Raises CorruptEvent where it is missing or damaged, as it is for another agent, and InvalidMessage.
        """
        given = cast("object", content)
        if not isinstance(given, Content):
            raise InvalidMessage("content is a Content, of an event or a state", actual=type(given).__name__)
        name, call = agent_path(path).text, current_call()
        if call is not None and call.turn.agent == name:
            written = (call.turn.contents or {}).get(content.digest)
            if written is not None:  # it is stored with the commit
                return written.decode() if content.is_text else written
        return load_content(self._log.contents, name, content)

    def peek(self, path: str | AgentPath) -> AgentView:
        """Return an agent's state of now from its log, read-only, without running code of the agent's class.

        Does not take the agent over from another process. Raises AgentNotFound, CorruptEvent.
        """
        name = agent_path(path).text
        state = rebuild(AgentLog(self._log, name, self._limits)).state
        if state.children:  # a parent's log names a child before it is spawned, which may then never come
            there = self._existing(list(state.children))
            state.children = {child: outlives for child, outlives in state.children.items() if child in there}
        return AgentView(name, state)

    def _existing(self, agents: list[str]) -> set[str]:
        """Those of these agents of one tree that have a log, be it a damaged one."""
        try:
            heads = self._log.archive.heads(agents)
        except CorruptEvent:
            if len(agents) == 1:
                return set(agents)
            return {agent for each in agents for agent in self._existing([each])}
        return {agent for agent, head in zip(agents, heads, strict=True) if head is not None}


def _parse_statuses(status: object) -> frozenset[str] | None:
    if status is None:
        return None
    given = cast("Collection[str]", (status,) if isinstance(status, str) else status)
    if not isinstance(cast("object", given), Collection) or not _STATUSES.issuperset(given):
        raise InvalidMessage(f"status is one or several of {', '.join(sorted(_STATUSES))}")
    return frozenset(given)


def _choose(entries: Iterable[Entry], prefix: str, statuses: frozenset[str] | None) -> Iterator[Entry]:
    for entry in entries:
        if entry.agent.startswith(prefix) and (statuses is None or entry.status in statuses):
            yield entry


def _is_text(value: object) -> bool:
    """Whether a value is a text that has an encoding."""
    if type(value) is not str:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_items(entry: Entry, wanted: dict[str, Any]) -> bool:
    try:
        metadata = entry.metadata
    except CorruptEvent:
        return False
    return all(same_value(metadata.get(key, MISSING), value) for key, value in wanted.items())
