"""Options and arguments that commands have in common."""

from __future__ import annotations

from .code import add_import, import_named, load_named
from .command_parser import CommandParser
from .moments import MOMENTS, add_at, parse_moment, state_at
from .options import (
    Options,
    add_command_id,
    add_common,
    add_granularity,
    add_metadata,
    add_path,
    add_path_or_all,
    add_work,
    parse_count,
    parse_json,
    parse_json_pair,
    parse_port,
    parse_seconds,
    with_options,
)

__all__ = [
    "MOMENTS",
    "CommandParser",
    "Options",
    "add_at",
    "add_command_id",
    "add_common",
    "add_granularity",
    "add_import",
    "add_metadata",
    "add_path",
    "add_path_or_all",
    "add_work",
    "import_named",
    "load_named",
    "parse_count",
    "parse_json",
    "parse_json_pair",
    "parse_moment",
    "parse_port",
    "parse_seconds",
    "state_at",
    "with_options",
]
