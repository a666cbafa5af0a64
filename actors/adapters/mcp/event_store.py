"""An event store for resumable streams of the Model Context Protocol, whose streams are agents."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final
from uuid import uuid4

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.types import JSONRPCMessage, jsonrpc_message_adapter

from duramen.actors import AgentSystem
from duramen.events import AgentPath

from ..common import TextList, json_of, name_of, run_async, settle

_HOUR: Final = timedelta(hours=1)


class DuramenEventStore(EventStore):
    """The messages that a server has sent in one session, so that a client that comes back gets those it has missed.

    Each stream of the session is an agent, which erases itself after `expires_after` without a message. The protocol
    numbers streams within a session: each needs a store of its own, or one client would be sent another's messages.
    Stores of one session may be many, in any process. Raises the errors of the system.
    """

    def __init__(
        self,
        system: AgentSystem,
        session_id: str,
        *,
        project: str = "mcp-streams",
        expires_after: timedelta | None = _HOUR,
    ) -> None:
        """Without `expires_after` streams stay until they are erased. Raises InvalidPath for the project."""
        self._system = system
        self._session_id = session_id
        self._project = AgentPath.of(project, "session").project
        self._expires_after = expires_after

    def path(self, stream_id: str) -> AgentPath:
        """The path of the agent that holds a stream."""
        return AgentPath.of(self._project, name_of(self._session_id), name_of(stream_id))

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Store a message, or None for the beginning of a stream. Returns the id of the event."""
        key = uuid4().hex
        dumped = None if message is None else message.model_dump(mode="json", by_alias=True, exclude_none=True)
        stream = self._stream(stream_id)
        await settle(run_async(self._system, stream.extend([json_of([key, dumped])])))
        return f"{key}:{stream_id}"

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send the messages after an event of the session. Returns its stream; None where the event is not there."""
        key, _, stream_id = last_event_id.partition(":")
        texts = await run_async(self._system, self._stream(stream_id).read())
        events = [json.loads(text) for text in texts]
        start = next((at for at, (there, _) in enumerate(events, 1) if there == key), None)
        if start is None:
            return None
        for there, dumped in events[start:]:
            if dumped is not None:
                message = jsonrpc_message_adapter.validate_python(dumped, by_name=False)
                await send_callback(EventMessage(message, f"{there}:{stream_id}"))
        return stream_id

    def _stream(self, stream_id: str) -> TextList:
        metadata = {"session_id": self._session_id, "stream_id": stream_id}
        return TextList(self.path(stream_id), metadata, expires_after=self._expires_after)
