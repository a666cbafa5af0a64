"""Supervision: the policy for an agent whose handler raised, and the count of its restarts."""

from __future__ import annotations

import threading
from collections import deque
from enum import StrEnum
from time import monotonic

from attrs import field, frozen

__all__ = ["Decision", "Strategy", "Supervision", "Supervisor"]


class Strategy(StrEnum):
    """What follows a handler's exception. Its events are discarded and its caller gets the error in any case."""

    RESUME = "resume"
    """Handle the next message on the state before the failed one."""
    RESTART = "restart"
    """Drop the object and its state, wait for the pause, and recover the agent from its log."""
    STOP = "stop"
    """Refuse messages until a `Restart`; the log and the status say `failed`."""
    ESCALATE = "escalate"
    """Stop, and call `on_child_failed` of the parent."""


@frozen(kw_only=True)
class Supervision:
    """The supervision of the agents of a class. Times are in seconds.

    Pauses before a restart grow from `first_pause` by `factor` up to `longest_pause`. More than `restarts` restarts
    `within` this time stop the agent.
    """

    strategy: Strategy = field(default=Strategy.RESUME, converter=Strategy)
    restarts: int = 5
    within: float = 60.0
    first_pause: float = 0.1
    factor: float = 2.0
    longest_pause: float = 30.0


@frozen
class Decision:
    """The strategy to follow after a failure, and for a restart the pause before it, in seconds."""

    strategy: Strategy
    pause: float = 0.0


class Supervisor:
    """Counts the recent restarts of each agent. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._restarts: dict[str, deque[float]] = {}

    def decide(self, agent: str, policy: Supervision) -> Decision:
        """The decision about a failure that has just happened, which counts as a restart if it is one."""
        if policy.strategy is not Strategy.RESTART:
            return Decision(policy.strategy)
        now = monotonic()
        with self._lock:
            recent = self._restarts.setdefault(agent, deque())
            while recent and recent[0] < now - policy.within:
                recent.popleft()
            recent.append(now)
            count = len(recent)
            if count > policy.restarts:
                del self._restarts[agent]
                return Decision(Strategy.STOP)
        return Decision(Strategy.RESTART, min(policy.longest_pause, policy.first_pause * policy.factor ** (count - 1)))
