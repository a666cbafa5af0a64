"""What becomes of an agent whose handler raised."""

from __future__ import annotations

import threading
from collections import deque
from enum import StrEnum
from time import monotonic

from attrs import field, frozen

__all__ = ["Strategy", "Supervision", "Supervisor", "Verdict"]


class Strategy(StrEnum):
    """What to do about a handler's exception. Its events are discarded and its caller is told in any case."""

    RESUME = "resume"
    """Go on with the next message, on the state before the failed one."""
    RESTART = "restart"
    """Forget the object and its state, wait a little, bring the agent back from its log."""
    STOP = "stop"
    """Take no more messages until somebody sends `Restart`: the log and the status say `failed`."""
    ESCALATE = "escalate"
    """As stop, and tell the parent, whose `on_child_failed` is called."""


@frozen(kw_only=True)
class Supervision:
    """How the agents of a class are supervised; times are in seconds.

    Pauses before a restart grow from `first_pause` by `factor` up to `longest_pause`. More than `restarts` of them
    `within` so many seconds, and the agent is stopped.
    """

    strategy: Strategy = field(default=Strategy.RESUME, converter=Strategy)
    restarts: int = 5
    within: float = 60.0
    first_pause: float = 0.1
    factor: float = 2.0
    longest_pause: float = 30.0


@frozen
class Verdict:
    """What to do now: the strategy, and for a restart the pause before it."""

    strategy: Strategy
    pause: float = 0.0


class Supervisor:
    """Remembers recent restarts, by agent. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._restarts: dict[str, deque[float]] = {}

    def judge(self, agent: str, policy: Supervision) -> Verdict:
        """What to do about a failure that has just happened."""
        if policy.strategy is not Strategy.RESTART:
            return Verdict(policy.strategy)
        now = monotonic()
        with self._lock:
            recent = self._restarts.setdefault(agent, deque())
            while recent and recent[0] < now - policy.within:
                recent.popleft()
            recent.append(now)
            count = len(recent)
            if count > policy.restarts:
                del self._restarts[agent]
                return Verdict(Strategy.STOP)
        return Verdict(Strategy.RESTART, min(policy.longest_pause, policy.first_pause * policy.factor ** (count - 1)))
