"""`celery plet watch`: follow a run until it ends, and leave with its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import click

from plet_celery.cli.command import BAD, INTERRUPTED, Command, View, Wrong, command
from plet_celery.cli.live import follow_list, picture
from plet_celery.cli.observe import follow, newest_of, resolve_soon
from plet_celery.cli.runs import Filters, write_json
from plet_celery.cli.table import reason_line, shown_id
from plet_celery.events import RunState
from plet_celery.store import Store, records
from plet_celery.store.records import Run
from plet_celery.terminal.bars import StageBar, stage_bars
from plet_celery.terminal.look import ENDS, look
from plet_celery.terminal.picture import Snapshot, run_panel
from plet_celery.terminal.text import printable, span

_ACTIVE = (RunState.QUEUED, RunState.RUNNING, RunState.RETRYING)
_LIST_MAX = 100
_HINT = "Ctrl-C leaves; the run goes on"


class WatchCommand(Command):
    """A watch that nobody reads any more knows no outcome."""

    closed_code = INTERRUPTED


@command("watch", cls=WatchCommand)
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--task", metavar="T", help="The newest run of this task.")
def watch(view: View, *, run: str | None, task: str | None) -> None:
    """Follow a run with live bars; leave with its outcome.

    Without RUN: all that is queued or running, until Ctrl-C. In a pipe: one line a change.
    """
    if run and task:
        raise Wrong("give RUN or --task, not both")
    if not run and not task:
        follow_list(view, Filters(states=_ACTIVE), limit=_LIST_MAX, active_only=True)
    store = view.project.store()
    run_id = resolve_soon(store, run) if run else newest_of(store, task or "")
    raise SystemExit(0 if watch_run(view, store, run_id).state == RunState.SUCCEEDED else BAD)


def watch_run(
    view: View, store: Store, run_id: str, *, check: Callable[[], None] = lambda: None, hint: str = _HINT
) -> Run:
    """Show a run until it has ended: bars, lines or JSON; return its last record.

    Args:
        check: called at every look; what it raises ends the watch.
        hint: what the picture says about Ctrl-C.
    """
    drawn = not view.output.is_plain
    looks = _checked(follow(store, view.project.places, run_id, with_lines=drawn), check)
    if view.output.as_json:
        run = _stream(view, looks)
    elif not drawn:
        run = _tell(view, looks)
    else:
        run = _draw(view, looks, hint)
    if not view.output.as_json:
        view.output.line(outcome(run))
    return run


def outcome(run: Run) -> str:
    """Return the last line: `run 1f9f7a2e succeeded in 19.2 s`, with the error of one that did not."""
    line = f"run {run.short_id} {printable(run.state)}"
    if run.runtime is not None:
        line += f" in {span(run.runtime)}"
    why = reason_line(run)
    return f"{line}: {why}" if why else line


def _checked(looks: Iterable[Snapshot], check: Callable[[], None]) -> Iterator[Snapshot]:
    for snapshot in looks:
        check()
        yield snapshot


def _draw(view: View, looks: Iterator[Snapshot], hint: str) -> Run:
    with picture(view) as draw:
        for snapshot in looks:
            draw(run_panel(snapshot, view.clock.at(time.time()), view.output, hint=hint))
    return snapshot.run


def _stream(view: View, looks: Iterator[Snapshot]) -> Run:
    version: object = None
    for snapshot in looks:
        if snapshot.run.version != version:
            version = snapshot.run.version
            stages = [records.to_json(stage) for stage in snapshot.stages]
            write_json(view, {**records.to_json(snapshot.run), "stages": stages})
            view.output.flush()
    return snapshot.run


def _tell(view: View, looks: Iterator[Snapshot]) -> Run:
    teller = _Teller(view)
    for snapshot in looks:
        teller.tell(snapshot)
        view.output.flush()
    return snapshot.run


class _Teller:
    """Writes one line for each change: of the run, of a stage, of a child run that went wrong."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._run: tuple[object, ...] = ()
        self._stages: dict[tuple[object, int], str] = {}
        self._children: set[str] = set()
        self._trouble = ""

    def tell(self, snapshot: Snapshot) -> None:
        """Write what is new in this snapshot."""
        if snapshot.trouble != self._trouble:
            self._trouble = snapshot.trouble
            if self._trouble:
                click.echo(printable(self._trouble), err=True)
        run = snapshot.run
        if (run.state, run.attempt) != self._run and run.state not in ENDS:
            attempt = f"  attempt {run.attempt}" if (run.attempt or 1) > 1 else ""
            self._line(run.state, printable(run.task or ""), attempt)
        self._run = (run.state, run.attempt)
        now = time.time()
        for bar in stage_bars(snapshot.stages, now=now):
            self._stage((run.attempt, bar.number), bar)
        for child in snapshot.children:
            if look(child.state).style == "red" and child.id not in self._children:
                self._children.add(child.id)
                self._line(
                    child.state,
                    f"child {printable(child.task or '')} {shown_id(self._view, child)}",
                    reason_line(child),
                )

    def _stage(self, key: tuple[object, int], bar: StageBar) -> None:
        if bar.state == "planned" or self._stages.get(key) == bar.state:
            return
        self._stages[key] = bar.state
        elapsed = span(bar.elapsed) if bar.state != "running" else ""
        self._line(bar.state, printable(bar.name), printable(bar.amount), elapsed, printable(bar.message))

    def _line(self, state: str, *parts: str) -> None:
        now = time.time()
        words = "  ".join(part.strip() for part in parts if part.strip())
        sign = self._view.output.sign(state)
        self._view.output.line(
            f"{self._view.clock.at(now).time(now)}  {sign} {printable(state):9}  {words}".rstrip()
        )
