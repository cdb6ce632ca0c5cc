"""The table of runs: which columns a width has room for, and how each is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from plet_celery.cli.command import View
from plet_celery.terminal.bars import amount
from plet_celery.terminal.look import ENDS, look
from plet_celery.terminal.picture import state_text
from plet_celery.terminal.text import error_line, printable, short_span

if TYPE_CHECKING:
    from plet_celery.store.records import Run

_GAP: Final = 2
_FLEXIBLE: Final = {"TASK": 0.4, "PROGRESS": 0.5, "DETAIL": 1.0, "ERROR": 1.0}
"""Columns that are cut, with the share of what is left for them; an id or a state is never cut."""
_WIDE: Final = 140
"""From here on there is room for absolute times too."""
_RIGHT: Final = frozenset({"TOOK"})
_LAYOUTS: Final = (
    (110, ("RUN", "TASK", "STATE", "PROGRESS", "STARTED", "TOOK", "ERROR")),
    (76, ("RUN", "TASK", "STATE", "DETAIL", "STARTED", "TOOK")),
    (56, ("RUN", "TASK", "STATE", "DETAIL", "TOOK")),
    (0, ("RUN", "STATE", "TASK")),
)
"""From how many columns on which are shown. DETAIL is the progress, or the error of what went wrong."""


def draw_runs(view: View, runs: list[Run]) -> None:
    """Write runs as rows, fitted to the width; in a pipe nothing is cut."""
    names, rows, widths = _laid_out(view, runs)
    if not view.output.is_plain:
        view.output.draw(_table(names, rows, widths))
        return
    # By hand: rich takes 3 ms a row, and a pipe may want ten thousand.
    for row in [{name: Text(name) for name in names}, *rows]:
        view.output.line("  ".join(_padded(row[name].plain, widths[name], name) for name in names).rstrip())


def _laid_out(view: View, runs: list[Run]) -> tuple[tuple[str, ...], list[dict[str, Text]], dict[str, int]]:
    """Return the columns that there is room for, the rows cut to them, and their widths."""
    width = view.output.width
    names = next(names for least, names in _LAYOUTS if width >= least)
    rows = [_cells(view, run, names) for run in runs]
    widths = _widths(names, rows, width)
    for row in rows:
        for name in _FLEXIBLE.keys() & row.keys():
            row[name] = _cut(row[name], widths[name], from_left=name == "TASK")
    return names, rows, widths


def _table(names: tuple[str, ...], rows: list[dict[str, Text]], widths: dict[str, int]) -> Table:
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for name in names:
        side: Literal["left", "right"] = "right" if name in _RIGHT else "left"
        table.add_column(name, no_wrap=True, width=widths[name], justify=side)
    for row in rows:
        table.add_row(*(row[name] for name in names))
    return table


def _padded(text: str, width: int, name: str) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if name in _RIGHT else text + blanks


def shown_id(view: View, run: Run) -> str:
    """Return a run's short id for people; in a pipe all of it."""
    return run.short_id if view.output.is_terminal else printable(run.id)


def detail(run: Run) -> str:
    """Return what a run is at, or why it ended badly."""
    return reason_line(run) or progress(run)


def progress(run: Run) -> str:
    """Return `parse  412/668 files  62 %`, as far as known; a dash for nothing.

    A run that sampling lets stand for others shows how many: `×100`.
    """
    if run.state in ("queued", "succeeded"):
        return f"×{run.weight}" if run.weight > 1 else "–"
    parts = [printable(run.stage or ""), amount(run.current, run.total, printable(run.unit or ""))]
    if run.percent is not None and run.state not in ENDS:
        parts.append(f"{int(run.percent)} %")
    return "  ".join(part for part in parts if part) or "–"


def reason_line(run: Run) -> str:
    """Return the first line of the error, or the reason, of a run that did not succeed."""
    if run.error:
        return error_line(run.error)
    return printable(run.reason or "") if run.state in ENDS and run.state != "succeeded" else ""


def silence(view: View, run: Run) -> str:
    """Return since when the host of a running run is not heard of; empty while it is."""
    if run.unreachable_since is None:
        return ""
    return f"host unreachable since {view.clock.time(run.unreachable_since)}"


def took(run: Run, now: float) -> float | None:
    """Return the run's duration so far."""
    if run.runtime is not None:
        return run.runtime
    if run.started_at is None:
        return None
    return max(0.0, (run.ended_at or now) - run.started_at)


def _cells(view: View, run: Run, names: tuple[str, ...]) -> dict[str, Text]:
    makers = {
        "RUN": lambda: Text(shown_id(view, run), style="dim"),
        "TASK": lambda: Text(printable(run.task or "(unknown)")),
        "STATE": lambda: state_text(run.state, view.output),
        "PROGRESS": lambda: Text(silence(view, run) or progress(run), style=_tone(run)),
        "DETAIL": lambda: Text(silence(view, run) or detail(run), style=_tone(run)),
        "STARTED": lambda: Text(_started(view, run), style="dim"),
        "TOOK": lambda: Text(short_span(took(run, view.clock.now))),
        "ERROR": lambda: Text(reason_line(run), style=_tone(run)),
    }
    return {name: makers[name]() for name in names}


def _tone(run: Run) -> str:
    if run.unreachable_since is not None:
        return "yellow"
    return "red" if run.error and look(run.state).style == "red" else ""


def _started(view: View, run: Run) -> str:
    at = run.started_at or run.queued_at
    if at is None:
        return ""
    ago = view.clock.ago(at)
    if not view.output.is_terminal:
        return f"{view.clock.full(at)} ({ago})"
    return ago if view.output.width < _WIDE else f"{ago} · {view.clock.time(at)}"


def _widths(names: tuple[str, ...], rows: list[dict[str, Text]], width: int) -> dict[str, int]:
    """Return each column's width: what it needs, the flexible ones within what is left."""
    needed = {name: max([len(name), *(row[name].cell_len for row in rows)]) for name in names}
    flexible = [name for name in names if name in _FLEXIBLE]
    left = width - _GAP * (len(names) - 1) - sum(needed[name] for name in names if name not in flexible)
    # Who needs less than its share leaves the rest to those after it; the last one is the least sure.
    spare = left - sum(needed[name] for name in flexible)
    for name in flexible:
        if spare < 0:
            share = max(8, int(left * _FLEXIBLE[name])) if name != flexible[-1] else max(8, left)
            needed[name] = min(needed[name], share)
        left -= needed[name]
    return needed


def _cut(text: Text, width: int, *, from_left: bool) -> Text:
    if text.cell_len <= width:
        return text
    if not from_left:
        text.truncate(width, overflow="ellipsis")
        return text
    # The end of a dotted name is what tells it apart.
    plain = text.plain
    while cell_len(plain) > width - 1:
        plain = plain[1:]
    return Text(set_cell_size("…" + plain, width).rstrip(), style=text.style)
