"""What happens now: the list of agents kept up to date, rates, and changes as server-sent events."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from duramen.events import Cursor, DuramenError, Event, Granularity
from duramen.events.logging import get_logger
from duramen.events.model import ACTIVITY_RECORDED, FAILED
from duramen.projections import Change, Subscription, VerificationProgress, VerificationReport

from ..api import AgentSystem
from .agents import WORK_CHANGES, AgentList
from .history import as_dict, is_failure, to_bytes

_POINTS: Final = 120
_BURST: Final = 0.1
"""Seconds between two messages to a page, at least."""
_BEAT: Final = 1.0
"""Seconds between two messages with the rates, at most."""
_MOST_AGENTS: Final = 100
"""In one message; with more, the page asks for the list."""
_RETRY_SECONDS: Final = 1.0
_NAMES: Final = ("events", "appends", "tokens", "errors")


class Rates:
    """How much has happened in each of the last seconds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: deque[list[int]] = deque([[0] * len(_NAMES) for _ in range(_POINTS)], _POINTS)
        self._second = int(monotonic())
        self._append: tuple[str, object] = ("", None)

    def note(self, event: Event) -> None:
        """Count an event. Events of one append have the same agent and time."""
        with self._lock:
            self._advance()
            now = self._points[-1]
            now[0] += 1
            if self._append != (event.agent, event.time):
                self._append = (event.agent, event.time)
                now[1] += 1
            if event.type == FAILED:
                now[3] += 1
            elif event.type == ACTIVITY_RECORDED:
                now[2] += _tokens(event.data["data"])
                now[3] += event.data["kind"] == "tool_output" and is_failure(event.data["data"])

    def points(self) -> dict[str, list[int]]:
        """By name, the counts of the last seconds, oldest first."""
        with self._lock:
            self._advance()
            return {name: [point[at] for point in self._points] for at, name in enumerate(_NAMES)}

    def _advance(self) -> None:
        second = int(monotonic())
        for _ in range(min(second - self._second, _POINTS)):
            self._points.append([0] * len(_NAMES))
        self._second = second


class LiveView:
    """Follows the log in a thread of its own, for all pages: the list of agents and the rates."""

    def __init__(self, system: AgentSystem, agents: AgentList) -> None:
        self.rates = Rates()
        self._system = system
        self._agents = agents
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="duramen-inspector-live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End. Idempotent."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.is_set():
            try:
                with self._system.subscribe("**", granularity=Granularity.TRACE, every=_BURST) as changes:
                    self._agents.load()
                    while not self._ended.is_set():
                        for change in changes.take(timeout=_BURST):
                            if change.erased:
                                self._agents.forget(change.agent)
                                continue
                            self._agents.note(change.event)
                            self.rates.note(change.event)
                        self._agents.load()
            except DuramenError as error:
                get_logger("inspector").info("not_following", error=type(error).__name__)
                self._ended.wait(_RETRY_SECONDS)


