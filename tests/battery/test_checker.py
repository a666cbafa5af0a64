"""The battery's checker finds each kind of wrong that it is there for, and nothing in a history that is right."""

from __future__ import annotations

from typing import Any

from attrs import evolve, frozen

from battery.checker import AgentLog, check_agent, check_fences, check_state
from battery.history import Operation

AGENT = "p0/a0"


@frozen
class Event:
    seq: int
    type: str
    data: dict[str, Any]


def appended(seq: int, path: str, *values: str) -> Event:
    return Event(seq, "memory_appended", {"path": path, "values": list(values)})


EVENTS = [
    Event(1, "spawned", {}),
    appended(2, "l", "x.1"),
    Event(3, "memory_set", {"path": "s-x", "value": "x.2"}),
    appended(4, "l", "y.1/0"),
    appended(5, "l", "y.1/1"),
    appended(6, "l", "y.1/2"),
    appended(7, "done", "x.3"),
    appended(8, "done", "y.2"),
]
OPERATIONS = [
    Operation("x.1", "append", AGENT, 1.0, 2.0, None, [2, 2]),
    Operation("x.2", "set", AGENT, 3.0, 4.0, None, [3, 3]),
    Operation("y.1", "batch", AGENT, 3.5, 5.0, None, [4, 6]),
    Operation("z.1", "get", AGENT, 6.0, 7.0, None, [4, 0, {"s-x": "x.2"}]),
    Operation("x.3", "work", AGENT, 6.5, 8.0, None, 0),
    Operation("y.2", "lone_work", AGENT, 9.0, 10.0, "OutcomeUnknown", None),
    Operation("y.3", "set", AGENT, 11.0, 12.0, "Fenced", None),
]


def problems(events: list[Event] = EVENTS, operations: list[Operation] = OPERATIONS) -> list[str]:
    return check_agent(AGENT, AgentLog.of(events), operations)


def changed(name: str, **changes: Any) -> list[Operation]:
    return [evolve(one, **changes) if one.name == name else one for one in OPERATIONS]


def test_a_history_that_is_right_has_no_problem() -> None:
    assert problems() == []


def test_a_lost_acknowledged_write_is_found() -> None:
    assert any("was acknowledged, and is not in the log" in one for one in problems(EVENTS[:2] + EVENTS[3:]))


def test_a_doubled_write_is_found_acknowledged_or_not() -> None:
    assert any("2 times" in one for one in problems([*EVENTS, appended(9, "done", "x.3")]))
    assert any("2 times" in one for one in problems([*EVENTS, appended(9, "done", "y.2")]))


def test_half_a_batch_is_found_also_where_it_was_not_acknowledged() -> None:
    unknown = changed("y.1", error="OutcomeUnknown", result=None)
    assert any("in part" in one for one in problems(EVENTS[:5] + EVENTS[6:], unknown))


def test_a_torn_batch_is_found() -> None:
    torn = [
        *EVENTS[:3],
        EVENTS[3],
        appended(5, "done", "x.3"),
        appended(6, "l", "y.1/1"),
        appended(7, "l", "y.1/2"),
        EVENTS[7],
    ]
    assert any("is torn" in one for one in problems(torn))


def test_a_receipt_of_another_place_is_found() -> None:
    assert any("has the receipt [5, 5]" in one for one in problems(operations=changed("x.1", result=[5, 5])))


def test_an_event_of_a_host_that_was_fenced_is_found() -> None:
    fenced = changed("y.2", error="Fenced")
    assert any("by a host that was fenced" in one for one in problems(operations=fenced))


def test_another_reply_than_the_first_is_found() -> None:
    assert any("got the reply 1" in one for one in problems(operations=changed("x.3", result=1)))


def test_two_writes_of_one_caller_in_another_order_are_found() -> None:
    turned = [EVENTS[0], Event(2, "memory_set", EVENTS[2].data), appended(3, "l", "x.1"), *EVENTS[3:]]
    assert any("which was acknowledged first" in one for one in problems(turned))


def test_a_stale_read_is_found() -> None:
    stale = changed("z.1", result=[1, 0, {}])
    assert any("was acknowledged before it was called" in one for one in problems(operations=stale))


def test_a_read_of_a_state_that_never_was_is_found() -> None:
    assert any("never were" in one for one in problems(operations=changed("z.1", result=[0, 1, {}])))


def test_a_write_that_nobody_sent_is_found() -> None:
    assert any("nobody has sent it" in one for one in problems([*EVENTS, appended(9, "l", "w.1")]))


def test_a_state_that_is_not_the_fold_of_the_log_is_found() -> None:
    log = AgentLog.of(EVENTS)
    right = {"l": ["x.1", "y.1/0", "y.1/1", "y.1/2"], "done": ["x.3", "y.2"], "s-x": "x.2"}
    assert check_state(AGENT, log, right) == []
    assert check_state(AGENT, log, {**right, "done": ["x.3"]}) != []
    assert check_state(AGENT, log, {**right, "more": 1}) != []


def test_fences_and_logs_that_go_back_are_found() -> None:
    assert check_fences(AGENT, [("1:a", 1), ("2:b", 1), ("2:b", 5), ("3:a", 6)]) == []
    assert check_fences(AGENT, [("2:b", 1), ("1:a", 2)]) != []
    assert check_fences(AGENT, [("2:b", 1), ("2:a", 2)]) != []
    assert check_fences(AGENT, [("1:a", 5), ("1:a", 4)]) != []
