"""All calls of one agent, shared by the synchronous handle and its asyncio twin."""

from __future__ import annotations

from .lifecycle import LifecycleCalls
from .memory import MemoryCalls
from .work import WorkCalls


class AgentCalls(WorkCalls, MemoryCalls, LifecycleCalls):
    """The calls of one agent. Subclasses decide how the reply is awaited."""

    __slots__ = ()
