"""A fault in what is stored."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from .damage import Kind


@frozen
class Problem:
    """One fault in what is stored. `seq` is None where the fault belongs to no event; `detail` is for people.

    `agent` is a path, or `partition N` or `consumer NAME` where the fault belongs to no agent.
    """

    agent: str
    seq: int | None
    kind: Kind
    expected: Any
    actual: Any
    detail: str

    def __str__(self) -> str:
        where = self.agent if self.seq is None else f"{self.agent}@{self.seq}"
        return f"{where}: {self.kind}: {self.detail}"

    def as_data(self) -> dict[str, Any]:
        """The problem as plain data."""
        return {
            "agent": self.agent,
            "seq": self.seq,
            "kind": self.kind.value,
            "expected": self.expected,
            "actual": self.actual,
            "detail": self.detail,
        }
