"""Rich renderables of runs: bars, stage rows, groups of child runs, log lines, the live panel.

Text from tasks passes `printable` here and is never markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Group as Stack
from rich.console import RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from plet_celery.terminal.bars import Fold, Group, StageBar, amount, fit, groups, indented, stage_bars
from plet_celery.terminal.look import ENDS, level_name, level_style, look
from plet_celery.terminal.output import Output
from plet_celery.terminal.text import Clock, printable, printable_lines, shorten, shorten_left, span

if TYPE_CHECKING:
    from plet_celery.store.records import LogLine, Run, Stage

# An observer that lags behind says so; below this, news are merely on their way.
_BEHIND = 30.0
_FRAME_COLUMNS: Final = 4
_WIDEST: Final = 130
"""A wider picture only moves its parts apart."""
_NO_BAR_BELOW: Final = 56
_MESSAGE_FROM: Final = 76


@dataclass(frozen=True)
class Snapshot:
    """What is known of a run at one moment."""

    run: Run
    stages: Sequence[Stage] = ()
    children: Sequence[Run] = ()
    more_children: bool = False
    lines: Sequence[LogLine] = ()
    as_of: float | None = None
    """Up to when the store knows."""
    trouble: str = ""
    """Why this is old: the store does not answer."""


def state_text(state: str, output: Output) -> Text:
    """Return `✔ succeeded` in its colour."""
    return Text(f"{output.sign(state)} {printable(state)}", style=look(state).style)


def bar(fraction: float | None, state: str, width: int) -> RenderableType:
    """Return a bar; an empty track where the share is unknown."""
    style = look(state).style
    return ProgressBar(
        total=1.0,
        completed=fraction or 0.0,
        width=width,
        style="grey30",
        complete_style=style,
        finished_style=style,
    )


def stage_table(rows: Sequence[StageBar | Fold], *, width: int, output: Output, indent: str = "") -> Table:
    """Return the stages as rows of sign, name, bar, amount, time and message, as far as `width` reaches."""
    table = _grid()
    for row in rows:
        if isinstance(row, Fold):
            table.add_row(Text(f"{indent}  {row.text}", style="dim"))
            continue
        table.add_row(*_stage_cells(row, width, output, indent))
    return table


def group_table(
    found: Sequence[Group], *, width: int, output: Output, more: bool = False, indent: str = ""
) -> Table:
    """Return child runs, one row a task: `parse ×24  ━━━━  20 ✔  3 ◐  1 ✖`."""
    table = _grid()
    for group in found:
        size = f" ×{group.size}{'+' if more else ''}" if group.size > 1 else ""
        name = shorten_left(printable(group.task), max(10, width // 3)) + size
        cells: list[RenderableType] = [_signed(group.state, name, output, indent=indent)]
        if width >= _NO_BAR_BELOW and not output.is_plain:
            tone = "succeeded" if group.states.get("succeeded", 0) * 2 > group.size else group.state
            cells.append(bar(group.fraction, tone, _bar_width(width)))
        cells.append(_counts(group, output))
        table.add_row(*cells)
    return table


def log_text(line: LogLine, clock: Clock, stage: str = "") -> Text:
    """Return a log line's first line: time, level, stage, text."""
    shown = Text(f"{clock.time(line.at)} {level_name(line.level):5} ", style="dim")
    if stage:
        shown.append(f"{printable(stage)}: ", style="dim")
    shown.append(printable_lines(line.text)[0], style=level_style(line.level))
    shown.no_wrap, shown.overflow = True, "ellipsis"
    return shown


def headline(run: Run, clock: Clock, output: Output) -> Text:
    """Return `example.census 1f9f7a2e · ◐ running 12 s`; on a narrow terminal the state comes first."""
    task = printable(run.task or "(unknown task)")
    state = f"{output.sign(run.state)} {printable(run.state)}"
    tail = _tail(run, clock)
    if output.width < _NO_BAR_BELOW + _FRAME_COLUMNS:
        left = max(10, output.width - len(state) - len(tail) - 11)
        return Text.assemble((state, look(run.state).style), tail, " · ", (shorten_left(task, left), "bold"))
    return Text.assemble(
        (task, "bold"), " ", (run.short_id, "dim"), " · ", (state, look(run.state).style), tail
    )


