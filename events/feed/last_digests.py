"""The last digest that was read of each agent, for the latest few thousand agents."""

from __future__ import annotations

from typing import Final

from ..codec import NO_DIGEST

_REMEMBERED: Final = 4_096


class LastDigests:
    """The digests that the next events of agents continue. The agents read longest ago are forgotten."""

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._known: dict[str, tuple[int, bytes]] = {}

    def get(self, agent: str) -> tuple[int, bytes] | None:
        """Seq and digest; None: not known."""
        return self._known.get(agent)

    def digest_before(self, agent: str, seq: int) -> bytes | None:
        """The digest that event `seq` continues; None: not known."""
        if seq == 1:
            return NO_DIGEST
        known = self._known.get(agent)
        return known[1] if known is not None and known[0] == seq - 1 else None

    def forget(self, agent: str) -> None:
        """Forget an agent's last event."""
        self._known.pop(agent, None)

    def note(self, agent: str, seq: int, digest: bytes) -> None:
        """Remember the last event that was read."""
        known = self._known
        known.pop(agent, None)
        known[agent] = (seq, digest)
        if len(known) > self._most:
            del known[next(iter(known))]
