"""Steps of durable handlers beside plain mutations, and how soon unfinished work goes on after a kill -9."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

from duramen.actors import Agent, AgentHandle, AgentSystem
from duramen.events import message_type

from .comparison import Candidate, find_peers
from .figures import Kind, NotMeasured, Sample, Series, Spread, Unmeasured, Verdict, ratio_of, spread_of
from .options import Options
from .ours import REPLY_SECONDS, AwaitedCalls, CallsInFlight
from .rounds import Contender, Wrong, alternate, timed
from .servers import Server
from .tables import Group, Table, number, rate_table
from .throughput import rate

__all__ = ["measure"]

_TYPE: Final = "worker"
_LOOK: Final = 0.002
_SHORT: Final = 5
"""Steps of a handler, where peers do the same."""
_NEEDED: Final = 10.0
_CANDIDATES: Final = (
    Candidate("dbos_sqlite", "DbosSteps", "DBOS, SQLite", ("dbos",)),
    Candidate(
        "langgraph_tasks",
        "LanggraphTasks",
        "LangGraph tasks, SQLite saver",
        ("langgraph-checkpoint-sqlite", "langgraph"),
    ),
)
_SPAWNED: Final = "spawn"


@message_type("bench_job", durable=True)
@frozen
class Job:
    """So many steps one after the other, each with a text of so many bytes as its result."""

    steps: int
    payload: int
    blocks: bool = False
    """Whether the step's function is a plain one, which runs in a thread."""


@message_type("bench_held", durable=True)
@frozen
class Held:
    """A step, and then another one that does not end in the process that is killed."""


async def _answer(payload: int) -> str:
    return "x" * payload


def _answer_in_a_thread(payload: int) -> str:
    return "x" * payload


class Worker(Agent):
    """`went_on` counts the handlers whose last step has begun here; with `holds` that step never ends."""

    went_on = 0
    holds = False

    async def on_receive(self, message: Any) -> Any:
        if isinstance(message, Held):
            await self.step("first", _answer, 10)
            await self.step("last", self._begin)
            return None
        function: Any = _answer_in_a_thread if message.blocks else _answer
        for _ in range(message.steps):
            await self.step("step", function, message.payload)
        return message.steps

    @classmethod
    def _begin(cls) -> None:
        cls.went_on += 1
        if cls.holds:
            threading.Event().wait()


def measure(options: Options, folder: Path) -> Group:
    with Server(folder) as server:
        one = alternate(
            [
                AwaitedCalls(
                    server=server,
                    namespace="sets",
                    agents=1,
                    calls=options.block,
                    payload=options.payload,
                    name="duramen: one caller awaiting each set",
                ),
                _Steps(server, "step", 1, options.block, options.payload, "duramen: one handler, step after step"),
                _Steps(
                    server,
                    "thread",
                    1,
                    options.block,
                    options.payload,
                    "duramen: the same, of functions in threads",
                    blocks=True,
                ),
            ],
            options.rounds * 2,
        )
        many = alternate(
            [
                CallsInFlight(
                    server=server,
                    namespace="many-sets",
                    agents=options.agents,
                    mutations=options.agents * options.events,
                    in_flight=options.in_flight,
                    payload=options.payload,
                    name=f"duramen: sets of {options.agents:,} agents",
                    note=f"{options.in_flight:,} calls in flight",
                ),
                _Steps(
                    server,
                    "steps",
                    options.agents,
                    options.events,
                    options.payload,
                    f"duramen: steps of {options.agents:,} handlers at once",
                ),
            ],
            options.rounds,
        )
    peers, missing = _peers(options, folder)
    with Server(folder, durable=True) as server:
        ours = _Steps(
            server,
            "peers",
            options.agents,
            _SHORT,
            options.payload,
            f"duramen: {_SHORT} steps of each handler, AOF always",
        )
        beside = alternate([ours, *peers], options.rounds)
        back = [_take_up(server.url, f"left-{turn}", options.unfinished) for turn in range(options.rounds)]
    return _group(options, one, many, back, beside, missing)


def _peers(options: Options, folder: Path) -> tuple[list[Contender], list[NotMeasured]]:
    found: list[Contender] = []
    installed, missing = find_peers(_CANDIDATES)
    for candidate, make in installed:
        peer = make(folder, options.agents, _SHORT, options.payload)
        peer.name = candidate.shown
        peer.note = f"{candidate.distributions[0]} {version(candidate.distributions[0])}: {peer.note}"
        found.append(peer)
    return found, missing


