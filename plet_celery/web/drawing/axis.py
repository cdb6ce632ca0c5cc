"""A time axis in percent of its width: where a moment lies, which idle gaps are cut out, where the ticks are.

Pure. Times are seconds since the epoch and may be missing, infinite or from a clock that is far off: `moment`
takes out what cannot be placed, and every position is 0..100 with three decimals.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

_FARTHEST: Final = 1e11
"""Seconds from the epoch (3,000 years): beyond it a time is damage."""
_THINNEST: Final = 0.4
"""Percent that the shortest bar is wide, so that it is seen."""
_IDLE: Final = 3.0
"""So many times as long as what ran may the gaps be that are not cut."""
_GAP_LEAST: Final = 1.0
"""Seconds: a shorter gap makes nobody wait, and shows how short the rest was."""
_CUTS: Final = 12
_CUT_WIDTH: Final = 4.0
_CUTS_WIDTH: Final = 30.0
_TICKS: Final = 6
_LETTER: Final = 1.15
"""Percent of the axis that a letter of a label takes, about."""
_STEPS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000),
)
"""Seconds between ticks that people count in."""

Span = tuple[float, float]
"""From when to when."""


@dataclass(frozen=True)
class Cut:
    """An idle gap that is drawn narrow."""

    x: float
    width: float
    seconds: float
    label: str


@dataclass(frozen=True)
class Tick:
    """A labelled line of the axis."""

    x: float
    label: str
    anchor: str
    """`start`, `middle` or `end`: so that no label leaves the axis."""


@dataclass(frozen=True)
class _Piece:
    """A part of the axis with one scale."""

    start: float
    end: float
    x: float
    width: float


class Axis:
    """Places moments between the first and the last."""

    def __init__(self, extent: Span, busy: Iterable[Span], *, zero: float) -> None:
        """Make the axis.

        Args:
            extent: the first and the last moment.
            busy: when something ran; what lies between may be cut.
            zero: the moment that ticks count from.
        """
        self.start, self.end = extent
        self.zero = zero
        gaps = _cut_gaps(_gaps(extent, busy), self.end - self.start)
        self._pieces, self.cuts = _pieces(extent, gaps)
        self._starts = [piece.start for piece in self._pieces]
        self.ticks = _ticks(self._pieces, {cut.x for cut in self.cuts}, zero)

    def x(self, at: float) -> float:
        """Return where a moment lies, 0..100."""
        piece = self._pieces[max(0, bisect_right(self._starts, at) - 1)]
        length = piece.end - piece.start
        share = (at - piece.start) / length if length > 0 else 0.0
        return percent(piece.x + piece.width * min(1.0, max(0.0, share)))

    def bar(self, start: float, end: float) -> Span:
        """Return where a bar begins and how wide it is; a short one is widened until it is seen."""
        return widened(self.x(start), self.x(max(start, end)))


def moment(value: Any) -> float | None:
    """Return a time that can be placed, or None."""
    if not isinstance(value, (int, float)) or not -_FARTHEST < value < _FARTHEST:
        return None
    return float(value)


def percent(value: float) -> float:
    """Return a position as it is written: 0..100 with three decimals."""
    return round(min(100.0, max(0.0, value)), 3)


def widened(left: float, right: float) -> Span:
    """Return x and width of a bar between two positions, at least as wide as can be seen."""
    width = min(100.0, max(right - left, _THINNEST))
    x = percent(min(left, 100.0 - width))
    return x, percent(min(width, 100.0 - x))


def steady(now: float, start: float) -> float:
    """Return `now` moved back to a step that nobody sees, so that a page stays the same within it."""
    length = now - start
    if length <= 0:
        return now
    step = 10.0 ** math.floor(math.log10(length / 250)) if length > 0.25 else 0.001
    step *= next((many for many in (1, 2, 5) if step * many >= length / 250), 10)
    return start + math.floor(length / step) * step


def offset(seconds: float) -> str:
    """Return a distance from the beginning as a tick says it: `0`, `250 ms`, `1.5 s`, `2 m 30 s`, `3 h`."""
    sign = "−" if seconds < 0 else ""
    size = abs(seconds)
    if size < 0.0005:
        return "0"
    if size < 1:
        return f"{sign}{size * 1000:.0f} ms"
    if size < 60:
        return f"{sign}{round(size, 3):g} s"
    left, parts = round(size), []
    for length, name in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        many, left = divmod(left, length)
        if many:
            parts.append(f"{many} {name}")
    return sign + " ".join(parts)


def _gaps(extent: Span, busy: Iterable[Span]) -> list[Span]:
    """Return when nothing ran."""
    found, until = [], extent[0]
    for start, end in sorted(busy):
        if start > until:
            found.append((until, start))
        until = max(until, end)
    if extent[1] > until:
        found.append((until, extent[1]))
    return found


def _cut_gaps(gaps: list[Span], total: float) -> list[Span]:
    """Return the gaps to cut, in their order: the longest, until what ran is not lost among the rest."""
    left = _IDLE * (total - sum(end - start for start, end in gaps))
    if left <= 0:
        return []
    by_length = sorted(gaps, key=lambda gap: gap[1] - gap[0])
    for index, (start, end) in enumerate(by_length):
        left -= end - start
        if left < 0 and end - start >= _GAP_LEAST:
            return sorted(by_length[index:][-_CUTS:])
    return []


def _pieces(extent: Span, gaps: Sequence[Span]) -> tuple[list[_Piece], tuple[Cut, ...]]:
    """Return the parts of the axis from left to right, and the cuts among them."""
    start, end = extent
    narrow = min(_CUT_WIDTH, _CUTS_WIDTH / max(1, len(gaps)))
    shown = end - start - sum(gap[1] - gap[0] for gap in gaps)
    scale = (100.0 - narrow * len(gaps)) / shown if shown > 0 else 0.0
    pieces, cuts = [], []
    at, x = start, 0.0
    for left, right in gaps:
        if left > at:
            pieces.append(_Piece(at, left, x, (left - at) * scale))
            x += (left - at) * scale
        pieces.append(_Piece(left, right, x, narrow))
        cuts.append(Cut(percent(x), percent(narrow), right - left, _length(right - left)))
        at, x = right, x + narrow
    if end > at or not pieces:
        pieces.append(_Piece(at, end, x, 100.0 - x))
    return pieces, tuple(cuts)


def _length(seconds: float) -> str:
    """Return how long a cut is, in its largest unit."""
    for size, name in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def _ticks(pieces: Sequence[_Piece], cuts: set[float], zero: float) -> tuple[Tick, ...]:
    """Return the ticks in what is not cut, none so near to another that their labels touch."""
    kept = [piece for piece in pieces if percent(piece.x) not in cuts]
    total = sum(piece.end - piece.start for piece in kept)
    step = next((step for step in _STEPS if total / step <= _TICKS), max(_STEPS[-1], total / _TICKS))
    found: list[Tick] = []
    free = -100.0
    for piece in kept:
        first = math.ceil((piece.start - zero) / step - 1e-6)
        last = math.floor((piece.end - zero) / step + 1e-6)
        length = piece.end - piece.start
        for number in range(first, min(last, first + 2 * _TICKS) + 1):
            label = offset(number * step)
            share = (zero + number * step - piece.start) / length if length > 0 else 0.0
            tick = _tick(piece.x + piece.width * share, label)
            left = tick.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[tick.anchor] * len(label) * _LETTER
            if left >= free:
                found.append(tick)
                free = left + (len(label) + 2) * _LETTER
    return tuple(found)


def _tick(x: float, label: str) -> Tick:
    half = len(label) * _LETTER / 2
    anchor = "start" if x < half else "end" if x > 100 - half else "middle"
    return Tick(percent(x), label, anchor)
