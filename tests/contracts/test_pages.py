"""A log read page after page, with the next page on its way: the same events as page by page, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from contracts.authors import Author, head_of
from contracts.places import Place, ServerPlace
from duramen.events.codec.event_codec import DIGEST_SIZE
from duramen.events.errors import AgentNotFound, DuramenError, Trimmed
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Base, Page
from duramen.events.model.limits import Limits

AGENT = "acme/alice"
SMALL = Limits(page_events=40, page_bytes=10_000)
"""Pages that may be asked for ahead while events are of less than 312 bytes."""


@pytest.fixture
def log(place: Place) -> EventLog:
    return place.open(limits=SMALL)


@pytest.fixture
def author(log: EventLog) -> Author:
    return Author(log, AGENT)


def items_of(pages: Iterator[Page]) -> list[bytes]:
    return [item for page in pages for item in page.items]


def trim(log: EventLog, place: Place, seq: int) -> None:
    head = head_of(log, AGENT)
    digest = place.items(log, AGENT)[seq - head.base - 1][:DIGEST_SIZE]
    log.trim(AGENT, Base(seq, digest), b"its state there")


@pytest.mark.parametrize("count", [0, 1, 39, 40, 41, 80, 333])
def test_pages_hold_every_event_once_and_in_order(log: EventLog, author: Author, count: int) -> None:
    written = author.write(*author.bodies(count + 1)).items
    assert items_of(log.pages(AGENT, 1, None)) == written
    assert items_of(log.pages(AGENT, 2, None)) == written[1:]
    assert items_of(log.pages(AGENT, 1, count)) == written[:count]
    assert items_of(log.pages(AGENT, 1, count + 99)) == written
    assert items_of(log.pages(AGENT, count + 2, None)) == []


def test_each_page_says_where_it_begins_and_where_the_log_stands(log: EventLog, author: Author) -> None:
    author.fill(100)
    head = head_of(log, AGENT)
    pages = list(log.pages(AGENT, 5, None))
    assert [page.first_seq for page in pages] == [5, 45, 85]
    assert [page.head for page in pages] == [head] * 3


def test_pages_of_an_agent_that_is_not_there_are_refused(log: EventLog) -> None:
    with pytest.raises(AgentNotFound):
        next(log.pages("acme/nobody", 1, None))


def test_what_is_appended_while_pages_are_read_belongs_to_the_next_reading(log: EventLog, author: Author) -> None:
    written = author.write(*author.bodies(100)).items
    read: list[bytes] = []
    for page in log.pages(AGENT, 1, None):
        read += page.items
        author.fill(7)
    assert read == written


@pytest.mark.parametrize("small", [1, 45, 90, 150])
def test_a_page_stays_within_its_bytes_though_the_events_before_it_were_small(
    log: EventLog, author: Author, small: int
) -> None:
    """Negative control: pages asked for ahead by the size of the events before them would be of 160,000 bytes."""
    author.fill(small)
    author.write(*[b"%04d" % number * 1_000 for number in range(90)])
    author.fill(50)
    pages = list(log.pages(AGENT, 1, None))
    assert sum(len(page.items) for page in pages) == small + 140
    assert max(sum(map(len, page.items)) for page in pages) < SMALL.page_bytes + 4_100


def test_a_log_whose_largest_event_is_not_known_is_read_as_well(place: Place, log: EventLog, author: Author) -> None:
    written = author.write(*author.bodies(150)).items
    place.write_head(log, AGENT, evolve(head_of(log, AGENT), largest=0))
    written = written + author.write(*author.bodies(60)).items
    assert items_of(log.pages(AGENT, 1, None)) == written


def test_trimming_what_was_read_already_disturbs_nobody(place: Place, log: EventLog, author: Author) -> None:
    written = author.write(*author.bodies(200)).items
    read: list[bytes] = []
    for page in log.pages(AGENT, 1, None):
        read += page.items
        if len(read) in (40, 120):
            trim(log, place, len(read))
    assert read == written


def test_trimming_what_comes_next_is_told(place: Place, log: EventLog, author: Author) -> None:
    """Asked for ahead, a page may have come before the trimming; what it holds is then what was there."""
    written = author.write(*author.bodies(200)).items
    read: list[bytes] = []
    with pytest.raises(Trimmed):
        for page in log.pages(AGENT, 1, None):
            read += page.items
            if len(read) == 40:
                trim(log, place, 130)
    assert read in (written[:40], written[:80])


def connections(server: ServerPlace) -> int:
    client: Any = server.client
    return len(client.client_list())


def test_pages_go_on_when_every_connection_is_lost_in_between(server: ServerPlace) -> None:
    log = server.open(limits=SMALL)
    client: Any = server.client
    author = Author(log, AGENT)
    written = author.write(*author.bodies(300)).items
    read: list[bytes] = []
    for page in log.pages(AGENT, 1, None):
        read += page.items
        client.client_kill_filter(_type="normal", skipme=True)
    assert read == written


@pytest.mark.parametrize("taken", [1, 3, 99])
def test_who_stops_in_the_middle_leaves_a_connection_that_nobody_mistakes(server: ServerPlace, taken: int) -> None:
    """Negative control: released with a reply still to come, the connection would give it to the next question."""
    log = server.open(limits=SMALL)
    author = Author(log, AGENT)
    written = author.write(*author.bodies(300)).items
    for _ in range(4):
        pages = log.pages(AGENT, 1, None)
        for number, _ in enumerate(pages, 1):
            if number == taken:
                break
        pages.close()  # type: ignore[attr-defined]
        assert log.head(AGENT) == head_of(log, AGENT)
        assert log.load(["nothing", "there"]) == [None, None]
    assert items_of(log.pages(AGENT, 1, None)) == written


def test_reading_in_pages_uses_no_more_connections_each_time(server: ServerPlace) -> None:
    log = server.open(limits=SMALL)
    author = Author(log, AGENT)
    author.fill(300)
    items_of(log.pages(AGENT, 1, None))
    before = connections(server)
    for _ in range(10):
        items_of(log.pages(AGENT, 1, None))
    assert connections(server) <= before


# -- with a head that was read before ----------------------------------------------------------------------------------


def answer(read: Callable[[], Page | None]) -> object:
    try:
        return read()
    except DuramenError as error:
        return type(error), str(error), error.expected, error.actual


def shorten(place: Place, log: EventLog) -> None:
    place.keep(log, AGENT, place.items(log, AGENT)[:-1])


def lengthen(place: Place, log: EventLog) -> None:
    place.keep(log, AGENT, [*place.items(log, AGENT), b"another"])


def trim_some(place: Place, log: EventLog) -> None:
    head = head_of(log, AGENT)
    place.keep(log, AGENT, place.items(log, AGENT)[5:])
    place.write_head(log, AGENT, evolve(head, base=head.base + 5))


def remove(place: Place, log: EventLog) -> None:
    place.keep(log, AGENT, [])
    place.write_head(log, AGENT, None)


@pytest.mark.parametrize("from_seq", [1, 4, 6, 20, 21, 25, 1 << 60])
@pytest.mark.parametrize("limit", [1, 3, 40, 1 << 52])
@pytest.mark.parametrize("change", [None, shorten, lengthen, trim_some, remove])
def test_a_head_that_was_read_before_changes_no_answer(
    place: Place, from_seq: int, limit: int, change: Callable[[Place, EventLog], None] | None
) -> None:
    log = place.open()
    author = Author(log, AGENT).fill(10)
    seen = head_of(log, AGENT)
    author.fill(10)
    if change is not None:
        change(place, log)
    plain = answer(lambda: log.read(AGENT, from_seq, limit))
    assert answer(lambda: log.read(AGENT, from_seq, limit, seen=seen)) == plain
