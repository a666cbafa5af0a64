"""Pausing between two rounds of reading, so that events gather meanwhile."""

from __future__ import annotations

from time import monotonic
from typing import Final

from attrs import define

_SHARE: Final = 19
"""A pause is so many times as long as the round before: under a stream of events 5 % of the time goes into rounds."""


@define(eq=False, repr=False)
class Pacer:
    """For readers that poll: a round costs about the same for one event as for a hundred.

    The first round after a while of quiet comes at once.
    """

    longest: float
    """Seconds that a pause takes at most."""
    until: float = 0.0
    """A time of `monotonic`."""

    def begin(self, took: float) -> None:
        """Begin the pause after a round of so many seconds."""
        self.until = monotonic() + min(self.longest, _SHARE * took)

    @property
    def left(self) -> float:
        """Seconds; 0 or less when the pause is over."""
        return self.until - monotonic()
