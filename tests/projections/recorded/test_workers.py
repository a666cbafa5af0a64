"""Several processes fold recorded logs, and say what one does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import AgentSystem
from duramen.events import AgentNotFound, EventRegistry, Limits, MemoryLog, Unavailable, event_type
from duramen.events.codec.event_codec import DIGEST_SIZE, Codec
from duramen.events.codec.snapshot import SnapshotRecord, pack_snapshot
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Put
from duramen.projections.recorded import ReplayReport, check_logs, record_log, save_log, sound_logs
from duramen.projections.recorded import segments as pieces
from duramen.projections.recorded.as_code import Row, items_of
from duramen.projections.recorded.sealing import chain_bodies, store_items, strip_digests
from duramen.projections.recorded.segments import log_segments
from duramen.projections.recorded.workers import pool as crew
from duramen.projections.recorded.workers.client import WorkerClient
from duramen.projections.recovery.agent_log import AgentLog
from duramen.projections.recovery.keyframes import EVERY, keep_keyframes
from duramen.projections.state.agent_state import SCHEMA
from following import OpenSystem
from servers import redis_server
from waiting import process_ends

LONG, SHORT = "p/long", ("p/a", "p/b", "p/c")
pytestmark = pytest.mark.slow  # each test starts helper processes

MANY = 5 * EVERY
LIMITS = Limits()


@pytest.fixture(autouse=True)
def helpers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[WorkerClient]]:
    """The processes that were started, which are for small logs too; all of them are gone after the test."""
    started: list[WorkerClient] = []

    class Noted(WorkerClient):
        def __init__(self, setup: Any) -> None:
            super().__init__(setup)
            started.append(self)

    monkeypatch.setattr(crew, "WorkerClient", Noted)
    monkeypatch.setattr(crew, "EVENTS_EACH", 1)
    monkeypatch.setattr(crew, "DECLARED", EventRegistry())  # other tests' types need not be known
    monkeypatch.setattr(pieces, "APART", EVERY)
    yield started
    assert all(process_ends(helper.pid, 30.0) for helper in started)


def rows(count: int) -> list[Row]:
    """A session of so many events, with pauses on the way."""
    found: list[Row] = [("spawned", {"memory": {"plan": []}})]
    while len(found) < count:
        seq = len(found) + 1
        if seq % 700 == 0:
            found.append(("paused", {"checkpoint_id": f"c-{seq}"}))
        elif seq % 700 == 1:
            found.append(("resumed", {"checkpoint_id": f"c-{seq - 1}"}))
        elif seq % 50 == 0:
            found.append(("memory_appended", {"path": "plan", "values": [seq]}))
        else:
            found.append(("memory_set", {"path": f"note-{seq % 7}", "value": seq}))
    return found


ITEMS = items_of(rows(MANY))


def store(log: EventLog, agent: str, items: list[bytes]) -> None:
    store_items(log, agent, items)
    list(keep_keyframes(AgentLog(log, agent, LIMITS), None))


@pytest.fixture
def log(open_any: OpenSystem) -> EventLog:
    """A long log with keyframes, and some short ones."""
    found = open_any().log
    store(found, LONG, ITEMS)
    for agent in SHORT:
        store(found, agent, ITEMS[:40])
    return found


AGENTS = (LONG, *SHORT)
SOUND = {LONG: MANY, **dict.fromkeys(SHORT, 40)}


def both(log: EventLog, agents: tuple[str, ...] = AGENTS) -> list[ReplayReport]:
    """What one process and several say, which is the same."""
    alone, together = check_logs(log, agents, workers=1), check_logs(log, agents, workers=3)
    assert alone == together
    return together


# -- sound logs --------------------------------------------------------------------------------------------------------


def test_sound_logs_are_found_sound_by_other_processes(log: EventLog, helpers: list[WorkerClient]) -> None:
    assert [piece.after for piece in log_segments(log, LONG, LIMITS)] == [0, 1000, 2000, 3000, 4000]
    seen: list[tuple[int, str]] = []
    found = sound_logs(log, AGENTS, workers=3, progress=lambda events, name: seen.append((events, name)))
    assert found == SOUND
    assert len(helpers) == 3
    assert max(seen)[0] == sum(SOUND.values())
    assert {name for _, name in seen} == set(AGENTS)
    assert both(log) == [ReplayReport(agent, SOUND[agent]) for agent in AGENTS]


def test_one_worker_and_few_events_start_no_process(
    log: EventLog, helpers: list[WorkerClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sound_logs(log, AGENTS, workers=1) == {}
    monkeypatch.setattr(crew, "EVENTS_EACH", MANY)
    assert sound_logs(log, AGENTS, workers=8) == {}
    assert not helpers


def test_logs_in_files_are_folded_there(log: EventLog, tmp_path: Path) -> None:
    sound, other = tmp_path / "sound.jsonl", tmp_path / "other.jsonl"
    save_log(record_log(log, "p/a"), sound)
    other.write_text("{}")
    assert sound_logs(None, (), (str(sound), str(other), "no such file"), workers=2) == {str(sound): 40}


def test_logs_that_were_trimmed_or_forked_are_folded_from_their_base(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn("p/trimmed")
    for number in range(60):
        agent.set("n", number)
    system.fork("p/trimmed", 30, to="p/fork").set("n", "other")
    system.trim("p/trimmed", keep_events=41)
    found = sound_logs(system.log, ("p/trimmed", "p/fork"), workers=2)
    assert found == {"p/trimmed": 41, "p/fork": 2}
    both(system.log, ("p/trimmed", "p/fork"))


# -- planted differences -----------------------------------------------------------------------------------------------


def altered(items: list[bytes]) -> list[bytes]:
    item = items[3_499]
    return [*items[:3_499], item[:-1] + bytes([item[-1] ^ 1]), *items[3_500:]]


def missing(items: list[bytes]) -> list[bytes]:
    return [*items[:2_499], *items[2_500:]]


def unfit(items: list[bytes]) -> list[bytes]:
    bodies, (_, gone) = strip_digests(items), items_of([*rows(1), ("memory_deleted", {"path": "gone"})])
    return chain_bodies([*bodies[:4_199], gone[DIGEST_SIZE:], *bodies[4_199:]])


@pytest.mark.parametrize(("fault", "seq"), [(altered, 3_500), (missing, 2_500), (unfit, 4_200)])
def test_a_wrong_event_is_told_as_one_process_tells_it(
    open_any: OpenSystem, fault: Callable[[list[bytes]], list[bytes]], seq: int
) -> None:
    log = open_any().log
    store_items(log, LONG, ITEMS)
    kept = MemoryLog()
    store(kept, LONG, ITEMS)
    wrong = "p/wrong"
    store_items(log, wrong, fault(ITEMS))
    for frame in kept.archive.keyframes(LONG):
        stored = kept.archive.keyframe(LONG, frame)
        assert stored is not None
        log.archive.keep_keyframe(wrong, frame, of_agent(stored, LONG, wrong))
    assert sound_logs(log, (LONG, wrong), workers=3) == {LONG: MANY}
    sound, found = both(log, (LONG, wrong))
    assert sound.ok
    assert [(one.kind, one.seq) for one in found.differences] == [("error", seq)]


def of_agent(stored: bytes, agent: str, other: str, **changed: Any) -> bytes:
    """A snapshot, as one of another agent, with other fields in its state."""
    codec = Codec(LIMITS)
    _, _, seq, digest, time, schema, fields = codec.unpack(stored[DIGEST_SIZE:])
    state = {"agent": {**fields["agent"], **changed}, "custom": None, "custom_version": ""}
    return pack_snapshot(SnapshotRecord(other, seq, digest, time, schema, state), codec, LIMITS)


def keyframe(log: EventLog, seq: int) -> bytes:
    stored = log.archive.keyframe(LONG, seq)
    assert stored is not None
    return stored


def test_a_keyframe_with_another_state_is_told(log: EventLog) -> None:
    wrong = of_agent(keyframe(log, 3_000), LONG, LONG, memory={"plan": "other"})
    log.archive.keep_keyframe(LONG, 3_000, wrong)
    assert sound_logs(log, AGENTS, workers=3) == dict.fromkeys(SHORT, 40)
    report, *_ = both(log)
    assert [(one.kind, one.seq) for one in report.differences] == [("state", 3_000)]
    assert "memory/plan" in report.differences[0].names


def test_a_snapshot_with_another_state_is_told(log: EventLog) -> None:
    wrong = of_agent(keyframe(log, 3_000), LONG, LONG, memory={"plan": "other"})
    log.archive.put([Put(log.snapshot_key(LONG), wrong)])
    assert [piece.after for piece in log_segments(log, LONG, LIMITS)] == [0, 1_000, 2_000, 3_000]
    report, *_ = both(log)
    assert [(one.kind, one.seq) for one in report.differences] == [("state", 3_000)]


@pytest.mark.parametrize("change", ["damaged", "another form", "another history"])
def test_at_a_keyframe_that_nobody_uses_a_log_is_not_cut(log: EventLog, change: str) -> None:
    stored, codec = keyframe(log, 3_000), Codec(LIMITS)
    _, agent, seq, digest, time, _, fields = codec.unpack(stored[DIGEST_SIZE:])
    if change == "damaged":
        stored = stored[:-1] + bytes([stored[-1] ^ 1])
    elif change == "another form":
        stored = pack_snapshot(SnapshotRecord(agent, seq, digest, time, f"{SCHEMA}x", fields), codec, LIMITS)
    else:
        fields["agent"]["digest"] = bytes(DIGEST_SIZE)
        record = SnapshotRecord(agent, seq, bytes(DIGEST_SIZE), time, SCHEMA, fields)
        stored = pack_snapshot(record, codec, LIMITS)
    log.archive.keep_keyframe(LONG, 3_000, stored)
    assert [piece.after for piece in log_segments(log, LONG, LIMITS)] == [0, 1_000, 2_000, 4_000]
    assert sound_logs(log, AGENTS, workers=3) == SOUND
    both(log)


def test_an_agent_that_is_not_there_is_an_error(log: EventLog) -> None:
    for workers in (1, 3):
        with pytest.raises(AgentNotFound):
            check_logs(log, (LONG, "p/nobody"), workers=workers)


# -- keys and secrets --------------------------------------------------------------------------------------------------

KEY = b"a key of thirty-two bytes, or so"


@pytest.mark.parametrize("place", ["valkey_url", "redis_url"])
def test_a_log_with_a_key_is_checked_with_it_and_nobody_is_told_key_or_server(
    place: str, request: pytest.FixtureRequest, helpers: list[WorkerClient]
) -> None:
    url: str = request.getfixturevalue(place)
    with AgentSystem.open(url, namespace="keyed", integrity_key=KEY) as system:
        store(system.log, LONG, ITEMS)
        store_items(system.log, "p/wrong", ITEMS[:60])
        forged = MemoryLog()
        store_items(forged, "p/wrong", ITEMS[:60])
        assert len(list(log_segments(system.log, LONG, LIMITS))) == 5
        shown: list[bytes] = []

        def look(events: int, name: str) -> None:
            for helper in helpers:
                shown.extend(Path(f"/proc/{helper.pid}/{what}").read_bytes() for what in ("cmdline", "environ"))

        assert sound_logs(system.log, (LONG, "p/wrong"), workers=2, progress=look) == {LONG: MANY, "p/wrong": 60}
        assert any(b"recorded.workers.worker" in text for text in shown)
        text = b"\0".join(shown)
        assert KEY not in text
        assert KEY.hex().encode() not in text
        assert url.encode() not in text
        assert url.rpartition("/")[0].encode() not in text
        both(system.log, (LONG, "p/wrong"))


def test_helpers_get_the_environment_of_this_process_and_no_more(log: EventLog, helpers: list[WorkerClient]) -> None:
    seen: list[set[bytes]] = []

    def look(events: int, name: str) -> None:
        seen.append(set(Path(f"/proc/{helpers[0].pid}/environ").read_bytes().split(b"\0")))

    sound_logs(log, AGENTS, workers=2, progress=look)
    own = {os.fsencode(f"{name}={value}") for name, value in os.environ.items()}
    of_the_terminal = {text for text in seen[0] if text.startswith((b"COLUMNS=", b"LINES="))}
    assert seen[0] - of_the_terminal <= {*own, b""}


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_process_that_dies_leaves_its_work_to_this_one(log: EventLog, helpers: list[WorkerClient]) -> None:
    def kill(events: int, name: str) -> None:
        os.kill(helpers[0].pid, signal.SIGKILL)

    found = sound_logs(log, AGENTS, workers=2, progress=kill)
    assert found.items() <= SOUND.items()
    helpers.clear()
    reports = check_logs(log, AGENTS, workers=2, progress=kill)
    assert reports == [ReplayReport(agent, SOUND[agent]) for agent in AGENTS]


def test_where_all_processes_die_this_one_folds(log: EventLog, helpers: list[WorkerClient]) -> None:
    def kill(events: int, name: str) -> None:
        for helper in helpers:
            helper.kill()

    assert all(report.ok for report in check_logs(log, AGENTS, workers=3, progress=kill))


def test_what_progress_raises_ends_all(log: EventLog, helpers: list[WorkerClient]) -> None:
    def interrupt(events: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sound_logs(log, AGENTS, workers=3, progress=interrupt)
    assert all(process_ends(helper.pid, 0.0) for helper in helpers)


def test_a_lost_server_is_an_error() -> None:
    with redis_server() as server, AgentSystem.open(server.url) as system:
        store(system.log, LONG, ITEMS)

        def lose(events: int, name: str) -> None:
            if server.running:
                server.kill9()

        with pytest.raises(Unavailable):
            sound_logs(system.log, [LONG] * 50, workers=2, progress=lose)


def test_types_that_another_process_does_not_know_keep_the_work_here(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = EventRegistry()

    @event_type("noted", registry=registry)
    @frozen
    class Noted:
        n: int

    monkeypatch.setattr(crew, "DECLARED", registry)
    assert sound_logs(log, AGENTS, workers=2) == {}
    assert all(report.ok for report in check_logs(log, AGENTS, workers=2))


def test_a_module_that_cannot_be_imported_keeps_the_work_here(log: EventLog) -> None:
    assert sound_logs(log, AGENTS, workers=2, modules=["no_such_module_anywhere"]) == {}
