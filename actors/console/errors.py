"""Errors that only the console raises."""

from __future__ import annotations

from duramen.events import DuramenError


class InvalidRecording(DuramenError, ValueError):
    """A file is not a recording that can be taken in; the message begins with the file and the position in it."""


class NoStore(DuramenError, LookupError):
    """There is no embedded store in the data directory."""


class NoEpisode(DuramenError, LookupError):
    """No episode has this id."""


class NoProgress(DuramenError, TimeoutError):
    """A consumer that a command waits for makes no progress."""


class UnusableFile(DuramenError):
    """A file cannot be read or written; the message begins with its name."""


class UnusableCode(DuramenError):
    """A module or a name in it that the command was given cannot be used; the message says which."""


class CannotShow(DuramenError):
    """`rich`, which prints for people, is not installed."""
