"""What can be attached to the log under a durable name."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, Generic, TypeVar

__all__ = ["Attachable"]

V = TypeVar("V")


class Attachable(ABC, Generic[V]):
    """A `Projection`, a `KeyedProjection` or a `Sink`; V is what `runner.state` shows of it."""

    version: ClassVar[int] = 1
    """Raise it when what older code has stored no longer fits; it is then built anew."""

    types: ClassVar[frozenset[str] | None] = None
    """The types of events that matter; others are not handed to it once it is attached. None: all types."""
