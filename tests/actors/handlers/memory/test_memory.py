"""Working memory and records: a mutation is the change alone, a receipt is the log's, a refusal leaves no mark."""

from __future__ import annotations

import gc
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duramen.actors import (
    Agent,
    AgentHandle,
    AgentSystem,
    Append,
    Batch,
    Delete,
    Get,
    Keys,
    Merge,
    Pause,
    Record,
    Set,
    SetGranularity,
    Settings,
    Spawn,
)
from duramen.events import (
    AgentNotFound,
    AgentPaused,
    AskTimeout,
    CommandConflict,
    DuramenError,
    Granularity,
    InvalidMessage,
    InvalidPath,
    Limits,
    MailboxFull,
    PathNotFound,
    PropertyPath,
    Receipt,
    TooLarge,
    ValueRefused,
)
from duramen.events.codec import DIGEST_SIZE
from duramen.events.model.values import same_value
from naming import shown
from servers import valkey_server
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"


def events(system: AgentSystem, after: int = 1) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.data) for event in system.events(PATH, from_seq=after + 1)]


def seq(system: AgentSystem) -> int:
    head = system.log.head(PATH)
    assert head is not None
    return head.seq


# -- what each does ----------------------------------------------------------------------------------------------------


def test_set_makes_the_subtrees_on_the_way(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    agent.set("plan/steps", ["read"])
    agent.set("plan/steps/0", "think")
    agent.set("plan/none", None)
    assert agent.get() == {"plan": {"steps": ["think"], "none": None}}
    assert agent.get("plan/steps/0") == "think"
    assert agent.get("plan/none") is None
    assert agent.get("plan/none", "default") is None
    assert agent.keys("plan") == ["steps", "none"]
    assert agent.keys() == ["plan"]
    assert events(any_system) == [
        ("memory_set", {"path": "plan/steps", "value": ["read"]}),
        ("memory_set", {"path": "plan/steps/0", "value": "think"}),
        ("memory_set", {"path": "plan/none", "value": None}),
    ]


def test_delete_removes_what_is_there(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"a": {"b": 1, "c": 2}, "l": [1, 2, 3]})
    agent.delete("a/b")
    agent.delete("l/1")
    assert agent.get() == {"a": {"c": 2}, "l": [1, 3]}
    for nowhere in ("a/b", "l/2", "x", "x/y", "a/c/d"):
        with pytest.raises(PathNotFound):
            agent.delete(nowhere)
    assert events(any_system) == [("memory_deleted", {"path": "a/b"}), ("memory_deleted", {"path": "l/1"})]


def test_append_is_a_delta_and_makes_the_list(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    for word in ("read", "think", ["write"]):
        agent.append("plan/steps", word)
    assert agent.get("plan/steps") == ["read", "think", ["write"]]
    assert events(any_system) == [
        ("memory_appended", {"path": "plan/steps", "values": ["read"]}),
        ("memory_appended", {"path": "plan/steps", "values": ["think"]}),
        ("memory_appended", {"path": "plan/steps", "values": [["write"]]}),
    ]
    agent.set("none", None)
    for wrong in ("plan", "none", "plan/steps/0"):
        with pytest.raises(InvalidPath):
            agent.append(wrong, 1)


def test_merge_follows_rfc_7386(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"profile": {"tone": "dry", "old": 1, "deep": {"x": 1, "y": 2}}})
    agent.merge("profile", {"tone": "wet", "old": None, "deep": {"y": None, "z": [1, None]}, "gone": None})
    assert agent.get() == {"profile": {"tone": "wet", "deep": {"x": 1, "z": [1, None]}}}
    agent.merge("", {"new": {"a": 1, "b": None}})
    assert agent.get("new") == {"a": 1}
    agent.merge("new", [1])
    assert agent.get("new") == [1]
    assert events(any_system)[-1] == ("memory_merged", {"path": "new", "patch": [1]})


