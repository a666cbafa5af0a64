"""Asking a log for what a reader of a feed will want next, while it still works on what it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .log import FeedPage, Span, Stretch

__all__ = ["Ahead", "NoAhead"]


class Ahead(Protocol):
    """For one reader of one partition, and one thread at a time.

    An optimisation only: nothing is raised, whatever is odd is left out, and who misses something asks for it in turn.
    """

    def ask(self, spans: Sequence[Span], position: int, limit: int, most_bytes: int) -> None:
        """Ask for these events, up to so many bytes, and at most `limit` entries of the feed behind `position`."""
        ...

    def go_on(self) -> None:
        """Ask for some more of it: a server is not to be busy with all at once. Never waits for answers."""
        ...

    def hurry(self) -> None:
        """Ask for all that is left of it: who asked has other things to do than to call `go_on`."""
        ...

    def take(self) -> tuple[list[Stretch | None], FeedPage | None]:
        """What was found of each span, all of it or None, and of the feed; waits for the answers."""
        ...

    def close(self) -> None:
        """Let go of the connection, and of what was asked for. It may be used again."""
        ...


class NoAhead:
    """For a log that needs no time."""

    def ask(self, spans: Sequence[Span], position: int, limit: int, most_bytes: int) -> None: ...

    def go_on(self) -> None: ...

    def hurry(self) -> None: ...

    def take(self) -> tuple[list[Stretch | None], FeedPage | None]:
        return [], None

    def close(self) -> None: ...
