"""What a server pushes is taken apart alike, however the network cuts it into pieces."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duramen.events.redis.client.pubsub.push_parser import ProtocolError, PushParser
from duramen.events.redis.client.script import encode_command
from naming import shown

KEEP = 16

texts = st.binary(max_size=60)
messages = st.lists(texts, min_size=1, max_size=4)
singles = st.sampled_from([(b"+PONG\r\n", [b"PONG"]), (b":5\r\n", [b"5"]), (b"$-1\r\n", [b"-1"]), (b"_\r\n", [b""])])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:stop] for start, stop in pairwise(at)]


@given(
    st.lists(st.one_of(messages, singles), max_size=5),
    st.booleans(),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_messages_are_whole_however_they_arrive(
    given_: list[list[bytes] | tuple[bytes, list[bytes]]], pushed: bool, cuts: list[int]
) -> None:
    data, expected = b"", []
    for one in given_:
        if isinstance(one, tuple):
            data += one[0]
            expected.append(one[1])
        else:
            whole = encode_command(one)
            data += b">" + whole[1:] if pushed else whole
            expected.append([text[:KEEP] for text in one])
    pushes = PushParser(KEEP)
    found = [message for piece in pieces(data, cuts) for message in pushes.feed(piece)]
    assert found == expected


def test_a_message_of_many_megabytes_is_not_kept() -> None:
    pushes = PushParser(KEEP)
    size = 50 * 1024 * 1024
    found = pushes.feed(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n" % size + b"y" * 100)
    portion = b"y" * 65_536
    left = size + 2 - 100
    while left:
        found += pushes.feed(portion[:left])
        left -= len(portion[:left])
        assert len(pushes._buffer) <= 65_536
    found += pushes.feed(b"+PONG\r\n")
    assert found == [[b"message", b"c", b"y" * KEEP], [b"PONG"]]


def test_an_error_is_told_apart_from_a_text() -> None:
    assert PushParser().feed(b"-NOPERM not you\r\n+NOPERM\r\n") == [[b"-NOPERM not you"], [b"NOPERM"]]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*3000000000\r\n",
        b"*2\r\n*2\r\n",
        b"$abc\r\n",
        b"$-5\r\n",
        b"$" + b"9" * 40 + b"\r\n",
        b"*x\r\n",
        b"+" + b"x" * 70_000,
        b"%1\r\n",
    ],
    ids=shown,
)
def test_what_is_not_the_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        PushParser().feed(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_either_taken_apart_or_refused(data: bytes) -> None:
    pushes = PushParser(KEEP)
    with suppress(ProtocolError):
        for byte in data:
            pushes.feed(bytes([byte]))
    assert len(pushes._buffer) <= len(data)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "byte by byte"])
def test_messages_of_a_sharded_channel_are_parsed_as_others(whole: bool) -> None:
    data = b"*3\r\n$8\r\nsmessage\r\n$3\r\nnew\r\n$2\r\nhi\r\n" * 2
    pushes = PushParser()
    portions = [data] if whole else [data[at : at + 1] for at in range(len(data))]
    found = [message for portion in portions for message in pushes.feed(portion)]
    assert found == [[b"smessage", b"new", b"hi"]] * 2
