"""What all messages have in common, and what those have that change an agent's log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from attrs import field, frozen

from duramen.events.model import copy_plain

R_co = TypeVar("R_co", covariant=True)


def copy_mapping(value: Any) -> Any:
    """A copy of a mapping as a dict that shares no container with it; anything else as it is."""
    return copy_plain(dict(cast("Mapping[Any, Any]", value)) if isinstance(value, Mapping) else value)


def _copy_metadata(value: Any) -> Any:
    return None if value is None else copy_mapping(value)


class Message(Generic[R_co]):
    """A message whose reply has a known type, for type checkers."""

    __slots__ = ()

    content_field: ClassVar[str | None] = None
    """The field whose texts and bytes are stored beside the log where they are too large for an event."""
    content_room: ClassVar[int] = 0
    """Bytes of its event that are kept free beside what all events have, and what the message says."""


@frozen
class Mutation(Message[R_co]):
    """A message whose events may carry metadata, and which may be for one seq of the agent alone."""

    expected_seq: int | None = field(default=None, kw_only=True)
    """The agent's seq that the mutation is meant for; VersionConflict at another. None: whichever it is."""
    metadata: Mapping[str, Any] | None = field(default=None, kw_only=True, converter=_copy_metadata)
    """Plain data that every event of the mutation carries."""
