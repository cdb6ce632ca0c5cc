"""Windows on a run's log: lines near a number, around the first error, the end, hits of a search.

Each attempt is read where it is: in this host's files, else in their copy in the mirror, else what the
store kept. A log that is gone is a fact, not an error. Nothing stays open between calls, and no call
reads more than a window, except a search and filters, which read on for a bounded time or along the index.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final, TypeVar

from plet_celery.errors import HomeError, LogNotFound, RunNotFound
from plet_celery.logsources import following
from plet_celery.logsources.folders import Folder, awaits_last_words, find_attempts
from plet_celery.logsources.following import Followed
from plet_celery.logsources.once import Once
from plet_celery.logsources.parts import (
    ERROR,
    NOTES,
    FilePart,
    MirrorPart,
    Needle,
    Part,
    PartHits,
    StorePart,
    Wanted,
    Where,
)
from plet_celery.logsources.source import copied_at, stages_within
from plet_celery.logsources.window import ALL, Hits, LogFilter, Source, Window
from plet_celery.store import Store, queries
from plet_celery.store.records import Attempt, LogLine, Run, Stage
from plet_celery.store.refusals import covers

_Answer = TypeVar("_Answer")
_GONE: Final = (LogNotFound, HomeError, OSError)
HITS_MAX: Final = 10_000


class LogWindows:
    """The log of one run, attempt by attempt.

    Attributes:
        attempts: ordinals of the run's attempts, oldest first.
    """

    def __init__(
        self,
        runs: Path,
        store: Store,
        run: Run,
        *,
        mirror: str | None = None,
        tenants: Sequence[str] | None = None,
        attempts: Sequence[Attempt] | None = None,
        stages: Sequence[Stage] | None = None,
    ) -> None:
        """Look for the run's folders; read no log yet.

        Args:
            runs: the root of the log folders (`home/runs`).
            mirror: the shared folder with copies of other hosts' log folders (`plet_mirror`).
            tenants: paths that the reader may see, with what lies below them; None: all.
            attempts, stages: of the run, where the caller has them already.

        Raises:
            RunNotFound: the run is none of these tenants'.
            StoreError: the store cannot be read.
        """
        if tenants is not None and not any(covers(one, run.tenant) for one in tenants):
            raise RunNotFound(f"no run {run.id!r}; runs are kept for plet_retention_days, `runs` lists them")
        self.run = run
        self._runs = runs
        self._store = store
        self._mirror = Path(mirror) if mirror else None
        self._known = {one.number: one for one in attempts or queries.attempts(store, run.id)}
        self._given_stages = stages
        self._stored_parts: dict[int, StorePart] = {}
        self._errors: Once[int] = Once()
        self.attempts = sorted(self._known)

    @property
    def newest(self) -> int:
        """Ordinal of the newest attempt; 0 when there is none."""
        return self.attempts[-1] if self.attempts else 0

    # Windows

    def window(self, attempt: int, first: int, count: int, wanted: LogFilter = ALL) -> Window:
        """Return `count` lines from number `first` on; with a filter, `count` lines that pass it."""
        return self._window(attempt, lambda part, one: part.after(first, count, one), wanted)

    def before(self, attempt: int, line: int, count: int, wanted: LogFilter = ALL) -> Window:
        """Return the last `count` lines and notes before a line."""
        return self._window(attempt, lambda part, one: part.before(line, count, one), wanted)

    def around(self, attempt: int, line: int, count: int, wanted: LogFilter = ALL) -> Window:
        """Return `count` lines with this one in their middle."""

        def near(part: Part, one: Wanted) -> list[LogLine]:
            # Notes before the first line come with it.
            earlier = part.before(line, count // 2, one) if line > 1 else []
            return earlier + part.after(line, count - len(earlier), one)

        return self._window(attempt, near, wanted)

    def last(self, count: int, attempt: int | None = None, wanted: LogFilter = ALL) -> Window:
        """Return the last `count` lines and notes of an attempt, the newest by default."""
        return self._window(
            attempt or self.newest, lambda part, one: part.last(count, one), wanted, is_end=True
        )

    def next_error(self, attempt: int, behind: int) -> int | None:
        """Return the number of the first line behind `behind` that tells of an error.

        An end that no line tells of is a note; it has the number of the line before it. The index of a
        whole log may be read for it: once for all threads that ask at the same time.
        """

        def look() -> int | None:
            first, errors = behind + 1 if behind else 0, Wanted(level=ERROR)
            found = self._ask(attempt, lambda part: part.after(first, 1, errors), list[LogLine]())[0]
            return found[0].line if found else None

        return self._errors.ask((attempt, behind), look)

    def line_count(self, attempt: int) -> int:
        """Return the number of an attempt's last line; 0 when there is none, or the log is gone."""
        return self._ask(attempt, lambda part: part.line_count(), 0)[0]

    def awaits_last_words(self, now: float) -> bool:
        """Say whether the run has just ended, and this host's file is behind the store."""
        return awaits_last_words(self._folders, [self._known[number] for number in self.attempts], now)

    def source(self, attempt: int) -> Source:
        """Return where an attempt's lines come from."""
        return self._source(attempt, *self._ask(attempt, lambda part: part.line_count(), 0))

    def text(self, attempt: int, at: int, length: int) -> bytes | None:
        """Return up to `length` bytes of an attempt's records from byte `at` on, as `run.log` has them.

        None where there is no such file, or the records do not lie together in it.
        """
        nothing: bytes | None = None
        return self._ask(attempt, lambda part: part.text(at, length), nothing)[0]

    # Search

    def search(
        self,
        needle: str,
        wanted: LogFilter = ALL,
        *,
        attempt: int | None = None,
        start: Where | None = None,
        limit: int = HITS_MAX,
        seconds: float = 1.0,
    ) -> Hits:
        """Find the lines whose text holds `needle`, in any case of ASCII letters.

        Args:
            attempt: search only this one.
            start: search on from this line of this attempt.
            limit: most places returned; further hits are counted.
            seconds: the search ends after this time, and says how far it came.
        """
        deadline = time.monotonic() + seconds
        found: list[Where] = []
        count = 0
        for number in self.attempts:
            if attempt not in (None, number) or (start and number < start[0]) or not needle:
                continue
            first = start[1] if start and number == start[0] else 0
            left = Needle(needle, first, limit - len(found), max(0.0, deadline - time.monotonic()))
            one = self._filter(number, wanted)
            if one is None:
                continue
            hits = self._search(number, left, one)
            found += [(number, line) for line in hits.lines]
            count += hits.count
            if hits.reached is not None:
                return Hits(found, count, (number, max(hits.reached, first)))
        return Hits(found, count)

    # What comes

    def position(self) -> str:
        """Return the position behind all that is there now, for `follow`."""
        return following.at_end(self._folders, self._kept())

    def follow(self, position: str, *, limit: int = 1000, wanted: LogFilter = ALL) -> Followed:
        """Return the lines of any attempt that have come since `position`, each once, oldest first."""
        found = following.after(self._folders, self._kept(), position, limit)
        if wanted == ALL:
            return found
        filters = {number: self._filter(number, wanted) for number in {line.attempt for line in found.lines}}
        passed = []
        for line in found.lines:
            one = filters[line.attempt]
            if one is not None and one.takes(line):
                passed.append(line)
        return Followed(passed, found.position, found.more)

    # Stages

    def stage_name(self, attempt: int, number: int | None) -> str:
        """Return the name of a stage; empty for none."""
        return "" if number is None else self._names.get((attempt, number), f"#{number}")

    def stages(self, attempt: int) -> list[tuple[int, str, int]]:
        """Return (number, name, depth) of an attempt's stages, by number."""
        found = []
        depths: dict[int, int] = {}
        for (one, number), name in sorted(self._names.items()):
            if one == attempt:
                parent = self._parents[one, number]
                depths[number] = depths.get(parent, 0) + 1 if parent is not None else 0
                found.append((number, name, depths[number]))
        return found

    @cached_property
    def _stages(self) -> list[tuple[int, Stage]]:
        numbers = {one.id: one.number for one in self._known.values()}
        found = self._given_stages
        if found is None:
            found = queries.stages(self._store, self.run.id)
        return [(numbers[one.attempt_id], one) for one in found if one.attempt_id in numbers]

    @cached_property
    def _names(self) -> dict[Where, str]:
        return {(number, stage.number): stage.name for number, stage in self._stages}

    @cached_property
    def _parents(self) -> dict[Where, int | None]:
        return {(number, stage.number): stage.parent for number, stage in self._stages}

    def _filter(self, attempt: int, wanted: LogFilter) -> Wanted | None:
        """Return a filter for one attempt; None when it has no stage of the name asked for."""
        if wanted.stage is None:
            return Wanted(wanted.level, None, wanted.streams)
        pairs = stages_within(wanted.stage, self._names, self._parents)
        stages = frozenset(number for one, number in pairs if one == attempt)
        return Wanted(wanted.level, stages, wanted.streams) if stages else None

    # Where it is

    @cached_property
    def _folders(self) -> list[Folder]:
        return find_attempts(self._runs, self._mirror, self._store, list(self._known.values()))

    def _kept(self) -> dict[int, StorePart]:
        """What the store keeps of the attempts that are in no folder."""
        there = {number for folder in self._folders for number in folder.attempts}
        return {number: self._stored(number) for number in self.attempts if number not in there}

    def _stored(self, attempt: int) -> StorePart:
        if attempt not in self._stored_parts:
            self._stored_parts[attempt] = StorePart(
                lambda: queries.stored_log(self._store, self.run.id, attempt=attempt),
                self._known[attempt].log_lines,
            )
        return self._stored_parts[attempt]

    def _parts_of(self, attempt: int) -> list[tuple[str, Part]]:
        """Return where an attempt may be read, the best place first."""
        if attempt not in self._known:
            return []
        parts: list[tuple[str, Part]] = []
        for folder in self._folders:
            if attempt in folder.attempts:
                file = FilePart(folder.log, folder.attempts.index(attempt) + 1, attempt)
                is_copy = folder.kind == "mirror"
                parts.append((folder.kind, MirrorPart(file, self._stored(attempt)) if is_copy else file))
        return [*parts, ("store", self._stored(attempt))]

    def _search(self, attempt: int, needle: Needle, wanted: Wanted) -> PartHits:
        return self._ask(attempt, lambda part: part.search(needle, wanted), PartHits([], 0))[0]

    def _ask(
        self, attempt: int, question: Callable[[Part], _Answer], nothing: _Answer
    ) -> tuple[_Answer, str]:
        """Ask the first place that can answer; return its answer and its kind."""
        for kind, part in self._parts_of(attempt):
            try:
                return question(part), kind
            except _GONE:
                continue  # pruned meanwhile, or not ours to read
        return nothing, "none"

    def _window(
        self,
        attempt: int,
        question: Callable[[Part, Wanted], list[LogLine]],
        wanted: LogFilter,
        *,
        is_end: bool = False,
    ) -> Window:
        # Before the lines: what comes in between is told twice rather than not at all.
        position = self.position()
        one = self._filter(attempt, wanted)

        def look(part: Part) -> Window:
            total = part.line_count()
            found = Window(
                attempt=attempt,
                lines=question(part, one) if one is not None else [],
                total=total,
                position=position,
                copied=part.copied if isinstance(part, MirrorPart) else None,
            )
            if one is None:
                return found
            # Without a filter the numbers tell; with one, whether a line passes is only known by looking.
            is_all = wanted == ALL
            first, last = found.first, found.last
            return replace(
                found,
                is_start=first <= 1 or not (is_all or _numbered(part.before(first, 1, one))),
                is_end=is_end or last >= total or not (is_all or _numbered(part.after(last + 1, 1, one))),
            )

        found, kind = self._ask(attempt, look, Window(attempt=attempt))
        return replace(found, source=self._source(attempt, found.total, kind))

    def _source(self, attempt: int, total: int, kind: str) -> Source:
        if kind == "mirror":
            folders = [one.log.folder for one in self._folders if attempt in one.attempts]
            return Source(kind, copied_at(folders))
        if kind == "store" and all(line.stream == "gap" for line in self._stored(attempt).lines):
            return Source("none", why="gone" if total else "silent")
        return Source(kind, why="silent" if kind == "none" else "")


def _numbered(lines: Sequence[LogLine]) -> bool:
    return any(line.stream not in NOTES for line in lines)
