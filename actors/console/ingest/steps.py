"""The commands of a recorded session.

Each command has the same id in every run, so that a second run continues one that was cut off. No payload depends on
the clock, since the same id with another payload is refused.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen

from duramen.projections import AgentView

from ...commands import Append, Batch, Message, Operation, Outcome, Pause, Resume, Spawn, Terminate
from ..plain_data import as_dict, as_list, as_text
from .activity import records_of
from .recordings import RecordedSession

AGENT_TYPE: Final = "recorded"
CHECKPOINT: Final = "half-way"

_DESCRIPTION: Final = 500


@frozen
class Step:
    """One command. `kind` is `spawn`, `message`, `pause`, `resume` or `terminate`."""

    kind: str
    command_id: str
    message: Message[Any]


def steps_of(session: RecordedSession) -> list[Step]:
    """The steps of a session: spawn, the messages with a pause and a resume half-way, terminate."""
    messages = _messages(session)
    half = max(1, len(messages) // 2)
    return [
        _spawn(session),
        *messages[:half],
        _pause(session, half),
        _resume(session),
        *messages[half:],
        _terminate(session),
    ]


def done_steps(state: AgentView, steps: list[Step]) -> int:
    """The number of steps that the agent has handled. The last one counts: an agent forgets its oldest command ids."""
    return next((n for n in range(len(steps), 0, -1) if state.has_command(steps[n - 1].command_id)), 0)


def _spawn(session: RecordedSession) -> Step:
    command_id = f"{session.session_id}/spawn"
    message = Spawn(
        session_id=session.session_id,
        agent_type=AGENT_TYPE,
        metadata=session.metadata,
        command_id=command_id,
    )
    return Step("spawn", command_id, message)


def _messages(session: RecordedSession) -> list[Step]:
    called: dict[str, str] = {}
    steps: list[Step] = []
    for number, message in enumerate(session.messages, 1):
        command_id = f"{session.session_id}/message-{number}"
        operations: list[Operation] = [Append("messages", message), *records_of(message, called)]
        steps.append(Step("message", command_id, Batch(operations, command_id)))
    return steps


def _pause(session: RecordedSession, messages: int) -> Step:
    command_id = f"{session.session_id}/pause"
    message = Pause(checkpoint_id=CHECKPOINT, metadata={"messages": messages}, command_id=command_id)
    return Step("pause", command_id, message)


def _resume(session: RecordedSession) -> Step:
    command_id = f"{session.session_id}/resume"
    return Step("resume", command_id, Resume(checkpoint_id=CHECKPOINT, command_id=command_id))


def _terminate(session: RecordedSession) -> Step:
    reward, command_id = session.reward, f"{session.session_id}/terminate"
    message = Terminate(
        outcome=_outcome(reward),
        task_description=_description(session.messages),
        outcome_details=None if reward is None else {"reward": reward},
        command_id=command_id,
    )
    return Step("terminate", command_id, message)


def _outcome(reward: float | None) -> Outcome:
    if reward is None or reward >= 1:
        return Outcome.SUCCESS
    return Outcome.FAILURE if reward <= 0 else Outcome.PARTIAL


def _description(messages: list[dict[str, Any]]) -> str | None:
    """The beginning of the first message of the user."""
    for message in messages:
        text = _text(message.get("content")) if message["role"] == "user" else ""
        if text.strip():
            return text if len(text) <= _DESCRIPTION else f"{text[: _DESCRIPTION - 1]}…"
    return None


def _text(content: object) -> str:
    """The text of a message's content, which is a text or a list of parts."""
    parts = [as_dict(part) or {} for part in as_list(content) or []]
    texts = [as_text(part.get("text")) for part in parts]
    return as_text(content) or "\n".join(text for text in texts if text)
