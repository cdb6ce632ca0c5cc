"""Runs that ended, as stacked bars over the last hours: what failed on top, so that one bad run is seen.

Pure. Buckets in, positions in percent out, and the same in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final, Protocol

from plet_celery.terminal.bars import count
from plet_celery.web.drawing.axis import moment, percent

KINDS: Final = ("other", "succeeded", "failed")
"""From the bottom up."""
_LEAST: Final = 3.0
"""Percent of the height that a part has at least."""
_GAP: Final = 0.15
"""Share of a bucket's width that is left free."""


class Bucket(Protocol):
    """Runs that ended within one span of time."""

    @property
    def at(self) -> float:
        """Where it begins, seconds since the epoch."""

    @property
    def succeeded(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def other(self) -> int: ...


@dataclass(frozen=True)
class Part:
    """The runs of one kind in a bar; percent of the height, from the top."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True)
class Bar24:
    """One bucket; percent of the width."""

    x: float
    width: float
    parts: tuple[Part, ...]
    text: str


@dataclass(frozen=True)
class Ends:
    """The chart."""

    bars: tuple[Bar24, ...]
    hours: int
    totals: dict[str, int]
    peak: int
    """Most runs of one bucket: the height of the chart."""
    minutes: int
    """How long a bucket is."""

    @property
    def text(self) -> str:
        """What the chart shows, for those who do not see it."""
        shown = ", ".join(f"{count(self.totals[kind])} {kind}" for kind in reversed(KINDS))
        most = f"at most {count(self.peak)} in {self.minutes} minutes"
        return f"Runs that ended in the last {self.hours} hours: {shown}; {most}"


def ends_chart(buckets: Iterable[Bucket], *, now: float, step: float, hours: int = 24) -> Ends:
    """Return the chart of the last `hours` hours.

    Args:
        buckets: in any order; those of other times are left out.
        now: the right edge; moved to the end of its bucket, so that the chart stays the same within it.
        step: seconds that a bucket is long.
    """
    step = max(1.0, step)
    end = ((moment(now) or 0.0) // step + 1) * step
    # Whole buckets, so that the first one is as wide as the others.
    places = math.ceil(hours * 3600 / step)
    start = end - places * step
    counts: dict[int, dict[str, int]] = {}
    for bucket in buckets:
        at = moment(bucket.at)
        if at is None or not start <= at < end:
            continue
        place = min(places - 1, int((at - start) // step))
        found = counts.setdefault(place, dict.fromkeys(KINDS, 0))
        for kind in KINDS:
            found[kind] += max(0, int(getattr(bucket, kind)))
    peak = max((sum(found.values()) for found in counts.values()), default=0)
    width = 100 / places
    return Ends(
        bars=tuple(
            Bar24(
                x=percent(width * (place + _GAP / 2)),
                width=percent(width * (1 - _GAP)),
                parts=_parts(counts[place], peak),
                text=_bar_text(counts[place], (end - start - (place + 1) * step) / 3600),
            )
            for place in sorted(counts)
            if sum(counts[place].values())
        ),
        hours=hours,
        totals={kind: sum(found[kind] for found in counts.values()) for kind in KINDS},
        peak=peak,
        minutes=max(1, round(step / 60)),
    )


def ends_html(chart: Ends) -> str:
    """Return the picture, with its words as its title."""
    bars = "".join(_bar(bar) for bar in chart.bars)
    lines = "".join(
        f'<rect class="plet-tl-tick" x="{x}%" width="1" height="64"/>' for x in (0, 25, 50, 75, 100)
    )
    labels = "".join(
        f'<text x="{25 * place}%" y="77" text-anchor="{anchor}">{label}</text>'
        for place, (anchor, label) in enumerate(_labels(chart.hours))
    )
    return (
        '<svg class="plet-ends-chart" width="100%" height="80" role="img">'
        f"<title>{escape(chart.text)}</title>{lines}"
        f'<svg width="100%" height="64">{bars}</svg>'
        f'<rect class="plet-ends-floor" y="64" width="100%" height="1"/>{labels}</svg>'
    )


def _parts(found: dict[str, int], peak: int) -> tuple[Part, ...]:
    """Return the parts from the bottom up; the small ones are raised until they are seen."""
    heights = {kind: max(_LEAST, 100 * found[kind] / peak) for kind in KINDS if found[kind]}
    too_much = max(1.0, sum(heights.values()) / 100)
    parts, y = [], 100.0
    for kind, height in heights.items():
        y -= height / too_much
        parts.append(Part(kind, percent(y), percent(height / too_much)))
    return tuple(parts)


def _bar_text(found: dict[str, int], ago: float) -> str:
    when = "now" if ago <= 0 else f"{ago:.3g} h ago"
    return f"until {when}: " + ", ".join(f"{found[kind]} {kind}" for kind in reversed(KINDS) if found[kind])


def _bar(bar: Bar24) -> str:
    across = f'x="{bar.x}%" width="{bar.width}%"'
    parts = "".join(
        f'<rect class="plet-ends-{part.kind}" {across} y="{part.y}%" height="{part.height}%"/>'
        for part in bar.parts
    )
    return f"<g><title>{escape(bar.text)}</title>{parts}</g>"


def _labels(hours: int) -> list[tuple[str, str]]:
    anchors = ("start", "middle", "middle", "middle", "end")
    return [
        (anchor, "now" if place == 4 else f"−{hours * (4 - place) / 4:g} h")
        for place, anchor in enumerate(anchors)
    ]
