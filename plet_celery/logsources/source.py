"""Where a run's log is read from: this host's log folder, else its copy in the mirror, else the store.

A run that went on on another host is read from several: its attempts here from the files, the others
from their copies, and what no file has from what the store kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import filterfalse
from pathlib import Path
from typing import Final

from plet_celery.errors import LogNotFound
from plet_celery.logfiles import Line, RunLog
from plet_celery.logsources.folders import Folder, awaits_last_words, find_attempts, folders_in
from plet_celery.store import Store, queries
from plet_celery.store.records import LogLine, Run

# A log of 64 MiB (plet_run_max_log_bytes) is the largest there is; a page keeps memory small.
_TAIL_BYTES: Final = 64 << 20
_PAGE: Final = 2000

_Key = tuple[int, int, int]


class LogSource:
    """The log of one run, oldest line first; `new()` gives what has come since.

    Attributes:
        is_local: a folder of the run is on this host.
        copies: the folders that are read from the mirror.
    """

    def __init__(
        self,
        runs: Path,
        store: Store,
        run: Run,
        *,
        mirror: str | None = None,
        stage: str | None = None,
        level: int | None = None,
        since: float | None = None,
    ) -> None:
        """Look for the run's folders; read nothing yet.

        Args:
            runs: the root of the log folders (`home/runs`).
            mirror: the shared folder with copies of other hosts' log folders (`plet_mirror`).
            stage: only lines of this stage and those within it, by name or number.
            level: lowest level, as a number of `logging`.
            since: earliest wall time.
        """
        self.run_id = run.id
        self._runs = runs
        self._mirror = Path(mirror) if mirror else None
        self._store = store
        self._run = run
        self._stage = stage
        self._level = level
        self._since = since
        self._positions: dict[Path, str] = {}
        self._seen: set[_Key] = set()
        self._store_version: int | None = None
        self._look()

    def tail(self, count: int) -> list[LogLine]:
        """Return the last `count` lines."""
        return list(self.history(count))

    def history(self, count: int | None) -> Iterator[LogLine]:
        """Yield the last `count` lines, or all of them; `new` goes on behind."""
        stored = [line for line in self._stored() if self._wants(line)]
        self._seen.update(map(_key, stored))
        self._store_version = self._run.version
        if count is None:
            behind = self._behind()
            # By attempts: of a run that went from host to host and back, each folder has some.
            told = {_key(line) for line in behind}
            parts = [
                filterfalse(lambda line: _key(line) in told, self._followed(one)) for one in self._folders
            ]
            yield from merge(stored, *parts, behind, key=lambda line: line.attempt)
            return
        found = list(stored)
        for folder in self._folders:
            found += self._last(folder, count)
        found += self._behind()
        found.sort(key=lambda line: line.attempt)
        found = found[len(found) - min(count, len(found)) :]
        self._seen.update(map(_key, found))
        yield from found

    def new(self) -> list[LogLine]:
        """Return the lines that have come since the last call, or since `history`."""
        self._run = queries.get_run(self._store, self.run_id)
        has_changed = self._run.version != self._store_version
        if has_changed:
            self._look()
        found = [line for folder in self._folders for line in self._followed(folder)]
        found = [line for line in found if _key(line) not in self._seen]
        if has_changed:
            self._store_version = self._run.version
            stored = [line for line in self._stored() if self._wants(line) and _key(line) not in self._seen]
            # Files are read from a position; only what the store keeps comes again and again.
            self._seen.update(map(_key, stored))
            found += stored
        return found

    def awaits_last_words(self, now: float) -> bool:
        """Say whether the run has just ended, and this host's file is behind the store."""
        return awaits_last_words(list(self._counted.values()), self._attempts, now)

    def check_stage(self) -> None:
        """Check that the stage asked for exists.

        Raises:
            LogNotFound: it does not; names those that do.
        """
        if not self._pairs:
            known = ", ".join(dict.fromkeys(self._names.values())) or "none"
            raise LogNotFound(f"run {self._run.short_id} has no stage {self._stage!r}; it has: {known}")

    def stage_name(self, line: LogLine) -> str:
        """Return the name of a line's stage; empty where it has none."""
        if line.stage is None:
            return ""
        return self._names.get((line.attempt, line.stage), f"#{line.stage}")

    def _look(self) -> None:
        """Learn which folders are here, which attempts are not, and what the stages are called."""
        self._attempts = attempts = queries.attempts(self._store, self.run_id)
        self._folders = folders_in(self._runs, self._run.log_folders)
        self.is_local = bool(self._folders)
        here = {str(folder.relative_to(self._runs)) for folder in self._folders}
        away = [one for one in attempts if one.log_folder not in here]
        if len(self._run.log_folders) == len(self._folders):
            away = []
        # Each host counts the attempts that it has seen to start.
        counted = find_attempts(self._runs, self._mirror, self._store, attempts)
        self._counted: dict[Path, Folder] = {one.log.folder: one for one in counted}
        copies = [one for one in counted if one.kind == "mirror"]
        numbers_away = {one.number for one in away}
        self._copied = {n: one.log.folder for one in copies for n in one.attempts if n in numbers_away}
        self.copies = list(dict.fromkeys(self._copied.values()))
        self._folders += self.copies
        self._elsewhere = numbers_away - self._copied.keys()
        numbers = {one.id: one.number for one in attempts}
        stages = queries.stages(self._store, self.run_id)
        self._names = {(numbers.get(one.attempt_id, 0), one.number): one.name for one in stages}
        parents = {(numbers.get(one.attempt_id, 0), one.number): one.parent for one in stages}
        self._pairs = stages_within(self._stage, self._names, parents) if self._stage is not None else set()

    @property
    def as_of(self) -> float | None:
        """When the mirror's copies were last written to; None when none is read."""
        return copied_at(self.copies)

    def _behind(self) -> list[LogLine]:
        """Return what the store kept of lines that have not reached the mirror, with the gap before them."""
        found: list[LogLine] = []
        for number, folder in sorted(self._copied.items()):
            try:
                last = RunLog(folder).line_count(self._local(folder, number))
            except LogNotFound:
                last = 0
            kept = queries.stored_log(self._store, self.run_id, attempt=number)
            later = [line for line in kept if line.line > last and line.stream != "gap"]
            if later and later[0].line > last + 1:
                found.append(_gap(number, last + 1, later[0].line - last - 1, later[0].at))
            found += later
        found = [line for line in found if line.stream == "gap" or self._wants(line)]
        self._seen.update(map(_key, found))
        return found

    def _whole(self, folder: Path) -> Iterator[LogLine]:
        more = True
        while more:
            page = RunLog(folder).follow(self._positions.get(folder, ""), limit=_PAGE, raw=True)
            self._positions[folder], more = page.position, page.more
            yield from self._wanted(folder, page.lines)

    def _followed(self, folder: Path) -> Iterator[LogLine]:
        try:
            yield from self._whole(folder)
        except LogNotFound:
            return  # pruned, or not written yet

    def _last(self, folder: Path, count: int) -> list[LogLine]:
        try:
            # Before the tail: what comes in between is told once, by `_seen`.
            self._positions[folder] = RunLog(folder).position()
            return self._local_tail(folder, count)
        except LogNotFound:
            return []

    def _local_tail(self, folder: Path, count: int) -> list[LogLine]:
        log = RunLog(folder)
        if self._stage is None:
            found = log.tail(count, level=self._level, since=self._since, raw=True, max_bytes=_TAIL_BYTES)
            return list(self._wanted(folder, found))
        lines: list[LogLine] = []
        for attempt, stage in sorted(self._pairs):
            local = self._local(folder, attempt)
            if local:
                part = log.tail(
                    count, level=self._level, since=self._since, attempt=local, stage=stage, raw=True
                )
                lines += self._wanted(folder, part)
        return sorted(lines, key=lambda line: (line.attempt, line.line))

    def _stored(self) -> list[LogLine]:
        if not self._folders:
            return list(queries.stored_log(self._store, self.run_id))
        return [
            line
            for attempt in sorted(self._elsewhere)
            for line in queries.stored_log(self._store, self.run_id, attempt=attempt)
        ]

    def _local(self, folder: Path, attempt: int) -> int:
        counted = self._counted.get(folder)
        return attempt if counted is None else counted.local(attempt)

    def _wanted(self, folder: Path, lines: Iterable[Line]) -> Iterator[LogLine]:
        counted = self._counted.get(folder)
        for line in map(as_log_line, lines):
            if counted is not None:
                line.attempt = counted.ordinal(line.attempt)
            if self._wants(line):
                yield line

    def _wants(self, line: LogLine) -> bool:
        return (
            (self._level is None or line.level >= self._level)
            and (self._since is None or line.at >= self._since)
            and (self._stage is None or (line.attempt, line.stage) in self._pairs)
        )


