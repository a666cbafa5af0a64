"""The throughput of several client processes together, if asked for."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from duramen.actors import AgentSystem

from .figures import NotMeasured, Sample, Series
from .options import Options
from .ours import change, check, spawn_many
from .work import Work, agent_name

__all__ = ["several_processes"]

_SECONDS = 600.0


def several_processes(options: Options, url: str) -> tuple[Series | NotMeasured, ...]:
    """One row when more than one process is asked for: each has agents of its own, in a namespace of its own."""
    if options.processes < 2:
        return ()
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
    gate = context.Barrier(options.processes + 1)
    results: Any = context.SimpleQueue()
    children = [
        context.Process(target=_share, args=(number, options, url, gate, results))
        for number in range(options.processes)
    ]
    for child in children:
        child.start()
    samples: list[Sample] = []
    try:
        for _ in range(options.rounds):
            gate.wait(_SECONDS)
            started = time.perf_counter()
            gate.wait(_SECONDS)
            wall = time.perf_counter() - started
            cpus: list[float] = [results.get() for _ in children]
            samples.append(Sample(options.agents * options.events * options.processes, wall, sum(cpus)))
        gate.wait(_SECONDS)  # all have verified
    finally:
        for child in children:
            child.join(10)
            child.kill()
    name = f"duramen: {options.processes} processes, {options.agents:,} agents each"
    return (Series("ours", name, tuple(samples), "the first server; the rounds come after the others'"),)


def _share(number: int, options: Options, url: str, gate: Any, results: Any) -> None:
    work = Work(options.agents, options.payload)
    names = [agent_name(agent) for agent in range(options.agents)]
    try:
        with AgentSystem.open(url, namespace=f"process-{number}") as system:
            spawn_many(system, names)
            handles = [system.agent(name) for name in names]
            for _ in range(options.rounds):
                steps = work.steps(options.agents * options.events)
                gate.wait(_SECONDS)
                cpu = time.process_time()
                change(handles, steps, options.in_flight)
                cpu = time.process_time() - cpu
                gate.wait(_SECONDS)
                results.put(cpu)
            check(system, work)
            gate.wait(_SECONDS)
    except BaseException:
        gate.abort()  # nobody waits for who does not come
        raise