@pytest.mark.slow
def test_a_deltas_size_does_not_grow_with_the_state(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"l": [], "d": {}})
    for number in range(300):
        agent.append("l", "x" * 100)
        agent.set(f"d/k{number}", "x" * 100)
        agent.merge("d", {"m": number})
    page = system.log.read(PATH, 890, 100)
    assert page is not None
    assert max(map(len, page.items)) < 300


def test_a_path_may_be_a_property_path(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    path = PropertyPath.of("a/b", "c~d", "0")
    agent.set(path, 1)
    agent.append(PropertyPath.of("l"), 1)
    assert agent.get() == {"a/b": {"c~d": {"0": 1}}, "l": [1]}
    assert agent.get(path) == agent.get("a~1b/c~0d/0") == 1
    assert agent.keys(PropertyPath.of("a/b")) == ["c~d"]
    agent.delete(path)
    assert agent.get("a~1b") == {"c~d": {}}


def test_what_leads_nowhere_is_refused_and_changes_nothing(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"l": [1], "n": 1})
    for message in (
        Set("", 1),
        Set("n/x", 1),
        Set("l/1", 1),
        Set("l/-1", 1),
        Set("l/00", 1),
        Set("l/x/y", 1),
        Delete(""),
        Append("", 1),
        Merge("", [1]),
        Merge("", None),
        Merge("n/x", {}),
        Get("l/1"),
        Get("n/x"),
        Keys("l"),
        Keys("n"),
        Keys("x"),
    ):
        with pytest.raises(InvalidPath):
            agent.ask(message)
    assert agent.get() == {"l": [1], "n": 1}
    assert seq(any_system) == 1


def test_a_write_is_seen_by_the_next_read(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    for number in range(50):
        agent.set("n", number)
        assert agent.get("n") == number
    replies = [agent.ask(message, block=False) for number in range(50) for message in (Set("n", number), Get("n"))]
    assert [reply.get(timeout=30) for reply in replies[1::2]] == list(range(50))


# -- isolation ---------------------------------------------------------------------------------------------------------


def test_what_was_passed_in_can_be_changed_afterwards(any_system: AgentSystem) -> None:
    state: dict[str, Any] = {"spawned": [1]}
    metadata: dict[str, Any] = {"m": [1]}
    agent = any_system.spawn(PATH, initial_state=state, metadata=metadata)
    given: list[Any] = [[1]]
    agent.set("set", given)
    agent.append("appended", given)
    agent.merge("merged", {"m": given})
    agent.ask(Batch([Set("batched", given)]))
    agent.pause("p", metadata=metadata)
    agent.resume("p")
    state["spawned"].append(2)
    metadata["m"].append(2)
    given[0].append(2)
    given.append(3)
    expected = {"spawned": [1], "set": [[1]], "appended": [[[1]]], "merged": {"m": [[1]]}, "batched": [[1]]}
    assert agent.get() == expected
    assert agent.status().metadata == {"m": [1]}
    assert agent.checkpoints()[0].metadata == {"m": [1]}
    assert any_system.peek(PATH).memory == expected


def test_what_was_got_back_can_be_changed(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"l": [[1]], "d": {"e": {}}}, metadata={"m": [1]})
    agent.pause("p", metadata={"m": [1]})
    agent.get()["l"].append(2)
    agent.get("l/0").append(2)
    agent.get("d")["e"]["x"] = 1
    agent.keys().append("x")
    agent.status().metadata["m"].append(2)
    agent.checkpoints()[0].metadata["m"].append(2)
    assert agent.get() == {"l": [[1]], "d": {"e": {}}}
    assert agent.status().metadata == {"m": [1]}
    assert agent.checkpoints()[0].metadata == {"m": [1]}


