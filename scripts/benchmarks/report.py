"""What is printed, and the page and pictures that are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .figures import Unmeasured, Verdict
from .plots import rates_picture, targets_picture
from .tables import Group, number, targets_table

__all__ = ["summary", "text_of", "write"]

_HEAD: Final = """\
# Performance

What duramen costs, as so many times what something you know costs: *floors* are redis-py and hiredis alone on the same
server with the same bytes, *peers* are other libraries that keep agents' state, doing the same work. All of this page
is written by `scripts/bench`; nothing on it was typed in.

Ratios are the figures to trust: both sides ran in turns on the same machine in the same minutes. Each is the median of
the rounds' own ratios, with the least and the greatest round behind it. Absolute numbers stand beside them only
because people ask. *CPU µs* is the CPU time, per operation, of the process that calls, and *server CPU µs* that of
the server: they move less than the clock when a machine has neighbours. *CPU alone* is the ratio as it would be if
only CPU time counted.

Every measurement is verified: what must be in the logs afterwards is counted, and states are compared.
"""

_AGAIN: Final = """\
## Measure it yourself

```sh
scripts/bench                              # everything; rewrites this page
scripts/bench --full                       # with 100,000 agents and logs of 1,000,000 events where targets name them
scripts/bench --quick                      # a short look that writes nothing
scripts/bench --only throughput latency    # some groups
scripts/bench --agents 50 --events 400 --payload 1000 --durability fsync --rounds 9 --processes 2
```

One command from a fresh clone: it sets up `.venv` with the peers. Servers are started for each group, on Unix sockets,
with their data in `build/`, and are gone afterwards.
"""


def text_of(group: Group) -> str:
    """A group for a terminal."""
    return "\n\n".join([f"=== {group.title} ===", *(table.text() for table in group.tables)])


def summary(groups: Sequence[Group]) -> str:
    """The targets of all groups, for a terminal."""
    verdicts, unmeasured = _targets_of(groups)
    if not verdicts and not unmeasured:
        return "no target was measured"
    return targets_table("Targets", verdicts, unmeasured).text() + "\n\n" + _counted(verdicts, unmeasured)


def write(root: Path, groups: Sequence[Group], machine: Sequence[str], how: str) -> list[Path]:
    """Write the page and its pictures below `docs/`; the paths written."""
    verdicts, unmeasured = _targets_of(groups)
    pictures = {
        "bench-targets.svg": targets_picture(
            "How far from what is needed", "For each target, how many times better than needed the figure is.", verdicts
        )
    }
    for group in groups:
        if group.name in ("throughput", "peers"):
            pictures[f"bench-{group.name}.svg"] = rates_picture(
                f"{group.title}: acknowledged mutations a second",
                "Bars on a logarithmic axis; the line through each end is the spread of the rounds.",
                group.series,
            )
    page = "\n".join([_HEAD, *_targets(verdicts, unmeasured), *_machine(machine, how), *map(_section, groups), _AGAIN])
    files = {Path("docs/performance.md"): page}
    files |= {Path("docs/pictures") / name: picture for name, picture in pictures.items()}
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return sorted(files)


def _targets_of(groups: Sequence[Group]) -> tuple[list[Verdict], list[Unmeasured]]:
    verdicts = [verdict for group in groups for verdict in group.verdicts]
    return verdicts, [target for group in groups for target in group.unmeasured]


def _counted(verdicts: Sequence[Verdict], unmeasured: Sequence[Unmeasured]) -> str:
    met = sum(verdict.met for verdict in verdicts)
    aims = [verdict for verdict in verdicts if verdict.aim is not None]
    reached = sum(verdict.aim_met for verdict in aims)
    count = len(verdicts) + len(unmeasured)
    missing = f", {len(unmeasured)} not measured" if unmeasured else ""
    return f"{met} of {count} targets met{missing}; of {number(len(aims)).removesuffix('.00')} aims, {reached} reached"


def _targets(verdicts: Sequence[Verdict], unmeasured: Sequence[Unmeasured]) -> list[str]:
    return [
        "## Targets",
        "",
        f"{_counted(verdicts, unmeasured)}. A target was set before anything was built; those not met are the work "
        "that is left.",
        "",
        targets_table("Targets", verdicts, unmeasured).markdown(),
        "",
        _picture("bench-targets.svg", "For each target, how many times better than needed the measured figure is."),
    ]


def _machine(machine: Sequence[str], how: str) -> list[str]:
    lines = [f"- {sentence}" for sentence in machine]
    return ["## What it was measured on", "", *lines, f"- Measured with `{how}`.", ""]


def _section(group: Group) -> str:
    parts = [f"## {group.title}", group.text]
    if group.name in ("throughput", "peers"):
        parts.append(_picture(f"bench-{group.name}.svg", f"{group.title}: mutations a second, on a logarithmic axis."))
    for table in group.tables:
        parts += [f"### {table.title}", table.markdown()]
    return "\n\n".join(parts) + "\n"


def _picture(name: str, description: str) -> str:
    return f"![{description}](pictures/{name})\n"
