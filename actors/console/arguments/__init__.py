"""Options and arguments that commands have in common."""

from __future__ import annotations

from .command_parser import CommandParser
from .moments import EXPLAINED, moment, state_at
from .options import Options, add_common, add_path, count, json_pair, pairs, seconds, time_to_live

__all__ = [
    "EXPLAINED",
    "CommandParser",
    "Options",
    "add_common",
    "add_path",
    "count",
    "json_pair",
    "moment",
    "pairs",
    "seconds",
    "state_at",
    "time_to_live",
]
