"""duramen at the same work as the floors and the peers."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from attrs import define, field

from duramen.actors import AgentHandle, AgentSystem
from duramen.actors.commands.messages import Set, Spawn

from .figures import Kind, Sample
from .rounds import Wrong, timed, timed_calls
from .servers import Server
from .work import GOAL, Step, Work, agent_name

__all__ = ["AwaitedCalls", "CallsInFlight", "change", "check", "spawn_many"]

REPLY_SECONDS: Final = 120.0
_LOOKED_AT: Final = 200
"""Agents whose state is compared in full; the number of events is compared for each."""


def spawn_many(system: AgentSystem, names: Iterable[str], *, in_flight: int = 4_000) -> int:
    """Spawn agents, so many calls in flight, and return how many."""
    waiting: deque[Any] = deque()
    count = 0
    for name in names:
        waiting.append(system.agent(name).ask(Spawn(initial_state={"goal": GOAL}), block=False))
        count += 1
        if len(waiting) >= in_flight:
            waiting.popleft().get(timeout=REPLY_SECONDS)
    for reply in waiting:
        reply.get(timeout=REPLY_SECONDS)
    return count


def change(handles: list[AgentHandle], steps: list[Step], in_flight: int) -> int:
    """Make mutations with so many calls in flight; each is acknowledged when this returns."""
    waiting: deque[Any] = deque()
    for agent, key, text in steps:
        waiting.append(handles[agent].ask(Set(key, text), block=False))
        if len(waiting) >= in_flight:
            waiting.popleft().get(timeout=REPLY_SECONDS)
    for reply in waiting:
        reply.get(timeout=REPLY_SECONDS)
    return len(steps)


def check(system: AgentSystem, work: Work) -> None:
    """Compare the log with the work: each agent's number of events, and the state that some of the logs give."""
    heads = {entry.agent: entry.head.seq for entry in system.agents()}
    for number, count in enumerate(work.counts):
        found = heads.get(agent_name(number))
        if found != 1 + count:
            raise Wrong(f"{agent_name(number)} has {found} events, not {1 + count}")
    for number in range(0, work.agents, max(1, work.agents // _LOOKED_AT)):
        state = system.peek(agent_name(number))
        if state.memory != {"goal": GOAL, **work.expected[number]}:
            raise Wrong(f"the log of {agent_name(number)} folds to another state")


@define(kw_only=True)
class _Ours:
    """A system with agents of its own in a namespace of its own."""

    server: Server
    namespace: str
    agents: int
    payload: int
    name: str
    note: str = ""
    kind: Kind = "ours"
    _work: Work = field(init=False)
    _system: AgentSystem = field(init=False)
    _handles: list[AgentHandle] = field(init=False)

    def prepare(self) -> None:
        self._work = Work(self.agents, self.payload)
        self._system = AgentSystem.open(self.server.url, namespace=self.namespace)
        names = [agent_name(number) for number in range(self.agents)]
        spawn_many(self._system, names)
        self._handles = [self._system.agent(name) for name in names]

    def verify(self) -> None:
        check(self._system, self._work)

    def close(self) -> None:
        self._system.close()


@define(kw_only=True)
class CallsInFlight(_Ours):
    """Mutations of many agents, with many calls in flight."""

    mutations: int
    """In a round."""
    in_flight: int
    collect_after: int | None = None
    """New objects after which Python's garbage collector looks at them; None: as many as it would by itself."""

    def run(self) -> Sample:
        steps = self._work.steps(self.mutations)
        usual = gc.get_threshold()
        gc.set_threshold(self.collect_after or usual[0], *usual[1:])
        try:
            return timed(lambda: change(self._handles, steps, self.in_flight), self.server)
        finally:
            gc.set_threshold(*usual)


@define(kw_only=True)
class AwaitedCalls(_Ours):
    """One caller that awaits each mutation before it sends the next; agents take turns."""

    calls: int

    def run(self) -> Sample:
        calls = [_call(self._handles[agent], key, text) for agent, key, text in self._work.steps(self.calls)]
        return timed_calls(calls, self.server)


def _call(handle: AgentHandle, key: str, text: str) -> Any:
    return lambda: handle.set(key, text)
