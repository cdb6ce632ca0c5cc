"""`celery plet runs`: the list of runs, newest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from plet_celery.cli.command import View, Wrong, command
from plet_celery.cli.options import Pair, Since
from plet_celery.events import RunState
from plet_celery.store import Store, queries, records
from plet_celery.terminal.bars import amount
from plet_celery.terminal.look import ENDS, look
from plet_celery.terminal.picture import state_text
from plet_celery.terminal.text import printable, short_span, shorten, shorten_left

if TYPE_CHECKING:
    from plet_celery.store.records import Run

_PAGE = 500
_COUNTED_TO = 1000
# Below these widths a column costs more than it tells.
_WIDE, _MEDIUM, _SMALL = 110, 76, 56


@dataclass(frozen=True)
class Filters:
    """Which runs are asked for."""

    states: tuple[str, ...] = ()
    task: str | None = None
    meta: Mapping[str, str] | None = None
    since: float | None = None

    @property
    def any(self) -> bool:
        """Tell whether anything narrows the list."""
        return bool(self.states or self.task or self.meta or self.since is not None)

    def page(self, store: Store, *, limit: int, after: str | None = None) -> Any:
        """Return one page of runs."""
        return queries.list_runs(
            store,
            states=self.states,
            task=self.task,
            meta=self.meta,
            since=self.since,
            limit=limit,
            after=after,
        )


@command("runs")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(list(RunState)),
    metavar="S",
    help="Only runs in this state.",
)
@click.option("--task", metavar="T", help="Only runs of this task; `shop.*` for all that start so.")
@click.option("--meta", multiple=True, type=Pair(), metavar="K=V", help="Only runs with this metadata.")
@click.option("--since", type=Since(), metavar="2h", help="Only runs that started after this.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@click.option("--after", metavar="CURSOR", help="Go on where the last list ended.")
@click.option("-w", "--watch", is_flag=True, help="Keep the list up to date until Ctrl-C.")
def runs(
    view: View,
    *,
    states: tuple[str, ...],
    task: str | None,
    meta: tuple[tuple[str, str], ...],
    since: float | None,
    limit: int,
    after: str | None,
    watch: bool,
) -> None:
    """List runs, newest first."""
    filters = Filters(states, task, dict(meta) or None, since)
    if watch:
        from plet_celery.cli.live import follow_list

        if after:
            raise Wrong("--watch shows the newest runs; it cannot be combined with --after")
        follow_list(view, filters, limit=limit)
        return
    store = view.project.store()
    found: list[Run] = []
    cursor = after
    for page in _pages(store, filters, limit, after):
        cursor = page.next
        if view.output.as_json:
            print_json(view, page.items)
        else:
            found.extend(page.items)
    if not view.output.as_json:
        _print_list(view, store, filters, found)
    if cursor and (view.output.as_json or not view.output.is_terminal):
        click.echo(f"more: --after {cursor}", err=True)
    elif cursor:
        view.output.line(f"older ones: --after {cursor}")


def print_json(view: View, items: list[Run]) -> None:
    """Write each run as one JSON line."""
    for run in items:
        write_json(view, records.to_json(run))


def write_json(view: View, value: dict[str, Any]) -> None:
    """Write one object; an unknown name in `--fields` is a usage error that lists the known ones."""
    unknown = [name for name in view.fields if name not in value]
    if unknown:
        raise Wrong(f"--fields: there is no {unknown[0]!r}; known are {', '.join(value)}")
    view.output.json(value, view.fields)


def table(view: View, items: list[Run]) -> Table:
    """Return runs as rows, with as many columns as the width allows."""
    width = view.output.width
    shown = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    names = ["RUN", "TASK", "STATE", "PROGRESS", "STARTED", "TOOK", "ERROR"]
    if width < _WIDE:
        names = ["RUN", "TASK", "STATE", "DETAIL", "STARTED", "TOOK"]
    if width < _MEDIUM:
        names = ["RUN", "TASK", "STATE", "DETAIL", "TOOK"]
    if width < _SMALL:
        names = ["RUN", "TASK", "STATE"]
    for name in names:
        last = name == names[-1] and name in ("ERROR", "TASK")
        shown.add_column(
            name,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if name == "TOOK" else "left",
            ratio=1 if last else None,
        )
    for run in items:
        cells = _cells(view, run, width)
        shown.add_row(*(cells[name] for name in names))
    return shown


def detail(run: Run) -> str:
    """Return what a run is at, or why it ended badly."""
    return error_line(run) if run.state in ENDS and run.error else progress(run)


def progress(run: Run) -> str:
    """Return `parse  412/668 files  62 %`, as far as known; a dash for nothing."""
    parts = [] if run.state == "succeeded" else [printable(run.stage or "")]
    parts.append(
        amount(run.current, run.total, printable(run.unit or "")) if run.state != "succeeded" else ""
    )
    if run.percent is not None and run.state not in ENDS:
        parts.append(f"{int(run.percent)} %")
    return "  ".join(part for part in parts if part) or "–"


def error_line(run: Run) -> str:
    """Return the first line of the error, or the reason."""
    if run.error:
        kind, message = run.error.get("type") or "Error", str(run.error.get("message") or "")
        first = message.strip().split("\n")[0]
        return printable(f"{kind}: {first}" if first else str(kind))
    return printable(run.reason or "") if run.state in ENDS and run.state != "succeeded" else ""


def took(run: Run, now: float) -> float | None:
    """Return the run's duration so far."""
    if run.runtime is not None:
        return run.runtime
    if run.started_at is None:
        return None
    return (run.ended_at or now) - run.started_at


