"""What a handler does to its agent's session and its sub-agents, within its batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from duramen.events import AgentPath
from duramen.events.model import Seconds

from ..commands import (
    DEFAULT_TTL,
    AdoptChild,
    Outcome,
    OutcomeText,
    Pause,
    SpawnArguments,
    Terminate,
    WhenPaused,
    spawn_message,
)
from ..handlers import announce_child, pause_self, terminate_self
from ..work import WorkCall, begin_in_background
from .actor import AgentActor


class LifecycleCalls(AgentActor):
    """The calls of `AgentHandle` about the session, for the agent itself."""

    def pause(
        self,
        checkpoint_id: str | None = None,
        *,
        ttl: Seconds | None = DEFAULT_TTL,
        metadata: Mapping[str, Any] | None = None,
        when_paused: WhenPaused = "refuse",
        reason: str | None = None,
    ) -> None:
        """Pause this agent, within this handler's batch: the checkpoint holds what the handler has done so far.

        The handler goes on, but cannot write any more. Hooks run after the commit.
        """
        message = Pause(
            checkpoint_id=checkpoint_id,
            ttl=ttl,
            metadata=metadata or {},
            when_paused=when_paused,
            reason=reason,
        )
        with self._actor_call() as turn:
            pause_self(turn, message)

    def terminate(
        self,
        outcome: Outcome | OutcomeText = Outcome.SUCCESS,
        *,
        task_description: str | None = None,
        outcome_details: Any = None,
        lessons_learned: Sequence[str] = (),
        context_summary: str | None = None,
        importance_score: float = 0.6,
        reason: str | None = None,
        consolidate_to_episodic: bool = True,
        cleanup_working: bool = True,
        cascade: bool = True,
    ) -> None:
        """End this agent's session, within this handler's batch; arguments as of `AgentHandle.terminate`.

        The handler goes on, but cannot write any more. When it has returned, its sub-agents are ended, before the
        commit; an error there discards what the handler has done. Hooks run after the commit. Blocks: the session's
        events are read from the log for its episode.
        """
        message = Terminate(
            outcome=outcome,
            task_description=task_description,
            outcome_details=outcome_details,
            lessons_learned=lessons_learned,
            context_summary=context_summary,
            importance_score=importance_score,
            reason=reason,
            consolidate_to_episodic=consolidate_to_episodic,
            cleanup_working=cleanup_working,
            cascade=cascade,
        )
        with self._actor_call() as turn:
            terminate_self(turn, message)

    def spawn_child(self, name: str, *, outlives_parent: bool = False, **arguments: Unpack[SpawnArguments]) -> Any:
        """Spawn a sub-agent, with the arguments of `AgentSystem.spawn`, and return its handle.

        This agent's log records the child within the handler's batch; the child is spawned after the commit, and asked
        before then, it is not found. A child that cannot be spawned after all is logged, and does not exist. In a
        handler of a durable message, the child is spawned also if this process dies after the commit.
        """
        call = self._actor_call()
        with call as turn:
            child = AgentPath.parse(turn.agent).child(name).text
            message = spawn_message(parent=turn.agent, **arguments)
            is_durable = isinstance(call, WorkCall)
            announce_child(turn, AdoptChild(child, outlives_parent), message, send=not is_durable)
            if isinstance(call, WorkCall):
                begin_in_background(call.execution, child, message)
        return self.system.agent(child)
