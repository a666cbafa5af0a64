"""A batch of appends under way, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis
from attrs import define

from ...errors import DuramenError, OutcomeUnknown
from ...log import Answer, Append
from ..client import CONNECTION_ERRORS, Retry, Wire, classify_error, translate_error

LEAST_TRIES: Final = 2
"""Times a batch is sent before it is given up: a process that slept may have sent it only once."""
SENT_AHEAD: Final = 4 * 1024 * 1024
"""Bytes that may be under way: the next batches are prepared while the server works on these."""

Outcome = tuple[Sequence[Append], "list[Answer] | DuramenError"]


@define(eq=False)
class Flight:
    """A batch under way. `extra` replies (of SCRIPT LOAD) come before its own."""

    batch: Sequence[Append]
    call: bytes
    give_up_at: float
    extra: int = 0
    sent: int = 0
    """How often it was sent."""
    unsure: bool = False
    """Whether a connection was lost while it was under way."""

    @property
    def in_doubt(self) -> bool:
        """Whether the log may have events of it that were not acknowledged."""
        return self.unsure and any(append.items for append in self.batch)


def read_reply(wire: Wire) -> Any:
    """Return a reply, or the error that the server answered. Raises CONNECTION_ERRORS when the connection is lost."""
    try:
        return wire.read()
    except Exception as error:
        if isinstance(error, CONNECTION_ERRORS) and (wire.is_closed or classify_error(error) is Retry.AMBIGUOUS):
            raise
        if wire.is_closed:  # bytes that are no reply: those after them cannot be understood
            raise redis.ConnectionError(type(error).__name__) from None
        return error


def failure_of(trouble: Exception, *, unsure: bool) -> DuramenError:
    """Return why a batch is given up; `unsure` says that it may be in the log."""
    if not isinstance(trouble, DuramenError):
        return translate_error(trouble, "append", wrote=unsure)
    return OutcomeUnknown(f"append: {trouble}; ask again with the same command id") if unsure else trouble
