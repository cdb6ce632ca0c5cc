"""`celery plet objectives`: what is promised of tasks, and whether it is kept.

Exit codes: 0 all that is known is kept, 1 a promise is broken, 69 it cannot be told: no pass in time.
"""

from __future__ import annotations

from typing import Any, Final

import click
from rich.table import Table
from rich.text import Text

from plet_celery.cli.alerts import late_text
from plet_celery.cli.command import BAD, UNAVAILABLE, View, command
from plet_celery.cli.runs import write_json
from plet_celery.monitor import book
from plet_celery.monitor.wording import share, span
from plet_celery.store import watching
from plet_celery.store.promises import ObjectiveStatus, list_objectives
from plet_celery.store.records import iso
from plet_celery.store.watching import LastPass
from plet_celery.terminal.look import look
from plet_celery.terminal.text import printable

_ORDER: Final = {"broken": 0, "no_data": 1, "new": 2, "kept": 3}
_TIMES: Final = ("since", "first_seen_at", "seen_at")


@command("objectives")
@click.option("--task", metavar="T", help="Only those of this task; `shop.*` for all that start so.")
def objectives(view: View, *, task: str | None) -> None:
    """List promises about time and success, broken ones first.

    Exit codes: 1 one is broken, 69 the monitor has not passed in time, so that nothing is known; else 0.
    """
    store = view.project.store()
    every = list_objectives(store, now=view.clock.now)
    found = [one for one in every if _is_of(one, task)]
    found.sort(key=lambda one: (_ORDER.get(one.state, 1), one.task, one.id))
    passed = watching.last_pass(store)
    is_late = book.is_late(passed, view.project.places.settings.monitor_interval)
    if view.output.as_json:
        for one in found:
            write_json(view, to_json(one))
    elif found:
        _draw(view, found)
    else:
        view.output.line(printable(_why_none(view, task if every else None, passed)))
    if is_late and found:
        click.echo(late_text(view, passed.passed_at), err=True)
    broken = any(one.state == "broken" for one in found)
    # Before the first pass nobody has said what is promised.
    is_unknown = is_late and (found or passed.passed_at is None)
    raise SystemExit(BAD if broken else UNAVAILABLE if is_unknown else 0)


def to_json(one: ObjectiveStatus) -> dict[str, Any]:
    """Return a promise as JSON values; the shape is in docs/json.md."""
    values = {name: getattr(one, name) for name in one.__struct_fields__}
    for name in _TIMES:
        values[name] = iso(values[name]) if values[name] is not None else None
    return values


def _is_of(one: ObjectiveStatus, task: str | None) -> bool:
    if task is None:
        return True
    return one.task.startswith(task[:-1]) if task.endswith("*") else one.task == task


def _why_none(view: View, task: str | None, passed: LastPass) -> str:
    if task is not None:
        return f"no promise of a task that matches {task!r}"
    if passed.passed_at is None:
        return f"no pass has been made yet: start beat, or {view.project.prefix} monitor --once"
    return "no task promises anything: give one objectives=[…], or set plet_objectives"


def _draw(view: View, found: list[ObjectiveStatus]) -> None:
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("STATE", "TASK", "PROMISE", "KEPT", "BUDGET", "SEEN", "SOURCE"):
        table.add_column(name, no_wrap=name in ("STATE", "KEPT", "BUDGET"), overflow="fold")
    for one in found:
        kept = f"{share(one.compliance)} in {span(one.window)}" if one.compliance is not None else "–"
        left = one.budget_left
        budget = "–" if left is None else "overdrawn" if left < 0 else share(left)
        table.add_row(
            Text(f"{view.output.sign(one.state)} {one.state}", style=look(one.state).style),
            Text(printable(one.task)),
            Text(printable(one.limit)),
            Text(kept),
            Text(budget, style="red" if left is not None and left <= 0 else ""),
            Text(printable(one.value)),
            Text(printable("code" if one.source in ("", "task") else f"plet_objectives {one.source!r}")),
        )
    view.output.draw(table)
