"""The calls for asyncio: the same as those for threads, and the loop goes on while they wait."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from attrs import frozen

from duramen.actors import (
    Agent,
    AgentHandle,
    AgentSystem,
    Append,
    Checkpoint,
    Get,
    LifecycleEvent,
    LifecycleResult,
    Outcome,
    Receipt,
    Set,
    Settings,
    Spawn,
    Supervision,
)
from duramen.actors.api.aio import AsyncConsumers, AsyncSystem
from duramen.actors.api.handles.aio import AsyncAgentHandle
from duramen.actors.commands.supervision import Strategy
from duramen.events import (
    AgentAlreadyRunning,
    AgentNotFound,
    AgentNotRunning,
    AgentPath,
    AgentPaused,
    AskTimeout,
    CheckpointNotFound,
    CommandConflict,
    DuramenError,
    Event,
    Granularity,
    HandlerRaised,
    InvalidMessage,
    InvalidPath,
    Limits,
    MailboxFull,
    MemoryLog,
    PathNotFound,
    SystemClosed,
    ValueRefused,
)
from duramen.projections import Consumers, Projection
from servers import valkey_server

OpenSystem = Callable[..., AgentSystem]
T = TypeVar("T")
PATH = "acme/alice"
TURNS = 200
"""Turns of the loop that a heartbeat must make while something else waits."""


def run(work: Coroutine[Any, Any, T], seconds: float = 20.0) -> T:
    """Run a coroutine in a loop of its own; fail if it hangs."""
    return asyncio.run(asyncio.wait_for(work, seconds))


@pytest.fixture(params=["memory", "valkey"])
def open_aio(request: pytest.FixtureRequest) -> Iterator[OpenSystem]:
    """Systems on one log, in memory and on a server."""
    where: dict[str, Any]
    if request.param == "memory":
        where = {"log": MemoryLog()}
    else:
        where = {"url": request.getfixturevalue("valkey_url"), "namespace": f"t{uuid4().hex}"}
    opened: list[AgentSystem] = []

    def open_one(**options: Any) -> AgentSystem:
        opened.append(AgentSystem.open(**where, **options))
        return opened[-1]

    yield open_one
    for found in opened:
        found.close(timeout=5)


@frozen
class Block:
    """Handled in a worker thread until the gate opens; then what it says is appended."""

    word: str = "blocked"


@frozen
class Fail:
    error: BaseException


class Slow(Agent):
    supervision = Supervision(strategy=Strategy.RESUME)

    def __init__(self, entered: threading.Event, gate: threading.Event) -> None:
        super().__init__()
        self._entered, self._gate = entered, gate

    def on_receive(self, message: Any) -> Any:
        match message:
            case Block(word):
                self._entered.set()
                self._gate.wait(20)
                self.append("words", word)
                return word
            case Fail(error):
                raise error
            case _:
                return super().on_receive(message)


class SlowAsync(Slow):
    async def on_receive(self, message: Any) -> Any:
        match message:
            case Fail(error):
                await asyncio.sleep(0)
                raise error
            case _:
                return None


@pytest.fixture
def entered() -> threading.Event:
    return threading.Event()


@pytest.fixture
def slow(open_aio: OpenSystem, entered: threading.Event, gate: threading.Event) -> AgentSystem:
    """A system whose `slow` agents handle `Block` until the gate opens."""
    return open_aio(
        agents={"slow": lambda: Slow(entered, gate), "slow-async": lambda: SlowAsync(entered, gate)},
    )


async def heard(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10), "it never came so far"


async def turns(count: int) -> None:
    """So many turns of the loop; nobody gets through them while somebody blocks the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


class Counted(Projection[int]):
    """How many properties were set."""

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        return state + (event.type == "memory_set")


def seq(system: AgentSystem, path: str = PATH) -> int:
    head = system.log.head(path)
    return head.seq if head else 0


# -- every call has a twin ---------------------------------------------------------------------------------------------

CALLS = sorted(
    name
    for name, _ in inspect.getmembers(AgentHandle, inspect.isfunction)
    if not name.startswith("_") and name not in ("batch", "stream")  # `async with`
)


@pytest.mark.parametrize("name", CALLS)
def test_every_call_of_a_handle_has_a_twin_that_is_awaited(name: str) -> None:
    twin = getattr(AsyncAgentHandle, name, None)
    assert twin is not None, f"AgentHandle.{name} has no twin"
    assert inspect.iscoroutinefunction(twin)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("ask", "tell", "spawn_child")])
