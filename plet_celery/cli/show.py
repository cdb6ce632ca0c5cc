"""`celery plet show`: everything about one run on one screen, the error first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from plet_celery.cli.command import View, command
from plet_celery.cli.observe import CHILDREN_MAX, child_runs
from plet_celery.cli.runs import write_json
from plet_celery.cli.table import shown_id
from plet_celery.store import Store, queries, records
from plet_celery.terminal.bars import fit, groups, stage_bars
from plet_celery.terminal.look import look
from plet_celery.terminal.picture import group_table, headline, stage_table, state_text
from plet_celery.terminal.text import printable, printable_lines, short_span, span

if TYPE_CHECKING:
    from plet_celery.store.records import Attempt, EventRow, Measure, Run

_STAGES_SHOWN = 25
_EVENTS = 200
_VALUE_CHARACTERS = 300
_EVENT_FACTS = (
    *("worker", "pid", "retries", "name", "stage", "done", "total", "elapsed", "by", "reason", "signal"),
    *(
        "exitcode",
        "limit",
        "seconds",
        "when",
        "terminated",
        "expires",
        "requeue",
        "replaced",
        "how",
        "upstream",
    ),
)


@command("show")
@click.argument("run", metavar="RUN")
@click.option("--stages", "all_stages", is_flag=True, help="Every stage, of every attempt.")
@click.option("--events", is_flag=True, help="What happened, in order.")
def show(view: View, *, run: str, all_stages: bool, events: bool) -> None:
    """Show one run: stages, error, metadata, attempts.

    RUN is the id, any unique prefix of it, @last or @last-failed.
    """
    store = view.project.store()
    run_id = queries.resolve_run(store, run)
    if view.output.as_json:
        _print_json(view, store, run_id, all_stages=all_stages, events=events)
        return
    found = queries.get_run(store, run_id)
    attempts = queries.attempts(store, run_id)
    _head(view, found)
    _error(view, found)
    _stages(view, store, found, attempts, everything=all_stages)
    _mapping(view, "Metadata", found.metadata)
    _mapping(view, "Measures", {one.name: _series(one) for one in queries.measures(store, run_id)})
    _arguments(view, found)
    if len(attempts) > 1:
        _attempts(view, attempts)
    _children(view, store, found)
    if events:
        _events(view, store, run_id)
    _where_next(view, found)


def _print_json(view: View, store: Store, run_id: str, *, all_stages: bool, events: bool) -> None:
    value = records.to_json(queries.get_run(store, run_id))
    if all_stages:
        value["stages"] = [records.to_json(stage) for stage in queries.stages(store, run_id)]
    if events:
        value["events"] = [
            records.to_json(event) for event in queries.run_events(store, run_id, limit=_EVENTS)
        ]
    write_json(view, value)


def _silence(view: View, run: Run) -> str:
    if run.unreachable_since is None:
        return ""
    return (
        f"{printable(run.host or '')} is unreachable since {view.clock.both(run.unreachable_since)}".strip()
    )


def _head(view: View, run: Run) -> None:
    clock = view.clock
    view.output.draw(headline(run, clock, view.output))
    facts = {
        "run": printable(run.id),
        "queued": clock.both(run.queued_at) if run.started_at is None else "",
        "started": clock.both(run.started_at),
        "ended": clock.both(run.ended_at),
        "waited": span(run.waited) if run.waited is not None else "",
        "attempt": f"{run.attempt} of {run.attempts}" if (run.attempts or 0) > 1 else "",
        "worker": printable(run.worker or ""),
        "host": _silence(view, run),
        "queue": printable(run.queue or ""),
        "trigger": printable(run.trigger or ""),
        "user": printable(run.user or ""),
        "tenant": printable(run.tenant or ""),
        "parent": printable(run.parent_id or ""),
        "reason": printable(run.reason or ""),
        "sampled": f"stands for {run.weight} runs of this task" if run.weight > 1 else "",
        "dropped": f"{run.dropped} events, by a limit" if run.dropped else "",
    }
    grid = _grid()
    for name, value in facts.items():
        if value:
            grid.add_row(Text(f"  {name}", style="dim"), Text(value))
    view.output.draw(grid)


def _error(view: View, run: Run) -> None:
    if not run.error:
        return
    _title(view, "Error")
    kind, message = str(run.error.get("type") or "Error"), str(run.error.get("message") or "")
    first, *rest = printable_lines(f"{kind}: {message}" if message else kind)
    view.output.draw(Text("\n".join([f"  {first}", *(f"    {line}" for line in rest)]), style="red"))
    own = [frame for frame in _frames(run.error) if frame.get("own")]
    if own:
        at = own[-1]
        where = f"{at.get('file')}:{at.get('line')} in {at.get('function')}"
        view.output.draw(Text(f"  at {printable(where)}", style="bold"))
    trace = str(run.error.get("traceback") or "")
    if trace.strip():
        view.output.draw(Text("\n".join(f"  {line}" for line in printable_lines(trace)), style="dim"))


def _frames(error: dict[str, Any]) -> Iterable[dict[str, Any]]:
    frames = error.get("frames")
    return [frame for frame in frames if isinstance(frame, dict)] if isinstance(frames, list) else []


def _stages(view: View, store: Store, run: Run, attempts: Sequence[Attempt], *, everything: bool) -> None:
    shown = list(attempts) if everything else list(attempts[-1:])
    for attempt in shown:
        bars = stage_bars(queries.stages(store, run.id, attempt.id), now=view.clock.now)
        if not bars:
            continue
        _title(view, f"Stages of attempt {attempt.number}" if len(shown) > 1 else "Stages")
        rows = fit(bars, len(bars) if everything else _STAGES_SHOWN)
        table = stage_table(rows, width=view.output.width - 2, output=view.output, indent="  ")
        view.output.draw(table)
        if len(rows) < len(bars):
            view.output.draw(Text("  all of them: show --stages", style="dim"))


def _mapping(view: View, title: str, values: dict[str, Any] | None) -> None:
    if not values:
        return
    _title(view, title)
    grid = _grid()
    for key, value in values.items():
        grid.add_row(Text(f"  {printable(key)}", style="dim"), Text(_value(value)))
    view.output.draw(grid)


def _series(measure: Measure) -> str:
    """Return `0.03, 12 points from 0.01 to 0.2`."""
    values = [point.value for point in measure.points]
    if len(values) < 2:
        return ", ".join(f"{value:g}" for value in values)
    return f"{values[-1]:g}, {len(values)} points from {min(values):g} to {max(values):g}"


def _arguments(view: View, run: Run) -> None:
    shown: dict[str, Any] = {}
    for number, value in enumerate(run.args if isinstance(run.args, list) else []):
        shown[f"[{number}]"] = value
    if isinstance(run.kwargs, dict):
        shown |= run.kwargs
    _mapping(view, "Arguments", shown)
    if run.result is not None:
        _mapping(view, "Result", run.result if isinstance(run.result, dict) else {"value": run.result})


def _attempts(view: View, attempts: Sequence[Attempt]) -> None:
    _title(view, "Attempts")
    grid = _grid()
    for one in attempts:
        grid.add_row(
            Text(f"  {one.number}", style="dim"),
            state_text(one.state, view.output),
            Text(view.clock.ago(one.started_at), style="dim"),
            Text(short_span(one.runtime), justify="right"),
            Text(_attempt_reason(one), style=look(one.state).style),
        )
    view.output.draw(grid)


def _attempt_reason(attempt: Attempt) -> str:
    if attempt.error:
        first = str(attempt.error.get("message") or "").strip().split("\n")[0]
        return printable(f"{attempt.error.get('type')}: {first}")
    return printable(attempt.reason or "")


def _children(view: View, store: Store, run: Run) -> None:
    children = child_runs(run, queries.children(store, run.id, limit=CHILDREN_MAX))
    if not children:
        return
    _title(view, "Child runs")
    found, more = groups(children), len(children) >= CHILDREN_MAX
    width = view.output.width - 2
    view.output.draw(group_table(found, width=width, output=view.output, more=more, indent="  "))
    bad = [child for child in children if child.state in ("failed", "timed_out", "lost")]
    for child in bad[:5]:
        line = Text("  ")
        line.append_text(state_text(child.state, view.output)).append(
            f" {shown_id(view, child)}  ", style="dim"
        )
        message = (child.error or {}).get("message") or child.reason or ""
        line.append(printable(str(message).split("\n")[0]), style="red")
        line.no_wrap, line.overflow = True, "ellipsis"
        view.output.draw(line)


def _events(view: View, store: Store, run_id: str) -> None:
    _title(view, "Events")
    found = queries.run_events(store, run_id, limit=_EVENTS)
    wide = max((len(event.kind) for event in found), default=0)
    for event in found:
        line = Text.assemble(
            (f"  {view.clock.stamp(event.at)}  ", "dim"),
            f"{printable(event.kind):{wide}}  ",
            _event_text(event),
        )
        line.no_wrap, line.overflow = True, "ellipsis"
        view.output.draw(line)


def _event_text(event: EventRow) -> str:
    """Return what an event says beyond its kind: its text, its error, or a few of its fields."""
    if event.text:
        return printable(event.text)
    facts = [f"{name} {_value(event.data[name])}" for name in _EVENT_FACTS if name in event.data]
    error = event.data.get("error")
    if isinstance(error, dict):
        facts.append(f"{error.get('type')}: {str(error.get('message') or '').strip()}")
    return printable(", ".join(facts))


def _where_next(view: View, run: Run) -> None:
    if not run.log_lines or view.output.is_plain:
        return
    lines = "line" if run.log_lines == 1 else "lines"
    view.output.line()
    text = f"{run.log_lines} {lines} of log: {view.project.prefix} logs {run.short_id}"
    view.output.draw(Text(text, style="dim"))


def _title(view: View, text: str) -> None:
    view.output.line()
    view.output.draw(Text(text, style="bold"))


def _grid() -> Table:
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return printable(text if len(text) <= _VALUE_CHARACTERS else text[:_VALUE_CHARACTERS] + "…")
