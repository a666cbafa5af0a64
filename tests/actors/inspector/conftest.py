"""An inspector of a system in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from duramen.actors import AgentSystem
from inspecting import Asker, inspecting


@pytest.fixture
def asker(system: AgentSystem) -> Iterator[Asker]:
    """Asks an inspector that only reads."""
    with inspecting(system) as found:
        yield found


@pytest.fixture
def acting(system: AgentSystem) -> Iterator[Asker]:
    """Asks an inspector with actions."""
    with inspecting(system, allow_actions=True) as found:
        yield found