def test_a_twin_takes_the_same_arguments(name: str) -> None:
    ours, theirs = inspect.signature(getattr(AsyncAgentHandle, name)), inspect.signature(getattr(AgentHandle, name))
    assert list(ours.parameters.values()) == list(theirs.parameters.values())


# What answers from memory, is a step of another call, or is opened by `async with`.
_NOT_WAITING = {
    *("accept_message", "agent_types", "aio", "check_cycle", "check_spawn", "disable_after_fork", "hooks", "host"),
    *("is_draining", "limits", "load", "log", "open", "open_output", "register", "registry", "runs_here"),
    *("read_unfinished", "send_spawn", "sharing_status", "withdraw"),
    *("ask", "tell"),  # which handles call
}


def test_every_call_of_a_system_that_waits_has_a_twin() -> None:
    twins = {name for name in dir(AsyncSystem) if not name.startswith("_")}
    assert {name for name in dir(AgentSystem) if not name.startswith("_")} - twins == _NOT_WAITING


def test_every_call_of_consumers_has_a_twin() -> None:
    calls = {name for name in dir(Consumers) if not name.startswith("_")}
    assert calls - set(dir(AsyncConsumers)) == {"after_fork", "attach", "close", "lags"}


def test_a_system_is_followed_drained_and_closed_by_twins(open_aio: OpenSystem) -> None:
    system, other = open_aio(), open_aio()

    async def use() -> None:
        alice = await system.aio.spawn(PATH)
        now = await system.aio.cursor()
        runner = await system.aio.attach(Counted(), "counted", after=now)
        receipt = await alice.set("n", 1)
        await runner.aio.wait_for(receipt, timeout=20)
        assert runner.state == 1
        assert [info.name for info in await system.aio.projections()] == ["counted"]
        assert (await system.aio.consumers.get("counted")).name == "counted"
        seen: list[int] = []
        await system.aio.react("seen", lambda event, reaction: seen.append(event.seq))
        await alice.set("n", 2)
        while 3 not in seen:
            await asyncio.sleep(0.01)
        assert set(seen) == {3}
        assert {host.host for host in await system.aio.hosts()} >= {system.host, other.host}
        assert await system.aio.drain(20)
        assert system.is_draining
        await alice.set("n", 3)  # which the other host does
        await system.aio.close(20)
        with pytest.raises(SystemClosed):
            await alice.get("n")
        assert await other.aio.agent(PATH).get("n") == 3

    run(use(), 60)


def test_a_handler_that_is_a_coroutine_is_refused_the_drain_and_does_not_wait_for_the_close(
    open_aio: OpenSystem,
) -> None:
    class Ending(Agent):
        async def on_receive(self, message: Any) -> Any:
            with pytest.raises(InvalidMessage, match="drain waits for handlers"):
                await system.aio.drain(600)
            await system.aio.close(600)
            return "closes"

    system = open_aio(agents={"ending": Ending})
    assert system.spawn(PATH, agent_type="ending").ask("now") == "closes"


def test_there_are_calls_to_compare() -> None:
    assert {"get", "set", "delete", "append", "merge", "record", "pause", "resume", "terminate"} <= set(CALLS)


def test_the_twins_of_memory_calls_do_what_the_calls_do(open_aio: OpenSystem) -> None:
    system = open_aio()

    async def main() -> None:
        handle = await system.aio.spawn(PATH, session_id="s-1", initial_state={"profile": {"old": 1}, "gone": 0})
        assert isinstance(handle, AsyncAgentHandle)
        alice = handle
        assert (str(alice.path), alice.path) == (PATH, AgentPath.parse(PATH))
        receipt = await alice.set("plan/steps", ["read"])
        assert isinstance(receipt, Receipt)
        assert (receipt.agent, receipt.first_seq, receipt.seq) == (PATH, 2, 2)
        assert (await alice.append("plan/steps", "write")).seq == 3
        assert (await alice.merge("profile", {"tone": "dry", "old": None})).seq == 4
        assert (await alice.delete("gone")).seq == 5
        assert (await alice.record("tool_output", {"tool": "search"})).seq == 6
        assert (await alice.set_granularity(Granularity.STATE)).seq == 7
        unlogged = await alice.record("tool_output", {"tool": "search"})
        assert (unlogged.first_seq, unlogged.seq) == (8, 7)
        assert await alice.get() == {"plan": {"steps": ["read", "write"]}, "profile": {"tone": "dry"}}
        assert await alice.get("plan/steps/1") == "write"
        assert await alice.get("none", "default") == "default"
        assert await alice.keys("plan") == ["steps"]
        assert await alice.ask(Get("profile/tone")) == "dry"
        assert (await alice.ask(Set("x", 1))).seq == 8

    run(main())
    assert [event.type for event in system.events(PATH)] == [
        "spawned",
        "memory_set",
        "memory_appended",
        "memory_merged",
        "memory_deleted",
        "activity_recorded",
        "granularity_set",
        "memory_set",
    ]
    assert system.agent(PATH).get() == {"plan": {"steps": ["read", "write"]}, "profile": {"tone": "dry"}, "x": 1}


