"""`celery plet prune`: remove what has expired now, or tell what would go."""

from __future__ import annotations

import os
import socket
from typing import Any

import click

from plet_celery.cli.command import BAD, View, Wrong, command
from plet_celery.cli.options import Age
from plet_celery.cli.removing import confirm, remove_here, writable_store
from plet_celery.store import Store, erasing, retention
from plet_celery.store.retention import COUNT_MAX, Bounds, Choice, Report
from plet_celery.terminal.text import Clock, printable

_SECONDS = 24 * 3600.0


@command("prune", fields=False)
@click.option("--dry-run", is_flag=True, help="Change nothing; tell what would go.")
@click.option(
    "--older-than", type=Age(), metavar="30d", help="Ended runs of this age, whatever the settings keep."
)
@click.option("--task", metavar="PATTERN", help="Only runs of tasks whose name matches (*, ?).")
@click.option("--trust-clock", is_flag=True, help="The clocks are right, however they jumped.")
@click.option("--vacuum", is_flag=True, help="Then write the SQLite file anew, without freed pages.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(
    view: View,
    *,
    dry_run: bool,
    older_than: float | None,
    task: str | None,
    trust_clock: bool,
    vacuum: bool,
    yes: bool,
) -> None:
    """Remove runs whose time is over, with their log folders on every host.

    Shippers do this by themselves (plet_prune_every). Folders are removed by the shipper of each host;
    the rows go when it has, or after a week without a sign of it.
    """
    bounds = Bounds.of(view.project.places.settings)
    choice = Choice(older_than=older_than, task=task)
    wall = view.clock.now
    if dry_run:
        _tell(view, retention.preview(view.project.store(), bounds, wall=wall, choice=choice), dry=True)
        return
    store = writable_store(view)
    if vacuum and store.url.get_backend_name() != "sqlite":
        raise Wrong("--vacuum is for SQLite; PostgreSQL and MariaDB clean up by themselves")
    if older_than is not None:
        count = retention.preview(store, bounds, wall=wall, choice=choice).marked
        if count:
            many = f"{count:,} runs" if count < COUNT_MAX else f"{COUNT_MAX:,} runs or more"
            confirm(view, f"Remove {many}, whatever the settings keep?", yes=yes)
    report = _prune(view, store, bounds, choice, trust_clock)
    if vacuum and report.paused is None:
        _vacuum(store)
    _tell(view, report, dry=False)
    if report.paused is not None or report.busy:
        raise SystemExit(BAD)


def _prune(view: View, store: Store, bounds: Bounds, choice: Choice, trust_clock: bool) -> Report:
    holder = f"command {socket.gethostname()} {os.getpid()}"

    def once(trust: bool) -> Report:
        return retention.prune(
            store,
            bounds,
            holder=holder,
            wall=view.clock.now,
            choice=choice,
            trust_clock=trust,
            seconds=_SECONDS,
        )

    report = once(trust_clock)
    if report.paused is None and not report.busy and report.waiting:
        remove_here(view, store)
        again = once(trust_clock)
        report.removed += again.removed
        report.waiting = again.waiting
    return report


def _vacuum(store: Store) -> None:
    left = erasing.vacuum(store)
    if left:
        click.echo(f"remains: {left}", err=True)


def _tell(view: View, report: Report, *, dry: bool) -> None:
    if view.output.as_json:
        view.output.json(_facts(report, dry=dry))
        return
    for line in lines_of(report, view.clock, dry=dry):
        view.output.line(printable(line))


def lines_of(report: Report, clock: Clock, *, dry: bool) -> list[str]:
    """Return what a person is told."""
    if report.busy:
        return ["another process prunes now; look again in a minute"]
    told = [f"nothing is removed: {report.paused}"] if report.paused is not None else []
    if report.paused is None or dry:
        many = f"{report.marked:,}{'+' if dry and not report.complete else ''}"
        oldest = f", the oldest created {clock.both(report.oldest)}" if report.oldest is not None else ""
        told.append(f"{many} runs {'would go' if dry else 'expired'}{oldest}")
    if not dry:
        told.append(f"{report.removed:,} runs removed")
        told += [
            f"{count:,} rows removed from {name}" for name, count in sorted(report.rows.items()) if count
        ]
    if report.waiting:
        told.append(f"{report.waiting:,} runs wait until their hosts have removed the log folders")
    told += [
        f"host {host} was last heard of {clock.both(seen)}: nobody waits for it, its log folders may remain"
        for host, seen in report.unseen
    ]
    return told


def _facts(report: Report, *, dry: bool) -> dict[str, Any]:
    return {
        "dry_run": dry,
        "paused": report.paused,
        "busy": report.busy,
        "expired": report.marked,
        "oldest": report.oldest,
        "removed": report.removed,
        "waiting": report.waiting,
        "rows": report.rows,
        "unseen": [{"host": host, "seen_at": seen} for host, seen in report.unseen],
        "complete": report.complete,
    }
