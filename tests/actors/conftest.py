"""Systems to test: in memory, on a real Valkey, on a real Redis; each test in a namespace of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from duramen.actors import AgentSystem
from duramen.events import MemoryLog

OpenSystem = Callable[..., AgentSystem]
"""Opens one more system on the same log; all of them are closed after the test."""

_CLOSE_SECONDS = 5.0


@pytest.fixture
def open_system() -> Iterator[OpenSystem]:
    """Systems on one log in memory; each stands for a process."""
    yield from _opener({"log": MemoryLog()})


@pytest.fixture(params=["memory", "valkey", "redis"])
def open_any(request: pytest.FixtureRequest) -> Iterator[OpenSystem]:
    """Systems on one log: in memory, on Valkey, on Debian's Redis."""
    if request.param == "memory":
        yield from _opener({"log": MemoryLog()})
    else:
        url = request.getfixturevalue(f"{request.param}_url")
        yield from _opener({"url": url, "namespace": f"t{uuid4().hex}"})


@pytest.fixture(params=["valkey", "redis"])
def open_server(request: pytest.FixtureRequest) -> Iterator[OpenSystem]:
    """Systems on one log of a real server."""
    url = request.getfixturevalue(f"{request.param}_url")
    yield from _opener({"url": url, "namespace": f"t{uuid4().hex}"})


@pytest.fixture
def system(open_system: OpenSystem) -> AgentSystem:
    """A system in memory."""
    return open_system()


@pytest.fixture
def any_system(open_any: OpenSystem) -> AgentSystem:
    """A system in memory, on Valkey, on Redis."""
    return open_any()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a handler of a test blocks on: opened at the latest when the test ends, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def promptly() -> Callable[..., Any]:
    """Call something in a thread of its own; fail if it has not ended in time. For what must not hang."""
    return _promptly


def _promptly(call: Callable[[], Any], seconds: float = 30.0) -> Any:
    outcome: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"still not done after {seconds} s"
    if errors:
        raise errors[0]
    return outcome[0]


def _opener(where: dict[str, Any]) -> Iterator[OpenSystem]:
    opened: list[AgentSystem] = []

    def open_one(**options: Any) -> AgentSystem:
        found = AgentSystem.open(**where, **options)
        opened.append(found)
        return found

    yield open_one
    for found in opened:
        found.close(timeout=_CLOSE_SECONDS)
