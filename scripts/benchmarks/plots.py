"""Pictures of the figures: SVG by hand, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

from .figures import Series, Verdict
from .tables import number, ratio

__all__ = ["rates_picture", "targets_picture"]

_WIDTH = 1060
_LEFT = 390
_RIGHT = 800
_TOP = 92
_ROW = 30
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_STYLE = """\
    .page { fill: #fbfaf7; stroke: #d9d4c9; }
    .floor { fill: #8a8172; }
    .peer { fill: #4a76a8; }
    .ours { fill: #b5712c; }
    .met { fill: #3c7a52; }
    .missed { fill: #b3372f; }
    .ink { fill: #22262b; }
    .soft { fill: #545c66; font-size: 12.5px; }
    .head { fill: #22262b; font-weight: 600; font-size: 16px; }
    .grid { stroke: #d9d4c9; }
    .mark { stroke: #22262b; stroke-width: 1.6; stroke-dasharray: 5 4; }
    .spread { stroke: #22262b; stroke-width: 1.6; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #1b1e22; stroke: #3a3f46; }
      .floor { fill: #9a917f; }
      .peer { fill: #7fa8d6; }
      .ours { fill: #d99a55; }
      .met { fill: #74b48b; }
      .missed { fill: #e8837b; }
      .ink, .head { fill: #eceef0; }
      .soft { fill: #b4bbc4; }
      .grid { stroke: #3a3f46; }
      .mark, .spread { stroke: #eceef0; }
    }"""


class _Scale:
    """A logarithmic axis over whole decades."""

    def __init__(self, values: Sequence[float]) -> None:
        self._first = floor(log10(min(values)))
        self._last = max(ceil(log10(max(values))), self._first + 1)

    def at(self, value: float) -> float:
        share = (log10(value) - self._first) / (self._last - self._first)
        return _LEFT + share * (_RIGHT - _LEFT)

    @property
    def decades(self) -> list[float]:
        return [10.0**power for power in range(self._first, self._last + 1)]


def rates_picture(title: str, description: str, series: Sequence[Series]) -> str:
    """A bar for each contender's operations a second, its spread as a line; the axis is logarithmic."""
    rates = [row.rate for row in series]
    scale = _Scale([value for rate in rates for value in (rate.least, rate.most)])
    bottom = _TOP + _ROW * len(series)
    parts = _axis(scale, bottom)
    for place, (row, rate) in enumerate(zip(series, rates, strict=True)):
        y = _TOP + _ROW * place
        end = scale.at(rate.middle)
        parts += [
            f'<text class="ink" x="{_LEFT - 12}" y="{y + 18}" text-anchor="end">{escape(row.name)}</text>',
            f'<rect class="{row.kind}" x="{_LEFT}" y="{y + 5}" width="{end - _LEFT:.1f}" height="18" rx="2"/>',
            _spread(scale.at(rate.least), scale.at(rate.most), y + 14),
            f'<text class="ink" x="{_RIGHT + 16}" y="{y + 18}">{number(rate.middle)}/s</text>',
        ]
    legend = [("floor", "floor: redis-py alone"), ("peer", "peer"), ("ours", "duramen")]
    return _page(title, description, parts, legend, bottom)


def targets_picture(title: str, description: str, verdicts: Sequence[Verdict]) -> str:
    """How many times better than needed each target's figure is; the axis is logarithmic, 1 is just met."""
    margins = [_visible(verdict) for verdict in verdicts]
    scale = _Scale([value for margin in margins for value in (*margin, 0.9, 1.1)])
    bottom = _TOP + _ROW * len(verdicts)
    parts = _axis(scale, bottom, unit="×")
    one = scale.at(1.0)
    parts.append(f'<line class="mark" x1="{one:.1f}" y1="{_TOP - 6}" x2="{one:.1f}" y2="{bottom}"/>')
    for place, (verdict, (least, middle, most)) in enumerate(zip(verdicts, margins, strict=True)):
        y = _TOP + _ROW * place
        kind = "met" if verdict.met else "missed"
        name = escape(verdict.short or verdict.what)
        parts += [
            f'<text class="soft" x="{_LEFT - 12}" y="{y + 18}" text-anchor="end">{name}</text>',
            _spread(scale.at(least), scale.at(most), y + 14),
            f'<circle class="{kind}" cx="{scale.at(middle):.1f}" cy="{y + 14}" r="6"/>',
            f'<text class="soft" x="{_RIGHT + 16}" y="{y + 18}">{escape(ratio(verdict.measured, verdict.unit))}</text>',
        ]
    legend = [("met", "met: right of the line"), ("missed", "not met")]
    return _page(title, description, parts, legend, bottom)


def _visible(verdict: Verdict) -> tuple[float, float, float]:
    """Margins within three decades: a delay of nothing is infinitely better than needed."""
    margin = verdict.margin
    least, middle, most = (min(999.0, max(0.01, value)) for value in (margin.least, margin.middle, margin.most))
    return least, middle, most


def _spread(least: float, most: float, y: float) -> str:
    return f'<line class="spread" x1="{least:.1f}" y1="{y}" x2="{most:.1f}" y2="{y}"/>'


def _axis(scale: _Scale, bottom: float, unit: str = "") -> list[str]:
    parts: list[str] = []
    for value in scale.decades:
        x = scale.at(value)
        shown = f"{value:,.0f}" if value >= 1 else f"{value:g}"
        parts += [
            f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom}"/>',
            f'<text class="soft" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{shown}{unit}</text>',
        ]
    return parts


def _page(title: str, description: str, parts: list[str], legend: list[tuple[str, str]], bottom: float) -> str:
    height = bottom + 44
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-labelledby="title desc" font-family="{_FONT}" font-size="13.5">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(description)}</desc>',
        f"<style>\n{_STYLE}\n  </style>",
        f'<rect class="page" x="1" y="1" width="{_WIDTH - 2}" height="{height - 2}" rx="12"/>',
        f'<text class="head" x="24" y="36">{escape(title)}</text>',
    ]
    x = 24
    for kind, name in legend:
        lines.append(f'<rect class="{kind}" x="{x}" y="52" width="13" height="13" rx="2"/>')
        lines.append(f'<text class="soft" x="{x + 20}" y="63">{escape(name)}</text>')
        x += 44 + 7 * len(name)
    return "\n".join([*lines[:1], *(f"  {line}" for line in [*lines[1:], *parts]), "</svg>", ""])
