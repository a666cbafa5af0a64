"""What opening a system loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOADED = """
import sys
from duramen.actors import AgentSystem

with AgentSystem.open("memory://") as system:
    system.spawn("acme/alice").set("goal", "ship")
    print("redis" in sys.modules, "duramen.events.redis" in sys.modules)
try:
    AgentSystem.open("redis://192.0.2.1/0")
except Exception as error:
    print(type(error).__name__, "redis" in sys.modules)
"""


@pytest.mark.slow
def test_a_client_for_servers_is_loaded_by_the_first_system_on_a_server() -> None:
    ran = subprocess.run([sys.executable, "-P", "-c", _LOADED], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.splitlines() == ["False False", "UnsafeServer True"]
