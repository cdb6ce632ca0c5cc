"""`celery plet alerts`: what is wrong now, what was, and the alerts' own commands.

Exit codes of a list with firing alerts in it: 0 none fires, 1 one does that is not silenced, 69 it cannot be
told, since the monitor has not passed, or not for too long.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import click
from click_didyoumean import DYMGroup  # type: ignore[import-untyped]
from rich.table import Table
from rich.text import Text

from plet_celery.cli.command import BAD, UNAVAILABLE, View, command
from plet_celery.cli.runs import write_json
from plet_celery.monitor import book
from plet_celery.monitor.book import Book, Entry
from plet_celery.store import alerting, watching
from plet_celery.terminal.look import look
from plet_celery.terminal.text import printable, span
from plet_celery.watchfacts import AlertDoc

KINDS: Final = ("open", "firing", "pending", "silenced", "no_data", "resolved")
_OURS: Final = {
    "list": "plet_celery.cli.alerts:alert_list",
    "show": "plet_celery.cli.alerts:alert_show",
    "ack": "plet_celery.cli.alertacts:alert_ack",
    "silence": "plet_celery.cli.alertacts:alert_silence",
    "unsilence": "plet_celery.cli.alertacts:alert_unsilence",
    "test": "plet_celery.cli.channels:channel_test",
}
_WIDE: Final = 100


class AlertGroup(DYMGroup):  # type: ignore[misc]
    """The commands of alerts; without one of their names it is `list`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, the default one first."""
        return list(_OURS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in _OURS:
            return None
        module, _, name = _OURS[cmd_name].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` before what begins with an option of it."""
        if not args or (args[0].startswith("-") and args[0] not in self.get_help_option_names(ctx)):
            args = ["list", *args]
        found: list[str] = super().parse_args(ctx, args)
        return found


@click.group("alerts", cls=AlertGroup, short_help="List alerts, show one, acknowledge or silence it.")
def alerts() -> None:
    """List alerts; show, acknowledge or silence one; test a channel.

    ALERT is an alert's id, or any unique beginning of it. Without a command it is `list`.
    """


