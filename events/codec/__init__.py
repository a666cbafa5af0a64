"""Events, snapshots and session files as bytes, and the chain of digests over them."""

from __future__ import annotations

from .digest_chain import PLAIN, DigestChain
from .event_codec import (
    CONTENT_MARK,
    DIGEST_SIZE,
    NO_DIGEST,
    Codec,
    RawEvent,
    chain,
    to_datetime,
    to_microseconds,
    unpack_plain,
)
from .recorded_event import (
    broken_chain_error,
    build_event,
    build_valid_event,
    build_valid_events,
    decode_bodies,
    decode_body,
    decode_items,
    malformed_event_error,
)
from .session_file import FORMAT, SessionReader, SessionWriter
from .snapshot import SnapshotRecord, pack_snapshot, unpack_snapshot

__all__ = [
    "CONTENT_MARK",
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
    "broken_chain_error",
    "build_event",
    "build_valid_event",
    "build_valid_events",
    "chain",
    "decode_bodies",
    "decode_body",
    "decode_items",
    "malformed_event_error",
    "pack_snapshot",
    "to_datetime",
    "to_microseconds",
    "unpack_plain",
    "unpack_snapshot",
]
