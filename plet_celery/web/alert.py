"""P5, one alert: its life, the runs in it, who was told, what to do; acknowledging and silencing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from tornado.web import HTTPError

from plet_celery.errors import AlertNotFound, PletError, SilenceNotFound, StoreError
from plet_celery.monitor import book
from plet_celery.monitor.book import Entry
from plet_celery.store import alerting, queries
from plet_celery.store.alerting import Sent, Transition
from plet_celery.store.records import Run
from plet_celery.store.silencing import REASON_MAX
from plet_celery.terminal.look import look
from plet_celery.web import forms
from plet_celery.web.acting import SECONDS, ActingHandler
from plet_celery.web.handler import Region
from plet_celery.web.moments import parse_time
from plet_celery.web.pool import Busy
from plet_celery.web.runs import refresh_seconds

T = TypeVar("T")

_STEPS: Final = 200
_DELIVERIES: Final = 100
_HOUR: Final = 3600.0
LENGTHS: Final = {"1h": _HOUR, "8h": 8 * _HOUR}
"""Silences that one click chooses; `until` takes a time."""
_KINDS: Final = {
    "pending": ("pending", "pending"),
    "fired": ("firing", "firing"),
    "worse": ("firing", "worse"),
    "resolved": ("resolved", "resolved"),
    "ended": ("ended", "ended without firing"),
    "flapping": ("firing", "flapping"),
    "steady": ("firing", "steady again"),
    "no_data": ("no_data", "no data"),
    "has_data": ("pending", "data again"),
    "unsilenced": ("firing", "silence ended, still firing"),
    "acknowledged": ("resolved", "acknowledged"),
}
"""Look and word of each transition."""


@dataclass(frozen=True)
class Step:
    """A line of the timeline."""

    at: float
    word: str
    look: str
    sign: str
    text: str


@dataclass(frozen=True)
class Delivery:
    """A line of the deliveries."""

    id: str
    channel: str
    kind: str
    state: str
    word: str
    at: float | None
    next_at: float | None
    tries: int
    status: str


class OfAlert(ActingHandler):
    """What is about one alert."""

    right = "runs"
    fault: str = ""
    """Why a form that was sent could not be taken."""

    async def found(self, alert_id: str) -> Entry:
        """Return the alert that the address names.

        Raises:
            HTTPError: it is not there, or not for this viewer: the two look the same.
        """
        now, tenants = self.reader.now, self.viewer.tenants
        try:
            return await self.in_pool(lambda: book.entry_of(self.store, alert_id, now=now, tenants=tenants))
        except AlertNotFound:
            days = self.places.settings.alert_days
            said = f"unknown here; alerts that are over are kept {days:g} days"
            raise HTTPError(HTTPStatus.NOT_FOUND, said) from None

    async def show_alert(self, entry: Entry) -> None:
        """Show the page of an alert, with what was wrong with a form, if one was sent."""
        self.begin_forms()
        self.show(
            "alert.html",
            entry=entry,
            fault=self.fault,
            regions=await self.regions(self.regions_of(entry)),
            refresh=refresh_seconds(self.words("refresh")),
        )

    def regions_of(self, entry: Entry) -> dict[str, Region]:
        """Return the parts of the page."""

        def region(part: Callable[[Entry], str]) -> Region:
            return lambda: part(entry)

        parts = {
            "head": self._head,
            "acts": self._acts,
            "timeline": self._timeline,
            "runs": self._runs,
            "deliveries": self._deliveries,
        }
        return {name: region(part) for name, part in parts.items()} | {"footer": self.footer}

    def region_key(self, name: str) -> Any:
        """Keep the forms of each browser, and what was wrong with them, by themselves."""
        return (
            (super().region_key(name), self.form_token(), self.fault)
            if name == "acts"
            else super().region_key(name)
        )

    def _task_url(self, entry: Entry) -> str:
        task = entry.alert.task
        return f"{self.plet_url()}?{urlencode({'task': task})}" if task else ""

    def _head(self, entry: Entry) -> str:
        return self.part(
            "alert_head.html",
            entry=entry,
            alert=entry.alert,
            task_url=self._task_url(entry),
            command=f"celery -A proj plet alerts show {entry.alert.id[:8]}",
            source="",
        )

    def _acts(self, entry: Entry) -> str:
        length = self.given_field("length") or self.words("silence")
        return self.part(
            "alert_acts.html",
            entry=entry,
            alert=entry.alert,
            fault=self.fault,
            why_not=self.why_not(),
            act_url=lambda act: self.plet_url("alerts", entry.alert.id, act),
            token=self.form_token(),
            token_field=forms.FIELD,
            given={name: self.given_field(name) for name in ("note", "reason", "until")},
            length=length if length in (*LENGTHS, "until") else "1h",
            reason_max=REASON_MAX,
            zone=datetime.fromtimestamp(self.reader.now, self.reader.tz).tzname() or "",
        )

    def given_field(self, name: str) -> str:
        """Return what a form had in a field that could not be taken, for it to be mended."""
        return self.field(name) if self.fault else ""

    def _timeline(self, entry: Entry) -> str:
        found = alerting.transitions(self.store, entry.alert.id, tenants=self.viewer.tenants)
        steps = [step_of(one) for one in found]
        return self.part(
            "alert_timeline.html",
            steps=steps[-_STEPS:],
            is_cut=len(steps) > _STEPS,
            total=entry.alert.transitions,
        )

    def _runs(self, entry: Entry) -> str:
        named = entry.alert.doc.runs
        found = self._known(named)
        return self.part(
            "alert_runs.html",
            runs=found,
            hidden=len(named) - len(found),
            total=entry.alert.doc.count if named and self.viewer.tenants is None else 0,
            task_url=self._task_url(entry),
        )

    def _known(self, named: tuple[str, ...]) -> list[Run]:
        found = []
        for one in named:
            try:
                found.append(queries.get_run(self.store, one, tenants=self.viewer.tenants))
            except PletError as error:
                if isinstance(error, StoreError):
                    raise
        return found

    def _deliveries(self, entry: Entry) -> str:
        tenants = self.viewer.tenants
        sent = alerting.deliveries_of(self.store, entry.alert.id, tenants=tenants)
        kinds = {
            one.number: one.kind for one in alerting.transitions(self.store, entry.alert.id, tenants=tenants)
        }
        newest = list(reversed(sent))
        return self.part(
            "alert_deliveries.html",
            entry=entry,
            deliveries=[delivery_of(one, kinds) for one in newest[:_DELIVERIES]],
            is_cut=len(newest) > _DELIVERIES,
        )


class AlertPage(OfAlert):
    """`/plet/alerts/<id>`."""

    right = "runs"

    async def get(self, alert_id: str) -> None:
        """Show an alert, or one region of its page."""
        entry = await self.found(alert_id)
        if self.words("region"):
            await self.send_region(self.regions_of(entry))
            return
        await self.show_alert(entry)

    head = get


class Act(OfAlert):
    """What a form of an alert's page is sent to: it changes something, and leads back to the page."""

    right = "act"

    def get(self, alert_id: str) -> None:
        """Lead to the page: this address is a form's."""
        self.redirect(self.plet_url("alerts", alert_id))

    head = get

    async def post(self, alert_id: str) -> None:
        """Do it; what cannot be done is said on the page, with the form as it was sent."""
        self.check_form()
        entry = await self.found(alert_id)
        now = self.reader.now
        try:
            await self.desk.pool.run(lambda: self.do(entry, now), seconds=SECONDS)
        except (AlertNotFound, SilenceNotFound):
            raise HTTPError(HTTPStatus.NOT_FOUND, "unknown here") from None
        except (StoreError, Busy):
            raise
        except PletError as error:
            self.fault = str(error)
            self.set_status(HTTPStatus.BAD_REQUEST)
            await self.show_alert(entry)
            return
        self.redirect(self.plet_url("alerts", entry.alert.id), status=HTTPStatus.SEE_OTHER)

    def do(self, entry: Entry, now: float) -> None:
        """Change it, in a thread.

        Raises:
            PletError: what was asked for makes no sense.
        """
        raise NotImplementedError

    def said(self, name: str, now: float) -> float:
        """Return when a silence ends, as the form has it.

        Raises:
            PletError: it says no time.
        """
        length = self.field(name)
        if length in LENGTHS:
            return now + LENGTHS[length]
        until = parse_time(self.field("until"), self.reader.tz) if length == "until" else None
        if until is None:
            said = self.field("until" if length == "until" else name)
            raise PletError(f"{said[:40]!r} is no time; choose 1 hour, 8 hours, or until when")
        return until


