"""What a saver knows of threads as of a seq, so that a step is written without reading first. Thread-safe."""

from __future__ import annotations

from _thread import allocate_lock
from collections import OrderedDict
from threading import Lock
from typing import Final

from attrs import Factory, define

from .thread import Items

_MOST_THREADS: Final = 1_024
_MOST_LISTS: Final = 1_024
"""Lists of which the items are remembered, so that only what is added has to be stored."""
_MOST_CHECKPOINTS: Final = 64
"""Of one thread; the oldest are forgotten first."""

Writes = dict[str, set[str]]
"""The indices of the pending writes of a checkpoint, by task."""


@define(eq=False)
class KnownThread:
    """A thread as of the seq that its agent has once all writes under way are done; 0: there is no agent.

    The next write says that seq, so that it is refused if anybody else has written since. `lock` guards all of it.
    """

    seq: int
    checkpoints: dict[tuple[str, str], Writes] = Factory(dict[tuple[str, str], Writes])
    """By namespace and id: what is in working memory, or is not to be found at all."""
    latest: dict[str, str] = Factory(dict[str, str])
    """By namespace: the id of the latest checkpoint, "" without one. Ids grow: later ones are not there yet."""
    versions: dict[tuple[str, str], str] = Factory(dict[tuple[str, str], str])
    """By namespace and channel: a version that is in working memory."""
    is_new: bool = False
    """Whether the thread began with what is known of it, so that other namespaces have nothing."""
    lock: Lock = Factory(allocate_lock)

    def is_known(self, namespace: str, checkpoint_id: str) -> bool:
        """Whether it is known what is in working memory of a checkpoint, if only that it is not there yet."""
        if (namespace, checkpoint_id) in self.checkpoints:
            return True
        latest = self.latest.get(namespace, "" if self.is_new else None)
        return latest is not None and checkpoint_id > latest

    def writes_of(self, namespace: str, checkpoint_id: str) -> Writes:
        """The pending writes of a checkpoint, to be added to."""
        found = self.checkpoints.setdefault((namespace, checkpoint_id), {})
        if len(self.checkpoints) > _MOST_CHECKPOINTS:
            del self.checkpoints[next(iter(self.checkpoints))]
        return found

    def add_checkpoint(self, namespace: str, checkpoint_id: str) -> None:
        """Add a checkpoint that is in working memory."""
        self.writes_of(namespace, checkpoint_id)
        self.latest[namespace] = max(self.latest.get(namespace, ""), checkpoint_id)


class KnownThreads:
    """The threads that a saver has written or read last, and the items of their lists."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._threads: OrderedDict[str, KnownThread] = OrderedDict()
        self._lists: OrderedDict[tuple[str, str, str], Items] = OrderedDict()

    # -- threads -----------------------------------------------------------------------------------------------------

    def get(self, thread_id: str) -> KnownThread | None:
        """Where a thread stands; None if that is not known."""
        with self._lock:
            known = self._threads.get(thread_id)
            if known is not None:
                self._threads.move_to_end(thread_id)
            return known

    def put(self, thread_id: str, known: KnownThread) -> None:
        """Note where a thread stands."""
        with self._lock:
            self._threads[thread_id] = known
            self._threads.move_to_end(thread_id)
            if len(self._threads) > _MOST_THREADS:
                self._threads.popitem(last=False)

    def drop(self, thread_id: str, known: KnownThread) -> None:
        """Forget where a thread stands, if that is what is known of it still."""
        with self._lock:
            if self._threads.get(thread_id) is known:
                del self._threads[thread_id]

    def forget(self, thread_id: str, *, lists: bool = False) -> None:
        """Forget where a thread stands, and with `lists` what its lists are made of."""
        with self._lock:
            self._threads.pop(thread_id, None)
            for place in [place for place in self._lists if place[0] == thread_id] if lists else ():
                del self._lists[place]

    def forget_all(self) -> None:
        with self._lock:
            self._threads.clear()
            self._lists.clear()

    # -- lists -------------------------------------------------------------------------------------------------------

    def items(self, thread_id: str, namespace: str, channel: str) -> Items | None:
        """The items of a list at the version that was stored or loaded last."""
        return self._lists.get((thread_id, namespace, channel))

    def lists_of(self, thread_id: str) -> dict[tuple[str, str], Items]:
        """The items of all lists of a thread, by namespace and channel."""
        with self._lock:
            return {place[1:]: items for place, items in self._lists.items() if place[0] == thread_id}

    def remember(self, thread_id: str, namespace: str, channel: str, items: Items | None) -> None:
        """Keep the items of a list; None: the channel's value is none that is stored as items."""
        place = (thread_id, namespace, channel)
        with self._lock:
            self._lists.pop(place, None)
            if items is not None:
                self._lists[place] = items
                if len(self._lists) > _MOST_LISTS:
                    self._lists.popitem(last=False)
