"""`celery plet health`: what the last pass found; with `--check`, what one check finds now.

Exit codes: 0 well (or a warning, without `--fail-on warning`), 1 critical or the last pass is late,
3 a warning with `--fail-on warning`, 69 it cannot be told: no pass yet, no store, no data. With `--nagios`
0, 1, 2, 3, and one line.
"""

from __future__ import annotations

import time
from typing import Final

import click
from rich.table import Table
from rich.text import Text
from sqlalchemy import make_url

from plet_celery import localnodes
from plet_celery.celeryfacts import celery_facts
from plet_celery.cli.command import BAD, UNAVAILABLE, Command, View, Wrong, command
from plet_celery.cli.options import Number
from plet_celery.errors import StoreError
from plet_celery.monitor import verdict
from plet_celery.monitor.checks import NAMES, cleaned, run_check
from plet_celery.monitor.checks.asking import Question, ask
from plet_celery.monitor.checks.selfcheck import SELF, check_self
from plet_celery.monitor.masking import masking
from plet_celery.monitor.verdict import Health, Word
from plet_celery.monitor.world import World, before_of
from plet_celery.store import Store, open_store
from plet_celery.store.health import HealthRow, list_health
from plet_celery.store.watching import last_pass
from plet_celery.terminal.output import Output
from plet_celery.terminal.text import printable
from plet_celery.watchfacts import CheckResult, Level

WARNED: Final = 3
_NAGIOS: Final = {
    Word.OK: (0, "OK"),
    Word.WARNING: (1, "WARNING"),
    Word.CRITICAL: (2, "CRITICAL"),
    Word.LATE: (2, "CRITICAL"),
    Word.NO_DATA: (3, "UNKNOWN"),
    Word.UNKNOWN: (3, "UNKNOWN"),
}
_SIGNS: Final = {
    Level.OK: ("✔", "+", "green"),
    Level.NO_DATA: ("?", "?", "cyan"),
    Level.WARNING: ("▲", "!", "yellow"),
    Level.CRITICAL: ("✖", "x", "red"),
}
_LEVEL_OF: Final = {
    Word.OK: Level.OK,
    Word.WARNING: Level.WARNING,
    Word.CRITICAL: Level.CRITICAL,
    Word.LATE: Level.CRITICAL,
    Word.NO_DATA: Level.NO_DATA,
    Word.UNKNOWN: Level.NO_DATA,
}
_NAME: Final = 10
_WIDE: Final = 72


