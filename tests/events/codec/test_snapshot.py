"""Snapshots: read back as written, and refused when anything about them does not fit."""

from __future__ import annotations

import tracemalloc
from hashlib import sha256
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import msgpack
from duramen.events.codec.event_codec import Codec
from duramen.events.codec.snapshot import SnapshotRecord, pack_snapshot, unpack_snapshot
from duramen.events.errors import CorruptEvent, TooLarge, ValueRefused
from duramen.events.model.limits import Limits
from duramen.events.model.values import same_value
from naming import shown

AGENT = "acme/alice"
LIMITS = Limits()
CODEC = Codec(LIMITS)
RECORD = SnapshotRecord(
    AGENT, 7, bytes(range(16)), 1_700_000_000_000_000, "state-1", {"agent": {"memory": {"n": [1, None]}}}
)
STORED = pack_snapshot(RECORD, CODEC, LIMITS)

plain: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def sealed(fields: Any) -> bytes:
    """What somebody would write who knows how the checksum is made."""
    body: bytes = msgpack.packb(fields)
    return sha256(body).digest()[:16] + body


def fields(**changes: Any) -> list[Any]:
    changed = evolve(RECORD, **changes)
    return [1, changed.agent, changed.seq, changed.digest, changed.time, changed.schema, changed.state]


def refused(stored: bytes, agent: str = AGENT, limits: Limits = LIMITS) -> None:
    with pytest.raises(CorruptEvent) as caught:
        unpack_snapshot(stored, agent, CODEC, limits)
    assert caught.value.agent in (agent, None)


@pytest.mark.slow
@given(
    state=st.dictionaries(st.text(max_size=10), plain, max_size=5),
    seq=st.integers(1, 2**53),
    digest=st.binary(min_size=16, max_size=16),
    time=st.integers(0, 2**60),
    schema=st.text(max_size=20),
)
def test_a_snapshot_reads_back_as_it_was_written(
    state: dict[str, Any], seq: int, digest: bytes, time: int, schema: str
) -> None:
    record = SnapshotRecord(AGENT, seq, digest, time, schema, state)
    found = unpack_snapshot(pack_snapshot(record, CODEC, LIMITS), AGENT, CODEC, LIMITS)
    assert evolve(found, state={}) == evolve(record, state={})
    assert same_value(found.state, record.state)


def test_a_snapshot_cut_anywhere_is_refused() -> None:
    for length in range(len(STORED)):
        refused(STORED[:length])


def test_a_snapshot_with_any_bit_flipped_is_refused() -> None:
    for position in range(len(STORED) * 8):
        changed = bytearray(STORED)
        changed[position // 8] ^= 1 << position % 8
        refused(bytes(changed))


@given(st.binary(max_size=200))
def test_bytes_of_somebody_else_are_refused(stored: bytes) -> None:
    refused(stored)


def test_what_stands_behind_a_snapshot_is_refused() -> None:
    refused(STORED + b"\x00")


def test_a_snapshot_of_another_agent_is_refused() -> None:
    refused(STORED, agent="acme/alice-b")


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        "text",
        {},
        [],
        fields()[:-1],
        [*fields(), None],
        [2, *fields()[1:]],
        ["1", *fields()[1:]],
        [True, *fields()[1:]],
        fields(seq="7"),
        fields(seq=0),
        fields(seq=-1),
        fields(seq=1.0),
        fields(seq=None),
        fields(seq=True),
        fields(digest="x" * 16),
        fields(digest=None),
        fields(digest=b""),
        fields(digest=bytes(17)),
        fields(time=None),
        fields(time="now"),
        fields(schema=None),
        fields(schema=1),
        fields(state=None),
        fields(state=[]),
        fields(state="x"),
    ],
    ids=shown,
)
def test_a_snapshot_of_another_form_is_refused_though_its_checksum_is_right(wrong: Any) -> None:
    refused(sealed(wrong))


def test_the_sealing_of_these_tests_is_right() -> None:
    """Control: without it they would all be refused for their checksum."""
    assert unpack_snapshot(sealed(fields()), AGENT, CODEC, LIMITS) == RECORD


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000 + b"\xc0",
        b"\xd4\x05\x00",
        b"\xc7\x0c\x01" + b"\xff" * 12,
    ],
    ids=["unused code", "huge list", "huge map", "huge bytes", "deep", "foreign extension", "impossible time"],
)
def test_bytes_that_do_not_decode_are_refused_within_their_own_size(body: bytes) -> None:
    tracemalloc.start()
    try:
        refused(sha256(body).digest()[:16] + body)
        assert tracemalloc.get_traced_memory()[1] < 2**20 + 4 * len(body)
    finally:
        tracemalloc.stop()


def test_a_state_over_the_limit_is_refused_before_it_is_written_and_before_it_is_read() -> None:
    small = Limits(snapshot_bytes=len(STORED) - 16)
    assert pack_snapshot(RECORD, CODEC, small) == STORED
    assert unpack_snapshot(STORED, AGENT, CODEC, small) == RECORD
    smaller = Limits(snapshot_bytes=len(STORED) - 17)
    with pytest.raises(TooLarge) as caught:
        pack_snapshot(RECORD, CODEC, smaller)
    assert (caught.value.agent, caught.value.expected, caught.value.actual) == (
        AGENT,
        len(STORED) - 17,
        len(STORED) - 16,
    )
    refused(STORED, limits=smaller)


@pytest.mark.parametrize(
    "state", [{"a": (1, 2)}, {"custom": {7: 1}}, {"custom": [{None: 1}]}, {"custom": bytearray(b"x")}]
)
def test_a_state_that_would_not_come_back_is_refused(state: Any) -> None:
    with pytest.raises(ValueRefused):
        pack_snapshot(evolve(RECORD, state=state), CODEC, LIMITS)
