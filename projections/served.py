"""For whom a hub reads: those that can take in what it reads."""

from __future__ import annotations

from duramen.events.codec import RawEvent

from .audience import Audience
from .intake import Intake, interest_of

__all__ = ["Served"]


class Served:
    """Used by one thread. Who is behind everywhere reads by itself: what concerns it alone is not read for it, too."""

    def __init__(self) -> None:
        self._intakes: set[Intake] = set()
        self._audience: Audience[Intake] = Audience(interest_of)

    def add(self, intake: Intake) -> bool:
        """Read for this one; whether that is new. Who wants values is only told that there is more."""
        if intake.values or intake in self._intakes:
            return False
        self._intakes.add(intake)
        self._audience.add(intake)
        return True

    def remove(self, intake: Intake) -> None:
        """Read for one less, if it was one of them."""
        if intake in self._intakes:
            self._intakes.remove(intake)
            self._audience.remove(intake)

    def remove_idle(self) -> None:
        """Read no more for those that are behind everywhere; they come back when they join."""
        for intake in [one for one in self._intakes if not any(map(one.takes, one.partitions))]:
            self.remove(intake)

    def wants(self, agent: str) -> bool:
        """As `Audience.wants`."""
        return self._audience.wants(agent)

    def of(self, agent: str, seq: int, raw: RawEvent) -> dict[Intake, list[str]]:
        """As `Audience.of`."""
        return self._audience.of(agent, seq, raw)
