"""Commands that start, change, ask and show agents."""

from __future__ import annotations

from .agents import AGENTS
from .ask import ASK
from .pause import PAUSE
from .resume import RESUME
from .set import SET
from .show import SHOW
from .spawn import SPAWN
from .terminate import TERMINATE

__all__ = ["AGENTS", "ASK", "PAUSE", "RESUME", "SET", "SHOW", "SPAWN", "TERMINATE"]
