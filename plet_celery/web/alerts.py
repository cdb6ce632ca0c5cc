"""P5, the alerts: what is wrong now, what was, who was told, and which rules there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from plet_celery.monitor import book
from plet_celery.monitor.book import Book, Entry
from plet_celery.monitor.wording import share, span
from plet_celery.rulebook import Rulebook
from plet_celery.store import watching
from plet_celery.store.health import list_health
from plet_celery.store.promises import ObjectiveStatus, list_objectives
from plet_celery.store.records import Page
from plet_celery.terminal.look import look
from plet_celery.web import watchrules
from plet_celery.web.acting import ActingHandler
from plet_celery.web.alertquery import TABS, AlertQuery, parse
from plet_celery.web.handler import Region
from plet_celery.web.runs import refresh_seconds

_PAGE: Final = 50
_CAPTIONS: Final = {
    "open": "Open alerts, firing ones first",
    "firing": "Firing alerts that are not silenced, critical ones first",
    "pending": "Alerts that have not fired yet",
    "silenced": "Alerts of which nobody is told",
    "no_data": "Open alerts whose rule cannot say anything",
    "resolved": "Alerts that are over, the last to end first",
}


@dataclass(frozen=True)
class Tile:
    """A figure at the head of the page, and where its list is."""

    number: int
    word: str
    sign: str
    url: str
    is_bad: bool = False
    is_capped: bool = False


class AlertsPage(ActingHandler):
    """`/plet/alerts`."""

    right = "runs"
    main_region = "alerts"

    async def get(self) -> None:
        """Show the list, or one region of it."""
        asked = parse(self.given)
        regions = self._regions(asked)
        if self.words("region"):
            await self.send_region(regions)
            return
        self.show(
            "alerts.html",
            query=asked,
            tabs=TABS,
            regions=await self.regions(regions),
            refresh=refresh_seconds(self.words("refresh")),
        )

    head = get

    def _regions(self, asked: AlertQuery) -> dict[str, Region]:
        return {
            "tiles": lambda: self._tiles(asked),
            "alerts": lambda: self._list(asked),
            "rules": self._rules,
            "footer": self.footer,
        }

    def _book(self, *, told: bool) -> Book:
        now = self.reader.now
        return book.open_book(self.store, now=now, tenants=self.viewer.tenants, told=told)

    def _objectives(self) -> list[ObjectiveStatus]:
        now, tenants = self.reader.now, self.viewer.tenants
        # Sums over windows of a month: they may be some seconds old.
        return self.desk.costly.ask(
            ("objectives", tenants), lambda: list_objectives(self.store, now=now, tenants=tenants)
        )

    def _rules(self) -> str:
        found = self.places.settings.rules
        return self.part(
            "alert_rules.html",
            objectives=watchrules.in_order(self._objectives()),
            rules=watchrules.rule_rows(Rulebook(found).all(), self._book(told=False).entries),
            source_of=watchrules.source_of,
            share=share,
            span=span,
            task_url=lambda task: f"{self.plet_url()}?{urlencode({'task': task})}",
            list_url=lambda rule: f"?{urlencode({'q': rule})}",
            is_whole=self.viewer.tenants is None,
        )

    def _tiles(self, asked: AlertQuery) -> str:
        counts = self._book(told=False).counts
        passed = watching.last_pass(self.store)
        late = book.is_late(passed, self.places.settings.monitor_interval)
        found = [
            Tile(
                number=getattr(counts, name),
                word=name.replace("_", " "),
                sign=look(name).sign,
                url=asked.url(show=name),
                is_bad=name == "firing",
                is_capped=counts.is_capped,
            )
            for name in ("firing", "pending", "silenced")
        ]
        if self.viewer.tenants is None:
            watched = Counter(self._watched(is_late=late))
            found += [
                Tile(watched[name], name.replace("_", " "), look(sign).sign, "#region-rules")
                for name, sign in (("ok", "kept"), ("no_data", "no_data"))
            ]
        return self.part(
            "alert_tiles.html",
            tiles=found,
            passed_at=passed.passed_at,
            is_late=late,
        )

    def _watched(self, *, is_late: bool) -> Iterator[str]:
        """Yield `ok`, `no_data` or nothing for each promise and check: of what is broken an alert tells."""
        states = [one.state for one in self._objectives()]
        states += [one.result.level.value for one in list_health(self.store)]
        # What was well when somebody last looked need not be so any more.
        good = "no_data" if is_late else "ok"
        words = {"kept": good, "ok": good, "no_data": "no_data", "new": "no_data"}
        yield from (words.get(state, "") for state in states)

    def _list(self, asked: AlertQuery) -> str:
        now, tenants = self.reader.now, self.viewer.tenants
        passed = watching.last_pass(self.store)
        page: Page[Entry] = Page(items=[])
        is_cut = False
        if asked.show == "resolved":
            page = book.past_page(
                self.store,
                now=now,
                prefix=asked.text,
                tenants=tenants,
                limit=_PAGE,
                after=asked.after or None,
                before=asked.before or None,
            )
        else:
            found = self._book(told=True)
            page.items, is_cut = found.shown(asked.show, asked.text), found.is_cut
        return self.part(
            "alerts_list.html",
            rows=[self._row(one) for one in page.items],
            query=asked,
            newer=page.previous,
            older=page.next,
            is_cut=is_cut,
            is_late=book.is_late(passed, self.places.settings.monitor_interval),
            caption=_CAPTIONS[asked.show],
            may_act=not self.why_not(),
            kept_days=self.places.settings.alert_days,
        )

    def _row(self, entry: Entry) -> dict[str, Any]:
        return {"entry": entry, "url": self.plet_url("alerts", entry.alert.id)}
