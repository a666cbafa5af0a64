"""The archive of a log in this process's memory."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence

from ..codec import DIGEST_SIZE
from ..errors import CorruptEvent
from ..log import Adoption, BegunErasure, FeedEntry, Head, Notice, Put, Raw, RawPartition, SmallAgent
from ..model import Granularity
from .content_store import MemoryContentStore
from .output_store import MemoryOutputStore
from .storage import MemoryStorage


class MemoryArchive:
    """An `Archive` of a `MemoryLog`. Thread-safe: it takes the log's own lock."""

    def __init__(self, storage: MemoryStorage, outputs: MemoryOutputStore, contents: MemoryContentStore) -> None:
        self._storage = storage
        self._outputs = outputs
        self._contents = contents
        self._frames: dict[str, dict[int, bytes]] = {}
        self._setters: dict[str, dict[int, bytes]] = {}
        self._seqs: dict[str, list[int]] = {}
        """The seqs of each agent's keyframes, in order."""
        self._staged: dict[tuple[str, str], list[bytes]] = {}
        self._staged_values: dict[tuple[str, str, str], bytes] = {}
        self._staged_frames: dict[tuple[str, str], dict[int, bytes]] = {}

    # -- keyframes -------------------------------------------------------------------------------------------------

    def keyframes(self, agent: str) -> list[int]:
        with self._storage.lock:
            return list(self._seqs.get(agent, ()))

    def keyframe_before(self, agent: str, seq: int) -> tuple[int, bytes] | None:
        with self._storage.lock:
            seqs = self._seqs.get(agent, [])
            at = bisect_right(seqs, seq)
            return (seqs[at - 1], self._frames[agent][seqs[at - 1]]) if at else None

    def keyframe(self, agent: str, seq: int) -> bytes | None:
        with self._storage.lock:
            return self._frames.get(agent, {}).get(seq)

    def keep_keyframe(self, agent: str, seq: int, stored: bytes) -> None:
        with self._storage.lock:
            frames = self._frames.setdefault(agent, {})
            if seq not in frames:
                insort(self._seqs.setdefault(agent, []), seq)
            frames[seq] = stored
            self._setters.get(agent, {}).pop(seq, None)

    def drop_keyframes(self, agent: str, seqs: Sequence[int]) -> None:
        with self._storage.lock:
            frames, setters = self._frames.get(agent, {}), self._setters.get(agent, {})
            for seq in seqs:
                frames.pop(seq, None)
                setters.pop(seq, None)
            self._seqs[agent] = sorted(frames)

    def setters_before(self, agent: str, seq: int) -> tuple[int, bytes, bytes] | None:
        with self._storage.lock:
            setters = self._setters.get(agent, {})
            found = max((known for known in setters if known <= seq), default=None)
            return None if found is None else (found, self._frames[agent][found], setters[found])

    def setters(self, agent: str, seq: int) -> bytes | None:
        with self._storage.lock:
            return self._setters.get(agent, {}).get(seq)

    def keep_setters(self, agent: str, seq: int, stored: bytes) -> bool:
        with self._storage.lock:
            keyframe = self._frames.get(agent, {}).get(seq)
            if keyframe is None or len(keyframe) < len(stored):
                return False
            self._setters.setdefault(agent, {})[seq] = stored
            return True

    # -- as it is --------------------------------------------------------------------------------------------------

    def agents(self) -> list[str]:
        with self._storage.lock:
            return [agent for part in self._storage.parts for agent in part.heads]

    def heads(self, agents: Sequence[str]) -> list[Head | None]:
        with self._storage.lock:
            return [self._storage.part_of(agent).heads.get(agent) for agent in agents]

    def raw(self, agent: str, at: int, count: int) -> Raw:
        with self._storage.lock:
            items = self._storage.items(agent)
            return Raw(self._storage.part_of(agent).heads.get(agent), False, len(items), items[at : at + max(1, count)])

    def read_small(self, agents: Sequence[str], most_bytes: int) -> list[SmallAgent | None]:
        return [None] * len(agents)  # there are no round trips to save

    def raw_partition(self, partition: int) -> RawPartition:
        with self._storage.lock:
            return self._storage.raw_partition(partition)

    # -- moving ----------------------------------------------------------------------------------------------------

    def put(self, puts: Sequence[Put]) -> None:
        with self._storage.lock:
            self._storage.put(puts)

    def stage(self, agent: str, token: str, at: int, previous: bytes, items: Sequence[bytes]) -> int:
        with self._storage.lock:
            staged = self._staged.setdefault((agent, token), [])
            end = at + len(items)
            if len(staged) >= end and staged[end - 1][:DIGEST_SIZE] == items[-1][:DIGEST_SIZE]:
                return len(staged)
            if len(staged) == at and (at == 0 or staged[-1][:DIGEST_SIZE] == previous):
                staged.extend(items)
            else:
                staged.clear()
            return len(staged)

    def episodes(self, starts: Sequence[int]) -> tuple[list[list[bytes]], list[int]]:
        with self._storage.lock:
            pages = [self._storage.episodes(partition)[start:] for partition, start in enumerate(starts)]
            return pages, [part.erasures for part in self._storage.parts]

    def has_all_episodes(self) -> bool:
        return True

    def mark_all_episodes(self) -> None:
        """Nothing to note: older code never wrote to this log."""

    # -- erasing ---------------------------------------------------------------------------------------------------

    def begin_erasure(self, root: str, by: str) -> None:
        with self._storage.lock:
            self._storage.part_of(root).erasing[root] = BegunErasure(by)

    def end_erasure(self, root: str, begun: BegunErasure) -> bool:
        with self._storage.lock:
            erasing = self._storage.part_of(root).erasing
            if erasing.get(root) != begun:
                return False
            del erasing[root]
            return True

    def erasing(self, partition: int) -> dict[str, BegunErasure]:
        with self._storage.lock:
            return dict(self._storage.parts[partition].erasing)

    def begun_erasures(self) -> list[tuple[str, BegunErasure]]:
        with self._storage.lock:
            return [found for part in self._storage.parts for found in part.erasing.items()]

    def take_erasure(self, root: str, host: str, by: str) -> bool:
        with self._storage.lock:
            erasing = self._storage.part_of(root).erasing
            if erasing.get(root) != BegunErasure(host):
                return False
            erasing[root] = BegunErasure(by)
            return True

    def rewrite_files(self) -> bool | None:
        return None

    def erase_from_feed(self, root: str, position: int) -> tuple[int, int]:
        with self._storage.lock:
            part = self._storage.part_of(root)
            start = max(0, position - part.base)
            changed = 0
            for at, entry in enumerate(part.feed[start:], start):
                if _is_of(entry.agent, root):
                    part.feed[at] = FeedEntry("", entry.first_seq, entry.count, 0)
                    changed = 1
            part.erasures += changed
            end = part.base + len(part.feed)
            return end, end

    def erase(
        self, root: str, agents: Sequence[str], position: int, keys: Sequence[str], by: str, *, is_taken: bool
    ) -> int:
        with self._storage.lock:
            part, events = self._storage.part_of(root), 0
            note, own = part.erasing.get(root), BegunErasure(by)
            if is_taken and note != own:
                return -2
            start = max(0, position - part.base)
            found = [at for at, entry in enumerate(part.feed[start:], start) if _is_of(entry.agent, root)]
            if any(part.feed[at].levels & 1 << Granularity.LIFECYCLE for at in found):
                return -1
            for at in found:
                part.feed[at] = FeedEntry("", part.feed[at].first_seq, part.feed[at].count, 0)
            part.erasures += 1
            for agent in agents:
                head = part.heads.get(agent)
                events += 0 if head is None else head.seq - head.base
                self._storage.erase(agent)
                self._outputs.erase(agent)
                self._contents.erase(agent)
                self._frames.pop(agent, None)
                self._setters.pop(agent, None)
                self._seqs.pop(agent, None)
                part.erased[agent] = part.base + len(part.feed)
            for key in keys:
                self._storage.values.pop(key, None)
            if note is None or note.done or note == own:  # else another host has begun to erase it, too
                part.erasing[root] = BegunErasure(by, done=True)
            return events

    def replace_episode(self, partition: int, at: int, stored: bytes, by: bytes) -> None:
        with self._storage.lock:
            episodes = self._storage.episodes(partition)
            if episodes[at : at + 1] == [stored]:
                episodes[at] = by

    def stage_value(self, agent: str, token: str, key: str, value: bytes) -> None:
        with self._storage.lock:
            self._staged_values[agent, token, key] = value

    def stage_keyframe(self, agent: str, token: str, seq: int, stored: bytes) -> None:
        with self._storage.lock:
            self._staged_frames.setdefault((agent, token), {})[seq] = stored

    def adopt(self, adoptions: Sequence[Adoption], token: str) -> str | None:
        with self._storage.lock:
            known = 0
            for adoption in adoptions:
                head = self._storage.part_of(adoption.agent).heads.get(adoption.agent)
                if head is not None:
                    if head.fence != adoption.fence:
                        return adoption.agent
                    known += 1
                elif not self._is_whole(adoption, token):
                    self._staged.pop((adoption.agent, token), None)
                    raise CorruptEvent(
                        f"what was staged for {adoption.agent} is not what its head says; try again",
                        agent=adoption.agent,
                    )
            if known == len(adoptions):
                return None
            notices: list[Notice] = []
            for adoption in adoptions:
                notices += self._storage.create(adoption, self._staged.pop((adoption.agent, token), []))
                self._move_staged(adoption, token)
        self._storage.publish(notices)
        return None

    def _is_whole(self, adoption: Adoption, token: str) -> bool:
        staged = self._staged.get((adoption.agent, token), [])
        return _fits(staged, adoption) and self._contents.has(adoption.agent, adoption.contents)

    def _move_staged(self, adoption: Adoption, token: str) -> None:
        agent = adoption.agent
        self._contents.adopt(agent)
        values = ((key, self._staged_values.pop((agent, token, key)), ttl) for key, ttl in adoption.staged_values)
        self._storage.put([Put(*value) for value in values])
        frames = self._staged_frames.pop((agent, token), {})
        if adoption.has_keyframes:
            self._frames[agent], self._seqs[agent] = frames, sorted(frames)


def _is_of(agent: str, root: str) -> bool:
    return agent == root or agent.startswith(f"{root}/")


def _fits(staged: list[bytes], adoption: Adoption) -> bool:
    whole = len(staged) == adoption.seq - adoption.base
    return whole and (not staged or staged[-1][:DIGEST_SIZE] == adoption.digest)
