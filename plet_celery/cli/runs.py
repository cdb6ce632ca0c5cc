"""`celery plet runs`: the list of runs, newest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from plet_celery.cli.command import View, Wrong, command
from plet_celery.cli.options import Pair, Since
from plet_celery.cli.table import draw_runs
from plet_celery.events import RunState
from plet_celery.store import Store, queries, records
from plet_celery.terminal.text import printable

if TYPE_CHECKING:
    from plet_celery.store.records import Run

_PAGE = 500


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
    type=click.Choice([state.value for state in RunState]),
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
    if view.output.is_terminal and not view.output.as_json:
        _print_list(view, store, filters, found)
        _print_footer(view, store, filters, len(found), cursor, paged=after is not None)
        return
    if not view.output.as_json:
        _print_list(view, store, filters, found)
    if cursor:
        click.echo(f"more: --after {cursor}", err=True)


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
    if found:
        draw_runs(view, found)
        return
    for line in _nothing(view, store, filters):
        view.output.line(line)


def _print_footer(
    view: View, store: Store, filters: Filters, shown: int, cursor: str | None, *, paged: bool
) -> None:
    if not shown:
        return
    if filters.any:
        text = f"{shown} {'run' if shown == 1 else 'runs'} that match"
    else:
        counts = queries.count_runs_by_state(store)
        bounded = "+" if any(number >= queries.COUNT_MAX for number in counts.values()) else ""
        text = f"{shown} of {sum(counts.values())}{bounded}"
    # A cursor is long and no pleasure to read: only who goes from page to page gets to see it.
    if cursor and (paged or shown >= _PAGE):
        more = f" · more: --after {cursor}"
    else:
        more = f" · more: --limit {2 * shown}" if cursor else ""
    view.output.draw(Text(f"{text} · newest first{more}", style="dim"))


def _nothing(view: View, store: Store, filters: Filters) -> list[str]:
    if filters.any and filters.__class__().page(store, limit=1).items:
        return [f"no run matches; all runs: {view.project.prefix} runs"]
    return first_steps(view)


def first_steps(view: View) -> list[str]:
    """Return what to say where nothing is recorded yet: the three lines that create the first run."""
    name = printable(view.project.name)
    tasks = (task for task in sorted(view.project.app.tasks) if not task.startswith(("celery.", "plet.")))
    return [
        f"no runs yet in {printable(view.project.places.masked_url)}; three lines create the first one:",
        "",
        "  plet = Plet(app)" + " " * 24 + "# from plet_celery import Plet; below app = Celery(…)",
        f"  celery -A {name} worker",
        f"  celery -A {name} call {printable(next(tasks, f'{name}.TASK'))}",
    ]
