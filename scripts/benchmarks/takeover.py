"""How long it takes until an agent answers again whose process was killed: elsewhere, and in the same program again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from duramen.actors import AgentSystem

from .figures import Sample, Series, Verdict
from .options import Options
from .rounds import Wrong
from .servers import Server
from .tables import Group, Table, number

__all__ = ["measure"]

_AGENT: Final = "bench/agent"
_MOST_MS: Final = 1_000.0
_LEASE_MS: Final = 12_000.0
_MILLI: Final = 1_000.0

_OWNER: Final = f"""\
import sys
from duramen.actors import AgentSystem
from duramen.actors.hosts import membership
if sys.argv[3] == "far":  # as on another machine: nobody can see whether the process has ended
    membership.this_process = lambda: None
with AgentSystem.open(sys.argv[1], namespace=sys.argv[2]) as system:
    agent = system.spawn("{_AGENT}", exist_ok=True)
    for line in sys.stdin:
        print(agent.set("number", int(line)).seq, flush=True)
"""


def measure(options: Options, folder: Path) -> Group:
    with Server(folder, durable=True) as server:
        rows = [
            _row("an agent of a killed process, asked in another", options.rounds, server, _ask_elsewhere, "near"),
            _row("the same program, started again", options.rounds, server, _start_again, "near"),
        ]
        if options.leases:
            row = _row("an agent of a process killed elsewhere", options.leases, server, _ask_elsewhere, "far")
            rows.append(row)
    verdicts = [
        Verdict(
            f"{series.name}, from the kill to the reply",
            series.of(_milliseconds),
            at_most=_LEASE_MS if series.note.startswith("another machine") else _MOST_MS,
            unit="ms",
            short=series.name,
        )
        for series in rows
    ]
    head = ("group", "who", "ms", "min–max", "how")
    lines = [
        (
            series.kind,
            series.name,
            number(series.of(_milliseconds).middle),
            f"{number(series.of(_milliseconds).least)}–{number(series.of(_milliseconds).most)}",
            series.note,
        )
        for series in rows
    ]
    return Group(
        "takeover",
        "When a process is killed",
        "A process that runs an agent is killed with SIGKILL, and the agent is asked for a mutation at once. Elsewhere "
        "the lease of 10 s has to end first. Starting the interpreter and importing duramen is not counted.",
        (Table("Until the agent answers again", head, tuple(lines)),),
        tuple(verdicts),
        tuple(rows),
    )


def _milliseconds(sample: Sample) -> float:
    return sample.wall * _MILLI


def _row(name: str, rounds: int, server: Server, answer: Callable[[Server, str, str], float], where: str) -> Series:
    samples: list[Sample] = []
    for count in range(rounds):
        cpu = time.process_time()
        wall = answer(server, f"takeover{answer.__name__}-{where}-{count}", where)
        samples.append(Sample(1, wall, time.process_time() - cpu))
    note = "another machine, as far as hosts can see" if where == "far" else "the same machine"
    return Series("ours", name, tuple(samples), note)


def _ask_elsewhere(server: Server, namespace: str, where: str) -> float:
    """Ask in a process that has run all along, and that has sent messages to the one that is killed."""
    with AgentSystem.open(server.url, namespace=namespace) as system:
        owner = _start_owner(server, namespace, where)
        agent = system.agent(_AGENT)
        agent.set("before", True)
        _kill(owner)
        started = time.perf_counter()
        agent.set("number", 2)
        took = time.perf_counter() - started
        if agent.get() != {"before": True, "number": 2}:
            raise Wrong("the agent does not hold what was written")
    return took


def _start_again(server: Server, namespace: str, where: str) -> float:
    """Open the system anew where there is no other process."""
    _kill(_start_owner(server, namespace, where))
    started = time.perf_counter()
    with AgentSystem.open(server.url, namespace=namespace) as system:
        agent = system.agent(_AGENT)
        agent.set("number", 2)
        took = time.perf_counter() - started
        if agent.get() != {"number": 2}:
            raise Wrong("the agent does not hold what was written")
    return took


def _start_owner(server: Server, namespace: str, where: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _OWNER, server.url, namespace, where]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdin is not None
    assert owner.stdout is not None
    print(1, file=owner.stdin, flush=True)
    if not owner.stdout.readline():
        raise Wrong("the process that is to be killed failed; see above")
    return owner


def _kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()
