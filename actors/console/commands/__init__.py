"""The commands in the order of the help; each is in the folder of what it is about."""

from __future__ import annotations

from typing import Final

from ..command import Command
from .agents import AGENTS, ASK, PAUSE, RESUME, SET, SHOW, SPAWN, TERMINATE
from .completion import make_completion
from .files import EXPORT, IMPORT, RUN
from .history import BLAME, CHECKPOINTS, DIFF, EPISODES, FORK, LOG, REPLAY, WATCH
from .operations import DOCTOR, ERASE, HOSTS, INSPECT, MCP, PROJECTIONS, SERVE, VERIFY
from .work import ANSWER, CANCEL, CHECK_WORK, REMINDERS, RETRY, UNFINISHED

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
