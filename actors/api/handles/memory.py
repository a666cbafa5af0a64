"""The calls of one agent for its working memory and its activity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import evolve

from duramen.events import Granularity, PropertyPath, Receipt
from duramen.events.model import Seconds
from duramen.projections.state import REQUIRED

from ...commands import (
    Append,
    Batch,
    Delete,
    Extend,
    Get,
    GetMany,
    Keys,
    Length,
    Merge,
    Pop,
    Record,
    Retention,
    Set,
    SetGranularity,
    SetRetention,
    Slice,
)
from ...handlers import OutputWriter
from .batch import BatchBuilder
from .messages import MessageCalls

OUTPUT_TTL: Final = 3_600.0
"""Seconds for which a live output is kept by default."""

Path = str | PropertyPath


class MemoryCalls(MessageCalls):
    """Reads and changes the working memory of one agent, and logs its activity."""

    __slots__ = ()

    def get(self, path: Path = "", default: Any = REQUIRED) -> Any:
        """Return a copy of the value at a property path. Raises PathNotFound unless a default is given."""
        return self.ask(Get(path, default))

    def keys(self, path: Path = "") -> list[str]:
        """Return the keys of the subtree at a property path. Raises PathNotFound, InvalidPath."""
        return self.ask(Keys(path))

    def get_many(self, paths: Sequence[Path], default: Any = REQUIRED) -> list[Any]:
        """Return copies of the values at several property paths, in their order, all as of one seq.

        Raises PathNotFound for one where nothing is, unless a default is given, which then stands in its place.
        """
        return self.ask(GetMany(paths, default))

    def length(self, path: Path = "") -> int:
        """Return how many elements a list has, or how many keys a dict. Raises PathNotFound, InvalidPath."""
        return self.ask(Length(path))

    def slice(self, path: Path, start: int | None = None, stop: int | None = None) -> list[Any]:
        """Return a copy of a part of the list at a path, as Python slices: `slice("log", -10)` are the last ten.

        Raises PathNotFound, InvalidPath.
        """
        return self.ask(Slice(path, start, stop))

    def set(
        self,
        path: Path,
        value: Any,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Set a value and make missing subtrees.

        As every mutation, with an `expected_seq` only if the agent is at that seq, else VersionConflict; its events
        carry the `metadata`, plain data. Raises ValueRefused, TooLarge, InvalidPath, CommandConflict.
        """
        return self.ask(Set(path, value, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def delete(
        self,
        path: Path,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Remove the value at a path. Raises PathNotFound."""
        return self.ask(Delete(path, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def append(
        self,
        path: Path,
        value: Any,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Add one value to the end of a list. Raises InvalidPath if the value at the path is not a list."""
        return self.ask(Append(path, value, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def extend(
        self,
        path: Path,
        values: Sequence[Any],
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Add values to the end of a list, as one event. Raises InvalidPath if the value at the path is not a list."""
        return self.ask(Extend(path, values, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def pop(
        self,
        path: Path,
        key: int | str = -1,
        default: Any = REQUIRED,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take a value out of the list at a path, by default the last, or by its key out of the dict there; return it.

        Nobody else gets the same value. Without a default PathNotFound is raised if nothing is there, or the list is
        empty. A repeated `command_id` gives the value of the first time. Raises InvalidPath for another container.
        """
        return self.ask(Pop(path, key, default, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def merge(
        self,
        path: Path,
        patch: Any,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Apply a JSON merge patch (RFC 7386)."""
        return self.ask(Merge(path, patch, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def record(
        self,
        kind: str,
        data: Any = None,
        *,
        level: Granularity = Granularity.ACTIVITY,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Log an activity, which changes no state. Above the agent's granularity none is logged: `first_seq > seq`."""
        return self.ask(Record(kind, data, level, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def batch(
        self,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> BatchBuilder:
        """Gather mutations in a `with` block and send them at its end as one message; nothing after an exception."""
        batch = Batch((), command_id, durability, expected_seq=expected_seq, metadata=metadata)
        return BatchBuilder(lambda operations: self.ask(evolve(batch, operations=operations)))

    def stream(self, name: str, *, ttl: Seconds = OUTPUT_TTL) -> OutputWriter:
        """Write a live output in a `with` block, which `system.follow` shows while it is written.

        Each `write` is a token; none is an event. At the end of the block the whole text is recorded as one, of kind
        `output`. A name has one output: opening it again replaces the one before, also while that is written. It is
        kept for `ttl` seconds after the latest token. Raises InvalidMessage; `OutputWriter` says what writing raises.
        """
        return self._system.open_output(self._path, name, self.record, ttl)

    def set_granularity(
        self,
        level: Granularity | None = None,
        *,
        levels: Mapping[str, Granularity | None] | None = None,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Change how much activity is logged from now on: of all kinds, or by kind (None removes a kind's level)."""
        return self.ask(
            SetGranularity(
                level=level,
                levels=levels or {},
                command_id=command_id,
                durability=durability,
                expected_seq=expected_seq,
                metadata=metadata,
            )
        )

    def set_retention(
        self,
        retention: Retention | None,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Change how much of the agent's log is kept from now on; None: the system's retention."""
        return self.ask(SetRetention(retention, command_id, durability, expected_seq=expected_seq, metadata=metadata))
