"""State from a log: one path, whether it starts from a snapshot or from nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from duramen.actors import AgentSystem, Append, Settings
from duramen.events import AgentNotFound, CorruptEvent, Limits, MemoryLog
from duramen.events.codec.event_codec import DIGEST_SIZE, Codec, RawEvent, chain
from duramen.events.codec.snapshot import SnapshotRecord, pack_snapshot, unpack_snapshot
from duramen.events.model.values import same_value
from duramen.events.model.vocabulary import OWN_TYPES
from duramen.projections import AgentState, WorkingMemory, fold
from duramen.projections.recovery import AgentLog, CustomFold, FoldOf, Rebuilt, rebuild

PATH = "p/a"
LIMITS = Limits()
EVENTS = 12


def plain(state: AgentState) -> dict[str, Any]:
    return {name: int(value) if name == "granularity" else value for name, value in state.dump().items()}


def same(one: Rebuilt, other: Rebuilt) -> bool:
    return same_value(plain(one.state), plain(other.state)) and same_value(one.custom, other.custom)


@pytest.fixture
def log() -> MemoryLog:
    """An agent with 12 events: spawned, and numbers appended."""
    found = MemoryLog()
    written(found, every=1_000)
    return found


@pytest.fixture
def snapped() -> MemoryLog:
    """The same, with a snapshot at 10."""
    found = MemoryLog()
    written(found, every=10)
    return found


def written(log: MemoryLog, every: int) -> None:
    with AgentSystem.open(log=log, settings=Settings(snapshot_every=every)) as system:
        agent = system.spawn(PATH, session_id="s", agent_type="t")
        for number in range(EVENTS - 1):
            agent.ask(Append("l", number))


def state_of(log: MemoryLog, **options: Any) -> Rebuilt:
    return rebuild(AgentLog(log, PATH, LIMITS), **options)


def record_of(log: MemoryLog) -> SnapshotRecord:
    stored = log.load([log.snapshot_key(PATH)])[0]
    assert stored is not None
    return unpack_snapshot(stored, PATH, Codec(LIMITS), LIMITS)


def plant(log: MemoryLog, record: SnapshotRecord | bytes) -> None:
    """Put a snapshot behind the log's back."""
    stored = record if isinstance(record, bytes) else pack_snapshot(record, Codec(LIMITS), LIMITS)
    log._storage.values[log.snapshot_key(PATH)] = (stored, float("inf"))


def poisoned(record: SnapshotRecord, **fields: Any) -> SnapshotRecord:
    """A snapshot that would be noticed if it were believed."""
    agent = {**record.state["agent"], "memory": {"poison": True}, **fields}
    return evolve(record, state={**record.state, "agent": agent, "custom": "poison"})


def items(log: MemoryLog) -> list[bytes]:
    return log._storage.logs[log.log_key(PATH)]


# -- from nothing, from a snapshot -------------------------------------------------------------------------------------


def test_without_a_snapshot_it_starts_from_nothing(log: MemoryLog) -> None:
    found = state_of(log)
    assert (found.state.seq, found.snapshot_seq, found.custom) == (EVENTS, 0, None)
    assert found.state.memory == {"l": list(range(EVENTS - 1))}


def test_with_a_snapshot_it_ends_the_same(log: MemoryLog, snapped: MemoryLog) -> None:
    quick, full = state_of(snapped), state_of(snapped, use_snapshot=False)
    assert (quick.snapshot_seq, full.snapshot_seq) == (10, 0)
    assert same(quick, full)


def test_what_comes_out_is_the_fold_of_the_projection(snapped: MemoryLog) -> None:
    with AgentSystem.open(log=snapped) as system:
        state = fold(WorkingMemory(), system.events(PATH))
    for use_snapshot in (True, False):
        assert same_value(plain(state), plain(state_of(snapped, use_snapshot=use_snapshot).state))


def test_two_states_of_one_log_share_nothing(snapped: MemoryLog) -> None:
    one, other = state_of(snapped), state_of(snapped)
    one.state.memory["l"].append("x")
    one.state.checkpoints["c"] = [1]
    assert same(other, state_of(snapped))


@pytest.mark.parametrize("to_seq", range(EVENTS + 1))
def test_every_seq_has_its_state(snapped: MemoryLog, to_seq: int) -> None:
    quick, full = state_of(snapped, to_seq=to_seq), state_of(snapped, to_seq=to_seq, use_snapshot=False)
    assert same(quick, full)
    assert quick.state.seq == to_seq
    assert quick.snapshot_seq == (10 if to_seq >= 10 else 0)  # never a snapshot from the future
    assert quick.state.memory.get("l", []) == list(range(max(0, to_seq - 1)))


