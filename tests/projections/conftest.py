"""Systems whose log projections follow: in memory, on a real Valkey, on a real Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from duramen.actors import AgentSystem
from duramen.events import MemoryLog
from following import OpenSystem


@pytest.fixture
def open_system() -> Iterator[OpenSystem]:
    """Systems on one log in memory."""
    yield from _opener({"log": MemoryLog()})


@pytest.fixture(params=["memory", "valkey", "redis"])
def open_any(request: pytest.FixtureRequest) -> Iterator[OpenSystem]:
    """Systems on one log: in memory, on Valkey, on Debian's Redis."""
    if request.param == "memory":
        yield from _opener({"log": MemoryLog()})
    else:
        url = request.getfixturevalue(f"{request.param}_url")
        yield from _opener({"url": url, "namespace": f"t{uuid4().hex}"})


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What code of a test blocks on: opened at the latest when the test ends, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


def _opener(where: dict[str, Any]) -> Iterator[OpenSystem]:
    opened: list[AgentSystem] = []

    def open_one(**options: Any) -> AgentSystem:
        found = AgentSystem.open(**where, **options)
        opened.append(found)
        return found

    yield open_one
    for found in opened:
        found.close(timeout=5.0)
