"""P2, one run: what it is doing, how far it is, why it failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
from collections.abc import Callable, Generator, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Final

import msgspec
from tornado.iostream import StreamClosedError
from tornado.web import Finish, HTTPError

from plet_celery.errors import PletError, RunAmbiguous, RunNotFound, StoreError
from plet_celery.monitor.book import Entry, entries_of
from plet_celery.store import alerting, queries
from plet_celery.store.records import Run, to_json
from plet_celery.terminal.look import ENDS
from plet_celery.web import errorcard, moments
from plet_celery.web.access import permitted_events
from plet_celery.web.drawing import canvas, curves, timeline
from plet_celery.web.handler import Region
from plet_celery.web.logs import text as logtext
from plet_celery.web.logs import view as logview
from plet_celery.web.logs.query import LogQuery, where_text
from plet_celery.web.pool import Busy
from plet_celery.web.promising import PromisingHandler, chips_of
from plet_celery.web.runs import refresh_seconds
from plet_celery.web.subject import Subject

log = logging.getLogger(__name__)

_EVENTS: Final = 200
_ALERTS: Final = 5
_JSON_MAX: Final = 256 << 10
FOLLOW: Final = "log-after"
"""The region that a followed log asks for: JSON, not a fragment."""
_KEPT: Final = ("tl", "tl_only", "refresh")
"""Arguments of the page that links of the log keep."""
_ONE_LINE: Final = 72
"""Bytes of JSON that are shown in one line."""
_PIECE_SECONDS: Final = 30.0
_READER_SECONDS: Final = 600.0
"""Who takes no piece of a download for so long has left."""


class OfRun(PromisingHandler):
    """What is about one run."""

    right = "runs"
    below: ClassVar[tuple[str, ...]] = ()
    """What of the address stands behind the run's id."""

    async def subject(self, run_id: str) -> Subject:
        """Return the run that the address names.

        Raises:
            HTTPError: it is not there, or not for this viewer: the two look the same.
            Finish: the address has the beginning of its id, and leads on to the whole.
        """
        mark = await self.change_mark()
        # All regions of an open page are asked for at the same time, each by itself: they share it.
        made = partial(Subject, self.store, self.places, run_id, self.viewer)
        found: Subject = self.desk.subjects.ask((run_id, self.viewer), mark, made)
        try:
            await self.in_pool(found.load)
        except RunNotFound:
            await self._lead_on(run_id)
            days = self.places.settings.retention_days
            raise HTTPError(HTTPStatus.NOT_FOUND, f"unknown here; runs are kept {days:g} days") from None
        return found

    async def _lead_on(self, beginning: str) -> None:
        """Lead to the one run of this viewer's that `beginning` fits, if there is exactly one."""
        tenants = self.viewer.tenants
        try:
            whole = await self.in_pool(lambda: queries.resolve_run(self.store, beginning, tenants=tenants))
        except (RunNotFound, RunAmbiguous):
            return
        self.lead_to(self.plet_url("runs", whole, *self.below))
        raise Finish

    def log_query(self) -> LogQuery:
        """Return what of the log the address asks for."""
        return LogQuery.parse(self.given, keep=_KEPT)


