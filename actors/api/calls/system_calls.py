"""All calls of a system, shared by the system and its asyncio twin."""

from __future__ import annotations

from typing import Protocol

from duramen.events.log import HostRecord
from duramen.events.model import Seconds

from ..outputs import OutputCalls
from .history import History
from .work import Work


class _HostCalls(Protocol):
    """The calls of a system as a host."""

    def hosts(self) -> list[HostRecord]: ...

    def drain(self, timeout: Seconds = ...) -> bool: ...

    def close(self, timeout: Seconds = ...) -> None: ...

    def runs_here(self) -> bool: ...


class SystemCalls(History, Work, OutputCalls, _HostCalls):
    """The calls of a system that have asyncio twins."""
