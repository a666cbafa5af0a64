"""A view of many entries, each folded by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from duramen.events import Event

from .attachable import Attachable

__all__ = ["KeyedProjection", "KeyedView"]

E = TypeVar("E")


class KeyedView(Mapping[str, E]):
    """The entries of a view that goes on changing, without being able to change them.

    Looking up a key is always right. Iterating goes over the keys there were when it began: an entry that has gone
    since is left out. `copy()` gives all entries as they are at one moment.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: dict[str, E]) -> None:
        self._entries = entries

    def __getitem__(self, key: str) -> E:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        # list() of a dict is one step of the interpreter: nobody changes it meanwhile.
        return (key for key in list(self._entries) if key in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __repr__(self) -> str:
        return f"<KeyedView of {len(self._entries)} entries>"

    def copy(self) -> dict[str, E]:
        """A dict of all entries."""
        return self._entries.copy()


class KeyedProjection(Attachable[KeyedView[E]], Generic[E]):
    """A fold an entry: `key` says which entry an event belongs to, `apply` what becomes of it.

    What `Projection` is for one state, for as many as there are keys, a million if need be: attached, only the
    entries that were touched are written. Both methods are pure, and neither argument is changed. Events with the same
    key may come from different agents; those of one agent come in order.
    """

    @abstractmethod
    def key(self, event: Event) -> str | None:
        """The key of the entry that the event changes; None if it changes none."""

    @abstractmethod
    def apply(self, entry: E | None, event: Event) -> E | None:
        """The entry after `event`. None stands for no entry: before the first event, and to take it away."""

    def dump(self, entry: E) -> Any:
        """The entry as plain data, to be stored. As it stands, it is for entries that are plain data."""
        return entry

    def load(self, data: Any) -> E:
        """The entry from what `dump` gave, which is the entry's own from now on."""
        return cast("E", data)
