"""Series of a run as small curves on its axis of time, and the same in words.

Pure. Of a long series at most POINTS points are drawn, its extremes among them. A value that is no number is
a gap in the line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from plet_celery.store.records import Measure, MeasurePoint
from plet_celery.terminal.bars import count
from plet_celery.terminal.text import span as duration
from plet_celery.web.drawing.axis import Axis, Tick, moment, offset
from plet_celery.web.drawing.drafts import words

POINTS: Final = 300
WIDTH: Final = 1000
HEIGHT: Final = 100
"""The size of the picture that points are placed in; it is stretched to what the page has room for."""
_EDGE: Final = 6
"""Above and below, so that a line at the edge is drawn in full."""
_PIECES: Final = 50
"""More gaps than this are noise, and the line is drawn through."""
_OF_BUCKET: Final = 4
"""What a piece of a long line keeps: its first, lowest, highest and last point."""
_LETTER: Final = 1.9
"""Percent of a curve's width that a letter of a label takes, about."""
_SHARP: Final = 'vector-effect="non-scaling-stroke"'

Dot = tuple[float, float]
"""x 0..WIDTH, y 0..HEIGHT from the top."""


@dataclass(frozen=True)
class Curve:
    """One series as it is drawn."""

    name: str
    lines: tuple[tuple[Dot, ...], ...]
    """Without gaps each; a single point is a line of one."""
    low: float | None
    high: float | None
    last: float | None
    """None if there is no number."""
    count: int
    """How many numbers there are, whatever is drawn."""
    gaps: int
    """How many values were no number."""
    ticks: tuple[Tick, ...]
    text: str
    """What the curve shows, for those who do not see it."""


def curves(measures: Iterable[Measure], *, axis: Axis) -> list[Curve]:
    """Return one curve for each name, in their order; the attempts' series are lines of their own in it.

    Args:
        axis: the run's axis of time, such as `Timeline.time_axis`.
    """
    by_name: dict[str, list[Sequence[MeasurePoint]]] = {}
    for measure in measures:
        by_name.setdefault(measure.name, []).append(measure.points)
    return [curve(name, series, axis=axis) for name, series in by_name.items()]


def curve(name: str, series: Iterable[Sequence[MeasurePoint]], *, axis: Axis) -> Curve:
    """Return the curve of the series of one name."""
    pieces: list[list[tuple[float, float]]] = []
    gaps = 0
    for points in series:
        known = [(at, point) for point in points if (at := moment(point.at)) is not None]
        pieces.append([])
        for at, point in sorted(known, key=lambda pair: (pair[0], pair[1].number)):
            if not math.isfinite(point.value):
                gaps += 1
                pieces.append([])
                continue
            pieces[-1].append((at, float(point.value)))
    pieces = [piece for piece in pieces if piece]
    if len(pieces) > _PIECES:
        pieces = [[point for piece in pieces for point in piece]]
    values = [value for piece in pieces for _, value in piece]
    low, high = min(values, default=None), max(values, default=None)
    return Curve(
        name=words(name, 120),
        lines=_lines(pieces, len(values), low or 0.0, high or 0.0, axis),
        low=low,
        high=high,
        last=pieces[-1][-1][1] if pieces else None,
        count=len(values),
        gaps=gaps,
        ticks=_ticks(axis),
        text=_text(pieces, low, high, len(values), axis),
    )


def reduced(points: Sequence[tuple[float, float]], limit: int) -> list[tuple[float, float]]:
    """Return at most `limit` points (4 or more) in their order, the ends and extremes among them."""
    if len(points) <= limit:
        return list(points)
    buckets = limit // _OF_BUCKET
    kept: set[int] = set()
    for number in range(buckets):
        first, end = number * len(points) // buckets, (number + 1) * len(points) // buckets
        inside = range(first, end)
        kept |= {first, end - 1}
        kept |= {min(inside, key=lambda at: points[at][1]), max(inside, key=lambda at: points[at][1])}
    return [points[at] for at in sorted(kept)]


def number(value: float | None) -> str:
    """Return a value for people: `0.03`, `412`, `48 112`, `1.2e+15`."""
    if value is None:
        return "–"
    size = abs(value)
    return f"{value:.3g}" if size >= 1e12 or 0 < size < 1e-3 else count(value)


def curve_html(drawn: Curve) -> str:
    """Return the picture, with its words as its title."""
    marks = "".join(_line(line) for line in drawn.lines)
    lines = "".join(
        f'<rect class="plet-tl-tick" x="{tick.x}%" width="1" height="56"/>' for tick in drawn.ticks
    )
    labels = "".join(
        f'<text x="{tick.x}%" y="69" text-anchor="{tick.anchor}">{escape(tick.label)}</text>'
        for tick in drawn.ticks
    )
    return (
        '<svg class="plet-curve" width="100%" height="72" role="img">'
        f"<title>{escape(drawn.text)}</title>{lines}"
        f'<svg width="100%" height="56" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">'
        f"{marks}</svg>"
        f"{labels}</svg>"
    )


def _line(line: tuple[Dot, ...]) -> str:
    if len(line) == 1:
        # A line of no length with round ends: a circle would be stretched.
        x, y = line[0]
        return f'<path class="plet-curve-dot" {_SHARP} d="M{x} {y}h0"/>'
    points = " ".join(f"{x},{y}" for x, y in line)
    return f'<polyline class="plet-curve-line" {_SHARP} points="{points}"/>'


def _lines(
    pieces: Sequence[Sequence[tuple[float, float]]], total: int, low: float, high: float, axis: Axis
) -> tuple[tuple[Dot, ...], ...]:
    # By halves: the distance between two numbers may be too large for a number.
    size = high / 2 - low / 2
    found = []
    for piece in pieces:
        limit = max(_OF_BUCKET, POINTS * len(piece) // max(total, 1)) if total > POINTS else len(piece)
        dots = []
        for at, value in reduced(piece, limit):
            share = (value / 2 - low / 2) / size if size > 0 else 0.5
            y = _EDGE + (HEIGHT - 2 * _EDGE) * (1 - share)
            dots.append((round(axis.x(at) * WIDTH / 100, 1), round(min(HEIGHT, max(0.0, y)), 1)))
        found.append(tuple(dots))
    return tuple(found)


def _ticks(axis: Axis) -> tuple[Tick, ...]:
    """Return those of the axis's ticks whose labels have room below a small picture."""
    found: list[Tick] = []
    for tick in axis.ticks:
        if not found or tick.x - found[-1].x >= (len(tick.label) + 2) * _LETTER:
            found.append(tick)
    return tuple(found)


def _text(
    pieces: Sequence[Sequence[tuple[float, float]]],
    low: float | None,
    high: float | None,
    total: int,
    axis: Axis,
) -> str:
    if not pieces:
        return "no numbers"
    first, last = pieces[0][0], pieces[-1][-1]
    if total == 1:
        return f"{number(last[1])} at {offset(last[0] - axis.zero)}"
    return (
        f"{total} values over {duration(last[0] - first[0])}: from {number(first[1])} to {number(last[1])}, "
        f"lowest {number(low)}, highest {number(high)}"
    )
