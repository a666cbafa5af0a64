"""Whether followers have seen what they should have: their own accounts against the logs, read past the library."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

import msgpack
from duramen.events.log.keys import Keys
from faults.evidence import Evidence, StoredEvent
from faults.followers import PageResult, noted, rows_of

__all__ = ["Judge", "kept_of"]

_LEVELS: Mapping[str, int] = {"spawned": 1, "memory_set": 2, "activity_recorded": 3}
_BY_NAME: Mapping[str, int] = {"LIFECYCLE": 1, "STATE": 2, "ACTIVITY": 3, "TRACE": 4}
_CHECKSUM = 16

_Key = tuple[Any, ...]
"""What decides which events of an agent a follower wants."""


@define(eq=False)
class Judge:
    """Holds the logs as they are now; nobody may write to them any more."""

    logs: Mapping[str, Sequence[StoredEvent]]
    _due: dict[_Key, list[tuple[int, bytes]]] = field(factory=dict[_Key, list[tuple[int, bytes]]])
    _folded: dict[_Key, list[Any] | None] = field(factory=dict[_Key, list[Any] | None])

    @classmethod
    def of(cls, evidence: Evidence, agents: Sequence[str]) -> Judge:
        return cls({agent: evidence.events(agent) for agent in agents})

    def problems(self, told: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
        """What is wrong with a follower that was told so and reports so; nothing, if all is right."""
        found = [*report["problems"], *([report["error"]] if report["error"] else [])]
        found += self.differences(told, report["seen"], report["begun"])
        return [f"{told['name']} ({told['kind']} {told['pattern']}): {problem}" for problem in found]

    def last(self, told: Mapping[str, Any]) -> Mapping[str, int]:
        """By agent: the last seq that concerns a follower."""
        due = {agent: self._wanted(told, agent) for agent in self.logs if _concerns(told, agent)}
        return {agent: wanted[-1][0] for agent, wanted in due.items() if wanted}

    def differences(self, told: Mapping[str, Any], seen: PageResult, begun: Mapping[str, Any]) -> list[str]:
        """Between what was seen and what it should be."""
        found = [f"{agent} does not concern it" for agent in seen if not _concerns(told, agent)]
        for agent in self.logs:
            if _concerns(told, agent):
                found += self._differences(told, agent, seen.get(agent), begun)
        return found

    def _differences(
        self, told: Mapping[str, Any], agent: str, entry: Sequence[Any] | None, begun: Mapping[str, Any]
    ) -> list[str]:
        due = self._wanted(told, agent)
        first = due[0][0] if due else 0
        if begun:
            # It began between two looks at the log: with the first event behind the second look, or before that.
            before, after = (begun[moment].get(agent, 0) for moment in ("before", "after"))
            must = next((seq for seq, _ in due if seq > after), None)
            if entry is None:
                return [] if must is None else [f"{agent}: nothing was seen, and {must} should have been"]
            first = entry[0]
            if first <= before:
                return [f"{agent}: {first} is older than the subscription, which began behind {before}"]
            if must is not None and first > must:
                return [f"{agent}: the first was {first}, and should have been {must} at the latest"]
        right = self._fold(told, agent, first)
        wrong = None if entry is None else list(entry)
        return [] if wrong == right else [f"{agent}: [first, count, last, hash] are {wrong} and should be {right}"]

    def _wanted(self, told: Mapping[str, Any], agent: str) -> list[tuple[int, bytes]]:
        """Seq of each event that concerns it, and what goes into the hash."""
        key = (agent, told["under"], told["level"], told["kind"] == "values")
        if key not in self._due:
            self._due[key] = _wanted(told, self.logs[agent])
        return self._due[key]

    def _fold(self, told: Mapping[str, Any], agent: str, first: int) -> list[Any] | None:
        key = (agent, told["under"], told["level"], told["kind"] == "values", first)
        if key not in self._folded:
            entry: list[Any] | None = None
            for seq, token in self._wanted(told, agent):
                if seq >= first:
                    entry = noted(entry, seq, token)
            self._folded[key] = entry
        return self._folded[key]


def _concerns(told: Mapping[str, Any], agent: str) -> bool:
    return told["project"] is None or agent.split("/", maxsplit=1)[0] == told["project"]


def _wanted(told: Mapping[str, Any], events: Sequence[StoredEvent]) -> list[tuple[int, bytes]]:
    under, most, values = told["under"], _BY_NAME[told["level"]], told["kind"] == "values"
    known: dict[str, Any] = {}
    found: list[tuple[int, bytes]] = []
    for event in events:
        path = str(event.data.get("path", ""))
        before, after = known.get(path), event.data.get("value")
        if event.type == "memory_set":
            known[path] = after
        if _LEVELS[event.type] <= most and (under is None or path.split("/", maxsplit=1)[0] == under):
            found.append((event.seq, event.digest + (json.dumps([[path, before, after]]).encode() if values else b"")))
    return found


def kept_of(evidence: Evidence, told: Mapping[str, Any]) -> PageResult:
    """The view of a consumer as it is stored, read past the library."""
    if told["kind"] == "sink":
        return rows_of(told["path"])
    key, client = Keys(evidence.namespace).view(told["name"], "live"), evidence.client
    if told["kind"] == "keyed":
        return {agent.decode(): msgpack.unpackb(entry) for agent, entry in client.hgetall(key).items()}
    stored = client.get(key)
    return {} if stored is None else dict(msgpack.unpackb(stored[_CHECKSUM:]))
