"""Supervision: the policy for an agent whose handler raised, and the count of its restarts."""

from __future__ import annotations

import math
import threading
from collections import deque
from enum import StrEnum
from time import monotonic
from typing import Any, Literal

from attrs import field, frozen

from duramen.events import InvalidMessage
from duramen.events.model import Seconds, parse_seconds


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


StrategyText = Literal["resume", "restart", "stop", "escalate"]


def _to_strategy(value: Strategy | StrategyText) -> Strategy:
    try:
        return Strategy(str(value))
    except ValueError:
        names = ", ".join(Strategy)
        raise InvalidMessage(f"a supervision strategy is one of {names}", actual=value) from None


def _check_number(_instance: object, attribute: Any, value: Any) -> None:
    least = 1 if attribute.name == "factor" else 0
    if type(value) not in (int, float) or not math.isfinite(value) or value < least:
        raise InvalidMessage(f"{attribute.name} of a supervision is a finite number from {least} on", actual=value)


def _to_seconds(value: Seconds) -> float:
    return parse_seconds("a time of a supervision", value)


@frozen(kw_only=True)
class Supervision:
    """The supervision of the agents of a class. Times are in seconds, or timedeltas.

    Pauses before a restart grow from `first_pause` by `factor` up to `longest_pause`. More than `restarts` restarts
    `within` this time stop the agent. Raises InvalidMessage for an unknown strategy and for what is no number.
    """

    strategy: Strategy = field(default=Strategy.RESUME, converter=_to_strategy)
    restarts: int = field(default=5, validator=_check_number)
    within: float = field(default=60.0, converter=_to_seconds)
    first_pause: float = field(default=0.1, converter=_to_seconds)
    factor: float = field(default=2.0, validator=_check_number)
    longest_pause: float = field(default=30.0, converter=_to_seconds)

    def pause_before(self, restart: int) -> float:
        """The pause in seconds before a restart, the first of which is 1."""
        try:
            pause = self.first_pause * float(self.factor) ** (restart - 1)
        except OverflowError:
            pause = self.longest_pause if self.first_pause else 0.0
        return min(self.longest_pause, pause)


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

    def decide(self, agent: str, policy: Supervision | Strategy | StrategyText) -> Decision:
        """The decision about a failure that has just happened, which counts as a restart if it is one.

        A strategy alone stands for a policy of it. Raises InvalidMessage for a policy of any other type.
        """
        if not isinstance(policy, Supervision):
            policy = Supervision(strategy=policy)
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
        return Decision(Strategy.RESTART, policy.pause_before(count))
