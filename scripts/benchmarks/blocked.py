"""A thousand agents whose handlers block: what another agent's caller notices of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem
from duramen.actors.commands.messages import Spawn

from .figures import Spread, Verdict, spread_of
from .options import Options
from .ours import REPLY_SECONDS
from .rounds import Wrong
from .servers import Server
from .tables import Group, Table, number

__all__ = ["measure"]

_MOST_MS: Final = 50.0
_CALM: Final = 300
_RESEARCHER: Final = "researcher"


@frozen
class Think:
    """Ask for something that takes this long."""

    seconds: float


class Researcher(Agent):
    """Blocks in its handler, as one that waits for a model does."""

    def on_receive(self, message: Any) -> Any:
        match message:
            case Think(seconds):
                threading.Event().wait(seconds)
                self.append("thoughts", "something of about forty bytes, all told")
                return seconds
            case _:
                return super().on_receive(message)


@frozen
class _Probe:
    """Another agent's caller, who awaits each reply."""

    name: str
    short: str
    call: Callable[[], object]


def measure(options: Options, folder: Path) -> Group:
    with Server(folder) as server, AgentSystem.open(server.url, agents={_RESEARCHER: Researcher}) as system:
        busy = _researchers(system, options.blocked)
        plain = system.spawn("bench/plain")
        other = system.spawn("bench/other", agent_type=_RESEARCHER)
        probes = (
            _Probe(
                "a mutation of another agent", "mutation while others block", lambda: plain.set("note", "some text")
            ),
            _Probe(
                "a message to another agent with a handler of its own",
                "message while others block",
                lambda: other.ask(Think(0.0)),
            ),
        )
        calm = [_latencies([probe], lambda: False, _CALM)[0] for probe in probes]
        rounds = [_while_blocked(busy, probes, options.blocked_seconds) for _ in range(options.rounds)]
        for handle in busy:
            if len(handle.get("thoughts")) != options.rounds:
                raise Wrong("a blocked handler's event is missing")
    return _group(options, probes, calm, rounds)


def _researchers(system: AgentSystem, many: int) -> list[AgentHandle]:
    handles = [system.agent(f"bench/blocked-{number}") for number in range(many)]
    replies = [handle.ask(Spawn(agent_type=_RESEARCHER), block=False) for handle in handles]
    for reply in replies:
        reply.get(timeout=REPLY_SECONDS).raise_for_failure()
    return handles


def _while_blocked(busy: list[AgentHandle], probes: tuple[_Probe, ...], seconds: float) -> list[list[float]]:
    """Latencies of the probes, in turns, from the first message that blocks to the last one's reply."""
    replies: list[Any] = []
    started = threading.Event()

    def block() -> None:
        for handle in busy:
            replies.append(handle.ask(Think(seconds), block=False))
        started.set()

    asking = threading.Thread(target=block)
    asking.start()
    found = _latencies(probes, lambda: started.is_set() and all(reply.done for reply in replies), None)
    asking.join()
    for reply in replies:
        reply.get(timeout=REPLY_SECONDS)
    return found


def _latencies(
    probes: tuple[_Probe, ...] | list[_Probe], ended: Callable[[], bool], most: int | None
) -> list[list[float]]:
    found: list[list[float]] = [[] for _ in probes]
    while len(found[0]) != most and not (len(found[0]) % 20 == 19 and ended()):
        for probe, own in zip(probes, found, strict=True):
            started = time.perf_counter()
            probe.call()
            own.append((time.perf_counter() - started) * 1_000)
    return found


def _p99(latencies: list[float]) -> float:
    return quantiles(latencies, n=100, method="inclusive")[98]


def _group(
    options: Options, probes: tuple[_Probe, ...], calm: list[list[float]], rounds: list[list[list[float]]]
) -> Group:
    rows: list[tuple[str, ...]] = []
    verdicts: list[Verdict] = []
    for number_, probe in enumerate(probes):
        alone = _p99(calm[number_])
        blocked: Spread = spread_of([_p99(found[number_]) for found in rounds])
        calls = sum(len(found[number_]) for found in rounds)
        shown = f"{number(blocked.middle)} ({number(blocked.least)}–{number(blocked.most)})"
        rows.append(("ours", probe.name, number(alone), shown, number(calls), "one caller awaiting each reply"))
        what = f"{options.blocked:,} agents blocked for {options.blocked_seconds:g} s: reply to {probe.name}, p99"
        verdicts.append(Verdict(what, blocked, at_most=_MOST_MS, unit="ms", short=probe.short))
    head = ("group", "who", "p99 ms, nobody blocked", "p99 ms, blocked (min–max)", "calls", "how")
    return Group(
        "blocked",
        "Blocked handlers",
        f"{options.blocked:,} agents are told something whose handler waits for {options.blocked_seconds:g} s in its "
        "thread and then appends. Meanwhile another caller asks other agents, from the first message that blocks to "
        "the last one's reply.",
        (Table("Latency of others meanwhile", head, tuple(rows)),),
        tuple(verdicts),
    )