def test_the_twins_of_lifecycle_calls_do_what_the_calls_do(open_aio: OpenSystem) -> None:
    system = open_aio()
    told: list[str] = []

    @system.hooks.on_pause
    async def notify(event: LifecycleEvent) -> None:
        told.append(event.event_type)

    async def main() -> None:
        alice = await system.aio.spawn(PATH, initial_state={"a": 1})
        paused = await alice.pause("lunch", metadata={"m": 1}, reason="hungry")
        assert isinstance(paused, LifecycleResult)
        assert (paused.success, paused.data["checkpoint_id"], told) == (True, "lunch", ["pause"])
        assert (await alice.status()).status == "paused"
        resumed = await alice.resume("lunch", clear_current=True)
        assert (resumed.success, resumed.data["items_restored"]) == (True, 1)
        [checkpoint] = await alice.checkpoints()
        assert isinstance(checkpoint, Checkpoint)
        assert (checkpoint.checkpoint_id, checkpoint.metadata) == ("lunch", {"m": 1})
        assert (await alice.restart()).first_seq == 4  # it runs: nothing to do
        ended = await alice.terminate(Outcome.PARTIAL, lessons_learned=["one"], importance_score=1)
        assert (ended.success, ended.data["outcome"]) == (True, "partial")
        assert (await alice.status()).status == "terminated"

    run(main())
    [episode] = system.episodes.list(agent=PATH)
    assert (episode.outcome, episode.lessons_learned, episode.importance_score) == ("partial", ["one"], 1.0)


def test_a_failed_agent_is_restarted_by_the_twin(open_aio: OpenSystem) -> None:
    class Stopping(Agent):
        supervision = Supervision(strategy=Strategy.STOP)

        def on_receive(self, message: Any) -> Any:
            raise RuntimeError

    system = open_aio(agents={"stopping": Stopping})

    async def main() -> None:
        alice = await system.aio.spawn(PATH, agent_type="stopping")
        with pytest.raises(RuntimeError):
            await alice.ask("fail")
        assert (await alice.status()).status == "failed"
        assert (await alice.restart()).seq == 3
        assert (await alice.set("a", 1)).seq == 4

    run(main())


def test_the_twin_of_tell_sends(open_aio: OpenSystem) -> None:
    system = open_aio()
    system.spawn(PATH)

    async def main() -> None:
        alice = system.agent(PATH).aio
        await alice.tell(Set("a", 1))
        assert await alice.get("a") == 1

    run(main())


def test_a_twin_raises_what_the_call_raises(open_aio: OpenSystem) -> None:
    system = open_aio()
    system.spawn(PATH, initial_state={"n": 1})
    bad: list[tuple[Callable[[AsyncAgentHandle], Any], type[DuramenError]]] = [
        (lambda alice: alice.get("x"), PathNotFound),
        (lambda alice: alice.get("a//b"), InvalidPath),
        (lambda alice: alice.keys("n"), InvalidPath),
        (lambda alice: alice.set("a", {1}), ValueRefused),
        (lambda alice: alice.delete("x"), PathNotFound),
        (lambda alice: alice.append("n", 1), InvalidPath),
        (lambda alice: alice.merge("", 1), InvalidPath),
        (lambda alice: alice.record("Not A Kind"), InvalidMessage),
        (lambda alice: alice.set_granularity(), InvalidMessage),
        (lambda alice: alice.pause("p", when_paused="?"), InvalidMessage),
        (lambda alice: alice.terminate("?"), InvalidMessage),
        (lambda alice: alice.spawn_child(""), InvalidPath),
        (lambda alice: alice.ask("what?"), InvalidMessage),
    ]

    async def main() -> None:
        alice = system.agent(PATH).aio
        for call, error in bad:
            with pytest.raises(error):
                await call(alice)
        failed = await alice.resume("none")
        assert not failed.success
        with pytest.raises(CheckpointNotFound):
            failed.raise_for_failure()
        with pytest.raises(AgentAlreadyRunning):
            await system.aio.spawn(PATH)
        with pytest.raises(AgentNotFound):
            await system.agent("acme/nobody").aio.get()
        with pytest.raises(InvalidPath):
            await system.aio.spawn("acme")

    run(main())
    assert seq(system) == 1


