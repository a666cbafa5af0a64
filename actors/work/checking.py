"""Unfinished work against other code: handlers are run again up to where their logs end, and nothing is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from duramen.events import DuramenError, UnknownAgentType, UnknownMessageType
from duramen.projections import AgentState
from duramen.projections.recovery import AgentLog, Rebuilt, rebuild
from duramen.projections.state import open_work

from ..commands import WorkProblem, kind_of
from ..handlers import ActiveAgent, AgentFactory, AgentTimers, Services
from .execution import PastAgent, PastTurn, Stretch, replay


class _Observed:
    """An agent as its log has it, which no host runs here: enough of it to run its handlers again."""

    def __init__(self, services: Services, path: str, agent: Any, rebuilt: Rebuilt) -> None:
        self.services = services
        self.path = path
        self.agent = agent
        self.state: AgentState = rebuilt.state
        self.custom = rebuilt.custom
        self.timers = AgentTimers(services, path)

    def start_handler(self, message: object) -> Any:
        return self.agent.actor_handle(message)


def check_work(services: Services, path: str) -> Iterator[WorkProblem]:
    """Run an agent's unfinished handlers again, with the classes that are registered here, and yield the differences.

    No step runs and nothing is written; the agent stays where it is. Blocks. Raises what reading raises.
    """
    agent_log = AgentLog(services.log, path, services.limits, services.registry)
    state = rebuild(agent_log).state
    pieces = [(work, piece) for work, piece in open_work(state).items() if piece["parked"] is None]
    if not pieces:
        return
    factory: AgentFactory | None = services.agents.get(state.agent_type or "")
    for work, piece in pieces:
        problem: DuramenError | None = None
        if factory is None:
            problem = UnknownAgentType(f"no class is registered for agents of type {state.agent_type!r}", agent=path)
        elif services.registry.message_version(piece["message_type"]) < int(piece["version"]):
            problem = UnknownMessageType(
                f"message {piece['message_type']} is not declared, or in a version before {piece['version']}",
                agent=path,
            )
        elif piece["started"]:
            problem = _compare(services, agent_log, factory, int(work))
        if problem is not None:
            yield WorkProblem(
                agent=path,
                work=int(work),
                message_type=piece["message_type"],
                kind=kind_of(problem),
                text=str(problem),
                expected=problem.expected,
                actual=problem.actual,
            )


def _compare(services: Services, agent_log: AgentLog, factory: AgentFactory, work: int) -> DuramenError | None:
    """The difference that running one handler again shows; None: there is none."""
    agent: Any = factory()
    rebuilt = rebuild(agent_log, fold_of=lambda _: agent.actor_fold(services.registry))
    observed = cast("Any", _Observed(services, agent_log.agent, agent, rebuilt))
    agent.actor_activate(observed)
    past = PastAgent(cast("ActiveAgent", observed), agent_log)
    turn = PastTurn(past, Stretch(rebuilt.state.seq, rebuilt.state.updated_at, 0, {}), lambda _: None)
    turn.runtime = observed  # whose handler it is
    try:
        replay(observed, turn, work, log=agent_log, to_seq=rebuilt.state.seq).discard()
    except DuramenError as error:
        return error
    return None