def test_the_same_object_written_twice_is_two_values(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    shared: list[Any] = []
    agent.set("both", [shared, shared])
    agent.append("both/0", 1)
    assert agent.get("both") == [[1], []]


# -- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_append_and_one_receipt(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    with agent.batch() as batch:
        batch.set("a", 1)
        batch.append("l", 1)
        batch.merge("", {"b": 2})
        batch.record("note", {"x": 1})
        batch.delete("a")
    assert (batch.receipt.first_seq, batch.receipt.seq) == (2, 6)
    assert agent.get() == {"l": [1], "b": 2}
    entries = any_system.log.feed_page(any_system.log.partition_of(PATH), 0, 10).entries
    assert [(entry.first_seq, entry.count) for entry in entries] == [(1, 1), (2, 5)]


def test_an_exception_in_the_block_sends_nothing(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    with pytest.raises(KeyError), agent.batch() as batch:
        batch.set("a", 1)
        raise KeyError
    with pytest.raises(InvalidMessage):
        _ = batch.receipt
    with agent.batch():
        pass
    assert seq(system) == 1


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Delete("nope"), PathNotFound),
        (Set("l/9", 1), InvalidPath),
        (Set("a", {1}), ValueRefused),
        (Set("a", ["x" * 100] * 3_000), TooLarge),
        (Set("*", 1), InvalidPath),
        (Record("NOT A KIND"), InvalidMessage),
        (Get("a"), InvalidMessage),
        (Batch([]), InvalidMessage),
        (Pause(), InvalidMessage),
        (None, InvalidMessage),
        (Set("a", 1, "own-id"), InvalidMessage),
    ],
)
def test_one_bad_operation_and_nothing_happens(any_system: AgentSystem, bad: Any, error: type[DuramenError]) -> None:
    start = {"d": {str(number): number for number in range(100)}, "l": [1, [2, 3]], "n": 1}
    agent = any_system.spawn(PATH, initial_state=start)
    before = agent.status()
    good = [
        Set("new", 1),
        Set("n", 2),
        Delete("d/5"),
        Delete("l/0"),
        Append("l", 4),
        Append("l/0", 4),
        Merge("d", {"7": None, "8": {"x": 1}}),
        Merge("", {"d": 5}),
        Record("note"),
    ]
    for where in range(len(good) + 1):
        with pytest.raises(error):
            agent.ask(Batch([*good[:where], bad, *good[where:]]))
        assert same_value(agent.get(), start)
    assert agent.status() == before
    assert seq(any_system) == 1
    agent.ask(Batch(good))
    assert agent.get() == {"d": 5, "l": [[2, 3, 4], 4], "n": 2, "new": 1}
    assert same_value(any_system.peek(PATH).memory.plain(), agent.get())


