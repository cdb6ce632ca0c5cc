"""SVG of a timeline: the axis, the bars of a row; and counts by state.

Every function that ends in `_html` returns markup: positions are attributes, since the pages' policy lets no
`style=` through; text is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

from plet_celery.terminal.look import look
from plet_celery.terminal.text import printable
from plet_celery.web.drawing.axis import Axis
from plet_celery.web.drawing.rows import Bar, Notch, Row
from plet_celery.web.drawing.timeline import Timeline
from plet_celery.web.moments import state_class

_INNER: Final = (5, 10)
_OUTER: Final = (8, 4)
"""Top and height in pixels of a bar; one that encloses the bars below is thin."""
_TALL: Final = 'y="-60" height="140"'
_LABEL_ROOM: Final = 9.0
"""Percent of the axis that the label of a cut takes."""
_HATCH: Final = (
    '<pattern id="plet-tl-hatch" width="6" height="6" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate(45)"><path class="plet-hatch" d="M1.5 0v6"/></pattern>'
)


def axis_html(timeline: Timeline) -> str:
    """Return the axis: labels, and the lines that every row repeats by reference."""
    axis = timeline.axis
    labels = "".join(
        f'<text x="{tick.x}%" y="28" text-anchor="{tick.anchor}">{escape(tick.label)}</text>'
        for tick in axis.ticks
    )
    return (
        '<svg class="plet-tl-axis" width="100%" height="34" aria-hidden="true" focusable="false">'
        f'<defs>{_HATCH}<g id="plet-tl-grid">{_grid(axis, timeline.now_x)}</g></defs>'
        f"{labels}{_above(axis, timeline.now_x)}</svg>"
    )


def row_html(row: Row) -> str:
    """Return a row's picture; its title is the same in words."""
    top, height = _OUTER if row.is_outer else _INNER
    bars = "".join([_bar(bar, top, height) for bar in row.bars])
    notches = "".join([_notch(notch) for notch in row.notches])
    return (
        f'<svg class="plet-tl-row" width="100%" height="20" role="img"><title>{escape(row.text)}</title>'
        f'<use href="#plet-tl-grid"/>{bars}{notches}</svg>'
    )


def counts_html(states: Mapping[str, int]) -> str:
    """Return `640 ✔ 27 ◐ 1 ✖`, the states as words for those who do not see the signs."""
    return " ".join(_count(state, count) for state, count in states.items())


def _grid(axis: Axis, now_x: float | None) -> str:
    # Higher than any row, whose cell cuts it: the lines of all rows together are one.
    lines = [f'<rect class="plet-tl-cut" x="{cut.x}%" width="{cut.width}%" {_TALL}/>' for cut in axis.cuts]
    lines += [f'<rect class="plet-tl-tick" x="{tick.x}%" width="1" {_TALL}/>' for tick in axis.ticks]
    if now_x is not None:
        lines.append(f'<rect class="plet-tl-now" x="{now_x}%" width="1" {_TALL}/>')
    return "".join(lines)


def _above(axis: Axis, now_x: float | None) -> str:
    """Return the labels above the ticks': how long each cut is, and where now is."""
    found, free = [], 0.0
    room = 100.0 if now_x is None else now_x - _LABEL_ROOM / 2
    for cut in axis.cuts:
        middle = cut.x + cut.width / 2
        if middle >= free and middle <= room:
            found.append(_label("plet-tl-cut-label", middle, f"⋯ {cut.label}"))
            free = middle + _LABEL_ROOM
    if now_x is not None:
        found.append(_label("plet-tl-now-label", now_x, "now"))
    return "".join(found)


def _label(css: str, x: float, text: str) -> str:
    edge = _LABEL_ROOM / 2
    anchor = "start" if x < edge else "end" if x > 100 - edge else "middle"
    return f'<text class="{css}" x="{x:.3f}%" y="12" text-anchor="{anchor}">{escape(text)}</text>'


def _bar(bar: Bar, top: int, height: int) -> str:
    return (
        f'<rect class="plet-bar plet-bar-{state_class(bar.kind)}" x="{bar.x}%" width="{bar.width}%"'
        f' y="{top}" height="{height}" rx="2"/>'
    )


def _notch(notch: Notch) -> str:
    # A path knows no percents; an inner picture does.
    return (
        f'<svg class="plet-notch" x="{notch.x}%" overflow="visible"><title>{escape(notch.text)}</title>'
        '<path d="M-4 0h8l-4 7zM0 6v12"/></svg>'
    )


def _count(state: str, count: int) -> str:
    said = escape(printable(state.replace("_", " ")))
    return (
        f'<span class="plet-count plet-state-{state_class(state)}" title="{said}">{count}'
        f' <span aria-hidden="true">{escape(look(state).sign)}</span>'
        f'<span class="visually-hidden"> {said}</span></span>'
    )
