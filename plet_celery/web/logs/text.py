"""A run's log as plain text, for downloads: all of it or what passes a filter, piece by piece."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from plet_celery.errors import PletError
from plet_celery.logfiles import text as format_of
from plet_celery.logsources.parts import NOTES
from plet_celery.logsources.window import ALL, LogFilter
from plet_celery.logsources.windows import LogWindows
from plet_celery.paths import short_id
from plet_celery.store.records import LogLine
from plet_celery.web.logs.query import LogQuery

_PAGE: Final = 2000
_PIECE: Final = 256 << 10


class LogGone(PletError):
    """What was told of a log so far is not all of it."""


def file_name(windows: LogWindows, query: LogQuery) -> str:
    """Return the name of a download: short id and attempt, only letters, digits and hyphens."""
    attempt = query.attempt or windows.newest
    filtered = "-filtered" if query.is_filtered else ""
    return f"run-{short_id(windows.run.id)}-attempt-{attempt}{filtered}.log"


def download(windows: LogWindows, query: LogQuery, *, raw: bool) -> Generator[bytes]:
    """Yield an attempt's log as UTF-8 text, in pieces of about 256 KiB.

    The lines are those of `run.log` (docs/log-files.md), whose bytes they are where there is one and
    everything is wanted: controls are written out, a record is one line with its continuation lines.

    Args:
        raw: everything, whatever the filter says.

    Raises:
        LogGone: its file has gone, after a part of it was told.
    """
    attempt = query.attempt or windows.newest
    at = 0
    if raw or not query.is_filtered:
        while piece := windows.text(attempt, at, _PIECE):
            yield piece
            at += len(piece)
        if piece is None and at:
            raise LogGone("the log was removed, or moved on, while it was downloaded")
    if not at:
        yield from _written(windows, attempt, ALL if raw else query.wanted)


def _written(windows: LogWindows, attempt: int, wanted: LogFilter) -> Iterator[bytes]:
    clock, piece = format_of.Clock(), bytearray()
    for line in _lines(windows, attempt, wanted):
        piece += record(clock, line)
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def record(clock: format_of.Clock, line: LogLine) -> bytes:
    """Return a line as it stands in `run.log`."""
    if line.stream == "gap" or (line.stream in NOTES and line.text.startswith(format_of.NOTE)):
        return format_of.note(line.text.removeprefix(format_of.NOTE).removesuffix(" —"))
    stamp, _ = clock.at(line.at)
    named = format_of.component(line.stream, line.logger or "", line.stage or 0)
    return format_of.record(stamp, format_of.head(line.level, named), line.text, line.context)


def _lines(windows: LogWindows, attempt: int, wanted: LogFilter) -> Iterator[LogLine]:
    """Yield the lines of an attempt, page by page."""
    first = 0
    while True:
        page = windows.window(attempt, first, _PAGE, wanted)
        yield from page.lines
        if page.is_end or not page.last:
            return
        first = page.last + 1
