"""Results that were computed from a content, and could be computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class ContentCache(Protocol):
    """Bytes by field; a field is the hash of a content. Thread-safe. Lost values are computed again."""

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        """The value of each field, in order; None where there is none."""
        ...

    def store(self, values: Mapping[bytes, bytes]) -> None:
        """Store these values. Storing twice is the same as once."""
        ...

    def drop(self, fields: Sequence[bytes]) -> None:
        """Remove the values of these fields, as far as they are there."""
        ...