async def stream_changes(
    system: AgentSystem, rates: Rates, agents: AgentList, last_id: str | None, ended: asyncio.Event
) -> AsyncIterator[bytes]:
    """Server-sent events: what has changed since `last_id`, a cursor, or from now on. Ends when `ended` is set.

    Each message has its cursor as its id, so that a page that was cut off goes on where it was. Where the log cannot go
    on there, it begins with `reset`: the page then reads what it shows again.
    """
    subscription, is_reset = await asyncio.to_thread(_subscribe, system, last_id)
    stop = asyncio.create_task(ended.wait())
    next_batch: asyncio.Task[list[Change]] | None = None
    try:
        yield _message("reset" if is_reset else "hello", {"rates": rates.points()}, subscription.cursor)
        beat_at = monotonic() + _BEAT
        while not ended.is_set():
            next_batch = next_batch or asyncio.create_task(subscription.anext_batch())
            done, _ = await asyncio.wait(
                (next_batch, stop), timeout=max(0.0, beat_at - monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
            if next_batch in done:
                batch, next_batch = next_batch.result(), None
                if not batch:
                    return
                yield _message("changes", _coalesce(batch, agents), subscription.cursor)
            if monotonic() >= beat_at:
                yield _message("beat", {"rates": rates.points()}, None)
                beat_at = monotonic() + _BEAT
    except DuramenError as error:
        yield _message("lost", {"error": type(error).__name__, "message": str(error)[:500]}, None)
    finally:
        stop.cancel()
        if next_batch is not None:
            next_batch.cancel()
        await subscription.aclose()


async def stream_verification(system: AgentSystem, ended: asyncio.Event) -> AsyncIterator[bytes]:
    """Server-sent events: the progress of verifying all agents, then the report. Ends it where the page goes away."""
    loop, told = asyncio.get_running_loop(), asyncio.Queue[bytes | None](_POINTS)
    stopped = threading.Event()

    def tell(message: bytes | None) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_put, told, message)

    def progress(done: VerificationProgress) -> None:
        if stopped.is_set():
            raise _Stopped
        now = {"agents": done.agents, "of": done.of_agents, "events": done.events, "problems": done.problems}
        tell(_message("progress", now, None))

    def run() -> None:
        try:
            tell(_message("report", _report(system.verify(workers=2, progress=progress)), None))
        except _Stopped:
            pass
        except DuramenError as error:
            tell(_message("lost", {"error": type(error).__name__, "message": str(error)[:500]}, None))
        finally:
            tell(None)

    work = asyncio.create_task(asyncio.to_thread(run))
    stop = asyncio.create_task(ended.wait())
    try:
        while not ended.is_set():
            following = asyncio.create_task(told.get())
            await asyncio.wait((following, stop), return_when=asyncio.FIRST_COMPLETED)
            message = following.result() if following.done() else None
            following.cancel()
            if message is None:
                return
            yield message
    finally:
        stopped.set()
        stop.cancel()
        await asyncio.shield(work)


class _Stopped(Exception):
    """Ends a verification that nobody waits for."""


def _put(told: asyncio.Queue[bytes | None], message: bytes | None) -> None:
    if told.full():
        told.get_nowait()  # progress that a slow page has not taken
    told.put_nowait(message)


def _report(report: VerificationReport) -> dict[str, Any]:
    problems = [
        {
            "agent": problem.agent,
            "seq": problem.seq,
            "kind": problem.kind.value,
            "expected": str(problem.expected)[:200],
            "actual": str(problem.actual)[:200],
            "text": problem.detail[:1_000],
        }
        for problem in report.problems[:_MOST_AGENTS]
    ]
    return {
        "ok": report.ok,
        "events": report.events,
        "agents": report.agents,
        "count": len(report.problems),
        "problems": problems,
    }


def _subscribe(system: AgentSystem, last_id: str | None) -> tuple[Subscription, bool]:
    if last_id:
        try:
            cursor = Cursor.from_bytes(bytes.fromhex(last_id))
            return system.subscribe("**", granularity=Granularity.TRACE, every=_BURST, after=cursor), False
        except (DuramenError, ValueError):  # a cursor of another log, or none at all
            pass
    return system.subscribe("**", granularity=Granularity.TRACE, every=_BURST), bool(last_id)


def _coalesce(batch: list[Change], agents: AgentList) -> dict[str, Any]:
    """The last change of each agent, and how many there were; of erasures the page reads again what it shows."""
    found: dict[str, dict[str, Any]] = {}
    for change in batch:
        if change.erased:
            return _take_all_in(batch, agents)
        row, last = agents.note(change.event)
        known = found.get(change.agent)
        if known is None and len(found) >= _MOST_AGENTS:
            return {"many": len(batch)}
        found[change.agent] = {
            "path": change.agent,
            "seq": change.seq,
            "count": 1 if known is None else known["count"] + 1,
            "status": row.status,
            "updated": row.updated,
            "activity": agents.activity(change.agent),
            "work": change.event.type in WORK_CHANGES or bool(known and known["work"]),
            "last": [last.seq, last.type, last.title, last.detail],
        }
    return {"agents": list(found.values())}


def _take_all_in(batch: list[Change], agents: AgentList) -> dict[str, Any]:
    for change in batch:
        if change.erased:
            agents.forget(change.agent)
        else:
            agents.note(change.event)
    return {"many": len(batch)}


def _message(kind: str, data: dict[str, Any], cursor: Cursor | None) -> bytes:
    place = b"" if cursor is None else f"id: {cursor.to_text()}\n".encode()
    return b"".join((place, f"event: {kind}\ndata: ".encode(), to_bytes(data), b"\n\n"))


def _tokens(data: Any) -> int:
    """The tokens that a recorded completion says it has used."""
    usage = as_dict((as_dict(data) or {}).get("usage")) or {}
    total = usage.get("total_tokens")
    if type(total) is int:
        return max(total, 0)
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")]
    return sum(count for count in counts if type(count) is int and count > 0)
