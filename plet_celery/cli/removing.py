"""What `prune` and `erase` share: a yes, and removing this host's log folders where no shipper serves."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from plet_celery.cli.command import View, Wrong
from plet_celery.election import ShipLock
from plet_celery.errors import JournalError
from plet_celery.journal_place import read_journal
from plet_celery.logfiles import LogLimits
from plet_celery.logsink import LogFileSink
from plet_celery.mirror_copies import Copies
from plet_celery.shipper.removal import Remover
from plet_celery.store import Store
from plet_celery.terminal.text import printable

SILENT_SECONDS = 3600.0
"""Copies of a host that was heard of later are left to its own shipper."""


def writable_store(view: View) -> Store:
    """Return the project's store, opened for writing after a look that its tables are right."""
    view.project.store()
    return view.project.open(read_only=False)


def confirm(view: View, question: str, *, yes: bool) -> None:
    """Ask; leave with 1 at a no.

    Raises:
        Wrong: nobody is there to answer.
    """
    if yes:
        return
    if view.output.as_json or not sys.stdin.isatty():
        raise Wrong(f"{question} Nobody can answer here: give --yes")
    click.confirm(printable(question), abort=True, err=True)


def remove_here(view: View, store: Store, *, seconds: float = 60.0) -> None:
    """Remove this host's folders where no shipper serves its journal, and copies of silent hosts.

    A shipper that serves does it by itself, within seconds.
    """
    places = view.project.places
    copies = Copies(Path(places.settings.mirror)) if places.settings.mirror else None
    try:
        journal = read_journal(places.journal)
    except JournalError:
        return  # nothing was ever recorded on this host
    lock = ShipLock(places.journal)
    sink = LogFileSink(places.runs, places.journal, limits=LogLimits(), fence=lock.still_mine)
    remover = Remover(
        journal_id=journal.journal_id,
        runs=places.runs,
        folders=sink,
        mirror=copies,
        fence=lock.still_mine,
    )
    deadline = time.monotonic() + seconds
    try:
        if lock.acquire():
            while remover.turn(store) and time.monotonic() < deadline:
                pass
        while remover.turn_for_others(store, SILENT_SECONDS) and time.monotonic() < deadline:
            pass
    except OSError as error:
        click.echo(f"files could not be removed now, a shipper tries again: {printable(error)}", err=True)
    finally:
        sink.close()
        lock.close()
