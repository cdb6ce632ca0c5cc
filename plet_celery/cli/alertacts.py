"""`celery plet alerts ack | silence | unsilence`: what a person does about an alert, with who and why."""

from __future__ import annotations

import getpass
import os
import socket

import click

from plet_celery.cli.command import NotFound, View, command
from plet_celery.cli.options import Length
from plet_celery.cli.removing import writable_store
from plet_celery.cli.runs import write_json
from plet_celery.monitor import book
from plet_celery.store import Store, alerting
from plet_celery.terminal.text import printable


@command("ack")
@click.argument("alert")
@click.option("--note", default="", metavar="TEXT", help="What the next one should know.")
def alert_ack(view: View, *, alert: str, note: str) -> None:
    """Say that you know of an alert and are at it; it stays open."""
    store = writable_store(view)
    found = alerting.resolve_alert(store, alert)
    alerting.acknowledge(store, found, by=who(), note=note, now=view.clock.now)
    _tell(view, store, found, f"alert {found[:8]} is acknowledged by {who()}")


@command("silence")
@click.argument("alert")
@click.option("--for", "length", type=Length(), required=True, metavar="2h", help="How long: 30m, 2h, 1d12h.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; who is on call next will ask.")
def alert_silence(view: View, *, alert: str, length: float, reason: str) -> None:
    """Have nobody told of an alert's rule and subject for a time; it lives on, and is shown."""
    store = writable_store(view)
    found = alerting.resolve_alert(store, alert)
    now = view.clock.now
    made = alerting.silence_alert(store, found, until=now + length, reason=reason, by=who(), now=now)
    _tell(
        view, store, found, f"alert {found[:8]} is silenced until {view.clock.full(made.until)} by {made.by}"
    )


@command("unsilence")
@click.argument("alert")
def alert_unsilence(view: View, *, alert: str) -> None:
    """End the silences that cover an alert."""
    store = writable_store(view)
    found = alerting.resolve_alert(store, alert)
    covering = book.entry_of(store, found, now=view.clock.now).silences
    if not covering:
        raise NotFound(f"alert {found[:8]} is not silenced")
    for one in covering:
        alerting.end_silence(store, one.id, by=who(), now=view.clock.now)
    _tell(view, store, found, f"{len(covering)} {'silence' if len(covering) == 1 else 'silences'} ended")


def who() -> str:
    """Return who acts here: `ada@host`; where the user has no name, its number."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _tell(view: View, store: Store, alert: str, text: str) -> None:
    if view.output.as_json:
        write_json(view, book.to_json(book.entry_of(store, alert, now=view.clock.now)))
    else:
        view.output.line(printable(text))
