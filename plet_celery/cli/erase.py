"""`celery plet erase`: remove a run, or all runs of a tenant, from the store and from every host."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from plet_celery.cli.command import BAD, View, Wrong, command
from plet_celery.cli.removing import confirm, remove_here, writable_store
from plet_celery.store import Store, erasing, queries
from plet_celery.store.erasing import Erasure, Waiting
from plet_celery.store.settle import OPEN, run_key
from plet_celery.terminal.text import printable, span

_LOOK_SECONDS = 0.5


@command("erase", fields=False)
@click.option("--run", metavar="RUN", help="One run: its id, or any unique prefix.")
@click.option("--tenant", metavar="PATH", help="All runs of a tenant and of those below it.")
@click.option("--running", is_flag=True, help="Also runs that have not ended; they tell nothing any more.")
@click.option("--results", is_flag=True, help="Have Celery's result backend forget the results, too.")
@click.option(
    "--wait",
    type=float,
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long for the hosts.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(
    view: View, *, run: str | None, tenant: str | None, running: bool, results: bool, wait: float, yes: bool
) -> None:
    """Erase what is stored of a run or of a tenant, everywhere, and tell what remains.

    The rows go at once; each host's shipper removes its log folders and the copies in the mirror.
    Exits with 1 while something is left that plet itself has to remove.
    """
    if (run is None) == (tenant is None):
        raise Wrong("give --run RUN or --tenant PATH, one of them")
    mirror = view.project.places.settings.mirror is not None
    store = writable_store(view)
    if run is not None:
        done = _erase_run(view, store, run, mirror=mirror, running=running, yes=yes)
    else:
        done = _erase_tenant(view, store, tenant or "", mirror=mirror, running=running, yes=yes)
    forgotten = _forget_results(view, done.ids) if results else None
    left = _await(view, store, done, wait)
    _tell(view, done, left, forgotten)
    if left or done.open_runs or (forgotten is not None and forgotten.trouble):
        raise SystemExit(BAD)


def _erase_run(view: View, store: Store, text: str, *, mirror: bool, running: bool, yes: bool) -> Erasure:
    run_id = queries.resolve_run(store, text)
    found = queries.get_run(store, run_id)
    if found.state in OPEN and not running:
        raise Wrong(
            f"run {found.short_id} is {found.state}; cancel it and wait for its end, or give --running "
            "(it goes on, and what it still tells is refused)"
        )
    confirm(view, f"Erase run {run_id} of {found.task} ({found.state})?", yes=yes)
    return erasing.erase_run(store, run_key(run_id), mirror=mirror)


def _erase_tenant(view: View, store: Store, path: str, *, mirror: bool, running: bool, yes: bool) -> Erasure:
    tenant = erasing.check_tenant(path)
    count = erasing.count_of(store, tenant)
    confirm(view, f"Erase {count:,} runs of tenant {tenant!r} and below?", yes=yes)
    return erasing.erase_tenant(store, tenant, mirror=mirror, with_open=running)


def _await(view: View, store: Store, done: Erasure, seconds: float) -> list[Waiting]:
    """Wait until the hosts have removed their files; return those that have not."""
    remove_here(view, store)
    deadline = time.monotonic() + seconds
    while (left := erasing.waiting(store, done.digests)) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return left


class _Forgotten(NamedTuple):
    """What the result backend has forgotten."""

    results: int
    trouble: str
    """Why it did not forget the rest; empty where it did."""


def _forget_results(view: View, ids: Sequence[str]) -> _Forgotten:
    count = 0
    try:
        for one in ids:
            view.project.app.AsyncResult(one).forget()
            count += 1
    except Exception as error:  # whatever a backend raises; the rest is erased all the same
        return _Forgotten(count, f"{type(error).__name__}: {error}")
    return _Forgotten(count, "")


def _tell(view: View, done: Erasure, left: Sequence[Waiting], forgotten: _Forgotten | None) -> None:
    remains = _remains(view, done, left, forgotten)
    if view.output.as_json:
        view.output.json(_facts(done, left, remains))
        return
    view.output.line(f"{done.runs:,} runs erased from the store, {done.dead_letters:,} dead letters")
    if forgotten is not None:
        view.output.line(f"{forgotten.results:,} results forgotten")
    for line in remains:
        view.output.line("remains: " + printable(line))


def _remains(view: View, done: Erasure, left: Sequence[Waiting], forgotten: _Forgotten | None) -> list[str]:
    settings = view.project.places.settings
    told = [
        f"{one.folders:,} log folders and {one.copies:,} copies of host {one.host or one.journal_id[:8]}; "
        f"its shipper removes them (last heard of {view.clock.both(one.seen_at)})"
        for one in left
    ]
    if done.open_runs:
        some = ", ".join(done.open_runs[:5])
        told.append(f"{len(done.open_runs)} runs that have not ended ({some}); end them, or give --running")
    told.append(
        f"journal files on the hosts, until {span(settings.journal_keep)} after they were shipped and their "
        "writer has gone on to another file; they are not read into the store again"
    )
    if forgotten is None:
        told.append("results in Celery's result backend, until result_expires; --results forgets them")
    elif (more := done.runs - forgotten.results) > 0:
        why = forgotten.trouble or f"one erasure has at most {erasing.IDS_MAX:,} forgotten"
        told.append(f"results of {more:,} runs in Celery's result backend, until result_expires: {why}")
    if done.leftovers:
        told.append(done.leftovers)
    told.append("backups of the database and of the hosts, as long as you keep them")
    return told


def _facts(done: Erasure, left: Sequence[Waiting], remains: Sequence[str]) -> dict[str, Any]:
    return {
        "runs": done.runs,
        "dead_letters": done.dead_letters,
        "open_runs": done.open_runs,
        "waiting": [
            {
                "journal_id": one.journal_id,
                "host": one.host,
                "folders": one.folders,
                "copies": one.copies,
                "seen_at": one.seen_at,
            }
            for one in left
        ],
        "remains": list(remains),
    }