def test_a_batch_sees_its_own_operations(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    agent.ask(Batch([Set("a", {}), Set("a/b", []), Append("a/b", 1), Set("a/b/0", 2), Delete("a/b/0")]))
    assert agent.get() == {"a": {"b": []}}


@pytest.mark.parametrize("operations", [None, 5, "text", b"bytes", Set("a", 1)], ids=shown)
def test_a_batch_of_no_sequence_is_refused(system: AgentSystem, operations: Any) -> None:
    agent = system.spawn(PATH)
    with pytest.raises(InvalidMessage):
        agent.ask(Batch(operations), timeout=3)
    assert seq(system) == 1


def test_an_empty_batch_is_refused_where_others_are(system: AgentSystem) -> None:
    agent = system.agent(PATH)
    with pytest.raises(AgentNotFound):
        agent.ask(Batch([]))
    system.spawn(PATH)
    agent.pause("p")
    with pytest.raises(AgentPaused):
        agent.ask(Batch([]))


# -- receipts ----------------------------------------------------------------------------------------------------------


def test_a_receipt_is_what_the_log_has(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    receipts = [
        agent.set("a", 1),
        agent.append("l", 1),
        agent.merge("", {"b": 1}),
        agent.ask(Batch([Set("x", 1), Delete("x")])),
        agent.record("note", 1),
        agent.set_granularity(Granularity.TRACE),
        agent.delete("a"),
    ]
    found = {event.seq: event for event in any_system.events(PATH)}
    following = 2
    for receipt in receipts:
        assert receipt == Receipt(PATH, following, receipt.seq, found[receipt.seq].digest, any_system.log.durability)
        following = receipt.seq + 1
    head = any_system.log.head(PATH)
    assert head is not None
    assert (head.seq, head.digest) == (receipts[-1].seq, receipts[-1].digest)


# -- command ids -------------------------------------------------------------------------------------------------------


COMMANDS: list[Callable[[str], Any]] = [
    lambda command: Set("a", {"x": [1, None]}, command),
    lambda command: Append("l", 1, command),
    lambda command: Merge("m", {"x": 1}, command),
    lambda command: Batch([Set("b", 1), Append("l", 2)], command),
    lambda command: Record("note", {"x": 1}, command_id=command),
    lambda command: SetGranularity(levels={"note": Granularity.TRACE}, command_id=command),
    lambda command: Delete("start", command),
]


def test_the_same_command_gives_the_first_receipt_and_no_event(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn(PATH, initial_state={"start": 1})
    first = [agent.ask(command(f"c-{number}")) for number, command in enumerate(COMMANDS)]
    head = seq(system)
    assert [agent.ask(command(f"c-{number}")) for number, command in enumerate(COMMANDS)] == first
    assert seq(system) == head

    # Another process, after a restart, with and without a snapshot.
    for settings in (Settings(snapshot_every=1), Settings()):
        other = open_any(settings=settings)
        again = other.agent(PATH)
        assert [again.ask(command(f"c-{number}")) for number, command in enumerate(COMMANDS)] == first
        again.set("more", 1)
        head += 1
        assert seq(other) == head


def test_the_same_id_with_another_payload_is_a_conflict(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn(PATH, initial_state={"start": 1})
    receipt = agent.set("a", 1, command_id="c")
    others: list[Any] = [
        Set("a", 2, "c"),
        Set("a", True, "c"),
        Set("a", 1.0, "c"),
        Set("b", 1, "c"),
        Append("a", 1, "c"),
        Merge("a", 1, "c"),
        Delete("a", "c"),
        Batch([Set("a", 1)], "c"),
        Record("note", command_id="c"),
        SetGranularity(level=Granularity.TRACE, command_id="c"),
    ]
    for target in (agent, open_any().agent(PATH)):
        for other in others:
            with pytest.raises(CommandConflict) as caught:
                target.ask(other)
            assert caught.value.seq == receipt.seq
        for lifecycle in (Spawn(command_id="c"), Pause(command_id="c")):
            with pytest.raises(CommandConflict):
                target.ask(lifecycle)
    assert seq(system) == 2


def test_a_command_that_was_refused_can_be_sent_again(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    with pytest.raises(PathNotFound):
        agent.delete("a", command_id="c")
    with pytest.raises(PathNotFound):
        agent.ask(Batch([Set("b", 1), Delete("a")], "c2"))
    agent.set("a", 1)
    assert agent.delete("a", command_id="c").seq == 3
    agent.set("a", 1)
    agent.ask(Batch([Set("b", 1), Delete("a")], "c2"))
    assert agent.get() == {"b": 1}


def test_ids_are_remembered_up_to_a_bound_whatever_is_refused_in_between(open_system: OpenSystem) -> None:
    system = open_system(limits=Limits(commands_remembered=2))
    agent = system.spawn(PATH)
    first = agent.append("l", 1, command_id="c1")
    second = agent.append("l", 2, command_id="c2")
    with pytest.raises(PathNotFound):
        agent.ask(Batch([Append("l", 3), Delete("nope")], "c3"))
    assert agent.append("l", 1, command_id="c1") == first
    assert agent.append("l", 2, command_id="c2") == second
    agent.append("l", 3, command_id="c3")
    assert agent.append("l", 1, command_id="c1") != first
    assert agent.get("l") == [1, 2, 3, 1]


@pytest.mark.parametrize("wrong", [5, b"x", ["c"], "", "x" * 100_000, "\ud800", "a\nb", object()], ids=shown)
def test_a_command_id_that_is_no_short_text_is_refused(system: AgentSystem, wrong: Any) -> None:
    agent = system.spawn(PATH)
    for message in (Set("a", 1, wrong), Batch([Set("a", 1)], wrong), Pause(command_id=wrong)):
        with pytest.raises((InvalidMessage, ValueRefused)):
            agent.ask(message, timeout=3)
    assert seq(system) == 1
    agent.set("a", 1)


def test_a_command_id_on_a_value_that_is_refused_is_a_refusal_too(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    circle: list[Any] = []
    circle.append(circle)
    for value, error in ((deep, TooLarge), (circle, TooLarge), ({1}, ValueRefused), (object(), ValueRefused)):
        with pytest.raises((error, InvalidMessage)):
            agent.ask(Set("a", value, "c"), timeout=3)
    assert agent.set("a", 1, command_id="c").seq == 2


# -- records and granularity -------------------------------------------------------------------------------------------


def recorded(system: AgentSystem) -> list[str]:
    return [event.data["kind"] for event in system.events(PATH) if event.type == "activity_recorded"]


@pytest.mark.parametrize("granularity", Granularity)
def test_what_is_under_the_granularity_is_not_logged(any_system: AgentSystem, granularity: Granularity) -> None:
    agent = any_system.spawn(PATH, granularity=granularity)
    agent.record("activity", {"x": 1})
    receipt = agent.record("trace", level=Granularity.TRACE)
    agent.set("a", 1)
    agent.pause("p")
    agent.resume("p")
    expected = [kind for kind, level in (("activity", 3), ("trace", 4)) if level <= granularity]
    assert recorded(any_system) == expected
    assert (receipt.first_seq <= receipt.seq) == (granularity == Granularity.TRACE)
    if granularity < Granularity.TRACE:
        assert receipt.first_seq == receipt.seq + 1
    assert agent.get() == {"a": 1}
    assert [event.type for event in any_system.events(PATH)][-3:] == ["memory_set", "paused", "resumed"]


def test_granularity_changes_on_a_running_agent_in_all_and_by_kind(open_any: OpenSystem) -> None:
    system = open_any()
    agent = system.spawn(PATH, granularity=Granularity.STATE, levels={"kept": Granularity.TRACE})
    agent.record("lost")
    agent.record("kept", level=Granularity.TRACE)
    agent.set_granularity(Granularity.TRACE, levels={"quiet": Granularity.STATE})
    agent.record("now", level=Granularity.TRACE)
    agent.record("quiet")
    agent.set_granularity(levels={"quiet": None})
    agent.record("quiet")
    assert agent.status().granularity == Granularity.TRACE
    agent.set_granularity(Granularity.LIFECYCLE)
    agent.record("lost")
    agent.record("kept")
    assert recorded(system) == ["kept", "now", "quiet", "kept"]

    again = open_any().agent(PATH)
    again.record("lost")
    again.record("kept")
    assert recorded(system) == ["kept", "now", "quiet", "kept", "kept"]
    assert [event.granularity for event in system.events(PATH) if event.type == "activity_recorded"] == [4, 4, 3, 3, 3]


def test_a_record_is_no_state(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    agent.record("note", {"path": "a", "value": 1})
    assert agent.get() == {}
    assert events(any_system) == [("activity_recorded", {"kind": "note", "data": {"path": "a", "value": 1}})]


@pytest.mark.parametrize("kind", ["", "UPPER", "a b", "a/b", "1a", "x" * 65, "a\n", None, 5, "é", b"note"], ids=shown)
def test_a_kind_that_is_no_name_is_refused(system: AgentSystem, kind: Any) -> None:
    agent = system.spawn(PATH)
    with pytest.raises(InvalidMessage):
        agent.ask(Record(kind), timeout=3)
    with pytest.raises(InvalidMessage):
        agent.ask(SetGranularity(levels={kind: Granularity.TRACE}), timeout=3)
    assert seq(system) == 1


@pytest.mark.parametrize("level", [Granularity.LIFECYCLE, Granularity.STATE, 0, 5, "x", None, [], 3.5], ids=shown)
def test_a_level_that_is_none_of_a_record_is_refused(system: AgentSystem, level: Any) -> None:
    agent = system.spawn(PATH)
    with pytest.raises(InvalidMessage):
        agent.ask(Record("note", level=level), timeout=3)
    assert seq(system) == 1


@pytest.mark.parametrize(
    "arguments",
    [{}, {"level": 9}, {"level": "x"}, {"levels": None}, {"levels": ["a"]}, {"levels": 5}, {"levels": {"a": 9}}],
    ids=shown,
)
def test_a_granularity_that_is_none_is_refused(system: AgentSystem, arguments: dict[str, Any]) -> None:
    agent = system.spawn(PATH)
    with pytest.raises(InvalidMessage):
        agent.ask(SetGranularity(**arguments), timeout=3)
    assert seq(system) == 1


# -- limits ------------------------------------------------------------------------------------------------------------


def short_texts(size: int) -> list[str]:
    """A value of about so many bytes in an event, of which nothing is kept beside the log."""
    return ["x" * (size - 256_000), *["xxx"] * 64_000]


@pytest.mark.slow
def test_an_event_at_the_limit_succeeds_and_a_byte_more_is_refused(any_system: AgentSystem) -> None:
    agent, size = any_system.spawn(PATH), 260_000

    def stored(seq: int) -> int:
        page = any_system.log.read(PATH, seq, 1)
        assert page is not None
        return len(page.items[0]) - DIGEST_SIZE

    agent.set("a", short_texts(size))
    size += 256 * 1024 - stored(2)
    agent.set("a", short_texts(size))
    assert stored(3) == 256 * 1024
    with pytest.raises(TooLarge):
        agent.set("a", short_texts(size + 1))
    assert seq(any_system) == 3
    assert agent.get("a") == short_texts(size)


@pytest.mark.slow
def test_a_batch_at_the_limit_succeeds_and_an_event_more_is_refused(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    agent.ask(Batch([Set("n", number) for number in range(256)]))
    with pytest.raises(TooLarge) as caught:
        agent.ask(Batch([Set("n", 0)] * 257))
    assert (caught.value.expected, caught.value.actual) == (256, 257)
    assert agent.get("n") == 255
    with pytest.raises(TooLarge):
        agent.ask(Batch([Set("n", ["xxx"] * 50_000)] * 6))
    agent.ask(Batch([Set("n", "x" * 200_000)] * 5))
    assert seq(any_system) == 1 + 256 + 5


def test_depth_and_width_are_bounded(system: AgentSystem) -> None:
    agent = system.spawn(PATH)

    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return value

    agent.set("deep", nested(64))
    assert agent.get("deep") == nested(64)
    with pytest.raises(TooLarge):
        agent.set("deeper", nested(65))
    agent.set("wide", [0] * 65_536)
    with pytest.raises(TooLarge):
        agent.set("wider", [0] * 65_537)
    agent.set("/".join("x" * 32), 1)
    with pytest.raises(InvalidPath):
        agent.set("/".join("x" * 33), 1)
    assert agent.keys() == ["deep", "wide", "x"]


def test_what_is_put_together_from_deep_parts_is_still_kept_and_restored(open_system: OpenSystem) -> None:
    system = open_system(settings=Settings(snapshot_every=1))
    agent = system.spawn(PATH)
    value: Any = 1
    for _ in range(64):
        value = {"k": value}
    agent.set("/".join("x" * 32), value)
    agent.pause("p")
    agent.resume("p")
    agent.delete("x")
    agent.resume("p")
    assert agent.get("/".join("x" * 32)) == value
    assert open_system().agent(PATH).get("/".join("x" * 32)) == value


def test_the_values_of_a_state_are_bounded_and_freed_again(open_system: OpenSystem) -> None:
    system = open_system(limits=Limits(state_nodes=100))
    agent = system.spawn(PATH, initial_state={"a": [0] * 49})
    agent.set("b", [0] * 48)
    for message in (Set("c", 1), Append("a", 1), Merge("", {"c": 1}), Batch([Set("c", 1)])):
        with pytest.raises(TooLarge):
            agent.ask(message)
    agent.delete("a")
    agent.set("c", 1)
    agent.pause("p")
    agent.resume("p")
    assert agent.keys() == ["b", "c"]
    with pytest.raises(TooLarge):
        system.spawn("p/other", initial_state={"a": [0] * 100})


# -- backpressure ------------------------------------------------------------------------------------------------------


class Blocked(Agent):
    gate: threading.Event
    entered: threading.Event

    def on_receive(self, message: Any) -> Any:
        type(self).entered.set()
        type(self).gate.wait()


@pytest.mark.slow
def test_a_full_mailbox_refuses_and_does_not_grow(open_system: OpenSystem, gate: threading.Event) -> None:
    Blocked.gate, Blocked.entered = gate, threading.Event()
    system = open_system(agents={"blocked": Blocked})
    agent = system.spawn(PATH, agent_type="blocked")
    agent.tell("block")
    assert Blocked.entered.wait(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for number in range(200_000):
        try:
            agent.tell(Set("n", number))
        except MailboxFull:
            refused += 1
    assert refused == 190_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    with pytest.raises(MailboxFull) as caught:
        agent.get()
    assert (caught.value.agent, caught.value.expected) == (PATH, 10_000)
    system.spawn("acme/other").set("a", 1)
    gate.set()
    eventually(lambda: takes_messages(agent), what="room in the mailbox")
    assert agent.get("n") == 9_999


def takes_messages(agent: AgentHandle) -> bool:
    try:
        agent.get()
    except MailboxFull:
        return False
    return True


# -- a server that stands still --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("message", [Set("n", 2), Get()], ids=["write", "read"])
def test_a_call_ends_within_its_time_out_while_the_server_stands_still(
    promptly: Callable[..., Any], message: Any
) -> None:
    with valkey_server() as server, AgentSystem.open(server.url) as system:
        agent = system.spawn(PATH, initial_state={"n": 1})
        server.pause()
        try:
            with pytest.raises(AskTimeout):
                promptly(lambda: agent.ask(message, timeout=0.5), 3)
        finally:
            server.resume()
        assert agent.get("n") in (1, 2)


# -- a caller that is interrupted --------------------------------------------------------------------------------------


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No collection of garbage: what its callbacks raise, an interrupt that comes in one of them too, is dropped."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("microseconds", range(20, 420, 16))
def test_an_interrupt_of_a_waiting_caller_stops_no_agent(open_system: OpenSystem, microseconds: int) -> None:
    system = open_system()
    agent = system.spawn(PATH, initial_state={"l": []})
    other = system.spawn("acme/other")
    acknowledged: list[int] = []

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, interrupt)
    number = 0
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, microseconds / 1_000_000)
        while True:
            number += 1
            agent.append("l", number)
            acknowledged.append(number)
    except KeyboardInterrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)

    found = agent.ask(Get("l"), block=False).get(timeout=30)
    assert found in (acknowledged, [*acknowledged, number])
    assert agent.ask(Append("l", -1), block=False).get(timeout=30).seq == len(found) + 2
    assert other.ask(Set("a", 1), block=False).get(timeout=30).seq == 2
    assert system.peek(PATH).memory == {"l": [*found, -1]}


@pytest.mark.parametrize(
    ("path", "warned"),
    [
        ("plan.steps", True),
        ("plan.new", True),
        ("list.0", True),
        ("deep/plan.a", True),
        ("version.1", False),
        ("plain.text", False),
        (".plan", False),
        ("plan/a.b", False),
        ("known.key", False),
    ],
)
def test_a_new_key_with_dots_beside_a_dict_or_list_of_that_name_is_warned_of(
    open_system: OpenSystem, caplog: pytest.LogCaptureFixture, path: str, warned: bool
) -> None:
    state = {"plan": {"steps": []}, "list": [1], "deep": {"plan": {}}, "plain": 1, "known": {}, "known.key": 1}
    alice = open_system().spawn("acme/alice", initial_state=state)
    alice.set(path, 1)
    assert ("path_with_dots" in caplog.text) is warned
    caplog.clear()
    alice.set(path, 2)
    assert "path_with_dots" not in caplog.text, "the key is there now"
    with alice.batch() as batch:
        batch.delete(path)
    with alice.batch() as batch:
        batch.append(path, 1)
    assert ("path_with_dots" in caplog.text) is (warned or path == "known.key"), "it is a new key again"
