"""Any past: the state at every seq, forward and back, is the fold of the events up to it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from duramen.actors import Agent, AgentSystem, Settings
from duramen.events import (
    AgentNotFound,
    CheckpointNotFound,
    CorruptEvent,
    EventRegistry,
    InvalidMessage,
    Limits,
    MemoryLog,
    NotPermitted,
    PathNotFound,
    event_type,
)
from duramen.events.log.event_log import EventLog
from duramen.events.log.keys import Keys
from duramen.projections import MISSING, Replay
from duramen.projections.history.past_state import PastState
from duramen.projections.recovery import AgentLog, rebuild
from duramen.projections.recovery.keyframes import EVERY, KeyframeSchedule, keep_keyframes, snapshot_of
from duramen.projections.recovery.state_fold import StateFold
from duramen.projections.state import lookup
from duramen.projections.state.read_only import plain

PATH = "acme/alice"
LIMITS = Limits()
REGISTRY = EventRegistry()


def naive(events: list[Any]) -> list[dict[str, Any]]:
    """The memory after each event, for agents that set, append, delete and pause: nothing of the library is used."""
    import copy

    states: list[dict[str, Any]] = [{}]
    for event in events:
        memory: Any = copy.deepcopy(states[-1])
        if event.type == "spawned":
            memory.update(copy.deepcopy(event.data["memory"]))
        elif event.type == "memory_set":
            memory[event.data["path"]] = copy.deepcopy(event.data["value"])
        elif event.type == "memory_appended":
            memory.setdefault(event.data["path"], []).extend(copy.deepcopy(event.data["values"]))
        elif event.type == "memory_deleted":
            del memory[event.data["path"]]
        else:
            assert event.type in ("paused", "resumed", "activity_recorded"), event.type
        states.append(memory)
    return states


def live(system: AgentSystem, count: int, path: str = PATH) -> None:
    """About so many events of all kinds that `naive` knows."""
    agent, chance = system.spawn(path, initial_state={"goal": "x"}), random.Random(count)
    for number in range(count - 1):
        kind = chance.randrange(10)
        if kind == 0 and agent.get("l", None):
            agent.delete("l")
        elif kind == 1:
            agent.record("thought", {"n": number})
        elif kind == 2:
            agent.set(f"k{number % 7}", {"n": number, "deep": [{"a": [number]}]})
        else:
            agent.append("l", {"n": number})


@pytest.fixture(scope="module")
def system() -> Iterator[AgentSystem]:
    """An agent with 1,300 events; keyframes, snapshots and pages are all crossed."""
    with AgentSystem.open("memory://", settings=Settings(snapshot_every=300)) as found:
        live(found, 1_300)
        yield found


@pytest.fixture(scope="module")
def states(system: AgentSystem) -> list[dict[str, Any]]:
    return naive(list(system.events(PATH)))


# -- the state at a seq ------------------------------------------------------------------------------------------------


def test_the_state_at_every_seq_is_the_fold_of_the_events_up_to_it(
    system: AgentSystem, states: list[dict[str, Any]]
) -> None:
    for seq in [0, 1, *range(7, len(states), 61), len(states) - 1]:
        found = system.state_at(PATH, seq=seq)
        assert (found.seq, found.get()) == (seq, states[seq])


def test_without_a_moment_it_is_the_state_now(system: AgentSystem, states: list[dict[str, Any]]) -> None:
    assert system.state_at(PATH).get() == states[-1]
    assert system.state_at(PATH).digest == list(system.events(PATH))[-1].digest


@pytest.mark.parametrize("seq", [-1, 1_000_000, "nowhere", 2.5, True])
def test_a_moment_that_is_not_there_is_refused(system: AgentSystem, seq: Any) -> None:
    expected = CheckpointNotFound if seq == "nowhere" else InvalidMessage
    with pytest.raises(expected):
        system.state_at(PATH, seq=seq)


def test_an_agent_that_never_was_has_no_past(system: AgentSystem) -> None:
    for call in (system.state_at, system.replay, system.diff, system.blame, system.tree_at, system.verify):
        with pytest.raises(AgentNotFound):
            call("acme/nobody")
    with pytest.raises(AgentNotFound):
        list(system.history("acme/nobody", "x"))


def test_a_moment_is_named_in_one_way(system: AgentSystem) -> None:
    with pytest.raises(InvalidMessage):
        system.state_at(PATH, seq=1, time=datetime.now(UTC))
    with pytest.raises(InvalidMessage):
        system.state_at(PATH, time=datetime(2026, 1, 1))  # no time zone


def test_the_state_at_a_time_is_that_after_the_last_event_before_it(system: AgentSystem) -> None:
    events = list(system.events(PATH))
    for event in (events[0], events[500], events[-1]):
        found = system.state_at(PATH, time=event.time)
        following = events[found.seq].time if found.seq < len(events) else None
        assert events[found.seq - 1].time <= event.time
        assert following is None or following > event.time
    assert system.state_at(PATH, time=events[0].time - timedelta(seconds=1)).status == "absent"
    assert system.state_at(PATH, time=datetime.max.replace(tzinfo=UTC)).seq == len(events)


def test_the_state_at_a_checkpoint_is_that_of_its_pause() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"goal": "x"})
        agent.pause("lunch")
        agent.resume("lunch")
        agent.set("goal", "y")
        found = system.state_at(PATH, checkpoint="lunch")
        assert (found.status, found.paused_at, found.seq, found.get()) == ("paused", "lunch", 2, {"goal": "x"})
        with pytest.raises(CheckpointNotFound):
            system.state_at(PATH, checkpoint="dinner")


# -- nothing can be changed --------------------------------------------------------------------------------------------


def test_a_past_state_cannot_be_changed_at_any_depth() -> None:
    with AgentSystem.open("memory://") as system:
        system.spawn(PATH, initial_state={"a": {"b": [{"c": 1}]}}, metadata={"m": {"n": 1}})
        found: Any = system.state_at(PATH)
        for attempt in (
            lambda: found.memory.__setitem__("a", 1),
            lambda: found.memory["a"].pop("b"),
            lambda: found.memory["a"]["b"].append(1),
            lambda: found.memory["a"]["b"].__setitem__(0, 1),
            lambda: found.memory["a"]["b"][0].update(c=2),
            lambda: found.metadata["m"].clear(),
            lambda: setattr(found, "seq", 7),
            lambda: setattr(found, "memory", {}),
            lambda: hash(found),
            lambda: hash(found.memory),
        ):
            with pytest.raises((TypeError, AttributeError)):
                attempt()
        found.get()["a"]["b"].append("mine")  # a copy is the caller's
        plain(found.memory)["a"].clear()
        assert found.memory == {"a": {"b": [{"c": 1}]}}
        assert found == system.state_at(PATH)


def test_views_read_as_what_they_show() -> None:
    with AgentSystem.open("memory://") as system:
        system.spawn(PATH, initial_state={"l": [1, [2], {"x": None}], "d": {}})
        memory = system.state_at(PATH).memory
        assert list(memory) == ["l", "d"] and len(memory) == 2 and "l" in memory and memory.get("no") is None
        assert memory["l"] == [1, [2], {"x": None}] and memory["l"][1:] == [[2], {"x": None}]
        assert [2] in memory["l"] and memory["l"].index(1) == 0 and repr(memory["l"][1]) == "[2]"
        assert memory["d"] == {} and memory != {"l": []}
        found = system.state_at(PATH)
        assert found.get("l/2/x") is None and found.keys("l") == ["0", "1", "2"] and found.keys() == ["d", "l"]
        assert found.keys("l/0") == [] and found.get("no", 7) == 7
        with pytest.raises(PathNotFound):
            found.get("no")


# -- walking -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_forward_and_back_every_state_is_the_fold(system: AgentSystem, states: list[dict[str, Any]]) -> None:
    replay = system.replay(PATH)
    assert (replay.seq, replay.event, replay.state.status) == (0, None, "absent")
    for expected, (event, state) in enumerate(replay, 1):
        assert (event.seq, state.seq, state.memory) == (expected, expected, states[expected])
    assert replay.step() is None
    taken = replay.to_seq
    while (found := replay.back()) is not None:
        event, state = found
        assert (event.seq, state.seq, state.memory) == (taken, taken - 1, states[taken - 1])
        taken -= 1
    assert (taken, replay.seq) == (0, 0)


@pytest.mark.slow
def test_states_that_were_handed_out_stay_what_they_were(system: AgentSystem, states: list[dict[str, Any]]) -> None:
    kept = [state for _, state in system.replay(PATH)]
    for state in kept[::37]:
        assert state.memory == states[state.seq]
        assert state == system.state_at(PATH, seq=state.seq)


@pytest.mark.slow
@given(st.lists(st.one_of(st.just("+"), st.just("-"), st.integers(0, 1_300)), max_size=30))
def test_wherever_one_walks_the_state_is_that_of_the_seq(
    system: AgentSystem, states: list[dict[str, Any]], walk: list[Any]
) -> None:
    replay, at = system.replay(PATH), 0
    for move in walk:
        if move == "+":
            assert (replay.step() is None) == (at == len(states) - 1)
            at = min(at + 1, len(states) - 1)
        elif move == "-":
            assert (replay.back() is None) == (at == 0)
            at = max(at - 1, 0)
        else:
            at = min(move, len(states) - 1)
            replay.seek(at)
        assert (replay.seq, replay.state.memory) == (at, states[at])
        assert replay.event is None or replay.event.seq == at


def test_a_part_of_a_log_is_replayed_within_its_bounds(system: AgentSystem, states: list[dict[str, Any]]) -> None:
    replay = system.replay(PATH, 701, 720)
    assert replay.state.memory == states[700]
    assert [event.seq for event, _ in replay] == list(range(701, 721))
    for seq in (699, 721, 0, True):
        with pytest.raises(InvalidMessage):
            replay.seek(seq)
    assert replay.seek(time=datetime.max.replace(tzinfo=UTC)).seq == 720
    assert replay.seek(time=datetime.min.replace(tzinfo=UTC)).seq == 700
    with pytest.raises(InvalidMessage):
        replay.seek()
    for bounds in ((0, 5), (5, 3), (1, 100_000), (100_000, None)):
        with pytest.raises(InvalidMessage):
            system.replay(PATH, *bounds)


def test_what_is_appended_while_replaying_is_not_part_of_it() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH)
        replay = system.replay(PATH)
        agent.set("a", 1)
        assert [event.seq for event, _ in replay] == [1]


def test_what_is_at_hand_is_bounded(system: AgentSystem) -> None:
    replay: Any = system.replay(PATH)
    for _ in replay:
        assert len(replay._steps) <= 512
        assert len(replay._frames) <= 64
    while replay.back():
        assert len(replay._steps) <= 512
        assert len(replay._frames) <= 64


def test_changing_an_event_that_was_handed_out_changes_no_state(system: AgentSystem) -> None:
    replay = system.replay(PATH)
    for event, _ in replay:
        event.data.clear()
    assert replay.seek(0).seq == 0
    assert replay.seek(replay.to_seq).memory == system.state_at(PATH).memory


# -- the agent's own events --------------------------------------------------------------------------------------------


@event_type("counted", registry=REGISTRY)
@frozen
class Counted:
    by: int


class Counter(Agent):
    def initial(self) -> Any:
        return {"total": 0, "seen": []}

    def apply(self, state: Any, event: Any) -> Any:
        state["seen"].append(event.by)  # not pure, on purpose: states of the past must not be hurt by it
        return {"total": state["total"] + event.by, "seen": state["seen"]}

    def on_receive(self, message: Any) -> None:
        self.emit(Counted(message))


def test_the_custom_state_is_part_of_the_past_where_the_class_is_registered() -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log, agents={"counter": Counter}, registry=REGISTRY) as system:
        agent = system.spawn(PATH, agent_type="counter")
        for number in range(1, 5):
            agent.ask(number)
        expected = [None, {"total": 0, "seen": []}] + [
            {"total": sum(range(1, n + 1)), "seen": list(range(1, n + 1))} for n in range(1, 5)
        ]
        assert [plain(system.state_at(PATH, seq=seq).custom) for seq in range(6)] == expected
        walked = list(system.replay(PATH))
        assert [plain(state.custom) for _, state in walked] == expected[1:]
    with AgentSystem.open(log=log, registry=REGISTRY) as stranger:
        assert stranger.state_at(PATH).custom is None
        assert len(list(stranger.replay(PATH))) == 5


# -- damage ------------------------------------------------------------------------------------------------------------


def test_what_is_damaged_is_never_shown_as_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log) as system:
        live(system, 50)
        items = log._storage.logs[log.log_key(PATH)]
        items[19] = items[19][:-1] + bytes([items[19][-1] ^ 1])
        assert system.state_at(PATH, seq=19).seq == 19
        replay = system.replay(PATH)
        with pytest.raises(CorruptEvent) as caught:
            list(replay)
        assert (caught.value.seq, replay.seq) == (20, 19)
        for call in (lambda: system.state_at(PATH, seq=20), lambda: system.diff(PATH, 1, 50)):
            with pytest.raises(CorruptEvent):
                call()


# -- keyframes ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long() -> Iterator[tuple[MemoryLog, list[dict[str, Any]]]]:
    log = MemoryLog()
    with AgentSystem.open(log=log, settings=Settings(snapshot_every=10**9)) as system:
        agent = system.spawn(PATH)
        for number in range(5 * EVERY):
            agent.set(f"k{number % 5}", number)
        yield log, naive(list(system.events(PATH)))


def packed(log: EventLog, seq: int, **forged: Any) -> bytes:
    """A snapshot at a seq, with other items in its memory if so told."""
    folding = StateFold(PATH, LIMITS, None, rebuild(AgentLog(log, PATH, LIMITS), to_seq=seq))
    folding.state.memory.update(forged)
    stored = snapshot_of(AgentLog(log, PATH, LIMITS), folding)
    assert stored is not None
    return stored


def kept(log: MemoryLog) -> list[int]:
    return list(keep_keyframes(AgentLog(log, PATH, LIMITS, REGISTRY), None))


@pytest.mark.slow
def test_with_keyframes_any_seq_is_a_short_replay_away(
    long: tuple[MemoryLog, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, states = long
    for seq in log.archive.keyframes(PATH):
        log.archive.drop_keyframes(PATH, [seq])
    assert kept(log) == [EVERY, 2 * EVERY, 3 * EVERY, 4 * EVERY, 5 * EVERY]
    assert kept(log) == [], "they are there already"
    with AgentSystem.open(log=log) as system:
        pages: list[tuple[int, int | None]] = []
        real = log.pages

        def looked(agent: str, from_seq: int, to_seq: int | None) -> Any:
            pages.append((from_seq, to_seq))
            return real(agent, from_seq, to_seq)

        monkeypatch.setattr(log, "pages", looked)
        for seq in (1_500, 2_000, 3_999, 4_001, 5_001):
            pages.clear()
            assert system.state_at(PATH, seq=seq).memory == states[seq]
            assert all(from_seq > seq - EVERY for from_seq, _ in pages), pages


@pytest.mark.slow
def test_a_system_keeps_them_for_a_log_that_has_none(long: tuple[MemoryLog, list[dict[str, Any]]]) -> None:
    log, _ = long
    log.archive.drop_keyframes(PATH, log.archive.keyframes(PATH))
    with AgentSystem.open(log=log) as system:
        assert (system.keep_keyframes(PATH), system.keep_keyframes(PATH)) == (5, 0)
        system.agent(PATH).set("more", 1)
        assert system.keep_keyframes(PATH) == 0
        assert system.verify().ok
        with pytest.raises(AgentNotFound):
            system.keep_keyframes("acme/nobody")


@pytest.mark.parametrize("right", ["zrange", "zadd"])
def test_a_user_without_the_right_to_keyframes_sees_the_same_past(valkey_url: str, right: str) -> None:
    namespace, user = f"t{uuid4().hex}", uuid4().hex
    with redis.Redis.from_url(valkey_url) as client:
        client.execute_command("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all", f"-{right}")
    try:
        with AgentSystem.open(valkey_url, namespace=namespace) as system:
            live(system, 40)
            system.log.archive.keep_keyframe(PATH, 20, packed(system.log, 20))
            expected = system.state_at(PATH, 30)
        limited = valkey_url.replace("unix://", f"unix://{user}:secret@")
        with AgentSystem.open(limited, namespace=namespace) as system:
            archive = system.log.archive
            kept = archive.keyframe_before(PATH, 40)
            found = archive.keyframes(PATH), None if kept is None else kept[0]
            assert found == (([], None) if right == "zrange" else ([20], 20))
            if right == "zadd":
                with pytest.raises(NotPermitted):
                    archive.keep_keyframe(PATH, 30, b"")
            assert system.state_at(PATH, 30) == expected
    finally:
        with redis.Redis.from_url(valkey_url) as client:
            client.execute_command("ACL", "DELUSER", user)


def test_a_keyframe_that_cannot_be_believed_is_ignored(long: tuple[MemoryLog, list[dict[str, Any]]]) -> None:
    log, states = long
    kept(log)
    sound = log.archive.keyframe(PATH, 2 * EVERY)
    assert sound is not None
    with AgentSystem.open(log=log) as system:
        for bad in (b"", sound[:-1], packed(log, 3)):
            log.archive.keep_keyframe(PATH, 2 * EVERY, bad)
            assert system.state_at(PATH, seq=2_500).memory == states[2_500]
    log.archive.keep_keyframe(PATH, 2 * EVERY, sound)


def test_a_keyframe_that_can_be_believed_is_used(long: tuple[MemoryLog, list[dict[str, Any]]]) -> None:
    """Control: were keyframes never read, none of the damage above would be seen."""
    log, _ = long
    kept(log)
    sound = log.archive.keyframe(PATH, 2 * EVERY)
    log.archive.keep_keyframe(PATH, 2 * EVERY, packed(log, 2 * EVERY, marker=True))
    with AgentSystem.open(log=log) as system:
        assert system.state_at(PATH, seq=2_500).memory["marker"] is True
    assert sound is not None
    log.archive.keep_keyframe(PATH, 2 * EVERY, sound)


def test_keyframes_weigh_no_more_than_the_events() -> None:
    schedule = KeyframeSchedule()
    for seq in range(1, 100_001):
        schedule.weight += 100
        size = seq * 100  # the state is as large as all events together
        if schedule.is_due(seq, size):
            schedule.restart(seq)
            assert size <= seq * 100
    assert schedule.keyframe_seq == EVERY, "a state that grows as its log does is kept but once"
    schedule = KeyframeSchedule()
    count = 0
    for seq in range(1, 100_001):
        schedule.weight += 100
        if schedule.is_due(seq, 5_000):
            schedule.restart(seq)
            count += 1
    assert count == 100


# -- one property ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_history_of_a_property_is_where_it_changed(system: AgentSystem, states: list[dict[str, Any]]) -> None:
    for path in ("l", "k3", "goal", "nothing"):
        expected = [
            (seq, states[seq - 1].get(path, MISSING), states[seq].get(path, MISSING))
            for seq in range(1, len(states))
            if states[seq - 1].get(path, MISSING) != states[seq].get(path, MISSING)
        ]
        assert [(event.seq, old, new) for event, old, new in system.history(PATH, path)] == expected


def test_the_history_of_a_place_in_a_list_knows_what_moves_up() -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"l": [1, 2, 3]})
        agent.set("l/0", 1)  # the same again
        agent.delete("l/0")
        agent.merge("", {"l": None})
        agent.merge("l", [{"x": 5}])
        found = [(event.seq, old, new) for event, old, new in system.history(PATH, "l/0")]
        assert found == [(1, MISSING, 1), (3, 1, 2), (4, 2, MISSING), (5, MISSING, {"x": 5})]
        assert [change.new for change in system.history(PATH, "l/0/x")] == [5]


@pytest.mark.parametrize("patch", [{"l": {"a": 1}}, {"l": {"0": 1}}, {"l": {"a": {"b": {}}}}, {"l": {}}])
@pytest.mark.parametrize("before", [[1, 2], 5, "text", None])
def test_a_dict_that_is_merged_over_a_list_or_scalar_is_in_the_histories_of_both(before: Any, patch: Any) -> None:
    with AgentSystem.open("memory://") as system:
        agent = system.spawn(PATH, initial_state={"l": before})
        agent.merge("", patch)
        for path in ("l", "l/0", "l/a"):
            first, then = _value({"l": before}, path), agent.get(path, MISSING)
            steps = [(1, MISSING, first), (2, first, then)]
            steps = [(seq, old, new) for seq, old, new in steps if old != new]
            assert [(event.seq, old, new) for event, old, new in system.history(PATH, path)] == steps


def _value(memory: Any, path: str) -> Any:
    try:
        return lookup(memory, path.split("/"))
    except PathNotFound:
        return MISSING


# -- trees -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "valkey", "redis"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[AgentSystem]:
    place: dict[str, Any] = {"url": "memory://"}
    if request.param != "memory":
        url = request.getfixturevalue(f"{request.param}_url")
        place = {"url": url, "namespace": f"t{uuid4().hex}"}
    with AgentSystem.open(**place) as system:
        yield system


def test_a_tree_is_seen_as_it_was_committed(anywhere: AgentSystem) -> None:
    root = anywhere.spawn(PATH)
    child = root.spawn_child("child")
    other = anywhere.spawn("acme/other")
    history: list[tuple[int, dict[str, int]]] = []
    chance = random.Random(7)
    for number in range(60):
        agent = chance.choice([root, child, other])
        receipt = agent.set("n", number)
        stood = {str(each.path): each.status().seq for each in (root, child)}
        if agent is root:
            history.append((receipt.seq, stood))
    assert len(history) > 10
    for seq, stood in history:
        tree = anywhere.tree_at(PATH, seq=seq)
        assert {path: state.seq for path, state in tree.items()} == stood
        assert all(path == state.agent for path, state in tree.items())
    assert set(anywhere.tree_at(PATH, seq=1)) == {PATH}
    now = anywhere.tree_at(PATH, time=datetime.now(UTC))
    assert {path: state.memory for path, state in now.items()} == {
        path: anywhere.state_at(path).memory for path in (PATH, f"{PATH}/child")
    }


def test_the_past_is_the_same_on_every_log(anywhere: AgentSystem) -> None:
    live(anywhere, 150)
    states = naive(list(anywhere.events(PATH)))
    replay = anywhere.replay(PATH)
    assert [plain(state.memory) for _, state in replay] == states[1:]
    assert replay.seek(75).memory == states[75]
    assert anywhere.state_at(PATH, seq=120).memory == states[120]
    anywhere.log.archive.keep_keyframe(PATH, 100, packed(anywhere.log, 100))
    assert anywhere.log.archive.keyframes(PATH) == [100]
    assert anywhere.state_at(PATH, seq=120).memory == states[120]
    anywhere.log.archive.drop_keyframes(PATH, [100])
    assert anywhere.log.archive.keyframes(PATH) == []
    assert anywhere.log.archive.keyframe(PATH, 100) is None


def test_the_latest_keyframe_no_later_than_a_seq(anywhere: AgentSystem) -> None:
    archive = anywhere.log.archive
    kept = [7, 12, 12, 30, 1 << 40, 9]

    def before(seq: int, path: str = PATH) -> int | None:
        found = archive.keyframe_before(path, seq)
        assert found is None or found[1] in (b"%d" % found[0], b"another")
        return None if found is None else found[0]

    for seq in kept:
        archive.keep_keyframe(PATH, seq, b"%d" % seq)
    archive.keep_keyframe(PATH, 30, b"another")
    assert archive.keyframes(PATH) == sorted(set(kept))
    assert [before(seq) for seq in (1, 7, 8, 11, 12, 29, 30)] == [None, 7, 7, 9, 12, 12, 30]
    assert before(1 << 50) == 1 << 40
    assert archive.keyframe_before(PATH, 31) == (30, b"another")
    assert (archive.keyframe(PATH, 30), archive.keyframe(PATH, 31)) == (b"another", None)
    archive.drop_keyframes(PATH, [12, 13, 7])
    assert [before(seq) for seq in (8, 9, 29)] == [None, 9, 9]
    assert archive.keyframe(PATH, 12) is None
    assert before(100, "acme/nobody") is None


def test_states_that_somebody_has_deleted_are_done_without_and_kept_anew(valkey_url: str) -> None:
    namespace = f"t{uuid4().hex}"
    with AgentSystem.open(valkey_url, namespace=namespace) as system:
        live(system, 40)
        archive = system.log.archive
        archive.keep_keyframe(PATH, 20, packed(system.log, 20))
        expected = system.state_at(PATH, 30)
        with redis.Redis.from_url(valkey_url) as client:
            assert client.delete(Keys(namespace).keyframes(system.log.partition_of(PATH), PATH)) == 1
        assert (archive.keyframes(PATH), archive.keyframe_before(PATH, 30)) == ([20], None)
        assert system.state_at(PATH, 30) == expected
        assert system.verify(PATH).ok
        archive.keep_keyframe(PATH, 20, packed(system.log, 20))
        assert archive.keyframe_before(PATH, 30) == (20, archive.keyframe(PATH, 20))


def test_a_copy_of_a_fold_shares_nothing_with_it() -> None:
    start = rebuild(AgentLog(MemoryLog(), PATH, LIMITS), to_seq=0)
    folding = StateFold(PATH, LIMITS, None, start)
    folding.state.memory["l"] = [1]
    copied = folding.copy()
    folding.state.memory["l"].append(2)
    assert copied.state.memory == {"l": [1]}
    assert isinstance(Replay, type) and isinstance(PastState, type)
