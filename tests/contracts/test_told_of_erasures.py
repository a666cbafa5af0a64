"""Subscriptions are told of an erasure, once, after all of the erased agent and before all of the next one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import pytest

from duramen.actors import AgentSystem
from duramen.events import DataLoss, MemoryLog
from duramen.projections.subscriptions import Change, Subscription
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH, CHILD, OTHER = "acme/alice", "acme/alice/child", "acme/bob"
WAIT = 30.0


@pytest.fixture(params=["memory", "valkey", "redis"])
def open_one(request: pytest.FixtureRequest) -> Any:
    where: dict[str, Any] = {"log": MemoryLog(partitions=1)}
    if request.param != "memory":
        url = request.getfixturevalue(f"{request.param}_url")
        where = {"url": url, "namespace": f"t{uuid4().hex}", "partitions": 1}
    opened: list[AgentSystem] = []

    def open_system(**options: Any) -> AgentSystem:
        opened.append(AgentSystem.open(**where, **options))
        return opened[-1]

    yield open_system
    for system in reversed(opened):
        system.close(timeout=5)


def said(changes: Iterable[Change]) -> list[tuple[str, int, str]]:
    return [(change.agent, change.seq, change.event.type) for change in changes]


def take(subscription: Subscription, count: int) -> list[tuple[str, int, str]]:
    """The next so many changes."""
    found: list[Change] = []
    while len(found) < count:
        taken = subscription.take(count - len(found), timeout=WAIT)
        assert taken, f"only {said(found)} came"
        found += taken
    return said(found)


SPAWNED, ERASED, SET = (PATH, 1, "spawned"), (PATH, 0, "erased"), (PATH, 2, "memory_set")


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("pattern", ["acme/**", PATH, f"{PATH}/**"])
def test_it_comes_between_the_events_of_the_erased_agent_and_of_the_next(
    open_one: OpenSystem, pattern: str, values: bool
) -> None:
    system = open_one()
    with system.subscribe(pattern, values=values, types=["spawned", "erased"]) as changes:
        system.spawn(PATH)
        assert take(changes, 1) == [SPAWNED]
        system.erase(PATH)
        [told] = changes.take(timeout=WAIT)
        assert (told.agent, told.seq, told.event.type, told.erased) == (*ERASED, True)
        assert (told.event.data, told.event.digest, told.paths) == ({}, b"", ())
        system.spawn(PATH)
        assert take(changes, 1) == [SPAWNED]
        system.erase(PATH)
        system.spawn(PATH)
        assert take(changes, 2) == [ERASED, SPAWNED]
        assert changes.error is None


def test_another_process_erases_and_all_that_were_seen_are_told_of(open_one: OpenSystem) -> None:
    system, other = open_one(), open_one()
    system._hub._heartbeat = 0.05
    with system.subscribe("acme/*/**") as changes:
        system.spawn(PATH).spawn_child("child")
        system.spawn(OTHER)
        take(changes, 4)
        other.erase(PATH)
        assert take(changes, 2) == [ERASED, (CHILD, 0, "erased")]
        system.agent(OTHER).set("n", 1)
        assert take(changes, 1) == [(OTHER, 2, "memory_set")]


def test_callbacks_and_asyncio_are_told_too(open_one: OpenSystem) -> None:
    system = open_one()
    called: list[Change] = []
    is_told = threading.Event()

    def note(change: Change) -> None:
        called.append(change)
        if change.erased:
            is_told.set()

    async def follow() -> list[Change]:
        async with system.subscribe("acme/**", latest_only=True) as changes:
            await system.aio.spawn(PATH)
            found = [await anext(changes)]
            await system.aio.erase(PATH)
            async with asyncio.timeout(WAIT):
                return [*found, await anext(changes)]

    with system.subscribe("acme/**", note):
        assert said(asyncio.run(follow())) == [SPAWNED, ERASED]
        assert is_told.wait(WAIT)
    assert said(called) == [SPAWNED, ERASED]


def test_an_agent_that_the_pattern_names_is_told_of_though_no_event_of_it_was_read(open_one: OpenSystem) -> None:
    system = open_one()
    system.spawn(PATH)
    with system.subscribe(PATH) as changes:
        system.erase(PATH)
        assert take(changes, 1) == [ERASED]


def test_what_was_erased_before_is_not_told(open_one: OpenSystem) -> None:
    system = open_one()
    system.spawn(PATH)
    system.erase(PATH)
    with system.subscribe(PATH) as changes, system.subscribe(PATH, from_start=True) as from_start:
        system.spawn(PATH)
        assert take(changes, 1) == take(from_start, 1) == [SPAWNED]


def test_one_that_goes_on_from_a_cursor_is_told_of_the_agent_that_it_names(open_one: OpenSystem) -> None:
    system = open_one()
    with system.subscribe(f"{PATH}/**") as changes:
        system.spawn(PATH).set("n", 1)
        assert take(changes, 2) == [SPAWNED, SET]
        cursor = changes.cursor
    system.erase(PATH)
    system.spawn(PATH)
    with system.subscribe(f"{PATH}/**", after=cursor) as changes:
        assert take(changes, 2) == [ERASED, SPAWNED]
        cursor = changes.cursor
    with system.subscribe(f"{PATH}/**", after=cursor) as changes:
        system.agent(PATH).set("n", 1)
        assert take(changes, 1) == [SET]


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("given", range(1, 13))
def test_in_the_middle_of_a_catch_up_nothing_of_it_comes_after(open_one: OpenSystem, given: int, values: bool) -> None:
    system = open_one()
    for number in range(6):
        for path in (PATH, OTHER):
            system.agent(path).set("n", number) if number else system.spawn(path)
    with system.subscribe("acme/**", from_start=True, buffer=2, values=values) as changes:
        found = take(changes, given)
        system.erase(PATH)
        system.spawn(PATH)
        system.agent(OTHER).set("last", True)
        while found[-1] != (OTHER, 7, "memory_set"):
            found += take(changes, 1)
    assert [seq for agent, seq, _ in found if agent == OTHER] == [1, 2, 3, 4, 5, 6, 7]
    of_it = [(seq, kind) for agent, seq, kind in found if agent == PATH]
    at = of_it.index((0, "erased"))
    assert [seq for seq, _ in of_it[:at]] == list(range(1, at + 1))
    assert of_it[at + 1 :] == [(1, "spawned")]


@pytest.mark.parametrize("options", [{"types": ["spawned", "memory_set"]}, {"categories": ["state"]}])
def test_one_that_does_not_want_events_of_lifecycle_or_this_type_is_not_told(
    open_one: OpenSystem, options: dict[str, Any]
) -> None:
    system = open_one()
    with system.subscribe(f"{PATH}/n", **options) as changes:
        system.spawn(PATH).set("n", 1)
        eventually(lambda: SET in said(changes.take(timeout=WAIT)))
        system.erase(PATH)
        system.spawn(PATH).set("n", 1)
        assert "erased" not in str(said(changes.take(timeout=WAIT)))


def test_a_loss_is_told_as_a_loss() -> None:
    log = MemoryLog(partitions=1)
    with AgentSystem.open(log=log) as system:
        system._hub._heartbeat = 0.05
        system.spawn(OTHER)
        system.erase(OTHER)
        with system.subscribe("acme/**") as changes:
            agent = system.spawn(PATH)
            assert take(changes, 1) == [SPAWNED]
            agent.set("n", 1)
            assert take(changes, 1) == [SET]
            with log._lock:
                part = log._storage.parts[0]
                log._storage.logs.pop(log.log_key(PATH))
                part.heads.pop(PATH)
            with pytest.raises(DataLoss):
                changes.take(timeout=WAIT)
