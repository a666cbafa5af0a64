"""The past, for asyncio: the same calls with the same answers, and the loop goes on while they wait."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pytest

from duramen.actors import AgentHandle, AgentSystem, AsyncAgentHandle
from duramen.actors.api.aio.replay import AsyncReplay
from duramen.actors.api.aio.system import AsyncSystem
from duramen.actors.api.calls.history import History
from duramen.actors.api.calls.reading import Reading
from duramen.events import AgentExists, AgentNotFound, CorruptEvent, InvalidMessage, PathNotFound
from duramen.projections import Replay

OpenSystem = Callable[..., AgentSystem]
T = TypeVar("T")
PATH, CHILD = "acme/alice", "acme/alice/child"
TURNS = 200
"""Turns of the loop that are made while something waits."""


def run(work: Coroutine[Any, Any, T], seconds: float = 20.0) -> T:
    return asyncio.run(asyncio.wait_for(work, seconds))


def filled(system: AgentSystem) -> AgentSystem:
    """An agent with 41 events and a child."""
    agent: AgentHandle = system.spawn(PATH, initial_state={"goal": "x"})
    agent.spawn_child("child")
    for number in range(39):
        agent.set("n", number)
    return system


@pytest.fixture
def past(any_system: AgentSystem) -> AgentSystem:
    return filled(any_system)


async def listed(found: Any) -> list[Any]:
    return [each async for each in found]


def exported(system: AgentSystem) -> BytesIO:
    file = BytesIO()
    system.export_session(PATH, file)
    file.seek(0)
    return file


# -- the same calls ----------------------------------------------------------------------------------------------------


def public(kind: type[Any]) -> set[str]:
    return {name for name, found in vars(kind).items() if not name.startswith("_") and inspect.isfunction(found)}


@pytest.mark.parametrize("name", sorted(public(History) | public(Reading)))
def test_every_call_that_looks_back_has_a_twin_with_the_same_arguments(name: str) -> None:
    wanted = inspect.signature(getattr(History, name)).parameters
    found = inspect.signature(getattr(AsyncSystem, name)).parameters
    assert {key: (each.kind, each.default) for key, each in found.items()} == {
        key: (each.kind, each.default) for key, each in wanted.items()
    }


@pytest.mark.parametrize("name", sorted(public(Replay)))
def test_every_move_of_a_replay_has_a_twin(name: str) -> None:
    wanted = inspect.signature(getattr(Replay, name)).parameters
    assert list(inspect.signature(getattr(AsyncReplay, name)).parameters) == list(wanted)


def test_a_replay_has_the_same_properties() -> None:
    assert {name for name, found in vars(Replay).items() if isinstance(found, property)} == {
        name for name, found in vars(AsyncReplay).items() if isinstance(found, property)
    }


# -- the same answers --------------------------------------------------------------------------------------------------

READS: dict[str, Callable[[Any], Any]] = {
    "peek": lambda s: s.peek(PATH),
    "state_at": lambda s: s.state_at(PATH, 20),
    "tree_at": lambda s: s.tree_at(PATH),
    "diff": lambda s: s.diff(PATH, 5, 20),
    "trim": lambda s: s.trim(PATH, keep_events=5, dry_run=True),
    "blame": lambda s: s.blame(PATH, "n"),
    "verify": lambda s: s.verify(PATH, tree=True),
    "origin": lambda s: s.origin(PATH),
    "keep_keyframes": lambda s: s.keep_keyframes(PATH),
    "export_session": lambda s: s.export_session(PATH, BytesIO(), tree=True),
    "export_jsonl": lambda s: s.export_jsonl(PATH, BytesIO(), tree=True),
}


@pytest.mark.parametrize("name", sorted(READS))
def test_a_twin_answers_as_the_call_does(past: AgentSystem, name: str) -> None:
    answer, expected = run(READS[name](past.aio)), READS[name](past)
    assert answer == expected


def test_agents_events_and_changes_are_iterated(past: AgentSystem) -> None:
    assert run(listed(past.aio.agents())) == list(past.agents()) != []
    assert run(listed(past.aio.events(PATH))) == list(past.events(PATH))
    assert run(listed(past.aio.events(PATH, from_seq=3, to_seq=5))) == list(past.events(PATH, from_seq=3, to_seq=5))
    assert run(listed(past.aio.history(PATH, "n"))) == list(past.history(PATH, "n"))
    assert len(list(past.history(PATH, "n"))) == 39


def test_files_are_written_and_read(past: AgentSystem, tmp_path: Path) -> None:
    async def carry() -> None:
        written = await past.aio.export_session(PATH, tmp_path / "session")
        taken = await past.aio.import_session(tmp_path / "session", "acme/carried")
        assert (taken.agents[0].seq, taken.events) == (written.agents[0].seq, written.events)
        assert await past.aio.export_jsonl(PATH, tmp_path / "lines", from_seq=40) == 2

    run(carry())
    assert past.state_at("acme/carried").memory == past.state_at(PATH).memory
    assert (tmp_path / "lines").read_bytes().count(b"\n") == 2


def test_a_fork_is_made_and_goes_on(past: AgentSystem) -> None:
    async def fork() -> None:
        made = await past.aio.fork(PATH, 20, to="acme/fork")
        assert isinstance(made, AsyncAgentHandle)
        assert await made.aio.get() == past.state_at(PATH, 20).get()
        await made.aio.set("n", "mine")
        origin = await past.aio.origin("acme/fork")
        assert origin is not None and (origin.agent, origin.seq) == (PATH, 20)
        with pytest.raises(AgentExists):
            await past.aio.fork(PATH, 20, to="acme/fork")

    run(fork())
    assert past.agent(PATH).get("n") == 38


def test_a_replay_walks_forward_and_back(past: AgentSystem) -> None:
    expected = list(past.replay(PATH))

    async def walk() -> None:
        replay = await past.aio.replay(PATH)
        assert (replay.agent, replay.from_seq, replay.to_seq) == (PATH, 1, len(expected))
        assert (replay.seq, replay.event, replay.state.status) == (0, None, "absent")
        assert await listed(replay) == expected
        assert await replay.step() is None
        assert (replay.seq, replay.event, replay.state) == (len(expected), *expected[-1])
        taken: list[Any] = []
        while (found := await replay.back()) is not None:
            taken.append(found[0])
        assert taken == [event for event, _ in reversed(expected)]
        assert await replay.seek(7) == expected[6][1]
        assert (await replay.seek(time=datetime.max.replace(tzinfo=UTC))).seq == len(expected)
        part = await past.aio.replay(PATH, 3, 4)
        assert await listed(part) == expected[2:4]

    run(walk())


def test_what_a_call_raises_its_twin_raises(past: AgentSystem) -> None:
    async def fail() -> None:
        aio = past.aio
        for call, error in (
            (aio.state_at("acme/nobody"), AgentNotFound),
            (aio.state_at(PATH, 1_000), InvalidMessage),
            (aio.blame(PATH, "nowhere"), PathNotFound),
            (aio.replay(PATH, 5, 3), InvalidMessage),
            (aio.verify(PATH, workers=0), InvalidMessage),
            (listed(aio.events("acme/nobody")), AgentNotFound),
            (listed(aio.history("acme/nobody", "n")), AgentNotFound),
            (aio.import_session(exported(past)), AgentExists),
        ):
            with pytest.raises(error):
                await call
        replay = await aio.replay(PATH, 3, 4)
        with pytest.raises(InvalidMessage):
            await replay.seek(1)

    run(fail())


def test_a_damaged_event_stops_a_walk_where_it_stands(system: AgentSystem) -> None:
    filled(system)
    log: Any = system.log
    items = log._storage.logs[log.log_key(PATH)]
    items[19] = items[19][:-1] + bytes([items[19][-1] ^ 1])

    async def walk() -> None:
        replay = await system.aio.replay(PATH)
        with pytest.raises(CorruptEvent):
            await listed(replay)
        assert replay.seq == 19

    run(walk())


# -- the loop goes on --------------------------------------------------------------------------------------------------


class Gated:
    """A log whose every call waits for a gate, and remembers from which threads it was called."""

    def __init__(self, log: Any, gate: threading.Event) -> None:
        self._log, self._gate = log, gate
        self.entered = threading.Event()
        self.threads: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._log, name)
        if not callable(found):
            return Gated.under(self, found) if name in ("archive", "contents") else found

        def call(*arguments: Any, **named: Any) -> Any:
            self.threads.add(threading.get_ident())
            self.entered.set()
            assert self._gate.wait(10), "nobody opened the gate: the loop stands still"
            return found(*arguments, **named)

        return call

    @staticmethod
    def under(above: Gated, log: Any) -> Gated:
        part = Gated(log, above._gate)
        part.entered, part.threads = above.entered, above.threads
        return part


def _awaited(read: Callable[[Any], Any]) -> Callable[[AgentSystem], Coroutine[Any, Any, Any]]:
    return lambda system: read(system.aio)


BLOCKING: dict[str, Callable[[AgentSystem], Coroutine[Any, Any, Any]]] = {
    **{name: _awaited(read) for name, read in READS.items()},
    "fork": lambda s: s.aio.fork(PATH, 20, to="acme/fork"),
    "agents": lambda s: listed(s.aio.agents()),
    "events": lambda s: listed(s.aio.events(PATH)),
    "history": lambda s: listed(s.aio.history(PATH, "n")),
    "replay": lambda s: _walked(s),
    "erase": lambda s: s.aio.erase(PATH),
    "import_session": lambda s: s.aio.import_session(BytesIO(_session()), "acme/carried"),
    "load_content": lambda s: _loaded(s),
}


def _loaded(system: AgentSystem) -> Coroutine[Any, Any, str | bytes]:
    system.agent(PATH).set("text", "x" * (1024 * 1024 + 1))
    return system.aio.load_content(PATH, system.peek(PATH).memory["text"])


async def _walked(system: AgentSystem) -> list[Any]:
    return await listed(await system.aio.replay(PATH))


def _session() -> bytes:
    with AgentSystem.open("memory://") as other:
        return exported(filled(other)).getvalue()


def test_every_twin_is_tried_below() -> None:
    assert set(BLOCKING) == public(History) | public(Reading)


@pytest.mark.parametrize("name", sorted(BLOCKING))
def test_the_loop_goes_on_while_the_log_is_slow(system: AgentSystem, gate: threading.Event, name: str) -> None:
    filled(system)
    log = Gated(system.log, gate)
    work = BLOCKING[name](system)

    async def heartbeat() -> Any:
        task = asyncio.create_task(work)
        await asyncio.to_thread(log.entered.wait, 10)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        found = await task
        assert threading.get_ident() not in log.threads
        return found

    with pytest.MonkeyPatch.context() as patch:
        for reader in (system, system._trimmer):
            patch.setattr(reader, "_log", log)
        assert run(heartbeat()) is not None or name == "origin"


def test_a_call_from_the_loop_itself_would_be_seen(system: AgentSystem, gate: threading.Event) -> None:
    """Control: the calls for threads, made in the loop, touch the log there."""
    filled(system)
    gate.set()
    log = Gated(system.log, gate)

    async def call() -> None:
        system.state_at(PATH)
        assert threading.get_ident() in log.threads

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "_log", log)
        run(call())


def test_tasks_that_share_a_replay_get_every_event_once(past: AgentSystem) -> None:
    async def share() -> None:
        replay = await past.aio.replay(PATH)
        found = await asyncio.gather(*(replay.step() for _ in range(60)))
        seqs = [each[0].seq for each in found if each is not None]
        assert sorted(seqs) == list(range(1, replay.to_seq + 1))
        assert replay.seq == replay.to_seq

    run(share())


def test_a_step_that_was_cancelled_is_made_and_the_next_one_follows_it(
    system: AgentSystem, gate: threading.Event
) -> None:
    filled(system)
    log = Gated(system.log, gate)

    async def cancel() -> None:
        gate.set()
        replay = await system.aio.replay(PATH)
        gate.clear()
        log.entered.clear()
        first = asyncio.create_task(replay.step())
        await asyncio.to_thread(log.entered.wait, 10)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(replay.step())
        gate.set()
        found = await second
        assert found is not None and found[0].seq == 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "_log", log)
        run(cancel())


def test_progress_is_told_in_a_thread_and_can_be_passed_on_to_the_loop(past: AgentSystem) -> None:
    async def verify() -> None:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        threads: set[int] = set()

        def progress(_: object) -> None:
            threads.add(threading.get_ident())
            loop.call_soon_threadsafe(told.set)

        report = await past.aio.verify(progress=progress)
        await asyncio.wait_for(told.wait(), 30)
        assert report.ok and threads and threading.get_ident() not in threads

    run(verify())
