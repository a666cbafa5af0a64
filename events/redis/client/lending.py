"""Connections that are open, lent to another process, which so reads a log without knowing how to open it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from ...errors import DuramenError
from ...log import LoanTerms
from .requests import RedisClient
from .wire import LOST, Wire

__all__ = ["Lending", "Loan"]

_MANY: Final = 100
"""Connections that a pool may open, as redis-py has it by itself. Where users allow fewer, they mean to count them."""


class Loan:
    """Nobody else is given these connections until `close`. Used by one thread at a time."""

    def __init__(self, terms: LoanTerms, wires: Sequence[Wire], ended: Callable[[], None]) -> None:
        self.terms = terms
        self._wires = wires
        self._ended = ended

    def close(self) -> None:
        """Close them, for the other process too: what it asked last may still be answered. Idempotent."""
        wires, self._wires = self._wires, ()
        for wire in wires:
            wire.discard()
        if wires:
            self._ended()


class Lending:
    """Lends connections to one other process at a time. Thread-safe."""

    def __init__(self, server: RedisClient, namespace: str, partitions: int) -> None:
        self._server = server
        self._namespace = namespace
        self._partitions = partitions
        self._lent = threading.Lock()

    def lend(self, count: int) -> Loan | None:
        """So many connections; None where they cannot be had, or are encrypted: what that needs is in this process."""
        if self._server.pool.max_connections < _MANY or not self._lent.acquire(blocking=False):
            return None
        with ExitStack() as stack:
            stack.callback(self._lent.release)
            wires: list[Wire] = []
            descriptors: list[int] = []
            for _ in range(count):
                try:
                    wire = self._server.connect()
                except (*LOST, DuramenError):
                    return None
                stack.callback(wire.discard)
                descriptor = wire.descriptor
                if descriptor is None:
                    return None
                wires.append(wire)
                descriptors.append(descriptor)
            stack.pop_all()
        terms = LoanTerms(self._namespace, self._partitions, self._server.reply_timeout, descriptors)
        return Loan(terms, wires, self._lent.release)
