"""What readers of the past, auditors and movers of whole logs need of a log, and nobody else does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .records import Adoption, Head, Put, Raw

__all__ = ["Archive"]


class Archive(Protocol):
    """Every method blocks, is thread-safe, may be called twice for the same, and raises typed errors."""

    def keyframes(self, agent: str) -> list[int]:
        """The seqs at which states of an agent are kept, in order. Empty where this user may not ask."""
        ...

    def keyframe_before(self, agent: str, seq: int) -> tuple[int, bytes] | None:
        """Seq and snapshot of the latest state that is kept no later than `seq`.

        None also where this user may not ask, or somebody has deleted that state. As quick however many there are.
        """
        ...

    def keyframe(self, agent: str, seq: int) -> bytes | None:
        """The snapshot that is kept at a seq."""
        ...

    def keep_keyframe(self, agent: str, seq: int, stored: bytes) -> None:
        """Keep a snapshot at a seq. Not checked here: a reader believes it only if the log has its digest there."""
        ...

    def drop_keyframes(self, agent: str, seqs: Sequence[int]) -> None:
        """Forget the snapshots at these seqs."""
        ...

    def agents(self) -> list[str]:
        """The paths of all agents that have a head, sound or not, in no order."""
        ...

    def heads(self, agents: Sequence[str]) -> list[Head | None]:
        """The heads of agents of one partition, all of one moment. Raises CorruptEvent."""
        ...

    def raw(self, agent: str, at: int, count: int) -> Raw:
        """At most `count` items from position `at` of the list (0: the first that is left), and head and length.

        Not one moment's: an append may come between. Raises nothing about what it finds.
        """
        ...

    def put(self, puts: Sequence[Put]) -> None:
        """Write checkpoints and snapshots, each in place of what is there."""
        ...

    def stage_value(self, agent: str, token: str, key: str, value: bytes) -> None:
        """Put a value for `key` beside those of an agent that does not exist yet, where it is gone after a day."""
        ...

    def stage_keyframe(self, agent: str, token: str, seq: int, stored: bytes) -> None:
        """Put a keyframe beside those of an agent that does not exist yet, where it is gone after a day."""
        ...

    def stage(self, agent: str, token: str, at: int, previous: bytes, items: Sequence[bytes]) -> int:
        """Put items beside the log of an agent that does not exist yet, where they are gone after a day.

        Written only if `at` items were staged under this token before, the last of them with the digest `previous`, and
        returns how many there are now. Where the items are there already nothing changes. If others are, all that was
        staged is removed.
        """
        ...

    def adopt(self, adoptions: Sequence[Adoption], token: str) -> str | None:
        """Let agents of one partition come to be, all in one step or none, each with what was staged for it.

        Returns the path of one that exists already, and then has done nothing; None: done, now or before. Raises
        CorruptEvent where something else was staged than the heads say.
        """
        ...
