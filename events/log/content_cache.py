"""What was computed from a content and can be computed again, kept so that it need not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["ContentCache"]


class ContentCache(Protocol):
    """Bytes by field; a field names a content by its hash. Thread-safe. What is lost is computed again."""

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        """The value of each field, in order; None where there is none."""
        ...

    def store(self, values: Mapping[bytes, bytes]) -> None:
        """Keep these values. Storing twice is the same as once."""
        ...
