"""A measure's series: its points, thinned evenly once there are too many.

Kept are the first, the last, and those whose number has the smallest bit reversal: multiples of a
power of two, then the ones half-way between. Which points these are depends on the numbers alone,
so late, repeated or reordered points give the same series.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

SERIES_MAX: Final = 200
"""Series per attempt; the first by name are kept."""
_LEVEL: Final = 1


class Point(msgspec.Struct, array_like=True, omit_defaults=True, frozen=True):
    """One value of a series."""

    number: int
    writer: str
    at: float
    value: float
    stage: int | None = None


_decoder: Final = msgspec.json.Decoder(list[Point])


def thinned(points: Iterable[Point], limit: int) -> list[Point]:
    """Return at most `limit` points, each (number, writer) once (the latest), in their order."""
    by_time = sorted(points, key=lambda point: (point.at, point.value))
    unique = sorted({(point.number, point.writer): point for point in by_time}.values(), key=_order)
    if len(unique) <= limit:
        return unique
    # Exactly `limit` remain, else a point that was dropped would find room when it is repeated.
    between = sorted(unique[1:-1], key=_rank)[: limit - 2]
    return [unique[0], *sorted(between, key=_order), unique[-1]]


def unpack(packed: bytes) -> list[Point]:
    """Return the points of a row."""
    return _decoder.decode(zlib.decompress(packed))


def pack(points: Sequence[Point]) -> bytes:
    """Return a row's points."""
    return zlib.compress(msgspec.json.encode(points), _LEVEL)


def _order(point: Point) -> tuple[int, str]:
    return (point.number, point.writer)


def _rank(point: Point) -> tuple[int, str]:
    return (int(f"{point.number & 0xFFFFFFFF:032b}"[::-1], 2), point.writer)
