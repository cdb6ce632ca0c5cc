"""Reads the texts of chosen records, near ones at once, and turns them into `Line`s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from plet_celery.logfiles import notes, text
from plet_celery.logfiles.index import STREAMS, Entry
from plet_celery.logfiles.line import Line
from plet_celery.logfiles.pieces import IndexDamaged, Piece
from plet_celery.logfiles.walking import Place

# Records this near to each other are read at once.
_NEAR: Final = 4 << 10
_STRETCH: Final = 256 << 10
_NOTE: Final = ("plet", "", 0, None)


def lines(places: list[Place], *, raw: bool) -> list[Line]:
    """Return the lines at `places`, which are in file order.

    Raises:
        IndexDamaged: an entry of the index leads to no record; says in which piece.
    """
    told: list[Line] = []
    for piece, entries in _stretches(places):
        if piece is None:
            told.extend(missing(entry) for entry in entries)
            continue
        start = entries[0].offset
        block = piece.read(start, entries[-1].end - start)
        whole = block.decode() if block.isascii() else None  # then bytes and characters agree
        for entry in entries:
            at, end = entry.offset - start, entry.end - start
            record = whole[at:end] if whole is not None else block[at:end].decode("utf-8", "replace")
            line = line_of(entry, record, raw=raw)
            if line is None:
                raise IndexDamaged(piece)
            told.append(line)
    return told


def line_of(entry: Entry, record: str, *, raw: bool) -> Line | None:
    """Return one line from its entry and its text; None when the text is damaged.

    What the entry knows is not read from the text again.
    """
    found = text.split(record)
    if found is None:
        return None
    stamp, _, named, body = found
    stream, logger, _, part = (text.parse_component(named, raw) if stamp else _NOTE) or _NOTE
    words, context = text.parse_body(body, raw) if stamp else (body, None)
    _, wall, number, _, attempt, stage, level, code, _ = entry
    return Line(
        attempt=attempt,
        line=number,
        at=wall,
        level=level,
        logger=logger or None,
        stream=STREAMS[code] if code < len(STREAMS) else stream,
        stage=stage or None,
        text=words,
        context=context or None,
        part=part,
    )


def missing(entry: Entry) -> Line:
    """Return the note for lines that gave way to newer ones of an attempt that has not ended."""
    return Line(
        attempt=entry.attempt,
        line=entry.number,
        at=entry.at,
        level=entry.level,
        logger=None,
        stream="plet",
        stage=None,
        text=f"— {notes.count(entry.length)} lines dropped: the attempt's log has reached its size limit —",
    )


def _stretches(places: Iterable[Place]) -> Iterator[tuple[Piece | None, list[Entry]]]:
    piece: Piece | None = None
    together: list[Entry] = []
    begin = end = 0
    for here, entry in places:
        offset = entry.offset
        if together and (
            here is not piece
            or here is None
            or not end <= offset <= end + _NEAR
            or offset + entry.length - begin > _STRETCH
        ):
            yield piece, together
            together = []
        if not together:
            piece, begin = here, offset
        end = offset + entry.length
        together.append(entry)
    if together:
        yield piece, together
