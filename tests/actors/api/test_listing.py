"""Agents are listed in pages: the first comes after one of them, and each comes once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import redis

from duramen.actors import AgentSystem, Spawn

COUNT = 2_000


def calls(client: Any, command: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_the_first_agent_comes_after_one_page_and_each_comes_once(valkey_url: str) -> None:
    client = redis.Redis.from_url(valkey_url)
    with AgentSystem.open(valkey_url, namespace=f"t{uuid4().hex}", partitions=1) as system:
        paths = [f"acme/a{number:05}" for number in range(COUNT)]
        for reply in [system.agent(path).ask(Spawn(), block=False) for path in paths]:
            reply.get(timeout=60).raise_for_failure()
        scans, lookups = calls(client, "hscan"), calls(client, "hmget")
        agents = system.agents()
        first = next(agents)
        assert (calls(client, "hscan") - scans, calls(client, "hmget") - lookups) == (1, 1)
        assert sorted(entry.agent for entry in (first, *agents)) == paths
        assert calls(client, "hscan") - scans > 2, "control: there were more pages"
