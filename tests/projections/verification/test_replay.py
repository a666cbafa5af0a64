"""Recorded logs are folded as they were; a difference is found, made short, and written as a test."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors import AgentSystem, Settings
from duramen.events import AgentNotFound, Event, EventRegistry, InvalidMessage, Limits, MemoryLog, event_type, upcaster
from duramen.events.codec.event_codec import Codec
from duramen.projections import Projection
from duramen.projections.recorded import (
    RecordedLog,
    StoredLog,
    as_test,
    check_replay,
    load_log,
    log_of,
    part_of,
    record_log,
    recorded,
    recorded_in,
    same,
    save_log,
    shrink_items,
    smaller,
    view_after,
)
from duramen.projections.recorded.as_code import items_of
from duramen.projections.recorded.sealing import read_items, read_raws, store_items, strip_digests
from duramen.projections.state.event_types import advance
from duramen.projections.verification import stored_logs

REGISTRY = EventRegistry()
WRITER = Codec(Limits())


@event_type("claim", version=2, registry=REGISTRY)
@frozen
class Claim:
    text: str
    source: str


@upcaster("claim", from_version=1, registry=REGISTRY)
def with_a_source(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "source": "unknown"}


class Counts(Projection[Mapping[str, int]]):
    def initial(self) -> Mapping[str, int]:
        return {}

    def apply(self, state: Mapping[str, int], event: Event) -> Mapping[str, int]:
        return {**state, event.type: state.get(event.type, 0) + 1}


ROWS: list[Any] = [
    ("spawned", {"memory": {"goal": "why"}}),
    ("memory_set", {"path": "plan", "value": []}),
    ("claim", {"text": "it rains"}, {"version": 1}),
    ("memory_set", {"path": "other", "value": 1}),
    ("memory_appended", {"path": "plan", "values": ["read"]}),
    ("activity_recorded", {"kind": "note", "data": "x"}),
    ("memory_set", {"path": "other", "value": 2}),
    ("memory_deleted", {"path": "goal"}),
]


@pytest.fixture
def log() -> RecordedLog:
    return recorded(StoredLog(tuple(items_of(ROWS)), registry=REGISTRY), {"Counts": Counts()})


def twice(state: Any, event: list[Any], *others: Any) -> None:
    """`advance` with a fault: everything is appended twice."""
    if event[0] == "memory_appended":
        event = [*event[:4], {**event[4], "values": event[4]["values"] * 2}, *event[5:]]
    advance(state, event, *others)


def plant(patch: pytest.MonkeyPatch) -> None:
    for user in ("recorded.replay_check", "state.working_memory"):
        patch.setattr(f"duramen.projections.{user}.advance", twice)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Today's code, which appends twice."""
    plant(monkeypatch)
    return monkeypatch


# -- files -------------------------------------------------------------------------------------------------------------


@given(found=stored_logs(REGISTRY))
def test_a_recorded_log_comes_back_from_its_file_and_is_folded_as_it_was(found: StoredLog) -> None:
    before = recorded(found, {"Counts": Counts()})
    with tempfile.TemporaryDirectory() as folder:
        save_log(before, Path(folder, "log.jsonl"))
        after = load_log(Path(folder, "log.jsonl"))
    assert after.items == list(found.items)
    assert same(after.changes, before.changes)
    assert check_replay(after, registry=REGISTRY, projections={"Counts": Counts()}).ok


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "no", '{"kind": "x", "format": 1}', '{"kind": "duramen recorded log", "format": 1}\n{"item": 1}'],
)
def test_a_file_that_is_no_recorded_log_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(text)
    with pytest.raises(InvalidMessage, match=r"log\.jsonl"):
        load_log(file)


def test_a_file_of_another_format_is_refused(log: RecordedLog, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    save_log(log, file)
    header, *lines = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(header), "format": 2}), *lines]))
    with pytest.raises(InvalidMessage, match="another format"):
        load_log(file)


# -- differences -------------------------------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_has_changed(log: RecordedLog) -> None:
    seen: list[int] = []
    report = check_replay(log, registry=REGISTRY, projections={"Counts": Counts()}, progress=seen.append)
    assert (report.ok, report.events, seen) == (True, len(ROWS), [])


