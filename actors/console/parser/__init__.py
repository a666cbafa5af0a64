"""The command line: every command with its arguments."""

from __future__ import annotations

from .parser import make_parser

__all__ = ["make_parser"]
