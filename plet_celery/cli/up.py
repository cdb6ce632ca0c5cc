"""`celery plet up`: the development stack of any project, and a run in it to watch."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from plet_celery.cli.call import Call, parse_call
from plet_celery.cli.command import BAD, Command, View, Wrong, command
from plet_celery.cli.ship import document_of
from plet_celery.cli.table import reason_line
from plet_celery.cli.watch import watch_run
from plet_celery.embedded.stack import Blueprint, Stack
from plet_celery.embedded.stopping import Stopped, Stopping
from plet_celery.errors import RunNotFound
from plet_celery.events import RunState
from plet_celery.profiles import is_recorded
from plet_celery.store import open_store, queries
from plet_celery.terminal.look import ENDS
from plet_celery.terminal.text import printable, shorten

if TYPE_CHECKING:
    from plet_celery.store import Store
    from plet_celery.store.records import Run

_TICK: Final = 0.25
_SLOW: Final = 10.0
_CHILDREN: Final = 200
_SHOWN: Final = 10
_ACTIVE: Final = tuple(state for state in RunState if state not in ENDS)
_BAD_ENDS: Final = tuple(ENDS - {RunState.SUCCEEDED, RunState.IGNORED})


class UpCommand(Command):
    """Ends the stack where nobody reads its output any more, and says so."""

    closed_code = 128 + signal.SIGPIPE


@command("up", cls=UpCommand, fields=False)
@click.option("--call", "task", metavar="TASK", help="Call this task once all is up, and show its run.")
@click.argument("arguments", metavar="[JSON]", required=False)
@click.option("--once", is_flag=True, help="End with the called run: exit 0 if it succeeded, else 1.")
@click.option(
    "--concurrency", type=click.IntRange(1), default=2, show_default=True, help="Tasks that run at a time."
)
@click.option("--web/--no-web", default=None, help="Start Flower with the pages; as a rule, unless --once.")
def up(
    view: View, *, task: str | None, arguments: str | None, once: bool, concurrency: int, web: bool | None
) -> None:
    """Start broker, worker, beat, shipper and Flower for development, and end them with one Ctrl-C.

    The broker is a Valkey of its own on a private socket, unless the app has one. JSON holds the
    arguments of --call: an array, or an object of keywords.
    """
    call = parse_call(view.project.app, task, arguments)
    if once and call is None:
        raise Wrong("--once ends with the called run; name it with --call TASK")
    _refuse_unrecorded(view, call)
    session = _Session(view, call, once=once, web=not once if web is None else web)
    with Stopping() as stopping:
        try:
            code = session.run(Stack(_blueprint(view, concurrency), stopping, session.say))
        except Stopped as stopped:
            # Ctrl-C is how a stack without a task under way is meant to end.
            code = stopped.exit_code if session.is_busy else 0
    raise SystemExit(code)


class _Session:
    """What one `up` does between its first line and its last."""

    def __init__(self, view: View, call: Call | None, *, once: bool, web: bool) -> None:
        self._view = view
        self._call = call
        self._once = once
        self._web = web
        self.is_busy = True
        """Whether an end now would cut off something that was asked for."""

    def run(self, stack: Stack) -> int:
        """Start everything, show the called run, stay; return the exit code."""
        with stack:
            self.say("home", str(self._view.project.places.home))
            stack.start_broker()
            self._prepare_store()
            stack.start_workers()
            if self._web:
                stack.start_web()
            code = self._follow(stack, self._call) if self._call else 0
            if self._once:
                return code
            self.is_busy = False
            self._tell("up; Ctrl-C ends it")
            while True:
                stack.check()
                time.sleep(_TICK)

    def say(self, part: str, text: str) -> None:
        """Write one line about a part of the stack."""
        self._tell(f"{part:8} {printable(text)}")

    def _tell(self, line: str) -> None:
        if self._view.output.as_json:
            click.echo(line, err=True)
        else:
            self._view.output.line(line)
            self._view.output.flush()

    def _prepare_store(self) -> None:
        places = self._view.project.places
        store = open_store(places.database_url)
        try:
            store.ensure_schema()
        finally:
            store.close()
        self.say("store", places.masked_url)

    def _follow(self, stack: Stack, call: Call) -> int:
        run_id = call.publish()
        self.say("call", f"{call.task.name} is run {run_id}")
        store = self._view.project.store()
        self._await_record(stack, store, run_id)
        run = watch_run(self._view, store, run_id, check=stack.check, hint="Ctrl-C ends everything")
        self._await_canvas(stack, store, run)
        if not self._view.output.as_json:
            self._summarise(store, run)
        return 0 if run.state == RunState.SUCCEEDED else BAD

    def _await_record(self, stack: Stack, store: Store, run_id: str) -> None:
        """Wait until the run is in the store; that it takes long has a reason to look for."""
        deadline: float | None = time.monotonic() + _SLOW
        while True:
            try:
                queries.get_run(store, run_id)
                return
            except RunNotFound:
                stack.check()
            if deadline is not None and time.monotonic() > deadline:
                deadline = None
                self.say("call", "nothing of it yet; another worker of this broker may have taken it")
            time.sleep(_TICK)

    def _await_canvas(self, stack: Stack, store: Store, run: Run) -> None:
        """Wait until all that the called run has started has ended, too."""
        canvas, told = run.canvas or run.id, False
        while open_ones := queries.list_runs(store, canvas=canvas, states=_ACTIVE, limit=_CHILDREN).items:
            if not told:
                self.say("wait", f"for {_counted(open_ones)} that it has started")
                told = True
            stack.check()
            time.sleep(_TICK)

    def _summarise(self, store: Store, run: Run) -> None:
        output = self._view.output
        children = queries.children(store, run.id, limit=_CHILDREN)
        found = queries.list_runs(store, canvas=run.canvas or run.id, states=_BAD_ENDS, limit=_SHOWN)
        bad = [one for one in found.items if one.id != run.id]
        if children:
            more = "+" if found.next else ""
            how = f"{len(bad)}{more} of them did not succeed" if bad else "all succeeded"
            output.line(f"{_counted(children)}, {how}")
        for one in bad:
            facts = [output.sign(one.state), one.short_id, printable(one.task or ""), reason_line(one)]
            output.line("  " + "  ".join(fact for fact in facts if fact))
            if expected := (one.metadata or {}).get("expected"):
                output.line(f"    expected: {shorten(printable(str(expected)), 200)}")
        if not self._once:
            self._suggest(run)
        output.flush()

    def _suggest(self, run: Run) -> None:
        prefix = _typed(self._view.project.prefix)
        self._view.output.line("next, in another terminal:")
        for words in (f"show {run.short_id}", "logs @last-failed", "runs"):
            self._view.output.line(f"  {prefix} {words}")


def _counted(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return "1 child run"
    return f"{len(runs)}{'+' if len(runs) >= _CHILDREN else ''} child runs"


def _refuse_unrecorded(view: View, call: Call | None) -> None:
    """Refuse what could only end in waiting for a run that nobody records."""
    settings = view.project.places.settings
    if not view.project.places.has_plet:
        raise Wrong(
            "this app records nothing: write `plet = Plet(app)` below `app = Celery(…)` "
            "(from plet_celery import Plet)"
        )
    if not settings.enabled:
        raise Wrong("recording is switched off: unset PLET_ENABLED and plet_enabled")
    if settings.shipper != "spawn":
        raise Wrong(f"plet_shipper = {settings.shipper!r}: for development leave it at 'spawn'")
    if call and not is_recorded(call.task.name, settings.record_tasks, settings.ignore_tasks):
        raise Wrong(
            f"{call.task.name} is not recorded; look at plet_record_tasks = {settings.record_tasks} "
            f"and plet_ignore_tasks = {settings.ignore_tasks}"
        )


def _blueprint(view: View, concurrency: int) -> Blueprint:
    project = view.project
    places = project.places
    return Blueprint(
        project.app, project.name, places.home, places.journal, concurrency, ship=document_of(places)
    )


def _typed(prefix: str) -> str:
    """Return the command prefix with the program as this shell finds it."""
    program, _, rest = prefix.partition(" ")
    found, ours = shutil.which(program), Path(sys.argv[0]).absolute()
    if found and Path(found).samefile(ours):
        return prefix
    shown = ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours
    return f"{shown} {rest}"
