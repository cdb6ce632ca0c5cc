"""Ways through the records of a run: backward from the end, forward from a line, on from a position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from plet_celery.logfiles import index
from plet_celery.logfiles.index import Entry
from plet_celery.logfiles.line import Filter
from plet_celery.logfiles.pieces import Piece, last_of

_BLOCK: Final = 2048

Place = tuple[Piece | None, Entry]
"""A record. None stands for the gap before a tail part; the `length` of its entry counts lost lines."""


def newest_attempt(pieces: list[Piece]) -> int:
    """Return the highest attempt number; 0 where it is not known."""
    newest = max((piece.attempt or 0 for piece in pieces), default=0)
    for piece in pieces:
        at = piece.count
        while at > 0:
            last = piece.entry(at - 1)
            newest = max(newest, last.attempt)
            if not last.is_mixed:
                break  # sorted before here: the last is the highest
            first = max(0, at - _BLOCK)
            newest = max(newest, *(entry.attempt for entry in piece.block(first, at - first)))
            at = first
    return newest


def last_number(pieces: list[Piece], attempt: int) -> int:
    """Return the number of an attempt's last line; 0 when it has none."""
    for piece in reversed(pieces):
        if piece.attempt in (None, attempt):
            last = last_of(piece, attempt)
            if last is not None:
                return last.number
    return 0


def backward(pieces: list[Piece], wanted: Filter, hint: int, *, before: int | None = None) -> Iterator[Place]:
    """Yield the wanted records, newest first; `hint` is how many will be looked at, probably.

    Args:
        before: only those that lie before this line of the one attempt that is wanted.
    """
    size = max(1, min(hint, _BLOCK)) if wanted.takes_all else _BLOCK
    for piece in reversed(pieces):
        if piece.attempt is not None and wanted.attempt not in (None, piece.attempt):
            continue
        at = piece.count if before is None else _place_before(piece, wanted.attempt or 0, before)
        while at > 0:
            first = max(0, at - size)
            for _, entry in reversed(piece.matching(first, at - first, wanted)):
                if before is None or entry.number < before:
                    yield piece, entry
            at = first
            if _is_past(piece, at, wanted):
                break
        if piece.attempt is not None and piece.count:
            gap = gap_before(pieces, piece)
            if gap is not None and wanted.takes(gap) and (before is None or gap.number < before):
                yield None, gap


def forward(pieces: list[Piece], wanted: Filter, first: int, hint: int) -> Iterator[Place]:
    """Yield the wanted records of one attempt from line `first` on; `hint` as in `backward`."""
    attempt = wanted.attempt or 0
    for piece in pieces:
        if piece.attempt not in (None, attempt):
            continue
        if piece.attempt is not None and piece.count:
            gap = gap_before(pieces, piece)
            if gap is not None and gap.number >= first and wanted.takes(gap):
                yield None, gap
        at, size = piece.place_of(attempt, first), max(1, min(hint, _BLOCK))
        while at < piece.count:
            for _, entry in piece.matching(at, size, wanted):
                if entry.number >= first:
                    yield piece, entry
            at, size = at + size, _BLOCK
            if at < piece.count and _is_beyond(piece, at, attempt):
                break


def place_at(piece: Piece, offset: int) -> int:
    """Return the place of the record that holds the byte at `offset`."""
    low, high = 0, piece.count
    while low < high:
        middle = (low + high) // 2
        if piece.entry(middle).offset <= offset:
            low = middle + 1
        else:
            high = middle
    return low - 1


def stretch(piece: Piece, attempt: int | None, first: int = 0) -> tuple[int, int] | None:
    """Return the bytes of a piece in which an attempt lies from line `first` on.

    None: they do not lie together, or nothing is known of it.
    """
    if attempt is None or not piece.count or piece.entry(piece.count - 1).is_mixed:
        return None
    begin, behind = piece.place_of(attempt, first), piece.place_of(attempt + 1, 0)
    if begin >= behind:
        return 0, 0
    return piece.entry(begin).offset, piece.entry(behind - 1).end


def gap_before(pieces: list[Piece], part: Piece, *, known: int = 0) -> Entry | None:
    """Return an entry for the lines that are missing before a tail part; None when there are none.

    Args:
        known: number of a line that the reader has already; only what lies behind it is missing.
    """
    at = pieces.index(part)
    before = None
    for piece in reversed(pieces[:at]):
        if piece.attempt in (None, part.attempt):
            before = last_of(piece, part.attempt or 0)
            break
    return gap_between(max(known, before.number if before else 0), part.entry(0))


def gap_between(number: int, entry: Entry) -> Entry | None:
    """Return an entry for the lines that are missing between line `number` and this record."""
    missing = entry.number - number - (1 if entry.is_numbered else 0)
    if missing <= 0:
        return None
    return Entry(0, entry.at, number, missing, entry.attempt, 0, 30, index.PLET, index.VALID | index.GAP)


def _place_before(piece: Piece, attempt: int, number: int) -> int:
    """Return the place behind the last record that may lie before a line."""
    if piece.count and piece.entry(piece.count - 1).is_mixed:
        return piece.count  # not sorted: it is only known by looking
    return piece.place_of(attempt, number)


def _is_past(piece: Piece, at: int, wanted: Filter) -> bool:
    """Tell whether nothing of the wanted attempt can lie before place `at`."""
    if wanted.attempt is None or at == 0:
        return False
    before = piece.entry(at - 1)
    return not before.is_mixed and before.attempt < wanted.attempt


def _is_beyond(piece: Piece, at: int, attempt: int) -> bool:
    return piece.entry(at).attempt > attempt and not piece.entry(piece.count - 1).is_mixed