class _Probe(Command):
    """With `--nagios` every trouble is one line on stdout and 3: 2 would be critical."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if not ctx.params.get("nagios"):
                raise
            click.echo(f"PLET UNKNOWN - {printable(error.format_message())}")
            ctx.exit(WARNED)


@command("health", cls=_Probe, fields=False)
@click.option(
    "--check",
    "name",
    metavar="NAME",
    help=f"Run this one now: {', '.join(NAMES)}; {SELF}: the workers of this host.",
)
@click.option(
    "--timeout",
    type=Number(min=0.1, max=600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long; then that is the answer.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "critical"]),
    default="critical",
    show_default=True,
    help="With `warning`, exit 3 for a warning.",
)
@click.option("--nagios", is_flag=True, help="One line, and the exit codes of Nagios: 0, 1, 2, 3.")
def health(view: View, *, name: str | None, timeout: float, fail_on: str, nagios: bool) -> None:
    """Say how broker, queues, workers, beat, store, shippers and disks do.

    This is what the last pass of the monitor found, from the store; with --check it is looked at now.
    Exit codes: 0 well, 1 critical or no pass in time, 3 a warning (with --fail-on warning), 69 it cannot
    be told: no pass yet, no store, or no data.
    """
    if name is not None and name != SELF and name not in NAMES:
        raise Wrong(f"there is no check {name!r}; there are: {', '.join([*NAMES, SELF])}")
    found = _last(view, timeout) if name is None else _now(view, name, timeout)
    word = Word.UNKNOWN if name is not None and found.word is Word.NO_DATA else found.word
    if nagios:
        code, text = _NAGIOS[word]
        view.output.line(f"PLET {text} - {printable(found.text)} | {_figures(found)}")
        raise SystemExit(code)
    if view.output.as_json:
        view.output.json(verdict.health_json(found))
    else:
        draw(view, found)
    raise SystemExit(exit_code(word, fail_on=fail_on))


def exit_code(word: Word, *, fail_on: str) -> int:
    """Return what a verdict means for a script."""
    if word is Word.UNKNOWN:
        return UNAVAILABLE
    if word in (Word.CRITICAL, Word.LATE):
        return BAD
    return WARNED if word is not Word.OK and fail_on == "warning" else 0


def _last(view: View, timeout: float) -> Health:
    return verdict.read_health(_reader(view, timeout), view.project.places.settings)


def _reader(view: View, timeout: float) -> Store:
    store = open_store(view.project.places.database_url, read_only=True, query_seconds=timeout, connections=4)
    click.get_current_context().call_on_close(store.close)
    return store


def _now(view: View, name: str, timeout: float) -> Health:
    now = time.time()
    results = _ask_self(view, timeout) if name == SELF else _ask(view, name, timeout, now)
    rows = [
        HealthRow(result=one, since=one.since if one.since is not None else now, checked_at=now)
        for one in results
    ]
    return verdict.of_check(rows, now=now)


def _ask_self(view: View, timeout: float) -> list[CheckResult]:
    places, app = view.project.places, view.project.app
    nodes = localnodes.nodes(places.journal)
    question = Question(
        name="workers",
        look=lambda: check_self(app, nodes, seconds=timeout * 0.9),
        unanswered=Level.CRITICAL,
        advice="restart it",
    )
    masked = masking(places.settings, make_url(places.database_url), app.conf)
    return cleaned(ask([question], seconds=timeout), masked)


def _ask(view: View, name: str, timeout: float, now: float) -> list[CheckResult]:
    places = view.project.places
    store = _reader(view, timeout)
    try:
        before, passed = before_of(list_health(store)), last_pass(store)
    except StoreError:
        # The check itself tells, if it needs the store at all.
        before, passed = {}, None
    world = World(
        settings=places.settings,
        store=store,
        app=view.project.app,
        has_app=True,
        facts=celery_facts(view.project.app),
        home=places.home,
        journal=places.journal,
        before=before,
        passed=passed,
    )
    return run_check(world, name, now=now, seconds=timeout)


def _figures(found: Health) -> str:
    """Return Nagios' performance data: how many checks have which level, and the age of the last pass."""
    counts = {level: sum(1 for row in found.rows if row.result.level is level) for level in Level}
    told = [f"{level.value}={counts[level]}" for level in Level]
    if found.passed is not None and found.passed.age is not None:
        told.append(f"pass_age={found.passed.age:.0f}s")
    return " ".join(told)


def draw(view: View, found: Health) -> None:
    """Write the verdict, then every row, what is not well with its way out."""
    output, level = view.output, _LEVEL_OF[found.word]
    word = found.word.value.upper().replace("_", " ")
    output.draw(Text.assemble((f"{word}  ", f"bold {_SIGNS[level][2]}"), printable(found.text)))
    if found.rows:
        output.line()
    for row in found.rows:
        _draw_row(view, row)


def _draw_row(view: View, row: HealthRow) -> None:
    output, one = view.output, row.result
    sign, style = _sign(output, one.level), _SIGNS[one.level][2]
    subject = f"{one.subject}: " if one.subject else ""
    text = f"{subject}{one.observation}"
    if one.level is not Level.OK:
        text += f" (since {view.clock.both(row.since)})"
    lines = [one.advice] if one.level is not Level.OK and one.advice else []
    arrow = "→" if output.has_signs else "->"
    if output.is_plain:
        output.line(f"  {sign} {one.name:<{_NAME}} {printable(text)}")
        for line in lines:
            output.line(f"{'':<{_NAME + 5}}{arrow} {printable(line)}")
        return
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column(width=3, no_wrap=True)
    wide = output.width >= _WIDE
    if wide:
        rows.add_column(width=_NAME, no_wrap=True, style="dim")
    rows.add_column(overflow="fold")
    body = Text(printable(text)) if wide else Text(f"{one.name} {printable(text)}")
    rows.add_row(Text(f"  {sign}", style=style), *([one.name] if wide else []), body)
    for line in lines:
        rows.add_row("", *([""] if wide else []), Text(f"{arrow} {printable(line)}", style=style))
    output.draw(rows)


def _sign(output: Output, level: Level) -> str:
    return _SIGNS[level][0 if output.has_signs else 1]
