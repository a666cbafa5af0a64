"""What one host takes, refuses, asks for and tells, call by call."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import msgpack
from duramen.actors.hosts.links import FRAME_BYTES, ROW_BYTES, FrameCodec, LinkState, Row, Window
from duramen.events import Limits, MailboxFull, TooLarge, Unavailable
from duramen.events.codec import Codec

SECRET = b"secret"
CODEC = Codec(Limits())
TAG = 16


class Host:
    """A host whose messages go where the test puts them."""

    def __init__(self, name: str, *, window: Window | None = None, secret: bytes = SECRET, protocol: int = 1) -> None:
        self.name = name
        self.frames = FrameCodec(name, secret, protocol, CODEC)
        self.links = LinkState(self.frames, window=window, random=Random(1))
        self.rows: list[Row] = []
        self.contents: dict[str, bytes] = {}

    def send(self, peer: str, *rows: Any, now: float = 0.0) -> list[bytes]:
        for row in rows:
            self.links.send(peer, CODEC.pack(row))
        return self.emit(now)

    def emit(self, now: float) -> list[bytes]:
        outgoing = self.links.emit(now)
        self.contents.update(outgoing.contents)
        return [frame for _, frame in outgoing.frames]

    def take(self, messages: list[bytes], now: float = 0.0, contents: dict[str, bytes] | None = None) -> list[Row]:
        rows: list[Row] = []
        for data in messages:
            frame = self.frames.open(data)
            if frame is not None:
                needed = self.links.contents_needed(frame)
                found = {key: self.frames.open_content(key, (contents or {}).get(key)) for key in needed}
                rows += self.links.receive(frame, found, now)
        return rows

    def dropped(self) -> dict[str, int]:
        return {**self.frames.dropped, **self.links.dropped}


def test_rows_queued_together_arrive_in_one_frame() -> None:
    a, b = Host("a"), Host("b")
    frames = a.send("b", [1], [2], [3])
    assert len(frames) == 1
    assert b.take(frames) == [[1], [2], [3]]


def test_heard_is_told_alone_after_20_ms_and_not_before() -> None:
    a, b = Host("a"), Host("b")
    b.take(a.send("b", [1]), now=1.0)
    assert b.links.due == pytest.approx(1.02)
    b.links.tick(1.019)
    assert b.emit(1.019) == []
    b.links.tick(1.02)
    a.take(b.emit(1.02))
    stream = a.links.stream("b")
    assert stream is not None and stream.is_settled


def test_heard_rides_along_with_a_row() -> None:
    a, b = Host("a"), Host("b")
    b.take(a.send("b", [1]), now=1.0)
    a.take(b.send("a", [2], now=1.001), now=1.001)
    stream = a.links.stream("b")
    assert stream is not None and stream.is_settled
    b.links.tick(1.5)
    assert b.emit(1.5) == []


def test_a_gap_asks_at_once_and_only_what_is_missing_comes_again() -> None:
    a, b = Host("a"), Host("b")
    first, second, third = (a.send("b", [n])[0] for n in (1, 2, 3))
    assert b.take([first]) == [[1]]
    assert b.take([third]) == []
    assert b.dropped() == {"gap": 1}
    question = b.emit(0.0)
    assert len(question) == 1
    a.take(question, now=0.001)
    again = a.emit(0.001)
    assert again == [second, third]
    assert b.take(again) == [[2], [3]]


def test_the_same_question_repeated_by_anybody_sends_the_frames_again_only_once() -> None:
    a, b = Host("a"), Host("b")
    a.send("b", [1])
    later = a.send("b", [2])
    b.take(later)
    question = b.emit(0.0)
    a.take(question * 5, now=0.001)
    assert len(a.emit(0.001)) == 2
    a.take(question * 5, now=30.0)
    assert a.emit(30.0) == []
    assert a.dropped() == {"repeated": 9}


def test_a_subscription_told_again_by_anybody_halves_no_window_again() -> None:
    a, b = Host("a", window=Window(frames=16, least_frames=2)), Host("b")
    b.take(a.send("b", [0]))
    b.links.note_new_subscription(0.1)
    told = b.emit(0.1)
    a.take(told * 10, now=0.1)
    for number in range(40):
        a.send("b", [number], now=0.2)
    stream = a.links.stream("b")
    assert stream is not None and stream.unheard[0] == 8
    assert a.dropped() == {"repeated": 9}


def test_a_host_that_ends_tells_first_what_it_has_heard() -> None:
    a, b = Host("a"), Host("b")
    b.take(a.send("b", [1]), now=1.0)
    b.links.tell_heard()
    a.take(b.emit(1.0))
    stream = a.links.stream("b")
    assert stream is not None and stream.is_settled


def test_a_lost_end_of_a_stream_is_found_by_the_timer_after_about_a_second_then_two() -> None:
    a, b = Host("a"), Host("b")
    lost = a.send("b", [1], now=0.0)
    assert 0.75 <= a.links.due <= 1.25
    due = a.links.due
    a.links.tick(due)
    assert len(a.emit(due)) == 1
    assert 1.5 <= a.links.due - due <= 2.5
    due = a.links.due
    a.links.tick(due)
    b.take(a.emit(due), now=due)
    a.take(b.emit(due), now=due)
    assert a.emit(due) == lost


def test_a_repeated_frame_is_dropped_and_counted() -> None:
    a, b = Host("a"), Host("b")
    frames = a.send("b", [1])
    assert b.take(frames * 3) == [[1]]
    assert b.dropped() == {"repeated": 2}


def test_a_number_of_an_unknown_stream_is_refused_and_never_taken_as_new() -> None:
    a, b = Host("a"), Host("b")
    a.send("b", [1])
    second = a.send("b", [2])
    assert b.take(second) == []
    stream = b.links.stream("a")
    assert stream is not None and stream.heard == 0


def test_a_forgotten_host_is_refused_for_ever() -> None:
    a, b = Host("a"), Host("b")
    frames = a.send("b", [1]) + a.send("b", [2])
    b.take(frames[:1])
    b.links.forget("a")
    assert b.take(frames) == []
    assert b.dropped()["forgotten"] == 2
    with pytest.raises(Unavailable, match="has ended"):
        b.send("a", [1])


def test_no_more_than_the_window_is_unheard_and_the_rest_waits() -> None:
    a, b = Host("a"), Host("b")
    sent: list[bytes] = []
    for number in range(300):
        sent += a.send("b", [number])
    stream = a.links.stream("b")
    assert stream is not None and stream.unheard[0] == len(sent) == 256 and stream.queued == 44
    rows = b.take(sent)
    b.links.tick(1.0)
    a.take(b.emit(1.0))
    rows += b.take(a.emit(1.0))
    assert rows == [[number] for number in range(300)]


def test_large_rows_fill_the_window_by_their_bytes() -> None:
    a = Host("a")
    for _ in range(40):
        a.send("b", ["x" * 60_000])
    stream = a.links.stream("b")
    assert stream is not None
    frames, size = stream.unheard
    assert 1024 * 1024 - 61_000 < size <= 1024 * 1024 and frames == 17


def test_a_full_queue_refuses_asks_but_never_replies() -> None:
    a = Host("a", window=Window(frames=1, queued_rows=3))
    a.send("b", [0])
    a.send("b", [1], [2], [3])
    with pytest.raises(MailboxFull):
        a.links.send("b", b"\x90")
    a.links.send("b", b"\x90", bounded=False)
    stream = a.links.stream("b")
    assert stream is not None and stream.queued == 4


def test_a_new_subscription_asks_all_peers_and_halves_their_windows_until_rows_get_through() -> None:
    a, b = Host("a", window=Window(frames=16, least_frames=2)), Host("b")
    b.take(a.send("b", [0]))
    b.links.note_new_subscription(0.1)
    a.take(b.emit(0.1), now=0.1)
    sent: list[bytes] = []
    for number in range(40):
        sent += a.send("b", [number + 1], now=0.2)
    assert len(sent) == 8
    rows = b.take(sent, now=0.2)
    for step in range(1, 10):
        now = 0.2 + step
        b.links.tick(now)
        a.take(b.emit(now), now)
        sent = a.emit(now)
        rows += b.take(sent, now)
    assert rows == [[number + 1] for number in range(40)]
    stream = a.links.stream("b")
    assert stream is not None
    b.links.tick(30.0)
    a.take(b.emit(30.0), 30.0)
    for number in range(40):
        a.send("b", [number], now=31.0)
    assert stream.unheard[0] == 16


def test_what_may_be_lost_with_a_publishers_connection_is_asked_about_at_once() -> None:
    a, b = Host("a"), Host("b")
    a.send("b", [1])
    a.links.note_lost_publishes()
    b.take(a.emit(0.1), 0.1)
    a.take(b.emit(0.1), 0.1)
    assert b.take(a.emit(0.1), 0.1) == [[1]]


def test_a_row_over_64_kib_travels_as_content_and_its_frame_waits_for_it() -> None:
    a, b = Host("a"), Host("b")
    large = ["reply", "x" * FRAME_BYTES]
    frames = a.send("b", ["before"], large, ["after"])
    assert sum(map(len, frames)) < 1000
    assert b.take(frames, contents={}) == []
    a.take(b.emit(0.0), now=0.1)
    a.contents.clear()
    again = a.emit(0.1)
    assert a.contents, "the contents are stored again"
    assert b.take(again, contents=a.contents) == [["before"], large, ["after"]]


def test_content_that_was_changed_is_not_taken() -> None:
    a, b = Host("a"), Host("b")
    frames = a.send("b", ["x" * FRAME_BYTES])
    forged = {key: CODEC.pack(["y" * FRAME_BYTES]) for key in a.contents}
    assert b.take(frames, contents=forged) == []
    assert b.dropped()["forged"] == 1


def test_a_row_over_its_limit_is_refused() -> None:
    with pytest.raises(TooLarge):
        Host("a").links.send("b", bytes(ROW_BYTES + 1))


def sealed(name: str, fields: Any) -> bytes:
    """A frame with any fields, made with the key of the namespace."""
    codec = FrameCodec(name, SECRET, 1, CODEC)
    body = msgpack.packb(fields)
    return body + codec._tag(body)


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("malformed", b""),
        ("malformed", b"\x96" * 16),
        ("malformed", b"12"),
        ("malformed", b"\x96" + bytes(FRAME_BYTES * 2)),
        ("forged", Host("a", secret=b"another").send("b", [1])[0]),
        ("forged", Host("a").send("b", [1])[0][:-1]),
        ("forged", Host("a").send("b", [1])[0][:-1] + b"?"),
        ("protocol", Host("a", protocol=2).send("b", [1])[0]),
        ("misdirected", Host("a").send("c", [1])[0]),
        ("misdirected", Host("b").send("b", [1])[0]),
        ("malformed", sealed("a", [1, "a", "b", -1, 0, []])),
        ("malformed", sealed("a", [1, "a", "b", 1, 0, [7]])),
        ("malformed", sealed("a", [1, "a", "b", "1", 0, []])),
        ("malformed", sealed("a", [1, "", "b", 1, 0, []])),
        ("malformed", sealed("a", [1, "a", "b", 1, True, []])),
        ("malformed", sealed("a", [1, "a", "b", 1, 0, {}])),
        ("malformed", sealed("a", [1, "a", "b", 2**64 - 1, 0, []])),
        ("malformed", sealed("a", [1, "a", "b", 0, 0, [["unknown"]]])),
        ("malformed", sealed("a", [1, "a", "b", 0, 0, [["last", 1, "x"]]])),
        ("malformed", sealed("a", [1, "a", "b", 0, 0, ["last"]])),
        ("impossible", sealed("a", [1, "a", "b", 1, 5, [["x"]]])),
    ],
)
def test_what_is_no_frame_to_this_host_is_dropped_and_counted(reason: str, data: bytes) -> None:
    host = Host("b")
    assert host.take([data]) == []
    assert host.dropped() == {reason: 1}


def test_a_frame_sent_back_to_its_sender_is_dropped() -> None:
    a = Host("a")
    frames = a.send("b", [1])
    assert a.take(frames) == []
    assert a.dropped() == {"misdirected": 1}


@given(st.binary(max_size=200))
def test_bytes_of_strangers_never_raise_and_bring_no_rows(data: bytes) -> None:
    host = Host("b")
    assert host.take([data, b"\x96\x01" + data]) == []
    assert sum(host.dropped().values()) == 2


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(), lambda s: st.lists(s)
    )
)
def test_authentic_frames_of_any_content_never_raise(value: Any) -> None:
    host = Host("b")
    host.take([sealed("a", value), sealed("a", [1, "a", "b", 1, 0, value]), sealed("a", [1, "a", "b", 0, 0, [value]])])


@given(st.data())
def test_a_frame_changed_in_one_place_is_dropped(data: st.DataObject) -> None:
    frame = bytearray(Host("a").send("b", [1, "text"])[0])
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    host = Host("b")
    assert host.take([bytes(frame)]) == []
    assert sum(host.dropped().values()) == 1
