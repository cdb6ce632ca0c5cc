"""P1, the list of runs: what is running, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from plet_celery.monitor.book import open_book
from plet_celery.monitor.lateness import count_late, is_late, overdue
from plet_celery.objectives import Declared
from plet_celery.store import queries
from plet_celery.store.keptruns import KeptRuns
from plet_celery.store.overviews import EndsBucket
from plet_celery.store.records import Page, Run
from plet_celery.terminal.text import error_line
from plet_celery.web.access import permitted
from plet_celery.web.drawing import bars24
from plet_celery.web.handler import Region
from plet_celery.web.promising import Chip, PromisingHandler, chip_of
from plet_celery.web.runquery import ACTIVE, BAD, RunQuery, parse

_PAGE: Final = 50
_DAY: Final = 86_400.0
_BAR_SECONDS: Final = 1800
_CHIPS: Final = 4
_LATE_SECONDS: Final = 5.0
"""How old the number of late runs may be: the list beside it is of this moment."""
_TASKS_OFFERED: Final = 200
# What no text of a task becomes once it is escaped.
_BETWEEN: Final = "<!-- row -->"


@dataclass(frozen=True)
class Listed:
    """The rows of a page."""

    running: list[Run]
    """On the newest page: what runs now, whatever its time."""
    more_running: bool
    rest: list[Run]
    newer: str | None
    older: str | None


class RunsPage(PromisingHandler):
    """`/plet/`."""

    right = "runs"
    main_region = "runs"
    kept_regions = frozenset({"glance", "runs", "tasks", "footer"})
    passing_regions: ClassVar = {"glance": 1.0, "tasks": 2.0, "footer": 2.0}

    async def get(self) -> None:
        """Show the list, or one region of it."""
        asked = parse(self.given, now=self.reader.now, zone=self.reader.tz)
        regions = self._regions(asked)
        if self.words("region"):
            await self.send_region(regions)
            return
        fragments = await self.regions(regions)
        self.show_kept(
            "runs.html",
            fragments,
            (asked.notes, asked.lost_place),  # some of what is said depends on the clock
            query=asked,
            bad=BAD,
            refresh=refresh_seconds(self.words("refresh")),
        )

    head = get

    def _regions(self, asked: RunQuery) -> dict[str, Region]:
        return {
            "glance": self._glance,
            "runs": lambda: self._list(asked),
            "tasks": self._tasks,
            "footer": self.footer,
        }

    def _glance(self) -> str:
        now, tenants = self.reader.now, self.viewer.tenants
        # In whole minutes: the address of what failed since must not be another one each second.
        minute = now // 60 * 60
        glance = queries.glance(self.store, now=minute, tenants=tenants)
        late = self.desk.costly.ask(
            ("late", tenants),
            lambda: count_late(self.store, self.objectives(), now=now, tenants=tenants),
            most=_LATE_SECONDS,
        )
        firing = open_book(self.store, now=now, tenants=tenants, told=False).counts
        ends = bars24.ends_chart(self._ends(now), now=now, step=_BAR_SECONDS)
        return self.part(
            "glance.html",
            glance=glance,
            late=late,
            firing=firing,
            ends=ends,
            # What is counted is not narrowed by what the page shows, and neither is what it leads to.
            query=RunQuery(),
            bad=BAD,
            day_ago=datetime.fromtimestamp(minute - _DAY, UTC).strftime("%Y-%m-%dT%H:%MZ"),
        )

    def _ends(self, now: float) -> list[EndsBucket]:
        until, tenants = (now // _BAR_SECONDS + 1) * _BAR_SECONDS, self.viewer.tenants
        # A sum over thousands of rows where much runs: then it may be some seconds old.
        return self.desk.costly.ask(
            ("ends", until, tenants),
            lambda: queries.ends_over_time(
                self.store, since=until - _DAY, until=until, step=_BAR_SECONDS, tenants=tenants
            ),
        )

    def _list(self, asked: RunQuery) -> str:
        objectives, now = self.objectives(), self.reader.now
        listed = listed_runs(
            self.store,
            asked,
            tenants=self.viewer.tenants,
            zone=self.reader.tz,
            late=Late(objectives, now) if asked.late else None,
            kept=self.desk.listed_runs,
        )
        return self.part(
            "runs_list.html",
            bodies=[
                self._rows([(run, chip_of(run, objectives, now)) for run in runs])
                for runs in (listed.running, listed.rest)
                if runs
            ],
            listed=listed,
            query=asked,
            retention=self.places.settings.retention_days,
            is_empty=not listed.running and not listed.rest,
        )

    def _tasks(self) -> str:
        tenants = self.viewer.tenants
        # Of a viewer of some tenants they are looked for in hundreds of runs.
        names = self.desk.costly.ask(
            ("tasks", tenants),
            lambda: queries.known_tasks(self.store, "", limit=_TASKS_OFFERED, tenants=tenants),
        )
        return self.part("tasks_offered.html", names=names)

    def _rows(self, runs: Sequence[tuple[Run, Chip | None]]) -> str:
        """Return the rows of a part of the table; those that have not changed are made already."""
        rights = self.viewer.rights
        by_key = {
            (run.id, run.version, run.unreachable_since, rights, promise): (run, promise)
            for run, promise in runs
        }

        def made(keys: list[Any]) -> list[str]:
            rows = [self._row(*by_key[key]) for key in keys]
            html = self.part("runs_rows.html", rows=rows, between=_BETWEEN)
            return html.split(_BETWEEN)[1:]

        return "".join(self.desk.rows.all(by_key, made))

    def _row(self, run: Run, promise: Chip | None) -> dict[str, Any]:
        shown = permitted(run, self.viewer)
        return {
            "run": shown,
            "promise": promise,
            "url": self.run_url(run.id),
            "error": error_line(shown.error),
            "chips": list(shown.metadata.items())[:_CHIPS],
            "more_chips": max(0, len(shown.metadata) - _CHIPS),
        }


@dataclass(frozen=True)
class Late:
    """By which promises, and when, runs are late."""

    objectives: list[Declared]
    now: float


def listed_runs(
    store: Any,
    asked: RunQuery,
    *,
    tenants: tuple[str, ...] | None,
    zone: Any,
    late: Late | None = None,
    kept: KeptRuns | None = None,
) -> Listed:
    """Return the page of the list that `asked` names: running ones first, on the newest page."""
    filters = asked.filters(zone) | {"tenants": tenants, "limit": _PAGE}
    page = filters | {"after": asked.after or None, "before": asked.before or None}
    if late is not None:
        found = queries.list_runs(store, **page, older=overdue(late.objectives, late.now))
        runs = [run for run in found.items if is_late(run, late.objectives, late.now)]
        return Listed([], False, runs, found.previous, found.next)
    if filters["states"]:
        (found,) = queries.list_together(store, [page], kept=kept)
        return Listed([], False, found.items, found.previous, found.next)
    several = [page | {"without": ACTIVE}]
    if asked.is_first:
        several.append(filters | {"states": ACTIVE})
    found, *running = queries.list_together(store, several, kept=kept)
    first = running[0] if running else Page(items=[])
    return Listed(first.items, first.next is not None, found.items, found.previous, found.next)


def refresh_seconds(text: str) -> int | None:
    """Return how often a page without JavaScript asks to be loaded again (`?refresh=10`), or None."""
    return max(2, min(3600, int(text))) if text.isdecimal() and len(text) < 6 else None