@command("list")
@click.option(
    "--state", "what", type=click.Choice(KINDS), default="open", show_default=True, help="Which ones."
)
@click.option("--search", default="", metavar="TEXT", help="Only where rule, subject or task begin so.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="At most so many.")
@click.option("--after", metavar="CURSOR", help="Of resolved ones: go on where the last list ended.")
def alert_list(view: View, *, what: str, search: str, limit: int, after: str | None) -> None:
    """List alerts, firing ones first.

    Exit codes: 1 an alert fires that is not silenced (among open or firing ones), 69 the monitor has not
    passed in time, so that nothing is known; else 0.
    """
    store, now = view.project.store(), view.clock.now
    found = book.open_book(store, now=now)
    passed = watching.last_pass(store)
    more = None
    if what == "resolved":
        page = book.past_page(store, now=now, prefix=search, limit=limit, after=after)
        entries, more = page.items, page.next
    else:
        entries = found.shown(what, search)
    is_late = book.is_late(passed, view.project.places.settings.monitor_interval)
    if view.output.as_json:
        for one in entries[:limit]:
            write_json(view, book.to_json(one))
    else:
        none = "nothing is wrong that the monitor knows of"
        if what != "open" or search:
            none = f"no rule or subject of one begins with {search!r}" if search else "no such alert"
        _draw_list(view, found, entries[:limit], none)
    if len(entries) > limit:
        click.echo(f"{len(entries) - limit} more: --limit {len(entries)}", err=True)
    if more:
        click.echo(f"more: --after {more}", err=True)
    if is_late and what != "resolved":
        click.echo(late_text(view, passed.passed_at), err=True)
    if what in ("open", "firing"):
        firing = {one.alert.id for one in found.shown("firing")}
        fires = any(one.alert.id in firing for one in entries)
        raise SystemExit(BAD if fires else UNAVAILABLE if is_late else 0)


@command("show")
@click.argument("alert")
def alert_show(view: View, *, alert: str) -> None:
    """Show one alert: its life, what to do, who was told, the runs in it."""
    store, now = view.project.store(), view.clock.now
    found = book.entry_of(store, alerting.resolve_alert(store, alert), now=now)
    steps = alerting.transitions(store, found.alert.id)
    sent = alerting.deliveries_of(store, found.alert.id)
    if view.output.as_json:
        kept = {"transitions": [book.step_json(one) for one in steps]}
        write_json(view, book.to_json(found) | kept | {"deliveries": [book.sent_json(one) for one in sent]})
        return
    _draw_one(view, found)
    for one in steps:
        said = " · ".join(part for part in (one.by and f"by {one.by}", one.note, one.value) if part)
        view.output.line(printable(f"  {view.clock.both(one.at)}  {one.kind}  {said}".rstrip()))
    kinds = {one.number: f"{one.kind}, " for one in steps}
    for message in sent:
        word = book.word_of(message)
        became = f"{kinds.get(message.number, '')}{word.state} {view.clock.ago(word.at)}"
        view.output.line(printable(f"  {word.channel}: {became}, {message.status or 'not tried yet'}"))


def late_text(view: View, passed_at: float | None) -> str:
    """Return what to say where the monitor has not passed in time."""
    way_out = f"beat runs it, or a shipper, or: {view.project.prefix} monitor"
    if passed_at is None:
        return f"the monitor has not passed yet, nothing is known; {way_out}"
    return f"the monitor last passed {view.clock.both(passed_at)}, what is shown is as it was then; {way_out}"


def _draw_list(view: View, found: Book, entries: list[Entry], none: str) -> None:
    counts = found.counts
    more = "+" if counts.is_capped else ""
    words = [
        f"{getattr(counts, name)}{more} {name.replace('_', ' ')}"
        for name in ("firing", "pending", "silenced", "no_data")
        if getattr(counts, name) or name == "firing"
    ]
    view.output.draw(Text(" · ".join(words), style="bold red" if counts.firing else "bold"))
    if not entries:
        view.output.line(printable(none))
        return
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("ALERT", "STATE", "SUBJECT", "SINCE"):
        table.add_column(name, no_wrap=name != "SUBJECT", overflow="fold")
    table.add_column("WHAT", overflow="fold")
    for one in entries:
        table.add_row(*_cells(view, one))
    view.output.draw(table)


def _cells(view: View, entry: Entry) -> list[Text]:
    alert = entry.alert
    marks = [
        word
        for word, holds in (
            (alert.severity.value, entry.is_open and alert.severity.value != "warning"),
            ("silenced", entry.is_silenced),
            ("acknowledged", alert.acknowledged_at is not None),
            ("flapping", alert.doc.is_flapping),
            ("no data", entry.is_open and not alert.doc.has_data),
        )
        if holds
    ]
    state = Text(f"{view.output.sign(entry.state)} {entry.state}", style=look(entry.state).style)
    id_ = alert.id[:8] if view.output.is_terminal else alert.id
    since = view.clock.ago(entry.since) if view.output.is_terminal else view.clock.full(entry.since)
    what = f"{entry.title}: {entry.value}" if entry.value else entry.title
    what += f" [{', '.join(marks)}]" if marks else ""
    return [Text(id_, style="dim"), state, Text(printable(alert.subject)), Text(since), Text(printable(what))]


def _runs(doc: AlertDoc) -> str:
    more = doc.count - len(doc.runs)
    return ", ".join(doc.runs) + (f" and {more:,} more" if doc.runs and more > 0 else "")


def _draw_one(view: View, entry: Entry) -> None:
    alert, doc = entry.alert, entry.alert.doc
    sign = view.output.sign(entry.state)
    view.output.draw(
        Text.assemble(
            (f"{sign} {entry.state}", look(entry.state).style), " ", (printable(entry.title), "bold")
        )
    )
    length = "" if alert.resolved_at is None else f", over after {span(alert.resolved_at - entry.since)}"
    silence = "; ".join(
        f"until {view.clock.full(one.until)} by {one.by}: {one.reason}" for one in entry.silences
    )
    known = f"by {doc.acknowledged_by}" + (f": {doc.note}" if doc.note else "")
    facts: dict[str, Any] = {
        "alert": alert.id,
        "rule": alert.rule,
        "subject": alert.subject,
        "severity": alert.severity.value,
        "what": entry.value,
        "since": view.clock.both(entry.since) + length,
        "affected": doc.affected,
        "tenant": alert.tenant,
        "flapping": f"it turned {len(doc.recent)} times within an hour" if doc.is_flapping else "",
        "no data": "the rule cannot say anything" if entry.is_open and not doc.has_data else "",
        "silenced": silence or ("yes" if entry.is_silenced else ""),
        "acknowledged": known if alert.acknowledged_at is not None else "",
        "do": doc.advice,
        "runs": _runs(doc),
    }
    for name, value in facts.items():
        if value:
            view.output.line(f"  {name:<12} {printable(value)}")