def copied_at(copies: Iterable[Path]) -> float | None:
    """Return up to when folders in the mirror are complete: the last write to the oldest of them."""
    times = []
    for folder in copies:
        with contextlib.suppress(OSError, ValueError):
            times.append(max(file.stat(follow_symlinks=False).st_mtime for file in folder.iterdir()))
    return min(times, default=None)


def _gap(attempt: int, line: int, count: int, at: float) -> LogLine:
    text = f"— {count} lines have not reached the mirror —"
    return LogLine(attempt=attempt, line=line, at=at, level=0, stream="gap", text=text)


def stages_within(
    wanted: str, names: dict[tuple[int, int], str], parents: dict[tuple[int, int], int | None]
) -> set[tuple[int, int]]:
    """Return (attempt, number) of the stages of this name or number, and of all within them."""
    found = {place for place, name in names.items() if wanted in (name, str(place[1]))}
    for place in sorted(names):  # an enclosing stage has a lower number
        attempt, parent = place[0], parents[place]
        if parent is not None and (attempt, parent) in found:
            found.add(place)
    return found


def as_log_line(line: Line) -> LogLine:
    """Return a line of a file as readers of either source get it."""
    return LogLine(
        attempt=line.attempt,
        line=line.line,
        at=line.at,
        level=line.level,
        logger=line.logger,
        stream=line.stream,
        stage=line.stage,
        text=line.text,
        context=line.context,
    )


def _key(line: LogLine) -> _Key:
    """What tells two lines apart whether they come from the store or from a file."""
    return line.attempt, line.line, hash((round(line.at * 1000), line.text))