def test_a_paused_or_terminated_agent_refuses_the_twins(open_aio: OpenSystem) -> None:
    system = open_aio()

    async def main() -> None:
        alice = await system.aio.spawn(PATH)
        await alice.pause("p")
        for call in (
            alice.set("a", 1),
            alice.delete("a"),
            alice.append("a", 1),
            alice.merge("a", {}),
            alice.record("a"),
        ):
            with pytest.raises(AgentPaused):
                await call
        await alice.terminate()
        with pytest.raises(AgentNotRunning):
            await alice.set("a", 1)
        with pytest.raises(AgentNotRunning):
            await alice.spawn_child("helper")

    run(main())
    assert [event.type for event in system.events(PATH)] == ["spawned", "paused", "episode_recorded", "terminated"]


def test_command_ids_mean_the_same_on_both_sides(open_aio: OpenSystem) -> None:
    system = open_aio()
    alice = system.spawn(PATH)
    first = alice.set("a", 1, command_id="c-1")

    async def main() -> None:
        assert await alice.aio.set("a", 1, command_id="c-1") == first
        with pytest.raises(CommandConflict):
            await alice.aio.set("a", 2, command_id="c-1")

    run(main())
    assert seq(system) == 2


def test_one_handle_serves_loop_after_loop(open_aio: OpenSystem) -> None:
    system = open_aio()
    twin = system.spawn(PATH, initial_state={"l": []}).aio
    for number in range(3):
        run(twin.append("l", number))
    assert run(twin.get("l")) == [0, 1, 2]


def test_calls_of_many_tasks_are_all_answered_and_each_is_there_once(open_aio: OpenSystem) -> None:
    system = open_aio()

    async def main() -> None:
        agents = [await system.aio.spawn(f"acme/a{number}", initial_state={"l": []}) for number in range(10)]
        receipts = await asyncio.gather(*(agent.append("l", n) for n in range(20) for agent in agents))
        assert {receipt.seq for receipt in receipts} == set(range(2, 22))
        for agent in agents:
            assert sorted(await agent.get("l")) == list(range(20))

    run(main())


# -- batches and children ----------------------------------------------------------------------------------------------


def test_a_batch_is_one_append(open_aio: OpenSystem) -> None:
    system = open_aio()

    async def main() -> None:
        alice = await system.aio.spawn(PATH, initial_state={"b": 1})
        async with alice.batch(command_id="c") as batch:
            batch.set("a", 1)
            batch.delete("b")
            batch.append("l", 1)
            batch.merge("m", {"x": 1})
            batch.record("note", {"n": 1})
            with pytest.raises(InvalidMessage):
                _ = batch.receipt
            assert seq(system) == 1
        assert (batch.receipt.first_seq, batch.receipt.seq) == (2, 6)
        assert await alice.get() == {"a": 1, "l": [1], "m": {"x": 1}}

    run(main())
    assert {event.command_id for event in system.events(PATH, from_seq=2)} == {"c"}


def test_a_batch_whose_block_raises_sends_nothing(open_aio: OpenSystem) -> None:
    system = open_aio()
    alice = system.spawn(PATH)

    async def main() -> None:
        with pytest.raises(LookupError):
            async with alice.aio.batch() as batch:
                batch.set("a", 1)
                raise LookupError
        with pytest.raises(InvalidMessage):
            _ = batch.receipt
        async with alice.aio.batch() as empty:
            pass
        with pytest.raises(InvalidMessage):
            _ = empty.receipt
        assert await alice.aio.get() == {}

    run(main())
    assert seq(system) == 1


