"""A session of OpenAI's Agents SDK that is an agent. It needs nothing of the SDK but its shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from duramen.actors import AgentSystem
from duramen.events import AgentPath

from ..common import TextList, json_of, name_of, run_async, settle


class DuramenSession:
    """A session of OpenAI's Agents SDK: its history is a list in the working memory of an agent of `project`.

    What one call adds is one commit, up to 800 KiB. Calls that change the session wait for their outcome, also when
    they are cancelled. Sessions of one id may be open many times, in any process. Raises the errors of the system.
    """

    def __init__(
        self,
        session_id: str,
        system: AgentSystem,
        *,
        project: str = "openai-agents",
        session_settings: Any = None,
        durability: str | None = None,
    ) -> None:
        """`session_settings` are the SDK's, of which `limit` counts. Raises InvalidPath for the project."""
        self.session_id = session_id
        self.session_settings = session_settings
        self.path: Final = AgentPath.of(project, name_of(session_id))
        """The path of the agent that holds the session."""
        self._system = system
        self._items = TextList(self.path, {"session_id": session_id}, durability)

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """The latest `limit` items, oldest first; by default as many as the settings say, or all."""
        most = _limit_of(self.session_settings) if limit is None else limit
        if most == 0:
            return []
        start = None if most is None or most < 0 else -most
        return [json.loads(text) for text in await run_async(self._system, self._items.read(start))]

    async def add_items(self, items: list[Any]) -> None:
        """Add items, in their order."""
        if items:
            await settle(run_async(self._system, self._items.extend([json_of(item) for item in items])))

    async def pop_item(self) -> Any | None:
        """Remove the latest item and return it; None if there is none."""
        text = await settle(run_async(self._system, self._items.pop()))
        return None if text is None else json.loads(text)

    async def clear_session(self) -> None:
        """Remove all items. They stay in the log, until it is trimmed."""
        await settle(run_async(self._system, self._items.clear()))


def _limit_of(settings: Any) -> int | None:
    if isinstance(settings, Mapping):
        return cast("Mapping[str, int | None]", settings).get("limit")
    limit: int | None = getattr(settings, "limit", None)
    return limit
