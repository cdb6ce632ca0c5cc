"""Keeps head and tail of the attempts' log text: which chunks a batch makes, changes and drops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from plet_celery.events import Event
from plet_celery.store import logtext
from plet_celery.store.below import Below
from plet_celery.store.gather import Owner
from plet_celery.store.limits import IngestLimits

Key = tuple[str, str, str, int]
"""(run id, attempt id, writer, chunk)."""

_KEY: Final = ("run_id", "attempt_id", "writer", "number")


@dataclass
class _Log:
    """An attempt's log under merge."""

    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Lines and bytes of each stream (writer)."""
    new: dict[tuple[str, int], list[logtext.Line]] = field(default_factory=dict)
    """Lines of this batch by stream and chunk."""

    def add(self, event: Event) -> None:
        chunk, line, end = logtext.place_of(event)
        lines, size = self.sizes.get(event.writer, (0, 0))
        self.sizes[event.writer] = (max(lines, line), max(size, end))
        self.new.setdefault((event.writer, chunk), []).append(logtext.line_of(event))

    def is_kept(self, writer: str, chunk: int, limits: IngestLimits) -> bool:
        streams = sorted(self.sizes)[: logtext.STREAMS_MAX]
        if writer not in streams:
            return False
        head, tail = limits.log_head_bytes // len(streams), limits.log_tail_bytes // len(streams)
        return logtext.is_kept(chunk, self.sizes[writer][1], head=head, tail=tail)


def keep_logs(below: Below, found: Mapping[Owner, Sequence[Event]], limits: IngestLimits) -> None:
    """Merge the `log.written` of a batch: each stream's counts, the chunks of its head and tail."""
    table = below.tables.log_stream
    stored = below.by_name(table, found)
    logs: dict[Owner, _Log] = {}
    for owner, events in found.items():
        rows = stored.get(owner, {})
        log = logs[owner] = _Log({writer: (row[3], row[4]) for writer, row in rows.items()})
        for event in events:
            log.add(event)
        for writer, (lines, size) in log.sizes.items():
            below.put(table, (*owner, writer, lines, size), rows.get(writer))
        state = below.state(owner)
        state.log_lines = sum(lines for lines, _ in log.sizes.values())
        state.log_at = max(state.log_at, *(event.wall for event in events))
    _keep_chunks(below, logs, limits)


def _keep_chunks(below: Below, logs: Mapping[Owner, _Log], limits: IngestLimits) -> None:
    table = below.tables.log_chunk
    known: set[Key] = {
        (run, attempt, writer, chunk) for run, attempt, writer, chunk in below.rows(table, logs, *_KEY)
    }
    gone = [
        (run, attempt, writer, chunk)
        for run, attempt, writer, chunk in known
        if not logs[run, attempt].is_kept(writer, chunk, limits)
    ]
    below.writes.delete(table, gone)
    kept: dict[Key, list[logtext.Line]] = {
        (*owner, writer, chunk): lines
        for owner, log in logs.items()
        for (writer, chunk), lines in log.new.items()
        if log.is_kept(writer, chunk, limits)
    }
    old = below.with_keys(table, [key for key in kept if key in known])
    for key, lines in kept.items():
        row = old.get(key)
        both = logtext.joined(logtext.unpack(row[4]) if row is not None else [], lines)
        below.put(table, (*key, logtext.pack(both)), row)
