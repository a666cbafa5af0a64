"""The calls of a system for live output."""

from __future__ import annotations

from typing import cast

from duramen.events import AgentPath, InvalidMessage, SystemClosed, agent_path
from duramen.events.model import Seconds, parse_seconds, parse_timeout

from .follower import OutputFollower, parse_after
from .tails import OutputTails


class OutputCalls:
    """The part of a system that follows live output. Thread-safe."""

    _tails: OutputTails

    def follow(
        self,
        path: str | AgentPath,
        name: str,
        *,
        after: int | str | None = None,
        wait: Seconds = 30.0,
        timeout: Seconds | None = 300.0,
    ) -> OutputFollower:
        """Follow a live output of an agent, from its first token or after a position: `for token in system.follow(…)`.

        `after` is a number of tokens, or the `position` of an earlier follower, also of another process. The output
        may be open, complete, or yet to be opened: for that it is waited `wait` seconds. `timeout` is how many seconds
        may pass between two tokens; None: any number. Does not block; also for `async for`.

        Raises InvalidPath, InvalidMessage, SystemClosed; for what iterating raises see `OutputFollower`.
        """
        agent = agent_path(path).text
        position = parse_after(after, agent)
        seconds, limit = parse_seconds("wait", wait), parse_timeout(timeout)
        if type(cast("object", name)) is not str or not name:
            raise InvalidMessage("an output is named by text", agent=agent)
        if self._tails.closed:
            raise SystemClosed("the system is closed; open a new one", agent=agent)
        return OutputFollower(self._tails, self._tails.open((agent, name)), position, seconds, limit)
