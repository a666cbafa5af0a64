"""The loop of durable handlers: asyncio's own waits, in an order that the results alone decide."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from random import Random
from threading import Thread
from typing import Any, TypeAlias

import pytest

from duramen.actors import AgentSystem
from duramen.actors.work import DurableLoop, WorkCancelled
from duramen.actors.work.execution import loop as loop_module
from duramen.events import NotDurable


class Work:
    """One run of a coroutine function, which gets this object to begin steps with."""

    def __init__(
        self,
        function: Callable[[Work], Coroutine[Any, Any, Any]],
        seed: int = 1,
        context: contextvars.Context | None = None,
    ) -> None:
        self.seen: list[Any] = []
        self.begun: list[tuple[int, Any]] = []
        self.reports: list[Mapping[str, Any]] = []
        self.loop = DurableLoop.start(function(self), self.reports.append, seed=seed, context=context)

    async def step(self, name: str) -> Any:
        return await self.loop.pending(name)

    def run(self) -> Work:
        self.loop.run()
        self.begun += self.loop.take_begun()
        return self

    def hand(self, number: int, value: Any = None) -> bool:
        handed = self.loop.hand(number, value)
        self.begun += self.loop.take_begun()
        return handed

    def open(self) -> list[int]:
        return [number for number, _ in self.begun if self.loop.is_open(number)]


Part: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


# -- random programs ---------------------------------------------------------------------------------------------------


def make_plan(random: Random, depth: int = 3) -> Any:
    kinds = ["step", "step", "fail"]
    if depth:
        kinds += ["sequence", "gather", "group", "wait", "completed", "lock", "queue", "shield"] * 2
    kind = random.choice(kinds)
    if kind in ("step", "fail"):
        return kind, random.choice("abc")
    return kind, [make_plan(random, depth - 1) for _ in range(random.randint(2, 3))]


async def run_plan(work: Work, plan: Any, place: str = "") -> None:
    kind, content = plan
    if kind in ("step", "fail"):
        try:
            value = await work.step(content)
        except asyncio.CancelledError:
            work.seen.append((place, "cancelled"))
            if len(place) % 2:
                work.seen.append((place, await work.step("a")))
            raise
        work.seen.append((place, content, value))
        if kind == "fail" and value % 2:
            raise ValueError(place)
        return
    parts = [partial(run_plan, work, part, f"{place}/{kind}{index}") for index, part in enumerate(content)]
    try:
        await WAYS[kind](work, parts)
    except (ValueError, ExceptionGroup) as error:
        work.seen.append((place, type(error).__name__))


async def in_sequence(work: Work, parts: list[Part]) -> None:
    for part in parts:
        await part()


async def with_gather(work: Work, parts: list[Part]) -> None:
    work.seen.append([str(each) for each in await asyncio.gather(*[part() for part in parts], return_exceptions=True)])


async def with_group(work: Work, parts: list[Part]) -> None:
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(part())


async def with_wait(work: Work, parts: list[Part]) -> None:
    tasks = [asyncio.create_task(part(), name=f"p{index}") for index, part in enumerate(parts)]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    work.seen.append(([task.get_name() for task in done], [task.get_name() for task in others]))
    for task in others:
        task.cancel()
    work.seen.append([str(each) for each in await asyncio.gather(*tasks, return_exceptions=True)])


async def with_completed(work: Work, parts: list[Part]) -> None:
    for task in asyncio.as_completed([asyncio.create_task(part()) for part in parts]):
        try:
            await task
        except ValueError as error:
            work.seen.append(("completed", str(error)))


async def with_lock(work: Work, parts: list[Part]) -> None:
    own = asyncio.Lock()

    async def locked(part: Part) -> None:
        async with own:
            await part()

    await asyncio.gather(*[locked(part) for part in parts], return_exceptions=True)


async def with_queue(work: Work, parts: list[Part]) -> None:
    queue: asyncio.Queue[Part | None] = asyncio.Queue(maxsize=1)

    async def consume() -> None:
        while (part := await queue.get()) is not None:
            try:
                await part()
            except ValueError as error:
                work.seen.append(("queue", str(error)))

    consumers = [asyncio.create_task(consume()) for _ in range(2)]
    for part in [*parts, None, None]:
        await queue.put(part)
    await asyncio.gather(*consumers)


async def with_shield(work: Work, parts: list[Part]) -> None:
    await asyncio.gather(*[asyncio.shield(part()) for part in parts], return_exceptions=True)


WAYS: dict[str, Callable[[Work, list[Part]], Coroutine[Any, Any, None]]] = {
    "sequence": in_sequence,
    "gather": with_gather,
    "group": with_group,
    "wait": with_wait,
    "completed": with_completed,
    "lock": with_lock,
    "queue": with_queue,
    "shield": with_shield,
}


def start_program(seed: int) -> Work:
    plan = ("gather", [make_plan(Random(seed)), make_plan(Random(seed + 10_000))])

    async def program(work: Work) -> Any:
        await run_plan(work, plan)
        return work.seen

    return Work(program, seed * 7_919)


def run_recorded(seed: int) -> tuple[Work, list[tuple[int, int]]]:
    """Run a program whose results come in a random order, which is returned."""
    random, handed = Random(-seed), []
    work = start_program(seed).run()
    while not work.loop.ended:
        number, value = random.choice(work.open()), random.randrange(1_000)
        work.hand(number, value)
        handed.append((number, value))
    return work, handed


def is_equal(one: Work, other: Work) -> bool:
    return (one.seen, one.begun) == (other.seen, other.begun)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_random_programs_run_again_equally_when_the_same_results_come_in_the_same_order(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        recorded, handed = run_recorded(seed)
        again = start_program(seed).run()
        gc.collect(0)
        for number, value in handed:
            assert again.hand(number, value), seed
        assert again.loop.ended, seed
        assert is_equal(recorded, again), seed


@pytest.mark.slow
def test_random_programs_differ_when_results_are_matched_by_name_alone() -> None:
    differing = 0
    for seed in range(100):
        recorded, handed = run_recorded(seed)
        if len(handed) < 4:
            continue
        names = dict(recorded.begun)
        again = start_program(seed).run()
        for number, value in handed:
            matching = [each for each in again.open() if dict(again.begun)[each] == names[number]]
            if not matching or not again.hand(matching[0], value):
                break
        differing += not is_equal(recorded, again)
        again.loop.discard()
    assert differing > 30


@pytest.mark.slow
def test_random_programs_differ_when_results_come_in_another_order() -> None:
    differing = 0
    for seed in range(100):
        recorded, handed = run_recorded(seed)
        again = start_program(seed).run()
        while not again.loop.ended and again.open():
            number = again.open()[-1]
            again.hand(number, dict(handed).get(number, 0))
        differing += not is_equal(recorded, again)
    assert differing > 30


def test_a_set_of_tasks_has_the_same_order_in_each_run() -> None:
    async def wait_for_all(work: Work) -> Any:
        tasks = [asyncio.create_task(work.step("a"), name=str(index)) for index in range(20)]
        return [task.get_name() for task in (await asyncio.wait(tasks))[0]]

    def order() -> Any:
        work = Work(wait_for_all).run()
        for number in range(1, 21):
            work.hand(number)
        return work.loop.result()

    assert order() == order() == order()


# -- what waits for something else -------------------------------------------------------------------------------------


async def foreign_future(work: Work) -> None:
    other = asyncio.new_event_loop()
    try:
        await other.create_future()
    finally:
        other.close()


async def callback_from_a_thread(work: Work) -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(event.wait())
    await asyncio.sleep(0)

    def set_event() -> None:
        with suppress(NotDurable):
            event.set()

    thread = Thread(target=set_event)
    thread.start()
    thread.join()
    await waiting


async def as_completed(work: Work) -> None:
    parts = [work.step("a"), work.step("b")]
    try:
        for part in asyncio.as_completed(parts):
            await part
    finally:
        for step in parts:
            step.close()


async def another_awaitable(work: Work) -> None:
    class Elsewhere:
        def __await__(self) -> Any:
            yield "a message to another kind of loop"

    await Elsewhere()


def awaiting(function: Callable[[], Any]) -> Callable[[Work], Coroutine[Any, Any, Any]]:
    async def run(work: Work) -> Any:
        return await function()

    return run


async def timeout(work: Work) -> None:
    async with asyncio.timeout(1):
        await work.step("a")


async def wait_with_timeout(work: Work) -> None:
    await asyncio.wait([asyncio.create_task(work.step("a"))], timeout=1)


WAITS: dict[str, Callable[[Work], Coroutine[Any, Any, Any]]] = {
    "sleep": awaiting(lambda: asyncio.sleep(0.1)),
    "timeout": timeout,
    "wait_for with a time-out": lambda work: asyncio.wait_for(work.step("a"), 1),
    "wait with a time-out": wait_with_timeout,
    "call_later": awaiting(lambda: asyncio.get_running_loop().call_later(1, print)),
    "the loop's clock": awaiting(lambda: asyncio.get_running_loop().time()),
    "to_thread": awaiting(lambda: asyncio.to_thread(print)),
    "run_in_executor": awaiting(lambda: asyncio.get_running_loop().run_in_executor(None, print)),
    "a connection": awaiting(lambda: asyncio.open_connection("127.0.0.1", 1)),
    "a name's address": awaiting(lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1)),
    "a subprocess": awaiting(lambda: asyncio.create_subprocess_exec("true")),
    "a signal": awaiting(lambda: asyncio.get_running_loop().add_signal_handler(10, print)),
    "a thread's future": awaiting(lambda: asyncio.wrap_future(Future())),
    "a future of its own": awaiting(lambda: asyncio.get_running_loop().create_future()),
    "another loop's future": foreign_future,
    "a callback from a thread": callback_from_a_thread,
    "another kind of awaitable": another_awaitable,
    "coroutines given to as_completed": as_completed,
}


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_whatever_else_waits_raises_not_durable_at_once(name: str) -> None:
    work = Work(WAITS[name]).run()
    assert work.loop.ended
    with pytest.raises(NotDurable):
        work.loop.result()
    gc.collect()  # what asyncio has dropped without awaiting it


def test_an_ask_of_asyncio_raises_not_durable() -> None:
    with AgentSystem.open("memory://") as system:
        alice = system.spawn("acme/alice")
        work = Work(lambda _: alice.aio.get()).run()
        with pytest.raises(NotDurable):
            work.loop.result()


def test_sleeping_for_nothing_lets_others_run_first() -> None:
    async def take_turns(work: Work) -> Any:
        async def count(name: str) -> None:
            for index in range(3):
                work.seen.append(f"{name}{index}")
                await asyncio.sleep(0)

        await asyncio.gather(count("a"), count("b"))
        return work.seen

    assert Work(take_turns).run().loop.result() == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_the_work_ends_with_not_durable_also_where_its_code_has_caught_that() -> None:
    async def go_on(work: Work) -> str:
        try:
            await asyncio.sleep(1)
        except Exception:
            work.seen.append("caught")
        await work.step("a")
        return "as if nothing had been"

    work = Work(go_on).run()
    assert work.seen == ["caught"]
    with pytest.raises(NotDurable, match="call_later"):
        work.loop.result()


def test_work_that_nothing_can_wake_ends_with_the_place_where_it_waits() -> None:
    async def wait_for_ever(work: Work) -> None:
        await work.step("a")
        await asyncio.Event().wait()

    work = Work(wait_for_ever).run()
    assert not work.loop.ended
    work.hand(1)
    with pytest.raises(NotDurable, match=r"test_loop\.py:\d+"):
        work.loop.result()


def test_work_that_never_waits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spin(work: Work) -> None:
        while True:
            await asyncio.sleep(0)

    monkeypatch.setattr(loop_module, "MOST_CALLS", 1_000)
    with pytest.raises(NotDurable, match="without waiting"):
        Work(spin).run().loop.result()


# -- how work ends -----------------------------------------------------------------------------------------------------


def test_what_the_work_raises_is_its_result() -> None:
    async def fail(work: Work) -> None:
        await work.step("a")
        raise KeyError("plan")

    work = Work(fail).run()
    work.hand(1)
    for _ in range(2):
        with pytest.raises(KeyError, match="plan"):
            work.loop.result()


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("nested", [False, True])
def test_an_exception_that_ends_programs_is_the_result_of_the_work(leave: type[BaseException], nested: bool) -> None:
    async def fail(work: Work) -> None:
        raise leave

    async def gather(work: Work) -> None:
        await asyncio.gather(fail(work), work.step("a"))

    work = Work(gather if nested else fail).run()
    with pytest.raises(leave):
        work.loop.result()


def test_an_error_handed_in_is_raised_where_the_result_is_awaited() -> None:
    async def catch(work: Work) -> str:
        try:
            await work.step("a")
        except ValueError as error:
            return str(error)
        return "nothing raised"

    work = Work(catch).run()
    assert work.loop.fail(1, ValueError("refused"))
    assert work.loop.result() == "refused"


def test_a_result_is_handed_in_once() -> None:
    async def two(work: Work) -> list[Any]:
        return [await work.step("a"), await work.step("b")]

    work = Work(two).run()
    assert not work.hand(2)
    assert work.hand(1, "first")
    assert not work.hand(1, "second")
    assert work.hand(2, "third")
    assert work.loop.result() == ["first", "third"]


def test_tasks_left_behind_are_cancelled_and_begin_nothing() -> None:
    async def leave_behind(work: Work) -> str:
        async def clean_up() -> None:
            try:
                await work.step("a")
            finally:
                work.seen.append("cleaned up")
                await work.step("b")

        work.seen.append(asyncio.create_task(clean_up()))
        await work.step("c")
        return "done"

    work = Work(leave_behind).run()
    work.hand(1)
    assert work.loop.result() == "done"
    assert work.seen[1:] == ["cleaned up"]
    assert [name for _, name in work.begun] == ["c", "a"]
    assert work.loop.take_given_up() == [2]


def test_an_exception_of_a_task_that_nobody_awaits_is_reported() -> None:
    async def leave_behind(work: Work) -> None:
        async def fail() -> None:
            raise ValueError("lost")

        work.seen.append(asyncio.create_task(fail()))
        await work.step("a")
        work.seen.clear()

    work = Work(leave_behind).run()
    work.hand(1)
    gc.collect()
    assert work.loop.result() is None
    assert [str(report["exception"]) for report in work.reports] == ["lost"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_that_will_not_end_is_closed_and_reported() -> None:
    async def leave_behind(work: Work) -> None:
        async def stay() -> None:
            for _ in range(4):
                try:
                    await work.step("a")
                except BaseException:
                    work.seen.append("stayed")

        work.seen.append(asyncio.create_task(stay()))
        await work.step("b")

    work = Work(leave_behind).run()
    work.hand(1)
    assert work.loop.result() is None
    assert work.seen[1:] == ["stayed", "stayed"]
    assert [report["message"] for report in work.reports] == ["a task did not end with its work"]
    del work
    gc.collect()  # its coroutine awaits once more when it is closed, which Python reports, in this test


def test_what_is_cancelled_is_given_up_and_its_result_is_dropped() -> None:
    async def choose(work: Work) -> Any:
        tasks = [asyncio.create_task(work.step(name)) for name in "abc"]
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        return [task.result() for task in done], await work.step("d")

    work = Work(choose).run()
    assert work.hand(2, "b")
    assert sorted(work.loop.take_given_up()) == [1, 3]
    assert not work.hand(3, "too late")
    assert work.hand(4, "d")
    assert work.loop.result() == (["b"], "d")


def test_a_discarded_run_begins_and_reports_nothing() -> None:
    async def clean_up(work: Work) -> None:
        try:
            await work.step("a")
        finally:
            await work.step("b")

    work = Work(clean_up).run()
    work.loop.discard()
    gc.collect()
    assert (work.loop.take_begun(), work.reports, work.loop.ended) == ([], [], True)


# -- cancelling the whole work -----------------------------------------------------------------------------------------


async def in_a_group(work: Work) -> None:
    async def inner(name: str) -> None:
        try:
            await work.step(name)
        except asyncio.CancelledError as error:
            work.seen.append((name, type(error).__name__))
            raise

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(inner("a"))
            group.create_task(inner("b"))
    finally:
        await work.step("clean up")


async def in_gather(work: Work) -> None:
    try:
        await asyncio.gather(work.step("a"), work.step("b"))
    finally:
        await work.step("clean up")


@pytest.mark.parametrize("function", [in_a_group, in_gather])
def test_cancelled_work_may_clean_up_with_steps_and_ends_with_what_cancelled_it(
    function: Callable[[Work], Coroutine[Any, Any, None]],
) -> None:
    work = Work(function).run()
    reason = WorkCancelled("by kim")
    work.loop.cancel(reason, final=False)
    assert [name for _, name in work.loop.take_begun()] == ["clean up"]
    assert not work.loop.ended
    work.hand(3)
    with pytest.raises(WorkCancelled, match="by kim"):
        work.loop.result()


@pytest.mark.parametrize("function", [in_a_group, in_gather])
def test_terminated_work_begins_nothing_any_more(function: Callable[[Work], Coroutine[Any, Any, None]]) -> None:
    work = Work(function).run()
    work.loop.cancel(WorkCancelled("terminated"), final=True)
    assert (work.loop.ended, work.loop.take_begun()) == (True, [])
    with pytest.raises(WorkCancelled, match="terminated"):
        work.loop.result()


def test_work_that_swallows_its_cancellation_goes_on_until_the_final_one() -> None:
    async def stay(work: Work) -> None:
        for _ in range(5):
            try:
                await work.step("a")
            except BaseException as error:
                work.seen.append(type(error).__name__)

    work = Work(stay).run()
    work.loop.cancel(WorkCancelled("please"), final=False)
    assert not work.loop.ended
    work.loop.cancel(WorkCancelled("now"), final=True)
    assert work.seen == ["WorkCancelled", "WorkCancelled", "CancelledError", "GeneratorExit"]
    with pytest.raises(WorkCancelled, match="now"):
        work.loop.result()


def test_work_cancelled_before_it_began_never_runs() -> None:
    async def run(work: Work) -> None:
        work.seen.append("ran")

    work = Work(run)
    work.loop.cancel(WorkCancelled("early"), final=False)
    assert work.seen == []
    with pytest.raises(WorkCancelled, match="early"):
        work.loop.result()


# -- where it runs -----------------------------------------------------------------------------------------------------


def test_it_is_driven_inside_a_task_of_another_loop_which_keeps_its_own_loop_and_task() -> None:
    async def look(work: Work) -> Any:
        await work.step("a")
        return asyncio.get_running_loop(), asyncio.current_task(), asyncio.all_tasks()

    async def drive() -> None:
        outer = asyncio.get_running_loop(), asyncio.current_task()
        work = Work(look).run()
        await asyncio.sleep(0)
        work.hand(1)
        assert outer == (asyncio.get_running_loop(), asyncio.current_task())
        loop, task, tasks = work.loop.result()
        assert loop is work.loop and tasks == {task} and task is not outer[1]

    asyncio.run(drive())


def test_the_work_runs_in_the_context_it_is_given() -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place")

    async def read(work: Work) -> str:
        await work.step("a")
        return place.get()

    context = contextvars.copy_context()
    context.run(place.set, "inside")
    work = Work(read, context=context).run()
    work.hand(1)
    assert work.loop.result() == "inside"


def test_an_async_generator_that_is_left_half_way_is_closed_in_the_same_stretch() -> None:
    async def leave(work: Work) -> Any:
        async def generate() -> Any:
            try:
                yield await work.step("a")
            finally:
                await asyncio.sleep(0)
                work.seen.append("closed")

        async for value in generate():
            work.seen.append(value)
            break
        await work.step("b")
        return work.seen

    work = Work(leave).run()
    work.hand(1, "a")
    assert work.seen == ["a", "closed"]
