"""A batch gathers several mutations into one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, cast

from duramen.events import Granularity, InvalidMessage, PropertyPath, Receipt

from ...commands import Append, Delete, Extend, Merge, Operation, Record, Set

Path = str | PropertyPath


class BatchBuilder:
    """Used in a `with` block: its calls are sent together when the block ends, as one atomic event batch.

    After an exception in the block nothing is sent. Not thread-safe.
    """

    def __init__(self, send: Callable[[Sequence[Operation]], Any]) -> None:
        self._send = send
        self._operations: list[Operation] = []
        self._receipt: Any = None

    @property
    def receipt(self) -> Receipt:
        """The receipt of the whole batch. Raises InvalidMessage before the block has ended, or if it was empty."""
        if self._receipt is None:
            raise InvalidMessage("the batch is not sent yet, or had nothing in it")
        return cast("Receipt", self._receipt)

    def set(self, path: Path, value: Any) -> None:
        self._operations.append(Set(path, value))

    def delete(self, path: Path) -> None:
        self._operations.append(Delete(path))

    def append(self, path: Path, value: Any) -> None:
        self._operations.append(Append(path, value))

    def extend(self, path: Path, values: Sequence[Any]) -> None:
        self._operations.append(Extend(path, values))

    def merge(self, path: Path, patch: Any) -> None:
        self._operations.append(Merge(path, patch))

    def record(self, kind: str, data: Any = None, *, level: Granularity = Granularity.ACTIVITY) -> None:
        self._operations.append(Record(kind, data, level))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self._operations:
            self._receipt = self._send(tuple(self._operations))
