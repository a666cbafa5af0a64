"""Episodic memory: the episode of a finished session, and the projection of all episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, cast
from uuid import UUID

from attrs import asdict, frozen

from duramen.events import CorruptEvent, Event
from duramen.events.model import EPISODE_RECORDED, count_of

from ..projection import Projection
from ..recovery import SessionTotals, is_plain_dict

TASK_TYPE: Final = "session_completion"
DESCRIPTION: Final = 500
SUMMARY: Final = 1_000
_MOST_LESSONS: Final = 100
_LESSON: Final = 1_000


@frozen(kw_only=True)
class Episode:
    """A finished session in long-term memory.

    `actions` are `{"tool": name, "seq": n}` in order, at most 100. `context_summary` lists working memory by name and
    kind, never by value, so that no secret gets into it. `first_seq` to `last_seq` are the session in the agent's log.
    `importance_score` is 0 to 1.
    """

    id: str
    project_id: str
    agent_instance_id: str
    session_id: str | None
    task_type: str
    task_description: str
    outcome: str
    outcome_details: Any
    actions: list[dict[str, Any]]
    context_summary: str
    lessons_learned: list[str]
    duration_seconds: float
    tokens_used: int
    importance_score: float
    first_seq: int
    last_seq: int
    created_at: datetime

    @property
    def agent(self) -> str:
        """The path of the agent."""
        return f"{self.project_id}/{self.agent_instance_id}"

    def as_data(self) -> dict[str, Any]:
        """The episode as plain data, the form in the log."""
        return asdict(self, recurse=False)


def parse_episode(event: Event) -> Episode | None:
    """Parse the episode that an event records; None for other events. Raises CorruptEvent for one of another form."""
    if event.type != EPISODE_RECORDED:
        return None
    try:
        return Episode(**event.data["episode"])
    except (KeyError, TypeError):
        raise CorruptEvent(
            f"event {event.seq} of {event.agent} records an episode of another form; update duramen",
            agent=event.agent,
            seq=event.seq,
        ) from None


def episode_text(episode: Episode) -> str:
    """The text of an episode that is searched: description, lessons, summary and outcome, a paragraph each."""
    return "\n".join((episode.task_description, *episode.lessons_learned, episode.context_summary, episode.outcome))


class Episodes(Projection[Mapping[str, Episode]]):
    """All episodes by id, in the order they were recorded. A session recorded twice is one episode."""

    def initial(self) -> Mapping[str, Episode]:
        return {}

    def apply(self, state: Mapping[str, Episode], event: Event) -> Mapping[str, Episode]:
        episode = parse_episode(event)
        return state if episode is None else {**state, episode.id: episode}

    def dump(self, state: Mapping[str, Episode]) -> Any:
        return [episode.as_data() for episode in state.values()]

    def load(self, data: Any) -> Mapping[str, Episode]:
        return {row["id"]: Episode(**row) for row in data}


def compose_episode(
    *,
    agent: str,
    session_id: str | None,
    first_seq: int,
    last_seq: int,
    duration_seconds: float,
    created_at: datetime,
    totals: SessionTotals,
    memory: Mapping[str, Any],
    outcome: str,
    outcome_details: Any,
    task_description: str | None,
    context_summary: str | None,
    lessons_learned: Sequence[str],
    importance_score: float,
) -> Episode:
    """Compose the episode of a session. Pure: the same session gets the same id each time."""
    project, instance = agent.split("/", 1)
    described = (
        task_description or f"Session {session_id} of {agent}: {count_of(totals.events, 'event')}, ended in {outcome}"
    )
    return Episode(
        id=episode_id(agent, first_seq, session_id),
        project_id=project,
        agent_instance_id=instance,
        session_id=session_id,
        task_type=TASK_TYPE,
        task_description=_shorten(described, DESCRIPTION),
        outcome=outcome,
        outcome_details=outcome_details,
        actions=[{"tool": tool, "seq": seq} for tool, seq in totals.actions],
        context_summary=_shorten(context_summary or _summary(totals, memory), SUMMARY),
        lessons_learned=[_shorten(lesson, _LESSON) for lesson in lessons_learned[:_MOST_LESSONS]],
        duration_seconds=duration_seconds,
        tokens_used=totals.tokens_used,
        importance_score=importance_score,
        first_seq=first_seq,
        last_seq=last_seq,
        created_at=created_at,
    )


def episode_id(agent: str, first_seq: object, session_id: object) -> str:
    """The id of the episode of a session."""
    return str(UUID(bytes=blake2b(f"{agent}\n{first_seq}\n{session_id}".encode(), digest_size=16).digest()))


def _summary(totals: SessionTotals, memory: Mapping[str, Any]) -> str:
    """Summarize by names, kinds and sizes. Values stay out: working memory may hold passwords and keys."""
    items = ", ".join(f"{_shorten(name, 60)} ({_kind(value)})" for name, value in list(memory.items())[:40])
    tools = ", ".join(f"{tool} ×{count}" for tool, count in totals.tools.items())
    parts = [count_of(totals.events, "event"), f"{count_of(len(memory), 'item')}: {items}" if memory else "no items"]
    if tools:
        parts.append(f"tools: {tools}")
    return "; ".join(parts)


def _kind(value: Any) -> str:
    if is_plain_dict(value):
        return count_of(len(value), "key")
    if type(value) is list:
        entries = len(cast("list[Any]", value))
        return "1 entry" if entries == 1 else f"{entries:,} entries"
    return "none" if value is None else type(value).__name__


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