def test_a_refused_batch_leaves_no_trace_and_has_no_receipt(open_aio: OpenSystem) -> None:
    system = open_aio()
    alice = system.spawn(PATH)

    async def main() -> None:
        batch = alice.aio.batch()
        with pytest.raises(PathNotFound):
            async with batch:
                batch.set("a", 1)
                batch.delete("nothing")
        with pytest.raises(InvalidMessage):
            _ = batch.receipt

    run(main())
    assert (seq(system), alice.get()) == (1, {})


def test_a_cancelled_batch_sends_nothing(open_aio: OpenSystem) -> None:
    system = open_aio()
    alice = system.spawn(PATH)

    async def main() -> None:
        begun = asyncio.Event()

        async def gather() -> None:
            async with alice.aio.batch() as batch:
                batch.set("a", 1)
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(gather())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert seq(system) == 1


def test_spawn_child_makes_a_child(open_aio: OpenSystem) -> None:
    system = open_aio()

    async def main() -> None:
        alice = await system.aio.spawn(PATH)
        helper = await alice.spawn_child("helper", session_id="h-1", initial_state={"a": 1}, outlives_parent=True)
        assert isinstance(helper, AsyncAgentHandle)
        assert str(helper.path) == "acme/alice/helper"
        assert await helper.get("a") == 1
        other = await alice.spawn_child("other")
        assert (await alice.pause("cut", cascade=True)).data["agents"] == 3
        assert (await alice.resume("cut", cascade=True)).success
        await alice.terminate()
        assert (await other.status()).status == "terminated"
        assert (await helper.status()).status == "running"
        with pytest.raises(AgentAlreadyRunning):
            await system.aio.spawn("acme/alice/helper")

    run(main())
    spawned = next(iter(system.events("acme/alice/helper")))
    assert (spawned.session_id, spawned.data["parent"]) == ("h-1", PATH)


def test_a_child_is_spawned_alike_by_thread_and_by_task(open_aio: OpenSystem) -> None:
    system = open_aio()
    alice = system.spawn(PATH)
    given: dict[str, Any] = {
        "agent_type": "t",
        "initial_state": {"a": 1},
        "metadata": {"m": 1},
        "granularity": Granularity.TRACE,
        "levels": {"note": Granularity.STATE},
    }
    alice.spawn_child("one", session_id="s", **given)
    run(alice.aio.spawn_child("two", session_id="s", **given))
    [one], [two] = system.events("acme/alice/one"), system.events("acme/alice/two")
    assert one.data == two.data


@pytest.mark.parametrize("argument", ["initial_state", "metadata", "levels", "granularity", "agent_type"])
def test_none_means_the_default_for_both_spawns(open_aio: OpenSystem, argument: str) -> None:
    """An argument that both refuse is refused by both."""
    system = open_aio()

    def outcome(call: Callable[[], Any]) -> type[BaseException] | None:
        try:
            call()
        except BaseException as error:
            return type(error)
        return None

    given: dict[str, Any] = {argument: None}
    one = outcome(lambda: system.spawn("acme/one", **given))
    two = outcome(lambda: run(system.aio.spawn("acme/two", **given)))
    assert one == two


def test_aio_spawn_takes_what_an_agent_platform_has(open_aio: OpenSystem) -> None:
    system = open_aio()
    project, instance, session = uuid4(), uuid4(), uuid4()

    async def main() -> None:
        handle = await system.aio.spawn(project_id=project, agent_instance_id=instance, session_id=session)
        assert str(handle.path) == f"{project}/{instance}"
        assert (await handle.status()).session_id == str(session)

    run(main())


