"""Agents' logs in a store, folded with today's code and compared with what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from duramen.events import Limits
from duramen.events.log import EventLog

from .replay_check import ReplayReport, check_replay, recorded_in
from .workers import sound_logs

__all__ = ["check_logs"]


def check_logs(
    log: EventLog,
    agents: Sequence[str],
    *,
    workers: int | None = None,
    modules: Sequence[str] = (),
    limits: Limits | None = None,
    progress: Callable[[int, str], object] | None = None,
) -> list[ReplayReport]:
    """As `check_replay` of `recorded_in` for each agent, in their order; in several processes where that is quicker.

    `workers` is how many at most; by default one for each processor, and 1 means none but this one. `modules` are those
    that the processes import besides the ones that declare event types and upcasters. They are handed the events, and
    open no store. What they do not find sound, or cannot know the types of, is folded once more in this process.
    `progress` is called with the number of events folded, and the agent. Raises what `recorded_in` raises.
    """
    sound = sound_logs(log, agents, workers=workers, modules=modules, limits=limits, progress=progress)
    reports: list[ReplayReport] = []
    before = sum(sound.values())
    for agent in agents:
        if agent in sound:
            reports.append(ReplayReport(agent, sound[agent]))
            continue

        def advance(events: int, agent: str = agent, before: int = before) -> None:
            if progress is not None:
                progress(before + events, agent)

        reports.append(check_replay(recorded_in(log, agent, limits), progress=advance))
        before += reports[-1].events
    return reports
