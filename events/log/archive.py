"""What only readers of the past, auditors and movers of whole logs need of a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .records import Adoption, BegunErasure, Head, Put, Raw, RawPartition, SmallAgent


class Archive(Protocol):
    """Every method blocks, is thread-safe, may be repeated, and raises typed errors."""

    def keyframes(self, agent: str) -> list[int]:
        """The seqs of an agent's keyframes, in order. Empty where this user may not read them."""
        ...

    def keyframe_before(self, agent: str, seq: int) -> tuple[int, bytes] | None:
        """Seq and snapshot of the latest keyframe no later than `seq`. As quick however many there are.

        None also where this user may not read it, or where its snapshot was deleted.
        """
        ...

    def keyframe(self, agent: str, seq: int) -> bytes | None:
        """The snapshot of the keyframe at a seq."""
        ...

    def keep_keyframe(self, agent: str, seq: int, stored: bytes) -> None:
        """Store a keyframe at a seq, without setters beside it: those of a former one there are removed.

        Not checked here: a reader uses it only if the log has its digest there.
        """
        ...

    def drop_keyframes(self, agent: str, seqs: Sequence[int]) -> None:
        """Remove the keyframes at these seqs, and the setters beside them."""
        ...

    def setters_before(self, agent: str, seq: int) -> tuple[int, bytes, bytes] | None:
        """Seq, snapshot and setters of the latest keyframe no later than `seq` that has setters beside it.

        None also where this user may not read it, and where the thousand keyframes before `seq` have none.
        """
        ...

    def setters(self, agent: str, seq: int) -> bytes | None:
        """The setters beside the keyframe at a seq."""
        ...

    def keep_setters(self, agent: str, seq: int, stored: bytes) -> bool:
        """Store the setters of an agent's values beside the keyframe at a seq; False where there is none, or a smaller.

        Not checked here: a reader uses them only with a keyframe of the same digest.
        """
        ...

    def agents(self) -> list[str]:
        """The paths of all agents that have a head, sound or not, in no order."""
        ...

    def heads(self, agents: Sequence[str]) -> list[Head | None]:
        """The heads of agents of one partition, all of one moment. Raises CorruptEvent."""
        ...

    def raw(self, agent: str, at: int, count: int) -> Raw:
        """At most `count` items from position `at` of the list (0: the first that is left), with head and length.

        Not of one moment: an append may come between. Damage is returned, not raised.
        """
        ...

    def read_small(self, agents: Sequence[str], most_bytes: int) -> list[SmallAgent | None]:
        """Agents of one partition whose logs have at most `most_bytes` bytes each; None for all that are not so read.

        In two round trips for all of them. An agent may be left out for any reason: read it with the other methods.
        """
        ...

    def raw_partition(self, partition: int) -> RawPartition:
        """What a partition stores beside its logs. Raises nothing about what it finds."""
        ...

    def put(self, puts: Sequence[Put]) -> None:
        """Write checkpoints and snapshots, each in place of what is there."""
        ...

    def episodes(self, starts: Sequence[int]) -> tuple[list[list[bytes]], list[int]]:
        """The next stored episodes of each partition from a position of its list on, at most 1,000 each.

        The second list has how often agents were erased in each partition.
        """
        ...

    def has_all_episodes(self) -> bool:
        """Whether the lists have every episode: those of a namespace that older code made are filled once."""
        ...

    def mark_all_episodes(self) -> None:
        """Note that the lists have every episode from now on."""
        ...

    def begin_erasure(self, root: str, by: str) -> None:
        """Note that a host erases an agent and all below it, until `end_erasure`; "" for no host."""
        ...

    def end_erasure(self, root: str, begun: BegunErasure) -> bool:
        """Forget that note, if it is still this one: the erasure may have been taken over, or begun anew."""
        ...

    def erasing(self, partition: int) -> dict[str, BegunErasure]:
        """The trees of a partition whose erasure has begun and not ended, by their roots."""
        ...

    def begun_erasures(self) -> list[tuple[str, BegunErasure]]:
        """The roots of the trees whose erasure has begun and not ended, and how far it is.

        Of very many in one partition some may come only when others have ended.
        """
        ...

    def take_erasure(self, root: str, host: str, by: str) -> bool:
        """Take over the erasure of a host; False if it is not that host's any more."""
        ...

    def rewrite_files(self) -> bool | None:
        """Have the servers begin to rewrite their append-only files: without what is gone.

        True: all that have such a file have begun. False: not all, since the user may not, or since a server rewrites
        its file as of before. None: there is no such file.
        """
        ...

    def erase_from_feed(self, root: str, position: int) -> tuple[int, int]:
        """Take the names out of a tree's next feed entries; returns the position reached, and the feed's end."""
        ...

    def erase(
        self, root: str, agents: Sequence[str], position: int, keys: Sequence[str], by: str, *, is_taken: bool
    ) -> int:
        """Remove the agents of a tree, with the keys that only a caller knows, such as checkpoints.

        Returns how many events were removed. Logs, snapshots, keyframes, bases, live outputs, lines in the directory
        and heads go in one step, and so do entries of the feed after `position`. From then on the note says that the
        agents are gone, unless another host has begun to erase them, too.

        Returns -1, and changes nothing, where many entries follow `position`, or some have lifecycle events: there
        may be other agents or keys than were given. Returns -2, and changes nothing, where the host `by` had taken the
        erasure over (`is_taken`), and another host has it by now, or has ended it.
        """
        ...

    def replace_episode(self, partition: int, at: int, stored: bytes, by: bytes) -> None:
        """Put another item in the place of an episode at a position of its list."""
        ...

    def stage_value(self, agent: str, token: str, key: str, value: bytes) -> None:
        """Put a value for `key` beside those of an agent that does not exist yet, where it is gone after a day."""
        ...

    def stage_keyframe(self, agent: str, token: str, seq: int, stored: bytes) -> None:
        """Put a keyframe beside those of an agent that does not exist yet, where it is gone after a day."""
        ...

    def stage(self, agent: str, token: str, at: int, previous: bytes, items: Sequence[bytes]) -> int:
        """Stage items for an agent that does not exist yet; they expire after a day. Returns how many are staged now.

        Written only if `at` items were staged under this token before, the last of them with the digest `previous`.
        Items that are staged already are not written again; if others are, everything staged is removed.
        """
        ...

    def adopt(self, adoptions: Sequence[Adoption], token: str) -> str | None:
        """Create agents of one partition, all in one step or none, each from what was staged for it.

        Returns the path of an agent that exists already, having done nothing; None: done, now or before. Raises
        CorruptEvent where what was staged does not fit the heads.
        """
        ...
