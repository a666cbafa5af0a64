"""Threads for what may block."""

from __future__ import annotations

import threading
from functools import partial

from duramen.actors import Agent, AgentSystem
from duramen.actors.dispatch.thread_pool import ThreadPool


def test_work_runs_in_as_many_threads_as_there_is_work_up_to_the_bound() -> None:
    workers = ThreadPool("t", most=4)
    together = threading.Barrier(4)
    done = [threading.Event() for _ in range(4)]

    def meet(event: threading.Event) -> None:
        together.wait(10)
        event.set()

    for event in done:
        workers.submit(partial(meet, event))
    assert all(event.wait(10) for event in done)
    assert workers.close(10)


def test_work_beyond_the_bound_waits_and_is_not_lost() -> None:
    workers = ThreadPool("t", most=2)
    count, lock, done = [0], threading.Lock(), threading.Event()

    def work() -> None:
        with lock:
            count[0] += 1
            if count[0] == 500:
                done.set()

    for _ in range(500):
        workers.submit(work)
    assert done.wait(20)
    assert workers.close(10)


def test_work_that_comes_after_all_threads_have_gone_starts_a_new_one() -> None:
    workers = ThreadPool("t", most=3, idle=0.01)
    for _ in range(30):
        first = threading.Event()
        workers.submit(first.set)
        assert first.wait(10)
        for thread in list(workers._threads):
            thread.join(10)
    assert workers.close(10)


def test_work_that_raises_costs_no_thread() -> None:
    workers = ThreadPool("t", most=1)
    done = threading.Event()
    workers.submit(lambda: 1 / 0)

    def leave() -> None:
        raise SystemExit

    workers.submit(leave)
    workers.submit(done.set)
    assert done.wait(10)
    assert workers.close(10)


def test_work_that_running_work_waits_for_is_done_though_the_pool_is_being_closed() -> None:
    assert all(_needs_another_thread_at_the_end() for _ in range(50))


def _needs_another_thread_at_the_end() -> bool:
    """Whether work was done that was submitted, and waited for, by other work while the pool was being closed."""
    workers = ThreadPool("t", most=4)
    ready, done, warm = threading.Barrier(2), threading.Event(), threading.Event()
    waited: list[bool] = []

    def work() -> None:
        ready.wait(10)
        workers.submit(done.set)
        waited.append(done.wait(30))

    workers.submit(work)
    workers.submit(warm.set)
    assert warm.wait(10)
    ready.wait(10)
    assert workers.close(10)
    return waited == [True]


def test_an_agent_with_a_thread_of_its_own_is_always_run_by_it(open_system) -> None:
    class Bound(Agent):
        own_thread = True

        def on_receive(self, message: object) -> int:
            return threading.get_ident()

    class Free(Agent):
        def on_receive(self, message: object) -> int:
            return threading.get_ident()

    system: AgentSystem = open_system(agents={"bound": Bound, "free": Free})
    bound = system.spawn("acme/bound", agent_type="bound")
    free = system.spawn("acme/free", agent_type="free")
    ours = {bound.ask("who") for _ in range(20)}
    assert len(ours) == 1
    assert ours.isdisjoint({free.ask("who") for _ in range(20)})


def test_closing_waits_once_for_all_threads_together() -> None:
    """Three hundred that hang, each waited for alone, would take two minutes and a half."""
    pool, gate = ThreadPool("hanging", 300), threading.Event()
    entered = threading.Semaphore(0)
    for _ in range(300):
        pool.submit(lambda: (entered.release(), gate.wait(60)))
    for _ in range(300):
        assert entered.acquire(timeout=10)
    assert not pool.close(0.5)
    gate.set()
    assert pool.close(10)