def test_progress_is_told(log: RecordedLog) -> None:
    many = items_of([ROWS[0], *[("memory_set", {"path": "a", "value": 1})] * 20_000])
    seen: list[int] = []
    assert check_replay(RecordedLog("project/agent", many), progress=seen.append).ok
    assert seen == [10_000, 20_000]


@pytest.mark.parametrize("seq", [1, 4, 8])
def test_a_changed_event_is_found_where_it_is(log: RecordedLog, seq: int) -> None:
    items = list(log.items)
    items[seq - 1] = items[seq - 1][:-1] + bytes([items[seq - 1][-1] ^ 1])
    (found,) = check_replay(evolve(log, items=items), registry=REGISTRY).differences
    assert (found.kind, found.seq, found.log) == ("error", seq, None)
    assert "CorruptEvent" in found.actual
    assert "pytest.fail(" in as_test(smaller(found))


def test_a_fault_of_todays_fold_is_found_and_made_short(log: RecordedLog, faulty: pytest.MonkeyPatch) -> None:
    (found,) = check_replay(log, registry=REGISTRY).differences
    assert (found.kind, found.seq, found.names) == ("state", 5, ("memory/plan",))
    short = smaller(found)
    assert short.log is not None
    assert [raw[0] for raw in short.log.raws()] == ["memory_appended"]
    assert (short.expected, short.actual) == ("{'memory/plan': ['read']}", "{'memory/plan': ['read', 'read']}")


