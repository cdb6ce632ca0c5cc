"""`celery plet logs`: what a run logged and printed, from its host's file or from the store."""

from __future__ import annotations

import time
from collections.abc import Iterable

import click
from rich.text import Text

from plet_celery.cli.command import View, Wrong, command
from plet_celery.cli.observe import EVERY, resolve_soon
from plet_celery.cli.options import ALL, Level, Lines, Since
from plet_celery.cli.runs import write_json
from plet_celery.errors import StoreUnavailable
from plet_celery.logsources.source import LogSource
from plet_celery.store import Store, queries, records
from plet_celery.store.records import LogLine
from plet_celery.terminal.look import ENDS, level_name, level_style
from plet_celery.terminal.text import printable, printable_lines

_GIVE_UP = 30.0


@command("logs")
@click.argument("run", metavar="RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the run ends.")
@click.option(
    "-n", "--lines", type=Lines(), default="200", show_default=True, metavar="N|all", help="The last N lines."
)
@click.option("--stage", metavar="S", help="Only lines of this stage, by name or number.")
@click.option("--level", type=Level(), metavar="L", help="Only this level and above.")
@click.option("--since", type=Since(), metavar="5m", help="Only lines after this.")
@click.option("--raw", is_flag=True, help="The text alone, its terminal escapes acting; only to a terminal.")
def logs(
    view: View,
    *,
    run: str,
    follow: bool,
    lines: int,
    stage: str | None,
    level: int | None,
    since: float | None,
    raw: bool,
) -> None:
    """Print what a run logged and printed.

    RUN is the id, any unique prefix of it, @last or @last-failed. Ctrl-C leaves --follow with 130.
    """
    if raw and (view.output.as_json or not view.output.is_terminal):
        raise Wrong(
            "--raw lets a task's text control the terminal, so it needs one; --json has the exact text"
        )
    store = view.project.store()
    run_id = resolve_soon(store, run)
    found = queries.get_run(store, run_id)
    places = view.project.places
    source = LogSource(
        places.runs, store, found, mirror=places.settings.mirror, stage=stage, level=level, since=since
    )
    printer = _Printer(view, source, raw=raw)
    _tell_origin(view, source, found)
    if stage is not None and not follow:
        source.check_stage()
    printer.print(source.history(None if lines == ALL else lines))
    if follow:
        _follow(view, store, source, printer)


def _tell_origin(view: View, source: LogSource, run: records.Run) -> None:
    """Say on stderr where the lines come from, unless it is this host's files alone."""
    if source.copies:
        at = source.as_of
        when = f" (as of {view.clock.both(at)})" if at is not None else ""
        click.echo(f"from the mirror{when}: another host has the log files of the run", err=True)
    elif not source.is_local and run.log_lines:
        click.echo("this host has no log file of the run; what follows is what the store kept", err=True)


def _follow(view: View, store: Store, source: LogSource, printer: _Printer) -> None:
    """Print what comes until the run has ended, and what was still on its way then."""
    lost_at: float | None = None
    quiet = 0
    while True:
        new: list[LogLine] = []
        try:
            # Looked at before the lines: what came before the end is printed when this says so.
            ended = queries.get_run(store, source.run_id).state in ENDS
            new = source.new()
            quiet, lost_at = (quiet + 1 if ended and not new else 0), None
        except StoreUnavailable:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > _GIVE_UP:
                raise
        printer.print(new)
        view.output.flush()
        # The log files are written by a loop of their own, a moment after the store, or long after it.
        if quiet >= (2 if source.is_local else 1) and not source.awaits_last_words(time.time()):
            return
        time.sleep(EVERY)


class _Printer:
    def __init__(self, view: View, source: LogSource, *, raw: bool) -> None:
        self._view = view
        self._source = source
        self._raw = raw
        self._attempt = 0

    def print(self, lines: Iterable[LogLine]) -> None:
        """Write lines as they were asked for."""
        for line in lines:
            if self._view.output.as_json:
                write_json(self._view, records.to_json(line))
            elif self._raw:
                self._view.output.line(line.text)
            else:
                self._announce(line)
                self._write(line)

    def _announce(self, line: LogLine) -> None:
        """Say where another attempt begins."""
        if self._attempt and line.attempt != self._attempt:
            self._view.output.draw(Text(f"— attempt {line.attempt} —", style="dim"))
        self._attempt = line.attempt

    def _write(self, line: LogLine) -> None:
        first, *rest = printable_lines(line.text)
        is_note = line.stream in ("gap", "plet")
        head = f"{self._stamp(line)} {'—' if is_note else level_name(line.level):5} "
        stage = "" if is_note else printable(self._source.stage_name(line))
        first = f"{stage}: {first}" if stage else first
        context = "" if is_note else _context(line)
        style = "dim" if is_note else level_style(line.level)
        shown = Text.assemble((head, "dim"), (first, style), (context, "dim"))
        for text in rest:
            shown.append("\n" + " " * len(head) + text, style=style)
        self._view.output.flow(shown)

    def _stamp(self, line: LogLine) -> str:
        if self._view.output.is_terminal:
            return self._view.clock.at(time.time()).time(line.at)
        return self._view.clock.stamp(line.at)


def _context(line: LogLine) -> str:
    if not line.context:
        return ""
    return "  " + " ".join(f"{printable(key)}={printable(value)}" for key, value in line.context.items())
