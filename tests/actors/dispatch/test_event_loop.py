"""Calls in the thread of a system's event loop, and what it has the core call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial

import pytest

from duramen.actors.dispatch import EventLoop, Timers
from duramen.actors.dispatch.event_loop import ProgramExit, _contain_exit

_PLACE: ContextVar[str] = ContextVar("place", default="nowhere")


class Core:
    """Calls at once what it is to call, and notes how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, bool]] = []

    def post(self, work: Callable[[], None]) -> None:
        self.asked.append(("post", 1, False))
        work()

    def post_and_run(self, works: Sequence[Callable[[], None]], *, waits: bool) -> None:
        self.asked.append(("run", len(works), waits))
        for work in works:
            work()


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def loop(core: Core) -> Iterator[EventLoop]:
    timers = Timers()
    loop = EventLoop(timers, core)
    yield loop
    loop.close(10)
    timers.close(10)


def test_a_call_does_not_run_in_the_context_of_the_code_that_has_woken_the_loop(loop: EventLoop) -> None:
    seen: list[str] = []
    done = threading.Event()

    def look() -> None:
        seen.append(_PLACE.get())
        _PLACE.set("left behind")
        if len(seen) == 2:
            done.set()

    token = _PLACE.set("a step")
    loop.call(look)
    loop.call(look)
    assert done.wait(10)
    assert seen[0] == "nowhere"
    assert _PLACE.get() == "a step"
    _PLACE.reset(token)


def test_what_comes_of_one_turn_of_the_loop_is_handed_over_together(loop: EventLoop, core: Core) -> None:
    done = threading.Event()
    called: list[int] = []

    def post_three() -> None:
        for number in range(3):
            loop.post(partial(called.append, number))
        loop.post(done.set)

    loop.call(post_three)
    assert done.wait(10)
    assert called == [0, 1, 2]
    assert core.asked == [("run", 4, True)]


def test_another_thread_does_not_run_the_core(loop: EventLoop, core: Core) -> None:
    loop.post(lambda: None)
    assert core.asked == [("post", 1, False)]


def test_the_loop_waits_for_an_append_only_while_no_coroutine_runs(loop: EventLoop, core: Core) -> None:
    begun, done = threading.Event(), threading.Event()
    goes_on = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await goes_on.wait()

    loop.start_task(wait(), lambda _: loop.post(done.set))
    assert begun.wait(10)
    loop.call(lambda: loop.post(goes_on.set))
    assert done.wait(10)
    assert core.asked == [("run", 1, False), ("run", 1, True)]


def test_what_the_core_has_called_in_turn_is_called_in_the_same_turn(loop: EventLoop, core: Core) -> None:
    order: list[str] = []
    done = threading.Event()

    def first() -> None:
        loop.call(lambda: order.append("another call"))
        loop.post(lambda: loop.call(second))

    def second() -> None:
        order.append("called by the core")
        loop.post(done.set)

    loop.call(first)
    assert done.wait(10)
    assert order == ["another call", "called by the core"]
    assert [how for how, _, _ in core.asked] == ["run", "run"]


def test_each_call_after_the_end_is_told_of_it(loop: EventLoop) -> None:
    done = threading.Event()
    loop.call(done.set)
    assert done.wait(10)
    loop.close(10)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="closed"):
            loop.call(done.clear)
    assert done.is_set()


def test_where_the_machine_gives_no_thread_the_next_call_asks_for_one_again(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "duramen-loop":
            raise RuntimeError("can't start new thread")
        start(thread)

    done = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="new thread"):
                loop.call(done.set)
    loop.call(done.set)
    assert done.wait(10)


def test_a_coroutine_that_is_closed_before_its_end_raises_nothing() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append("wait")

    coroutine = _contain_exit(wait())
    coroutine.send(None)
    coroutine.close()
    assert ended == ["wait"]


def test_what_would_end_a_program_is_contained_where_a_coroutine_raises_it() -> None:
    async def leave(error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    for error in (SystemExit(), KeyboardInterrupt(), GeneratorExit()):
        coroutine = _contain_exit(leave(error))
        coroutine.send(None)
        with pytest.raises(ProgramExit) as contained:
            coroutine.send(None)
        assert contained.value.__cause__ is error