# -- opening -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["memory://", "valkey_url", "embedded"])
def test_a_system_is_an_async_context(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    options: dict[str, Any] = {"url": where}
    if where == "valkey_url":
        options = {"url": request.getfixturevalue(where), "namespace": f"t{uuid4().hex}"}
    elif where == "embedded":
        options = {"data_dir": tmp_path / "d"}

    async def main() -> AgentHandle:
        async with AgentSystem.open(**options) as system:
            assert isinstance(system, AgentSystem)
            alice = await system.aio.spawn(PATH)
            assert (await alice.set("a", 1)).seq == 2
            return system.agent(PATH)

    closed = run(main())
    with pytest.raises(SystemClosed):
        closed.get()
    with pytest.raises(SystemClosed):
        run(closed.aio.get())


def test_leaving_the_async_context_by_an_exception_closes_the_system_too() -> None:
    found: list[AgentSystem] = []

    async def main() -> None:
        async with AgentSystem.open("memory://") as system:
            found.append(system)
            raise LookupError

    with pytest.raises(LookupError):
        run(main())
    with pytest.raises(SystemClosed):
        found[0].spawn(PATH)


def test_closing_does_not_block_the_loop_while_a_handler_ends(
    open_aio: OpenSystem, entered: threading.Event, gate: threading.Event
) -> None:
    async def main() -> str:
        async with open_aio(agents={"slow": lambda: Slow(entered, gate)}) as system:
            alice = await system.aio.spawn(PATH, agent_type="slow")
            call = asyncio.create_task(alice.ask(Block("last")))
            await heard(entered)
            beats = asyncio.create_task(turns(TURNS))
            beats.add_done_callback(lambda _: gate.set())
        return str(await call)  # the block ended before the handler did: close waited, the loop did not

    assert run(main()) == "last"


# -- the loop goes on --------------------------------------------------------------------------------------------------


def test_the_loop_turns_while_a_handler_blocks(
    slow: AgentSystem, entered: threading.Event, gate: threading.Event
) -> None:
    async def main() -> None:
        alice = await slow.aio.spawn(PATH, agent_type="slow")
        blocked = asyncio.create_task(alice.ask(Block()))
        await heard(entered)
        behind = [asyncio.create_task(call) for call in (alice.set("a", 1), alice.get("a"), alice.pause("p"))]
        await turns(TURNS)
        assert not blocked.done()
        assert not any(task.done() for task in behind)
        gate.set()
        assert await blocked == "blocked"
        receipt, value, paused = await asyncio.gather(*behind)
        assert (receipt.seq, value, paused.success) == (3, 1, True)

    run(main())


def test_another_agent_answers_while_a_handler_blocks(
    slow: AgentSystem, entered: threading.Event, gate: threading.Event
) -> None:
    async def main() -> None:
        alice = await slow.aio.spawn(PATH, agent_type="slow")
        blocked = asyncio.create_task(alice.ask(Block()))
        await heard(entered)
        bob = await slow.aio.spawn("acme/bob")
        for number in range(20):
            await bob.set("n", number)
            assert await bob.get("n") == number
        assert not blocked.done()
        gate.set()
        await blocked

    run(main())


def test_the_loop_turns_while_the_server_does_not_answer() -> None:
    """Whoever waits in the loop's own thread for the commit fails here."""
    with valkey_server() as server, AgentSystem.open(server.url) as system:
        system.spawn(PATH)

        async def main() -> None:
            alice = system.agent(PATH).aio
            server.pause()
            try:
                calls = [asyncio.create_task(call) for call in (alice.set("a", 1), alice.get("a"), alice.status())]
                calls.append(asyncio.create_task(system.agent("acme/bob").aio.get()))  # activated from the log
                calls.append(asyncio.create_task(system.aio.spawn("acme/carol")))
                await turns(TURNS)
                assert not any(call.done() for call in calls)
            finally:
                server.resume()
            receipt, value, status, nobody, carol = await asyncio.gather(*calls, return_exceptions=True)
            assert (receipt.seq, value, status.seq) == (2, 1, 2)
            assert isinstance(nobody, AgentNotFound)
            assert isinstance(carol, AsyncAgentHandle)

        run(main())


def test_the_loop_turns_while_a_hook_blocks(open_aio: OpenSystem, gate: threading.Event) -> None:
    system = open_aio(settings=Settings(hook_timeout=20))
    entered = threading.Event()

    @system.hooks.on_pause
    def block(event: LifecycleEvent) -> None:
        entered.set()
        gate.wait(20)

    async def main() -> None:
        alice = await system.aio.spawn(PATH)
        paused = asyncio.create_task(alice.pause("p"))
        await heard(entered)
        await turns(TURNS)
        assert not paused.done()
        gate.set()
        assert (await paused).success

    run(main())


def test_a_full_mailbox_is_told_at_once_and_does_not_block_the_loop(
    open_aio: OpenSystem, entered: threading.Event, gate: threading.Event
) -> None:
    system = open_aio(agents={"slow": lambda: Slow(entered, gate)}, limits=Limits(mailbox_messages=3))

    async def main() -> None:
        alice = await system.aio.spawn(PATH, agent_type="slow")
        blocked = asyncio.create_task(alice.ask(Block()))
        await heard(entered)
        calls = [asyncio.create_task(alice.append("l", number)) for number in range(5)]
        await turns(TURNS)
        full = [call for call in calls if call.done()]
        assert [type(call.exception()) for call in full] == [MailboxFull, MailboxFull]
        gate.set()
        await blocked
        await asyncio.gather(*(call for call in calls if call not in full))
        assert await alice.get("l") == [0, 1, 2]

    run(main())


# -- cancellation and time-outs ----------------------------------------------------------------------------------------


def words(system: AgentSystem) -> list[Any]:
    """What was appended, by the log."""
    return [event.data["values"] for event in system.events(PATH) if event.type == "memory_appended"]


def test_a_call_cancelled_while_it_is_carried_out_is_in_the_log_once(
    slow: AgentSystem, entered: threading.Event, gate: threading.Event
) -> None:
    async def main() -> None:
        alice = await slow.aio.spawn(PATH, agent_type="slow")
        call = asyncio.create_task(alice.ask(Block("one")))
        await heard(entered)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        assert await alice.get("words") == ["one"]

    run(main())
    assert words(slow) == [["one"]]


def test_a_call_cancelled_while_it_waits_in_line_is_dropped(
    slow: AgentSystem, entered: threading.Event, gate: threading.Event
) -> None:
    async def main() -> None:
        alice = await slow.aio.spawn(PATH, agent_type="slow")
        blocked = asyncio.create_task(alice.ask(Block("one")))
        await heard(entered)
        call = asyncio.create_task(alice.append("words", "two"))
        await turns(3)  # it is sent
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        await blocked
        await alice.append("words", "three")

    run(main())
    assert words(slow) == [["one"], ["three"]]


def test_a_cancelled_call_asked_again_with_its_command_id_is_in_the_log_once(
    slow: AgentSystem, entered: threading.Event, gate: threading.Event
) -> None:
    async def main() -> None:
        alice = await slow.aio.spawn(PATH, agent_type="slow")
        blocked = asyncio.create_task(alice.ask(Block("one"), command_id="c-1"))
        await heard(entered)
        call = asyncio.create_task(alice.append("words", "two", command_id="c-2"))
        await turns(3)
        blocked.cancel()
        call.cancel()
        assert await asyncio.gather(blocked, call, return_exceptions=True) != []
        assert blocked.cancelled()
        assert call.cancelled()
        gate.set()
        assert (await alice.append("words", "two", command_id="c-2")).seq == 3
        assert await alice.ask(Block("one"), command_id="c-1") == "one"
        assert (await alice.status()).seq == 3

    run(main())
    assert words(slow) == [["one"], ["two"]]


def test_a_call_cancelled_before_its_task_began_is_never_sent(open_aio: OpenSystem) -> None:
    system = open_aio()

    async def main() -> None:
        alice = await system.aio.spawn(PATH)
        call = asyncio.create_task(alice.append("words", "never"))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await alice.append("words", "one")

    run(main())
    assert words(system) == [["one"]]


@pytest.mark.parametrize("steps", range(6))
def test_cancelling_at_any_moment_loses_and_doubles_nothing(open_aio: OpenSystem, steps: int) -> None:
    """Cancelled after so many turns of the loop: sent or not, whole and once; asked again, it is there."""
    system = open_aio()

    async def main() -> None:
        alice = await system.aio.spawn(PATH)
        for number in range(20):
            call = asyncio.create_task(alice.append("words", number, command_id=f"c-{number}"))
            await turns(steps)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            if number % 2:
                await alice.append("words", number, command_id=f"c-{number}")
        told = [value for [value] in words(system)]
        assert told == sorted(set(told))
        assert set(range(1, 20, 2)) <= set(told)
        assert await alice.get("words") == told

    run(main())


def test_the_time_out_of_the_caller_around_a_call_is_the_callers(
    slow: AgentSystem, entered: threading.Event, gate: threading.Event
) -> None:
    async def main() -> None:
        alice = await slow.aio.spawn(PATH, agent_type="slow")
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(None) as scope:
                call = asyncio.create_task(alice.ask(Block("one")))
                await heard(entered)
                scope.reschedule(asyncio.get_running_loop().time())
                await call
        assert not isinstance(caught.value, AskTimeout)
        gate.set()
        assert await alice.get("words") == ["one"]

    run(main())


@pytest.mark.slow
def test_a_call_that_times_out_raises_ask_timeout_and_is_carried_out_once(
    slow: AgentSystem, entered: threading.Event, gate: threading.Event
) -> None:
    async def main() -> None:
        alice = await slow.aio.spawn(PATH, agent_type="slow")
        call = asyncio.create_task(alice.ask(Block("one"), timeout=1.0))
        await heard(entered)
        with pytest.raises(AskTimeout) as caught:
            await call
        assert caught.value.expected == 1.0
        gate.set()
        assert await alice.get("words") == ["one"]

    run(main())
    assert words(slow) == [["one"]]


@pytest.mark.parametrize("agent_type", ["slow", "slow-async"])
def test_a_handlers_own_timeout_error_is_not_turned_into_ask_timeout(slow: AgentSystem, agent_type: str) -> None:
    raised = TimeoutError("the model did not answer")

    async def main() -> None:
        alice = await slow.aio.spawn(PATH, agent_type=agent_type)
        for timeout in (30.0, None):
            with pytest.raises(TimeoutError, match="the model did not answer") as caught:
                await alice.ask(Fail(raised), timeout=timeout)
            assert isinstance(caught.value, HandlerRaised)
        with pytest.raises(TimeoutError) as caught:
            await alice.deferred.ask(Fail(raised), block=False)
        assert isinstance(caught.value, HandlerRaised)
        assert not isinstance(caught.value, AskTimeout)

    run(main())
    with pytest.raises(TimeoutError) as caught:
        slow.agent(PATH).ask(Fail(raised))
    assert isinstance(caught.value, HandlerRaised)


def test_a_handlers_own_cancelled_error_does_not_cancel_the_caller_for_good(slow: AgentSystem) -> None:
    """What it becomes is a typed error; the caller's task, which nobody cancelled, goes on."""

    async def main() -> None:
        alice = await slow.aio.spawn(PATH, agent_type="slow-async")
        with pytest.raises(DuramenError):
            await alice.ask(Fail(asyncio.CancelledError()))
        assert await alice.get() == {}

    run(main())


def test_a_future_of_a_call_is_awaited_by_several_tasks(open_aio: OpenSystem) -> None:
    system = open_aio()
    alice = system.spawn(PATH)

    async def main() -> None:
        reply = alice.ask(Append("l", 1), block=False)

        async def wait() -> Any:
            return await reply

        receipts = await asyncio.gather(*(wait() for _ in range(5)))
        assert {receipt.seq for receipt in receipts} == {2}
        assert reply.get(timeout=5).seq == 2

    run(main())


def test_spawn_messages_and_the_call_give_the_same(open_aio: OpenSystem) -> None:
    system = open_aio()

    async def main() -> None:
        result = await system.agent(PATH).aio.ask(Spawn(session_id="s-1", initial_state={"a": 1}))
        assert result.data == {"session_id": "s-1", "initial_items": 1, "seq": 1}

    run(main())


# -- a session that is there already -----------------------------------------------------------------------------------


def test_spawning_with_exist_ok_gives_the_session_that_is_there(open_aio: OpenSystem) -> None:
    system = open_aio()
    first = system.spawn(PATH, initial_state={"n": 1}, exist_ok=True)
    assert system.spawn(PATH, initial_state={"n": 2}, exist_ok=True).get("n") == 1
    assert run(system.aio.spawn(PATH, initial_state={"n": 3}, exist_ok=True)).path == first.path
    first.pause()
    assert system.spawn(PATH, exist_ok=True).status().status == "paused"
    first.terminate()
    assert system.spawn(PATH, initial_state={"n": 4}, exist_ok=True).get("n") == 4, "a new session"
    with pytest.raises(AgentAlreadyRunning):
        system.spawn(PATH)


def test_spawning_children_with_exist_ok_gives_those_that_are_there(open_aio: OpenSystem) -> None:
    system = open_aio()
    alice = system.spawn(PATH)
    child = alice.spawn_child("kid", initial_state={"n": 1}, exist_ok=True)
    assert alice.spawn_child("kid", initial_state={"n": 2}, exist_ok=True).get("n") == 1
    assert run(alice.aio.spawn_child("kid", exist_ok=True)).path == child.path
    assert system.spawn(child.path, exist_ok=True).get("n") == 1
    with pytest.raises(AgentAlreadyRunning):
        alice.spawn_child("kid")
    assert list(system.peek(PATH).children) == [child.path.text]
