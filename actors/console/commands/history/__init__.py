"""Commands that show an agent's past: its events, checkpoints and episodes, and forks of it."""

from __future__ import annotations

from .blame import BLAME
from .checkpoints import CHECKPOINTS
from .diff import DIFF
from .episodes import EPISODES
from .fork import FORK
from .log import LOG
from .replay import REPLAY
from .watch import WATCH

__all__ = ["BLAME", "CHECKPOINTS", "DIFF", "EPISODES", "FORK", "LOG", "REPLAY", "WATCH"]
