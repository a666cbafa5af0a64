"""A history provider of the Agent Framework whose sessions are agents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from agent_framework import HistoryProvider, Message

from duramen.actors import AgentSystem
from duramen.events import AgentNotFound, AgentPath

from ..common import TextList, json_of, name_of, run_async, settle

_NAMELESS: Final = "default"
"""The session of those who give none, as in the framework's own providers."""


class DuramenHistoryProvider(HistoryProvider):
    """A history provider: the messages of a session are a list in the working memory of an agent of `project`.

    What one run adds is one commit, up to 800 KiB. Saving waits for its outcome, also when it is cancelled. Providers
    of one session may be many, in any process: each message is stored once. Raises the errors of the system.
    """

    def __init__(
        self,
        system: AgentSystem,
        *,
        source_id: str = "duramen",
        project: str = "agent-framework",
        durability: str | None = None,
        **options: Any,
    ) -> None:
        """`options` are those of HistoryProvider, such as `load_messages`. Raises InvalidPath for the project."""
        super().__init__(source_id, **options)
        self._system = system
        self._project = AgentPath.of(project, "session").project
        self._durability = durability

    def path(self, session_id: str | None) -> AgentPath:
        """The path of the agent that holds a session, for `system.replay`, `system.fork` and the console."""
        return AgentPath.of(self._project, name_of(session_id or _NAMELESS))

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """All messages of a session, oldest first."""
        texts = await run_async(self._system, self._messages(session_id).read())
        return [Message.from_dict(json.loads(text)) for text in texts]

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add messages to a session, in their order."""
        if messages:
            texts = [json_of(message.to_dict()) for message in messages]
            await settle(run_async(self._system, self._messages(session_id).extend(texts)))

    async def clear(self, session_id: str | None) -> None:
        """Erase a session from the server."""
        with suppress(AgentNotFound):
            await settle(self._system.aio.erase(self.path(session_id), rewrite=False))

    def _messages(self, session_id: str | None) -> TextList:
        return TextList(self.path(session_id), {"session_id": session_id or _NAMELESS}, self._durability)
