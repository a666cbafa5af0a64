"""Snapshots and checkpoints as bytes. They are optional, and used only if every field of them is valid."""

from __future__ import annotations

from typing import Any, Final, cast

from attrs import frozen

from ..errors import CorruptEvent, TooLarge
from ..model import Limits
from .digest_chain import PLAIN, DigestChain
from .event_codec import DIGEST_SIZE, Codec

_FORMAT: Final = 1
_FORM: Final = (int, str, int, bytes, int, str, dict)


@frozen
class SnapshotRecord:
    """The state of one agent at a seq. `digest` is that of the event at `seq`; `schema` names the form of `state`."""

    agent: str
    seq: int
    digest: bytes
    time: int
    schema: str
    state: dict[str, Any]


def pack_snapshot(record: SnapshotRecord, codec: Codec, limits: Limits, chain: DigestChain = PLAIN) -> bytes:
    """Return 16 bytes of checksum, computed by `chain`, and the snapshot in msgpack.

    Raises TooLarge, and ValueRefused for a state that would not come back. Only its `custom` part is read back for
    that: all else in a state comes from events, whose values were read back when they were written.
    """
    custom = record.state.get("custom")
    if custom is not None:
        codec.pack_exactly(custom, f"the own state of {record.agent}")
    fields = [_FORMAT, record.agent, record.seq, record.digest, record.time, record.schema, record.state]
    body = codec.pack(fields)
    if len(body) > limits.snapshot_bytes:
        raise TooLarge(
            f"the state of {record.agent} takes {len(body)} bytes, over the limit of {limits.snapshot_bytes} "
            "for a snapshot; "
            "keep large content elsewhere",
            agent=record.agent,
            expected=limits.snapshot_bytes,
            actual=len(body),
        )
    return chain.seal(body)


def unpack_snapshot(
    stored: bytes, agent: str, codec: Codec, limits: Limits, chain: DigestChain = PLAIN
) -> SnapshotRecord:
    """Read a snapshot. Raises CorruptEvent unless it is a whole snapshot of this agent in this format."""
    body = None if len(stored) > limits.snapshot_bytes + DIGEST_SIZE else chain.unseal(stored)
    if body is None:
        raise CorruptEvent(f"a snapshot of {agent} does not match its checksum", agent=agent)
    fields = codec.unpack(body)
    if type(fields) is list and len(cast("list[Any]", fields)) == len(_FORM):
        row = cast("list[Any]", fields)
        is_well_formed = all(type(value) is kind for value, kind in zip(row, _FORM, strict=True))
        if is_well_formed and row[0] == _FORMAT and row[1] == agent and row[2] >= 1 and len(row[3]) == DIGEST_SIZE:
            return SnapshotRecord(*row[1:])
    raise CorruptEvent(f"a snapshot of {agent} has another format or belongs to another agent", agent=agent)
