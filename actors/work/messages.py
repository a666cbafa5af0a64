"""What an agent's work sends to its own mailbox, so that it is handled in turns like everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from duramen.events import NewEvent


@frozen(eq=False)
class Continue:
    """Let a handler go on: from its start (number 0), or with a result."""

    work: int
    number: int
    result: Any = None
    error: Mapping[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    """What the event carries that logs this, where a caller has asked for it."""
    has_contents: bool = False
    """Whether texts and bytes of the result stand beside the log: a worker thread loads them."""


@frozen(eq=False)
class Rerun:
    """Run a handler again, up to where its log ends."""

    work: int


@frozen(eq=False)
class Note:
    """Log an event about work, if the work still waits for it."""

    event: NewEvent


@frozen(eq=False)
class Remember:
    """Deliver a reminder that is due; without a name, look for those that are."""

    name: str = ""
    due: int = 0
    """µs since the epoch."""


@frozen(eq=False)
class TakeUp:
    """Bring an agent into memory that has work, or expires."""


@frozen(eq=False)
class Awaited:
    """Stands for a reply that comes when this piece of work ends."""

    work: int


@frozen(eq=False)
class Expire:
    """End an agent that has lived as long without a change as it was spawned for, to erase it then."""


INTERNAL: Final = frozenset((Continue, Rerun, Note, Remember, TakeUp, Expire))
