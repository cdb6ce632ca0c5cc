"""P1, the list of runs: what is running, what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from plet_celery.monitor.book import open_book
from plet_celery.monitor.lateness import count_late, is_late, overdue
from plet_celery.objectives import Declared
from plet_celery.store import queries
from plet_celery.store.overviews import EndsBucket
from plet_celery.store.records import Page, Run
from plet_celery.web.access import permitted
from plet_celery.web.drawing import bars24
from plet_celery.web.handler import Region
from plet_celery.web.promising import PromisingHandler, chip_of
from plet_celery.web.runquery import ACTIVE, BAD, RunQuery, parse

_PAGE: Final = 50
_DAY: Final = 86_400.0
_BAR_SECONDS: Final = 1800
_CHIPS: Final = 4
_LATE_SECONDS: Final = 5.0
"""How old the number of late runs may be: the list beside it is of this moment."""
_TASKS_OFFERED: Final = 200


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
    kept_regions = frozenset({"glance", "runs", "tasks", "footer"})

    async def get(self) -> None:
        """Show the list, or one region of it."""
        asked = parse(self.given, now=self.reader.now, zone=self.reader.tz)
        regions = self._regions(asked)
        if self.words("region"):
            await self.send_region(regions)
            return
        fragments = await self.regions(regions)
        self.show(
            "runs.html",
            query=asked,
            bad=BAD,
            regions=fragments,
            refresh=refresh_seconds(self.words("refresh")),
        )

    head = get

    def _regions(self, asked: RunQuery) -> dict[str, Region]:
        return {
            "glance": lambda: self._glance(asked),
            "runs": lambda: self._list(asked),
            "tasks": self._tasks,
            "footer": self.footer,
        }

    def _glance(self, asked: RunQuery) -> str:
        now, tenants = self.reader.now, self.viewer.tenants
        glance = queries.glance(self.store, now=now, tenants=tenants)
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
            query=asked,
            active=ACTIVE,
            bad=BAD,
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
        )

        def row(run: Run) -> dict[str, Any]:
            return self._row(run) | {"promise": chip_of(run, objectives, now)}

        return self.part(
            "runs_list.html",
            running=[row(run) for run in listed.running],
            rest=[row(run) for run in listed.rest],
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

    def _row(self, run: Run) -> dict[str, Any]:
        shown = permitted(run, self.viewer)
        return {
            "run": shown,
            "url": self.run_url(run.id),
            "error": first_line(shown.error),
            "chips": list(shown.metadata.items())[:_CHIPS],
            "more_chips": max(0, len(shown.metadata) - _CHIPS),
        }


@dataclass(frozen=True)
class Late:
    """By which promises, and when, runs are late."""

    objectives: list[Declared]
    now: float


def listed_runs(
    store: Any, asked: RunQuery, *, tenants: tuple[str, ...] | None, zone: Any, late: Late | None = None
) -> Listed:
    """Return the page of the list that `asked` names: running ones first, on the newest page."""
    filters = asked.filters(zone) | {"tenants": tenants}
    if late is not None:
        page = _page(store, asked, filters | {"older": overdue(late.objectives, late.now)})
        return Listed(
            [],
            False,
            [run for run in page.items if is_late(run, late.objectives, late.now)],
            page.previous,
            page.next,
        )
    if filters["states"]:
        page = _page(store, asked, filters)
        return Listed([], False, page.items, page.previous, page.next)
    running: Page[Run] = Page(items=[])
    if asked.is_first:
        running = queries.list_runs(store, **(filters | {"states": ACTIVE, "limit": _PAGE}))
    page = _page(store, asked, filters | {"without": ACTIVE})
    # A run may end between the two questions.
    seen = {run.id for run in running.items}
    rest = [run for run in page.items if run.id not in seen]
    return Listed(running.items, running.next is not None, rest, page.previous, page.next)


def _page(store: Any, asked: RunQuery, filters: dict[str, Any]) -> Page[Run]:
    found: Page[Run] = queries.list_runs(
        store, **filters, limit=_PAGE, after=asked.after or None, before=asked.before or None
    )
    return found


def first_line(error: dict[str, Any] | None) -> str:
    """Return an error in a line: its type and the first line of its message."""
    if not error:
        return ""
    kind, message = str(error.get("type") or "error"), str(error.get("message") or "")
    line = message.strip().partition("\n")[0]
    return f"{kind}: {line}" if line else kind


def refresh_seconds(text: str) -> int | None:
    """Return how often a page without JavaScript asks to be loaded again (`?refresh=10`), or None."""
    return max(2, min(3600, int(text))) if text.isdecimal() and len(text) < 6 else None