def test_what_is_written_fails_as_long_as_the_fault_lasts(
    log: RecordedLog, faulty: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (found,) = check_replay(log, registry=REGISTRY).differences
    written = run_test(as_test(smaller(found)))
    with pytest.raises(AssertionError):
        written()
    faulty.undo()
    written()


def run_test(text: str) -> Any:
    names: dict[str, Any] = {}
    exec(compile(text, "written", "exec"), names)
    return names["test_a_recorded_log_is_folded_as_it_was"]


def test_from_a_snapshot_only_what_the_differing_items_come_from_is_kept(faulty: pytest.MonkeyPatch) -> None:
    faulty.undo()
    log = MemoryLog()
    with AgentSystem.open(log=log, settings=Settings(snapshot_every=10)) as system:
        agent = system.spawn("p/a")
        for number in range(6):
            agent.set("other", number)
            agent.append("plan", number)
    found = recorded_in(log, "p/a")
    assert check_replay(found).ok
    (seq,) = found.states
    plant(faulty)
    (difference,) = check_replay(found).differences
    assert (difference.kind, difference.seq, difference.names) == ("state", seq, ("memory/plan",))
    short = smaller(difference)
    assert short.log is not None
    assert {raw[0] for raw in short.log.raws()} == {"spawned", "memory_appended"}
    written = run_test(as_test(short))
    with pytest.raises(AssertionError):
        written()
    faulty.undo()
    written()


def test_an_event_that_todays_code_cannot_read_is_made_short(log: RecordedLog, tmp_path: Path) -> None:
    newer = EventRegistry()
    newer.register(Claim, "claim", version=3)
    (found,) = check_replay(log, registry=newer).differences
    assert (found.kind, found.seq) == ("error", 3)
    short = smaller(found)
    assert short.log is not None
    assert [raw[0] for raw in short.log.raws()] == ["claim"]
    assert "no upcaster from version 1" in short.actual
    assert f"import {Claim.__module__}  # declares claim" in as_test(short)


def test_an_event_that_does_not_fit_is_made_short(log: RecordedLog) -> None:
    bodies = strip_digests(log.items)
    items = items_of([*ROWS, ("memory_deleted", {"path": "gone"})])
    (found,) = check_replay(RecordedLog(log.agent, items), registry=REGISTRY).differences
    assert (found.kind, found.seq) == ("error", len(bodies) + 1)
    short = smaller(found)
    assert short.log is not None
    assert [raw[0] for raw in short.log.raws()] == ["memory_deleted"]
    with pytest.raises(Exception, match="nothing is at 'gone'"):
        run_test(as_test(short))()


def test_a_view_that_has_changed_is_found_and_one_that_was_not_recorded(log: RecordedLog) -> None:
    class Doubles(Counts):
        def apply(self, state: Mapping[str, int], event: Event) -> Mapping[str, int]:
            return {**state, event.type: state.get(event.type, 0) + 2}

    class Raises(Counts):
        def apply(self, state: Mapping[str, int], event: Event) -> Mapping[str, int]:
            raise LookupError("no")

    projections = {"Counts": Doubles(), "Other": Counts()}
    report = check_replay(log, registry=REGISTRY, projections=projections)
    assert [(found.kind, found.name) for found in report.differences] == [("view", "Counts"), ("view", "Other")]
    assert smaller(report.differences[0]) == report.differences[0]
    (found,) = check_replay(log, registry=REGISTRY, projections={"Counts": Raises()}).differences
    assert found.actual == "LookupError: no"


def test_types_that_are_not_registered_are_not_looked_into(log: RecordedLog) -> None:
    assert check_replay(log, registry=EventRegistry()).ok


# -- shrinking ---------------------------------------------------------------------------------------------------------


@given(many=st.integers(1, 60), wanted=st.sets(st.integers(0, 59), min_size=1, max_size=4))
def test_a_log_shrinks_to_the_events_that_matter(many: int, wanted: set[int]) -> None:
    wanted = {number % many for number in wanted}
    items = items_of([("memory_set", {"path": "a", "value": number}) for number in range(many)])

    def differs(found: list[bytes]) -> bool:
        return wanted <= {raw[4]["value"] for _, raw, _ in read_raws("p/a", found, WRITER)}

    short = shrink_items(items, differs)
    assert [raw[4]["value"] for _, raw, _ in read_raws("p/a", short, WRITER)] == sorted(wanted)


def test_shrinking_ends_also_where_it_takes_too_long() -> None:
    items = items_of([("memory_set", {"path": "a", "value": number}) for number in range(50)])
    asked: list[int] = []
    short = shrink_items(items, lambda found: bool(asked.append(len(found))) or len(found) > 40, most_tries=7)
    assert len(asked) == 7
    assert 40 < len(short) <= 50


def test_a_log_of_one_event_stays() -> None:
    items = items_of(ROWS[:1])
    assert shrink_items(items, lambda _: True) == items


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_recording_an_agent_that_is_not_there_is_refused() -> None:
    with pytest.raises(AgentNotFound):
        record_log(MemoryLog(), "p/a")


def test_items_are_stored_and_read_as_they_are() -> None:
    items, log = items_of([ROWS[0], *[("memory_set", {"path": "a", "value": 1})] * 1_200]), MemoryLog()
    store_items(log, "p/a", items)
    assert list(read_items(log, "p/a")) == items
    with pytest.raises(AgentNotFound):
        list(read_items(log, "p/b"))


def test_a_view_is_what_the_projection_says() -> None:
    events = log_of(*ROWS, registry=REGISTRY)
    view = view_after(events)
    assert view["memory"] == {"plan": ["read"], "other": 2}
    assert part_of(view, ["status", "memory/plan", "memory/gone"]) == {"status": "running", "memory/plan": ["read"]}


def test_a_log_that_was_trimmed_or_forked_is_checked_from_its_base(faulty: pytest.MonkeyPatch) -> None:
    faulty.undo()
    log = MemoryLog()
    with AgentSystem.open(log=log, settings=Settings(snapshot_every=4)) as system:
        agent = system.spawn("p/a", initial_state={"plan": ["begin"]})
        agent.set("other", 1)
        fork = system.fork("p/a", to="p/b")
        for number in range(4):
            fork.append("plan", number)
    found = recorded_in(log, "p/b")
    assert found.base is not None
    assert check_replay(found).ok
    with pytest.raises(InvalidMessage, match="only whole logs"):
        save_log(found, "never")
    plant(faulty)
    (difference,) = check_replay(found).differences
    short = smaller(difference)
    assert short.log is not None
    assert short.log.raws()[0][0] == "spawned"
    assert short.names == ("memory/plan",)
    written = run_test(as_test(short))
    with pytest.raises(AssertionError):
        written()
    faulty.undo()
    written()
    with pytest.raises(AgentNotFound):
        recorded_in(log, "p/c")