@define
class _Steps:
    """Handlers of so many steps each, all begun together; a round ends with the last reply."""

    server: Server
    namespace: str
    agents: int
    steps: int
    payload: int
    name: str
    blocks: bool = False
    kind: Kind = "ours"
    note: str = "each result is logged before the next step begins"
    _system: AgentSystem = field(init=False)
    _handles: list[AgentHandle] = field(init=False)
    _rounds: int = field(init=False, default=0)

    def prepare(self) -> None:
        self._system = AgentSystem.open(self.server.url, namespace=self.namespace, agents={_TYPE: Worker})
        self._handles = [
            self._system.spawn(f"bench/worker-{number}", agent_type=_TYPE) for number in range(self.agents)
        ]

    def run(self) -> Sample:
        self._rounds += 1
        return timed(self._work, self.server)

    def _work(self) -> int:
        job = Job(self.steps, self.payload, self.blocks)
        replies = [handle.ask(job, block=False, timeout=None) for handle in self._handles]
        return sum(reply.get(timeout=REPLY_SECONDS) for reply in replies)

    def verify(self) -> None:
        for handle in self._handles:
            begun = sum(event.type == "work_begun" for event in self._system.events(handle.path))
            if begun != self._rounds * self.steps:
                raise Wrong(f"{handle.path} has {begun} steps in its log, not {self._rounds * self.steps}")

    def close(self) -> None:
        self._system.close()


def _kind(*, holds: bool) -> type[Worker]:
    """A class of its own, which counts for itself."""

    class Counting(Worker):
        pass

    Counting.holds = holds
    return Counting


def _take_up(url: str, namespace: str, handlers: int) -> float:
    """Leave so many handlers by a kill -9; seconds from the next host's `open` until all of them are going again."""
    context = multiprocessing.get_context(_SPAWNED)
    ours, theirs = context.Pipe()
    process = context.Process(target=_leave, args=(url, namespace, handlers, theirs), daemon=True)
    process.start()
    ours.recv()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kind = _kind(holds=False)
    started = time.perf_counter()
    with AgentSystem.open(url, namespace=namespace, agents={_TYPE: kind}) as system:
        while kind.went_on < handlers:
            if time.perf_counter() - started > REPLY_SECONDS:
                raise Wrong(f"only {kind.went_on} of {handlers} handlers go on")
            time.sleep(_LOOK)
        seconds = time.perf_counter() - started
        while system.unfinished(limit=1):
            time.sleep(_LOOK)
        if kind.went_on != handlers:
            raise Wrong(f"{kind.went_on} last steps have begun, not {handlers}")
    return seconds


def _leave(url: str, namespace: str, handlers: int, connection: Connection) -> None:
    kind = _kind(holds=True)
    system = AgentSystem.open(url, namespace=namespace, agents={_TYPE: kind})
    for number_ in range(handlers):
        system.spawn(f"bench/left-{number_}", agent_type=_TYPE).send(Held())
    while kind.went_on < handlers:
        time.sleep(_LOOK)
    connection.send("left")
    threading.Event().wait()


def _group(
    options: Options,
    one: list[Series],
    many: list[Series],
    back: list[float],
    beside: list[Series],
    missing: list[NotMeasured],
) -> Group:
    single = ratio_of(one[0], one[1], rate)
    crew = ratio_of(many[1], many[0], rate)
    seconds: Spread = spread_of(back)
    shown = f"{number(seconds.middle)} ({number(seconds.least)}–{number(seconds.most)})"
    rows = (("ours", f"duramen: {options.unfinished:,} unfinished handlers going again", shown, "kill -9, AOF always"),)
    return Group(
        "work",
        "Durable work",
        f"A step's function returns a text of {options.payload} bytes at once, so that only what duramen adds is "
        "measured: the append that has the result, and begins the next step. Peers run as many handlers of as many "
        "steps, as their manuals say: DBOS starts them all, in threads of its own; LangGraph's entry points are "
        "invoked one after the other, since SQLite has one writer. Afterwards the steps in each log are "
        "counted. Handlers that are taken up have a step behind them, and one that was under way when their process "
        "was killed; the time is from the next host's `open` until the last of these has begun again.",
        (
            rate_table("Steps a second, one after the other", one, [("set", one[0])], "steps/s"),
            rate_table("Steps a second, many handlers at once", many, [("sets", many[0])], "steps/s"),
            rate_table(
                f"{_SHORT} steps of each of {options.agents:,} handlers, steps a second",
                [*beside, *missing],
                [("duramen with AOF is", beside[0])],
                "steps/s",
                turned=True,
            ),
            Table("After a kill -9", ("group", "who", "seconds (min–max)", "how"), rows),
        ),
        (
            Verdict("one caller: a step against an awaited set", single, at_most=1.3, short="a step"),
            Verdict(f"{options.agents:,} agents: steps against sets", crew, at_least=0.5, short="steps at once"),
            Verdict(
                f"{options.unfinished:,} unfinished handlers going again after a start",
                seconds,
                at_most=1.0,
                unit="s",
                short="unfinished handlers",
            ),
            *(
                Verdict(
                    _target(peer.name), ratio_of(beside[0], peer, rate), at_least=_NEEDED, short=f"against {peer.name}"
                )
                for peer in beside[1:]
            ),
        ),
        (*one, *many, *beside),
        tuple(Unmeasured(_target(peer.name), _NEEDED, peer.reason) for peer in missing),
    )


def _target(peer: str) -> str:
    return f"steps against {peer}: duramen with AOF always"
