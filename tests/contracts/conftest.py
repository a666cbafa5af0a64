"""The logs that must answer alike: in memory, on Valkey by RESP2, on Redis by RESP3, on a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.events.log.event_log import EventLog


@pytest.fixture(params=["memory", "valkey", "redis", "cluster"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A fresh namespace in memory, on Valkey, on Redis, on a cluster."""
    memory = request.param == "memory"
    place: Place = MemoryPlace() if memory else _server_place(request)
    yield place
    place.close()


@pytest.fixture(params=["valkey", "redis", "cluster"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerPlace]:
    """A fresh namespace where bytes are stored: on Valkey, on Redis, on a cluster."""
    place = _server_place(request)
    yield place
    place.close()


def _server_place(request: pytest.FixtureRequest) -> ServerPlace:
    url = request.getfixturevalue(f"{request.param}_url")
    return ServerPlace(f"{url}?protocol=3" if request.param == "redis" else url)


@pytest.fixture
def log(place: Place) -> EventLog:
    return place.open()
