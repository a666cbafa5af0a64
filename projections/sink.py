"""Views in a database of the user's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from duramen.events import Event, Fenced, InvalidMessage

from .attachable import Attachable

__all__ = ["Sink"]


class Sink(Attachable["Sink"]):
    """Takes events into a database, and keeps how far it has come in the same transactions.

    Because both are in one transaction, no event is ever taken twice or left out, whatever dies when. The methods are
    called by one thread, never at the same time. What they raise is taken for a database that cannot be reached
    as long as `cursor` raises, too: then they are called again later. Otherwise the event that cannot be
    written is looked for, and the consumer is parked there. Attached with a new `version`, it is `reset`.
    """

    @abstractmethod
    def cursor(self, name: str) -> bytes | None:
        """The cursor that was written last under this name; None if there is none."""

    @abstractmethod
    def write(self, name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        """In one transaction: what the events do to the tables, and `cursor` in the place of `after`.

        `after` is the cursor that these events continue. Where another one is stored, another process has written
        meanwhile: leave everything as it is, and raise `self.fenced(name)`. `events` may be empty.
        """

    def reset(self, name: str) -> None:
        """In one transaction: empty the tables and forget the cursor. For `rebuild`, and a new version."""
        raise InvalidMessage(
            f"{type(self).__name__} cannot be emptied: define reset(), or attach another under another name"
        )

    @staticmethod
    def fenced(name: str) -> Fenced:
        """The error to raise in `write` when another cursor than `after` is stored."""
        return Fenced(f"another process writes the tables of consumer {name}; nothing of this one was written")
