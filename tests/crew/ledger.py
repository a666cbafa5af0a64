"""What the steps of a crew have done outside, compared with the logs of its agents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from duramen.events import Event

__all__ = ["Ledger", "Line", "check_keys", "check_steps", "read_ledger"]

_LONG_TURN = 5_000_000
_SHORT_TURN = 250_000
"""µs: an event has the time at which its turn began, which on a busy machine may be before its step had begun or ended.
Most steps that are done again by mistake are so later than the shorter time: a host has to be started first."""


class Line(NamedTuple):
    time: int
    """µs since the epoch."""
    what: Literal["begin", "end"]
    key: str


Ledger: TypeAlias = Mapping[tuple[str, str, str], Sequence[Line]]
"""Lines by agent, errand and step."""


def read_ledger(path: Path) -> dict[tuple[str, str, str], list[Line]]:
    found: dict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for line in path.read_text().splitlines():
        time, what, agent, errand, step, key = line.split()
        found[agent, errand, step].append(Line(int(time), "begin" if what == "begin" else "end", key))
    return dict(found)


def check_steps(agent: str, events: Sequence[Event], ledger: Ledger) -> tuple[int, list[str]]:
    """How many steps of an agent are logged, and what is wrong: no step may begin after its result was logged."""
    errands: dict[int, str] = {}
    begun: dict[tuple[int, int], str] = {}
    logged, problems = 0, list[str]()
    for event in events:
        data, time = event.data, round(event.time.timestamp() * 1_000_000)
        if event.type == "work_accepted":
            errands[event.seq] = data["data"]["name"]
        elif event.type == "work_begun" and data["kind"] == "step":
            begun[data["work"], data["number"]] = data["name"]
        elif event.type in ("work_continued", "work_done") and data["error"] is None:
            step = begun.pop((data["work"], data["number"]), None)
            if step is None:
                continue
            logged += 1
            errand = errands[data["work"]]
            lines = ledger.get((agent, errand, step), [])
            if not any(line.what == "end" and line.time <= time + _LONG_TURN for line in lines):
                problems.append(f"{agent}: {errand} {step} is logged, and was not done")
            if any(line.what == "begin" and line.time > time + _SHORT_TURN for line in lines):
                problems.append(f"{agent}: {errand} {step} was done again after it was logged")
    return logged, problems


def check_keys(ledger: Ledger) -> list[str]:
    """All attempts of a step have one key, and no two steps have the same."""
    problems: list[str] = []
    owners: dict[str, tuple[str, str, str]] = {}
    for place, lines in ledger.items():
        keys = {line.key for line in lines}
        if len(keys) != 1:
            problems.append(f"{' '.join(place)} had several keys")
        for key in keys:
            if owners.setdefault(key, place) != place:
                problems.append(f"{' '.join(place)} had the key of {' '.join(owners[key])}")
    return problems
