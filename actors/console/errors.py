"""What only the command can run into."""

from __future__ import annotations

from duramen.events import DuramenError

__all__ = ["CannotShow", "InvalidRecording", "NoEpisode", "NoProgress", "NoStore", "UnusableFile"]


class InvalidRecording(DuramenError, ValueError):
    """A file is not a recording that can be taken in; the message begins with the file and the place in it."""


class NoStore(DuramenError, LookupError):
    """There is nothing to look at: no data directory was made yet."""


class NoEpisode(DuramenError, LookupError):
    """No episode of this id is kept."""


class NoProgress(DuramenError, TimeoutError):
    """What was waited for does not move."""


class UnusableFile(DuramenError):
    """A file cannot be read or written; the message begins with its name."""


class CannotShow(DuramenError):
    """The library that prints for people is not installed."""
