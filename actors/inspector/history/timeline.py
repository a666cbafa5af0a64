"""The timeline of one agent as numbers between 0 and 1: how dense its events lie, and marks in lanes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

from .log_index import LogIndex, TimelineMark

BINS: Final = 600
_MARKS: Final = 400
_TICKS: Final = 7
_MOST_GAPS: Final = 12
_GAP_SHARE: Final = 0.08
"""Idle time of more than this part of what is shown is folded."""
_GAP_WIDTH: Final = 0.03
_LEAST_GAP: Final = 1_000_000


def timeline(index: LogIndex, *, by_time: bool, first: int, last: int) -> dict[str, Any]:
    """What to draw for the events `first` to `last`, which the index has.

    `bins` has rows of bin, first seq, events, errors; `places` the position of each event where these are few. `gaps`
    has position and length in µs of idle time that is folded, `ticks` position and time. A lane has rows of position,
    seq, kind, label, end position, and how many marks stand for one.
    """
    times = index.times[first - index.base - 1 : last - index.base]
    places, gaps = _by_time(times) if by_time else (_by_seq(len(times)), [])
    errors = [mark.seq for mark in index.lanes["errors"]]
    return {
        "from": first,
        "to": last,
        "bins": _bins(places, first, errors),
        "places": [round(place, 5) for place in places] if len(places) <= BINS else None,
        "gaps": gaps,
        "ticks": _ticks(places, times),
        "lanes": {name: _lane(marks, places, first, last) for name, marks in index.lanes.items()},
    }


def _by_seq(count: int) -> list[float]:
    return [(number + 0.5) / count for number in range(count)]


def _by_time(times: Sequence[int]) -> tuple[list[float], list[list[float]]]:
    """Position of each event, and of each folded gap with its length. A clock that went backwards is held still."""
    forward = list(accumulate(times, max))
    steps = [after - before for before, after in pairwise(forward)]
    left = sum(steps)
    folded: set[int] = set()
    for number in sorted(range(len(steps)), key=lambda number: -steps[number])[:_MOST_GAPS]:
        if steps[number] < max(_LEAST_GAP, _GAP_SHARE * left):
            break
        folded.add(number)
        left -= steps[number]
    if left <= 0 and not folded:
        return _by_seq(len(times)), []
    room = 1.0 - 0.02 - _GAP_WIDTH * len(folded)
    scale = room / left if left else 0.0
    places, at = [0.01], 0.01
    gaps: list[list[float]] = []
    for number, step in enumerate(steps):
        if number in folded:
            gaps.append([round(at + _GAP_WIDTH / 2, 5), step])
            at += _GAP_WIDTH
        else:
            at += step * scale
        places.append(at)
    return places, gaps


def _bins(places: Sequence[float], first: int, errors: Sequence[int]) -> list[list[int]]:
    rows: list[list[int]] = []
    start = 0
    while start < len(places):
        number = min(BINS - 1, int(places[start] * BINS))
        end = bisect_left(places, (number + 1) / BINS, lo=start + 1) if number < BINS - 1 else len(places)
        failed = bisect_left(errors, first + end) - bisect_left(errors, first + start)
        rows.append([number, first + start, end - start, failed])
        start = end
    return rows


def _ticks(places: Sequence[float], times: Sequence[int]) -> list[list[float]]:
    """Some events, evenly spread over the axis, with their times."""
    found: list[list[float]] = []
    for number in range(_TICKS):
        at = bisect_left(places, number / (_TICKS - 1))
        at = min(at, len(places) - 1)
        if at >= 0 and (not found or places[at] - found[-1][0] > 0.08):
            found.append([round(places[at], 5), times[at]])
    return found


def _lane(marks: Sequence[TimelineMark], places: Sequence[float], first: int, last: int) -> list[list[Any]]:
    """The marks of a range; those closer than one part of the lane are one mark, the worst of them."""
    low = bisect_left(marks, first, key=lambda mark: mark.seq)
    high = bisect_right(marks, last, key=lambda mark: mark.seq)
    rows: list[list[Any]] = []
    for mark in marks[low:high]:
        place = places[mark.seq - first]
        end = places[min(mark.end, last) - first] if mark.end else None
        if rows and high - low > _MARKS and int(rows[-1][0] * _MARKS) == int(place * _MARKS):
            row = rows[-1]
            row[5] += 1
            row[4] = end if end is not None else row[4]
            if mark.kind == "failed":
                row[1:4] = mark.seq, mark.kind, mark.label
        else:
            rows.append([round(place, 5), mark.seq, mark.kind, mark.label, end, 1])
    return rows
