"""The log text that the store kept of a run: head, a line that names the gap, tail."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from plet_celery.store import logtext, settle
from plet_celery.store.finding import run_row
from plet_celery.store.records import LogLine
from plet_celery.store.settle import View, run_key
from plet_celery.store.store import Store


def stored_log(
    store: Store, run_id: str, attempt: int | None = None, *, tenants: Sequence[str] | None = None
) -> list[LogLine]:
    """Return the kept lines of one attempt (by its ordinal) or of all, oldest first.

    Lines that are not kept are one line of the stream `gap` that says how many there were.

    Raises:
        RunNotFound: there is no such run that the viewer may see.
    """
    tables = store.tables
    columns = [tables.attempt.c[name] for name in View._fields]
    with store.reading() as connection:
        run = run_row(connection, tables, run_id, tenants).id
        views = [
            View(*row)
            for row in connection.execute(sa.select(*columns).where(tables.attempt.c.run_id == run))
        ]
        numbers = {view.id: number for number, view in enumerate(settle.by_start(views), 1)}
        wanted = [one for one, number in numbers.items() if attempt in (None, number)]
        streams = _by_attempt(connection, tables.log_stream, run, wanted)
        chunks = _by_attempt(connection, tables.log_chunk, run, wanted)
    return [
        line
        for one in wanted
        for line in _attempt_lines(numbers[one], streams.get(one, []), chunks.get(one, []))
    ]


def journals_of(store: Store, run_id: str) -> dict[str, tuple[str, str]]:
    """Return the journal (its id, its host) that each attempt of a run was told to, by attempt id."""
    attempt, journal = store.tables.attempt, store.tables.journal
    query = (
        sa.select(attempt.c.id, attempt.c.journal_id, journal.c.host)
        .join(journal, journal.c.journal_id == attempt.c.journal_id, isouter=True)
        .where(attempt.c.run_id == run_key(run_id))
    )
    with store.reading() as connection:
        return {row.id: (row.journal_id, row.host or "") for row in connection.execute(query)}


def _by_attempt(connection: Any, table: Any, run: str, wanted: Sequence[str]) -> dict[str, list[Any]]:
    query = sa.select(table).where(table.c.run_id == run, table.c.attempt_id.in_(wanted))
    found: dict[str, list[Any]] = {}
    for row in connection.execute(query.order_by(*table.primary_key)):
        found.setdefault(row.attempt_id, []).append(row)
    return found


def _attempt_lines(number: int, streams: Sequence[Any], chunks: Sequence[Any]) -> Iterator[LogLine]:
    by_writer: dict[str, list[Any]] = {}
    for chunk in chunks:
        by_writer.setdefault(chunk.writer, []).append(chunk)
    each = [_stream_lines(number, stream.lines, by_writer.get(stream.writer, [])) for stream in streams]
    return heapq.merge(*each, key=lambda line: line.at)


def _stream_lines(number: int, count: int, chunks: Sequence[Any]) -> Iterator[LogLine]:
    last, at = 0, 0.0
    for chunk in chunks:
        for line in logtext.unpack(chunk.lines):
            if line.line > last + 1:
                yield _gap(number, last + 1, line.line - last - 1, line.at)
            last, at = max(last, line.line), line.at
            yield LogLine(
                attempt=number,
                line=line.line,
                at=line.at,
                level=line.level,
                logger=line.logger,
                stream=line.stream,
                stage=line.stage,
                text=line.text,
                context=line.context,
            )
    if count > last:
        yield _gap(number, last + 1, count - last, at)


def _gap(attempt: int, line: int, count: int, at: float) -> LogLine:
    text = f"— {count:,} lines are not kept here —".replace(",", " ")
    if count == 1:
        text = "— 1 line is not kept here —"
    return LogLine(attempt=attempt, line=line, at=at, level=0, stream="gap", text=text)
