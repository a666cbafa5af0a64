"""Pausing between two rounds of reading, for what comes meanwhile."""

from __future__ import annotations

from time import monotonic
from typing import Final

from attrs import define

__all__ = ["Pacer"]

_SHARE: Final = 19
"""Times as long as a round took: one part in twenty goes into rounds, if there is a stream of events."""


@define
class Pacer:
    """For who reads in rounds, of which one costs about the same for one event and for a hundred.

    The first round after a while of quiet comes at once.
    """

    most: float
    """Seconds that a rest takes at most."""
    until: float = 0.0
    """A time of `monotonic`."""

    def begin(self, took: float) -> None:
        """Rest after a round of so many seconds."""
        self.until = monotonic() + min(self.most, _SHARE * took)

    @property
    def left(self) -> float:
        """Seconds; none are left if it is not more than 0."""
        return self.until - monotonic()
