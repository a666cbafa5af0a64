"""The note of an erasure: hosts that erase the same tree at the same time do not end each other's."""

from __future__ import annotations

from contracts.authors import Author
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import BegunErasure

PATH = "acme/alice"
ONE, TWO = BegunErasure("one"), BegunErasure("two")


def notes(log: EventLog) -> list[tuple[str, BegunErasure]]:
    return log.archive.begun_erasures()


def erase(log: EventLog, host: str, *, is_taken: bool = False) -> int:
    position = log.archive.erase_from_feed(PATH, 0)[0]
    return log.archive.erase(PATH, [PATH], position, [], host, is_taken=is_taken)


def test_an_erasure_is_ended_by_whoever_has_it(log: EventLog) -> None:
    log.archive.begin_erasure(PATH, "one")
    assert log.archive.take_erasure(PATH, "one", "two")
    assert not log.archive.end_erasure(PATH, ONE)
    assert notes(log) == [(PATH, TWO)]
    assert log.archive.end_erasure(PATH, TWO)
    assert notes(log) == []
    assert not log.archive.end_erasure(PATH, TWO)


def test_an_erasure_that_was_begun_again_is_not_ended_by_the_one_before(log: EventLog) -> None:
    Author(log, PATH).fill(2)
    log.archive.begin_erasure(PATH, "one")
    assert erase(log, "one") == 2
    done = BegunErasure("one", done=True)
    assert notes(log) == [(PATH, done)]
    for host in ("two", "one"):
        log.archive.begin_erasure(PATH, host)
        assert not log.archive.end_erasure(PATH, done)
        assert notes(log) == [(PATH, BegunErasure(host))]
    assert erase(log, "one") == 0
    assert log.archive.end_erasure(PATH, done), "control: now it is done"


def test_removing_the_agents_leaves_the_note_of_another_host_that_has_begun_too(log: EventLog) -> None:
    log.archive.begin_erasure(PATH, "one")
    log.archive.begin_erasure(PATH, "two")
    Author(log, PATH).fill(2)
    assert erase(log, "one") == 2
    assert notes(log) == [(PATH, TWO)]
    assert erase(log, "two", is_taken=True) == 0
    assert notes(log) == [(PATH, BegunErasure("two", done=True))]
    assert erase(log, "one") == 0
    assert notes(log) == [(PATH, BegunErasure("one", done=True))], "and that of one that is done does not stay"


def test_an_erasure_that_was_taken_over_removes_nothing_once_it_is_not_the_hosts_any_more(log: EventLog) -> None:
    Author(log, PATH).fill(2)
    log.archive.begin_erasure(PATH, "one")
    assert erase(log, "two", is_taken=True) == -2
    assert (notes(log), log.head(PATH) is None) == ([(PATH, ONE)], False)
    assert erase(log, "one", is_taken=True) == 2
    assert log.head(PATH) is None