class RunPage(OfRun):
    """`/plet/runs/<id>`."""

    right = "runs"
    file_regions = frozenset({"error", "log"})
    # Not the timeline: it grows with the clock.
    kept_regions = frozenset(
        {"head", "canvas", "metadata", "arguments", "attempts", "events", "raw", "footer"}
    )

    async def get(self, run_id: str) -> None:
        """Show a run, or one region of it."""
        try:
            subject = await self.subject(run_id)
        except (StoreError, Busy) as error:
            await self._show_last(run_id, error)
            return
        run = subject.run
        self.desk.keep_run((self.viewer, run_id), run)
        regions = self._regions(subject)
        if self.words("region") == FOLLOW:
            await self._follow(subject)
            return
        if self.words("region"):
            await self.send_region(regions)
            return
        self._show(run, await self.regions(regions))

    head = get

    async def _show_last(self, run_id: str, error: PletError) -> None:
        """Show what was last seen of a run while the store does not answer, part by part."""
        run = self.desk.last_runs.get((self.viewer, run_id))
        if run is None or self.words("region") == FOLLOW:
            raise error
        regions = dict.fromkeys([*self._parts(), "footer"], error)
        if self.words("region"):
            await self.send_region(regions)
            return
        kept = [name for name in regions if self.desk.answers.has(self.region_key(name))]
        self._show(run, await self.regions(dict.fromkeys(("head", *kept, "footer"), error)))

    def _show(self, run: Run, fragments: dict[str, str]) -> None:
        self.show(
            "run.html",
            run=run,
            regions=fragments,
            is_open=run.state not in ENDS,
            has_log=self.viewer.may("logs"),
            refresh=refresh_seconds(self.words("refresh")),
        )

    def _regions(self, subject: Subject) -> dict[str, Region]:
        def region(part: Callable[[Subject], str]) -> Region:
            return lambda: part(subject)

        return {name: region(part) for name, part in self._parts().items()} | {"footer": self.footer}

    def _parts(self) -> dict[str, Callable[[Subject], str]]:
        parts: dict[str, Callable[[Subject], str]] = {
            "head": self._head,
            "error": self._error,
            "stages": self._stages,
            "canvas": self._canvas,
            "log": self._log_of,
            "metadata": self._metadata,
            "measures": self._measures,
            "arguments": self._arguments,
            "attempts": self._attempts,
            "events": self._events,
            "raw": self._raw,
        }
        if not self.viewer.may("logs"):
            del parts["log"]
        return parts

    def _head(self, subject: Subject) -> str:
        run = subject.run
        return self.part(
            "run_head.html",
            run=run,
            is_open=run.state not in ENDS,
            promises=chips_of(run, self.objectives(), self.reader.now),
            alerts=self._alerts(run),
            parent=self.plet_url("runs", run.parent_id) if run.parent_id not in (None, run.id) else None,
            # An id is whatever its publisher chose, and this is pasted into shells.
            command=f"celery -A proj plet show {shlex.quote(run.short_id)}",
        )

    def _alerts(self, run: Run) -> list[Entry]:
        """Return the open alerts that name the run, then those about its task."""
        now, tenants = self.reader.now, self.viewer.tenants
        found = {}
        for about in ({"run": run.id}, {"task": run.task}) if run.task else ():
            page = alerting.list_alerts(
                self.store, states=("firing", "pending"), tenants=tenants, limit=_ALERTS, **about
            )
            found.update({one.id: one for one in page.items})
        return entries_of(self.store, list(found.values())[:_ALERTS], now=now, tenants=tenants, told=False)

    def _error(self, subject: Subject) -> str:
        card = errorcard.card(subject.run, has_traces=self.viewer.may("tracebacks"))
        line = None
        if card is not None and self.viewer.may("logs"):
            query = logview.settled(LogQuery(), subject.windows)
            line = logview.line_of(subject.windows, query, subject.run.state)
        return self.part("run_error.html", card=card, line=where_text(line))

    def _stages(self, subject: Subject) -> str:
        return self.part("timeline.html", timeline=self._timeline(subject))

    def _timeline(self, subject: Subject) -> timeline.Timeline:
        children = [one for one in subject.canvas.items if one.parent_id == subject.run.id]
        return timeline.timeline(
            subject.run,
            subject.attempts,
            subject.stages,
            children,
            now=self.reader.now,
            layout=self.words("tl", "time"),
            only=self.words("tl_only"),
        )

    def _log_of(self, subject: Subject) -> str:
        found = logview.view(
            subject.windows,
            self.log_query(),
            zone=self.reader.tz,
            download=self.plet_url("runs", subject.run.id, "log"),
        )
        return self.part("run_log.html", log=found)

    async def _follow(self, subject: Subject) -> None:
        """Send what has come in the log since a position, as `log.js` asks for it."""
        if not self.viewer.may("logs"):
            raise HTTPError(HTTPStatus.FORBIDDEN, "you may not see logs")
        # Longer than what people write; who reads it bounds it.
        query, position = self.log_query(), self.get_query_argument("position", "") or ""
        found = await self.desk.files.run(
            lambda: logview.follow_answer(
                subject.windows, query, position, now=self.reader.now, zone=self.reader.tz
            )
        )
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(msgspec.json.encode(found))

    def _metadata(self, subject: Subject) -> str:
        return self.part("run_values.html", title="Metadata", values=shown_values(subject.run.metadata))

    def _measures(self, subject: Subject) -> str:
        found = queries.measures(self.store, subject.id, tenants=self.viewer.tenants)
        if not found:
            return ""
        drawn = curves.curves(found, axis=self._timeline(subject).time_axis)
        return self.part("run_measures.html", curves=drawn)

    def _arguments(self, subject: Subject) -> str:
        run = subject.run
        values = {"args": run.args, "kwargs": run.kwargs, "result": run.result}
        return self.part(
            "run_arguments.html",
            values=shown_values({name: value for name, value in values.items() if value is not None}),
            may_see=self.viewer.may("arguments"),
        )

    def _attempts(self, subject: Subject) -> str:
        return self.part("run_attempts.html", attempts=subject.attempts, run=subject.run)

    def _canvas(self, subject: Subject) -> str:
        found = subject.canvas
        if len(found.items) < 2:
            return ""
        return self.part(
            "run_canvas.html",
            canvas=canvas.canvas(found.items, here=subject.run.id),
            is_cut=found.truncated,
            limit=len(found.items),
        )

    def _events(self, subject: Subject) -> str:
        found = queries.run_events(self.store, subject.id, limit=_EVENTS + 1, tenants=self.viewer.tenants)
        shown = permitted_events(found[-_EVENTS:], self.viewer)
        return self.part("run_events.html", events=shown, has_more=len(found) > _EVENTS, run=subject.run)

    def _raw(self, subject: Subject) -> str:
        found = {"run": subject.run, "attempts": subject.attempts, "stages": subject.stages}
        text = as_json({name: to_json(value) for name, value in found.items()})
        return self.part("run_raw.html", text=text[:_JSON_MAX], cut=max(0, len(text) - _JSON_MAX))


