"""The calls of one agent for its lifecycle: pausing, resuming, ending and restarting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duramen.events import AgentAlreadyRunning, Receipt
from duramen.events.model import Seconds

from ...commands import (
    DEFAULT_TTL,
    AgentStatus,
    Checkpoint,
    GetStatus,
    LifecycleResult,
    ListCheckpoints,
    Outcome,
    OutcomeText,
    Pause,
    Restart,
    Resume,
    Terminate,
    WhenPaused,
)
from .messages import MessageCalls


class LifecycleCalls(MessageCalls):
    """Changes the status of one agent, and reads it."""

    __slots__ = ()

    def pause(
        self,
        checkpoint_id: str | None = None,
        *,
        ttl: Seconds | None = DEFAULT_TTL,
        metadata: Mapping[str, Any] | None = None,
        when_paused: WhenPaused = "refuse",
        reason: str | None = None,
        cascade: bool = False,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
    ) -> LifecycleResult:
        """Save working memory as a named checkpoint and refuse mutations until `resume`."""
        return self.ask(
            Pause(
                checkpoint_id=checkpoint_id,
                ttl=ttl,
                metadata=metadata or {},
                when_paused=when_paused,
                reason=reason,
                cascade=cascade,
                command_id=command_id,
                durability=durability,
                expected_seq=expected_seq,
            )
        )

    def resume(
        self,
        checkpoint_id: str | None = None,
        *,
        clear_current: bool = True,
        cascade: bool = False,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
    ) -> LifecycleResult:
        """Restore working memory from a checkpoint, by default the latest; the agent need not be paused."""
        return self.ask(
            Resume(
                checkpoint_id=checkpoint_id,
                clear_current=clear_current,
                cascade=cascade,
                command_id=command_id,
                durability=durability,
                expected_seq=expected_seq,
            )
        )

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
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
    ) -> LifecycleResult:
        """End the session: save it as an episode, then clear working memory. Each of the two can be switched off."""
        return self.ask(
            Terminate(
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
                command_id=command_id,
                durability=durability,
                expected_seq=expected_seq,
            )
        )

    def restart(
        self,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Let a failed agent (see `Supervision`) handle messages again. A running agent is not changed."""
        return self.ask(Restart(command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints that can be resumed from, newest first."""
        return self.ask(ListCheckpoints())

    def status(self) -> AgentStatus:
        """Return the agent's status, session and seq."""
        return self.ask(GetStatus())


def require_started(result: LifecycleResult, exist_ok: bool) -> None:
    """Raise the failure of a spawn; with `exist_ok` none because a session of the agent is there already."""
    if not exist_ok or not isinstance(result.error, AgentAlreadyRunning):
        result.raise_for_failure()
