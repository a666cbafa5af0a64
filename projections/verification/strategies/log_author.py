"""An author of logs that an agent's system could have written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import Factory, define

from duramen.events import Granularity, Limits
from duramen.events.codec import DIGEST_SIZE, Codec, RawEvent, chain, to_datetime, to_microseconds
from duramen.events.model import (
    EPISODE_RECORDED,
    MEMORY_DELETED,
    MEMORY_RESTORED,
    MEMORY_SET,
    PAUSED,
    RESUMED,
    SPAWNED,
    TERMINATED,
)

from ...episodes import compose_episode
from ...recorded import StoredLog
from ...recovery import SessionTotals
from ...state import AgentState, advance, copy_tree, difference, overlay

AGENT: Final = "project/agent"

_BEGIN: Final = to_microseconds(datetime(2024, 1, 1, tzinfo=UTC))
_REMEMBERED: Final = 10_000


@define(eq=False)
class Author:
    """Writes a log event by event. Events that do not fit the state are skipped, as a system would refuse them."""

    codec: Codec = Factory(lambda: Codec(Limits()))
    state: AgentState = Factory(AgentState)
    items: list[bytes] = Factory(list[bytes])
    saved: dict[str, dict[str, Any]] = Factory(dict[str, dict[str, Any]])
    sessions: int = 0
    late: int = 0
    command: str | None = None
    metadata: dict[str, Any] | None = None

    def write(self, kind: str, data: dict[str, Any], level: int, version: int = 1) -> None:
        state = self.state
        session = data["session_id"] if kind == SPAWNED else state.session_id
        time = _BEGIN + (len(self.items) + 1) * 1_000_000 + self.late
        command = None if self.command is None else [self.command, b"print"]
        raw: RawEvent = [kind, version, int(level), time, data, session, command, None, None, self.metadata]
        body, raw[4] = self.codec.encode(raw)
        digest = chain(state.digest, body)
        if not _try_advance(state, raw, digest):
            return
        self.items.append(digest + body)

    def spawn(self, memory: dict[str, Any]) -> None:
        self.sessions += 1
        data = {
            "session_id": f"s-{self.sessions}",
            "agent_type": None,
            "metadata": {},
            "memory": memory,
            "parent": None,
            "granularity": "activity",
            "levels": {},
        }
        self.write(SPAWNED, data, Granularity.LIFECYCLE)

    def pause(self, name: str, days: int | None) -> None:
        self.saved[name] = _copied(self.state.memory)
        now = to_datetime(_BEGIN + len(self.items) * 1_000_000)
        data: dict[str, Any] = {
            "checkpoint_id": name,
            "keys_count": len(self.state.memory),
            "expires_at": None if days is None else now + timedelta(days=days),
            "metadata": {},
            "when_paused": "refuse",
            "reason": None,
        }
        self.write(PAUSED, data, Granularity.LIFECYCLE)

    def resume(self, name: str, clear: bool) -> None:
        if name not in self.state.checkpoints:
            return
        seq, time, count = self.state.checkpoints[name][:3]
        ops = (difference if clear else overlay)(self.state.memory, self.saved[name])
        if ops:
            self.write(MEMORY_RESTORED, {"ops": ops}, Granularity.STATE)
        data = {
            "checkpoint_id": name,
            "checkpoint_seq": seq,
            "checkpoint_timestamp": to_datetime(time),
            "clear_current": clear,
            "items_restored": count,
        }
        self.write(RESUMED, data, Granularity.LIFECYCLE)

    def there_and_back(self, name: str, key: str, clear: bool) -> None:
        """Pause, resume, change an item, and resume from the checkpoint again."""
        self.pause(name, None)
        self.resume(name, clear=True)
        self.write(MEMORY_SET, {"path": key, "value": len(self.items)}, Granularity.STATE)
        self.resume(name, clear)

    def delete_one(self, number: int) -> None:
        """Delete one of the existing items."""
        if self.state.memory:
            items = list(self.state.memory)
            self.write(MEMORY_DELETED, {"path": items[number % len(items)]}, Granularity.STATE)

    def terminate(self, keep: bool, clear: bool) -> None:
        state, items = self.state, len(self.state.memory)
        episode = None
        if keep:
            episode = self._episode()
            self.write(EPISODE_RECORDED, {"episode": episode}, Granularity.LIFECYCLE)
        data = {
            "outcome": "success",
            "episode_id": None if episode is None else episode["id"],
            "items_consolidated": items if keep else 0,
            "items_cleared": len(state.memory) if clear else 0,
            "cleared": clear,
            "reason": None,
        }
        self.write(TERMINATED, data, Granularity.LIFECYCLE)

    def _episode(self) -> dict[str, Any]:
        state = self.state
        return compose_episode(
            agent=AGENT,
            session_id=state.session_id,
            first_seq=state.session_first_seq,
            last_seq=state.seq,
            duration_seconds=1.0,
            created_at=to_datetime(_BEGIN),
            totals=SessionTotals(),
            memory=state.memory,
            outcome="success",
            outcome_details=None,
            task_description="work",
            context_summary=None,
            lessons_learned=(),
            importance_score=0.6,
        ).as_data()


def _copied(memory: dict[str, Any]) -> dict[str, Any]:
    copied = copy_tree(memory)
    assert isinstance(copied, dict)
    return copied


def is_whole(log: StoredLog) -> bool:
    """Whether the log begins with `spawned`, and each event fits the state before it."""
    state, raws = AgentState(), log.raws()
    if raws[0][0] != SPAWNED:
        return False
    return all(_try_advance(state, raw, item[:DIGEST_SIZE]) for raw, item in zip(raws, log.items, strict=True))


def _try_advance(state: AgentState, raw: RawEvent, digest: bytes) -> bool:
    try:
        advance(state, raw, digest, _REMEMBERED)
    except (ValueError, TypeError, KeyError, IndexError):  # its path does not exist
        return False
    return True