class Acknowledge(Act):
    """`/plet/alerts/<id>/acknowledge`."""

    right = "act"

    def do(self, entry: Entry, now: float) -> None:
        """Keep that the viewer knows of it."""
        alerting.acknowledge(
            self.desk.writer,
            entry.alert.id,
            by=self.user,
            note=self.field("note"),
            now=now,
            tenants=self.viewer.tenants,
        )


class SilenceIt(Act):
    """`/plet/alerts/<id>/silence`."""

    right = "act"

    def do(self, entry: Entry, now: float) -> None:
        """Have nobody told of its rule and subject for a time."""
        alerting.silence_alert(
            self.desk.writer,
            entry.alert.id,
            until=self.said("length", now),
            reason=self.field("reason"),
            by=self.user,
            now=now,
            tenants=self.viewer.tenants,
        )


class Unsilence(Act):
    """`/plet/alerts/<id>/unsilence`."""

    right = "act"

    def do(self, entry: Entry, now: float) -> None:
        """End one of its silences."""
        wanted = self.field("silence")
        if wanted not in {one.id for one in entry.silences}:
            raise SilenceNotFound("this silence does not cover the alert, or has ended")
        alerting.end_silence(self.desk.writer, wanted, by=self.user, now=now, tenants=self.viewer.tenants)


def step_of(one: Transition) -> Step:
    """Return a transition as a line of the timeline."""
    shown, word = _KINDS.get(one.kind, ("ended", one.kind.replace("_", " ")))
    parts = [one.severity if one.kind in ("fired", "worse") else "", one.value]
    if one.by:
        parts = [f"by {one.by}" + (f": {one.note}" if one.note else "")]
    if one.kind == "fired" and not one.is_told:
        parts.append("nobody was told")
    return Step(one.at, word, shown, look(shown).sign, " · ".join(part for part in parts if part))


def delivery_of(one: Sent, kinds: dict[int, str]) -> Delivery:
    """Return a message as a line of the deliveries."""
    state = book.word_of(one).state
    is_waiting = one.state == "waiting"
    return Delivery(
        id=one.id,
        channel=one.channel,
        kind=_KINDS.get(kinds.get(one.number, ""), ("", "?"))[1],
        state=state,
        word={"failing": "failed, is tried again"}.get(state, state),
        at=one.made_at if is_waiting else one.ended_at,
        next_at=one.next_at if is_waiting else None,
        tries=one.tries,
        status=one.status or "",
    )
