"""A sub-agent never lives below a parent that has ended, however its spawn and the end of the parent interleave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, Spawn
from duramen.actors.commands import AdoptChild
from duramen.events import (
    AgentNotFound,
    AgentNotRunning,
    AgentPaused,
    DuramenError,
    Fenced,
    InvalidPath,
    MemoryLog,
    ParentRequired,
    VersionConflict,
)
from duramen.events.log import Append
from duramen.events.memory.writer import MemoryWriter

OpenSystem = Callable[..., AgentSystem]
ROOT, MIDDLE = "acme/root", "acme/root/m"


class HeldLog(MemoryLog):
    """A log in memory on which the first append of one agent, from when it is named, waits until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.held: str | None = None
        self.reached, self.through = threading.Event(), threading.Event()

    def writer(self) -> Any:
        return _HeldWriter(self)

    def commit_one(self, partition: int, append: Append) -> Any:
        if append.agent == self.held and append.items:
            self.held = None
            self.reached.set()
            assert self.through.wait(10)
        return self._commit(partition, [append])


class _HeldWriter(MemoryWriter):
    def __init__(self, log: HeldLog) -> None:
        super().__init__(log._commit)
        self._log = log

    def send(self, batches: Sequence[tuple[int, Sequence[Append]]]) -> None:
        for partition, batch in batches:
            self._done.extend(([append], self._log.commit_one(partition, append)) for append in batch)


