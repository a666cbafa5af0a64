"""Leases as they are often built, for controls: they bury hosts that live, and the battery has to say so."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import redis

from duramen.actors import AgentSystem
from duramen.events.log import HostRecord

__all__ = ["NAIVE", "use_naive_lease"]

_SECONDS = 10.0


class WallClockLease:
    """Each look says until when by the time of day a host is taken for alive."""

    def __init__(self, system: AgentSystem, client: Any) -> None:
        self._until: dict[str, float] = {}

    def look(self, records: Iterable[HostRecord], now: float) -> list[HostRecord]:
        today, living = time.time(), [record for record in records if not record.has_ended]
        ended = [record for record in living if self._until.get(record.host, today) < today]
        self._until = {record.host: today + _SECONDS for record in living}
        return ended

    def interrupt(self) -> None:
        pass


class KeyLease:
    """A host has a key with a time to live; whoever has none, and had one or could have, is dead."""

    def __init__(self, system: AgentSystem, client: Any) -> None:
        self._system = system
        self._client = client
        self._known: set[str] = set()

    def look(self, records: Iterable[HostRecord], now: float) -> list[HostRecord]:
        with suppress(redis.RedisError):
            self._client.set(f"lease:{self._system.host}", 1, px=int(_SECONDS * 1000))
        living = [record for record in records if not record.has_ended]
        ended = [one for one in living if one.host in self._known and not self._client.exists(f"lease:{one.host}")]
        self._known = {record.host for record in living if self._client.exists(f"lease:{record.host}")} | self._known
        return ended

    def interrupt(self) -> None:
        pass


NAIVE: dict[str, Any] = {"clock": WallClockLease, "key": KeyLease}


def use_naive_lease(system: AgentSystem, name: str, url: str) -> None:
    """Have this host judge the others by a lease that is no good."""
    membership = system._hosted.hosting.membership
    membership._judge = NAIVE[name](system, redis.Redis.from_url(url))
