"""Live output: the same in memory, on Valkey, on Redis."""

from __future__ import annotations

from contracts.places import Place, ServerPlace
from duramen.events.log.event_log import EventLog
from duramen.events.log.output_store import Output, OutputStream, OutputWrite, read_output_notice

ALICE: Output = ("acme/alice", "answer {*}")
HOUR = 3_600_000


def write(index: int, entry: bytes, output: Output = ALICE, header: bytes = b"h", ttl_ms: int = HOUR) -> OutputWrite:
    return OutputWrite(output, header, index, entry, ttl_ms)


def test_entries_are_read_in_order_from_any_of_them_on(log: EventLog) -> None:
    assert log.outputs.read(ALICE, 1) == []
    assert [log.outputs.write([write(index, b"%d" % index)]) for index in (1, 2, 3)] == [[True]] * 3
    assert log.outputs.read(ALICE, 1) == [b"h", b"1", b"2", b"3"]
    assert log.outputs.read(ALICE, 3) == [b"h", b"3"]
    assert log.outputs.read(ALICE, 4) == [b"h"]


def test_an_entry_that_is_written_again_is_there_once(log: EventLog) -> None:
    for index in (1, 1, 2, 1, 2):
        assert log.outputs.write([write(index, b"%d" % index)]) == [True]
    assert log.outputs.read(ALICE, 1) == [b"h", b"1", b"2"]


def test_an_entry_beyond_the_end_is_refused(log: EventLog) -> None:
    log.outputs.write([write(1, b"1")])
    assert log.outputs.write([write(3, b"3")]) == [False]
    assert log.outputs.read(ALICE, 1) == [b"h", b"1"]


def test_an_output_that_is_opened_again_is_lost_to_its_first_writer(log: EventLog) -> None:
    log.outputs.write([write(1, b"1")])
    assert log.outputs.write([write(1, b"new", header=b"other")]) == [True]
    assert log.outputs.write([write(2, b"2")]) == [False]
    assert log.outputs.read(ALICE, 1) == [b"other", b"new"]


def test_an_output_that_nobody_has_opened_takes_no_later_entry(log: EventLog) -> None:
    assert log.outputs.write([write(2, b"2")]) == [False]
    assert log.outputs.read(ALICE, 1) == []


def test_outputs_are_apart_and_answered_one_by_one(log: EventLog) -> None:
    others: list[Output] = [("acme/alice", "other"), ("acme/alice/child", "answer {*}"), ("acme/bob", "answer {*}")]
    assert log.outputs.write([write(1, b"x"), *(write(1, b"y", each) for each in others)]) == [True] * 4
    assert log.outputs.write([write(2, b"2"), write(3, b"3", others[0]), write(2, b"2", others[1])]) == [
        True,
        False,
        True,
    ]
    assert [log.outputs.read(each, 2) for each in (ALICE, *others)] == [[b"h", b"2"], [b"h"], [b"h", b"2"], [b"h"]]


def test_an_output_is_gone_a_while_after_its_latest_entry(place: Place) -> None:
    log = place.open()
    agent, name = ALICE
    log.outputs.write([write(1, b"1", ttl_ms=HOUR)])
    log.outputs.write([write(2, b"2", ttl_ms=100)])
    place.let_expire(log, place.keys.output(log.partition_of(agent), agent, name), 100)
    assert log.outputs.read(ALICE, 1) == []
    assert log.outputs.write([write(3, b"3")]) == [False]


def test_writing_leaves_the_log_of_the_agent_alone(log: EventLog) -> None:
    log.outputs.write([write(1, b"1")])
    assert log.head(ALICE[0]) is None
    assert list(log.directory()) == []


# -- following ---------------------------------------------------------------------------------------------------------


def arrived(stream: OutputStream, count: int) -> list[tuple[Output, bytes | None]]:
    """The next so many, however they come together."""
    found: list[tuple[Output, bytes | None]] = []
    while len(found) < count:
        more = stream.receive(10)
        assert more, "nothing came within ten seconds"
        found += more
    return found


def test_what_is_followed_is_to_be_read_first_and_then_told(log: EventLog) -> None:
    bob: Output = ("acme/bob", "answer")
    stream = log.outputs.listen()
    try:
        stream.follow([ALICE])
        assert arrived(stream, 1) == [(ALICE, None)]
        log.outputs.write([write(1, b"x", bob)])
        log.outputs.write([write(1, b"1")])
        [(output, notice)] = arrived(stream, 1)
        assert output == ALICE
        assert notice is not None
        assert read_output_notice(notice) == (b"h", 1, b"1")
        stream.follow([bob])
        assert arrived(stream, 1) == [(bob, None)]
    finally:
        stream.close()


def test_an_entry_that_is_written_again_is_told_once(log: EventLog) -> None:
    stream = log.outputs.listen()
    try:
        stream.follow([ALICE])
        arrived(stream, 1)
        for index in (1, 1, 2):
            log.outputs.write([write(index, b"x")])
        told = [read_output_notice(notice or b"") for _, notice in arrived(stream, 2)]
        assert told == [(b"h", 1, b"x"), (b"h", 2, b"x")]
    finally:
        stream.close()


def test_a_stream_that_is_woken_or_closed_returns_at_once(log: EventLog) -> None:
    stream = log.outputs.listen()
    stream.wake()
    assert stream.receive(None) == []
    stream.close()
    assert stream.receive(None) == []
    stream.close()


def test_a_notice_of_another_make_is_none() -> None:
    for notice in (b"", b"\xc1", b"\x93\x01\x02\x03", b"\x01"):
        assert read_output_notice(notice) is None


# -- on a server -------------------------------------------------------------------------------------------------------


def test_the_name_of_an_output_stands_in_no_key_and_all_share_the_slot(server: ServerPlace) -> None:
    log = server.open()
    log.outputs.write([write(1, b"1")])
    partition = log.partition_of(ALICE[0])
    keys = {key.decode() for key in server.client.scan_iter(f"duramen:{{{server.namespace}:*output*")}
    outputs = server.keys.outputs(partition, ALICE[0])
    assert keys == {server.keys.output(partition, *ALICE), outputs}
    assert list(server.client.hgetall(outputs).values()) == [ALICE[1].encode()]
    assert all(0 < server.client.pttl(key) <= 7 * 24 * HOUR for key in keys)
