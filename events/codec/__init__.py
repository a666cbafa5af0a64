"""Events, snapshots and session files as bytes, bound by a chain of digests."""

from __future__ import annotations

from .digest_chain import PLAIN, DigestChain
from .event_codec import DIGEST_SIZE, NO_DIGEST, Codec, RawEvent, chain, instant, microseconds
from .recorded_event import (
    broken_chain,
    checked_event,
    checked_events,
    decoded,
    decoded_all,
    event_of,
    misshapen,
    raw_items,
)
from .session_file import FORMAT, SessionReader, SessionWriter
from .snapshot import SnapshotRecord, pack_snapshot, unpack_snapshot

__all__ = [
    "DIGEST_SIZE",
    "FORMAT",
    "NO_DIGEST",
    "PLAIN",
    "Codec",
    "DigestChain",
    "RawEvent",
    "SessionReader",
    "SessionWriter",
    "SnapshotRecord",
    "broken_chain",
    "chain",
    "checked_event",
    "checked_events",
    "decoded",
    "decoded_all",
    "event_of",
    "instant",
    "microseconds",
    "misshapen",
    "pack_snapshot",
    "raw_items",
    "unpack_snapshot",
]
