"""A replay check of agents' logs in a store, in several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from duramen.events import Limits
from duramen.events.log import EventLog

from .replay_check import ReplayReport, check_replay, recorded_in
from .workers import sound_logs


def check_logs(
    log: EventLog,
    agents: Sequence[str],
    *,
    workers: int | None = None,
    modules: Sequence[str] = (),
    limits: Limits | None = None,
    progress: Callable[[int, str], object] | None = None,
) -> list[ReplayReport]:
    """As `check_replay` of `recorded_in` for each agent, in their order; in several processes where that is faster.

    At most `workers` processes are used: by default one for each processor; 1 means this one alone. They import
    `modules` besides the ones that declare event types and upcasters. They get the events and open no store. A log that
    a worker finds unsound, or whose types it lacks, is folded again in this process. `progress` gets the number of
    events folded, and the agent. Raises what `recorded_in` raises.
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