class LogDownload(OfRun):
    """`/plet/runs/<id>/log`: the log as a text file, piece by piece."""

    right = "logs"
    below = ("log",)

    async def get(self, run_id: str) -> None:
        """Send the whole log of an attempt, or what passes the filter; with `log_tab`, to be looked at."""
        subject = await self.subject(run_id)
        query = self.log_query()
        name = await self.desk.files.run(lambda: logtext.file_name(subject.windows, query))
        kind = "inline" if self.words("log_tab") == "1" else "attachment"
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Content-Disposition", f'{kind}; filename="{name}"')
        if self.request.method == "HEAD":
            await self.flush()  # without a length: nobody knows it before the end
            return
        await self._send(logtext.download(subject.windows, query, raw=self.words("log_raw") == "1"))

    head = get

    async def _send(self, pieces: Generator[bytes]) -> None:
        try:
            while (piece := await self._next(pieces)) is not None:
                self.write(piece)
                # Waits for the reader: a slow one holds this piece, no thread and no more memory.
                await asyncio.wait_for(self.flush(), _READER_SECONDS)
        except StreamClosedError:
            pass  # the reader has left
        except Exception as error:
            if not self._headers_written:
                raise
            # An end in good order would make half a log look like all of it.
            log.warning("a download was broken off: path=%s error=%r", self.request.path[:200], error)
            self.detach().close()
        finally:
            await self._close(pieces)

    async def _next(self, pieces: Generator[bytes]) -> bytes | None:
        return await self.desk.files.run(lambda: next(pieces, None), seconds=_PIECE_SECONDS)

    async def _close(self, pieces: Generator[bytes]) -> None:
        # A thread may still be in it, or all of them be held: then it is closed when it is forgotten.
        with contextlib.suppress(Busy, ValueError):
            await self.desk.files.run(pieces.close)


def as_json(value: Any) -> str:
    """Return a value as JSON, a short one in one line, else indented; what is no JSON as text."""
    raw = msgspec.json.encode(value, enc_hook=str)
    return moments.visible(msgspec.json.format(raw, indent=0 if len(raw) <= _ONE_LINE else 2).decode())


def shown_values(values: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return names and previews: a text as it is, anything else as JSON."""
    return [
        (moments.visible(name), moments.visible(value) if isinstance(value, str) else as_json(value))
        for name, value in values.items()
    ]
