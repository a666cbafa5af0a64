"""A session repository of Strands whose sessions are agents.

`{"session": …, "agents": {id: …}, "multi_agents": {id: …}, "messages": {agent: {message: …}}}`, each value as JSON, is
the form of a session in working memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage

from duramen.actors import AgentSystem, Batch, Get, Set
from duramen.events import AgentPath, PathNotFound, PropertyPath

from ..common import GONE, Ask, Steps, TextList, json_of, name_of, run

if TYPE_CHECKING:
    from strands.multiagent import MultiAgentBase


class DuramenSessionRepository(SessionRepository):
    """A session repository of Strands: each session, with its agents and their messages, is an agent of `project`.

    What a call stores is one commit. The calls block, as Strands' do: its agents call them from a thread of their own,
    or from your event loop, which waits for each commit. Thread-safe. Raises the errors of the system, besides
    Strands' own.
    """

    def __init__(self, system: AgentSystem, *, project: str = "strands", durability: str | None = None) -> None:
        """`durability` is that of what is stored, by default the system's. Raises InvalidPath for the project."""
        self._system = system
        self._project = AgentPath.of(project, "session").project
        self._durability = durability

    def path(self, session_id: str) -> AgentPath:
        """The path of the agent that holds a session, for `system.replay`, `system.fork` and the console."""
        return AgentPath.of(self._project, name_of(session_id))

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Create a session. Raises SessionException if it is there."""
        session_id: str = session.session_id
        if not run(self._system, self._agent(session_id).spawn({"session": json_of(session.to_dict())})):
            raise SessionException(f"Session {session_id} already exists")
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        found = self._read(session_id, "session")
        return None if found is None else Session.from_dict(found)

    def delete_session(self, session_id: str) -> None:
        """Erase a session from the server. Raises SessionException if it is not there."""
        if self.read_session(session_id) is None:
            raise SessionException(f"Session {session_id} does not exist")
        self._system.erase(self.path(session_id), rewrite=False)

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        self._write(session_id, session_agent.to_dict(), "agents", session_agent.agent_id)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        found = self._read(session_id, "agents", agent_id)
        return None if found is None else SessionAgent.from_dict(found)

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store an agent anew. Raises SessionException if it is not there."""
        before = self.read_agent(session_id, session_agent.agent_id)
        if before is None:
            raise SessionException(f"Agent {session_agent.agent_id} in session {session_id} does not exist")
        session_agent.created_at = before.created_at
        self.create_agent(session_id, session_agent)

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        self._write(session_id, session_message.to_dict(), "messages", agent_id, _key_of(session_message.message_id))

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        found = self._read(session_id, "messages", agent_id, _key_of(message_id))
        return None if found is None else SessionMessage.from_dict(found)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Store a message anew. Raises SessionException if it is not there. The old one stays in the log."""
        before = self.read_message(session_id, agent_id, session_message.message_id)
        if before is None:
            raise SessionException(f"Message {session_message.message_id} does not exist")
        session_message.created_at = before.created_at
        self.create_message(session_id, agent_id, session_message)

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """The messages of an agent in the order of their ids. Raises SessionException if the agent is not there."""
        found = run(
            self._system, self._list(session_id, agent_id, slice(offset, None if limit is None else offset + limit))
        )
        if found is None:
            raise SessionException(f"There is no agent {agent_id} in session {session_id}")
        return [SessionMessage.from_dict(each) for each in found]

    def create_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        self._write(session_id, multi_agent.serialize_state(), "multi_agents", multi_agent.id)

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        return self._read(session_id, "multi_agents", multi_agent_id)

    def update_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        """Store the state of agents that work together anew. Raises SessionException if it is not there."""
        if self.read_multi_agent(session_id, multi_agent.id) is None:
            raise SessionException(f"MultiAgent state {multi_agent.id} in session {session_id} does not exist")
        self.create_multi_agent(session_id, multi_agent)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _agent(self, session_id: str) -> TextList:
        return TextList(self.path(session_id), {"session_id": session_id}, self._durability)

    def _read(self, session_id: str, *segments: str) -> dict[str, Any] | None:
        return run(self._system, self._load(session_id, segments))

    def _load(self, session_id: str, segments: Sequence[str]) -> Steps[dict[str, Any] | None]:
        agent = self._agent(session_id)
        try:
            entry = yield Ask(agent.path.text, Get(PropertyPath.of(*segments), None))
        except GONE:
            return None
        text = None if entry is None else (yield from agent.load(entry))
        return None if text is None else json.loads(text)

    def _list(self, session_id: str, agent_id: str, part: slice) -> Steps[list[dict[str, Any]] | None]:
        agent = self._agent(session_id)
        try:
            yield Ask(agent.path.text, Get(PropertyPath.of("agents", agent_id)))
            entries: dict[str, Any] = yield Ask(agent.path.text, Get(PropertyPath.of("messages", agent_id), {}))
        except (*GONE, PathNotFound):
            return None
        found: list[dict[str, Any]] = []
        for key in sorted(entries, key=int)[part]:
            text = yield from agent.load(entries[key])
            if text is not None:  # not stored anew meanwhile
                found.append(json.loads(text))
        return found

    def _write(self, session_id: str, value: dict[str, Any], *segments: str) -> None:
        run(self._system, self._store(session_id, json_of(value), segments))

    def _store(self, session_id: str, text: str, segments: Sequence[str]) -> Steps[None]:
        agent = self._agent(session_id)
        entries = yield from agent.make_entries([text])
        yield from agent.write(Batch([Set(PropertyPath.of(*segments), entries[0])], durability=self._durability))


def _key_of(message_id: int) -> str:
    """The key of a message. Raises ValueError for an id that is no whole number, as Strands' own repositories do."""
    if type(message_id) is not int:
        raise ValueError(f"message_id=<{message_id}> | message id must be an integer")
    return str(message_id)