def test_a_seq_past_the_head_gives_the_head(snapped: MemoryLog) -> None:
    assert same(state_of(snapped, to_seq=1_000), state_of(snapped))


def test_an_agent_that_never_was_is_not_found(log: MemoryLog) -> None:
    for use_snapshot in (True, False):
        with pytest.raises(AgentNotFound) as caught:
            rebuild(AgentLog(log, "p/nobody", LIMITS), use_snapshot=use_snapshot)
        assert caught.value.agent == "p/nobody"


def test_a_log_that_grows_meanwhile_is_read_to_where_it_stood() -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log) as system:
        agent = system.spawn(PATH)
        for number in range(20):
            agent.append("l", number)

        class Growing(MemoryLog):
            """The same log, to which somebody appends at each page that is read."""

            def __getattribute__(self, name: str) -> Any:
                if name == "read":
                    agent.append("l", "later")
                return getattr(log, name)

        found = rebuild(AgentLog(Growing(), PATH, LIMITS))
    assert found.state.seq < 30
    assert found.state.memory["l"][:20] == list(range(20))


# -- snapshots that are not believed -----------------------------------------------------------------------------------


def test_a_snapshot_that_fits_is_believed(snapped: MemoryLog) -> None:
    """The control for what follows: the poison would be seen."""
    plant(snapped, poisoned(record_of(snapped)))
    assert state_of(snapped).state.memory == {"poison": True, "l": [9, 10]}
    assert state_of(snapped, use_snapshot=False).state.memory == {"l": list(range(EVENTS - 1))}


REASONS: dict[str, Callable[[SnapshotRecord], SnapshotRecord | bytes]] = {
    "older schema": lambda record: evolve(poisoned(record), schema="state-0"),
    "no schema": lambda record: evolve(poisoned(record), schema=""),
    "another agent": lambda record: evolve(poisoned(record), agent="p/b"),
    "another digest": lambda record: evolve(poisoned(record), digest=b"x" * DIGEST_SIZE),
    "digest of another seq": lambda record: evolve(poisoned(record), seq=9),
    "past the head": lambda record: evolve(poisoned(record), seq=13),
    "far past the head": lambda record: evolve(poisoned(record), seq=2**62),
    "nothing": lambda record: b"",
    "garbage": lambda record: b"\xc1" * 100,
    "cut": lambda record: pack_snapshot(poisoned(record), Codec(LIMITS), LIMITS)[:-1],
    "no agent state": lambda record: evolve(record, state={}),
    "agent state is a list": lambda record: evolve(record, state={**record.state, "agent": []}),
    "a field too many": lambda record: poisoned(record, surprise=1),
    "a field of no type": lambda record: poisoned(record, memory=None),
    "state at another seq": lambda record: poisoned(record, seq=7),
    "state with another digest": lambda record: poisoned(record, digest=b"x" * DIGEST_SIZE),
    "no custom state": lambda record: evolve(record, state={"agent": poisoned(record).state["agent"]}),
}


@pytest.mark.parametrize(
    ("reason", "with_fold"),
    [*((reason, True) for reason in REASONS), *((reason, False) for reason in REASONS if "custom" not in reason)],
)
def test_a_snapshot_that_does_not_fit_is_ignored_and_all_is_replayed(
    snapped: MemoryLog, reason: str, with_fold: bool
) -> None:
    options: dict[str, Any] = {"fold_of": counting("Agent/1")} if with_fold else {}
    full = state_of(snapped, use_snapshot=False, **options)
    plant(snapped, REASONS[reason](record_of(snapped)))
    found = state_of(snapped, **options)
    assert found.snapshot_seq == 0
    assert same(found, full)


# -- logs that are not believed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 5, 10, 11])
@pytest.mark.parametrize("place", [0, DIGEST_SIZE, -1])
def test_a_changed_byte_is_found_where_it_is(log: MemoryLog, position: int, place: int) -> None:
    item = bytearray(items(log)[position])
    item[place] ^= 1
    items(log)[position] = bytes(item)
    with pytest.raises(CorruptEvent) as caught:
        state_of(log)
    assert (caught.value.agent, caught.value.seq) == (PATH, position + 1)
    assert state_of(log, to_seq=position).state.seq == position


def test_events_that_changed_places_are_found(log: MemoryLog) -> None:
    items(log)[4:6] = reversed(items(log)[4:6])
    with pytest.raises(CorruptEvent) as caught:
        state_of(log)
    assert caught.value.seq == 5