def run_panel(snapshot: Snapshot, clock: Clock, output: Output, *, hint: str = "") -> RenderableType:
    """Return the live picture of a run, no higher than the terminal."""
    width = min(output.width, _WIDEST) - _FRAME_COLUMNS
    room = max(6, output.height - 4)
    found = groups(snapshot.children)
    stages = {stage.number: stage.name for stage in snapshot.stages}
    lines = snapshot.lines[-_log_rows(room) :]
    log = [log_text(line, clock, stages.get(line.stage or 0, "")) for line in lines]
    bars = stage_bars(snapshot.stages, now=clock.now)
    said = {one.message for one in bars}
    words = "" if width >= _MESSAGE_FROM and snapshot.run.message in said else snapshot.run.message or ""
    parts: list[RenderableType] = [_total(snapshot.run, words, width, output), *_trouble(snapshot.run)]
    rest = room - 1 - len(log) - min(len(found), 8) - 3
    if bars:
        parts += ["", stage_table(fit(bars, max(3, rest)), width=width, output=output)]
    if found:
        parts += ["", group_table(found[:8], width=width, output=output, more=snapshot.more_children)]
    if log:
        parts += ["", *log]
    news = _news(snapshot, clock)
    has_ended = snapshot.run.state in ENDS
    return Panel(
        Stack(*parts),
        box=box.ROUNDED,
        border_style=look(snapshot.run.state).style if has_ended else "dim",
        title=headline(snapshot.run, clock, output),
        title_align="left",
        subtitle=None if has_ended and not news else Text(news or hint, style="yellow" if news else "dim"),
        subtitle_align="left",
        width=width + _FRAME_COLUMNS,
    )


def _total(run: Run, message: str, width: int, output: Output) -> RenderableType:
    """The run's own line: percent and bar, or what the task last said."""
    words = printable(message)
    percent = run.percent if run.state != "succeeded" else 100.0
    if percent is None:
        return Text(words or printable(amount(run.current, run.total, run.unit)) or " ", style="dim")
    table = _grid()
    cells: list[RenderableType] = [Text(f"{int(percent):3} %", style="bold")]
    if width >= _NO_BAR_BELOW // 2:
        cells.append(bar(percent / 100, run.state, min(width - 8, 60 if words else width - 8)))
    if words and width >= _MESSAGE_FROM:
        cells.append(Text(words, style="dim", no_wrap=True, overflow="ellipsis"))
    table.add_row(*cells)
    return table


def _trouble(run: Run) -> list[RenderableType]:
    """The error of a run that is retried or has ended badly, as one line."""
    if not run.error or run.state in ("running", "succeeded"):
        return []
    message = f"{run.error.get('type') or 'Error'}: {run.error.get('message') or ''}"
    shown = printable(message.strip().split("\n")[0])
    return [Text(f" {shown}", style=look(run.state).style, no_wrap=True, overflow="ellipsis")]


def _stage_cells(row: StageBar, width: int, output: Output, indent: str) -> list[RenderableType]:
    quiet = "dim" if row.state in ("planned", "skipped") else ""
    name = printable(indented(row))
    limit = max(10, width // 3)
    cells: list[RenderableType] = [
        _signed(row.state, shorten(name, limit), output, style=quiet, indent=indent)
    ]
    if width >= _NO_BAR_BELOW and not output.is_plain:
        cells.append(bar(row.fraction, row.state, _bar_width(width)) if row.state != "planned" else "")
    elapsed = span(row.elapsed, whole=row.state == "running") if row.elapsed is not None else ""
    cells.append(Text(printable(row.amount) or (row.state if row.state == "skipped" else ""), style=quiet))
    cells.append(Text(elapsed, style="dim", justify="right"))
    if width >= _MESSAGE_FROM:
        cells.append(Text(printable(row.message), style="dim", no_wrap=True, overflow="ellipsis"))
    return cells


def _grid() -> Table:
    return Table(box=None, show_header=False, show_edge=False, padding=(0, 2, 0, 0), pad_edge=False)


def _signed(state: str, text: str, output: Output, *, style: str = "", indent: str = "") -> Text:
    return Text.assemble(indent, (output.sign(state), look(state).style), " ", (text, style))


def _counts(group: Group, output: Output) -> Text:
    shown = Text(no_wrap=True, overflow="ellipsis")
    for state, number in group.states.items():
        shown.append(f"{number} {output.sign(state)}  ", style=look(state).style)
    return shown


def _bar_width(width: int) -> int:
    return 16 if width < 80 else 28 if width < 120 else 40


def _tail(run: Run, clock: Clock) -> str:
    """What follows the state: since when, or how long it took."""
    if run.state == "running" and run.started_at is not None:
        tail = f" {span(clock.now - run.started_at, whole=True)}"
    elif run.state in ("queued", "retrying"):
        since = run.queued_at if run.state == "queued" else run.started_at
        tail = f" {span(clock.now - since, whole=True)}" if since is not None else ""
    else:
        tail = f" in {span(run.runtime)}" if run.runtime is not None else ""
    # A task that replaced itself goes on in another attempt, which is no second try.
    is_retry = run.attempt > 1 and (run.retries > 0 or not run.replaced)
    return tail + (f" · attempt {run.attempt}" if is_retry else "")


def _news(snapshot: Snapshot, clock: Clock) -> str:
    if snapshot.trouble:
        return f"{printable(snapshot.trouble)}; this is what was known"
    if snapshot.run.state in ENDS or snapshot.as_of is None or clock.now - snapshot.as_of < _BEHIND:
        return ""
    return f"the last news came {span(clock.now - snapshot.as_of, whole=True)} ago"


def _log_rows(room: int) -> int:
    return 3 if room < 16 else 5 if room < 30 else 8
