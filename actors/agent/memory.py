"""What a handler does to its agent's working memory, within its batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duramen.events import Granularity, PathNotFound, PropertyPath
from duramen.events import property_segments as segments_of
from duramen.events.model import Seconds
from duramen.projections.state import REQUIRED, copy_tree, lookup

from ..commands import Append, Delete, Extend, Merge, Operation, Pop, Record, Set, Slice
from ..handlers import OutputWriter, apply_operation, keys_at, length_of, pop_value, slice_of, storing, values_at
from .actor import AgentActor


class MemoryCalls(AgentActor):
    """The calls of `AgentHandle` about memory, for the agent itself."""

    def set(self, path: str | PropertyPath, value: Any, *, metadata: Mapping[str, Any] | None = None) -> None:
        """As `AgentHandle.set`, within this handler's batch."""
        self._actor_mutate(Set(path, value, metadata=metadata))

    def delete(self, path: str | PropertyPath, *, metadata: Mapping[str, Any] | None = None) -> None:
        """As `AgentHandle.delete`, within this handler's batch."""
        self._actor_mutate(Delete(path, metadata=metadata))

    def append(self, path: str | PropertyPath, value: Any, *, metadata: Mapping[str, Any] | None = None) -> None:
        """As `AgentHandle.append`, within this handler's batch."""
        self._actor_mutate(Append(path, value, metadata=metadata))

    def extend(
        self, path: str | PropertyPath, values: Sequence[Any], *, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """As `AgentHandle.extend`, within this handler's batch."""
        self._actor_mutate(Extend(path, values, metadata=metadata))

    def merge(self, path: str | PropertyPath, patch: Any, *, metadata: Mapping[str, Any] | None = None) -> None:
        """As `AgentHandle.merge`, within this handler's batch."""
        self._actor_mutate(Merge(path, patch, metadata=metadata))

    def pop(
        self,
        path: str | PropertyPath,
        key: int | str = -1,
        default: Any = REQUIRED,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """As `AgentHandle.pop`, within this handler's batch."""
        with self._actor_call() as turn:
            return pop_value(turn, Pop(path, key, default, metadata=metadata))

    def record(
        self,
        kind: str,
        data: Any = None,
        *,
        level: Granularity = Granularity.ACTIVITY,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """As `AgentHandle.record`, within this handler's batch."""
        self._actor_mutate(Record(kind, data, level, metadata=metadata))

    def stream(self, name: str, *, ttl: Seconds = 3_600.0) -> OutputWriter:
        """As `AgentHandle.stream`; the whole text is recorded within this handler's batch.

        Use `async with` in a coroutine. Readers see the end when the block ends, before the batch is committed.
        """
        return self.actor_runtime().services.outputs.open(self.path, name, self.record, ttl)

    def _actor_mutate(self, operation: Operation) -> None:
        with self._actor_call() as turn:
            storing(apply_operation)(turn, operation)

    def get(self, path: str | PropertyPath = "", default: Any = REQUIRED) -> Any:
        """The value at a property path, as a copy, with this handler's changes so far. Raises PathNotFound."""
        try:
            with self._actor_reading() as runtime:
                return copy_tree(lookup(runtime.state.memory, segments_of(path)))
        except PathNotFound:
            if default is REQUIRED:
                raise
            return default

    def get_many(self, paths: Sequence[str | PropertyPath], default: Any = REQUIRED) -> list[Any]:
        """Copies of the values at several property paths, with this handler's changes so far. Raises PathNotFound."""
        with self._actor_reading() as runtime:
            return [
                value if value is default else copy_tree(value) for value in values_at(runtime.state, paths, default)
            ]

    def length(self, path: str | PropertyPath = "") -> int:
        """The number of elements or keys at a property path, with this handler's changes so far.

        Raises PathNotFound, and InvalidPath for a path that leads to a scalar.
        """
        with self._actor_reading() as runtime:
            return length_of(runtime.state, path, runtime.path)

    def slice(self, path: str | PropertyPath, start: int | None = None, stop: int | None = None) -> list[Any]:
        """A copy of a part of the list at a property path, with this handler's changes so far.

        Raises PathNotFound, and InvalidPath for a path that leads to another value.
        """
        with self._actor_reading() as runtime:
            return [copy_tree(held) for held in slice_of(runtime.state, Slice(path, start, stop), runtime.path)]

    def keys(self, path: str | PropertyPath = "") -> list[str]:
        """The keys of the subtree at a property path, with this handler's changes so far.

        Raises PathNotFound, and InvalidPath for a path that leads to another value.
        """
        with self._actor_reading() as runtime:
            return keys_at(runtime.state, path, runtime.path)
