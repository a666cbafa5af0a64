"""Replies of commands that user handlers have carried out: the last event of such a command holds its reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duramen.events import DuramenError, Granularity, NewEvent, Receipt, ReplyRefused
from duramen.events.codec import NO_DIGEST
from duramen.events.log import digest_at, raw_events
from duramen.events.model import ACTIVITY_RECORDED, check_value

from ...commands import HANDLED
from ..turn import Turn


def store_reply(turn: Turn, reply: Any) -> None:
    """Store a handler's reply in the metadata of its last event; a handler without events gets one for it.

    Of a reply that is no plain data, or too large for its event, only the type is stored.
    """
    if not turn.items:
        turn.emit(NewEvent(ACTIVITY_RECORDED, {"kind": HANDLED, "data": None}, granularity=int(Granularity.TRACE)))
    annotate_reply(turn, reply)


def annotate_reply(turn: Turn, reply: Any) -> None:
    """Store a reply, or its type, in the metadata of the last event of a turn."""
    try:
        check_value(reply, turn.services.limits, "the reply")
        turn.annotate({"reply": reply})
    except DuramenError:
        turn.annotate({"reply_type": type(reply).__name__})


def read_reply(turn: Turn, receipt: Receipt) -> Any:
    """The reply of the command with this receipt; the receipt itself for a command without a stored reply.

    Blocks. Raises ReplyRefused for a reply that could not be stored, and Trimmed.
    """
    log, before = turn.services.log, receipt.seq - 1
    digest = digest_at(log, receipt.agent, before) or NO_DIGEST
    metadata: dict[str, Any] = {}
    for _, raw, _ in raw_events(log, receipt.agent, turn.codec, after=before, digest=digest, to_seq=receipt.seq):
        metadata = raw[9] or {}
    return reply_of(metadata, receipt)


def reply_of(metadata: Mapping[str, Any], receipt: Receipt) -> Any:
    """The reply in the metadata of the last event of a command, as `read_reply`."""
    if "reply_type" in metadata:
        raise ReplyRefused(
            f"this command of {receipt.agent} was carried out; its reply, a {metadata['reply_type']}, was not stored: "
            "it was no plain data, or too large for an event",
            agent=receipt.agent,
            seq=receipt.seq,
            actual=metadata["reply_type"],
        )
    return metadata.get("reply", receipt)
