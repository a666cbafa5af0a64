"""Lists and dicts by parts: extend, pop, length, slice, get_many; each event is the change alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from duramen.actors import Agent, AgentHandle, AgentSystem, Batch, Extend, GetMany, Length, Pop, Set, Slice
from duramen.events import (
    AgentNotFound,
    AgentPaused,
    CommandConflict,
    InvalidMessage,
    InvalidPath,
    Limits,
    PathNotFound,
    PropertyPath,
    Receipt,
    ReplyRefused,
    TooLarge,
    ValueRefused,
)

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"


def events(system: AgentSystem, after: int = 1) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.data) for event in system.events(PATH, from_seq=after + 1)]


class Worker(Agent):
    def on_receive(self, message: Any) -> Any:
        match message:
            case "pop":
                self.extend("l", [1, 2, 3], metadata={"by": "me"})
                popped = self.pop("l"), self.pop("l", 0), self.pop("d", "k", "none"), self.pop("none", default=[])
                return [*popped, self.length("l"), self.slice("l"), self.get_many(["l/0", "x"], None)]
            case "raise":
                self.extend("l", [4])
                self.pop("l", 0)
                raise RuntimeError


# -- extend ------------------------------------------------------------------------------------------------------------


def test_extend_is_one_event_with_its_values_alone(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"l": [0]})
    receipt = agent.extend("l", [1, [2]])
    agent.extend("new/list", ("a", "b"))
    assert agent.get() == {"l": [0, 1, [2]], "new": {"list": ["a", "b"]}}
    assert receipt == Receipt(PATH, 2, 2, receipt.digest, receipt.durability)
    assert events(any_system) == [
        ("memory_appended", {"path": "l", "values": [1, [2]]}),
        ("memory_appended", {"path": "new/list", "values": ["a", "b"]}),
    ]
    assert any_system.verify(PATH).ok


def test_extending_by_nothing_makes_a_list_and_changes_none(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    assert agent.extend("l", []).seq == 2
    unchanged = agent.extend("l", [])
    assert (agent.get("l"), unchanged.first_seq, unchanged.seq) == ([], 3, 2)


def test_extend_refuses_what_is_no_list_of_plain_data(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"text": "x"})
    for wrong in ("abc", {1: 2}, 5):
        with pytest.raises(InvalidMessage):
            agent.extend("l", wrong)
    with pytest.raises(ValueRefused):
        agent.extend("l", [1, object()])
    with pytest.raises(InvalidPath):
        agent.extend("text", [1])
    assert agent.status().seq == 1


def test_a_batch_may_extend(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    with agent.batch() as batch:
        batch.extend("l", [1, 2])
        batch.append("l", 3)
    assert agent.get("l") == [1, 2, 3]
    with pytest.raises(InvalidMessage, match="a batch takes"):
        agent.ask(Batch([Pop("l")]))


# -- pop ---------------------------------------------------------------------------------------------------------------


def test_pop_returns_what_it_takes_out(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"l": [1, 2, {"x": [3]}, 4], "d": {"a/b": 1, "-1": 2}})
    assert agent.pop("l") == 4
    assert agent.pop("l", -1) == {"x": [3]}
    assert agent.pop("l", 0) == 1
    assert agent.pop("d", "a/b") == 1
    assert agent.pop("d", "-1") == 2
    assert agent.pop("", "d") == {}
    assert agent.get() == {"l": [2]}
    assert events(any_system) == [
        ("memory_deleted", {"path": path}) for path in ("l/3", "l/2", "l/0", "d/a~1b", "d/-1", "d")
    ]
    assert any_system.verify(PATH).ok
    assert any_system.state_at(PATH, 2).memory["l"] == [1, 2, {"x": [3]}]


def test_pop_gives_the_default_where_nothing_is(system: AgentSystem) -> None:
    agent = system.spawn(PATH, initial_state={"l": [], "d": {}, "text": "x"})
    assert agent.pop("l", default=None) is None
    assert agent.pop("l", 7, "d") == "d"
    assert agent.pop("l", -1, []) == []
    assert agent.pop("d", "k", 0) == 0
    assert agent.pop("no/such", default=1) == 1
    for path, key in (("l", -1), ("d", "k"), ("none", 0)):
        with pytest.raises(PathNotFound):
            agent.pop(path, key)
    wrong: list[tuple[str, Any]] = [("text", -1), ("d", 0), ("l", "0"), ("l", True), ("none", 1.5), ("none", None)]
    for path, key in wrong:
        with pytest.raises(InvalidPath):
            agent.pop(path, key, None)
    with pytest.raises(ValueRefused):
        agent.pop("l", default=object())
    assert agent.status().seq == 1


def test_pop_needs_an_agent_that_runs(system: AgentSystem) -> None:
    with pytest.raises(AgentNotFound):
        system.agent(PATH).pop("l", default=None)
    agent = system.spawn(PATH, initial_state={"l": [1]})
    agent.pause()
    with pytest.raises(AgentPaused):
        agent.pop("l")


def test_a_repeated_pop_gives_the_value_of_the_first_time(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, initial_state={"l": [1, {"a": [2]}]})
    for options in ({"command_id": "p"}, {"command_id": "p"}):
        assert agent.pop("l", **options) == {"a": [2]}
    assert agent.get("l") == [1]
    with pytest.raises(CommandConflict):
        agent.pop("l", 0, command_id="p")


def test_a_repeated_pop_that_found_nothing_takes_nothing_later(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    assert agent.pop("l", default="none", command_id="p") == "none"
    agent.append("l", 1)
    assert agent.pop("l", default="none", command_id="p") == "none"
    assert agent.get("l") == [1]


def test_a_popped_value_too_large_for_its_event_is_not_repeated(open_system: OpenSystem) -> None:
    agent = open_system(limits=Limits(event_bytes=4096)).spawn(PATH, initial_state={"l": [[]]})
    for _ in range(4):
        agent.append("l/0", "x" * 2000)
    assert len(agent.pop("l", command_id="p")) == 4
    with pytest.raises(ReplyRefused, match="was carried out"):
        agent.pop("l", command_id="p")
    assert agent.get("l") == []


def test_poppers_of_two_systems_share_a_list_without_loss(open_any: OpenSystem) -> None:
    handles = [open_any().spawn(PATH, initial_state={"l": list(range(40))}), open_any().agent(PATH)]

    def pop_all(handle: AgentHandle) -> list[int]:
        return list(iter(lambda: handle.pop("l", 0, None), None))

    with ThreadPoolExecutor(4) as pool:
        popped = list(pool.map(pop_all, handles * 2))
    assert sorted(number for part in popped for number in part) == list(range(40))
    assert [part == sorted(part) for part in popped] == [True] * 4


# -- reads -------------------------------------------------------------------------------------------------------------


def test_lengths_slices_and_several_values_are_read_as_copies(open_any: OpenSystem) -> None:
    memory: dict[str, Any] = {"l": [0, [1], 2, 3], "d": {"a": 1}, "text": "abc"}
    first, second = open_any(), open_any()
    for agent in (first.spawn(PATH, initial_state=memory), second.agent(PATH)):  # the second reads the log
        assert (agent.length("l"), agent.length("d"), agent.length()) == (4, 1, 3)
        bounds = [(None, None), (1, 3), (-2, None), (0, -1), (9, None), (3, 1)]
        assert [agent.slice("l", *each) for each in bounds] == [memory["l"][a:b] for a, b in bounds]
        agent.slice("l", 1)[0].append("changed")
        assert agent.get_many(["l/1", PropertyPath.of("d", "a"), ""]) == [[1], 1, memory]
        assert agent.get_many(["none", "text"], None) == [None, "abc"]
        assert agent.get_many([]) == []


def test_reads_of_parts_say_what_is_wrong(system: AgentSystem) -> None:
    for read in (Length("l"), Slice("l"), GetMany(["l"])):
        with pytest.raises(AgentNotFound):
            system.agent(PATH).ask(read)
    agent = system.spawn(PATH, initial_state={"text": "abc", "d": {}, "l": [1]})
    for read in (Length("no"), Slice("no"), GetMany(["text", "no"])):
        with pytest.raises(PathNotFound):
            agent.ask(read)
    for read in (Length("text"), Slice("text"), Slice("d"), GetMany("text"), GetMany([1])):
        with pytest.raises(InvalidPath):
            agent.ask(read)
    for bound in ("1", 1.0, True):
        with pytest.raises(InvalidMessage):
            agent.slice("l", bound)


# -- elsewhere ---------------------------------------------------------------------------------------------------------


def test_handlers_have_the_same_calls(open_any: OpenSystem) -> None:
    system = open_any(agents={"worker": Worker})
    agent = system.spawn(PATH, agent_type="worker", initial_state={"d": {"k": "v"}})
    assert agent.ask("pop") == [3, 1, "v", [], 1, [2], [2, None]]
    stored = list(system.events(PATH))[1:]
    assert [event.type for event in stored] == ["memory_appended", *["memory_deleted"] * 3]
    assert [event.metadata for event in stored] == [{"by": "me"}, None, None, None]
    with pytest.raises(RuntimeError):
        agent.ask("raise")
    assert agent.get() == {"d": {}, "l": [2]}
    assert agent.set("after", 1).seq == stored[-1].seq + 1
    assert system.verify(PATH).ok


def test_asyncio_has_the_same_calls(open_any: OpenSystem) -> None:
    alice = open_any().spawn(PATH).aio

    async def run() -> list[Any]:
        await alice.extend("l", [1, 2, 3])
        return [
            await alice.pop("l"),
            await alice.pop("none", default=None),
            await alice.length("l"),
            await alice.slice("l", 0, 1),
            await alice.get_many(["l/0", "none"], None),
        ]

    assert asyncio.run(run()) == [3, None, 2, [1], [1, None]]


def test_what_a_refused_batch_within_a_forwarded_mutation_has_changed_is_undone(open_any: OpenSystem) -> None:
    host = open_any(limits=Limits(event_bytes=2048))
    agent = host.spawn(PATH, initial_state={"l": [1]})
    elsewhere = open_any().agent(PATH)
    for size in range(900, 1030, 2):  # at one size the event fits, but not with the mark of its sender
        try:
            elsewhere.ask(Batch([Extend("l", [2]), Set("big", ["x"] * size)]))
        except TooLarge:
            assert agent.get("l") == [1]
            break
        agent.set("l", [1])
        agent.set("big", None)
    else:
        pytest.fail("no size was refused")
    agent.set("after", 1)
    assert host.verify(PATH).ok
