"""The commands, a file each, in the order of the help."""

from __future__ import annotations

from typing import Final

from ..command import Command
from .agents import AGENTS
from .ask import ASK
from .blame import BLAME
from .checkpoints import CHECKPOINTS
from .completion import make_completion
from .diff import DIFF
from .doctor import DOCTOR
from .episodes import EPISODES
from .erase import ERASE
from .fork import FORK
from .hosts import HOSTS
from .inspect import INSPECT
from .log import LOG
from .mcp import MCP
from .pause import PAUSE
from .projections import PROJECTIONS
from .reminders import REMINDERS
from .replay import REPLAY
from .resume import RESUME
from .run import RUN
from .serve import SERVE
from .sessions import EXPORT, IMPORT
from .set import SET
from .show import SHOW
from .spawn import SPAWN
from .terminate import TERMINATE
from .verify import VERIFY
from .watch import WATCH
from .work import ANSWER, CANCEL, CHECK_WORK, RETRY, UNFINISHED

__all__ = ["COMMANDS"]

COMMANDS: Final[tuple[Command, ...]] = (
    RUN,
    SERVE,
    INSPECT,
    MCP,
    HOSTS,
    AGENTS,
    SHOW,
    LOG,
    WATCH,
    SPAWN,
    PAUSE,
    RESUME,
    TERMINATE,
    SET,
    ASK,
    REMINDERS,
    UNFINISHED,
    ANSWER,
    RETRY,
    CANCEL,
    CHECK_WORK,
    CHECKPOINTS,
    EPISODES,
    PROJECTIONS,
    REPLAY,
    DIFF,
    BLAME,
    FORK,
    VERIFY,
    EXPORT,
    IMPORT,
    ERASE,
    DOCTOR,
    make_completion(lambda: COMMANDS),
)
