"""Tables of figures, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from .figures import NotMeasured, Ratio, Series, Spread, Unmeasured, Verdict, ratio_of

__all__ = ["Group", "Table", "latency_table", "number", "rate_table", "ratio", "targets_table"]


@frozen
class Table:
    """Rows of cells under heads. The first two columns are text, the others figures, but for a last one of notes."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Aligned, for a terminal."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        shown = ["  ".join(self._cell(line, at, widths[at]) for at in range(len(line))).rstrip() for line in lines]
        return "\n".join([self.title, "-" * len(self.title), *shown])

    def markdown(self) -> str:
        """For a page."""
        rule = "|".join(" --- " if self._is_text(at) else " ---: " for at in range(len(self.head)))
        lines = [" | ".join(line) for line in (self.head, *self.rows)]
        return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])

    def _cell(self, line: tuple[str, ...], at: int, width: int) -> str:
        return line[at].ljust(width) if self._is_text(at) else line[at].rjust(width)

    def _is_text(self, at: int) -> bool:
        return at < 2 or self.head[at] == "how"


@frozen
class Group:
    """Everything one group of measurements gives."""

    name: str
    title: str
    text: str
    tables: tuple[Table, ...]
    verdicts: tuple[Verdict, ...] = ()
    series: tuple[Series, ...] = ()
    """What the pictures show."""
    unmeasured: tuple[Unmeasured, ...] = ()


def number(value: float) -> str:
    """Three figures are enough for what is measured on a machine with neighbours."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def _range(found: Spread) -> str:
    return f"{number(found.least)}–{number(found.most)}"


def ratio(found: Ratio, unit: str = "×") -> str:
    """A median with its spread."""
    shown = number(found.middle) + ("" if unit == "×" else " ") + unit
    return shown if found.least == found.most else f"{shown} ({_range(found)})"


def rate_table(
    title: str,
    rows: Sequence[Series | NotMeasured],
    against: Sequence[tuple[str, Series]],
    what: str = "mutations/s",
    *,
    turned: bool = False,
) -> Table:
    """Operations a second, as so many times those of each series in `against`, and beside it what a CPU spent.

    `turned`: the series in `against` as so many times the row's instead.
    """
    compared = [name if turned else f"× {name}" for name, _ in against]
    head = ("group", "who", what, *compared, "min–max", "CPU µs", "server CPU µs", "how")
    lines: list[tuple[str, ...]] = []
    for row in rows:
        if isinstance(row, NotMeasured):
            lines.append((row.kind, row.name, *["–"] * (len(head) - 3), f"not measured: {row.reason}"))
            continue
        pairs = [(other, row) if turned else (row, other) for _, other in against]
        ratios = [ratio_of(above, below, lambda sample: sample.operations / sample.wall) for above, below in pairs]
        lines.append(
            (
                row.kind,
                row.name,
                number(row.rate.middle),
                *(ratio(found) for found in ratios),
                _range(row.rate),
                number(row.cpu),
                number(row.server) if row.server else "–",
                row.note,
            )
        )
    return Table(title, head, tuple(lines))


def latency_table(title: str, pairs: Sequence[tuple[Series, Series]], against: str = "floor") -> Table:
    """Median µs of a single call; the first of each pair is what the second is compared with."""
    head = ("group", "who", "median µs", f"× {against}", "min–max", "CPU µs", "server CPU µs", "how")
    lines: list[tuple[str, ...]] = []
    for floor, ours in pairs:
        for row in (floor, ours):
            found = ratio_of(row, floor, lambda sample: Series("ours", "", (sample,)).latency.middle)
            lines.append(
                (
                    row.kind,
                    row.name,
                    number(row.latency.middle),
                    ratio(found),
                    _range(row.latency),
                    number(row.cpu),
                    number(row.server),
                    row.note,
                )
            )
    return Table(title, head, tuple(lines))


def targets_table(title: str, verdicts: Sequence[Verdict], unmeasured: Sequence[Unmeasured] = ()) -> Table:
    head = ("target", "", "needed", "aim", "measured (min–max)", "CPU alone")
    lines: list[tuple[str, ...]] = []
    for verdict in verdicts:
        sign = "≥" if verdict.at_least is not None else "≤"
        space = "" if verdict.unit == "×" else " "
        aim = "–" if verdict.aim is None else f"{sign} {number(verdict.aim)}{space}{verdict.unit}"
        lines.append(
            (
                verdict.what,
                _judged(verdict),
                f"{sign} {number(verdict.needed)}{space}{verdict.unit}",
                aim,
                ratio(verdict.measured, verdict.unit),
                verdict.remark or "–",
            )
        )
    lines += [
        (target.what, "not measured", f"≥ {number(target.at_least)}×", "–", "–", target.reason) for target in unmeasured
    ]
    return Table(title, head, tuple(lines))


def _judged(verdict: Verdict) -> str:
    if not verdict.met:
        return "NOT MET"
    return "met, and the aim" if verdict.aim is not None and verdict.aim_met else "met"
