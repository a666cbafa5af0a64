"""What a measurement gives: samples, their medians and spread, ratios, and whether a target was met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final, Literal

from attrs import field, frozen

__all__ = [
    "Kind",
    "NotMeasured",
    "Ratio",
    "Sample",
    "Series",
    "Spread",
    "Unmeasured",
    "Verdict",
    "ratio_of",
    "spread_of",
]

Kind = Literal["floor", "peer", "ours"]

_MICRO: Final = 1e6
_TINY: Final = 1e-9


@frozen
class Sample:
    """One run of one contender: operations, and the seconds they took.

    `cpu` is this process's, all threads; `server` the server's. `latencies` are of single calls, where one caller
    awaited each.
    """

    operations: int
    wall: float
    cpu: float
    server: float = 0.0
    latencies: tuple[float, ...] = field(default=(), repr=False)


@frozen
class Spread:
    """The median of some rounds, and the least and greatest of them."""

    middle: float
    least: float
    most: float


def spread_of(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


@frozen
class Series:
    """All rounds of one contender."""

    kind: Kind
    name: str
    samples: tuple[Sample, ...]
    note: str = ""

    def of(self, look: Callable[[Sample], float]) -> Spread:
        return spread_of([look(sample) for sample in self.samples])

    @property
    def rate(self) -> Spread:
        """Operations a second."""
        return self.of(lambda sample: sample.operations / sample.wall)

    @property
    def latency(self) -> Spread:
        """Median µs of a single call."""
        return self.of(lambda sample: median(sample.latencies) * _MICRO)

    @property
    def cpu(self) -> float:
        """CPU µs an operation of the process that calls; the median."""
        return self.of(lambda sample: sample.cpu / sample.operations * _MICRO).middle

    @property
    def server(self) -> float:
        """CPU µs an operation of the server; the median."""
        return self.of(lambda sample: sample.server / sample.operations * _MICRO).middle


@frozen
class NotMeasured:
    """A contender that could not take part, and why: a table has a row for it all the same."""

    kind: Kind
    name: str
    reason: str


Ratio = Spread
"""Of two contenders in the same rounds: each round's own ratio, so that a slow minute counts for both."""


def ratio_of(above: Series, below: Series, look: Callable[[Sample], float]) -> Ratio:
    """Round by round, `above` as so many times `below`."""
    pairs = zip(above.samples, below.samples, strict=True)
    return spread_of([look(first) / look(second) for first, second in pairs])


@frozen
class Verdict:
    """A target, and what was measured. `unit` stands behind the figures."""

    what: str
    measured: Ratio
    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None
    unit: str = "×"
    remark: str = ""
    short: str = ""
    """What stands in a picture in place of `what`."""

    @property
    def needed(self) -> float:
        needed = self.at_least if self.at_least is not None else self.at_most
        assert needed is not None, "a target is at least or at most something"
        return needed

    @property
    def margin(self) -> Spread:
        """How many times better than needed; 1 is just met."""
        values = [max(_TINY, value) for value in (self.measured.middle, self.measured.least, self.measured.most)]
        found = [value / self.needed if self.at_least is not None else self.needed / value for value in values]
        return Spread(found[0], min(found), max(found))

    @property
    def met(self) -> bool:
        return self.margin.middle >= 1.0

    @property
    def aim_met(self) -> bool:
        if self.aim is None:
            return self.met
        return self.measured.middle >= self.aim if self.at_least is not None else self.measured.middle <= self.aim


@frozen
class Unmeasured:
    """A target that nothing can be said of, since a contender could not take part: it is listed all the same."""

    what: str
    at_least: float
    reason: str
