"""Subscriptions with values, where an agent is erased between the reading of its events and their values."""

from __future__ import annotations

from typing import Any

from duramen.actors import AgentSystem
from duramen.events import CorruptEvent, Limits, MemoryLog
from duramen.events.model import START
from duramen.events.model.registry import DECLARED
from duramen.projections.notifications.event_filter import EventFilter
from duramen.projections.state.missing import MISSING
from duramen.projections.subscriptions.catch_up import CatchUpReader
from duramen.projections.subscriptions.change import Source

PATH, OTHER = "acme/alice", "acme/bob"


def reader_of(log: MemoryLog, mark: Any = START) -> CatchUpReader:
    return CatchUpReader(Source(log, DECLARED, Limits()), EventFilter.parse("acme/**"), 0, mark, values=True)


def changes(reader: CatchUpReader, most: int) -> list[Any]:
    page = reader.page(most)
    assert page.error is None
    return [(item.change.agent, item.change.seq) for item in page.items]


def test_a_change_whose_values_are_erased_after_it_was_read_is_passed_over() -> None:
    log = MemoryLog(partitions=1)
    with AgentSystem.open(log=log) as system:
        system.spawn(PATH, initial_state={"n": 1})
        first = reader_of(log)
        assert changes(first, 9) == [(PATH, 1)]
        system.spawn(OTHER)
        system.agent(PATH).set("n", 2)
        system.agent(OTHER).set("n", 3)
        reader = reader_of(log, first.reader.mark)
        assert changes(reader, 1) == [(OTHER, 1)]  # what follows is in its window by now
        system.erase(PATH)
        assert changes(reader, 1) == []
        assert changes(reader, 1) == [(OTHER, 2)]


def test_a_change_whose_values_are_damaged_ends_the_reading() -> None:
    log = MemoryLog(partitions=1)
    with AgentSystem.open(log=log) as system:
        system.spawn(PATH, initial_state={"n": 1})
        mark = reader_of(log)
        mark.page(9)
        system.spawn(OTHER)
        system.agent(PATH).set("n", 2)
        reader = reader_of(log, mark.reader.mark)
        assert changes(reader, 1) == [(OTHER, 1)]
        items = log._storage.logs[log.log_key(PATH)]
        items[0] = items[0][:-1] + b"\x00"
        assert isinstance(reader.page(1).error, CorruptEvent)


def test_the_values_of_an_agent_that_is_spawned_anew_do_not_begin_with_those_of_the_erased_one() -> None:
    log = MemoryLog(partitions=1)
    with AgentSystem.open(log=log) as system:
        system.spawn(PATH, initial_state={"n": "old"})
        reader = reader_of(log)
        assert changes(reader, 9) == [(PATH, 1)]
        system.erase(PATH)
        system.spawn(PATH, initial_state={"n": "new"})
        [item] = reader.page(9).items
        assert item.change.values == {"n": (MISSING, "new")}
