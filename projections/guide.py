"""What a subscription that takes events in needs of the hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from duramen.events.cursor import Mark

if TYPE_CHECKING:
    from .intake import Intake

__all__ = ["Guide"]


class Guide(Protocol):
    """Every call is quick, and allowed in any thread."""

    def mark_of(self, partition: int) -> Mark:
        """How far the hub has handed out a partition."""
        ...

    def end_of(self, partition: int) -> int:
        """Where the feed ended when it was last looked at."""
        ...

    def join(self, intake: Intake, partition: int) -> None:
        """Let the hub's thread call `admit` soon."""
        ...

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Let the hub's thread call something at a time of `monotonic`."""
        ...

    def read(self, work: Callable[[], None]) -> None:
        """Run work that reads, in a thread of a pool."""
        ...
