"""Agent paths of a session file, mapped to the paths that its agents get by an import."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from attrs import field, frozen

from duramen.events.codec import RawEvent
from duramen.events.model import (
    CHILD_SPAWNED,
    EPISODE_RECORDED,
    FORKED,
    SPAWNED,
    TERMINATED,
    WORK_ACCEPTED,
    event_id,
    log_id,
    parse_event_id,
)

from ..episodes import episode_id

_CAUSES = (7, 8)  # indices of causation id and correlation id in a raw event


@frozen(eq=False, repr=False)
class PathMap:
    """Maps the tree of one agent to that of another: `acme/alice/child` to `acme/bob/child`."""

    origin: str
    target: str
    agents: Sequence[str] = ()
    """The paths in the origin's tree whose logs may be named by their ids."""
    episodes: dict[str, str] = field(factory=dict[str, str])
    """The ids of the episodes that were mapped so far, old to new."""

    @cached_property
    def _logs(self) -> dict[str, str]:
        """The agents by the ids of their logs."""
        return {log_id(agent): agent for agent in self.agents}

    @property
    def is_identity(self) -> bool:
        """Whether every path stays as it is."""
        return self.origin == self.target

    def path(self, agent: object) -> str | None:
        """The path in the target tree; None for what is no path of the origin's tree."""
        if type(agent) is str and (agent == self.origin or agent.startswith(f"{self.origin}/")):
            return self.target + agent[len(self.origin) :]
        return None

    def map_event(self, raw: RawEvent, agent: str, before: bytes | None) -> bool:
        """Map the paths in an event of `agent`, in place; whether the event has changed.

        These are parent and sub-agents, as in a fork, agent and id of an episode, and the causes. Data of the user's
        own stays. `before` is the origin's digest before the event, None if the target has the same there: work keeps
        it, since what it begins is named by it.
        """
        kind, data = raw[0], cast("dict[str, Any]", raw[4])
        if type(data) is not dict:
            return False  # the fold refuses it
        unmapped = (dict(data), raw[7], raw[8])
        if kind in (SPAWNED, FORKED):
            data["parent"] = self.path(data.get("parent"))
        if kind == FORKED:
            data["children"] = self._children(data.get("children"))
        elif kind == CHILD_SPAWNED:
            data["path"] = self.path(data.get("path")) or data.get("path")
        elif kind == EPISODE_RECORDED and type(data.get("episode")) is dict:
            data["episode"] = self.map_episode(data["episode"], agent)
        elif kind == WORK_ACCEPTED and before is not None:
            data.setdefault("before", before)
        elif kind == TERMINATED:
            data["episode_id"] = self.episodes.get(str(data.get("episode_id")), data.get("episode_id"))
        for at in _CAUSES:
            raw[at] = self._cause(raw[at])
        return unmapped != (data, raw[7], raw[8])

    def _cause(self, stored: Any) -> Any:
        """A causation or correlation id, mapped where it names an event of the tree."""
        cause = parse_event_id(stored) if type(stored) is str else None
        path = None if cause is None else self.path(self._logs.get(cause[0], cause[0]))
        return stored if cause is None or path is None else event_id(path, cause[1])

    def map_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state in plain data with parent and sub-agents mapped."""
        return {**state, "parent": self.path(state.get("parent")), "children": self._children(state.get("children"))}

    def _children(self, children: Any) -> dict[str, Any]:
        held = cast("dict[str, Any]", children) if type(children) is dict else {}
        mapped = ((self.path(child), outlives) for child, outlives in held.items())
        return {path: outlives for path, outlives in mapped if path is not None}

    def map_episode(self, episode: dict[str, Any], agent: str) -> dict[str, Any]:
        """An episode of `agent` in plain data with its agent and id mapped."""
        path = self.path(agent) or agent
        project, instance = path.split("/", 1)
        mapped = episode_id(path, episode.get("first_seq"), episode.get("session_id"))
        self.episodes[str(episode.get("id"))] = mapped
        text, made_up = episode.get("task_description"), f"Session {episode.get('session_id')} of {agent}:"
        if type(text) is str and text.startswith(made_up):  # by `compose_episode`
            text = f"Session {episode.get('session_id')} of {path}:{text[len(made_up) :]}"
        names = {"project_id": project, "agent_instance_id": instance, "task_description": text}
        return {**episode, "id": mapped, **names}
