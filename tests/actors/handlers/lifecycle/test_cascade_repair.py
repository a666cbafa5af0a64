"""Cascades that are cut off, refused or overtaken: decided before they act, and repaired without losing work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from duramen.actors import Agent, AgentHandle, AgentSystem, Get, Pause, Set
from duramen.events import (
    CheckpointNotFound,
    DuramenError,
    InvalidMessage,
    Limits,
    MailboxFull,
    MemoryLog,
    TooLarge,
    Unavailable,
    Unconfirmed,
    ValueRefused,
)
from duramen.events.log import Answer, Append, CommittedAppend, Durability
from duramen.events.memory.writer import MemoryWriter

OpenSystem = Callable[..., AgentSystem]
PATHS = ("acme/root", "acme/root/a", "acme/root/b", "acme/root/a/c")


class CutLog(MemoryLog):
    """A log in memory that takes `left` more appends of events, and then no more: its process has died there."""

    left: int | None = None
    unconfirmed = Durability("replicas", 1)
    confirms = True
    """Whether appends are confirmed to the durability asked for."""

    def confirm(self, durability: Durability, appends: Sequence[CommittedAppend]) -> list[DuramenError | None]:
        return [None if self.confirmed(append.agent) else Unconfirmed("no replica has it") for append in appends]

    def confirmed(self, agent: str) -> bool:
        return self.confirms

    def writer(self) -> Any:
        return _CutWriter(self)

    def commit_one(self, partition: int, append: Append) -> Answer | DuramenError:
        if append.items and self.left is not None:
            if self.left == 0:
                return Unavailable("this process has died")
            self.left -= 1
        [answer] = self._commit(partition, [append])
        return answer


class _CutWriter(MemoryWriter):
    def __init__(self, log: CutLog) -> None:
        super().__init__(log._commit)
        self._log = log

    def send(self, batches: Sequence[tuple[int, Sequence[Append]]]) -> None:
        for partition, batch in batches:
            for append in batch:
                answer = self._log.commit_one(partition, append)
                self._done.append(([append], answer if isinstance(answer, DuramenError) else [answer]))


def plant(system: AgentSystem) -> AgentHandle:
    root = system.spawn(PATHS[0], initial_state={"work": 0})
    root.spawn_child("a", initial_state={"work": 0}).spawn_child("c", initial_state={"work": 0})
    root.spawn_child("b", initial_state={"work": 0})
    return root


def statuses(system: AgentSystem) -> list[str]:
    return [system.agent(path).status().status for path in PATHS]


def work(system: AgentSystem) -> list[Any]:
    return [system.agent(path).get("work") for path in PATHS]


def cut_off(log: CutLog, appends: int, command: Callable[[AgentHandle], Any]) -> None:
    """A process of its own that dies after so many appends of a command."""
    with AgentSystem.open(log=log) as system:
        root = system.agent(PATHS[0])
        statuses(system)
        log.left = appends
        with pytest.raises(Unavailable):
            command(root)
        log.left = None


# -- cut off ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "night"])
@pytest.mark.parametrize("recipe", ["pause", "resume"])
def test_a_pause_that_was_cut_off_is_completed_or_taken_back_and_no_work_is_lost(recipe: str, name: str | None) -> None:
    seen: set[tuple[str, ...]] = set()
    for appends in range(len(PATHS)):
        log = CutLog()
        with AgentSystem.open(log=log) as system:
            root = plant(system)
            root.pause(name or "last week", cascade=True).raise_for_failure()
            root.resume(name or "last week", cascade=True).raise_for_failure()
            for path in PATHS:
                system.agent(path).set("work", "a week of it")
        cut_off(log, appends, lambda root: root.pause(name, cascade=True))
        with AgentSystem.open(log=log) as system:
            left = statuses(system)
            seen.add(tuple(left))
            root = system.agent(PATHS[0])
            if recipe == "pause":
                result = root.pause(name, cascade=True).raise_for_failure()
                assert result.data["agents"] == len(PATHS)
                assert statuses(system) == ["paused"] * 4
                assert root.resume(result.data["checkpoint_id"], cascade=True).data["agents"] == len(PATHS)
            elif "paused" in left:
                root.resume(cascade=True).raise_for_failure()
            else:
                with pytest.raises(CheckpointNotFound, match="nothing of the tree"):
                    root.resume(cascade=True).raise_for_failure()
            assert statuses(system) == ["running"] * 4
            assert work(system) == ["a week of it"] * 4
    assert len(seen) == len(PATHS), "it was cut off between any two appends"


@pytest.mark.slow
def test_a_resume_that_was_cut_off_goes_on_where_it_was_however_much_was_done_since() -> None:
    for appends in range(len(PATHS)):
        log = CutLog()
        with AgentSystem.open(log=log) as system:
            plant(system).pause("night", cascade=True).raise_for_failure()
        cut_off(log, appends, lambda root: root.resume("night", cascade=True))
        with AgentSystem.open(log=log) as system:
            went_on = [path for path, status in zip(PATHS, statuses(system), strict=True) if status == "running"]
            assert len(went_on) == appends
            for path in went_on:
                system.agent(path).set("work", "a week of it")
            system.agent(PATHS[0]).resume(cascade=True).raise_for_failure()
            assert statuses(system) == ["running"] * 4
            assert work(system) == ["a week of it" if path in went_on else 0 for path in PATHS]


@pytest.mark.slow
def test_an_end_that_was_cut_off_is_completed_by_calling_again() -> None:
    for appends in range(len(PATHS)):
        log = CutLog()
        with AgentSystem.open(log=log) as system:
            plant(system)
        cut_off(log, appends, lambda root: root.terminate())
        with AgentSystem.open(log=log) as system:
            system.agent(PATHS[0]).terminate().raise_for_failure()
            assert statuses(system) == ["terminated"] * 4
            assert len(system.episodes.list()) == 4


# -- which pauses a resume ends ----------------------------------------------------------------------------------------


def test_a_resume_of_a_tree_never_falls_back_to_an_older_checkpoint(system: AgentSystem) -> None:
    root = system.spawn("acme/root")
    child = root.spawn_child("c", initial_state={"work": "begun"})
    child.pause("old", ttl=None)
    child.resume()
    root.pause("cut", cascade=True, ttl=timedelta(seconds=1))
    child.resume()
    child.set("work", "finished")
    key = system.log.checkpoint_key("acme/root", "cut")
    while system.log.exists([key])[0]:  # as long as its second lasts
        threading.Event().wait(0.02)
    assert root.resume(cascade=True).data["checkpoint_id"] is None
    assert child.get("work") == "finished"
    assert root.status().status == "running"


def test_a_resume_without_a_checkpoint_leaves_what_runs_as_it_is_and_one_with_it_restores_all(
    any_system: AgentSystem,
) -> None:
    root = plant(any_system)
    child = any_system.agent(PATHS[1])
    root.pause("cut", cascade=True)
    child.resume()
    child.set("work", "finished")
    assert root.resume(cascade=True).data["agents"] == 3
    assert work(any_system) == [0, "finished", 0, 0]
    assert root.resume("cut", cascade=True).data["agents"] == 4
    assert work(any_system) == [0] * 4


def test_a_sub_agent_that_was_paused_alone_stays_paused_when_its_tree_goes_on(any_system: AgentSystem) -> None:
    root = plant(any_system)
    any_system.agent(PATHS[2]).pause("alone")
    paused = root.pause("cut", cascade=True)
    assert list(paused.data["refused"]) == [PATHS[2]]
    root.resume(cascade=True).raise_for_failure()
    assert statuses(any_system) == ["running", "running", "paused", "running"]
    assert any_system.peek(PATHS[2]).paused_at == "alone"


def test_a_part_of_a_tree_can_go_on_by_itself_and_the_whole_goes_on_without_a_paused_root(
    any_system: AgentSystem,
) -> None:
    root = plant(any_system)
    root.pause("cut", cascade=True)
    assert any_system.agent(PATHS[1]).resume(cascade=True).data["agents"] == 2
    assert statuses(any_system) == ["paused", "running", "paused", "running"]
    root.resume()
    assert root.resume(cascade=True).data["agents"] == 2
    assert statuses(any_system) == ["running"] * 4


def test_checkpoints_of_one_name_from_two_pauses_are_no_cut_and_refused_before_anything_is_restored() -> None:
    log = CutLog()
    with AgentSystem.open(log=log) as system:
        root = plant(system)
        root.pause("night", cascade=True)
        root.resume("night", cascade=True)
        for path in PATHS:
            system.agent(path).set("work", 1)
    cut_off(log, 2, lambda root: root.pause("night", cascade=True))
    with AgentSystem.open(log=log) as system:
        before = [system.agent(path).status().seq for path in PATHS]
        with pytest.raises(CheckpointNotFound, match="another pause"):
            system.agent(PATHS[0]).resume("night", cascade=True).raise_for_failure()
        assert [system.agent(path).status().seq for path in PATHS] == before


def test_a_repeated_command_does_not_undo_what_was_done_after_it(any_system: AgentSystem) -> None:
    root = plant(any_system)
    root.pause("cut", cascade=True)
    first = root.resume(cascade=True, command_id="r-1")
    root.set("work", 1)
    again = root.resume(cascade=True, command_id="r-1")
    assert (again.success, again.data["seq"]) == (True, first.data["seq"])
    assert root.get("work") == 1


# -- decided first -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reason": "x" * 300}, InvalidMessage),
        ({"outcome": "nope"}, InvalidMessage),
        ({"outcome": "nope", "consolidate_to_episodic": False}, InvalidMessage),
        ({"outcome_details": {str(n): "y" * 60_000 for n in range(20)}}, TooLarge),
        ({"lessons_learned": ["\ud800"]}, ValueRefused),
        ({"importance_score": 2}, InvalidMessage),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_end_that_the_root_refuses_ends_no_sub_agent(
    any_system: AgentSystem, arguments: dict[str, Any], error: type[Exception]
) -> None:
    root = plant(any_system)
    with pytest.raises(error):
        root.terminate(**arguments).raise_for_failure()
    assert statuses(any_system) == ["running"] * 4
    assert root.terminate().data["agents"] == 4


@pytest.mark.parametrize("arguments", [{"metadata": {"x": "y" * 300_000}}, {"metadata": {"x": "\ud800"}}], ids=str)
def test_a_pause_that_the_root_refuses_pauses_no_sub_agent(any_system: AgentSystem, arguments: dict[str, Any]) -> None:
    root = plant(any_system)
    with pytest.raises((TooLarge, ValueRefused)):
        root.pause("cut", cascade=True, **arguments)
    assert statuses(any_system) == ["running"] * 4


def test_a_pause_that_one_sub_agent_cannot_take_pauses_none(open_system: OpenSystem) -> None:
    system = open_system(limits=Limits(snapshot_bytes=20_000))
    root = plant(system)
    large = system.agent(PATHS[2])
    for number in range(30):
        large.set(f"n{number}", "x" * 1_000)
    with pytest.raises(TooLarge):
        root.pause("cut", cascade=True)
    assert statuses(system) == ["running"] * 4
    assert [system.agent(path).set("after", 1).seq for path in (PATHS[1], PATHS[3])] == [3, 2], "and none is held"
    for number in range(30):
        large.delete(f"n{number}")
    assert root.pause("cut", cascade=True).data["agents"] == 4


# -- nobody stays held -------------------------------------------------------------------------------------------------


def test_a_full_mailbox_in_the_middle_of_a_cascade_leaves_nobody_held(
    open_system: OpenSystem, gate: threading.Event
) -> None:
    entered = threading.Event()

    class Slow(Agent):
        def on_receive(self, message: Any) -> None:
            entered.set()
            gate.wait(20)

    system = open_system(agents={"slow": Slow}, limits=Limits(mailbox_messages=3))
    root = system.spawn("acme/root")
    first = root.spawn_child("first", initial_state={"x": 1})
    slow = root.spawn_child("slow", agent_type="slow")
    slow.tell("work")
    assert entered.wait(10)
    for _ in range(3):
        slow.tell("work")
    with pytest.raises(MailboxFull):
        root.pause("cut", cascade=True)
    assert first.ask(Get("x"), timeout=10) == 1
    gate.set()
    assert slow.ask(Get(), timeout=10, room=10) == {}
    assert root.pause("cut", cascade=True).data["agents"] == 3


def test_writes_that_are_not_confirmed_hold_nobody_and_leave_no_half_of_a_cascade() -> None:
    log = CutLog()
    with AgentSystem.open(log=log) as system:
        root = plant(system)
        log.confirms = False
        for command in (
            lambda: root.pause("cut", cascade=True),
            lambda: root.resume("cut", cascade=True),
            lambda: root.terminate(),
        ):
            for path in PATHS[1:]:
                for number in range(5):
                    system.agent(path).tell(Set("n", number))
            with pytest.raises(Unconfirmed):
                command()
            assert len(set(statuses(system))) == 1, "all or none"
        log.confirms = True
        assert statuses(system) == ["terminated"] * 4


@pytest.mark.parametrize("how", ["a handle", "an asyncio handle", "the system", "the asyncio system"])
def test_a_sub_agent_whose_writes_are_not_confirmed_is_spawned_all_the_same(how: str) -> None:
    log = CutLog()
    with AgentSystem.open(log=log) as system:
        root = system.spawn(PATHS[0])
        log.confirms = False
        with pytest.raises(Unconfirmed):
            {
                "a handle": lambda: root.spawn_child("new"),
                "an asyncio handle": lambda: asyncio.run(root.aio.spawn_child("new")),
                "the system": lambda: system.spawn(f"{PATHS[0]}/new"),
                "the asyncio system": lambda: asyncio.run(system.aio.spawn(f"{PATHS[0]}/new")),
            }[how]()
        assert system.peek(PATHS[0]).children == {f"{PATHS[0]}/new": False}
        log.confirms = True
        assert system.agent(f"{PATHS[0]}/new").status().status == "running"


def test_a_cascade_of_which_sub_agents_alone_are_not_confirmed_says_so() -> None:
    class OfTheRoot(CutLog):
        def confirmed(self, agent: str) -> bool:
            return agent == PATHS[0]

    with AgentSystem.open(log=OfTheRoot()) as system:
        root = system.spawn(PATHS[0])
        with pytest.raises(Unconfirmed):
            root.spawn_child("a")
        result = root.ask(Pause(checkpoint_id="cut", cascade=True))
        assert result.success
        assert list(result.data["unconfirmed"]) == [PATHS[1]]
        assert result.data["agents"] == 2