def forge(log: MemoryLog, **changed: Any) -> None:
    """Put one more event at the end: its digest is right, what it says is not."""
    codec = Codec(LIMITS)
    last = items(log)[-1]
    raw = codec.decode(last[DIGEST_SIZE:])
    for name, value in changed.items():
        raw[["type", "version", "level", "time", "data"].index(name)] = value
    body = codec.pack(raw)
    items(log).append(chain(last[:DIGEST_SIZE], body) + body)
    head = log._storage.parts[log.partition_of(PATH)].heads[PATH]
    log._storage.parts[log.partition_of(PATH)].heads[PATH] = evolve(head, seq=head.seq + 1, digest=items(log)[-1][:16])


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("memory_deleted", {"path": "nowhere"}),
        ("memory_set", {"path": "l/99", "value": 1}),
        ("memory_set", {"path": "a//b", "value": 1}),
        ("memory_set", {"value": 1}),
        ("memory_set", {}),
        ("memory_set", {"path": 7, "value": 1}),
        ("memory_appended", {"path": "l", "values": None}),
        ("memory_restored", {"ops": [["fly", ["a"]]]}),
        ("memory_restored", {"ops": 7}),
        ("spawned", {}),
        ("paused", {"checkpoint_id": "x"}),
        ("terminated", {}),
        ("granularity_set", {"level": 1, "levels": None}),
    ],
)
def test_an_event_that_does_not_fit_is_corrupt_and_says_which(log: MemoryLog, kind: str, data: dict[str, Any]) -> None:
    forge(log, type=kind, data=data)
    with pytest.raises(CorruptEvent) as caught:
        state_of(log)
    assert (caught.value.agent, caught.value.seq) == (PATH, EVENTS + 1)
    assert state_of(log, to_seq=EVENTS).state.seq == EVENTS


def test_a_type_that_is_not_ours_is_passed_over(log: MemoryLog) -> None:
    before = state_of(log).state
    forge(log, type="claim_found", data={"path": "l", "value": 1})
    after = state_of(log).state
    assert (after.seq, after.memory) == (before.seq + 1, before.memory)


# -- custom folds ------------------------------------------------------------------------------------------------------


def counting(version: str) -> FoldOf:
    """Counts the events that are not ours, and says of which type the agent is."""

    def of(agent_type: str | None) -> CustomFold:
        def apply(state: Any, raw: RawEvent) -> Any:
            assert raw[0] not in OWN_TYPES
            return {**state, "count": state["count"] + 1}

        return CustomFold(version, lambda: {"type": agent_type, "count": 0}, apply)

    return of


def test_a_custom_fold_sees_the_users_events_only(log: MemoryLog) -> None:
    assert state_of(log, fold_of=counting("1")).custom == {"type": "t", "count": 0}
    forge(log, type="claim_found", data={})
    forge(log, type="claim_found", data={})
    assert state_of(log, fold_of=counting("1")).custom == {"type": "t", "count": 2}
    assert state_of(log).custom is None


def test_an_agent_type_without_a_fold_has_no_custom_state(log: MemoryLog) -> None:
    forge(log, type="claim_found", data={})
    assert state_of(log, fold_of=lambda agent_type: None).custom is None


def test_a_snapshot_of_another_fold_is_ignored(snapped: MemoryLog) -> None:
    record = record_of(snapped)
    plant(snapped, evolve(poisoned(record), state={**poisoned(record).state, "custom_version": "Counter/1"}))
    assert state_of(snapped, fold_of=counting("Counter/1")).custom == "poison"  # the control
    for version in ("Counter/2", "Other/1", ""):
        found = state_of(snapped, fold_of=counting(version))
        assert (found.snapshot_seq, found.custom) == (0, {"type": "t", "count": 0})


def test_a_snapshot_whose_form_has_the_name_of_a_class_is_read_by_that_class_only(snapped: MemoryLog) -> None:
    record = record_of(snapped)
    plant(snapped, evolve(poisoned(record), state={**poisoned(record).state, "custom_version": "Counter/1"}))

    def custom_of(former_version: str) -> Any:
        fold = counting("1")("t")
        assert fold is not None
        return state_of(snapped, fold_of=lambda _: evolve(fold, former_version=former_version)).custom

    assert custom_of("Counter/1") == "poison"
    assert custom_of("Other/1") == {"type": "t", "count": 0}


def test_a_custom_fold_starts_anew_with_each_session() -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log) as system:
        system.spawn(PATH, agent_type="one").terminate()
        system.spawn(PATH, agent_type="two")
    forge_after_spawn = state_of(log, fold_of=counting("1"))
    assert forge_after_spawn.custom == {"type": "two", "count": 0}
    assert state_of(log, fold_of=counting("1"), to_seq=1).custom == {"type": "one", "count": 0}
