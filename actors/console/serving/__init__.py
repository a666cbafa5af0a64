"""For commands that run for long: the application that is served, its status, and the signals that end a command."""

from __future__ import annotations

from .application import Application, load_application
from .interruption import Interruption, interruption
from .status_server import StatusServer, parse_address

INSPECTOR_PORT = 8_642
"""Where the inspector listens unless told otherwise."""

__all__ = [
    "INSPECTOR_PORT",
    "Application",
    "Interruption",
    "StatusServer",
    "interruption",
    "load_application",
    "parse_address",
]
