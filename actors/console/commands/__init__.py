"""A file a command."""

from __future__ import annotations

from .compare import blame, diff
from .doctor import doctor
from .episodes import episodes
from .fork import fork
from .lifecycle import pause, resume, spawn, terminate
from .log import log
from .projections import ACTIONS, projections
from .replay import replay
from .run import run
from .sessions import export, import_
from .show import agents, checkpoints, show
from .verify import WORKERS, verify
from .watch import watch

__all__ = [
    "ACTIONS",
    "WORKERS",
    "agents",
    "blame",
    "checkpoints",
    "diff",
    "doctor",
    "episodes",
    "export",
    "fork",
    "import_",
    "log",
    "pause",
    "projections",
    "replay",
    "resume",
    "run",
    "show",
    "spawn",
    "terminate",
    "verify",
    "watch",
]
