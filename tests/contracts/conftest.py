"""The logs that must answer alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.events.log.event_log import EventLog


@pytest.fixture(params=["memory", "valkey", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A fresh namespace in memory, on Valkey, on Redis."""
    memory = request.param == "memory"
    place: Place = MemoryPlace() if memory else ServerPlace(request.getfixturevalue(f"{request.param}_url"))
    yield place
    place.close()


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerPlace]:
    """A fresh namespace where bytes are stored: on Valkey, on Redis."""
    place = ServerPlace(request.getfixturevalue(f"{request.param}_url"))
    yield place
    place.close()


@pytest.fixture
def log(place: Place) -> EventLog:
    return place.open()