def overtaken(log: HeldLog, held: str, first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """The outcomes of two calls, of which the first has its append of `held` on the way when the second is made."""
    log.held = held
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(outcome, first)
        assert log.reached.wait(10)
        log.hosts.release(held, log.hosts.owner(held)[0])  # or the second call would wait for the first
        other = outcome(second)
        log.through.set()
        return begun.result(20), other


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except DuramenError as error:
        return type(error)


def status(system: AgentSystem, path: str) -> str:
    try:
        return system.agent(path).status().status
    except AgentNotFound:
        return "absent"


def test_a_sub_agent_whose_parent_ends_before_its_spawn_is_written_is_not_spawned() -> None:
    log = HeldLog()
    with AgentSystem.open(log=log) as here, AgentSystem.open(log=log) as there:
        root = here.spawn(ROOT)
        late = f"{ROOT}/late"
        spawned, ended = overtaken(log, late, lambda: root.spawn_child("late"), there.agent(ROOT).terminate)
        assert ended.success
        assert spawned is AgentNotRunning
        assert (status(there, ROOT), status(there, late)) == ("terminated", "absent")


def test_an_end_that_a_spawn_below_a_sub_agent_overtakes_ends_nothing_above_it() -> None:
    log = HeldLog()
    with AgentSystem.open(log=log) as here, AgentSystem.open(log=log) as there:
        root = here.spawn(ROOT)
        root.spawn_child("m")
        late = f"{MIDDLE}/late"
        ended, spawned = overtaken(log, MIDDLE, root.terminate, lambda: there.agent(MIDDLE).spawn_child("late"))
        assert ended is Fenced
        assert spawned.path.text == late
        assert {status(there, path) for path in (ROOT, MIDDLE, late)} == {"running"}
        assert there.agent(ROOT).terminate().success
        assert {status(there, path) for path in (ROOT, MIDDLE, late)} == {"terminated"}


@pytest.mark.parametrize("parent", [ROOT, MIDDLE])
def test_an_end_that_the_spawn_of_a_known_sub_agent_overtakes_is_refused(parent: str) -> None:
    log = HeldLog()
    with AgentSystem.open(log=log) as here, AgentSystem.open(log=log) as there:
        root = here.spawn(ROOT)
        root.spawn_child("m")
        late = f"{parent}/late"
        here.agent(parent).ask(AdoptChild(late))  # announced; its spawn is still to come
        ended, spawned = overtaken(log, parent, root.terminate, lambda: there.agent(late).ask(Spawn(parent=parent)))
        assert spawned.success
        if parent == ROOT:  # its own append is refused; that of a sub-agent is a refusal of the whole
            assert ended is VersionConflict
        else:
            with pytest.raises(VersionConflict, match="was spawned meanwhile"):
                ended.raise_for_failure()
        assert {status(there, path) for path in (ROOT, parent, late)} == {"running"}
        assert there.agent(ROOT).terminate().success
        assert {status(there, path) for path in (ROOT, MIDDLE, late)} == {"terminated"}


def test_a_sub_agent_that_was_announced_and_never_came_hinders_no_end(any_system: AgentSystem) -> None:
    root = any_system.spawn(ROOT)
    root.ask(AdoptChild(f"{ROOT}/never"))
    assert root.terminate().success


def test_a_sub_agent_that_may_outlive_its_parent_hinders_no_end_and_is_not_spawned_after_it(
    any_system: AgentSystem,
) -> None:
    root = any_system.spawn(ROOT)
    stays = root.spawn_child("stays", outlives_parent=True)
    root.ask(AdoptChild(f"{ROOT}/late", outlives=True))
    assert root.terminate().success
    assert stays.status().status == "running"
    with pytest.raises(AgentNotRunning):
        any_system.agent(f"{ROOT}/late").ask(Spawn(parent=ROOT))
    assert status(any_system, f"{ROOT}/late") == "absent"


@pytest.mark.slow
def test_a_large_tree_ends_from_its_leaves_to_its_root(any_system: AgentSystem) -> None:
    root = any_system.spawn(ROOT)
    for number in range(12):
        child = root.spawn_child(f"c{number}")
        for leaf in range(4):
            child.spawn_child(f"l{leaf}").spawn_child("x")
    assert root.terminate().data["agents"] == 1 + 12 + 2 * 12 * 4
    assert {entry.status for entry in any_system.agents()} == {"terminated"}


# -- paths below an agent that lives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", ["call", "asyncio", "parent", "parent asyncio"])
def test_an_agent_spawned_below_one_that_lives_is_its_sub_agent_in_every_respect(
    any_system: AgentSystem, twin: str
) -> None:
    any_system.spawn(ROOT)
    path = f"{ROOT}/a/b"
    arguments: dict[str, Any] = {"parent": ROOT} if "parent" in twin else {}
    if "asyncio" in twin:
        asyncio.run(any_system.aio.spawn(path, initial_state={"x": 1}, **arguments))
    else:
        any_system.spawn(path, initial_state={"x": 1}, **arguments)
    assert any_system.peek(ROOT).children == {path: False}
    assert any_system.peek(path).parent == ROOT
    assert any_system.agent(ROOT).pause("cut", cascade=True).data["agents"] == 2
    assert any_system.agent(ROOT).resume(cascade=True).data["agents"] == 2
    any_system.spawn(f"{path}/c")
    assert any_system.peek(path).children == {f"{path}/c": False}, "the nearest one that lives is the parent"
    assert any_system.agent(ROOT).terminate().data["agents"] == 3


def test_an_agent_spawned_below_none_that_lives_stands_by_itself(any_system: AgentSystem) -> None:
    any_system.spawn(f"{ROOT}/alone")
    any_system.spawn(ROOT).terminate()
    any_system.spawn(f"{ROOT}/after")
    assert [any_system.peek(f"{ROOT}/{name}").parent for name in ("alone", "after")] == [None, None]
    assert {status(any_system, f"{ROOT}/{name}") for name in ("alone", "after")} == {"running"}


def test_a_spawn_without_a_parent_below_an_agent_that_lives_is_refused_and_says_what_to_do(
    any_system: AgentSystem,
) -> None:
    any_system.spawn(ROOT)
    with pytest.raises(ParentRequired, match="spawn_child") as caught:
        any_system.agent(MIDDLE).ask(Spawn())
    assert caught.value.actual == ROOT
    assert status(any_system, MIDDLE) == "absent"
    assert any_system.agent(ROOT).status().seq == 1


@pytest.mark.parametrize(
    ("parent", "error"), [("acme/other", InvalidPath), (MIDDLE, AgentNotFound), (f"{ROOT}/none", AgentNotFound)]
)
def test_a_parent_that_is_none_is_refused_and_nothing_is_spawned(
    any_system: AgentSystem, parent: str, error: type[Exception]
) -> None:
    any_system.spawn(ROOT)
    any_system.spawn("acme/other")
    with pytest.raises(error):
        any_system.spawn(f"{ROOT}/none/m" if "none" in parent else MIDDLE, parent=parent)
    assert status(any_system, MIDDLE) == "absent"


def test_below_a_paused_agent_nothing_is_spawned(any_system: AgentSystem) -> None:
    any_system.spawn(ROOT).pause("p")
    with pytest.raises(AgentPaused):
        any_system.spawn(MIDDLE)
    assert status(any_system, MIDDLE) == "absent"


# -- a handler that ends its own agent ---------------------------------------------------------------------------------


class Parent(Agent):
    def on_receive(self, message: Any) -> Any:
        if message == "spawn and end":
            self.spawn_child("announced")
        if message != "end later":
            self.terminate()
        if message == "fail":
            raise ValueError("after all")
        return message


class AsyncParent(Agent):
    async def on_receive(self, message: Any) -> Any:
        return Parent.on_receive(self, message)


@pytest.mark.parametrize("kind", [Parent, AsyncParent])
@pytest.mark.parametrize("message", ["end", "spawn and end"])
def test_a_handler_that_ends_its_agent_ends_the_tree_before_it_answers(
    open_any: OpenSystem, kind: type[Agent], message: str
) -> None:
    system = open_any(agents={"p": kind})
    root = system.spawn(ROOT, agent_type="p")
    root.spawn_child("m").spawn_child("leaf")
    assert root.ask(message) == message
    assert {status(system, path) for path in (ROOT, MIDDLE, f"{MIDDLE}/leaf")} == {"terminated"}
    assert status(system, f"{ROOT}/announced") == "absent"


@pytest.mark.parametrize("kind", [Parent, AsyncParent])
def test_a_handler_that_raises_after_its_end_has_ended_nobody(open_any: OpenSystem, kind: type[Agent]) -> None:
    system = open_any(agents={"p": kind})
    root = system.spawn(ROOT, agent_type="p")
    root.spawn_child("m")
    with pytest.raises(ValueError, match="after all"):
        root.ask("fail")
    assert {status(system, path) for path in (ROOT, MIDDLE)} == {"running"}
    assert root.ask("end") == "end"
    assert {status(system, path) for path in (ROOT, MIDDLE)} == {"terminated"}


@pytest.mark.parametrize("kind", [Parent, AsyncParent])
def test_a_handler_whose_sub_agent_cannot_be_ended_has_not_ended_its_agent(kind: type[Agent]) -> None:
    log = HeldLog()
    with AgentSystem.open(log=log, agents={"p": kind}) as here, AgentSystem.open(log=log) as there:
        root = here.spawn(ROOT, agent_type="p")
        root.spawn_child("m")
        ended, paused = overtaken(log, MIDDLE, lambda: root.ask("end"), lambda: there.agent(MIDDLE).set("x", 1))
        assert ended is Fenced
        assert paused.seq == 2
        assert {status(here, path) for path in (ROOT, MIDDLE)} == {"running"}
    with AgentSystem.open(log=log, agents={"p": kind}) as later:
        assert later.agent(ROOT).ask("end") == "end"
        assert {status(later, path) for path in (ROOT, MIDDLE)} == {"terminated"}
