"""Systems for the tests of adapters: in memory, embedded, on Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from duramen import AgentSystem


@pytest.fixture(params=["memory", "embedded", "redis"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AgentSystem]:
    if request.param == "memory":
        opened = AgentSystem.open("memory://")
    elif request.param == "embedded":
        opened = AgentSystem.open(data_dir=tmp_path / "data")
    else:
        opened = AgentSystem.open(request.getfixturevalue("redis_url"), namespace=f"adapters-{uuid4().hex[:12]}")
    with opened:
        yield opened