def _cells(view: View, run: Run, width: int) -> dict[str, Text]:
    clock = view.clock
    pipe = not view.output.is_terminal
    at = run.started_at or run.queued_at
    started = "" if at is None else f"{clock.full(at)} ({clock.ago(at)})" if pipe else clock.ago(at)
    tight = not pipe
    task = printable(run.task or "(unknown)")
    return {
        "RUN": Text(printable(run.id) if pipe else run.short_id, style="dim"),
        "TASK": Text(shorten_left(task, max(12, width // 3)) if tight else task),
        "STATE": state_text(run.state, view.output),
        "PROGRESS": Text(progress(run)),
        "DETAIL": Text(shorten(detail(run), max(8, width - 60)) if tight else detail(run)),
        "STARTED": Text(started, style="dim"),
        "TOOK": Text(short_span(took(run, clock.now))),
        "ERROR": Text(error_line(run), style="red" if look(run.state).style == "red" else "dim"),
    }


def _pages(store: Store, filters: Filters, limit: int, after: str | None) -> Iterator[Any]:
    left = limit
    while left > 0:
        page = filters.page(store, limit=min(left, _PAGE), after=after)
        yield page
        left -= len(page.items)
        after = page.next
        if not after:
            return


def _print_list(view: View, store: Store, filters: Filters, found: list[Run]) -> None:
    if not found:
        for line in _nothing(view, store, filters):
            view.output.line(line)
        return
    view.output.draw(table(view, found))
    if view.output.is_terminal:
        view.output.draw(Text(_footer(store, filters, len(found)), style="dim"))


def _footer(store: Store, filters: Filters, shown: int) -> str:
    if filters.any:
        return f"{shown} {'run' if shown == 1 else 'runs'} that match · newest first"
    counts = queries.count_runs_by_state(store)
    total = sum(counts.values())
    more = "+" if any(number >= _COUNTED_TO for number in counts.values()) else ""
    return f"{shown} of {total}{more} · newest first"


def _nothing(view: View, store: Store, filters: Filters) -> list[str]:
    if filters.any and filters.__class__().page(store, limit=1).items:
        return [f"no run matches; all runs: {view.project.prefix} runs"]
    return first_steps(view)


def first_steps(view: View) -> list[str]:
    """Return what to say where nothing is recorded yet: the three lines that create the first run."""
    name = view.project.name
    task = next(
        (task for task in sorted(view.project.app.tasks) if not task.startswith("celery.")), f"{name}.TASK"
    )
    return [
        f"no runs yet in {view.project.places.masked_url}; these three lines create the first one:",
        "",
        "  plet = Plet(app)" + " " * 24 + "# from plet_celery import Plet; below app = Celery(…)",
        f"  celery -A {name} worker",
        f"  celery -A {name} call {printable(task)}",
    ]
